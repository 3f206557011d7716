"""Codec of announcements: detected slots as gaps, biased flags as positions, near their entropy.

Both are Golomb-Rice codes of gaps with one parameter k per call, laid out in
sections so that arrays are coded as a whole (``docs/formats/wire.md``): a
unary section (per gap ``gap >> k`` zero bits, then a one), long quotients, and
k bit planes of the remainders. Dense sets are coded by what is missing, so the
cost stays within 5 % of the geometric entropy at every density, and an outage
costs a few bytes. The compiled tier (``csrc/codec*``) and NumPy write the same
bytes; :mod:`qkdpp.kernels.codec_numpy` is the definition.

Decoding treats its input as hostile: it ends in ValueError or in exactly the
``n`` values asked for, and allocates in proportion to ``n`` and to the input,
never to a count found inside it.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import BitArray8, Bits
from qkdpp.kernels import codec_numpy, compiled_bits
from qkdpp.kernels.backend import backend
from qkdpp.kernels.bits import pack_bits, unpack_bits

MAX_COUNT = 1 << 30
"""Most values of one call."""
MAX_SLOT = (1 << 62) - 1


class _Form(IntEnum):
    """First byte of an encoding: what the gaps lead to."""

    PLAIN = 0
    ONES = 1
    ZEROS = 2


_DENSE_HEADER = struct.Struct("<BQQ")
_BITS_HEADER = struct.Struct("<BI")


def _encode(gaps: NDArray[np.int64]) -> bytes:
    if gaps.size == 0:
        return b""
    return compiled_bits.encode_gaps(gaps) if backend() == "c" else codec_numpy.encode_gaps(gaps)


def _decode(data: bytes, n: int, limit: int) -> NDArray[np.int64]:
    """The ``n`` positions, each at most ``limit`` < 2^62; ValueError otherwise."""
    if n == 0:
        if data:
            raise ValueError("bytes after the last gap")
        return np.empty(0, dtype=np.int64)
    decode = compiled_bits.decode_gaps if backend() == "c" else codec_numpy.decode_gaps
    return decode(data, n, limit)


def _gaps_of_slots(slots: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Gaps before the slots (at least one); None unless they increase strictly from 0 or more."""
    if backend() == "c":
        return compiled_bits.gaps_of_slots(np.ascontiguousarray(slots))
    gaps = codec_numpy.gaps_of(slots)
    return gaps if int(gaps.min()) >= 0 <= int(slots[0]) else None


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
    slots = slots.astype(np.int64, copy=False)
    gaps = _gaps_of_slots(slots)
    if gaps is None or int(slots[-1]) > MAX_SLOT or n > MAX_COUNT:
        raise ValueError("slots must increase strictly from 0, below 2**62, at most 2**30 of them")
    first = int(slots[0])
    span = int(slots[-1]) - first + 1
    if span < 2 * n:
        missing = codec_numpy.gaps_of(_complement(slots - first, span))
        return _DENSE_HEADER.pack(_Form.ZEROS, first, span) + _encode(missing)
    return bytes([_Form.ONES]) + _encode(gaps)


def decode_slots(data: bytes, n: int, max_slot: int) -> NDArray[np.int64]:
    """The ``n`` slot numbers in ``data``, strictly increasing, at most ``max_slot``; ValueError on anything else.

    The caller has checked ``n`` against what it is ready to hold.
    """
    if not 0 <= n <= MAX_COUNT or not 0 <= max_slot <= MAX_SLOT:
        raise ValueError("count or slot limit out of range")
    if n == 0:
        return _decode(data, 0, max_slot)
    if data[:1] == bytes([_Form.ONES]):
        return _decode(data[1:], n, max_slot)
    if data[:1] != bytes([_Form.ZEROS]) or len(data) < _DENSE_HEADER.size:
        raise ValueError("unknown form of slots")
    _, first, span = _DENSE_HEADER.unpack_from(data)
    if not n <= span < 2 * n or first + span - 1 > max_slot:
        raise ValueError("span of dense slots out of range")
    absent = _decode(data[_DENSE_HEADER.size :], span - n, span - 1)
    slots: NDArray[np.int64] = _complement(absent, span) + first
    return slots


def encode_bits(flags: BitArray8) -> bytes:
    """Encodes biased flags, uint8[n] of 0/1, by the positions of the rarer value, or plainly where that is shorter."""
    n = int(flags.size)
    if n > MAX_COUNT:
        raise ValueError("at most 2**30 flags")
    bits = Bits(pack_bits(flags), n)
    ones = bits.count_ones()
    zeros = ones > n - ones
    marked = n - ones if zeros else ones
    if backend() == "c":
        gaps = compiled_bits.gaps_of_bits(bits.words, n, marked, zeros=zeros)
    else:
        gaps = codec_numpy.gaps_of(np.flatnonzero(flags == 0 if zeros else flags))
    plain = bytes([_Form.PLAIN]) + bits.to_bytes()
    sparse = _BITS_HEADER.pack(_Form.ZEROS if zeros else _Form.ONES, marked) + _encode(gaps)
    return min(plain, sparse, key=len)


def decode_bits(data: bytes, n: int) -> BitArray8:
    """The ``n`` flags in ``data`` as uint8; ValueError on anything else. The caller has checked ``n``."""
    if not 0 <= n <= MAX_COUNT or not data:
        raise ValueError("no data, or a count out of range")
    if data[0] == _Form.PLAIN:
        return unpack_bits(Bits.from_bytes(data[1:], n).words, n)
    if data[0] not in (_Form.ONES, _Form.ZEROS) or len(data) < _BITS_HEADER.size:
        raise ValueError("unknown form of flags")
    count = int(_BITS_HEADER.unpack_from(data)[1])
    if count > n:
        raise ValueError("more positions than flags")
    marked = _decode(data[_BITS_HEADER.size :], count, n - 1)
    flags = np.full(n, data[0] == _Form.ZEROS, dtype=np.uint8)
    if backend() == "c":
        compiled_bits.flip_flags(flags, marked)
    else:
        flags[marked] ^= 1
    return flags
