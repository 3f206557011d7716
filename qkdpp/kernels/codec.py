"""Codec of announcements: detected slots as gaps, biased flags as positions, near their entropy.

Both are Golomb-Rice codes of gaps with one parameter k per call, laid out in
sections so that arrays are coded as a whole (``docs/formats/wire.md``): a
unary section (per gap ``gap >> k`` zero bits, then a one), long quotients, and
k bit planes of the remainders. Dense sets are coded by what is missing, so the
cost stays within 5 % of the geometric entropy at every density, and an outage
costs a few bytes.

Decoding treats its input as hostile: it ends in ValueError or in exactly the
``n`` values asked for, and allocates in proportion to ``n`` and to the input,
never to a count found inside it.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import BitArray8, Bits, n_bytes

MAX_COUNT = 1 << 30
"""Most values of one call."""
MAX_PARAMETER = 32
"""Largest k: together with ``MAX_COUNT`` it keeps every sum inside int64."""
MAX_SLOT = (1 << 62) - 1
ESCAPE = 48
"""A quotient of this size or more is written as an integer: fewer than one in 1e9 geometric gaps with the best k."""


class _Form(IntEnum):
    """First byte of an encoding: what the gaps lead to."""

    PLAIN = 0
    ONES = 1
    ZEROS = 2


_DENSE_HEADER = struct.Struct("<BQQ")
_BITS_HEADER = struct.Struct("<BI")
_GAPS_HEADER = struct.Struct("<BI")


def _cost_bits(gaps: NDArray[np.int64], k: int) -> int:
    quotients = gaps >> k
    return gaps.size * k + int(np.minimum(quotients, ESCAPE).sum()) + 64 * int(np.count_nonzero(quotients >= ESCAPE))


def _parameter(gaps: NDArray[np.int64]) -> int:
    """The k near the median that makes the code shortest; gaps >= 0."""
    guess = min(int(np.median(gaps)).bit_length(), MAX_PARAMETER)
    candidates = range(max(0, guess - 2), min(MAX_PARAMETER, guess + 1) + 1)
    return min(candidates, key=lambda k: _cost_bits(gaps, k))


def _encode_gaps(gaps: NDArray[np.int64]) -> bytes:
    """Parameter byte, unary section, long quotients, bit planes; nothing at all for no gaps."""
    if gaps.size == 0:
        return b""
    k = _parameter(gaps)
    quotients = gaps >> k
    ends = np.cumsum(np.minimum(quotients, ESCAPE) + 1) - 1
    unary = np.zeros(int(ends[-1]) + 1, dtype=np.uint8)
    unary[ends] = 1
    escaped = quotients[quotients >= ESCAPE].astype("<u8")
    planes = [Bits.from_array((gaps >> i).astype(np.uint8) & 1).to_bytes() for i in range(k)]
    unary_bytes = Bits.from_array(unary).to_bytes()
    return _GAPS_HEADER.pack(k, escaped.size) + unary_bytes + escaped.tobytes() + b"".join(planes)


def _decode_unary(section: bytes, n: int) -> NDArray[np.int64]:
    """The n quotients; the last one bit must lie in the last byte, with nothing after it."""
    bits = Bits.from_bytes(section, 8 * len(section))
    if bits.count_ones() != n or not section[-1]:
        raise ValueError("the unary section does not hold the announced number of gaps")
    ends = np.flatnonzero(bits.to_array())
    return _gaps(ends)


def _decode_quotients(section: bytes, escaped: bytes, n: int, limit: int) -> NDArray[np.int64]:
    """The n quotients, long ones included, each at most ``limit``."""
    quotients = _decode_unary(section, n)
    long = np.frombuffer(escaped, dtype="<u8")
    where = np.flatnonzero(quotients == ESCAPE)
    if where.size != long.size or quotients.max() > ESCAPE or np.any((long < ESCAPE) | (long > limit)):
        raise ValueError("long quotients missing, out of place or out of range")
    quotients[where] = long.astype(np.int64)
    return quotients


def _decode_gaps(data: bytes, n: int, limit: int) -> NDArray[np.int64]:
    """The n gaps, or ValueError; their sum plus n - 1 is at most ``limit``, so positions cannot overflow."""
    if n == 0:
        if data:
            raise ValueError("bytes after the last gap")
        return np.empty(0, dtype=np.int64)
    if len(data) < _GAPS_HEADER.size:
        raise ValueError("truncated gaps")
    k, n_escaped = _GAPS_HEADER.unpack_from(data)
    plane_bytes = n_bytes(n)
    planes = len(data) - k * plane_bytes
    escapes = planes - 8 * n_escaped
    if k > MAX_PARAMETER or n_escaped > n or escapes <= _GAPS_HEADER.size:
        raise ValueError("truncated gaps or a parameter out of range")
    quotients = _decode_quotients(data[_GAPS_HEADER.size : escapes], data[escapes:planes], n, limit >> k)
    remainders = np.zeros(n, dtype=np.int64)
    for i in range(k):
        plane = data[planes + i * plane_bytes : planes + (i + 1) * plane_bytes]
        remainders |= Bits.from_bytes(plane, n).to_array().astype(np.int64) << i
    if (sum(quotients[quotients >= ESCAPE].tolist()) << k) > limit:
        raise ValueError("a position lies beyond the limit")
    if (int(quotients.sum()) << k) + int(remainders.sum()) + n - 1 > limit:
        raise ValueError("a position lies beyond the limit")
    gaps: NDArray[np.int64] = (quotients << k) + remainders
    return gaps


def _gaps(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of positions left out before each of the strictly increasing positions."""
    gaps: NDArray[np.int64] = np.diff(positions, prepend=-1) - 1
    return gaps


def _positions(gaps: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(gaps + 1) - 1


def _complement(positions: NDArray[np.int64], span: int) -> NDArray[np.int64]:
    """Members of ``range(span)`` that are not among ``positions``."""
    absent = np.ones(span, dtype=np.bool_)
    absent[positions] = False
    return np.flatnonzero(absent)


def encode_slots(slots: NDArray[np.int64]) -> bytes:
    """Encodes slot numbers, int64[n], strictly increasing, 0 <= slot < 2^62. Raises ValueError on anything else."""
    n = int(slots.size)
    if n == 0:
        return b""
    gaps = _gaps(slots.astype(np.int64, copy=False))
    if int(gaps.min()) < 0 or int(slots[0]) < 0 or int(slots[-1]) > MAX_SLOT or n > MAX_COUNT:
        raise ValueError("slots must increase strictly from 0, below 2**62, at most 2**30 of them")
    first = int(slots[0])
    span = int(slots[-1]) - first + 1
    if span < 2 * n:
        return _DENSE_HEADER.pack(_Form.ZEROS, first, span) + _encode_gaps(_gaps(_complement(slots - first, span)))
    return bytes([_Form.ONES]) + _encode_gaps(gaps)


def decode_slots(data: bytes, n: int, max_slot: int) -> NDArray[np.int64]:
    """The ``n`` slot numbers in ``data``, strictly increasing, at most ``max_slot``; ValueError on anything else.

    The caller has checked ``n`` against what it is ready to hold.
    """
    if not 0 <= n <= MAX_COUNT or not 0 <= max_slot <= MAX_SLOT:
        raise ValueError("count or slot limit out of range")
    if n == 0:
        return _decode_gaps(data, 0, max_slot)
    if data[:1] == bytes([_Form.ONES]):
        return _positions(_decode_gaps(data[1:], n, max_slot))
    if data[:1] != bytes([_Form.ZEROS]) or len(data) < _DENSE_HEADER.size:
        raise ValueError("unknown form of slots")
    _, first, span = _DENSE_HEADER.unpack_from(data)
    if not n <= span < 2 * n or first + span - 1 > max_slot:
        raise ValueError("span of dense slots out of range")
    absent = _positions(_decode_gaps(data[_DENSE_HEADER.size :], span - n, span - 1))
    slots: NDArray[np.int64] = _complement(absent, span) + first
    return slots


def encode_bits(flags: BitArray8) -> bytes:
    """Encodes biased flags, uint8[n] of 0/1, by the positions of the rarer value, or plainly where that is shorter."""
    n, ones = int(flags.size), int(np.count_nonzero(flags))
    if n > MAX_COUNT:
        raise ValueError("at most 2**30 flags")
    plain = bytes([_Form.PLAIN]) + Bits.from_array(flags).to_bytes()
    if ones <= n - ones:
        form, marked = _Form.ONES, np.flatnonzero(flags)
    else:
        form, marked = _Form.ZEROS, np.flatnonzero(flags == 0)
    sparse = _BITS_HEADER.pack(form, marked.size) + _encode_gaps(_gaps(marked))
    return min(plain, sparse, key=len)


def decode_bits(data: bytes, n: int) -> BitArray8:
    """The ``n`` flags in ``data`` as uint8; ValueError on anything else. The caller has checked ``n``."""
    if not 0 <= n <= MAX_COUNT or not data:
        raise ValueError("no data, or a count out of range")
    if data[0] == _Form.PLAIN:
        return Bits.from_bytes(data[1:], n).to_array()
    if data[0] not in (_Form.ONES, _Form.ZEROS) or len(data) < _BITS_HEADER.size:
        raise ValueError("unknown form of flags")
    count = int(_BITS_HEADER.unpack_from(data)[1])
    if count > n:
        raise ValueError("more positions than flags")
    flags = np.full(n, data[0] == _Form.ZEROS, dtype=np.uint8)
    flags[_positions(_decode_gaps(data[_BITS_HEADER.size :], count, n - 1))] ^= 1
    return flags
