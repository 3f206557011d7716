"""An entangled-pair laboratory: one source between two receivers, each with its own tagger and clock."""

from __future__ import annotations

import threading
from collections import deque

import msgspec

from qkdpp.scenarios import scenario
from qkdpp.sim.clock import FS_PER_S
from qkdpp.sim.pairs import NO_SYNC, PairRun
from qkdpp_drivers.sim.ports import Edges
from qkdpp_drivers.sim.world.pulsed import MOST_S, joined

SLICE_S = 0.02


class PairWorld:
    """The laboratory.

    Args:
        plan: a ``bbm92`` scenario; its duration does not matter here.
        seed: of everything that happens here.
    """

    def __init__(self, plan: scenario.Scenario, seed: int) -> None:
        self.run = PairRun(msgspec.structs.replace(plan, duration_s=MOST_S), seed)
        self.lock = threading.RLock()
        self.now_fs = 0
        self._waiting: tuple[deque[Edges], deque[Edges]] = (deque(), deque())

    def advance(self, now_s: float) -> None:
        """Lets everything happen until ``now_s`` (laboratory time, seconds)."""
        if now_s > MOST_S:
            raise ValueError(f"a simulated laboratory runs for {MOST_S:g} s at most")
        step = round(SLICE_S * FS_PER_S)
        with self.lock:
            while self.now_fs + step <= now_s * FS_PER_S:
                self._slice(self.now_fs + step)

    def _slice(self, until_fs: int) -> None:
        light = self.run.light(self.now_fs, until_fs)
        for side, mine, waiting in zip(self.run.sides, light, self._waiting, strict=True):
            tags, _ = side.chain.push(mine, NO_SYNC, until_fs + side.path.delay_fs, last=False)
            waiting.append((tags.ticks * (tags.tick_as // 1_000_000), tags.channel))
        self.now_fs = until_fs

    def edges(self, side: int, until_s: float) -> Edges:
        """Edges at the tagger of Alice (0) or Bob (1) since the last call."""
        with self.lock:
            self.advance(until_s)
            waiting = list(self._waiting[side])
            self._waiting[side].clear()
        return joined(waiting)
