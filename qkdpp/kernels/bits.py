"""Bit tools: packing, gathering by a permutation, transposition, Hamming distance.

Bits are packed as in :mod:`qkdpp.core.bits`: bit ``i`` of a string is
``(words[i >> 6] >> (i & 63)) & 1``, words are little-endian uint64, padding is
zero. With the compiled tier the work is done by ``csrc/bits*.c``; the NumPy
form here is the definition, and Numba gathers.

Times and addresses depend on sizes and orders, never on the bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import BitArray8, Bits, Words, n_words
from qkdpp.core.errors import KernelError
from qkdpp.kernels import compiled_bits
from qkdpp.kernels.backend import backend


def _check(name: str, array: NDArray[np.generic], dtype: str, shape: tuple[int, ...]) -> None:
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        raise KernelError(f"{name}: need {np.dtype(dtype).name} of shape {shape}")


def pack_bits(flags: NDArray[np.uint8] | NDArray[np.bool_]) -> Words:
    """Packs flags.

    Args:
        flags: uint8 or bool, shape (n,).

    Returns:
        uint64[ceil(n / 64)]: bit i is 1 where ``flags[i]`` is not 0.

    Raises:
        KernelError: another type or shape.
    """
    if flags.dtype not in (np.uint8, np.bool_) or flags.ndim != 1:
        raise KernelError("flags: need uint8 or bool of shape (n,)")
    if backend() == "c":
        return compiled_bits.pack(np.ascontiguousarray(flags))
    return Bits.from_array(flags).words


def unpack_bits(words: Words, n_bits: int) -> BitArray8:
    """Unpacks the first ``n_bits`` bits.

    Args:
        words: uint64[ceil(n_bits / 64)]; padding may be anything.
        n_bits: how many bits.

    Returns:
        uint8[n_bits] of 0 and 1.

    Raises:
        KernelError: another type or shape.
    """
    _check("words", words, "<u8", (n_words(n_bits),))
    if backend() == "c":
        return compiled_bits.unpack(np.ascontiguousarray(words), n_bits)
    return Bits(words, n_bits).to_array()


def pick(values: NDArray[np.uint8], flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The values that are flagged, ``values[flags]``.

    Args:
        values: uint8[n].
        flags: bool[n].

    Raises:
        KernelError: another type or shape.
    """
    _check("values", values, "|u1", (values.size,))
    _check("flags", flags, "|b1", values.shape)
    if backend() == "c":
        return compiled_bits.pick(np.ascontiguousarray(values), np.ascontiguousarray(flags))
    return values[flags]


def spread(values: NDArray[np.uint8], flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Values in the places that are flagged, zero elsewhere: the inverse of :func:`pick`.

    Args:
        values: uint8[m], one for every flag that is set.
        flags: bool[n].

    Raises:
        KernelError: another type or shape, or another number of values.
    """
    _check("values", values, "|u1", (values.size,))
    _check("flags", flags, "|b1", (flags.size,))
    if backend() == "c":
        return compiled_bits.spread(np.ascontiguousarray(values), np.ascontiguousarray(flags))
    _check("values", values, "|u1", (int(flags.sum()),))
    out = np.zeros(flags.size, dtype=np.uint8)
    out[flags] = values
    return out


def gather_bits(words: Words, n_bits: int, order: NDArray[np.int32]) -> Words:
    """Bits in another order, or a choice of them.

    Args:
        words: uint64[ceil(n_bits / 64)].
        n_bits: how many bits there are.
        order: int32[m], each from 0 to ``n_bits - 1``, in any order, also repeatedly.

    Returns:
        uint64[ceil(m / 64)]: bit i is bit ``order[i]`` of ``words``.

    Raises:
        KernelError: another type or shape, or an index outside.
    """
    _check("words", words, "<u8", (n_words(n_bits),))
    _check("order", order, "<i4", (order.size,))
    if backend() == "c":
        return compiled_bits.gather(np.ascontiguousarray(words), n_bits, np.ascontiguousarray(order))
    if order.size and not 0 <= int(order.min()) <= int(order.max()) < n_bits:
        raise KernelError(f"order: there are bits 0 to {n_bits - 1} only")
    if backend() == "numpy":
        return Bits.from_array(Bits(words, n_bits).to_array()[order]).words
    from qkdpp.kernels.parity import permute  # noqa: PLC0415 - Numba only where it is used

    out = np.zeros(n_words(order.size), dtype="<u8")
    permute(words, 0, order, out, 0)
    return out


def transpose_bits(words: Words, n_columns: int) -> Words:
    """Exchanges rows and columns of a matrix of bits.

    Args:
        words: uint64[n_rows, ceil(n_columns / 64)], a row of bits each; padding may be anything.
        n_columns: how many bits a row has.

    Returns:
        uint64[n_columns, ceil(n_rows / 64)]: bit r of row c is bit c of row r.

    Raises:
        KernelError: another type or shape.
    """
    _check("words", words, "<u8", (len(words), n_words(n_columns)))
    if backend() == "c":
        return compiled_bits.transpose(np.ascontiguousarray(words), n_columns)
    n_rows = len(words)
    bits = Bits(words.reshape(-1), 64 * words.size).to_array().reshape(n_rows, 64 * n_words(n_columns))
    padded = np.zeros((n_columns, 64 * n_words(n_rows)), dtype=np.uint8)
    padded[:, :n_rows] = bits[:, :n_columns].T
    return Bits.from_array(padded).words.reshape(n_columns, n_words(n_rows))


def hamming_distance(a: Words, b: Words) -> int:
    """In how many bits two strings differ.

    Args:
        a: uint64[m], padding zero.
        b: uint64[m], padding zero.

    Raises:
        KernelError: another type, or lengths that differ.
    """
    _check("a", a, "<u8", (a.size,))
    _check("b", b, "<u8", a.shape)
    if backend() == "c":
        return compiled_bits.distance(np.ascontiguousarray(a), np.ascontiguousarray(b))
    return int(np.bitwise_count(a ^ b).sum())
