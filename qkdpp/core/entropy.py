"""Randomness by two doors.

Secret choices and seeds come from an :class:`Entropy`; public expansion of a
disclosed seed is AES-256 in counter mode, addressed by position, the same on
every host. (Simulation uses ``numpy.random.Generator`` and lives in
``qkdpp.sim``.)
"""

from __future__ import annotations

import hashlib
import os
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from qkdpp.core.bits import Bits, n_bytes

SEED_BYTES = 32


class Entropy(Protocol):
    """A source of random bytes fit for secrets."""

    def bytes(self, n: int) -> bytes:
        """``n`` fresh random bytes."""
        ...


class OsEntropy:
    """The operating system's generator (a computational assumption, which reports state)."""

    def bytes(self, n: int) -> bytes:
        """``n`` bytes from ``os.urandom``."""
        return os.urandom(n)


def random_bits(entropy: Entropy, n: int) -> Bits:
    """``n`` random bits from ``entropy``."""
    data = bytearray(entropy.bytes(n_bytes(n)))
    if n & 7:
        data[-1] &= (1 << (n & 7)) - 1
    return Bits.from_bytes(data, n)


def _key(seed: bytes, label: str) -> bytes:
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a public seed has {SEED_BYTES} bytes, got {len(seed)}")
    return hashlib.sha256(label.encode() + b"\0" + seed).digest()


def expand(seed: bytes, label: str, n: int, start: int = 0) -> bytes:
    """Bytes ``start`` to ``start + n`` of the public stream named ``label`` under a 32-byte ``seed``.

    The stream is AES-256-CTR under ``SHA-256(label, 0, seed)``, counter from zero, 128-bit big-endian: any
    position can be reached without what precedes it.
    """
    first = start >> 4
    skip = start & 15
    stream = Cipher(algorithms.AES(_key(seed, label)), modes.CTR(first.to_bytes(16, "big"))).encryptor()
    return stream.update(bytes(n + skip))[skip:]


def expand_blocks(seed: bytes, label: str, positions: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The 16-byte blocks of the stream at ``positions`` (non-negative), as uint64 of shape ``(n, 2)``.

    Row ``i`` equals ``expand(seed, label, 16, 16 * positions[i])`` read as two little-endian words: one block per
    pulse number, wherever it lies in the stream.
    """
    counters = np.zeros((positions.size, 2), dtype=">u8")
    counters[:, 1] = positions
    cipher = Cipher(algorithms.AES(_key(seed, label)), modes.ECB()).encryptor()  # noqa: S305 - counters, so CTR
    return np.frombuffer(cipher.update(counters.tobytes()), dtype="<u8").reshape(-1, 2)
