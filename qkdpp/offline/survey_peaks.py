"""Which channels click together, and by how much one lags the other: delay histograms and their peaks.

Looks at one sorted stream of tags that holds all channels. Assumes delays below the window on either side; a peak is
reported only where it stands far out of its own background, whose scatter is measured (echoes, dead time and uneven
converter bins make it larger than Poisson's). Method: ``docs/formats/run.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.tags import ticks_from_ps

WINDOW_PS = 250_000.0
"""Delays searched, either side of zero."""
MAX_BINS = 1 << 13
MIN_SIGNIFICANCE = 8.0
MIN_COINCIDENCES = 20
MAX_WIDTH_PS = 5_000.0
"""Widest window of a peak."""
MAX_CHANNELS = 16
MAX_NEIGHBOURS = 256
"""Later tags compared with each tag; a window never holds so many unless the stream is a burst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """A correlation peak of two channels (indices below, ``first < second``).

    Attributes:
        delay: second minus first, ticks.
        width: full width at half maximum, ticks (from the second moment).
        significance: excess over the background in standard deviations of the background.
        coincidences: excess over the background inside the window.
    """

    first: int
    second: int
    delay: float
    width: float
    significance: float
    coincidences: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delays:
    """Delay histograms of all pairs: ``counts[first, second]`` for ``first < second``, int64[c, c, bins]."""

    counts: NDArray[np.int64]
    bin_ticks: int
    half_bins: int

    def between(self, first: int, second: int, delay: float, half_width: float) -> float:
        """Coincidences above background of two channels within ``half_width`` ticks of a delay second minus first."""
        if first > second:
            first, second, delay = second, first, -delay
        row = self.counts[first, second]
        centre = delay / self.bin_ticks + self.half_bins
        low = max(0, int(np.floor(centre - half_width / self.bin_ticks)))
        high = min(row.size, int(np.ceil(centre + half_width / self.bin_ticks)) + 1)
        return float(row[low:high].sum() - background(row) * max(high - low, 0))


def delays(ticks: NDArray[np.int64], channel: NDArray[np.integer], n_channels: int, tick_as: int) -> Delays:
    """Delay histograms of every pair of different channels within :data:`WINDOW_PS`; ``ticks`` is sorted."""
    window = max(1, ticks_from_ps(WINDOW_PS, tick_as))
    bin_ticks = -(-2 * window // MAX_BINS)
    half_bins = -(-window // bin_ticks)
    bins = 2 * half_bins + 1
    counts = np.zeros(n_channels * n_channels * bins, dtype=np.int64)
    index = channel.astype(np.int64)
    for lag in range(1, min(MAX_NEIGHBOURS, ticks.size - 1) + 1):
        later = ticks[lag:] - ticks[:-lag]
        near = np.flatnonzero(later <= window)
        if not near.size:
            break
        near = near[index[near] != index[near + lag]]
        a, b, delay = index[near], index[near + lag], later[near]
        swap = a > b
        first, second = np.where(swap, b, a), np.where(swap, a, b)
        place = np.where(swap, -delay, delay) + half_bins * bin_ticks + bin_ticks // 2
        counts += np.bincount((first * n_channels + second) * bins + place // bin_ticks, minlength=counts.size)
    shaped = counts.reshape(n_channels, n_channels, bins)
    return Delays(counts=shaped, bin_ticks=bin_ticks, half_bins=half_bins)


def peaks(found: Delays, tick_as: int) -> list[Peak]:
    """The significant peak of every pair of different channels that has one, strongest first."""
    n = found.counts.shape[0]
    widest = max(1, ticks_from_ps(MAX_WIDTH_PS, tick_as) // found.bin_ticks)
    result = [_peak(found, i, j, widest) for i in range(n) for j in range(i + 1, n)]
    return sorted((p for p in result if p is not None), key=lambda p: -p.significance)


def background(row: NDArray[np.int64]) -> float:
    """Counts per bin off any peak: the median where it tells something, else the mean of the lower nine tenths."""
    median = float(np.median(row))
    return median if median >= 5 else float(np.sort(row)[: row.size * 9 // 10].mean())


def _peak(found: Delays, i: int, j: int, widest: int) -> Peak | None:
    row = found.counts[i, j]
    level = background(row)
    best: tuple[float, int, int] = (0.0, 0, 1)
    total = np.concatenate([[0], np.cumsum(row)])
    width = 1
    while width <= widest:
        sums = total[width:] - total[:-width]
        excess = sums - level * width
        scatter = 1.4826 * float(np.median(np.abs(excess - np.median(excess))))
        spread = max(scatter, float(np.sqrt(max(level * width, 1.0))))
        top = int(np.argmax(excess))
        best = max(best, (float(excess[top]) / spread, top, width))
        width *= 2
    significance, start, width = best
    net = float(total[start + width] - total[start]) - level * width
    if significance < MIN_SIGNIFICANCE or net < MIN_COINCIDENCES:
        return None
    centre, fwhm = _shape(row - level, start, width)
    if fwhm > widest:
        return None
    return Peak(
        first=i,
        second=j,
        delay=(centre - found.half_bins) * found.bin_ticks,
        width=fwhm * found.bin_ticks,
        significance=significance,
        coincidences=net,
    )


def _shape(excess: NDArray[np.float64], start: int, width: int) -> tuple[float, float]:
    """Centroid and full width at half maximum (bins) of the peak in ``excess[start : start + width]``.

    The width is that of a Gaussian with the same second moment within 2.5 standard deviations.
    """
    place = np.arange(excess.size, dtype=np.float64)
    centre, half = start + (width - 1) / 2, 2.0 * width
    sigma = half / 2.5
    for _ in range(6):
        inside = slice(max(0, round(centre - half)), round(centre + half) + 1)
        weight, x = excess[inside], place[inside]
        total = float(weight.sum())
        if total <= 0:
            break
        centre = float(np.clip((weight * x).sum() / total, x[0], x[-1]))
        sigma = float(np.sqrt(max((weight * (x - centre) ** 2).sum() / total, 0.1)))
        half = 2.5 * sigma + 0.5
    return centre, 2.355 * sigma
