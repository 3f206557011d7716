"""Codec of announcements: detected slots as gaps, biased flags as positions, near their entropy.

Both are Golomb-Rice codes of gaps with one parameter k per call, laid out in
sections so that arrays are coded as a whole (``docs/formats/wire.md``): a
unary section (per gap ``gap >> k`` zero bits, then a one) and k bit planes of
the remainders. Dense sets are coded by what is missing, so the cost stays
within 5 % of the geometric entropy at every density.

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


class _Form(IntEnum):
    """First byte of an encoding: what the gaps lead to."""

    PLAIN = 0
    ONES = 1
    ZEROS = 2


_SLOTS_HEADER = struct.Struct("<BQ")
_BITS_HEADER = struct.Struct("<BI")


def _parameter(gaps: NDArray[np.int64]) -> int:
    """The k that makes the code shortest; gaps >= 0."""
    guess = max(0, int(float(gaps.mean()) * 0.69 + 1).bit_length() - 1)
    candidates = range(max(0, guess - 1), min(MAX_PARAMETER, guess + 2) + 1)
    return min(candidates, key=lambda k: gaps.size * k + int((gaps >> k).sum()))


def _encode_gaps(gaps: NDArray[np.int64]) -> bytes:
    """Parameter byte, unary section, bit planes; nothing at all for no gaps."""
    if gaps.size == 0:
        return b""
    k = _parameter(gaps)
    ends = np.cumsum((gaps >> k) + 1) - 1
    unary = np.zeros(int(ends[-1]) + 1, dtype=np.uint8)
    unary[ends] = 1
    planes = [Bits.from_array((gaps >> i).astype(np.uint8) & 1).to_bytes() for i in range(k)]
    return bytes([k]) + Bits.from_array(unary).to_bytes() + b"".join(planes)


def _decode_unary(section: bytes, n: int) -> NDArray[np.int64]:
    """The n quotients; the last one bit must lie in the last byte, with nothing after it."""
    bits = Bits.from_bytes(section, 8 * len(section))
    if bits.count_ones() != n or not section[-1]:
        raise ValueError("the unary section does not hold the announced number of gaps")
    ends = np.flatnonzero(bits.to_array())
    return np.diff(ends, prepend=-1) - 1


def _decode_gaps(data: bytes, n: int, limit: int) -> NDArray[np.int64]:
    """The n gaps, or ValueError; their sum plus n - 1 is at most ``limit``, so positions cannot overflow."""
    if n == 0:
        if data:
            raise ValueError("bytes after the last gap")
        return np.empty(0, dtype=np.int64)
    k = data[0] if data else MAX_PARAMETER + 1
    plane_bytes = n_bytes(n)
    start = len(data) - k * plane_bytes
    if k > MAX_PARAMETER or start < 2:
        raise ValueError("truncated gaps or a parameter out of range")
    quotients = _decode_unary(data[1:start], n)
    remainders = np.zeros(n, dtype=np.int64)
    for i in range(k):
        plane = data[start + i * plane_bytes : start + (i + 1) * plane_bytes]
        remainders |= Bits.from_bytes(plane, n).to_array().astype(np.int64) << i
    if (int(quotients.sum()) << k) + int(remainders.sum()) + n - 1 > limit:
        raise ValueError("a position lies beyond the limit")
    return (quotients << k) + remainders


def _gaps(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of positions left out before each of the strictly increasing positions."""
    return np.diff(positions, prepend=-1) - 1


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
    span = int(slots[-1]) + 1
    if span < 2 * n:
        return _SLOTS_HEADER.pack(_Form.ZEROS, span) + _encode_gaps(_gaps(_complement(slots, span)))
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
    if data[:1] != bytes([_Form.ZEROS]) or len(data) < _SLOTS_HEADER.size:
        raise ValueError("unknown form of slots")
    span = int(_SLOTS_HEADER.unpack_from(data)[1])
    if not n <= span < 2 * n or span > max_slot + 1:
        raise ValueError("span of dense slots out of range")
    absent = _positions(_decode_gaps(data[_SLOTS_HEADER.size :], span - n, span - 1))
    return _complement(absent, span)


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
