"""Time tags: native integer ticks, never floats."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

AS_PER_PS = 10**6
AS_PER_S = 10**18


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TimeTags:
    """Detections of one tagger, sorted by time.

    Attributes:
        ticks: int64[n], non-decreasing, in units of ``tick_as``.
        channel: uint8[n], index into ``channel_ids``.
        channel_ids: the instrument's channel numbers (int32; may be negative or above 255). In a stream of chunks
            the tuple only grows: earlier indices keep their meaning.
        tick_as: attoseconds per tick (integer).
        lost: intervals ``(start, end)`` in ticks during which events were lost.
    """

    ticks: NDArray[np.int64]
    channel: NDArray[np.uint8]
    channel_ids: tuple[int, ...]
    tick_as: int
    lost: tuple[tuple[int, int], ...] = field(default=())

    def __len__(self) -> int:
        return int(self.ticks.size)

    def __repr__(self) -> str:
        return f"TimeTags(n={len(self)}, channel_ids={self.channel_ids}, tick_as={self.tick_as})"

    @property
    def duration_s(self) -> float:
        """Time from the first to the last tag."""
        return 0.0 if not len(self) else (int(self.ticks[-1]) - int(self.ticks[0])) * self.tick_as / AS_PER_S

    def of_channel(self, channel_id: int) -> NDArray[np.int64]:
        """Ticks of one instrument channel (empty if it never occurs)."""
        if channel_id not in self.channel_ids:
            return np.empty(0, dtype=np.int64)
        selected: NDArray[np.int64] = self.ticks[self.channel == self.channel_ids.index(channel_id)]
        return selected


def ticks_from_ps(value_ps: float, tick_as: int) -> int:
    """A duration in picoseconds as a whole number of ticks (rounded to nearest)."""
    return round(value_ps * AS_PER_PS / tick_as)


def concatenate(chunks: list[TimeTags]) -> TimeTags:
    """Chunks of one stream as one record (sorted input gives sorted output)."""
    if not chunks:
        raise ValueError("no chunks")
    last = chunks[-1]
    return TimeTags(
        ticks=np.concatenate([c.ticks for c in chunks]),
        channel=np.concatenate([c.channel for c in chunks]),
        channel_ids=last.channel_ids,
        tick_as=last.tick_as,
        lost=tuple(gap for c in chunks for gap in c.lost),
    )
