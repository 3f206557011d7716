# ruff: noqa: PLR0917 - compiled functions take their arguments by position
"""Bit strings in uint64 words, as :class:`qkdpp.core.bits.Bits` holds them: parities, searches, permutations.

Bit ``i`` of a row of words is ``(words[i >> 6] >> (i & 63)) & 1``. The
functions take one-dimensional uint64 arrays and plain integers, allocate
nothing and check nothing: callers guarantee ``0 <= lo < hi <= 64 * len(words)``.
They are written so that Numba compiles them and Python runs them alike; which
of the two happens is decided by :mod:`qkdpp.kernels.backend` when this module
is first imported. Running times depend on the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Words
from qkdpp.kernels.backend import loops

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """The function compiled by Numba where that tier is in use, otherwise the function itself.

    Compiled without reference counts, as nothing here allocates: counting costs more than the work on single bits.
    """
    if loops() != "numba":
        return function
    import numba  # noqa: PLC0415 - Numba only where it is used

    njit: Any = numba.njit
    try:
        return cast(F, njit(cache=True, nogil=True, _nrt=False)(function))
    except KeyError:  # a Numba that does not know the switch
        return cast(F, njit(cache=True, nogil=True)(function))


_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_S2, _S4, _S8, _S16, _S32 = np.uint64(2), np.uint64(4), np.uint64(8), np.uint64(16), np.uint64(32)
_LOW1, _LOW2, _LOW4 = np.uint64(0x1), np.uint64(0x3), np.uint64(0xF)
_LOW8, _LOW16, _LOW32 = np.uint64(0xFF), np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)


@compiled
def get_bit(words: Words, i: int) -> int:
    """Bit ``i``."""
    return int((words[i >> 6] >> np.uint64(i & 63)) & _ONE)


@compiled
def set_bit(words: Words, i: int) -> None:
    """Makes bit ``i`` one."""
    words[i >> 6] |= _ONE << np.uint64(i & 63)


@compiled
def flip_bit(words: Words, i: int) -> None:
    """Inverts bit ``i``."""
    words[i >> 6] ^= _ONE << np.uint64(i & 63)


@compiled
def word_parity(x: np.uint64) -> int:
    """Parity of the bits of one word."""
    x ^= x >> _S32
    x ^= x >> _S16
    x ^= x >> _S8
    x ^= x >> _S4
    x ^= x >> _S2
    x ^= x >> _ONE
    return int(x & _ONE)


@compiled
def lowest_one(x: np.uint64) -> int:
    """Position of the lowest one of a word that is not zero."""
    i = 0
    if x & _LOW32 == _ZERO:
        x >>= _S32
        i += 32
    if x & _LOW16 == _ZERO:
        x >>= _S16
        i += 16
    if x & _LOW8 == _ZERO:
        x >>= _S8
        i += 8
    if x & _LOW4 == _ZERO:
        x >>= _S4
        i += 4
    if x & _LOW2 == _ZERO:
        x >>= _S2
        i += 2
    if x & _LOW1 == _ZERO:
        i += 1
    return i


@compiled
def highest_one(x: np.uint64) -> int:
    """Position of the highest one of a word that is not zero."""
    i = 0
    if x > _LOW32:
        x >>= _S32
        i += 32
    if x > _LOW16:
        x >>= _S16
        i += 16
    if x > _LOW8:
        x >>= _S8
        i += 8
    if x > _LOW4:
        x >>= _S4
        i += 4
    if x > _LOW2:
        x >>= _S2
        i += 2
    if x > _LOW1:
        i += 1
    return i


@compiled
def next_one(words: Words, i: int, n: int) -> int:
    """The first one at or after ``i``, or ``n`` if there is none before ``n``."""
    if i >= n:
        return n
    w = i >> 6
    x = words[w] & (_ALL << np.uint64(i & 63))
    last = (n - 1) >> 6
    while x == _ZERO:
        w += 1
        if w > last:
            return n
        x = words[w]
    return min((w << 6) + lowest_one(x), n)


@compiled
def last_one(words: Words, i: int) -> int:
    """The last one at or before ``i``; bit 0 or some other such bit must be set."""
    w = i >> 6
    x = words[w] & (_ALL >> np.uint64(63 - (i & 63)))
    while x == _ZERO:
        w -= 1
        x = words[w]
    return (w << 6) + highest_one(x)


@compiled
def range_parity(words: Words, lo: int, hi: int) -> int:
    """Parity of bits ``lo`` to ``hi`` (exclusive)."""
    first, last = lo >> 6, (hi - 1) >> 6
    head = _ALL << np.uint64(lo & 63)
    tail = _ALL >> np.uint64(63 - ((hi - 1) & 63))
    if first == last:
        return word_parity(words[first] & head & tail)
    x = (words[first] & head) ^ (words[last] & tail)
    for w in range(first + 1, last):
        x ^= words[w]
    return word_parity(x)


@compiled
def masked_parity(words: Words, start: int, masks: Words, mask: int, lo: int, hi: int) -> int:
    """Parity of those bits ``start + i``, ``lo <= i < hi``, whose bit ``mask + i`` of ``masks`` is set.

    ``start`` and ``mask`` are multiples of 64.
    """
    first, last = lo >> 6, (hi - 1) >> 6
    w0, m0 = start >> 6, mask >> 6
    head = _ALL << np.uint64(lo & 63)
    tail = _ALL >> np.uint64(63 - ((hi - 1) & 63))
    if first == last:
        return word_parity(words[w0 + first] & masks[m0 + first] & head & tail)
    x = words[w0 + first] & masks[m0 + first] & head
    x ^= words[w0 + last] & masks[m0 + last] & tail
    for w in range(first + 1, last):
        x ^= words[w0 + w] & masks[m0 + w]
    return word_parity(x)


@compiled
def any_left(masks: Words, mask: int, words: Words, start: int, lo: int, hi: int) -> bool:
    """Whether some bit ``mask + i`` of ``masks``, ``lo <= i < hi``, is set and bit ``start + i`` of ``words`` is not.

    ``start`` and ``mask`` are multiples of 64.
    """
    first, last = lo >> 6, (hi - 1) >> 6
    head = _ALL << np.uint64(lo & 63)
    tail = _ALL >> np.uint64(63 - ((hi - 1) & 63))
    for w in range(first, last + 1):
        x = masks[(mask >> 6) + w] & ~words[(start >> 6) + w]
        if w == first:
            x &= head
        if w == last:
            x &= tail
        if x != _ZERO:
            return True
    return False


@compiled
def permute(source: Words, start: int, order: NDArray[np.int32], out: Words, to: int) -> None:
    """Bits ``to + j`` of ``out`` become bits ``start + order[j]`` of ``source``; ``to`` is a multiple of 64.

    The rest of the last word of ``out`` that is written becomes zero.
    """
    n = order.size
    for w in range((n + 63) >> 6):
        x = _ZERO
        for j in range(w << 6, min((w + 1) << 6, n)):
            i = start + int(order[j])
            x |= ((source[i >> 6] >> np.uint64(i & 63)) & _ONE) << np.uint64(j & 63)
        out[(to >> 6) + w] = x


@compiled
def scatter(source: Words, start: int, order: NDArray[np.int32], out: Words, to: int) -> None:
    """Bit ``to + order[j]`` of ``out`` becomes one wherever bit ``start + j`` of ``source`` is."""
    stop = start + order.size
    i = next_one(source, start, stop)
    while i < stop:
        set_bit(out, to + int(order[i - start]))
        i = next_one(source, i + 1, stop)
