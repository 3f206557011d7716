# ruff: noqa: PLR0917 - compiled functions take their arguments by position
"""Sums and Hamming syndromes of the blocks of a permuted frame.

A block has a sum (the parity of its bits) and a syndrome (the exclusive-or of
the places, counted from 0, of its ones): together the checks of an extended
Hamming code. If two blocks differ in one bit, their syndromes differ by its
place.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Words
from qkdpp.kernels.parity import compiled, get_bit


@compiled
def block_checks(
    key: Words,
    start: int,
    order: NDArray[np.int32],
    block: int,
    sums: NDArray[np.uint8],
    syndromes: NDArray[np.uint32],
) -> None:
    """Sum and syndrome of every ``block`` consecutive places of the order (the last block may be shorter).

    Place ``i`` of the frame is bit ``start + order[i]`` of ``key``; ``sums`` and ``syndromes`` have an element a block.
    """
    n = order.size
    for b in range(sums.size):
        ones = 0
        syndrome = 0
        first = b * block
        for i in range(first, min(first + block, n)):
            bit = get_bit(key, start + int(order[i]))
            ones ^= bit
            syndrome ^= bit * (i - first)
        sums[b] = ones
        syndromes[b] = syndrome
