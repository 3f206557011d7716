"""What a world holds ready for one tagger, by the tagger's own clock."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from qkdpp.core.tags import AS_PER_PS, TimeTags
from qkdpp.sim.clock import FS_PER_S, LocalClock
from qkdpp_drivers.sim.ports import Edges

MARGIN_FS = 10**9
"""Edges leave a receiver in order but for so much, at most."""


class Output:
    """Edges in order; what was asked for is complete, and nothing later is given.

    Args:
        clock: of the tagger.
    """

    def __init__(self, clock: LocalClock) -> None:
        self._clock = clock
        self._times = [np.empty(0, dtype=np.int64)]
        self._inputs = [np.empty(0, dtype=np.uint8)]

    def add(self, tags: TimeTags, jump_ps: int = 0) -> None:
        """The tags of one more step."""
        common = math.gcd(tags.tick_as, AS_PER_PS)
        self._times.append(tags.ticks * (tags.tick_as // common) // (AS_PER_PS // common) + jump_ps)
        self._inputs.append(tags.channel)

    def edges(self, until_s: float, now_fs: Callable[[], int], step: Callable[[], None]) -> Edges:
        """All edges before ``until_s`` that were not given yet; ``step`` lets time go on as far as that needs."""
        until_fs = round(until_s * FS_PER_S)
        while self._shown_fs(now_fs()) < until_fs + MARGIN_FS:
            step()
        times, inputs = np.concatenate(self._times), np.concatenate(self._inputs)
        cut = int(np.searchsorted(times, until_fs // 1000))
        self._times, self._inputs = [times[cut:]], [inputs[cut:]]
        return times[:cut], inputs[:cut]

    def _shown_fs(self, now_fs: int) -> int:
        """What the clock shows, from the beginning on."""
        return int(self._clock.read(np.array([now_fs]))[0]) + self._clock.base_s * FS_PER_S
