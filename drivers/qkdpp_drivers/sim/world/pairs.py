"""An entangled-pair laboratory: one source between two receivers, each with its own tagger and clock."""

from __future__ import annotations

import threading

import msgspec

from qkdpp.scenarios import scenario
from qkdpp.sim.clock import FS_PER_S
from qkdpp.sim.pairs import NO_SYNC, PairRun
from qkdpp_drivers.sim.ports import Edges
from qkdpp_drivers.sim.world.output import Output
from qkdpp_drivers.sim.world.pulsed import CHAPTER_S, DRIFT_CYCLE_S, STEP_FS, from_zero


class PairWorld:
    """The laboratory.

    Args:
        plan: a ``bbm92`` scenario; its duration does not matter here.
        seed: of everything that happens here.
    """

    def __init__(self, plan: scenario.Scenario, seed: int) -> None:
        if plan.alice is None:
            raise ValueError("a pair world needs two receivers")
        parties = {"alice": from_zero(plan.alice), "bob": from_zero(plan.bob)}
        self.run = PairRun(msgspec.structs.replace(plan, duration_s=3.0 * CHAPTER_S, **parties), seed)
        self.lock = threading.RLock()
        self.now_fs = 0
        for side in self.run.sides:
            side.chain.clock.cycle_s = DRIFT_CYCLE_S
        self._outputs = [Output(side.chain.clock) for side in self.run.sides]

    def edges(self, side: int, until_s: float) -> Edges:
        """Edges at the tagger of Alice (0) or Bob (1) since the last call, by its clock."""
        with self.lock:
            return self._outputs[side].edges(until_s, lambda: self.now_fs, self.step)

    def step(self) -> None:
        """Lets the next 10 ms happen; the first time also compiles what that needs."""
        if self.now_fs >= 2 * CHAPTER_S * FS_PER_S:
            self.now_fs -= CHAPTER_S * FS_PER_S
            for side in self.run.sides:
                side.chain.rebase(CHAPTER_S)
        until_fs = self.now_fs + STEP_FS
        light = self.run.light(self.now_fs, until_fs)
        for side, mine, output in zip(self.run.sides, light, self._outputs, strict=True):
            tags, _ = side.chain.push(mine, NO_SYNC, until_fs + side.path.delay_fs, last=False)
            output.add(tags)
        self.now_fs = until_fs
