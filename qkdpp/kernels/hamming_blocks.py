# ruff: noqa: PLR0917 - compiled functions take their arguments by position
"""The kernels of :mod:`qkdpp.kernels.hamming` as loops over words, compiled by Numba where that is in use.

Frames are rows of ``Layout.frames``. Callers guarantee arrays of the sizes that
the layout says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Words
from qkdpp.kernels.hamming import BITS, ORDER, ROW, START, SUM, SYNDROME, WIDTH
from qkdpp.kernels.parity import compiled, flip_bit, get_bit, lowest_one, set_bit

_ZERO, _ONE = np.uint64(0), np.uint64(1)


@compiled
def checks(
    sums: Words,
    syndromes: Words,
    rows: Words,
    frames: NDArray[np.int64],
    orders: NDArray[np.uint32],
    scratch: Words,
) -> None:
    """Sums, one word a group, and syndromes, one word a group and bit, of every frame."""
    for f in range(frames.shape[0]):
        row, order = frames[f, ROW], frames[f, ORDER]
        places, block = (frames[f, BITS] + 63) >> 6, 1 << frames[f, WIDTH]
        groups = (places + block - 1) // block
        for p in range(places):
            entry = int(orders[order + p])
            word, turn = rows[row + (entry >> 6)], entry & 63
            scratch[p] = word << np.uint64(turn) | word >> np.uint64(-turn & 63)
        for p in range(places, groups * block):
            scratch[p] = _ZERO
        for j in range(frames[f, WIDTH] - 1, -1, -1):  # the rows whose bit j is set are the upper half
            half, at = groups << j, frames[f, SYNDROME] + j * groups
            for g in range(groups):
                syndromes[at + g] = _ZERO
            for first in range(0, half, groups):
                for g in range(groups):
                    upper = scratch[half + first + g]
                    syndromes[at + g] ^= upper
                    scratch[first + g] ^= upper
        for g in range(groups):
            sums[frames[f, SUM] + g] = scratch[g]


@compiled
def pick(out: Words, syndromes: Words, flags: Words, frames: NDArray[np.int64]) -> None:
    """Sets the bits of ``out``, zero before, that syndromes of flagged blocks set."""
    at = 0
    for f in range(frames.shape[0]):
        block = 1 << frames[f, WIDTH]
        groups = (((frames[f, BITS] + 63) >> 6) + block - 1) // block
        for j in range(frames[f, WIDTH]):
            for g in range(groups):
                mask, bits = flags[frames[f, SUM] + g], syndromes[frames[f, SYNDROME] + j * groups + g]
                while mask != _ZERO:
                    if bits >> np.uint64(lowest_one(mask)) & _ONE:
                        set_bit(out, at)
                    mask &= mask - _ONE
                    at += 1


@compiled
def invert(
    rows: Words,
    found: Words,
    syndromes: Words,
    flags: Words,
    theirs: Words,
    frames: NDArray[np.int64],
    orders: NDArray[np.uint32],
) -> None:
    """Inverts one bit of ``rows`` and of ``found`` in every flagged block; ``syndromes`` become their rows."""
    taken = 0
    for f in range(frames.shape[0]):
        order, width, n = frames[f, ORDER], frames[f, WIDTH], frames[f, BITS]
        places, block = (n + 63) >> 6, 1 << width
        groups = (places + block - 1) // block
        for i in range(width * groups):
            mask = flags[frames[f, SUM] + i % groups]
            while mask != _ZERO:
                shift = np.uint64(lowest_one(mask))
                syndromes[frames[f, SYNDROME] + i] ^= np.uint64(get_bit(theirs, taken)) << shift
                mask &= mask - _ONE
                taken += 1
        for g in range(groups):
            mask = flags[frames[f, SUM] + g]
            while mask != _ZERO:
                c = lowest_one(mask)
                mask &= mask - _ONE
                row = 0
                for j in range(width):
                    row |= get_bit(syndromes, 64 * (frames[f, SYNDROME] + j * groups + g) + c) << j
                if row * groups + g < places:
                    entry = int(orders[order + row * groups + g])
                    word, lane = entry >> 6, (c - entry) & 63
                    if lane * places + word < n:
                        flip_bit(rows, 64 * (frames[f, ROW] + word) + lane)
                        flip_bit(found, frames[f, START] + lane * places + word)
