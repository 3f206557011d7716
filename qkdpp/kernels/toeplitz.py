"""Toeplitz hashing over GF(2): exact privacy amplification of up to 2^28 bits.

y[i] = XOR over j of seed[i - j + n - 1] & key[j]: the middle coefficients of a
product of polynomials. The modified form hashes by (I | T): the first l key
bits are added to the Toeplitz hash of the other n - l. It takes n - 1 seed bits
instead of n + l - 1 and a smaller product; universal_2 as well.

The C tier computes products over finite fields: exact by construction, without
branches or addresses that depend on the data, at most 2 bytes per key bit, 1.3
for the modified form.

Without C it is computed as integers by float64 Fourier transforms of blocks of
at most ``BLOCK_BITS`` bits and reduced modulo 2. For n up to 2^28 the rounding
error is below 1/100 (proof: ``docs/notes/toeplitz.md``); each call measures the
distance to integers besides, and evaluates three output bits directly, so a
faulty transform ends in KernelError. Memory: about 4 bytes per key bit beside
64 MiB; no branch depends on the data (NumPy unpacks bits through a 2 KiB table).
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Bits, Words, n_words
from qkdpp.core.errors import KernelError
from qkdpp.kernels import compiled
from qkdpp.kernels.backend import backend

MAX_BITS = 1 << 28
BLOCK_BITS = 1 << 19
"""Bits of a key block; transforms have twice this length."""
MEMORY_PER_BIT = 4
MIN_MEMORY = 1 << 26
MAX_RESIDUAL = 0.25

_SWAPS = (
    (1, 0x5555555555555555),
    (2, 0x3333333333333333),
    (4, 0x0F0F0F0F0F0F0F0F),
    (8, 0x00FF00FF00FF00FF),
    (16, 0x0000FFFF0000FFFF),
    (32, 0x00000000FFFFFFFF),
)


def toeplitz_hash(key: Words, n_bits: int, seed: Words, out_bits: int) -> Words:
    """Hashes ``n_bits`` key bits to ``out_bits``, 1 <= out_bits <= n_bits <= 2^28.

    Args:
        key: uint64[ceil(n_bits / 64)], packed bits.
        n_bits: number of key bits.
        seed: uint64[ceil((n_bits + out_bits - 1) / 64)], packed bits, uniform, drawn for this key alone.
        out_bits: number of output bits.

    Returns:
        uint64[ceil(out_bits / 64)], packed bits, zero padding.

    Raises:
        KernelError: wrong sizes, or a transform that is not accurate.
    """
    _check_sizes(n_bits, out_bits)
    _check("key", key, n_bits)
    _check("seed", seed, n_bits + out_bits - 1)
    if backend() == "c":
        return compiled.toeplitz_hash(key, n_bits, seed, out_bits)
    return _by_floats(key, n_bits, seed, out_bits)


def modified_seed_bits(n_bits: int, out_bits: int) -> int:
    """Seed bits of the modified form: n - 1, none where the matrix is the identity (out_bits = n_bits)."""
    return n_bits - 1 if out_bits < n_bits else 0


def toeplitz_hash_modified(key: Words, n_bits: int, seed: Words, out_bits: int) -> Words:
    """Hashes ``n_bits`` key bits to ``out_bits`` by (I | T), 1 <= out_bits <= n_bits <= 2^28.

    With l = ``out_bits`` and k = n - l, T of l rows and k columns:
    y[i] = key[i] ^ XOR over j < k of seed[i - j + k - 1] & key[l + j].
    Universal_2, not XOR-universal (proof: ``docs/notes/toeplitz.md``).

    Args:
        key: uint64[ceil(n_bits / 64)], packed bits.
        n_bits: number of key bits.
        seed: packed bits, ``modified_seed_bits(n_bits, out_bits)`` of them, uniform, drawn for this key alone.
        out_bits: number of output bits.

    Returns:
        uint64[ceil(out_bits / 64)], packed bits, zero padding.

    Raises:
        KernelError: wrong sizes, or a transform that is not accurate.
    """
    _check_sizes(n_bits, out_bits)
    _check("key", key, n_bits)
    _check("seed", seed, modified_seed_bits(n_bits, out_bits))
    if out_bits == n_bits:
        return key.copy()
    if backend() == "c":
        return compiled.toeplitz_hash_modified(key, n_bits, seed, out_bits)
    tail_bits = n_bits - out_bits
    out = _by_floats(_window(key, out_bits, n_words(tail_bits)), tail_bits, seed, out_bits)
    return _masked(out ^ key[: out.size], out_bits)


def _masked(words: Words, n_bits: int) -> Words:
    """The same array, with zero padding."""
    if n_bits & 63:
        words[-1] &= np.uint64((1 << (n_bits & 63)) - 1)
    return words


def _by_floats(key: Words, n_bits: int, seed: Words, out_bits: int) -> Words:
    """The hash for any sizes, out_bits > n_bits included."""
    block = min(BLOCK_BITS, max(64, 1 << (max(n_bits, out_bits) - 1).bit_length()))
    out = _masked(_Blocks(key, n_bits, seed, block).hash(out_bits), out_bits)
    _self_check(key, n_bits, seed, out, out_bits)
    return out


def _check_sizes(n_bits: int, out_bits: int) -> None:
    if not 1 <= out_bits <= n_bits <= MAX_BITS:
        raise KernelError(f"cannot hash {n_bits} bits to {out_bits}; need 1 <= out <= n <= {MAX_BITS}")


def _check(name: str, words: Words, n_bits: int) -> None:
    if words.dtype != np.dtype("<u8") or words.shape != (n_words(n_bits),):
        raise KernelError(f"{name}: {n_bits} bits need {n_words(n_bits)} little-endian uint64 words")
    if n_bits & 63 and int(words[-1]) >> (n_bits & 63):
        raise KernelError(f"{name}: padding bits are not zero")


def _window(words: Words, start: int, count: int) -> Words:
    """``count`` words whose first bit is bit ``start`` of ``words``; zeros outside (start may be negative)."""
    first, shift = start >> 6, start & 63
    padded = np.zeros(count + 1, dtype="<u8")
    low, high = max(first, 0), min(first + count + 1, words.size)
    if low < high:
        padded[low - first : high - first] = words[low:high]
    if not shift:
        return padded[:-1]
    return (padded[:-1] >> np.uint64(shift)) | (padded[1:] << np.uint64(64 - shift))


class _Blocks:
    """The product in blocks: block o of the output sums key block c times seed window o - c over all c."""

    def __init__(self, key: Words, n_bits: int, seed: Words, block: int) -> None:
        self.key, self.n_bits, self.seed, self.block = key, n_bits, seed, block
        self.key_blocks = -(-n_bits // block)

    def _spectrum(self, words: Words) -> NDArray[np.complex128]:
        bits = Bits(words, 64 * words.size).to_array()
        return np.fft.rfft(bits.astype(np.float64), n=2 * self.block)

    def _key_spectrum(self, c: int) -> NDArray[np.complex128]:
        return self._spectrum(_window(self.key, c * self.block, self.block >> 6))

    def _seed_spectrum(self, d: int) -> NDArray[np.complex128]:
        """Window d: the 2h seed bits from d h + n - h on."""
        return self._spectrum(_window(self.seed, (d - 1) * self.block + self.n_bits, self.block >> 5))

    def hash(self, out_bits: int) -> Words:
        """All output blocks, a group at a time, so that spectra stay within the memory limit."""
        out_blocks = -(-out_bits // self.block)
        limit = max(MIN_MEMORY, MEMORY_PER_BIT * self.n_bits) // (16 * self.block)
        size = min(out_blocks, max(1, (limit - 2) // 2))
        groups = [self._group(first, min(size, out_blocks - first)) for first in range(0, out_blocks, size)]
        return np.concatenate(groups)[: n_words(out_bits)]

    def _group(self, first: int, size: int) -> Words:
        """Output blocks ``first`` to ``first + size``."""
        sums = np.zeros((size, self.block + 1), dtype=np.complex128)
        product = np.empty(self.block + 1, dtype=np.complex128)
        windows = deque(self._seed_spectrum(d) for d in range(first + 1, first + size))
        for c in range(self.key_blocks):
            windows.appendleft(self._seed_spectrum(first - c))
            key_block = self._key_spectrum(c)
            for total, window in zip(sums, windows, strict=True):
                np.multiply(key_block, window, out=product)
                np.add(total, product, out=total)
            windows.pop()
        return np.concatenate([self._round(total) for total in sums])

    def _round(self, total: NDArray[np.complex128]) -> Words:
        """Coefficients h - 1 to 2h - 2 of the sum of products, modulo 2."""
        values = np.fft.irfft(total, n=2 * self.block)[self.block - 1 : -1]
        whole = np.rint(values)
        residual = float(np.abs(values - whole).max())
        if not residual <= MAX_RESIDUAL:
            raise KernelError(f"the Fourier transform is not accurate here: residual {residual:.3g}")
        return Bits.from_array(whole.astype(np.int64) & 1).words


def _reversed(key: Words, n_bits: int) -> Words:
    """The key bits in the opposite order."""
    words = key[::-1].copy()
    for shift, mask in _SWAPS:
        s, m = np.uint64(shift), np.uint64(mask)
        words = ((words & m) << s) | ((words >> s) & m)
    return _window(words, 64 * words.size - n_bits, words.size)


def _self_check(key: Words, n_bits: int, seed: Words, out: Words, out_bits: int) -> None:
    """Evaluates the first, middle and last output bit by the definition."""
    backward = _reversed(key, n_bits)
    for i in (0, out_bits // 2, out_bits - 1):
        ones = int(np.bitwise_count(_window(seed, i, backward.size) & backward).sum())
        if ones & 1 != (int(out[i >> 6]) >> (i & 63)) & 1:
            raise KernelError("the hash disagrees with its definition: the Fourier transform is faulty")
