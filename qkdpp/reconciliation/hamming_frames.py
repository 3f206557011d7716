"""The frames of a batch of the Hamming procedure: block lengths, orders, when they are clean.

Both parties follow the same counts of differing blocks, which are functions of
the error pattern and public coins; numbers agree to the last bit (see
:mod:`qkdpp.reconciliation.odd_blocks`). ``docs/notes/hamming.md`` states the rules
in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import n_words
from qkdpp.core.entropy import expand
from qkdpp.kernels.hamming import MAX_WIDTH, Layout, places
from qkdpp.reconciliation.odd_blocks import mean_errors

FIRST_ERRORS: Final = 0.56
"""Blocks of the first round hold at most so many errors in the mean, and more than half of it."""
NEXT_ERRORS: Final = 0.55
"""The same in later rounds."""
CLEAN_ROUNDS: Final = 3
"""A frame is finished after so many rounds in a row with the longest blocks and no difference."""
BIT_BY_BIT: Final = 256
"""Shorter frames are compared bit by bit: no key can come of them."""
MAX_ROUNDS: Final = 40
"""A frame that is not finished by then is given up."""
MAX_SHARE: Final = 0.49
"""Larger shares of differing blocks tell nothing more about the error rate."""
_LENGTHS: Final = np.int64(1) << np.arange(1, MAX_WIDTH + 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Round:
    """What a round does; public.

    Attributes:
        playing: numbers of the frames that take part.
        layout: their blocks.
        orders: orders of their words, see :func:`qkdpp.kernels.hamming.places`.
    """

    playing: NDArray[np.int64]
    layout: Layout
    orders: NDArray[np.uint32]


class Batch:
    """Where the frames of a batch are; all of it is public.

    Attributes:
        start: first bit of the first frame in the key.
        n_bits: bits of all frames.
        frame_bits: length of every frame but the last.
        bits: int64[F]: their lengths.
        rate: float64[F]: the error rates thought to be left.
        clean: int64[F]: rounds in a row without a difference, with the longest blocks.
        disclosed: int64[F]: sums and bits of syndromes so far.
        rounds: rounds ended.
    """

    def __init__(self, start: int, n_bits: int, frame_bits: int, rate: float) -> None:
        """Bits ``start`` to ``start + n_bits`` of a key: frames of ``frame_bits`` and a shorter last one.

        Errors are expected at ``rate``.
        """
        count = -(-n_bits // frame_bits)
        self.start, self.n_bits, self.frame_bits = start, n_bits, frame_bits
        self.bits = np.full(count, frame_bits, dtype=np.int64)
        self.bits[-1] = n_bits - (count - 1) * frame_bits
        self.rate = np.full(count, rate)
        self.clean, self.disclosed = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        self.rounds = 0
        self._words = (self.bits + 63) >> 6
        self._longest = np.where(self.bits < BIT_BY_BIT, 0, _bit_length(self._words - 1))

    def __len__(self) -> int:
        return self.bits.size

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Frames that both sides believe equal."""
        finished: NDArray[np.bool_] = self.clean >= CLEAN_ROUNDS
        return finished

    def begin_round(self, seed: bytes, label: str) -> Round | None:
        """The next round, its coins from the stream named after ``label`` and the round; None: no frame takes part."""
        if self.rounds >= MAX_ROUNDS:
            return None
        playing = np.flatnonzero(~self.finished & ((self.disclosed < self.bits) | (self.rounds == 0)))
        if not playing.size:
            return None
        words = self._words[playing]
        sizes = np.unique(words)
        orders = [
            places(np.frombuffer(expand(seed, f"{label} round {self.rounds} {n}", 4 * int(n)), dtype="<u4"))
            for n in sizes
        ]
        starts = np.cumsum([0] + [order.size for order in orders])
        layout = Layout.of(
            self.start + playing * self.frame_bits,
            self.bits[playing],
            playing * n_words(self.frame_bits),
            starts[np.searchsorted(sizes, words)],
            self._widths(playing),
        )
        return Round(playing=playing, layout=layout, orders=np.concatenate(orders))

    def _widths(self, playing: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of each frame the logarithm of its block length."""
        wanted = NEXT_ERRORS if self.rounds else FIRST_ERRORS
        few = _LENGTHS * self.rate[playing, None] <= wanted
        widths: NDArray[np.int64] = np.minimum(few.sum(axis=1, dtype=np.int64), self._longest[playing])
        return widths

    def end_round(self, played: Round, odd: NDArray[np.int64]) -> None:
        """Takes of each frame the number of blocks that differed and were corrected."""
        frames, widths = played.playing, played.layout.widths
        blocks = 64 * played.layout.groups()
        left = left_errors(np.minimum(odd / blocks, MAX_SHARE)) * blocks / self.bits[frames]
        self.rate[frames] = np.where(odd == 0, self.rate[frames] / 8.0, left)
        self.disclosed[frames] += blocks + odd * widths
        clean = np.where((odd == 0) & (widths == self._longest[frames]), self.clean[frames] + 1, 0)
        self.clean[frames] = np.where(widths == 0, CLEAN_ROUNDS, clean)
        self.rounds += 1


def left_errors(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean number of errors left in a block when ``share`` of the blocks had an odd number and were corrected.

    With a Poissonian number of mean m, a single error goes, other odd numbers mostly grow by one: what is left has
    the mean ``m + share - 2 m exp(-m)``, and ``exp(-2 m) = 1 - 2 share``.
    """
    mean = mean_errors(share)
    return mean + share - 2.0 * mean * np.sqrt(1.0 - 2.0 * share)


def _bit_length(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Binary digits of numbers from 0 to 2**20."""
    digits: NDArray[np.int64] = (numbers[:, None] >= np.append(1, _LENGTHS)).sum(axis=1, dtype=np.int64)
    return digits
