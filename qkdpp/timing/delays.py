"""Per-detector delays of a pulsed link, from the arrivals themselves.

Every detector's arrivals are folded on the slot; the peak of the histogram, by
its centroid, is the detector's delay, and it stays frozen for the block. Whole
slots cannot be seen in a fold: they come from the synchronisation string, or,
without one, all detectors are taken to lie within half a slot of each other.
What all detectors drift together is the phase of the signal against the clock;
a first-order loop follows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.tags import AS_PER_S, TimeTags
from qkdpp.kernels.tags import count_labels
from qkdpp.timing.clock import Clock, split_position
from qkdpp.timing.fold import fold_channels, fold_slices, rules_of

FOLD_BINS = 512
FINE_BINS = 1 << 14
"""Bins from which the centroid is taken: so narrow that no jitter is as narrow."""
PHASE_BINS = 1 << 10
"""Bins from which the phase of a slice is taken."""
MIN_PEAK_SIGNIFICANCE = 6.0
PHASE_SLICE_S = 0.1
MAX_PHASE_SLICES = 2000
PHASE_POWER = 100.0
"""Coherent power of a slice that moves the loop: its phase is then good to about a hundredth of a slot."""
LOOP_GAIN = 0.3

Floats = NDArray[np.float64]


def fold_peak(arrivals: NDArray[np.int64]) -> tuple[float, float]:
    """Peak of folded arrivals: position (slots, -0.5 to 0.5) and significance (standard deviations).

    ``arrivals``: int64[FINE_BINS], counts over the slot. The largest sum over a twentieth of a slot starts a
    background-subtracted centroid over two standard deviations to either side (the width estimated from the same
    window), iterated while anything is there.
    """
    if not arrivals.any():
        return 0.0, 0.0
    counts = arrivals.reshape(FOLD_BINS, -1).sum(axis=1).astype(np.float64)
    window = FOLD_BINS // 20
    ring = np.concatenate([counts[-window:], counts, counts[:window]])
    sums = np.convolve(ring, np.ones(window), mode="same")[window:-window]
    background = float(np.median(sums)) / window
    top = int(np.argmax(sums))
    expected = max(background * window, 1.0)
    significance = float((sums[top] - background * window) / np.sqrt(expected))
    centre = (top + 0.5) / FOLD_BINS - 0.5
    half = 0.1
    place = (np.arange(FINE_BINS) + 0.5) / FINE_BINS - 0.5
    for _ in range(4):
        off = place - centre
        off -= np.floor(off + 0.5)
        near = np.abs(off) <= half
        n, off = arrivals[near].astype(np.float64), off[near]
        size = float(n.sum())
        if not size:
            break
        floor = min(background * FOLD_BINS * 2 * half, 0.999 * size)
        signal = size - floor
        mean = float((n * off).sum()) / signal
        mean = float(np.clip(mean, -half, half))
        variance = (float((n * off**2).sum()) - floor * half**2 / 3) / signal - mean**2
        centre += mean
        half = float(np.clip(2 * np.sqrt(max(variance, 0.0)) * 1.14, 4 / FOLD_BINS, 0.25))
    return centre - float(np.floor(centre + 0.5)), significance


def find_delays(
    tags: TimeTags,
    clock: Clock,
    detector_of_channel: Mapping[int, int],
    known_delay_ticks: Mapping[int, float] | None = None,
) -> tuple[dict[int, float], float]:
    """Delay in ticks of every detector channel that occurs, and the significance of the weakest peak.

    Delays known beforehand are taken out first and are part of the result. The common phase is part of every delay
    and lies within half a slot of zero at the channel with the strongest peak.

    Raises:
        Abort: NO_LOCK if a detector's arrivals show no peak.
    """
    known = known_delay_ticks or {}
    rate = float(np.median(clock.slots_per_tick))
    present = [i for i, n in enumerate(count_labels(tags.channel).tolist()) if n]
    detectors = {tags.channel_ids[i]: i for i in present if tags.channel_ids[i] in detector_of_channel}
    rules = rules_of(tags, clock, {channel_id: known.get(channel_id, 0.0) for channel_id in detectors}, bins=FINE_BINS)
    folded = fold_channels(tags, rules)
    peaks = {
        channel_id: fold_peak(folded[detectors[channel_id]])
        for channel_id in detector_of_channel
        if channel_id in detectors
    }
    if not peaks:
        raise Abort(AbortReason.NO_LOCK, detector_tags=0)
    weakest = min(peaks, key=lambda c: peaks[c][1])
    if peaks[weakest][1] < MIN_PEAK_SIGNIFICANCE:
        raise Abort(AbortReason.NO_LOCK, peak_of_channel=weakest, significance=peaks[weakest][1])
    reference = peaks[max(peaks, key=lambda c: peaks[c][1])][0]
    delays = {}
    for channel_id, (phase, _) in peaks.items():
        near = reference + (phase - reference) - float(np.floor(phase - reference + 0.5))
        delays[channel_id] = known.get(channel_id, 0.0) + near / rate
    return delays, peaks[weakest][1]


def follow_phase(tags: TimeTags, clock: Clock, delay_ticks: Mapping[int, float]) -> tuple[Clock, float]:
    """The clock with the slow common drift of all detectors against it taken up; and the largest drift in slots.

    The recording is cut into slices; the mean phase of a slice's arrivals, where they have one, moves the loop by a
    fixed share; forwards and backwards, so that it does not lag. A shared sync pulse and the signal drift apart by
    temperature, by picoseconds in seconds.
    """
    first, last = int(clock.knot_ticks[0]), clock.stop_tick
    length = max(round(PHASE_SLICE_S * AS_PER_S / tags.tick_as), -(-(last - first) // MAX_PHASE_SLICES))
    n = (last - first) // length + 1
    folded = fold_slices(tags, rules_of(tags, clock, delay_ticks, bins=PHASE_BINS), first, length, n)
    turns = np.exp(2j * np.pi * ((np.arange(PHASE_BINS) + 0.5) / PHASE_BINS - 0.5))
    total, count = folded @ turns, folded.sum(axis=1)
    strong = np.abs(total) ** 2 >= PHASE_POWER * np.maximum(count, 1)
    measured = np.angle(total) / (2 * np.pi)
    forth, back = _loop(measured, strong), _loop(measured[::-1], strong[::-1])[::-1]
    phase = (forth + back + np.rint(np.median(forth - back))) / 2
    middle = first + (np.arange(n) + 0.5) * length - first
    drift = np.interp((clock.knot_ticks - first).astype(np.float64), middle, phase)
    whole, fraction = split_position(clock.knot_fraction - drift)
    moved = replace(clock, knot_slot=clock.knot_slot + whole, knot_fraction=fraction)
    return moved, float(np.abs(phase).max())


def _loop(measured: Floats, strong: NDArray[np.bool_]) -> Floats:
    """First-order loop over phases in slots, begun at the first strong one and held where they are weak."""
    phase = np.zeros(measured.size)
    now = float(measured[np.argmax(strong)]) if strong.any() else 0.0
    for k in range(measured.size):
        if strong[k]:
            off = float(measured[k]) - now
            now += LOOP_GAIN * (off - float(np.floor(off + 0.5)))
        phase[k] = now
    return phase
