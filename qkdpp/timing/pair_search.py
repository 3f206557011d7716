"""Offset and rate between two free-running clocks, from one public segment of the peer's tags.

The segment, stretched by every rate of a grid, is correlated with the own tags
by Fourier transforms of bounded size (overlap-save); the peak must exceed what
the number of trials makes by chance and lie well above the scatter of the
correlation itself, which real detectors (echoes, dead time) make larger than
Poisson. Specification: clock recovery, design rules for pair sources.

Times here are float64 nanoseconds relative to the start of the segment (peer)
and to the tick expected there (own): at most some seconds, so a double resolves
them to better than a femtosecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, sqrt

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BIN_NS = (2048.0, 512.0, 128.0, 32.0)
"""Bin widths that are tried, widest first."""
MAX_TRANSFORM = 1 << 21
FIRST_EFFORT = 1 << 26
"""The search begins with the finest bins that cost at most so many (bins times rates)."""
LAST_EFFORT = 1 << 31
MIN_PAIRS = 12
"""Fewer coincidences above the mean make no peak, whatever the scatter."""
MARGIN = 2.0
"""Significance asked for beyond what the number of trials makes by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coarse:
    """A peak: own time minus peer's time at the start of the segment, relative rate, and how sure.

    Attributes:
        offset_ns: to half a bin.
        rate: to a quarter of ``bin_ns`` over the length of the segment.
        bin_ns: bin width that found it.
        significance: height over the mean, in standard deviations of the correlation.
        threshold: significance that was asked for.
    """

    offset_ns: float
    rate: float
    bin_ns: float
    significance: float
    threshold: float


def rates(max_rate: float, length_ns: float, bin_ns: float) -> Floats:
    """Grid of relative rates, half a bin apart at the end of the segment, zero in the middle."""
    n = ceil(max_rate * length_ns / (0.5 * bin_ns))
    return np.arange(-n, n + 1, dtype=np.float64) * (0.5 * bin_ns / length_ns)


def search(peer_ns: Floats, own_ns: Floats, *, length_ns: float, range_ns: float, max_rate: float) -> Coarse | None:
    """Looks for the segment in the own tags; None if nothing stands out.

    Args:
        peer_ns: float64[a], the segment's tags from its start, sorted.
        own_ns: float64[b], own tags from the tick expected at the segment's start, sorted.
        length_ns: length of the segment.
        range_ns: the expectation may be wrong by so much either way.
        max_rate: largest relative rate, either way.
    """
    if peer_ns.size < MIN_PAIRS or own_ns.size < MIN_PAIRS:
        return None
    first = max(-range_ns, float(own_ns[0]))
    last = min(range_ns + length_ns * (1 + max_rate), float(own_ns[-1]))
    if last - first < length_ns * (1 + max_rate):
        return None
    efforts = [(last - first) / b * rates(max_rate, length_ns, b).size for b in BIN_NS]
    begin = max((i for i, effort in enumerate(efforts) if effort <= FIRST_EFFORT), default=0)
    for bin_ns, effort in list(zip(BIN_NS, efforts, strict=True))[begin:]:
        if effort > LAST_EFFORT:
            return None
        found = _search_bins(peer_ns, own_ns, (first, last), length_ns=length_ns, bin_ns=bin_ns, max_rate=max_rate)
        if found is not None:
            return found
    return None


def _search_bins(
    peer_ns: Floats, own_ns: Floats, span_ns: tuple[float, float], *, length_ns: float, bin_ns: float, max_rate: float
) -> Coarse | None:
    """The search with one bin width."""
    first, last = span_ns
    grid = rates(max_rate, length_ns, bin_ns)
    template = ceil(length_ns * (1 + max_rate) / bin_ns) + 1
    total = int((last - first) / bin_ns)
    lags = total - template + 1
    if lags < 16:
        return None
    peaks = _correlate(peer_ns, own_ns - first, bin_ns=bin_ns, grid=grid, template=template, lags=lags)
    mean, deviation, top, lag, which = peaks
    threshold = sqrt(2 * log(lags * grid.size)) + MARGIN
    significance = (top - mean) / max(deviation, sqrt(max(mean, 1.0)))
    if significance < threshold or top - mean < MIN_PAIRS or not unlikely(top, mean, deviation, lags * grid.size):
        return None
    return Coarse(
        offset_ns=first + lag * bin_ns,
        rate=float(grid[which]),
        bin_ns=bin_ns,
        significance=significance,
        threshold=threshold,
    )


def unlikely(top: float, mean: float, deviation: float, trials: int) -> bool:
    """Whether a Poisson count with the correlation's own dispersion reaches ``top`` in all trials with chance < 1e-6.

    Chernoff: P(X >= k) <= exp(-m) (e m / k)^k for a Poisson mean m < k.
    """
    dispersion = max(deviation**2 / mean, 1.0) if mean > 0 else 1.0
    k, m = top / dispersion, max(mean, 1e-3) / dispersion
    return k > m and k - m - k * log(k / m) < log(1e-6 / trials)


def _correlate(
    peer_ns: Floats, own_ns: Floats, *, bin_ns: float, grid: Floats, template: int, lags: int
) -> tuple[float, float, float, int, int]:
    """Mean, standard deviation and maximum of the correlation over all lags and rates; lag and rate of the maximum."""
    from scipy import fft  # noqa: PLC0415 - slow to import

    size = 1 << max(10, (2 * template + min(lags, MAX_TRANSFORM)).bit_length())
    size = max(min(size, MAX_TRANSFORM), 1 << (2 * template - 1).bit_length())
    step = size - template + 1
    templates = []
    for rate in grid:
        binned = np.bincount((peer_ns * (1 + rate) / bin_ns).astype(np.int64), minlength=size)[:size]
        templates.append(fft.rfft(binned.astype(np.float32)).conj())
    own = (own_ns / bin_ns).astype(np.int64)
    count, total, squares, top, at = 0, 0.0, 0.0, -1.0, (0, 0)
    for begin in range(0, lags, step):
        low, high = np.searchsorted(own, [begin, begin + size])
        block = fft.rfft(np.bincount(own[low:high] - begin, minlength=size).astype(np.float32))
        valid = min(step, lags - begin)
        for which, one in enumerate(templates):
            c = fft.irfft(block * one, n=size)[:valid]
            count += valid
            total += float(c.sum(dtype=np.float64))
            squares += float(np.square(c, dtype=np.float64).sum())
            peak = int(np.argmax(c))
            if c[peak] > top:
                top, at = float(c[peak]), (begin + peak, which)
    mean = total / count
    return mean, sqrt(max(squares / count - mean**2, 0.0)), top, *at
