"""A party's clock: what it shows at a given true time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkdpp.scenarios import scenario

FS_PER_S = 10**15
WALK_STEP_S = 0.01
"""Distance of the nodes of the random walk; in between it is a straight line."""

Femtoseconds = NDArray[np.int64]


class LocalClock:
    """Reads true time (int64 fs) as local time (int64 fs); monotone for any rate a clock can have.

    Both count from ``base_s``, which :meth:`rebase` moves on: femtoseconds fill int64 after 9,223 s. With ``cycle_s``
    the drift comes and goes with that period; else it never ends.
    """

    def __init__(
        self, plan: scenario.Clock, duration_s: float, rng: np.random.Generator, *, cycle_s: float = 0.0
    ) -> None:
        self.plan, self.cycle_s, self._later = plan, cycle_s, rng.spawn(1)[0]
        self.base_s = 0
        self.offset_fs = round(plan.offset_s * FS_PER_S)
        reach = duration_s + 4e-3 * plan.lead_ms + 1.0
        steps = rng.normal(size=int(reach / WALK_STEP_S) + 2) * plan.walk_ps_per_sqrt_s * WALK_STEP_S**0.5
        self.walk_fs = np.concatenate([[0.0], np.cumsum(steps)]) * 1e3

    def read(self, true_fs: Femtoseconds) -> Femtoseconds:
        """Local time in fs."""
        since = true_fs.astype(np.float64) / FS_PER_S
        t = self.base_s + since
        wrong = self.plan.rate_ppm * 1e-6 * t + self.plan.drift_ppm_per_s * 1e-6 * self._drifted(t)
        wrong_fs = wrong * FS_PER_S + self._walked(since / WALK_STEP_S)
        return np.asarray(true_fs + self.offset_fs + np.rint(wrong_fs).astype(np.int64))

    def rebase(self, seconds: int) -> None:
        """Counts from ``seconds`` later on; nothing before that will be read any more."""
        self.base_s += seconds
        gone = round(seconds / WALK_STEP_S)
        steps = self._later.normal(size=gone) * self.plan.walk_ps_per_sqrt_s * WALK_STEP_S**0.5
        self.walk_fs = np.concatenate([self.walk_fs[gone:], self.walk_fs[-1] + np.cumsum(steps) * 1e3])

    def _drifted(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Twice integrated drift of 1/s^2, in s."""
        if not self.cycle_s:
            return 0.5 * t * t
        turns = 2.0 * np.pi / self.cycle_s
        return np.asarray((1.0 - np.cos(turns * t)) / turns**2)

    def _walked(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """The walk between its nodes (fs); constant beyond its ends."""
        inside = np.clip(at, 0.0, self.walk_fs.size - 1)
        node = np.minimum(inside.astype(np.int64), self.walk_fs.size - 2)
        begin = self.walk_fs[node]
        return np.asarray(begin + (self.walk_fs[node + 1] - begin) * (inside - node))


def ticks(local_fs: Femtoseconds, tick_as: int, base_s: int = 0) -> NDArray[np.int64]:
    """Local time, ``base_s`` later, as whole ticks (rounded down), in integers; ``tick_as`` is a multiple of 250."""
    common = int(np.gcd(tick_as, 1000))
    whole, rest = divmod(base_s * 1000 * FS_PER_S, tick_as)
    return np.asarray(whole + (local_fs * (1000 // common) + rest // common) // (tick_as // common))
