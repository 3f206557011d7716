"""Synchronisation calibration: how much later than the sync pulse each detector clicks.

The sender sends bright pulses at the rate of the sync train only, so that every
click belongs to its sync pulse without doubt. The distances are put into bins
of 90 ps, and the fullest bin of each detector is its correction; all four are
found at the same time (Chen et al. 2021, Methods, Synchronization calibration).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.tags import AS_PER_PS, TimeTags
from qkdpp.node.calibrate.counting import Ask, Counting

SIGNIFICANCE = 6.0
"""The fullest bin holds at least this many clicks, and so many standard deviations more than the mean bin."""


class SynchronisationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Width of the bins and time of counting."""

    bin_ps: float = 90.0
    dwell_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Synchronisation:
    """What was found.

    Attributes:
        bin_ps: width of the bins.
        histogram: int64[4, b], clicks by detector and distance from the sync pulse before.
        delay_ps: float64[4], middle of the fullest bin.
        failed: detectors without a peak.
        sync_period_ps: distance of the sync pulses.
        tick_as: attoseconds per tick of the tags.
    """

    bin_ps: float
    histogram: NDArray[np.int64]
    delay_ps: tuple[float, ...]
    failed: tuple[int, ...]
    sync_period_ps: float
    tick_as: int

    def correction_ps(self, detector: int) -> float:
        """The correction; what lies behind the middle between two sync pulses belongs to the next one."""
        delay = self.delay_ps[detector]
        return delay - (self.sync_period_ps if delay > self.sync_period_ps / 2 else 0.0)

    def delay_ticks(self, detector: int) -> float:
        """The correction in ticks."""
        return self.correction_ps(detector) * AS_PER_PS / self.tick_as

    @property
    def ok(self) -> bool:
        """Whether every detector has its peak."""
        return not self.failed


def synchronise(
    counting: Counting, ask: Ask, *, sync_channel: int, sync_period_ps: float, settings: SynchronisationSettings
) -> Synchronisation:
    """Counts and finds the corrections.

    Args:
        counting: the tagger with the four detectors.
        ask: the sender.
        sync_channel: instrument channel of the sync pulses.
        sync_period_ps: nominal distance of the sync pulses.
        settings: bins and dwell.
    """
    ask.send("SYNC")
    return find_delays(
        counting.tags(settings.dwell_s),
        counting.detector_of_channel,
        sync_channel=sync_channel,
        sync_period_ps=sync_period_ps,
        bin_ps=settings.bin_ps,
    )


def find_delays(
    tags: TimeTags, detector_of_channel: dict[int, int], *, sync_channel: int, sync_period_ps: float, bin_ps: float
) -> Synchronisation:
    """The corrections from tags that hold sync pulses and clicks; arguments as for :func:`synchronise`."""
    sync = tags.of_channel(sync_channel)
    n_bins = int(np.ceil(sync_period_ps / bin_ps))
    histogram = np.zeros((4, n_bins), dtype=np.int64)
    scale = tags.tick_as / AS_PER_PS
    for channel, detector in detector_of_channel.items():
        clicks = tags.of_channel(channel)
        before = np.searchsorted(sync, clicks, side="right") - 1
        since_ps = (clicks - sync[before.clip(0)])[before >= 0] * scale if sync.size else np.empty(0)
        bins = (since_ps / bin_ps).astype(np.int64)
        histogram[detector] += np.bincount(bins[bins < n_bins], minlength=n_bins)
    top, mean = histogram.max(axis=1), histogram.mean(axis=1)
    low = (top < SIGNIFICANCE) | (top - mean < SIGNIFICANCE * np.sqrt(mean))
    return Synchronisation(
        bin_ps=bin_ps,
        histogram=histogram,
        delay_ps=tuple(float((i + 0.5) * bin_ps) for i in histogram.argmax(axis=1)),
        failed=tuple(np.flatnonzero(low).tolist()),
        sync_period_ps=sync_period_ps,
        tick_as=tags.tick_as,
    )
