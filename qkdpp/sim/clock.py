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
    """Reads true time (int64 fs) as local time (int64 fs); monotone for any rate a clock can have."""

    def __init__(self, plan: scenario.Clock, duration_s: float, rng: np.random.Generator) -> None:
        self.plan = plan
        self.offset_fs = round(plan.offset_s * FS_PER_S)
        reach = duration_s + 4e-3 * plan.lead_ms + 1.0
        steps = rng.normal(size=int(reach / WALK_STEP_S) + 2) * plan.walk_ps_per_sqrt_s * WALK_STEP_S**0.5
        self.walk_fs = np.concatenate([[0.0], np.cumsum(steps)]) * 1e3

    def read(self, true_fs: Femtoseconds) -> Femtoseconds:
        """Local time in fs."""
        t = true_fs.astype(np.float64) / FS_PER_S
        wrong = self.plan.rate_ppm * 1e-6 * t + 0.5 * self.plan.drift_ppm_per_s * 1e-6 * t * t
        wrong_fs = wrong * FS_PER_S + self._walked(t / WALK_STEP_S)
        return np.asarray(true_fs + self.offset_fs + np.rint(wrong_fs).astype(np.int64))

    def _walked(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """The walk between its nodes (fs); constant beyond its ends."""
        inside = np.clip(at, 0.0, self.walk_fs.size - 1)
        node = np.minimum(inside.astype(np.int64), self.walk_fs.size - 2)
        begin = self.walk_fs[node]
        return np.asarray(begin + (self.walk_fs[node + 1] - begin) * (inside - node))


def ticks(local_fs: Femtoseconds, tick_as: int) -> NDArray[np.int64]:
    """Local time as whole ticks (rounded down), in integers; ``tick_as`` is a multiple of 250."""
    common = int(np.gcd(tick_as, 1000))
    return np.asarray(local_fs * (1000 // common) // (tick_as // common))
