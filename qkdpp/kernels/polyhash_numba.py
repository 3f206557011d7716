"""Numba tier of the polynomial hash: constant-time carry-less multiplication.

Integer multiplication computes carry-less products when the operands have
holes: with bits at every fourth position only, at most 15 ones meet at any
position that matters, and a carry never reaches the next used position. Four
such parts of each operand give the low half of a 64 x 64 product in 16
multiplications; the high half is the low half of the bit-reversed operands,
reversed. No branch and no table index depends on data, so the time does not
either, where the processor multiplies integers in constant time.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

_M0 = np.uint64(0x1111111111111111)
_M1 = np.uint64(0x2222222222222222)
_M2 = np.uint64(0x4444444444444444)
_M3 = np.uint64(0x8888888888888888)
_B1 = np.uint64(0x5555555555555555)
_B2 = np.uint64(0x3333333333333333)
_B4 = np.uint64(0x0F0F0F0F0F0F0F0F)
_B8 = np.uint64(0x00FF00FF00FF00FF)
_B16 = np.uint64(0x0000FFFF0000FFFF)
_S1, _S2, _S4, _S7, _S8 = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(7), np.uint64(8)
_S16, _S32, _S57, _S62, _S63 = np.uint64(16), np.uint64(32), np.uint64(57), np.uint64(62), np.uint64(63)


@njit(cache=True, nogil=True, inline="always")
def _low(x: np.uint64, y: np.uint64) -> np.uint64:
    """Coefficients 0 to 63 of the product of two polynomials of degree below 64."""
    x0, x1, x2, x3 = x & _M0, x & _M1, x & _M2, x & _M3
    y0, y1, y2, y3 = y & _M0, y & _M1, y & _M2, y & _M3
    z0 = (x0 * y0) ^ (x1 * y3) ^ (x2 * y2) ^ (x3 * y1)
    z1 = (x0 * y1) ^ (x1 * y0) ^ (x2 * y3) ^ (x3 * y2)
    z2 = (x0 * y2) ^ (x1 * y1) ^ (x2 * y0) ^ (x3 * y3)
    z3 = (x0 * y3) ^ (x1 * y2) ^ (x2 * y1) ^ (x3 * y0)
    return (z0 & _M0) | (z1 & _M1) | (z2 & _M2) | (z3 & _M3)


@njit(cache=True, nogil=True, inline="always")
def _reverse(x: np.uint64) -> np.uint64:
    """The 64 bits in the opposite order."""
    x = ((x & _B1) << _S1) | ((x >> _S1) & _B1)
    x = ((x & _B2) << _S2) | ((x >> _S2) & _B2)
    x = ((x & _B4) << _S4) | ((x >> _S4) & _B4)
    x = ((x & _B8) << _S8) | ((x >> _S8) & _B8)
    x = ((x & _B16) << _S16) | ((x >> _S16) & _B16)
    return (x << _S32) | (x >> _S32)


@njit(cache=True, nogil=True)
def horner(state: NDArray[np.uint64], key: NDArray[np.uint64], blocks: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """``state = (state + block) * key`` for every row of ``blocks``.

    Args:
        state: uint64[2], low word first.
        key: uint64[2].
        blocks: uint64[n, 2], C-contiguous.

    Returns:
        The new state, uint64[2].
    """
    k0, k1 = key[0], key[1]
    k2 = k0 ^ k1
    r0, r1, r2 = _reverse(k0), _reverse(k1), _reverse(k2)
    a0, a1 = state[0], state[1]
    for i in range(blocks.shape[0]):
        a0 ^= blocks[i, 0]
        a1 ^= blocks[i, 1]
        b0, b1 = _reverse(a0), _reverse(a1)
        l0, l1, l2 = _low(a0, k0), _low(a1, k1), _low(a0 ^ a1, k2)
        h0 = _reverse(_low(b0, r0)) >> _S1
        h1 = _reverse(_low(b1, r1)) >> _S1
        h2 = _reverse(_low(b0 ^ b1, r2)) >> _S1
        p0, p3 = l0, h1
        p1 = h0 ^ l0 ^ l1 ^ l2
        p2 = l1 ^ h0 ^ h1 ^ h2
        p1 ^= p3 ^ (p3 << _S1) ^ (p3 << _S2) ^ (p3 << _S7)
        p2 ^= (p3 >> _S63) ^ (p3 >> _S62) ^ (p3 >> _S57)
        a0 = p0 ^ p2 ^ (p2 << _S1) ^ (p2 << _S2) ^ (p2 << _S7)
        a1 = p1 ^ (p2 >> _S63) ^ (p2 >> _S62) ^ (p2 >> _S57)
    out = np.empty(2, dtype=np.uint64)
    out[0], out[1] = a0, a1
    return out
