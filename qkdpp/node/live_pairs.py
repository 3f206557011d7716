"""A live stream of a pair receiver's tags, cut into intervals of local time.

Interval ``k`` lasts from ``begin + k length`` to ``begin + (k + 1) length`` by the party's own clock; its ticks are
counted from its beginning, so that what the two parties' intervals are apart is small and stays so: the party that
follows moves its beginnings by what the coincidences of earlier intervals showed (:meth:`PairBlocks.follow`). An
interval is given out only when the instrument has spoken its verdict on all of it (:meth:`PairBlocks.confirm`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.tags import AS_PER_S, TimeTags, concatenate
from qkdpp.timing.pair_track import DRIFT_PER_S
from qkdpp.timing.pair_values import Expected

MOST_BEGUN = 100
"""Intervals of which it is remembered where they began."""
STEADY_S = 1e-6
"""Where a lock says that an interval begins is never trusted more closely."""
LONGEST_REACH_S = 1e-3
"""A lock so old that the interval may begin further away says nothing."""


class PairBlocks:
    """Cuts one stream.

    Args:
        tick_as: attoseconds per tick.
        begin_tick: beginning of interval 0.
        length_s: of an interval.
        most_blocks: complete intervals that may wait; older ones are dropped whole.
    """

    def __init__(self, *, tick_as: int, begin_tick: int, length_s: float, most_blocks: int = 3) -> None:
        self.tick_as = tick_as
        self._length = length_s * AS_PER_S / tick_as
        self._most = most_blocks
        self._anchor = (0, begin_tick, 0.0)
        self._held: deque[TimeTags] = deque()
        self._begun: dict[int, int] = {}
        self._locked = False
        self._newest = self._confirmed = -(1 << 62)
        self.next = 0

    def begin(self, number: int) -> int:
        """First tick of an interval."""
        anchor, tick, rate = self._anchor
        return tick + round((number - anchor) * self._length * (1.0 + rate))

    def add(self, chunk: TimeTags) -> None:
        """Takes the next tags of the stream."""
        if len(chunk) or chunk.lost:
            self._held.append(chunk)
        if len(chunk):
            self._newest = max(self._newest, int(chunk.ticks[-1]))
        oldest = self.begin(self.next)
        while self._held and _last_tick(self._held[0]) < oldest:
            self._held.popleft()

    def confirm(self, tick: int) -> None:
        """No loss before this tick can come to light any more."""
        self._confirmed = max(self._confirmed, tick)

    @property
    def unjudged(self) -> bool:
        """Whether nothing but the verdict is missing from the next interval."""
        return self._newest >= self.begin(self.next + 1) > self._confirmed

    def _is_complete(self, number: int) -> bool:
        return min(self._newest, self._confirmed) >= self.begin(number + 1)

    def complete(self) -> int | None:
        """Number of the next interval if all its tags are here and confirmed."""
        return self.next if self._is_complete(self.next) else None

    def overdue(self) -> list[int]:
        """Drops intervals beyond those that may wait; which."""
        dropped = []
        while self._newest >= self.begin(self.next + self._most + 1):
            dropped.append(self.next)
            self.next += 1
        return dropped

    def take(self, number: int) -> TimeTags | None:
        """Tags of an interval, ticks from its beginning; None while it is not complete, or when it is gone.

        Intervals before it are dropped.
        """
        if number < self.next or not self._is_complete(number):
            return None
        begin, end = self.begin(number), self.begin(number + 1)
        self._begun[number], self.next = begin, number + 1
        if len(self._begun) > MOST_BEGUN:
            del self._begun[min(self._begun)]
        tags = concatenate(list(self._held))
        first, last = np.searchsorted(tags.ticks, [begin, end])
        lost = tuple((max(a, begin) - begin, min(b, end) - begin) for a, b in tags.lost if a < end and b > begin)
        return replace(tags, ticks=tags.ticks[first:last] - begin, channel=tags.channel[first:last], lost=lost)

    def expected(self, number: int) -> Expected | None:
        """What the newest lock says of an interval that was given out just now; None before the first.

        A rate that changes by twice the declared drift all the time has moved the clock by ``drift t^2`` after ``t``.
        """
        anchor, _, rate = self._anchor
        if not self._locked:
            return None
        since_s = (number + 1 - anchor) * self._length * self.tick_as / AS_PER_S
        reach_s = STEADY_S + DRIFT_PER_S * since_s**2
        if reach_s > LONGEST_REACH_S:
            return None
        return Expected(reach_s=reach_s, rate=rate, max_change=2 * DRIFT_PER_S * since_s)

    def follow(self, number: int, offset_s: float, rate: float) -> None:
        """Interval ``number`` began ``offset_s`` too early against the peer's; this clock runs fast by ``rate``.

        The interval was given out before others were moved: what counts is where it began then.
        """
        begun = self._begun.get(number)
        if begun is None or number < self._anchor[0]:
            return
        self._locked = True
        self._anchor = (number, begun + round(offset_s * AS_PER_S / self.tick_as), rate)
        self._begun = {later: tick for later, tick in self._begun.items() if later > number}


def lost_share(tags: TimeTags, length_s: float) -> float:
    """Share of an interval of ``length_s`` that is lost; ``tags`` as given out by :meth:`PairBlocks.take`."""
    lost, until = 0, 0
    for start, end in sorted(tags.lost):
        lost += max(0, end - max(start, until))
        until = max(until, end)
    return lost * tags.tick_as / AS_PER_S / length_s


def clicks(tags: TimeTags, detector_of_channel: Mapping[int, int]) -> NDArray[np.int64]:
    """Tags of every detector, int64[4]."""
    by_index = np.bincount(tags.channel, minlength=len(tags.channel_ids))
    found = np.zeros(4, dtype=np.int64)
    for index, channel in enumerate(tags.channel_ids):
        if channel in detector_of_channel:
            found[detector_of_channel[channel]] += by_index[index]
    return found


def _last_tick(chunk: TimeTags) -> int:
    ends = [int(chunk.ticks[-1])] if len(chunk) else []
    return max(ends + [end for _, end in chunk.lost])
