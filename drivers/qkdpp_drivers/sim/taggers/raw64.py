"""A simulated unit that streams bare 64-bit words (S-Fifteen ``a1``) and takes no commands."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import EdgeSource, PoissonEdges
from qkdpp_drivers.sim.simulated import Clock, SimulatedInstrument

DUMMY_S = 0.1
FILLER = 0x300


class SimRaw64(SimulatedInstrument):
    """The unit; a dummy word comes every ``DUMMY_S``, and neighbouring words may be swapped, as real cards do.

    Args:
        edges: what comes to its inputs.
        clock: seconds.
        faults: of ``FAULTS``.
        rng: places the faults.
        halves_swapped: high half of each word first.
        fifth_input: whether there is one, in bit 5.
    """

    FAULTS: ClassVar[dict[str, str]] = {
        "byte_slip": "three bytes of the stream are lost",
        "spoilt_word": "one word has a wrong time",
        "swapped": "some neighbouring words come in the wrong order",
        "new_zero": "the unit's clock starts again",
        "stalled": "the stream falls silent",
    }

    def __init__(
        self,
        edges: EdgeSource,
        *,
        clock: Clock,
        faults: Faults,
        rng: np.random.Generator,
        halves_swapped: bool = False,
        fifth_input: bool = False,
    ) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self.edges, self.halves_swapped = edges, halves_swapped
        self._flag = np.array([1, 2, 4, 8, 32 if fifth_input else 0], dtype=np.int64)
        self._dummies = 0
        self._zero_ps = 0
        self._polled_s = 0.0

    def receive(self, data: bytes) -> None:
        """Nothing is understood."""

    def poll(self) -> bytes:
        """The words since the last call."""
        now = self.clock()
        if self.faults.fires("new_zero"):
            self._zero_ps = round(self._polled_s * 1e12)
        self._polled_s = now
        times_ps, inputs = self.edges.edges(now)
        dummies = np.arange(self._dummies, int(now / DUMMY_S) + 1)
        self._dummies += dummies.size
        time_ps = np.concatenate([times_ps, dummies * round(DUMMY_S * 1e12)]) - self._zero_ps
        low = np.concatenate([self._flag[inputs], np.full(dummies.size, 0x10)])
        order = np.argsort(time_ps, kind="stable")
        time_ps, low = time_ps[order], low[order]
        time = time_ps // 125 * 32 + time_ps % 125 * 32 // 125
        if "stalled" in self.faults or not time.size:
            return b""
        if time.size > 2 and self.faults.fires("spoilt_word"):
            time[1] += 1 << 50
        if "swapped" in self.faults:
            at = np.arange(0, time.size - 1, 300)
            order = np.arange(time.size)
            order[at], order[at + 1] = at + 1, at
            time, low = time[order], low[order]
        words = (time.astype("<u8") << np.uint64(10)) | (low | FILLER).astype("<u8")
        if self.halves_swapped:
            words = (words << np.uint64(32)) | (words >> np.uint64(32))
        data: bytes = words.astype("<u8").tobytes()
        return data[3:] if self.faults.fires("byte_slip") else data


def alone(clock: Clock, rng: np.random.Generator) -> SimRaw64:
    """One with Poisson events at all inputs."""
    edges = PoissonEdges((2000.0, 2000.0, 1000.0, 500.0), rng)
    return SimRaw64(edges, clock=clock, faults=Faults(SimRaw64.FAULTS), rng=rng)
