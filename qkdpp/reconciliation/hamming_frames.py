"""One frame of the Hamming procedure: block lengths, checks, corrections, when it is clean.

Both parties follow the same counts of differing blocks, which are functions of
the error pattern and public coins. ``docs/notes/hamming.md`` states the rules in
words. Importing this module compiles kernels: stages import it when a
conversation begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import BitArray8, Bits
from qkdpp.kernels.hamming_blocks import block_checks
from qkdpp.reconciliation.odd_blocks import mean_errors
from qkdpp.reconciliation.shuffle import shuffle

FIRST_ERRORS: Final = 0.5
"""Blocks of the first round hold at most so many errors in the mean, and more than half of it."""
NEXT_ERRORS: Final = 0.6
"""The same in later rounds."""
FEWEST_BLOCKS: Final = 32
"""No round has fewer blocks."""
CLEAN_ROUNDS: Final = 3
"""A frame is finished after so many rounds in a row with the longest blocks and no difference."""
BIT_BY_BIT: Final = 256
"""Shorter frames are compared bit by bit: no key can come of them."""
MAX_ROUNDS: Final = 40
"""A frame that is not finished by then is given up."""
MAX_SHARE: Final = 0.49
"""Larger shares of differing blocks tell nothing more about the error rate."""


@dataclass(slots=True)
class Frame:
    """Where one frame is; all of it is public.

    Attributes:
        start: its first bit in the key.
        n: its bits.
        rate: the error rate thought to be left.
        block: block length of the current round, a power of two; 0 when no more rounds are due.
        clean: rounds in a row without a difference, with the longest blocks.
        rounds: rounds ended.
        disclosed: sums and bits of syndromes so far.
    """

    start: int
    n: int
    rate: float
    block: int = 0
    clean: int = 0
    rounds: int = 0
    disclosed: int = 0

    @property
    def blocks(self) -> int:
        """Blocks of the current round."""
        return -(-self.n // self.block) if self.block else 0

    @property
    def asked(self) -> int:
        """Sums sent in the current round. Once all sums agree together, the last one follows from the others."""
        return self.blocks if self.rounds == 0 else max(self.blocks - 1, 0)

    @property
    def width(self) -> int:
        """Bits of a syndrome in the current round."""
        return max(self.block.bit_length() - 1, 0)

    @property
    def finished(self) -> bool:
        """Whether both sides believe it equal."""
        return self.clean >= CLEAN_ROUNDS

    def begin_round(self) -> bool:
        """Chooses the block length; False if the frame is finished or given up."""
        if self.finished or self.rounds >= MAX_ROUNDS or (self.rounds and self.disclosed >= self.n):
            self.block = 0
            return False
        wanted = NEXT_ERRORS if self.rounds else FIRST_ERRORS
        self.block = 1
        while 2 * self.block * self.rate <= wanted and 2 * self.block <= self._longest:
            self.block *= 2
        return True

    def differing(self, flags: BitArray8) -> NDArray[np.int64]:
        """Blocks that differ, from the flags of the sums that were asked for."""
        if self.asked < self.blocks:
            flags = np.append(flags, np.bitwise_xor.reduce(flags, initial=0))
        return np.flatnonzero(flags)

    def end_round(self, odd: int) -> None:
        """Takes the number of blocks that differed and were corrected."""
        share = min(odd / self.blocks, MAX_SHARE)
        self.disclosed += self.asked + odd * self.width
        if self.block == 1:
            self.clean = CLEAN_ROUNDS
        else:
            self.clean = self.clean + 1 if odd == 0 and self.block == self._longest else 0
        self.rate = self.rate / 8.0 if odd == 0 else left_errors(share) / self.block
        self.rounds += 1

    @property
    def _longest(self) -> int:
        longest = 1
        while self.n >= BIT_BY_BIT and 2 * longest * FEWEST_BLOCKS <= self.n:
            longest *= 2
        return longest


def left_errors(share: float) -> float:
    """Mean number of errors left in a block when ``share`` of the blocks had an odd number and were corrected.

    With a Poissonian number of mean m, a single error goes, other odd numbers mostly grow by one: what is left has
    the mean ``m + share - 2 m exp(-m)``, and ``exp(-2 m) = 1 - 2 share``.
    """
    mean = mean_errors(share)
    return mean + share - 2.0 * mean * math.sqrt(1.0 - 2.0 * share)


@dataclass(slots=True)
class Checks:
    """What one party knows of a frame in a round: the order of its bits, sums and syndromes of its blocks."""

    frame: Frame
    order: NDArray[np.int32]
    sums: BitArray8
    syndromes: NDArray[np.uint32]

    def sums_asked(self) -> BitArray8:
        """The sums to send or compare."""
        return self.sums[: self.frame.asked]

    def syndrome_bits(self, blocks: NDArray[np.int64]) -> BitArray8:
        """The syndromes of some blocks, lowest bit first, one after the other."""
        bits = (self.syndromes[blocks, None] >> np.arange(self.frame.width, dtype=np.uint32)) & 1
        return bits.astype(np.uint8).ravel()

    def errors(self, blocks: NDArray[np.int64], bits: BitArray8) -> NDArray[np.int64]:
        """Bits of the key to invert: one in each of these blocks, by the other party's syndromes.

        A place behind the end of a short last block, which several errors can point to, stands for its first bit.
        """
        frame = self.frame
        theirs = bits.reshape(len(blocks), frame.width).astype(np.int64) @ (1 << np.arange(frame.width, dtype=np.int64))
        first = blocks * frame.block
        place = first + (self.syndromes[blocks] ^ theirs)
        return frame.start + self.order[np.where(place < frame.n, place, first)].astype(np.int64)


def compute_checks(key: Bits, frames: list[Frame], seed: bytes, label: str) -> list[Checks]:
    """The checks of the frames that take part in a round; ``label`` names the round's permutation."""
    orders = {n: shuffle(seed, f"{label} {n}", n) for n in {frame.n for frame in frames}}
    found = []
    for frame in frames:
        sums, syndromes = np.empty(frame.blocks, dtype=np.uint8), np.empty(frame.blocks, dtype=np.uint32)
        block_checks(key.words, frame.start, orders[frame.n], frame.block, sums, syndromes)
        found.append(Checks(frame=frame, order=orders[frame.n], sums=sums, syndromes=syndromes))
    return found
