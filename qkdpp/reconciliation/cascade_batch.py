"""One party's half of a batch of Cascade: what to ask next, what the answers mean.

The public part is the same on both sides as long as both take the same
answers; ``docs/notes/cascade.md`` states the rules in words. Importing this
module compiles kernels: stages import it when a conversation begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Bits, Words, n_words
from qkdpp.kernels import cascade_frames as kernel
from qkdpp.kernels.cascade_frames import PASSES, ROWS, Entries, Frames
from qkdpp.kernels.parity import permute, scatter
from qkdpp.reconciliation import cascade_steering as steering
from qkdpp.reconciliation.cascade_coins import toss

_ADDRESS_BITS: Final = 10


@dataclass(slots=True)
class Batch:
    """Up to some 1,000 frames of a key, all in the same round.

    Attributes:
        frames: the state of the frames, with the orders drawn from the seed and this party's key.
        shuffles: int32[tables, N]: position in a frame to bit of the frame.
        corrects: whether this party changes its key.
        hint: the error rate expected.
        block, blocks: per frame, length and number of the blocks of the first pass so far.
        cutting: per frame, whether the first pass is still being cut into blocks.
        rate: per frame, the error rate estimated in the first pass.
        entries: the last round.
        cycle: rounds begun, those without a question included.
    """

    frames: Frames
    shuffles: NDArray[np.int32]
    corrects: bool
    hint: float
    block: NDArray[np.int64]
    blocks: NDArray[np.int64]
    cutting: NDArray[np.bool_]
    rate: NDArray[np.float64]
    entries: Entries
    cycle: int = 0

    def ask(self) -> Bits | None:
        """The parities of this party's key that come next; None when the batch has ended."""
        while self.cycle < steering.MAX_ROUNDS:
            wishes = self._wishes()
            if not wishes.any():
                return None
            self.entries = _room(self.frames, wishes)
            kernel.plan(self.frames, wishes, self._limits(), self.entries)
            self.cycle += 1
            out = np.zeros(n_words(_ADDRESS_BITS * int(self.entries.first[-1])), dtype=np.uint64)
            asked = kernel.parities(self.frames, self.entries, out)
            if asked:
                return Bits(out[: n_words(asked)], asked)
            kernel.absorb(self.frames, self.entries, out, self.corrects)
        return None

    def tell(self, answers: Bits) -> None:
        """Takes the answers to the last ``ask``: one bit per parity, one where the keys differ."""
        kernel.absorb(self.frames, self.entries, answers.words, self.corrects)

    def suspects(self) -> list[int]:
        """Frames that were not clean in the end."""
        return [int(f) for f in np.flatnonzero(~self._finished())]

    def add_pattern(self, pattern: Words, start: int, frame_bits: int) -> None:
        """Sets the bits of ``pattern``, frames of ``frame_bits`` from ``start``, where errors were found."""
        bits = 64 * self.frames.width
        for f, state in enumerate(self.frames.state):
            order = self.shuffles[state[kernel.TABLE], : state[kernel.LENGTH]]
            scatter(self.frames.words, (f * ROWS + kernel.WRONG) * bits, order, pattern, start + f * frame_bits)

    def _finished(self) -> NDArray[np.bool_]:
        """Frames in which no odd node is left and all masks are even."""
        state = self.frames.state
        asked = (state[:, kernel.ASKED] == 1) & (state[:, kernel.MASK_ODD] == 0) & (state[:, kernel.SEARCH] < 0)
        finished: NDArray[np.bool_] = asked & (_odd_nodes(self.frames) == 0)
        return finished

    def _wishes(self) -> NDArray[np.int64]:
        """What every frame does next, int64[F, 3] as :func:`qkdpp.kernels.cascade_frames.plan` takes it."""
        state = self.frames.state
        wishes = np.zeros((len(state), 3), dtype=np.int64)
        odd = _odd_nodes(self.frames)
        wishes[~self._finished(), 0] = kernel.SEARCH_ODD
        if self.cutting.any():
            self._cut_first_pass(wishes)
        opened = state[:, kernel.OPENED]
        due = (odd == 0) | ((self.cycle >= steering.LATE_FROM) & (opened == PASSES - 1))
        for f in np.flatnonzero(due & (opened < PASSES) & (wishes[:, 0] == kernel.SEARCH_ODD)):
            n = int(state[f, kernel.LENGTH])
            if opened[f] == PASSES - 1:
                wishes[f] = kernel.OPEN, *steering.third_blocks(n)
            else:
                wishes[f] = kernel.OPEN, *steering.second_blocks(float(self.rate[f]), n)
        return wishes

    def _limits(self) -> NDArray[np.int64]:
        """Length of a short node in each list of each frame, int64[F, PASSES]."""
        state = self.frames.state
        odd = state[:, kernel.N_ODD : kernel.N_ODD + PASSES]
        limits = np.full(odd.shape, 2, dtype=np.int64)
        for f, p in np.argwhere((odd > 0) & ~self.cutting[:, None]):
            n, opened = int(state[f, kernel.LENGTH]), int(state[f, kernel.OPENED])
            limits[f, p] = steering.short_node(float(self.rate[f]), n, tuple(odd[f].tolist()), int(p), opened)
        return limits

    def _cut_first_pass(self, wishes: NDArray[np.int64]) -> None:
        """First blocks by the hint, then halved until a block holds as many errors as wanted.

        All frames together first tell whether blocks are too long, and correct the hint.
        """
        cutting = np.flatnonzero(self.cutting)
        if self.cycle == 0:
            wishes[:, 0], wishes[:, 1], wishes[:, 2] = kernel.OPEN, 0, self.block
            return
        odd = self.frames.state[:, kernel.N_ODD]
        longest = cutting[self.block[cutting] == self.block[cutting].max()]
        block = int(self.block[longest[0]])
        rate = steering.estimate(
            int(odd[longest].sum()),
            int(self.blocks[longest].sum()),
            block,
            self.hint,
            sigmas=steering.HINT_SIGMAS,
            trusted=steering.TRUSTED_BLOCKS,
        )
        self.hint = self.hint if rate is None else rate
        trusted = min(steering.TRUSTED_FRAME, int(self.blocks[longest].sum()))
        for f in longest:
            wishes[f] = self._cut_frame(int(f), rate is None, trusted)
        for f in np.setdiff1d(cutting, longest):
            wishes[f] = self._cut_frame(int(f), False, trusted)

    def _cut_frame(self, f: int, too_long: bool, trusted: int) -> tuple[int, int, int]:
        n, block, blocks = int(self.frames.state[f, kernel.LENGTH]), int(self.block[f]), int(self.blocks[f])
        rate = None
        if not too_long:
            rate = steering.estimate(
                int(self.frames.state[f, kernel.N_ODD]),
                blocks,
                block,
                self.hint,
                sigmas=steering.FRAME_SIGMAS,
                trusted=trusted,
            )
        self.rate[f] = steering.ERRORS_PER_BLOCK_1 / block if rate is None else rate
        wanted = 2 * blocks if rate is None else steering.blocks_wanted(rate, n)
        if block > 1 and wanted >= 2 * blocks:
            self.block[f], self.blocks[f] = block // 2, -(-n // (block // 2))
            return kernel.HALVE, blocks, block
        self.cutting[f] = False
        if block > 1 and wanted > blocks:
            return kernel.HALVE, wanted - blocks, block
        return kernel.SEARCH_ODD, 0, 0


def _odd_nodes(frames: Frames) -> NDArray[np.int64]:
    """Odd nodes of each frame, all passes together."""
    total: NDArray[np.int64] = frames.state[:, kernel.N_ODD : kernel.N_ODD + PASSES].sum(axis=1)
    return total


def _room(frames: Frames, wishes: NDArray[np.int64]) -> Entries:
    """Empty entries, enough for the next round."""
    blocks = -(-frames.state[:, kernel.LENGTH] // np.maximum(wishes[:, 2], 1))
    most = np.where(wishes[:, 0] == kernel.OPEN, blocks, wishes[:, 1]) + _odd_nodes(frames) + steering.MASKS + 3
    room = int(most.sum())
    return Entries(
        np.zeros(len(wishes) + 1, dtype=np.int64),
        np.empty(room, dtype=np.uint8),
        *(np.empty(room, dtype=np.int32) for _ in range(5)),
    )


def _load(frames: Frames, key: Bits, start: int, frame_bits: int, shuffles: NDArray[np.int32]) -> None:
    """Fills the key rows with the key from bit ``start`` on, in the order of each list."""
    bits = 64 * frames.width
    orders = frames.order.reshape(-1, PASSES, bits)
    for f, state in enumerate(frames.state):
        table, n, row = state[kernel.TABLE], state[kernel.LENGTH], f * ROWS * bits
        permute(key.words, start + f * frame_bits, shuffles[table, :n], frames.words, row)
        for p in range(1, PASSES):
            permute(frames.words, row, orders[table, p, :n], frames.words, row + p * bits)


def new_batch(
    key: Bits, start: int, stop: int, *, frame_bits: int, seed: bytes, number: int, hint: float, corrects: bool
) -> Batch:
    """The batch of ``key`` from bit ``start`` to ``stop``, in frames of ``frame_bits`` and a shorter last one.

    ``number`` tells the batches of one seed apart.
    """
    count, width = -(-(stop - start) // frame_bits), n_words(frame_bits)
    rest = (stop - start) % frame_bits
    sizes = [frame_bits] if stop - start >= frame_bits else []
    state = np.zeros((count, kernel.COLUMNS), dtype=np.int64)
    state[:, kernel.LENGTH], state[:, kernel.SEARCH] = frame_bits, -1
    if rest:
        state[-1, kernel.LENGTH], state[-1, kernel.TABLE] = rest, len(sizes)
        sizes.append(rest)
    coins = toss(seed, number, frame_bits, sizes, 64 * width)
    frames = Frames(
        words=np.zeros(count * ROWS * width, dtype=np.uint64),
        state=state,
        order=coins.order.ravel(),
        place=coins.place.ravel(),
        masks=coins.masks.ravel(),
        width=width,
    )
    _load(frames, key, start, frame_bits, coins.shuffles)
    block = np.array([steering.first_block(hint, int(n)) for n in state[:, kernel.LENGTH]], dtype=np.int64)
    return Batch(
        frames=frames,
        shuffles=coins.shuffles,
        corrects=corrects,
        hint=hint,
        block=block,
        blocks=-(-state[:, kernel.LENGTH] // block),
        cutting=np.ones(count, dtype=np.bool_),
        rate=np.zeros(count),
        entries=_room(frames, np.zeros((count, 3), dtype=np.int64)),
    )
