"""Golomb-Rice codes of gaps (``docs/formats/wire.md``) in NumPy: the definition, array by array.

Decoding treats its input as hostile, as :mod:`qkdpp.kernels.codec` says.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Bits, n_bytes

MAX_PARAMETER = 32
"""Largest k: with at most 2^30 gaps it keeps every sum inside int64."""
ESCAPE = 48
"""A quotient of this size or more is written as an integer: fewer than one in 1e9 geometric gaps with the best k."""

_HEADER = struct.Struct("<BI")


def gaps_of(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of positions left out before each of the strictly increasing positions."""
    gaps: NDArray[np.int64] = np.diff(positions, prepend=-1) - 1
    return gaps


def _cost_bits(gaps: NDArray[np.int64], k: int) -> int:
    quotients = gaps >> k
    return gaps.size * k + int(np.minimum(quotients, ESCAPE).sum()) + 64 * int(np.count_nonzero(quotients >= ESCAPE))


def _parameter(gaps: NDArray[np.int64]) -> int:
    """The k near the median that makes the code shortest; gaps >= 0."""
    guess = min(int(np.median(gaps)).bit_length(), MAX_PARAMETER)
    candidates = range(max(0, guess - 2), min(MAX_PARAMETER, guess + 1) + 1)
    return min(candidates, key=lambda k: _cost_bits(gaps, k))


def encode_gaps(gaps: NDArray[np.int64]) -> bytes:
    """The code of at least one gap: parameter, number of long quotients, unary section, long quotients, bit planes."""
    k = _parameter(gaps)
    quotients = gaps >> k
    ends = np.cumsum(np.minimum(quotients, ESCAPE) + 1) - 1
    unary = np.zeros(int(ends[-1]) + 1, dtype=np.uint8)
    unary[ends] = 1
    escaped = quotients[quotients >= ESCAPE].astype("<u8")
    planes = [Bits.from_array((gaps >> i).astype(np.uint8) & 1).to_bytes() for i in range(k)]
    unary_bytes = Bits.from_array(unary).to_bytes()
    return _HEADER.pack(k, escaped.size) + unary_bytes + escaped.tobytes() + b"".join(planes)


def _decode_unary(section: bytes, n: int) -> NDArray[np.int64]:
    """The n quotients; the last one bit must lie in the last byte, with nothing after it."""
    bits = Bits.from_bytes(section, 8 * len(section))
    if bits.count_ones() != n or not section[-1]:
        raise ValueError("the unary section does not hold the announced number of gaps")
    return gaps_of(np.flatnonzero(bits.to_array()))


def _decode_quotients(section: bytes, escaped: bytes, n: int, limit: int) -> NDArray[np.int64]:
    """The n quotients, long ones included, each at most ``limit``."""
    quotients = _decode_unary(section, n)
    long = np.frombuffer(escaped, dtype="<u8")
    where = np.flatnonzero(quotients == ESCAPE)
    if where.size != long.size or quotients.max() > ESCAPE or np.any((long < ESCAPE) | (long > limit)):
        raise ValueError("long quotients missing, out of place or out of range")
    quotients[where] = long.astype(np.int64)
    return quotients


def decode_gaps(data: bytes, n: int, limit: int) -> NDArray[np.int64]:
    """The ``n`` >= 1 positions that the gaps lead to, each at most ``limit`` < 2^62; ValueError otherwise."""
    if len(data) < _HEADER.size:
        raise ValueError("truncated gaps")
    k, n_escaped = _HEADER.unpack_from(data)
    plane_bytes = n_bytes(n)
    planes = len(data) - k * plane_bytes
    escapes = planes - 8 * n_escaped
    if k > MAX_PARAMETER or n_escaped > n or escapes <= _HEADER.size:
        raise ValueError("truncated gaps or a parameter out of range")
    quotients = _decode_quotients(data[_HEADER.size : escapes], data[escapes:planes], n, limit >> k)
    remainders = np.zeros(n, dtype=np.int64)
    for i in range(k):
        plane = data[planes + i * plane_bytes : planes + (i + 1) * plane_bytes]
        remainders |= Bits.from_bytes(plane, n).to_array().astype(np.int64) << i
    if (sum(quotients[quotients >= ESCAPE].tolist()) << k) > limit:
        raise ValueError("a position lies beyond the limit")
    if (int(quotients.sum()) << k) + int(remainders.sum()) + n - 1 > limit:
        raise ValueError("a position lies beyond the limit")
    positions: NDArray[np.int64] = np.cumsum((quotients << k) + remainders + 1) - 1
    return positions
