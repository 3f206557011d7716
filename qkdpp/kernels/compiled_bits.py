"""The compiled bit tools and codec: thin calls into ``qkdpp.kernels._ck`` (contract: ``csrc/qk_bits.h``).

Assumes what :mod:`qkdpp.kernels.bits` and :mod:`qkdpp.kernels.codec` have
checked: types, shapes and that arrays are C-contiguous. Bytes of a peer are
checked by the kernels themselves.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import BitArray8, Words, n_bytes, n_words
from qkdpp.core.errors import KernelError

Ints = NDArray[np.int64]

_C_NAMES: Final = {"<i8": "int64_t", "<u8": "uint64_t", "|u1": "uint8_t", "|b1": "uint8_t", "<i4": "int32_t"}


def _most_bytes(n: int) -> int:
    """Longest code of ``n`` gaps: header, unary quotients of 49 bits, as many long ones, 32 planes."""
    return 5 + (49 * n + 7) // 8 + 8 * n + 32 * n_bytes(n)


@cache
def _kernels() -> tuple[Any, Any, dict[str, Any]]:
    """Functions, pointer maker and pointer types by the name of the NumPy type, looked up once."""
    module = importlib.import_module("qkdpp.kernels._ck")
    types = {numpy_name: module.ffi.typeof(f"{c_name}[]") for numpy_name, c_name in _C_NAMES.items()}
    return module.lib, module.ffi.from_buffer, types


def _at(array: NDArray[Any], *, out: bool = False) -> Any:  # noqa: ANN401 - a pointer of cffi
    _, from_buffer, types = _kernels()
    return from_buffer(types[array.dtype.str], array, require_writable=out)


def pack(flags: NDArray[Any]) -> Words:
    """Words whose bit i says whether ``flags[i]`` is not 0."""
    out = np.empty(n_words(flags.size), dtype="<u8")
    _kernels()[0].qk_bits_pack(_at(out, out=True), _at(flags), flags.size)
    return out


def unpack(words: Words, n: int) -> BitArray8:
    """The first ``n`` bits as 0 and 1."""
    out = np.empty(n, dtype=np.uint8)
    _kernels()[0].qk_bits_unpack(_at(out, out=True), _at(words), n)
    return out


def gather(words: Words, n_bits: int, order: NDArray[np.int32]) -> Words:
    """Bit i is bit ``order[i]``; KernelError if one of the order is not below ``n_bits``."""
    out = np.empty(n_words(order.size), dtype="<u8")
    if _kernels()[0].qk_bits_gather(_at(out, out=True), _at(words), n_bits, _at(order), order.size):
        raise KernelError(f"order: there are bits 0 to {n_bits - 1} only")
    return out


def transpose(words: Words, n_columns: int) -> Words:
    """Rows and columns exchanged."""
    out = np.empty((n_columns, n_words(len(words))), dtype="<u8")
    _kernels()[0].qk_bits_transpose(_at(out, out=True), _at(words), len(words), n_columns)
    return out


def distance(a: Words, b: Words) -> int:
    """In how many bits two equally long strings differ."""
    count = np.empty(1, dtype="<u8")
    _kernels()[0].qk_bits_distance(_at(count, out=True), _at(a), _at(b), a.size)
    return int(count[0])


def pick(values: BitArray8, flags: NDArray[Any]) -> BitArray8:
    """The values whose flag is not 0."""
    out, count = np.empty(flags.size, dtype=np.uint8), np.zeros(1, dtype=np.uint64)
    _kernels()[0].qk_bytes_pick(_at(out, out=True), _at(count, out=True), _at(values), _at(flags), flags.size)
    out.resize(int(count[0]), refcheck=False)
    return out


def spread(values: BitArray8, flags: NDArray[Any]) -> BitArray8:
    """The inverse of :func:`pick`, 0 where no flag is; KernelError unless there is a value for every flag."""
    out = np.empty(flags.size, dtype=np.uint8)
    if _kernels()[0].qk_bytes_spread(_at(out, out=True), _at(flags), flags.size, _at(values), values.size):
        raise KernelError("values: need one for every flag that is not 0")
    return out


def gaps_of_slots(slots: Ints) -> Ints | None:
    """Gaps before the slots; None unless they increase strictly from 0 or more."""
    gaps = np.empty(slots.size, dtype=np.int64)
    wrong = _kernels()[0].qk_gaps_of_slots(_at(gaps, out=True), _at(slots), slots.size)
    return None if wrong else gaps


def gaps_of_bits(words: Words, n_bits: int, n_marked: int, *, zeros: bool) -> Ints:
    """Gaps before the ``n_marked`` ones, or zeros, among the first ``n_bits`` bits; padding is zero."""
    gaps, found = np.empty(n_marked, dtype=np.int64), np.empty(1, dtype="<u8")
    lib = _kernels()[0]
    status = lib.qk_gaps_of_bits(_at(gaps, out=True), n_marked, _at(found, out=True), _at(words), n_bits, zeros)
    if status or int(found[0]) != n_marked:
        raise KernelError(f"there are not {n_marked} marked flags")
    return gaps


def encode_gaps(gaps: Ints) -> bytes:
    """The code of the gaps (at least one, each from 0 to 2^62 - 1)."""
    out, size = np.empty(_most_bytes(gaps.size), dtype=np.uint8), np.empty(1, dtype="<u8")
    if _kernels()[0].qk_gaps_encode(_at(out, out=True), out.size, _at(size, out=True), _at(gaps), gaps.size):
        raise KernelError("the gaps cannot be encoded")
    return out[: int(size[0])].tobytes()


def decode_gaps(code: bytes, n: int, limit: int) -> Ints:
    """The ``n`` >= 1 positions, at most ``limit``; ValueError for a code of anything else.

    A code without a bit for every gap is refused before there is memory for ``n``.
    """
    if n > 8 * len(code):
        raise ValueError(_faults()[_kernels()[0].QK_CODE_TRUNCATED])
    positions = np.empty(n, dtype=np.int64)
    status = _kernels()[0].qk_gaps_decode(_at(positions, out=True), n, code, len(code), limit)
    if status:
        raise ValueError(_faults().get(status, "count or limit out of range"))
    return positions


@cache
def _faults() -> dict[int, str]:
    lib = _kernels()[0]
    return {
        lib.QK_CODE_TRUNCATED: "truncated gaps or a parameter out of range",
        lib.QK_CODE_UNARY: "the unary section does not hold the announced number of gaps",
        lib.QK_CODE_LONG: "long quotients missing, out of place or out of range",
        lib.QK_CODE_PADDING: "padding bits are not zero",
        lib.QK_CODE_LIMIT: "a position lies beyond the limit",
    }


def flip_flags(flags: BitArray8, positions: Ints) -> None:
    """``flags[positions] ^= 1``; the positions differ and lie inside."""
    if _kernels()[0].qk_flags_flip(_at(flags, out=True), flags.size, _at(positions), positions.size):
        raise KernelError("a position lies outside the flags")
