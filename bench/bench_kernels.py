"""Hashes and codec; the peers stand beside them in the same run."""

import secrets

import numpy as np
import pytest
import scipy.fft
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qkdpp.core.bits import Bits
from qkdpp.kernels import poly_hash, toeplitz_hash
from qkdpp.kernels.codec import decode_slots, encode_slots


def random_words(n_bits: int, seed: int) -> np.ndarray:
    return Bits.from_array(np.random.default_rng(seed).integers(0, 2, n_bits, dtype=np.uint8)).words


@pytest.mark.parametrize("log2_bits", [16, 20])
def test_toeplitz(rated, log2_bits):
    n = 1 << log2_bits
    key, seed = random_words(n, 1), random_words(n + n // 2 - 1, 2)
    rated("bit", n, toeplitz_hash, key, n, seed, n // 2)


@pytest.mark.parametrize("log2_bits", [16, 20])
def test_toeplitz_peer_scipy_float64(rated, log2_bits):
    n = 1 << log2_bits
    rng = np.random.default_rng(1)
    key, seed = rng.integers(0, 2, n).astype(float), rng.integers(0, 2, n + n // 2 - 1).astype(float)
    size = scipy.fft.next_fast_len(n + n // 2 - 1, real=True)

    def convolve():
        product = scipy.fft.irfft(scipy.fft.rfft(key, size) * scipy.fft.rfft(seed, size), size)
        return np.rint(product[n - 1 : n - 1 + n // 2]).astype(np.int64) & 1

    rated("bit", n, convolve)


@pytest.mark.parametrize("n_bytes", [64, 1 << 20])
def test_poly_hash(rated, n_bytes):
    key, message = secrets.token_bytes(16), secrets.token_bytes(n_bytes)
    rated("byte", n_bytes, poly_hash, key, message)


@pytest.mark.parametrize("n_bytes", [64, 1 << 20])
def test_poly_hash_peer_gmac(rated, n_bytes):
    cipher, message, nonce = AESGCM(secrets.token_bytes(16)), secrets.token_bytes(n_bytes), bytes(12)
    rated("byte", n_bytes, lambda: cipher.encrypt(nonce, b"", message))


def test_codec(rated):
    slots = np.cumsum(np.random.default_rng(1).geometric(1e-3, 1 << 18)).astype(np.int64)
    rated("slot", slots.size, lambda: decode_slots(encode_slots(slots), slots.size, int(slots[-1])))
