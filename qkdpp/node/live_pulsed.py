"""A live stream of a pulsed link's tags, cut into blocks of pulse numbers.

Block ``k`` of an epoch holds pulses ``k n`` to ``(k + 1) n``. Tags are kept
until the block they belong to is complete; where it begins in local time is
known from the clock of the block before, and for the first one from a guess.
Every block recovers its own clock and its pulse numbers from the public string,
so that a mistake in one block cannot reach the next. A block without a lock is
dropped and makes the next search wider. Memory is bounded: what exceeds
``most_blocks`` complete blocks is dropped, oldest first, whole blocks of all
detectors at once. A block is cut only when the instrument has spoken its verdict
on all of it (:meth:`PulsedBlocks.confirm`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.entropy import Entropy
from qkdpp.core.tags import AS_PER_S, TimeTags, concatenate
from qkdpp.timing.detect import Detections
from qkdpp.timing.pulsed import PulsedParams, Recovered, detections, recover

GUARD_S = 1e-3
"""Tags this long before and after a block are given to its clock."""
RATE_RANGE = 1e-4
"""Largest relative error of a free-running clock: an unconfirmed guess spoils at this rate."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """The tags of one block with some around them, and where its first pulse is expected."""

    number: int
    tags: TimeTags
    begin_tick: int
    range_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveBlock:
    """Detections of one block; ``detections.slots`` count from the first pulse of the block."""

    number: int
    detections: Detections
    recovered: Recovered
    tags: TimeTags = field(repr=False)


@dataclass(slots=True, kw_only=True)
class _Anchor:
    """Pulse ``pulse`` arrived at ``tick``, give or take ``range_s``."""

    tick: int
    pulse: int
    ticks_per_pulse: float
    range_s: float

    def tick_of(self, pulse: int) -> int:
        return self.tick + round((pulse - self.pulse) * self.ticks_per_pulse)


class PulsedBlocks:
    """Cuts one epoch of one tagger's stream into blocks.

    Args:
        params: how the link is timed; its hint and range are replaced block by block.
        tick_as: attoseconds per tick of the stream.
        n_pulses: pulses of a block, whole frames of the string.
        start_tick: local tick at which pulse zero is expected; ``start_range_s``: how far that may be wrong.
        most_blocks: complete blocks that may wait.
    """

    def __init__(
        self,
        params: PulsedParams,
        *,
        tick_as: int,
        n_pulses: int,
        start_tick: int,
        start_range_s: float,
        most_blocks: int = 2,
    ) -> None:
        if params.string is not None and n_pulses % params.string.frame:
            raise ValueError("a block must hold whole frames of the synchronisation string")
        self.params = params
        self.n_pulses = n_pulses
        self.tick_as = tick_as
        self.lost_locks = 0
        self._start_range_s = start_range_s
        self._most_blocks = most_blocks
        self._held: deque[TimeTags] = deque()
        self._next = 0
        self._now_tick = self._confirmed = -(1 << 62)
        slope = params.pulse_period_as / tick_as
        self._anchor = _Anchor(tick=start_tick, pulse=0, ticks_per_pulse=slope, range_s=start_range_s)

    def add(self, chunk: TimeTags) -> list[int]:
        """Takes the next tags of the stream; numbers of the blocks that are dropped for want of room."""
        if chunk.tick_as != self.tick_as:
            raise ValueError(f"a stream of {self.tick_as} as a tick goes on with {chunk.tick_as}")
        if len(chunk) or chunk.lost:
            self._held.append(chunk)
        if len(chunk):
            self._now_tick = max(self._now_tick, int(chunk.ticks[-1]))
        dropped = []
        while self._end(self._next + self._most_blocks) < self._now_tick:
            dropped.append(self._next)
            self._skip()
        return dropped

    def confirm(self, tick: int) -> None:
        """No loss before this tick can come to light any more."""
        self._confirmed = max(self._confirmed, tick)

    @property
    def unjudged(self) -> bool:
        """Whether nothing but the verdict is missing from the next block."""
        return self._confirmed <= self._end(self._next) < self._now_tick

    def pulse_of(self, tick: int) -> int:
        """Pulse that arrives at a tick of the stream, to the precision of a guess."""
        return self._anchor.pulse + round((tick - self._anchor.tick) / self._anchor.ticks_per_pulse)

    def cut(self) -> Cut | None:
        """The next block if all its tags are here and confirmed."""
        if self._end(self._next) >= min(self._now_tick, self._confirmed):
            return None
        begin, end = self._anchor.tick_of(self._next * self.n_pulses) - self._guard(), self._end(self._next)
        cut = Cut(
            number=self._next,
            tags=_between(concatenate(list(self._held)), begin, end) if self._held else _nothing(self.tick_as),
            begin_tick=self._anchor.tick_of(self._next * self.n_pulses),
            range_s=self._anchor.range_s,
        )
        self._skip()
        return cut

    def resolve(self, cut: Cut, entropy: Entropy) -> LiveBlock:
        """Clock and detections of a block; what it finds helps the blocks after it.

        Raises:
            Abort: NO_LOCK or TOO_FEW_DETECTIONS; the block is dropped, and the next one is searched more widely.
        """
        try:
            found = resolve(cut, self.params, self.n_pulses, entropy)
        except Abort:
            self._unlock()
            raise
        self._follow(found.recovered)
        return found

    def _guard(self) -> int:
        return round((GUARD_S + self._anchor.range_s) * AS_PER_S / self.tick_as)

    def _end(self, number: int) -> int:
        return self._anchor.tick_of((number + 1) * self.n_pulses) + self._guard()

    def _skip(self) -> None:
        self._next += 1
        oldest = self._anchor.tick_of(self._next * self.n_pulses) - 2 * self._guard()
        while self._held and _last_tick(self._held[0]) < oldest:
            self._held.popleft()

    def _follow(self, recovered: Recovered) -> None:
        clock = recovered.clock
        at = int(np.flatnonzero(clock.locked)[-1])
        self.lost_locks = 0
        self._anchor = _Anchor(
            tick=int(clock.knot_ticks[at]),
            pulse=int(clock.knot_slot[at]),
            ticks_per_pulse=1.0 / float(clock.slots_per_tick[at]),
            range_s=GUARD_S,
        )

    def _unlock(self) -> None:
        self.lost_locks += 1
        block_s = self.n_pulses * self.params.pulse_period_as / AS_PER_S
        wider = self._anchor.range_s + self.lost_locks * block_s * RATE_RANGE
        self._anchor.range_s = min(wider, max(self._start_range_s, GUARD_S))


def resolve(cut: Cut, params: PulsedParams, n_pulses: int, entropy: Entropy) -> LiveBlock:
    """Clock and detections of a block of ``n_pulses``; ``params`` without hint and range. Abort as in the class."""
    first_pulse = cut.number * n_pulses
    params = replace(
        params,
        offset_hint_s=cut.begin_tick * cut.tags.tick_as / AS_PER_S,
        offset_hint_pulse=first_pulse,
        offset_range_s=cut.range_s,
    )
    if not len(cut.tags):
        raise Abort(AbortReason.TOO_FEW_DETECTIONS, block=cut.number, tags=0)
    recovered = recover(cut.tags, params)
    found = _within(detections(cut.tags, recovered, params, entropy), first_pulse, n_pulses)
    return LiveBlock(number=cut.number, detections=found, recovered=recovered, tags=cut.tags)


def _last_tick(chunk: TimeTags) -> int:
    ends = [int(chunk.ticks[-1])] if len(chunk) else []
    return max(ends + [end for _, end in chunk.lost])


def _nothing(tick_as: int) -> TimeTags:
    return TimeTags(
        ticks=np.empty(0, dtype=np.int64), channel=np.empty(0, dtype=np.uint8), channel_ids=(), tick_as=tick_as
    )


def _between(tags: TimeTags, begin: int, end: int) -> TimeTags:
    """Tags and lost intervals from ``begin`` to ``end`` (ticks)."""
    first, last = np.searchsorted(tags.ticks, [begin, end])
    lost = tuple((max(a, begin), min(b, end)) for a, b in tags.lost if a < end and b > begin)
    return replace(tags, ticks=tags.ticks[first:last], channel=tags.channel[first:last], lost=lost)


def _within(found: Detections, first_pulse: int, n_pulses: int) -> Detections:
    """Detections of the block alone, slots counted from its first pulse; the counters are those of all its tags."""
    first, last = np.searchsorted(found.slots, [first_pulse, first_pulse + n_pulses])
    inside = slice(int(first), int(last))
    return replace(
        found,
        slots=found.slots[inside] - first_pulse,
        basis=found.basis[inside],
        bit=found.bit[inside],
        time_s=found.time_s[inside],
    )
