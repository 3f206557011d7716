"""Time order for instruments that deliver their channels one after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkdpp_drivers.taggers.pending import Interval, Pending


class InOrder:
    """Holds tags back for a look-back, sorts them, and passes them on; what comes later still is dropped and flagged.

    Args:
        pending: where sorted tags go.
        look_back: ticks by which a tag may come late.
    """

    def __init__(self, pending: Pending, look_back: int) -> None:
        self.pending, self.look_back = pending, look_back
        self.newest = 0
        self._released = -(1 << 62)
        self._ticks = np.empty(0, np.int64)
        self._channel = np.empty(0, np.uint8)

    def add(self, ticks: NDArray[np.int64], channel: NDArray[np.uint8]) -> None:
        """Tags in any order."""
        if not ticks.size:
            return
        late = ticks < self._released
        if late.any():
            lost: Interval = (int(ticks[late].min()), self._released)
            self.pending.flag(("unordered",), [lost])
            ticks, channel = ticks[~late], channel[~late]
        self._ticks = np.concatenate([self._ticks, ticks])
        self._channel = np.concatenate([self._channel, channel])
        if (self._ticks[1:] < self._ticks[:-1]).any():
            order = np.argsort(self._ticks, kind="stable")
            self._ticks, self._channel = self._ticks[order], self._channel[order]
        self.newest = max(self.newest, int(self._ticks[-1])) if self._ticks.size else self.newest
        self.release(self.newest - self.look_back)

    def release(self, up_to: int | None = None) -> None:
        """Passes on what is not after ``up_to`` (None: everything)."""
        n = self._ticks.size if up_to is None else int(np.searchsorted(self._ticks, up_to, side="right"))
        if up_to is not None:
            self._released = max(self._released, up_to)
        elif n:
            self._released = int(self._ticks[-1])
        if n:
            self.pending.add(self._ticks[:n], self._channel[:n])
            self._ticks, self._channel = self._ticks[n:], self._channel[n:]
