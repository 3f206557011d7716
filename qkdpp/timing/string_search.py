"""Which pulse is which: detections against the public synchronisation string.

Every detection in the measured basis of a string pulse scores +1 if its bit
agrees and -1 if not; detections in the other basis score nothing. For wrong
pulse numbers the sum over N detections is a bounded sum of mean zero whose
tails are below those of a Gaussian of variance N/2, whatever the detections
are (the string is uniform and independent of them), so significances here are
bounds, not estimates. The search over millions of shifts is a sparse
cross-correlation, click by click or by Fourier transforms of bounded size,
frame by frame, until the peak is beyond chance; it must then be confirmed on
frames that took no part in the search. Specification: qubit-based
synchronisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.sync_string import SyncString
from qkdpp.kernels.backend import backend
from qkdpp.kernels.compiled_tags import correlate
from qkdpp.kernels.tags import count_labels

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

MARGIN = 2.0
CONFIRM_SIGNIFICANCE = 4.5
"""A single test at a known shift: chance below 5e-5, on top of the margin of the search."""
MAX_UNIT = 1 << 19
MAX_TRANSFORM = 1 << 21
SPARSE = 2000
"""Additions for a shift up to which clicks are taken one by one; beyond, transforms are faster."""
MAX_EFFORT = 300_000_000
"""Shifts times pieces of the string that are tried before giving up."""
DETECTOR_REACH = 64
"""Whole-slot delays of single detectors are looked for within so many slots."""
MOST_NEAR = 20_000
"""Clicks of a detector near the string that are used for it (twice as many at most)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clicks:
    """Detections with provisional pulse numbers: slots int64[n] (increasing), detector uint8[n], channel uint8[n]."""

    slots: Ints
    detector: Bytes
    channel: Bytes

    def at(self, index: NDArray[np.intp]) -> Clicks:
        """The clicks at these indices."""
        return Clicks(slots=self.slots[index], detector=self.detector[index], channel=self.channel[index])

    def part(self, low: int, high: int) -> Clicks:
        """Clicks ``low`` to ``high`` (exclusive)."""
        return Clicks(slots=self.slots[low:high], detector=self.detector[low:high], channel=self.channel[low:high])


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """True pulse number minus provisional one, and the evidence.

    Attributes:
        shift: pulses.
        significance: over all frames; at least the threshold.
        threshold: what the number of shifts makes by chance, plus a margin.
        confirmed: significance on the frames left out of the search.
        agreement: share of equal bits among detections of the string in matching bases.
    """

    shift: int
    significance: float
    threshold: float
    confirmed: float
    agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """A piece of the string: its first pulse number and its length."""

    start: int
    length: int


def score(clicks: Clicks, string: SyncString, shift: int) -> tuple[Ints, NDArray[np.int8]]:
    """Indices of the clicks that fall on string pulses at this shift, and what each scores."""
    pulses = clicks.slots + shift
    at = _on_string(pulses, string)
    state, detector = string.states(pulses[at]), clicks.detector[at]
    agree = np.where(state == detector, 1, -1)
    return at, np.where(state >> 1 == detector >> 1, agree, 0).astype(np.int8)


def _on_string(pulses: Ints, string: SyncString, margin: int = 0) -> NDArray[np.intp]:
    """Indices of the pulse numbers (sorted) that belong to the string, or are within a margin of it."""
    width = string.length + 2 * margin
    first, last = (int(pulses[0]), int(pulses[-1])) if pulses.size else (0, -1)
    frames = range(max(0, first // string.frame), last // string.frame + 2)
    if len(frames) > pulses.size or width > string.frame:
        return np.flatnonzero(((pulses + margin) % string.frame < width) & (pulses >= -margin))
    start = np.arange(frames.start, frames.stop, dtype=np.int64) * string.frame - margin
    return _ranges(np.searchsorted(pulses, start), np.searchsorted(pulses, start + width))


def _ranges(low: NDArray[np.intp], high: NDArray[np.intp]) -> NDArray[np.intp]:
    """The indices from each ``low`` to its ``high`` (exclusive), one range after the other."""
    behind = np.cumsum(high - low)
    return np.repeat(high - behind, high - low) + np.arange(behind[-1] if behind.size else 0)


def significance(total: float, clicks: int) -> float:
    """Sum of scores in standard deviations of chance (bound)."""
    return total / sqrt(max(clicks, 1) / 2)


def find_shift(clicks: Clicks, string: SyncString, *, guess: int, reach: int) -> Shift | None:
    """Looks for the shift within ``guess - reach`` to ``guess + reach``; None if nothing is certain."""
    units = _units(clicks, string, guess, reach)
    if len(units) < 2:
        return None
    total = np.zeros(2 * reach + 1, dtype=np.int32)
    threshold = sqrt(2 * log(max(total.size, 2))) + MARGIN
    most = min(len(units) - 1, max(4, MAX_EFFORT // total.size))
    used, wanted = 0, 1
    while used < most:
        while used < min(wanted, most):
            _correlate(total, clicks, string, units[used], guess=guess)
            used += 1
        shift = guess - reach + int(np.argmax(total))
        confirmed = _in_units_significance(clicks, string, shift, units[used:])
        if confirmed >= CONFIRM_SIGNIFICANCE:
            at, scores = score(clicks, string, shift)
            found = significance(float(scores.sum(dtype=np.int64)), at.size)
            if found >= threshold:
                return Shift(
                    shift=shift,
                    significance=found,
                    threshold=threshold,
                    confirmed=confirmed,
                    agreement=float((scores == 1).sum() / (scores != 0).sum()),
                )
        wanted += max(1, wanted // 2)
    return None


def _units(clicks: Clicks, string: SyncString, guess: int, reach: int) -> list[_Unit]:
    """Pieces of the string that may lie within the clicks, those with most clicks near first."""
    if not clicks.slots.size:
        return []
    first, last = int(clicks.slots[0]) + guess - reach, int(clicks.slots[-1]) + guess + reach
    frames = range(max(0, first // string.frame), max(0, last) // string.frame + 1)
    length = min(MAX_UNIT, string.length if len(frames) > 3 else -(-string.length // 4))
    starts = [
        frame * string.frame + at
        for frame in _spread(frames)
        for at in range(0, string.length, length)
        if first <= frame * string.frame + at <= last
    ]
    units = [_Unit(start=s, length=min(length, string.length - s % string.frame)) for s in starts]
    edges = np.array([[u.start, u.start + u.length] for u in units], dtype=np.int64).reshape(-1, 2) - guess
    near = np.searchsorted(clicks.slots, edges + np.array([-reach, reach]))
    weight = near[:, 1] - near[:, 0]
    return [units[i] for i in np.argsort(-weight, kind="stable")]


def _spread(frames: range) -> list[int]:
    """At most a few thousand frames, evenly spread."""
    step = max(1, len(frames) // 4096)
    return list(frames[::step])


def _in_units_significance(clicks: Clicks, string: SyncString, shift: int, units: list[_Unit]) -> float:
    """Significance of a shift on some units alone."""
    ordered = sorted(units, key=lambda unit: unit.start)
    edges = np.array([[u.start, u.start + u.length] for u in ordered], dtype=np.int64).reshape(-1, 2) - shift
    low, high = np.searchsorted(clicks.slots, edges).T
    return _agreement(clicks.at(_ranges(low, high)), string, shift)


def whole_slots(clicks: Clicks, string: SyncString) -> dict[int, int]:
    """Whole slots by which single channels are off once the shift is in; 0 where the string does not say."""
    result = {}
    near_string = clicks.at(_on_string(clicks.slots, string, DETECTOR_REACH))
    for channel in np.flatnonzero(count_labels(clicks.channel)).tolist():
        near = near_string.at(np.flatnonzero(near_string.channel == channel))
        near = near.at(np.arange(0, near.slots.size, max(1, near.slots.size // MOST_NEAR)))
        threshold = sqrt(2 * log(2 * DETECTOR_REACH + 1)) + MARGIN
        # a clock that slipped shows two peaks: a channel that agrees where it is stays there
        if _agreement(near, string, 0) >= threshold:
            result[channel] = 0
            continue
        sums = [_agreement(near, string, extra) for extra in range(-DETECTOR_REACH, DETECTOR_REACH + 1)]
        best = int(np.argmax(sums))
        result[channel] = best - DETECTOR_REACH if sums[best] >= threshold else 0
    return result


def _agreement(clicks: Clicks, string: SyncString, shift: int) -> float:
    _, scores = score(clicks, string, shift)
    return significance(float(scores.sum(dtype=np.int64)), scores.size)


def _correlate(total: NDArray[np.int32], clicks: Clicks, string: SyncString, unit: _Unit, *, guess: int) -> None:
    """Adds the scores of all shifts against one unit; the two ways give the same."""
    reach = total.size // 2
    state = string.states(np.arange(unit.start, unit.start + unit.length, dtype=np.int64))
    low, high = np.searchsorted(clicks.slots, [unit.start - guess - reach, unit.start + unit.length - guess + reach])
    near = clicks.part(int(low), int(high))
    if backend() == "c" and near.slots.size * unit.length < SPARSE * total.size:
        correlate(total, unit.start - guess + reach - near.slots, near.detector, _scores(state))
    else:
        _correlate_by_transform(total, near, state, first=unit.start - guess - reach)


def _scores(state: Bytes) -> NDArray[np.int8]:
    """What a click of every detector (rows) scores on each pulse."""
    detector = np.arange(4, dtype=np.uint8)[:, None]
    return np.where(state >> 1 != detector >> 1, 0, np.where(state == detector, 1, -1)).astype(np.int8)


def _correlate_by_transform(total: NDArray[np.int32], clicks: Clicks, state: Bytes, *, first: int) -> None:
    """Overlap-save, bases as real and imaginary part; ``first`` is the slot that the largest shift puts first."""
    from scipy import fft  # noqa: PLC0415 - slow to import

    size = 1 << min(max(2 * state.size, min(total.size + 1, MAX_TRANSFORM) + state.size).bit_length(), 22)
    step = size - state.size + 1
    template = np.zeros(size, dtype=np.complex64)
    template[: state.size] = _symbols(state)
    template = fft.fft(template).conj()
    for begin in range(0, total.size, step):
        low, high = np.searchsorted(clicks.slots, [first + begin, first + begin + size])
        block = np.zeros(size, dtype=np.complex64)
        np.add.at(block, clicks.slots[low:high] - first - begin, _symbols(clicks.detector[low:high]))
        part = np.rint(fft.ifft(fft.fft(block) * template).real[: min(step, total.size - begin)])
        stop = total.size - begin
        total[stop - part.size : stop] += part[::-1].astype(np.int32)


def _symbols(state: Bytes) -> NDArray[np.complex64]:
    """+1, -1 for the bits of Z, +i, -i for those of X."""
    return np.array([1, -1, 1j, -1j], dtype=np.complex64)[state]


def stretches(clicks: Clicks, string: SyncString, enough: int = 100) -> list[tuple[int, int, float]]:
    """Checks clicks with final pulse numbers along the recording: (first slot, last slot, significance) of groups.

    A group is as many whole frames as hold ``enough`` clicks on string pulses (what is left at the end is not judged);
    a slip of the clock shows as a group without agreement.
    """
    at, scores = score(clicks, string, 0)
    frame = clicks.slots[at] // string.frame
    edges = np.append(np.flatnonzero(np.diff(frame)) + 1, at.size)
    groups: list[tuple[int, int, float]] = []
    begin = 0
    for edge in edges.tolist():
        if edge - begin >= enough:
            total = float(scores[begin:edge].sum(dtype=np.int64))
            first, last = int(frame[begin]) * string.frame, (int(frame[edge - 1]) + 1) * string.frame
            groups.append((first, last, significance(total, edge - begin)))
            begin = edge
    return groups
