"""Where each detector's arrivals lie against the clock, block by block: a delay that moves while keys are made is seen.

The detectors are compared with each other and, where a sync channel gives the clock, also with the sync pulses. What
all four move together is followed slowly (temperature of the fibre: picoseconds in minutes); what one moves against the
others never is (Chen et al. 2021, Extended Data Table 1, channel calibration).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.tags import AS_PER_PS
from qkdpp.node.live_pulsed import LiveBlock
from qkdpp.node.monitors import SIGMA, Alarm, AlarmSettings, judge_delays

FOLLOWED_PS_PER_S = 0.1
"""All detectors together may move so fast without an alarm."""

Floats = NDArray[np.float64]


class DelayWatch:
    """Compares every block with the first one.

    Args:
        detector_of_channel: detector code of every instrument channel.
        pulse_period_as: whole pulse periods are not seen.
        synchronous: whether the clock is that of the sync pulses.
        settings: threshold.
    """

    def __init__(
        self,
        detector_of_channel: Mapping[int, int],
        *,
        pulse_period_as: int,
        synchronous: bool,
        settings: AlarmSettings,
    ) -> None:
        self._detectors, self._synchronous, self._settings = dict(detector_of_channel), synchronous, settings
        self._period_ps = pulse_period_as / AS_PER_PS
        self._first: Floats | None = None
        self._first_error = np.zeros(4)

    def see(self, block: LiveBlock, seconds: float) -> list[Alarm]:
        """Alarms of one block of so many seconds; what lies within its statistical error raises none."""
        found = self._positions_ps(block)
        if np.isnan(found).any():
            return []
        error = _errors_ps(block)
        if self._first is None:
            self._first, self._first_error = found, error
            return []
        moved = found - self._first
        moved -= self._period_ps * np.rint(moved / self._period_ps)
        common = float(np.median(moved))
        reach = FOLLOWED_PS_PER_S * seconds
        self._first = self._first + (float(np.clip(common, -reach, reach)) if self._synchronous else common)
        moved -= 0.0 if self._synchronous else common
        sure = np.sign(moved) * np.maximum(np.abs(moved) - SIGMA * np.hypot(error, self._first_error), 0.0)
        return judge_delays([0.0] * 4, sure.tolist(), self._settings)

    def _positions_ps(self, block: LiveBlock) -> Floats:
        """Delay of each detector, NaN where it had no arrivals."""
        positions = np.full(4, np.nan)
        for channel, ticks in block.recovered.delay_ticks.items():
            if channel in self._detectors:
                positions[self._detectors[channel]] = ticks * block.tags.tick_as / AS_PER_PS
        return positions


def _errors_ps(block: LiveBlock) -> Floats:
    """Standard deviation of each peak's position: width of the peak over the root of its counts."""
    edges, counts = block.detections.histogram_edges_ps, block.detections.histogram.astype(np.float64)
    middle = (edges[:-1] + edges[1:]) / 2
    floor = np.median(counts, axis=1, keepdims=True)
    peak = np.maximum(counts - floor, 0.0)
    size = np.maximum(peak.sum(axis=1), 1.0)
    return np.asarray(np.sqrt((peak * middle**2).sum(axis=1) / size / size))
