"""A recording in numbers, from one pass over it: what ``qkdpp info`` shows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from qkdpp.core.tags import AS_PER_S
from qkdpp.sources.batches import Metadata, ReadStats
from qkdpp.sources.recording import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Figures of one recording.

    Attributes:
        files: its files.
        format: short format name.
        tick_as: attoseconds per tick.
        duration_s: first to last tag; None for files without times.
        tags_by_channel: tags per instrument channel.
        lost_s: total length of the intervals in which events were lost.
        stats: what the pass found.
        metadata: what the header says.
    """

    files: tuple[str, ...]
    format: str
    tick_as: int
    duration_s: float | None
    tags_by_channel: dict[int, int]
    lost_s: float
    stats: ReadStats
    metadata: Metadata

    def rate_hz(self, tags: int) -> float | None:
        """Mean rate of so many tags; None without a duration."""
        return tags / self.duration_s if self.duration_s else None

    def as_json(self) -> dict[str, object]:
        """Plain values for JSON: channels as texts, numbers that JSON lacks as texts."""
        channels = {
            str(channel): {"tags": tags, "rate_hz": self.rate_hz(tags)}
            for channel, tags in sorted(self.tags_by_channel.items())
        }
        metadata = {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in self.metadata.items()
        }
        return {
            "files": list(self.files),
            "format": self.format,
            "tick_as": self.tick_as,
            "duration_s": self.duration_s,
            "channels": channels,
            "lost_s": self.lost_s,
            **asdict(self.stats),
            "metadata": metadata,
        }


def summarise(recording: Recording, progress: Callable[[int], None] = lambda tags: None) -> Summary:
    """Reads the whole recording once; ``progress`` is told the number of tags so far."""
    counts = np.zeros(256, dtype=np.int64)
    first: int | None = None
    last = lost = tags = 0
    for chunk in recording.chunks():
        counts += np.bincount(chunk.channel, minlength=256)
        lost += sum(end - start for start, end in chunk.lost)
        if len(chunk):
            first, last = int(chunk.ticks[0]) if first is None else first, int(chunk.ticks[-1])
        tags += len(chunk)
        progress(tags)
    timed = "timeless" not in recording.metadata
    return Summary(
        files=tuple(str(path) for path in recording.paths),
        format=recording.format,
        tick_as=recording.tick_as,
        duration_s=(last - (first or 0)) * recording.tick_as / AS_PER_S if timed else None,
        tags_by_channel={channel: int(counts[i]) for i, channel in enumerate(recording.channel_ids)},
        lost_s=lost * recording.tick_as / AS_PER_S,
        stats=recording.stats,
        metadata=recording.metadata,
    )
