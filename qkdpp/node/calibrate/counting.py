"""Clicks of the detectors, counted from the tags of the time tagger.

Time is the tagger's own: a dwell begins behind everything that was under way
when it was asked for, and ends when tags of a later time have arrived. Where
the tagger's clock stood then, every read tells to within its delay; the one
with the least delay counts, so that a busy computer, which reads old tags
first, does not take them for new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.devices import Chunk, TimeTagger
from qkdpp.core.errors import DeviceError
from qkdpp.core.tags import AS_PER_S, TimeTags, concatenate
from qkdpp.node.live_pairs import clicks

READ_S = 0.02
SETTLE_S = 0.01
"""Light changes and tags under way need so long."""
PATIENCE, LATENESS_S = 10.0, 5.0
"""A dwell that takes so many times its length, and so long on top, has failed."""


class Ask(Protocol):
    """What the receiver may ask of the sender while it calibrates."""

    def send(self, mode: str) -> None:
        """Sends ``H``, ``V``, ``D``, ``A``, ``SYNC``, ``RANDOM`` or ``OFF`` from now on; returns when it does."""
        ...


class Counting:
    """Collects the tags of a running tagger dwell by dwell.

    Args:
        tagger: started.
        detector_of_channel: detector code (0 to 3) of every channel that counts photons.
        now: seconds of a steady clock, to give up by.
        interrupted: whether somebody wants it to end early.
    """

    def __init__(
        self,
        tagger: TimeTagger,
        detector_of_channel: Mapping[int, int],
        now: Callable[[], float],
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.tagger, self.detector_of_channel, self.now = tagger, dict(detector_of_channel), now
        self.interrupted = interrupted

    def tags(self, dwell_s: float) -> TimeTags:
        """All tags of a time of ``dwell_s`` that begins now.

        Raises:
            DeviceError: the tagger delivers nothing, or lost tags.
        """
        asked_s = self.now()
        deadline = asked_s + LATENESS_S + PATIENCE * (dwell_s + SETTLE_S)
        first = self._read(deadline)
        per_s = AS_PER_S / first.tick_as
        settle, length = round(SETTLE_S * per_s), round(dwell_s * per_s)
        begin = int(first.ticks[-1]) + settle
        held = []
        while True:
            chunk = self._read(deadline)
            held.append(chunk)
            newest = int(chunk.ticks[-1])
            begin = max(begin, newest - round((self.now() - asked_s) * per_s) + settle)
            if newest >= begin + length:
                break
        joined = concatenate(held)
        inside = slice(*np.searchsorted(joined.ticks, [begin, begin + length]).tolist())
        return TimeTags(
            ticks=joined.ticks[inside],
            channel=joined.channel[inside],
            channel_ids=joined.channel_ids,
            tick_as=joined.tick_as,
        )

    def counts(self, dwell_s: float) -> NDArray[np.int64]:
        """Clicks of the four detectors, int64[4]."""
        return clicks(self.tags(dwell_s), self.detector_of_channel)

    def _read(self, deadline: float) -> TimeTags:
        """The next tags; at least one."""
        while self.now() < deadline:
            if self.interrupted():
                raise DeviceError("the calibration was interrupted")
            chunk: Chunk = self.tagger.read(READ_S)
            if chunk.tags.lost:
                raise DeviceError(f"the time tagger lost tags while counting ({', '.join(chunk.flags) or 'no reason'})")
            if len(chunk.tags):
                return chunk.tags
        raise DeviceError("the time tagger delivers no tags; is there light, and are its thresholds right?")
