"""Cascade's numbers: how long blocks are, and when one error is taken for granted.

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
ERRORS_PER_BLOCK_2: Final = 2.7
"""The same in the second pass, errors found in the first counted in."""
BLOCKS_3: Final = 8
"""Blocks of the third pass."""
MASKS: Final = 10
"""Random masks of every frame that must be even in the end: fewer than one in 1,000 wrong frames passes them all."""
SHORT_1: Final = 0.05
"""Errors expected in a node that is so short that it is taken to hold no more than one, in the first pass."""
SHORT_2: Final = 0.16
"""The same later."""
SHORT_ALL: Final = 0.045
"""Of c odd nodes of a list those are short, too, that are no longer than this share of the frame over c to the 3/2."""
MAX_SHORT: Final = 1024
"""Nodes that are never short are longer than this."""
MAX_SHORT_BUSY: Final = 64
"""The same in the third list as long as more than ``BUSY`` nodes of all lists are odd: many errors may be left then."""
BUSY: Final = 16
LATE_FROM: Final = 66
"""From this round on the third pass opens even if odd nodes are left."""
MAX_ROUNDS: Final = 250
"""A frame that is not clean after so many rounds is given up. Ordinary ones need less than 100; far off rates, more."""
TRUSTED_BLOCKS: Final = 2048
"""Weight of the expected rate against counted blocks of all frames, as long as both agree."""
TRUSTED_FRAME: Final = 16384
"""Most that the rate of all frames, counted from so many blocks, weighs against those of one, as long as both agree."""
HINT_SIGMAS: Final = 2.0
"""The expected rate counts if the first blocks of all frames agree with it that well."""
FRAME_SIGMAS: Final = 4.0
"""The rate of all frames counts for one frame if its blocks agree with it that well."""


def first_block(rate: float, frame_bits: int) -> int:
    """Length of the blocks asked for first: a power of two that holds 1.2 errors or up to twice as many."""
    block = 1
    while block * rate < ERRORS_PER_BLOCK_1 and block < frame_bits:
        block *= 2
    return block


def estimate(odd: int, blocks: int, length: int, expected: float, *, sigmas: float, trusted: int) -> float | None:
    """Error rate from ``odd`` of ``blocks`` blocks of ``length`` bits and, if it agrees, the expected rate.

    The expected rate counts like ``trusted`` blocks.

    They agree if the count lies within so many standard deviations. None if the share of odd blocks lies within two of
    1/2: then blocks are too long to tell.
    """
    expected_share = odd_share(expected, length)
    weight, share = blocks, odd / blocks
    off = odd - blocks * expected_share
    if 4.0 * (off * off) <= sigmas * sigmas * blocks:
        weight = blocks + trusted
        share = (odd + trusted * expected_share) / weight
    if share >= 0.5 - 1.0 / math.sqrt(weight):
        return None
    return mean_errors(max(share, 0.5 / weight)) / length


def blocks_wanted(rate: float, frame_bits: int) -> int:
    """Blocks of the first pass."""
    return math.ceil(frame_bits * rate / ERRORS_PER_BLOCK_1)


def second_blocks(rate: float, frame_bits: int) -> tuple[int, int]:
    """Second pass: a block length k and how many blocks of length 2 k come first, so that the mean is as wanted."""
    wanted = ERRORS_PER_BLOCK_2 / rate
    wanted = min(wanted, max(1.0, frame_bits / 2.0))
    block = 1
    while 2 * block <= wanted:
        block *= 2
    share = 2.0 * (1.0 - block / wanted)
    return int(share * frame_bits / (2 * block)), block


def third_blocks(frame_bits: int) -> tuple[int, int]:
    """Third pass: no blocks of double length, and the block length."""
    return 0, -(-frame_bits // BLOCKS_3)


def short_node(rate: float, frame_bits: int, odd: tuple[int, ...], number: int, opened: int) -> int:
    """Length up to which an odd node of list ``number`` is taken to hold one error only, at least 2.

    ``odd`` counts the odd nodes of each list, of which ``opened`` are open.
    """
    most = (SHORT_1 if opened == 1 else SHORT_2) / rate
    if opened > 1:
        most = max(most, SHORT_ALL * frame_bits / (odd[number] * math.sqrt(odd[number])))
    limit = MAX_SHORT_BUSY if number == 2 and sum(odd) > BUSY else MAX_SHORT
    return int(min(max(most, 2.0), float(limit)))
