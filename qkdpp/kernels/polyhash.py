"""Polynomial hash over GF(2^128): the universal hash of authentication and verification.

Field: GF(2)[x] modulo x^128 + x^7 + x^2 + x + 1. Sixteen bytes are one element,
little-endian: bit ``i & 7`` of byte ``i >> 3`` is the coefficient of x^i (the
bit order of :mod:`qkdpp.core.bits`).

Hash of a message of B bytes: zero bytes fill it up to blocks m_1 .. m_n; one
more block m_{n+1} holds B (little-endian). With key k,

    H = m_1 k^(n+1) + m_2 k^n + ... + m_n k^2 + m_{n+1} k.

Two different messages of at most n blocks have H(a) + H(b) = c, for any c, for
at most L = n + 1 of the 2^128 keys: collision and (with a one-time pad)
forgery probability L / 2^128, and L / 2^t when only t bits of H are kept.

Tiers: C and Numba multiply without data-dependent branches or addresses; the
NumPy tier does so for long messages, while short ones and the joining of states
use Python integers, whose running time depends on the data. Note:
``docs/notes/authentication.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import KernelError
from qkdpp.kernels import compiled
from qkdpp.kernels.backend import backend

BLOCK_BYTES = 16
MASK = (1 << 128) - 1
REDUCTION = 0x87
MAX_LANES = 4096
SHORT_BLOCKS = 32
"""Up to this many blocks the NumPy tier uses Python integers."""

_ZERO_BLOCK = bytes(BLOCK_BYTES)

Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray[np.generic]
"""Whatever has bytes in a row; a NumPy array is its bytes as they lie in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolyState:
    """Value of the polynomial after ``n_blocks`` blocks, length block not yet added."""

    value: int
    n_blocks: int

    def __repr__(self) -> str:
        return f"PolyState(n_blocks={self.n_blocks})"


EMPTY = PolyState(value=0, n_blocks=0)


def n_blocks(n_bytes: int) -> int:
    """Blocks L of the hash of ``n_bytes`` bytes, length block included: the degree of the polynomial."""
    return (n_bytes + BLOCK_BYTES - 1) // BLOCK_BYTES + 1


def _multiply_short(a: int, b: int) -> int:
    """Product of two field elements with Python integers."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        b >>= 1
        a <<= 1
        if a >> 128:
            a = (a & MASK) ^ REDUCTION
    return product


def multiply(a: int, b: int) -> int:
    """Product of two field elements."""
    if backend() == "numpy":
        return _multiply_short(a, b)
    return _horner(a, b, _ZERO_BLOCK)


def power(a: int, exponent: int) -> int:
    """``a`` to a non-negative power; time depends on the exponent."""
    result = 1
    while exponent:
        if exponent & 1:
            result = multiply(result, a)
        a = multiply(a, a)
        exponent >>= 1
    return result


def _check_key(key: bytes) -> int:
    if len(key) != BLOCK_BYTES:
        raise KernelError(f"a hash key has {BLOCK_BYTES} bytes, got {len(key)}")
    return int.from_bytes(key, "little")


def _words(value: int) -> NDArray[np.uint64]:
    return np.frombuffer(value.to_bytes(BLOCK_BYTES, "little"), dtype="<u8")


def _times(lanes: NDArray[np.uint64], constant: int) -> NDArray[np.uint64]:
    """Every row of ``lanes`` (uint64[2, s]) times one element, bit by bit under masks."""
    out = np.zeros_like(lanes)
    for word in lanes:
        for bit in range(64):
            mask = np.uint64(0) - ((word >> np.uint64(bit)) & np.uint64(1))
            low, high = _words(constant)
            out[0] ^= mask & low
            out[1] ^= mask & high
            constant = ((constant << 1) & MASK) ^ (REDUCTION if constant >> 127 else 0)
    return out


def _horner_lanes(state: int, key: int, blocks: NDArray[np.uint64]) -> int:
    """Horner's rule in parallel lanes, which are then folded in halves."""
    n = blocks.shape[0]
    lanes = min(MAX_LANES, 1 << (n.bit_length() - 1))
    rows = -(-n // lanes)
    padded = np.zeros((rows * lanes, 2), dtype="<u8")
    padded[rows * lanes - n :] = blocks
    stride, folded = power(key, lanes), padded[:lanes].T.copy()
    for row in range(1, rows):
        folded = _times(folded, stride) ^ padded[row * lanes : (row + 1) * lanes].T
    while lanes > 1:
        lanes //= 2
        folded = _times(folded[:, :lanes], power(key, lanes)) ^ folded[:, lanes:]
    total = int(folded[0, 0]) | int(folded[1, 0]) << 64
    return multiply(total, key) ^ multiply(state, power(key, n))


def _horner_short(state: int, key: int, blocks: NDArray[np.uint64]) -> int:
    for low, high in blocks.tolist():
        state = _multiply_short(state ^ (low | high << 64), key)
    return state


def _view(data: Buffer) -> memoryview:
    """The bytes of a buffer."""
    view = data.data if isinstance(data, np.ndarray) else memoryview(data)
    if not view.c_contiguous:
        raise KernelError("the bytes of a message must lie in a row")
    return view.cast("B") if view.nbytes else memoryview(b"")


def _horner(state: int, key: int, data: bytes | memoryview) -> int:
    """``data`` holds whole blocks."""
    if not len(data):
        return state
    if backend() == "c":
        return compiled.poly_horner(state, key, data)
    blocks = np.require(np.frombuffer(data, dtype="<u8"), requirements=["A", "C"]).reshape(-1, 2)
    if backend() == "numba":
        from qkdpp.kernels.polyhash_numba import horner  # noqa: PLC0415 - Numba only where it is used

        return int.from_bytes(horner(_words(state), _words(key), blocks).tobytes(), "little")
    if blocks.shape[0] <= SHORT_BLOCKS:
        return _horner_short(state, key, blocks)
    return _horner_lanes(state, key, blocks)


class PolyHasher:
    """Hashes a message as it arrives, from ``state`` on; ``digest`` may be asked at any time."""

    def __init__(self, key: bytes, state: PolyState = EMPTY) -> None:
        self._key = _check_key(key)
        self._value = state.value
        self._tail = b""
        self.n_bytes = BLOCK_BYTES * state.n_blocks

    def __repr__(self) -> str:
        return f"PolyHasher(n_bytes={self.n_bytes})"

    def update(self, data: Buffer) -> None:
        """Appends ``data``."""
        view = _view(data)
        self.n_bytes += len(view)
        if self._tail:
            missing = BLOCK_BYTES - len(self._tail)
            self._tail += bytes(view[:missing])
            view = view[missing:]
            if len(self._tail) < BLOCK_BYTES:
                return
            self._value = _horner(self._value, self._key, self._tail)
        whole = len(view) - len(view) % BLOCK_BYTES
        self._value = _horner(self._value, self._key, view[:whole])
        self._tail = bytes(view[whole:])

    @property
    def state(self) -> PolyState:
        """The state after what was said so far, as if padded to a block boundary."""
        if not self._tail:
            return PolyState(value=self._value, n_blocks=self.n_bytes // BLOCK_BYTES)
        last = _horner(self._value, self._key, self._tail.ljust(BLOCK_BYTES, b"\0"))
        return PolyState(value=last, n_blocks=self.n_bytes // BLOCK_BYTES + 1)

    def digest(self) -> bytes:
        """The hash of everything given so far, 16 bytes."""
        return finish(self._key.to_bytes(BLOCK_BYTES, "little"), self.state, self.n_bytes)


def join(key: bytes, states: list[PolyState]) -> PolyState:
    """The state after several streams one after the other, each padded to a block boundary, from their own states.

    Costs a few field multiplications per stream, whatever its length.
    """
    k, total = _check_key(key), EMPTY
    for state in states:
        before = multiply(total.value, power(k, state.n_blocks)) if total.n_blocks else 0
        total = PolyState(value=before ^ state.value, n_blocks=total.n_blocks + state.n_blocks)
    return total


def finish(key: bytes, state: PolyState, n_bytes: int) -> bytes:
    """Adds the length block: the hash of a message of ``n_bytes`` bytes whose padded blocks gave ``state``."""
    return multiply(state.value ^ n_bytes, _check_key(key)).to_bytes(BLOCK_BYTES, "little")


def poly_hash(key: Buffer, message: Buffer, n_bytes: int | None = None) -> bytes:
    """Hash of the first ``n_bytes`` bytes of a message, of all of it if nothing is said.

    Args:
        key: 16 bytes.
        message: bytes, or an array whose bytes are meant.
        n_bytes: how many of them, from 0 to all.

    Returns:
        16 bytes, an element of the field.

    Raises:
        KernelError: a key of another length, more bytes than there are, or an array with gaps.
    """
    own_key = key if type(key) is bytes else bytes(_view(key))
    text = message if type(message) is bytes else _view(message)
    if n_bytes is not None:
        if not 0 <= n_bytes <= len(text):
            raise KernelError(f"message: {n_bytes} bytes asked for, {len(text)} are there")
        text = text[:n_bytes]
    if backend() == "c" and len(own_key) == BLOCK_BYTES:
        return compiled.poly_hasher()(own_key, text)
    hasher = PolyHasher(own_key)
    hasher.update(text)
    return hasher.digest()


def poly_hash_many(key: bytes, messages: Buffer, edges: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Hashes of many messages that lie in one buffer.

    Args:
        key: 16 bytes.
        messages: the bytes of all messages.
        edges: int64[n + 1], increasing (equal neighbours: an empty message); message i is ``edges[i]`` to
            ``edges[i + 1]``.

    Returns:
        uint8[n, 16].

    Raises:
        KernelError: a key of another length, or edges that leave the buffer or decrease.
    """
    _check_key(key)
    view = _view(messages)
    if edges.dtype != np.dtype(np.int64) or edges.ndim != 1 or edges.size < 1:
        raise KernelError("edges: need int64 of shape (n + 1,)")
    if int(edges[0]) < 0 or int(edges[-1]) > len(view) or np.any(edges[1:] < edges[:-1]):
        raise KernelError("edges: they must increase and stay inside the buffer")
    if backend() == "c":
        return compiled.poly_hash_many(key, view, np.ascontiguousarray(edges).view(np.uint64))
    bounds = edges.tolist()
    hashes = b"".join(poly_hash(key, view[start:stop]) for start, stop in pairwise(bounds))
    return np.frombuffer(hashes, dtype=np.uint8).reshape(-1, BLOCK_BYTES)
