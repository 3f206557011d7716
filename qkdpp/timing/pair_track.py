"""Following the peer's clock from a calibrated segment outwards, slice by slice.

Each slice's coincidence peak is looked for where the slices before it, extended
in a straight line with a stated allowance for drift, say it must be; a slice
without a significant peak is unlocked, and the window widens until the peak is
found again. Afterwards the slices are smoothed by straight lines over the
longest span that their scatter allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qkdpp.timing.clock import Clock, split_position
from qkdpp.timing.pair_delays import box_peak
from qkdpp.timing.pair_events import SUB, near_pairs
from qkdpp.timing.pair_search import unlikely

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DRIFT_PER_S = 5e-7
"""Allowance for the change of the relative rate in a second (standard deviation); a satellite pass has 4e-7."""
PAIRS_PER_SLICE = 200
SLICE_S = (2e-3, 0.1)
MAX_SLICES = 10_000
MIN_PAIRS = 5
MAX_WINDOW_NS = 200.0
"""A peak that may have moved by more than this is not looked for any more."""
SPANS = (1 << 40, 64, 16, 4, 1)
"""Slices to either side in the final straight lines, longest first."""
MAX_SCATTER = 1.5
"""Largest reduced chi-square of the slices about the lines for a span to be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """``slot = slot0 + fraction + (t - sub0) * slots_per_sub`` near one own time.

    Attributes:
        sub0: own time in sub-ticks.
        slot0, fraction: the peer's slot there (fractions count from the middle of the slot).
        slots_per_sub: slope.
        phase_error_ns, rate_error: standard errors.
    """

    sub0: int
    slot0: int
    fraction: float
    slots_per_sub: float
    phase_error_ns: float
    rate_error: float

    def at(self, sub: int) -> Line:
        """The same line with its reference at ``sub``."""
        whole, fraction = split_position(np.array([self.fraction + (sub - self.sub0) * self.slots_per_sub]))
        return replace(self, sub0=sub, slot0=self.slot0 + int(whole[0]), fraction=float(fraction[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Nanoseconds per own sub-tick and per peer's slot, rms of the coincidences (ns), slice length (sub-ticks)."""

    ns_per_sub: float
    ns_per_slot: float
    spread_ns: float
    slice_subs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One slice: its middle, how far the peak lies from the starting line (ns), its error, whether it is there."""

    sub: int
    off_ns: float
    error_ns: float
    locked: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Track:
    """The clock (own ticks to peer's slots), rms of the slices about it (ns), slices in all and locked, span used."""

    clock: Clock
    residual_ns: float
    slices: int
    locked: int
    confirmed: int
    span: int


def slice_subs(pairs_per_s: float, duration_s: float, sub_s: float) -> int:
    """Length of a slice in sub-ticks: some hundred coincidences, within limits; at most 10,000 slices."""
    length_s = float(np.clip(PAIRS_PER_SLICE / max(pairs_per_s, 1e-3), *SLICE_S))
    return round(max(length_s, duration_s / MAX_SLICES) / sub_s)


def follow(start: Line, segment: tuple[int, int], own: Ints, peer: Ints, scale: Scale) -> Track:
    """Tracks the clock over the whole recording.

    Args:
        start: line through the segment.
        segment: its first and last own time (sub-ticks).
        own: int64[b], own events in sub-ticks, delays taken out, sorted.
        peer: int64[a], the peer's announced slots, sorted.
        scale: units and slice length.
    """
    walker = _Walker(start=start, own=own, peer=peer, scale=scale)
    right = walker.walk(segment[1], 1)
    left = walker.walk(segment[0], -1)
    confirmed = sum(s.locked for s in right[:4]) + sum(s.locked for s in left[:4])
    middle = Slice(
        sub=(segment[0] + segment[1]) // 2, off_ns=0.0, error_ns=max(start.phase_error_ns, 1e-4), locked=True
    )
    slices = [*reversed(left), middle, *right]
    edges = [segment[0] - k * scale.slice_subs for k in range(len(left), 0, -1)]
    edges += [segment[0], *(segment[1] + k * scale.slice_subs for k in range(len(right) + 1))]
    smooth = _smooth(slices)
    return Track(
        clock=_clock(start, slices, edges, smooth, scale.ns_per_slot),
        residual_ns=smooth.residual_ns,
        slices=len(slices),
        locked=sum(s.locked for s in slices),
        confirmed=confirmed,
        span=smooth.span,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Walker:
    """What a walk along the recording needs: starting line, own events, peer's slots, units."""

    start: Line
    own: Ints
    peer: Ints
    scale: Scale

    def walk(self, edge: int, direction: int) -> list[Slice]:
        """Slices from ``edge`` in one direction to the end of the own events, by a two-state Kalman filter."""
        own, start, scale = self.own, self.start, self.scale
        slices: list[Slice] = []
        if not own.size:
            return slices
        length_s = scale.slice_subs * scale.ns_per_sub * 1e-9
        # offset in ns, its rate in ns per second; white acceleration
        state = np.zeros(2)
        covariance = np.diag([start.phase_error_ns**2, (start.rate_error * 1e9) ** 2])
        cross = direction * length_s**3 / 2
        noise = (DRIFT_PER_S * 1e9) ** 2 * np.array([[length_s**4 / 4, cross], [cross, length_s**2]])
        step = direction * (abs(edge - start.sub0) * scale.ns_per_sub * 1e-9 + length_s / 2)
        begin = edge if direction > 0 else edge - scale.slice_subs
        while own[0] < begin + scale.slice_subs and begin <= own[-1]:
            move = np.array([[1.0, step], [0.0, 1.0]])
            state = move @ state
            covariance = move @ covariance @ move.T + noise
            reach = 4 * float(np.sqrt(covariance[0, 0])) + 6 * scale.spread_ns
            found = self.measure(begin, float(state[0]), float(state[1]), min(reach, MAX_WINDOW_NS))
            slices.append(found)
            if found.locked:
                gain = covariance[:, 0] / (covariance[0, 0] + found.error_ns**2)
                state = state + gain * (found.off_ns - state[0])
                covariance = covariance - np.outer(gain, covariance[0, :])
            begin += direction * scale.slice_subs
            step = direction * length_s
        return slices

    def measure(self, begin: int, off_ns: float, off_ns_per_s: float, reach: float) -> Slice:
        """The coincidence peak of one slice, looked for within ``reach`` ns of where it is expected."""
        scale = self.scale
        middle = begin + scale.slice_subs // 2
        here = self.start.at(middle)
        low, high = np.searchsorted(self.own, [begin, begin + scale.slice_subs])
        x = (self.own[low:high] - middle).astype(np.float64)
        expected = (here.fraction + x * here.slots_per_sub) * scale.ns_per_slot
        expected = expected - off_ns - x * scale.ns_per_sub * (off_ns_per_s * 1e-9)
        room = round(scale.slice_subs * here.slots_per_sub / 2 + (2 * reach + abs(off_ns)) / scale.ns_per_slot + 2)
        low, high = np.searchsorted(self.peer, [here.slot0 - room, here.slot0 + room])
        announced = (self.peer[low:high] - here.slot0).astype(np.float64) * scale.ns_per_slot
        ia, ib = near_pairs(announced, expected, -reach, reach)
        off = expected[ib] - announced[ia]
        box = 3 * scale.spread_ns
        at, n, mean = box_peak(off, -reach, reach, box)
        if n < MIN_PAIRS or not unlikely(n, mean, float(np.sqrt(mean)), round(2 * reach / box) + 1):
            return Slice(sub=middle, off_ns=0.0, error_ns=0.0, locked=False)
        for _ in range(3):
            near = off[np.abs(off - at) <= 3 * scale.spread_ns]
            at = float(near.mean())
        error = scale.spread_ns / float(np.sqrt(near.size))
        return Slice(sub=middle, off_ns=off_ns + at, error_ns=error, locked=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Smooth:
    """Offset (ns) and slope (ns per sub-tick) at every slice, span of the lines, rms of the slices about them (ns)."""

    off: Floats
    slope: Floats
    span: int
    residual_ns: float


def _smooth(slices: list[Slice]) -> _Smooth:
    """Straight lines over the longest span that the scatter allows."""
    good = np.array([s.locked for s in slices])
    t = np.array([s.sub - slices[0].sub for s in slices], dtype=np.float64)
    y = np.array([s.off_ns for s in slices])
    weight = np.where(good, 1 / np.maximum([s.error_ns for s in slices], 1e-6) ** 2, 0.0)
    for span in SPANS:
        off, slope = _local_lines(t, y, weight, min(span, len(slices)))
        residual = (y - off)[good]
        free = max(1.0, good.sum() * (1 - 2 / min(2 * span + 1, max(good.sum(), 3))))
        if (weight[good] * residual**2).sum() / free <= MAX_SCATTER:
            break
    rms = float(np.sqrt((residual**2).mean()))
    return _Smooth(off=off, slope=slope, span=min(span, len(slices)), residual_ns=rms)


def _local_lines(t: Floats, y: Floats, weight: Floats, span: int) -> tuple[Floats, Floats]:
    """Value and slope at every point of the weighted line through ``span`` neighbours to either side."""
    off, slope = np.zeros_like(t), np.zeros_like(t)
    for k in range(t.size):
        low, high = max(0, k - span), min(t.size, k + span + 1)
        while (weight[low:high] > 0).sum() < 2 and (low > 0 or high < t.size):
            low, high = max(0, low - 1), min(t.size, high + 1)
        w, x = weight[low:high], t[low:high] - t[k]
        centre = float((w * x).sum() / w.sum())
        mean = float((w * y[low:high]).sum() / w.sum())
        moment = float((w * (x - centre) ** 2).sum())
        slope[k] = float((w * (x - centre) * (y[low:high] - mean)).sum()) / moment if moment > 0 else 0.0
        off[k] = mean - slope[k] * centre
        if span >= t.size:
            return off[k] + slope[k] * (t - t[k]), np.full_like(t, slope[k])
    return off, slope


def _clock(start: Line, slices: list[Slice], edges: list[int], smooth: _Smooth, ns_per_slot: float) -> Clock:
    """One piece per slice, from its first edge; knots fall on whole ticks."""
    knots, slots, fractions, rates = [], [], [], []
    for k, one in enumerate(slices):
        tick = -(-edges[k] // SUB)
        here = start.at(tick * SUB)
        late_ns = smooth.off[k] + smooth.slope[k] * (tick * SUB - one.sub)
        whole, fraction = split_position(np.array([here.fraction - late_ns / ns_per_slot]))
        knots.append(tick)
        slots.append(here.slot0 + int(whole[0]))
        fractions.append(float(fraction[0]))
        rates.append((start.slots_per_sub - smooth.slope[k] / ns_per_slot) * SUB)
    return Clock(
        knot_ticks=np.array(knots, dtype=np.int64),
        knot_slot=np.array(slots, dtype=np.int64),
        knot_fraction=np.array(fractions, dtype=np.float64),
        slots_per_tick=np.array(rates, dtype=np.float64),
        locked=np.array([s.locked for s in slices], dtype=np.bool_),
        stop_tick=-(-edges[-1] // SUB),
    )
