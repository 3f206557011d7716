"""Packed bit strings: the only place that knows a bit order.

Bit ``i`` is ``(words[i >> 6] >> (i & 63)) & 1``; words are little-endian
``uint64``, unused bits of the last word are zero. The bytes in memory are the
bytes on disk and on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

BitArray8: TypeAlias = NDArray[np.uint8]
"""Unpacked bits, one 0/1 per ``uint8``."""
Words: TypeAlias = NDArray[np.uint64]
"""Packed bits, 64 per word."""


def n_words(n_bits: int) -> int:
    """Words that hold ``n_bits`` bits."""
    return (n_bits + 63) >> 6


def n_bytes(n_bits: int) -> int:
    """Bytes that hold ``n_bits`` bits."""
    return (n_bits + 7) >> 3


def window(words: Words, start: int, count: int) -> Words:
    """``count`` words whose first bit is bit ``start`` (not negative) of ``words``; zeros behind the end."""
    first, shift = start >> 6, np.uint64(start & 63)
    low, high = words[first : first + count], words[first + 1 : first + 1 + count]
    out = np.zeros(count, dtype="<u8")
    np.right_shift(low, shift, out=out[: low.size])
    if shift:
        out[: high.size] |= high << (np.uint64(64) - shift)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Bits:
    """``n`` bits in ``words`` (uint64, shape ``((n + 63) // 64,)``, zero padding).

    Holds key material: the representation shows the length only, and
    comparison is by :meth:`equals` (not constant time; for tests and for bits
    that are public or the caller's own).
    """

    words: Words
    n: int

    def __post_init__(self) -> None:
        if self.words.dtype != np.dtype("<u8") or self.words.shape != (n_words(self.n),):
            raise ValueError(f"{self.n} bits need {n_words(self.n)} little-endian uint64 words")

    def __len__(self) -> int:
        return self.n

    def __repr__(self) -> str:
        return f"Bits(n={self.n})"

    @staticmethod
    def zeros(n: int) -> Bits:
        """``n`` zero bits."""
        return Bits(np.zeros(n_words(n), dtype="<u8"), n)

    @staticmethod
    def from_array(bits: NDArray[np.generic]) -> Bits:
        """Packs an array of 0/1 (any integer or bool dtype), bit 0 first."""
        n = int(bits.size)
        out = np.zeros(n_words(n) * 8, dtype=np.uint8)
        packed = np.packbits(bits.astype(np.uint8, copy=False), bitorder="little")
        out[: packed.size] = packed
        return Bits(out.view("<u8"), n)

    @staticmethod
    def from_bytes(data: bytes | bytearray | memoryview, n: int) -> Bits:
        """``n`` bits from ``ceil(n / 8)`` bytes; raises ValueError on another length or non-zero padding."""
        if len(data) != n_bytes(n):
            raise ValueError(f"{n} bits need {n_bytes(n)} bytes, got {len(data)}")
        if n & 7 and data[-1] >> (n & 7):
            raise ValueError("padding bits are not zero")
        out = np.zeros(n_words(n) * 8, dtype=np.uint8)
        out[: len(data)] = np.frombuffer(data, dtype=np.uint8)
        return Bits(out.view("<u8"), n)

    def to_bytes(self) -> bytes:
        """The first ``ceil(n / 8)`` bytes of the words."""
        return self.words.tobytes()[: n_bytes(self.n)]

    def to_array(self) -> BitArray8:
        """Unpacked bits, uint8 of shape ``(n,)``."""
        return np.unpackbits(self.words.view(np.uint8), count=self.n, bitorder="little")

    def __xor__(self, other: Bits) -> Bits:
        if self.n != other.n:
            raise ValueError(f"lengths differ: {self.n} and {other.n}")
        return Bits(self.words ^ other.words, self.n)

    def count_ones(self) -> int:
        """Number of set bits."""
        return int(np.bitwise_count(self.words).sum())

    def select(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> Bits:
        """The bits at ``index`` (positions, or a mask of length ``n``), in that order."""
        return Bits.from_array(self.to_array()[index])

    def slice(self, start: int, stop: int) -> Bits:
        """Bits ``start`` to ``stop`` (exclusive); ValueError unless ``0 <= start <= stop <= n``."""
        if not 0 <= start <= stop <= self.n:
            raise ValueError(f"no bits {start} to {stop} in {self.n}")
        words = window(self.words, start, n_words(stop - start))
        if (stop - start) & 63:
            words[-1] &= np.uint64((1 << ((stop - start) & 63)) - 1)
        return Bits(words, stop - start)

    def equals(self, other: Bits) -> bool:
        """Whether lengths and all bits agree."""
        return self.n == other.n and bool(np.array_equal(self.words, other.words))

    @staticmethod
    def concat(parts: list[Bits]) -> Bits:
        """The parts one after the other."""
        total = sum(part.n for part in parts)
        out, at = np.zeros(n_words(total) + 1, dtype="<u8"), 0
        for part in parts:
            first, shift, width = at >> 6, np.uint64(at & 63), part.words.size
            out[first : first + width] |= part.words << shift
            if shift:
                out[first + 1 : first + 1 + width] |= part.words >> (np.uint64(64) - shift)
            at += part.n
        return Bits(out[:-1], total)
