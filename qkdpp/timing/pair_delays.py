"""From a coarse peak to rate, offset and the delays of all eight detectors.

Coincidences of detector ``i`` of the peer and ``j`` of ours come at
``own - peer = d + u t + b_j - a_i``. The rate is refined until the sixteen
difference histograms are sharpest (a criterion that does not need the delays),
then their peaks are fitted by additive least squares, weighted by the pairs in
them. Delays of each party sum to zero; the rest is the offset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.timing.pair_events import near_pairs
from qkdpp.timing.pair_search import Coarse, unlikely

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FINEST_NS = 0.25
BOX_NS = 0.5
HISTOGRAM_BIN_NS = 0.25
ECHO_NS = 100.0
FIT_HALF_NS = 1.5
"""Coincidences further than this from the model do not take part in the fit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """Clicks near a public segment, both parties' times from the segment's start, sorted.

    Attributes:
        peer_ns, own_ns: float64[a], float64[b].
        peer_detector, own_detector: uint8[a], uint8[b].
        length_ns: length of the segment.
    """

    peer_ns: Floats
    peer_detector: NDArray[np.uint8]
    own_ns: Floats
    own_detector: NDArray[np.uint8]
    length_ns: float

    def without_echoes(self) -> Segment:
        """Clicks that do not closely follow a click of the same detector: for finding delays only, never for a key.

        Echoes and afterpulses come late and would pass for a second delay.
        """
        peer = _first_clicks(self.peer_ns, self.peer_detector)
        own = _first_clicks(self.own_ns, self.own_detector)
        return Segment(
            peer_ns=self.peer_ns[peer],
            peer_detector=self.peer_detector[peer],
            own_ns=self.own_ns[own],
            own_detector=self.own_detector[own],
            length_ns=self.length_ns,
        )


def _first_clicks(time_ns: Floats, detector: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Clicks with none of the same detector shortly before (at most 100 ns and a fifth of the mean interval)."""
    keep = np.ones(time_ns.size, dtype=np.bool_)
    for code in range(4):
        at = np.flatnonzero(detector == code)
        if at.size > 1:
            interval = np.diff(time_ns[at])
            keep[at[1:]] = interval > min(ECHO_NS, 0.2 * float(interval.mean()))
    return keep


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairHistograms:
    """Differences of arrival of all sixteen detector pairs in the public segment, before delay correction.

    Attributes:
        edges_ps: float64[n + 1].
        counts: int64[4, 4, n], peer's detector first.
    """

    edges_ps: Floats
    counts: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """What the public segment tells.

    Attributes:
        offset_ns: own time minus peer's time at the start of the segment.
        rate: relative rate ``u`` of the own clock.
        rate_error: its standard error.
        peer_delay_ns, own_delay_ns: float64[4] each, to be subtracted; 0 for detectors without coincidences.
        residual_ns: weighted rms of the sixteen peaks about the additive model.
        spread_ns: rms of the coincidences about the model.
        pairs: coincidences above the accidental ones.
        significance: of the corrected peak.
        histograms: for the report.
    """

    offset_ns: float
    rate: float
    rate_error: float
    peer_delay_ns: Floats
    own_delay_ns: Floats
    residual_ns: float
    spread_ns: float
    pairs: float
    significance: float
    histograms: PairHistograms


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pairs:
    """Candidate coincidences: time from the middle of the segment, difference to the coarse model, detectors."""

    x: Floats
    y: Floats
    i: NDArray[np.uint8]
    j: NDArray[np.uint8]


def calibrate(segment: Segment, coarse: Coarse, *, delay_range_ns: float) -> Calibration | None:
    """Refines a coarse peak; None if nothing is left of it.

    Args:
        segment: clicks of both parties.
        coarse: the peak.
        delay_range_ns: delays of one party differ by no more than this.
    """
    pairs = _candidates(segment, coarse, 1.5 * coarse.bin_ns + 2 * delay_range_ns)
    step = _sharpest_rate(pairs, coarse.bin_ns, segment.length_ns)
    flat = _Pairs(x=pairs.x, y=pairs.y - step * pairs.x, i=pairs.i, j=pairs.j)
    centre = box_peak(flat.y, float(flat.y.min(initial=0.0)), float(flat.y.max(initial=0.0)), 4 * BOX_NS)[0]
    peaks, weights = _peaks(flat, centre, 2 * delay_range_ns)
    if weights.sum() <= 0:
        return None
    shift, a, b, _ = _additive(peaks, weights)
    for _ in range(3):
        peaks, weights = _centroids(flat, shift, a, b)
        if weights.sum() <= 0:
            return None
        shift, a, b, residual = _additive(peaks, weights)
    off = flat.y - (shift + b[flat.j] - a[flat.i])
    more, drift, drift_error, spread = _line(flat.x, off)
    half = max(3 * spread, BOX_NS)
    inside = int((np.abs(off - more) <= half).sum())
    aside = int(((np.abs(off - more) > 2 * half) & (np.abs(off - more) <= 2 * half + delay_range_ns)).sum())
    expected = aside * half / delay_range_ns
    if not unlikely(inside, expected, float(np.sqrt(expected)), 1000):
        return None
    rate = coarse.rate + (step + drift) * (1 + coarse.rate)
    middle = coarse.offset_ns + coarse.rate * segment.length_ns / 2 + shift + more
    return Calibration(
        offset_ns=middle - rate * segment.length_ns / 2,
        rate=rate,
        rate_error=drift_error,
        peer_delay_ns=a,
        own_delay_ns=b,
        residual_ns=residual,
        spread_ns=spread,
        pairs=inside - expected,
        significance=(inside - expected) / float(np.sqrt(max(expected, 1.0))),
        histograms=_histograms(flat, centre, 2 * delay_range_ns),
    )


def _candidates(segment: Segment, coarse: Coarse, half_ns: float) -> _Pairs:
    expected = segment.peer_ns * (1 + coarse.rate) + coarse.offset_ns
    ia, ib = near_pairs(expected, segment.own_ns, -half_ns, half_ns)
    return _Pairs(
        x=segment.peer_ns[ia] - segment.length_ns / 2,
        y=segment.own_ns[ib] - expected[ia],
        i=segment.peer_detector[ia],
        j=segment.own_detector[ib],
    )


def _sharpest_rate(pairs: _Pairs, bin_ns: float, length_ns: float) -> float:
    """Change of rate that makes the sixteen difference histograms sharpest (to 0.25 ns over the segment)."""
    combination = pairs.i.astype(np.int64) * 4 + pairs.j
    best, width = 0.0, bin_ns
    while width > FINEST_NS:
        width_before, width = width, max(width / 4, FINEST_NS)
        steps = best + np.arange(-16, 17) / 16 * (width_before / length_ns)
        sharpness = [_sharpness(pairs.y - step * pairs.x, combination, width) for step in steps]
        best = float(steps[int(np.argmax(sharpness))])
    return best


def _sharpness(y: Floats, combination: Ints, width: float) -> float:
    """Sum of squared bin counts of the sixteen histograms, over two interleaved sets of bins."""
    total = 0.0
    for phase in (0.0, 0.5):
        bins = np.floor(y / width + phase).astype(np.int64)
        bins -= bins.min(initial=0)
        counts = np.bincount(bins * 16 + combination).astype(np.float64)
        total += float((counts**2).sum())
    return total


def box_peak(y: Floats, low: float, high: float, width: float) -> tuple[float, int, float]:
    """Middle of the fullest box of ``width`` between low and high, its count, and the mean count of a box."""
    y = np.sort(y[(y >= low) & (y <= high)])
    if not y.size:
        return (low + high) / 2, 0, 0.0
    count = np.searchsorted(y, y + width, side="right") - np.arange(y.size)
    top = int(np.argmax(count))
    n = int(count[top])
    return float(y[top : top + n].mean()), n, (y.size - n) * width / max(high - low, width)


def _peaks(pairs: _Pairs, centre: float, reach: float) -> tuple[Floats, Floats]:
    """Peak position (ns) and pairs in it, for all sixteen combinations; 0 pairs where there is no clear peak."""
    position, weight = np.zeros((4, 4)), np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            y = pairs.y[(pairs.i == i) & (pairs.j == j)]
            at, n, mean = box_peak(y, centre - reach, centre + reach, BOX_NS)
            if n >= 3 and unlikely(n, mean, float(np.sqrt(mean)), round(2 * reach / BOX_NS)):
                position[i, j], weight[i, j] = at, n - mean
    return position, weight


def _centroids(pairs: _Pairs, shift: float, a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Centroids of the sixteen peaks within reach of the model, and the pairs in them."""
    model = shift + b[pairs.j] - a[pairs.i]
    off = pairs.y - model
    near = np.abs(off) <= FIT_HALF_NS
    background = int(((np.abs(off) > 2 * FIT_HALF_NS) & (np.abs(off) <= 6 * FIT_HALF_NS)).sum()) / 4 / 16
    combination = (pairs.i[near].astype(np.int64) * 4 + pairs.j[near]).astype(np.int64)
    count = np.bincount(combination, minlength=16).astype(np.float64)
    total = np.bincount(combination, weights=off[near], minlength=16)
    weight = np.maximum(count - background, 0.0)
    weight[weight < 3] = 0.0
    position = np.divide(total, weight, out=np.zeros(16), where=weight > 0).reshape(4, 4)
    return position + shift + b[None, :] - a[:, None], weight.reshape(4, 4)


def _additive(position: Floats, weight: Floats) -> tuple[float, Floats, Floats, float]:
    """Weighted least squares of ``position[i, j] = d + b_j - a_i`` with outliers dropped: d, a, b, weighted rms."""
    weight = weight.copy()
    i, j = np.meshgrid(np.arange(4), np.arange(4), indexing="ij")
    design = np.zeros((16, 9))
    design[:, 0] = 1
    design[np.arange(16), 1 + i.ravel()] = -1
    design[np.arange(16), 5 + j.ravel()] = 1
    seen_a, seen_b = (weight > 0).any(axis=1), (weight > 0).any(axis=0)
    for _ in range(8):
        root = np.sqrt(weight.ravel())
        solution = np.linalg.lstsq(design * root[:, None], position.ravel() * root, rcond=None)[0]
        residual = position.ravel() - design @ solution
        off = np.abs(residual) * (root > 0)
        rms = float(np.sqrt((weight.ravel() * residual**2).sum() / weight.sum()))
        worst = int(np.argmax(off))
        if off[worst] <= max(BOX_NS, 3 * rms) or (weight > 0).sum() <= 8:
            break
        weight.flat[worst] = 0.0
    a, b = solution[1:5], solution[5:9]
    shift_a, shift_b = float(a[seen_a].mean()), float(b[seen_b].mean())
    a, b = np.where(seen_a, a - shift_a, 0.0), np.where(seen_b, b - shift_b, 0.0)
    return float(solution[0]) + shift_b - shift_a, a.astype(np.float64), b.astype(np.float64), rms


def _line(x: Floats, y: Floats) -> tuple[float, float, float, float]:
    """Robust straight line through the coincidences: value at zero, slope, its error, rms about it."""
    value, slope, half = 0.0, 0.0, FIT_HALF_NS
    spread = half
    error = 0.0
    for _ in range(5):
        off = y - value - slope * x
        near = np.abs(off) <= half
        if near.sum() < 3:
            break
        xn, yn = x[near], y[near]
        moment = float(((xn - xn.mean()) ** 2).sum())
        slope = float(((xn - xn.mean()) * (yn - yn.mean())).sum()) / moment if moment > 0 else 0.0
        value = float(yn.mean()) - slope * float(xn.mean())
        spread = float(np.std(yn - value - slope * xn))
        error = spread / float(np.sqrt(moment)) if moment > 0 else float("inf")
        half = min(FIT_HALF_NS, max(3 * spread, 0.1))
    return value, slope, error, spread


def _histograms(pairs: _Pairs, centre: float, reach: float) -> PairHistograms:
    bins = round(2 * reach / HISTOGRAM_BIN_NS)
    edges = np.linspace(-reach, reach, bins + 1)
    counts = np.zeros((4, 4, bins), dtype=np.int64)
    for i in range(4):
        for j in range(4):
            counts[i, j] = np.histogram(pairs.y[(pairs.i == i) & (pairs.j == j)] - centre, bins=edges)[0]
    return PairHistograms(edges_ps=edges * 1000, counts=counts)
