"""Cascade's numbers: how long blocks are and when the pace changes.

Chosen by search for few disclosed bits within about 100 round trips on frames
of 2**16 bits; ``docs/notes/cascade.md`` shows what other choices cost. Both
parties compute them from public counts, by operations that every host rounds
alike.
"""

from __future__ import annotations

import math
from typing import Final

from qkdpp.reconciliation.odd_blocks import mean_errors, odd_share

ERRORS_PER_BLOCK_1: Final = 1.2
"""Mean number of errors in a block of the first pass."""
ERRORS_PER_BLOCK_2: Final = 1.28
"""The same in the second pass at an error rate of 1 %; grows with the fourth root of the rate."""
BLOCKS_3: Final = 8
"""Blocks of the third pass, unless more odd nodes than that are left when it opens."""
MASKS: Final = 10
"""Random masks of every frame that must be even in the end: fewer than one in 1,000 wrong frames passes them all."""
DEEP_FROM: Final = 66
"""From this round on odd nodes are halved twice a round."""
HURRY_FROM: Final = 82
"""From this round on all passes and a mask are searched at once."""
MAX_ROUNDS: Final = 110
"""A frame that is not clean after so many rounds is given up."""
TRUSTED_BLOCKS: Final = 2048
"""Weight of the expected rate against counted blocks, as long as both agree."""
HINT_SIGMAS: Final = 2.0
"""The expected rate counts if the first blocks of all frames agree with it that well."""
FRAME_SIGMAS: Final = 3.0
"""The rate of all frames counts for one frame if its blocks agree with it that well."""


def first_block(rate: float, frame_bits: int) -> int:
    """Length of the blocks asked for first: a power of two that holds 1.2 errors or up to twice as many."""
    block = 1
    while block * rate < ERRORS_PER_BLOCK_1 and block < frame_bits:
        block *= 2
    return block


def estimate(odd: int, blocks: int, length: int, expected: float, sigmas: float) -> float | None:
    """Error rate from ``odd`` of ``blocks`` blocks of ``length`` bits and, if it agrees, the expected rate.

    They agree if the count lies within so many standard deviations. None if the share of odd blocks lies within two of
    1/2: then blocks are too long to tell.
    """
    expected_share = odd_share(expected, length)
    weight, share = blocks, odd / blocks
    if 4.0 * (odd - blocks * expected_share) ** 2 <= sigmas * sigmas * blocks:
        weight = blocks + TRUSTED_BLOCKS
        share = (odd + TRUSTED_BLOCKS * expected_share) / weight
    if share >= 0.5 - 1.0 / math.sqrt(weight):
        return None
    return mean_errors(max(share, 0.5 / weight)) / length


def blocks_wanted(rate: float, frame_bits: int) -> int:
    """Blocks of the first pass."""
    return math.ceil(frame_bits * rate / ERRORS_PER_BLOCK_1)


def second_blocks(rate: float, frame_bits: int) -> tuple[int, int]:
    """Second pass: a block length k and how many blocks of length 2 k come first, so that the mean is as wanted."""
    wanted = ERRORS_PER_BLOCK_2 * math.sqrt(math.sqrt(100.0 * rate)) / rate
    wanted = min(wanted, max(1.0, frame_bits / 2.0))
    block = 1
    while 2 * block <= wanted:
        block *= 2
    share = 2.0 * (1.0 - block / wanted)
    return int(share * frame_bits / (2 * block)), block


def third_blocks(odd_nodes: int, frame_bits: int) -> tuple[int, int]:
    """Third pass: no blocks of double length, and the block length."""
    return 0, -(-frame_bits // max(BLOCKS_3, odd_nodes))
