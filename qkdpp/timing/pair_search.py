"""Offset and rate between two free-running clocks, from one public segment of the peer's tags.

The segment, stretched by every rate of a grid, is correlated with the own tags
by Fourier transforms of bounded size (overlap-save); the peak must exceed what
the number of trials makes by chance and lie well above the scatter of the
correlation itself, which real detectors (echoes, dead time) make larger than
Poisson. Specification: clock recovery, design rules for pair sources.

Where an earlier lock says where to look, the differences of the tags are counted
instead (:func:`search_near`); their peak must stand out by the same rule.

Times here are float64 nanoseconds relative to the start of the segment (peer)
and to the tick expected there (own): at most some seconds, so a double resolves
them to better than a femtosecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, sqrt

import numpy as np
from numpy.typing import NDArray

from qkdpp.timing.pair_events import near_pairs

Floats = NDArray[np.float64]

BIN_NS = (2048.0, 512.0, 128.0, 32.0)
"""Bin widths that are tried, widest first."""
MAX_TRANSFORM = 1 << 21
FIRST_EFFORT = 1 << 26
"""The search begins with the finest bins that cost at most so many (bins times rates)."""
MOST_EFFORT, LIVE_EFFORT = 1 << 31, 1 << 27
"""Bins times rates of a search for the clock of a recording, and of a live block, whose successor is at hand."""
NEAR_BINS_NS = (32.0, 128.0, 512.0)
"""Bin widths of a narrow search: the first by which it has to count little."""
NEAR_LAGS = 1024
"""A narrow search looks at no fewer lags: the peak must stand out from their scatter, which it is part of."""
NEAR_ROOM_NS = (NEAR_LAGS / 2 + 2) * NEAR_BINS_NS[-1]
MOST_COUNTED = 1 << 23
"""Differences (times rates) that a narrow search counts at most."""
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


def search(
    peer_ns: Floats,
    own_ns: Floats,
    *,
    length_ns: float,
    range_ns: float,
    max_rate: float,
    most_effort: int,
) -> Coarse | None:
    """Looks for the segment in the own tags; None if nothing stands out.

    Args:
        peer_ns: float64[a], the segment's tags from its start, sorted.
        own_ns: float64[b], own tags from the tick expected at the segment's start, sorted.
        length_ns: length of the segment.
        range_ns: the expectation may be wrong by so much either way.
        max_rate: largest relative rate, either way.
        most_effort: finer bins that cost more (bins times rates) are not tried.
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
        if effort > most_effort:
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
    found = _correlate(peer_ns, own_ns - first, bin_ns=bin_ns, grid=grid, template=template, lags=lags)
    return found.coarse(first, grid, bin_ns, lags)


def search_near(
    peer_ns: Floats, own_ns: Floats, *, length_ns: float, reach_ns: float, rate: float, max_change: float
) -> Coarse | None:
    """Looks for the segment where it is expected; None if nothing stands out there.

    Where there is too much to count, every second tag of the segment serves, or every third, and so on.

    Args:
        peer_ns: float64[a], the segment's tags from its start, sorted.
        own_ns: float64[b], own tags from the tick expected at the segment's start, sorted.
        length_ns: length of the segment.
        reach_ns: the expectation may be wrong by so much either way; at least ``NEAR_LAGS`` lags are looked at.
        rate: expected relative rate.
        max_change: it may be wrong by so much either way.
    """
    if peer_ns.size < MIN_PAIRS or own_ns.size < MIN_PAIRS:
        return None
    expected = peer_ns * (1 + rate)
    for bin_ns in NEAR_BINS_NS:
        lags = max(NEAR_LAGS, 2 * ceil(reach_ns / bin_ns))
        steps = rates(max_change, length_ns, bin_ns)
        half_ns = lags * bin_ns / 2
        room_ns = half_ns + float(steps[-1]) * length_ns
        counted = np.searchsorted(own_ns, expected + room_ns) - np.searchsorted(own_ns, expected - room_ns)
        work = int(counted.sum()) * steps.size
        if work <= MOST_COUNTED:
            break
    every = max(1, ceil(work / MOST_COUNTED))
    peer_ns, expected = peer_ns[::every], expected[::every]
    ia, ib = near_pairs(expected, own_ns, -room_ns, room_ns)
    difference, since = own_ns[ib] - expected[ia] + half_ns, peer_ns[ia]
    seen = _Seen()
    for which, step in enumerate(steps):
        lag = np.floor((difference - step * since) / bin_ns)
        lag = lag[(lag >= 0) & (lag < lags)].astype(np.int64)
        seen.add(np.bincount(lag, minlength=lags).astype(np.float64), 0, which)
    return seen.coarse(bin_ns / 2 - half_ns, rate + steps, bin_ns, lags)


@dataclass(slots=True)
class _Seen:
    """What a search has seen: number, sum and sum of squares of the counts; the largest, its lag and its rate."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    top: float = -1.0
    lag: int = 0
    which: int = 0

    def add(self, counts: NDArray[np.floating], begin: int, which: int) -> None:
        """Counts of the lags from ``begin`` on at a rate."""
        self.count += counts.size
        self.total += float(counts.sum(dtype=np.float64))
        self.squares += float(np.square(counts, dtype=np.float64).sum())
        peak = int(np.argmax(counts))
        if counts[peak] > self.top:
            self.top, self.lag, self.which = float(counts[peak]), begin + peak, which

    def coarse(self, first_ns: float, grid: Floats, bin_ns: float, lags: int) -> Coarse | None:
        """The peak if it stands out; ``first_ns``: offset of the first lag."""
        mean = self.total / self.count
        deviation = sqrt(max(self.squares / self.count - mean**2, 0.0))
        trials = lags * grid.size
        threshold = sqrt(2 * log(trials)) + MARGIN
        significance = (self.top - mean) / max(deviation, sqrt(max(mean, 1.0)))
        if significance < threshold or self.top - mean < MIN_PAIRS or not unlikely(self.top, mean, deviation, trials):
            return None
        return Coarse(
            offset_ns=first_ns + self.lag * bin_ns,
            rate=float(grid[self.which]),
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


def _correlate(peer_ns: Floats, own_ns: Floats, *, bin_ns: float, grid: Floats, template: int, lags: int) -> _Seen:
    """The correlation over all lags and rates; keeps the spectra of blocks or of rates, whichever are fewer."""
    from scipy import fft  # noqa: PLC0415 - slow to import

    size = 1 << max(10, (2 * template + min(lags, MAX_TRANSFORM)).bit_length())
    size = max(min(size, MAX_TRANSFORM), 1 << (2 * template - 1).bit_length())
    step = size - template + 1
    own = (own_ns / bin_ns).astype(np.int64)
    begins = range(0, lags, step)

    def spectrum(bins: NDArray[np.int64]) -> NDArray[np.complex64]:
        return np.asarray(fft.rfft(np.bincount(bins, minlength=size)[:size].astype(np.float32)))

    def of_rate(rate: float) -> NDArray[np.complex64]:
        return spectrum((peer_ns * (1 + rate) / bin_ns).astype(np.int64)).conj()

    def of_block(begin: int) -> NDArray[np.complex64]:
        low, high = np.searchsorted(own, [begin, begin + size])
        return spectrum(own[low:high] - begin)

    seen = _Seen()
    by_block = len(begins) > grid.size
    kept = [of_rate(rate) for rate in grid] if by_block else [of_block(begin) for begin in begins]
    for at in range(len(begins) if by_block else grid.size):
        one = of_block(begins[at]) if by_block else of_rate(grid[at])
        for i, other in enumerate(kept):
            begin, which = (begins[at], i) if by_block else (begins[i], at)
            seen.add(fft.irfft(one * other, n=size)[: min(step, lags - begin)], begin, which)
    return seen
