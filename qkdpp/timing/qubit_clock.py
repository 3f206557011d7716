"""Clock of a pulsed link from the arrivals of the qubits alone.

The pulse train makes the arrivals periodic: their Fourier sum peaks at the
pulse rate as the local clock sees it. The strongest stretch of the recording
gives rate and the detectors' phases; from there the phase is followed slice by
slice, offset, rate and acceleration together (a satellite pass changes the rate
by 0.4 ppm a second). Where the phase can no longer be told to a fraction of a
slot the run of pulse numbers ends and a new one is acquired: numbers are
certain only within a run. Specification: qubit-based synchronisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, factorial, pi

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.tags import AS_PER_S

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]

MAX_RATE_ERROR = 1.5e-4
"""Relative rates that are searched: two free-running clocks (122 ppm) and the Doppler shift of a satellite."""
MAX_ACCELERATION_PER_S = 1e-6
"""Change of the relative rate in a second that is allowed for."""
ACCELERATION_WALK = 2e-7
"""Random change of that acceleration in a second (per s)."""
ACQUIRE_CLICKS = 2000
ACQUIRE_S = (2e-3, 0.1)
MIN_CLICKS = 20
SLICE_CLICKS = 150
MIN_SLICE_S = 1e-3
MAX_SLICES = 20_000
CHANCE = 1e-6
CHANNEL_POWER = 10.0
"""Coherent power that tells a channel's phase: chance exp(-10)."""
SLICE_POWER = 12.0
"""Coherent power that makes a slice significant: chance exp(-12)."""
MAX_PHASE_ERROR = 0.12
"""The phase is lost when its prediction is less certain than this (slots, standard deviation)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arrivals:
    """Clicks of all detectors: ticks int64[n] (sorted), channel uint8[n] (dense index), nominal slots per tick."""

    ticks: Ints
    channel: NDArray[np.uint8]
    slots_per_tick: float
    tick_as: int

    @property
    def pulse_hz(self) -> float:
        """Nominal pulse rate."""
        return self.slots_per_tick * AS_PER_S / self.tick_as

    @property
    def tick_s(self) -> float:
        """Seconds per tick."""
        return self.tick_as / AS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tone:
    """The pulse train in one stretch.

    Attributes:
        tick: its middle.
        sums: complex128[256], sum of the unit phasors of every channel's clicks; their angle is the channel's delay
            less the position of the train at ``tick``, in turns of a slot.
        clicks: float64[256], clicks of every channel.
        slots_per_tick, slots_per_tick2: rate, and its change, at ``tick``.
        half_ticks: half the length of the stretch.
        power: coherent power, sum over the channels of ``|sum|**2 / clicks``.
        threshold: what was asked of it.
    """

    tick: int
    sums: Complex
    clicks: Floats
    slots_per_tick: float
    slots_per_tick2: float
    half_ticks: float
    power: float
    threshold: float

    def phases(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Delays of the channels (slots) against the strongest one, and which channels are strong enough to tell."""
        strongest = int(np.argmax(np.abs(self.sums)))
        turns = np.angle(self.sums * np.conj(self.sums[strongest])) / (2 * pi)
        return turns, np.abs(self.sums) ** 2 > CHANNEL_POWER * np.maximum(self.clicks, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Position of the pulse train at a tick, slice ``start`` to ``stop``; ``off`` is the innovation in slots."""

    tick: int
    slot: int
    fraction: float
    slots_per_tick: float
    start: int
    stop: int
    run: int
    off: float


def power_threshold(channels: int, trials: int) -> float:
    """Power that noise on ``channels`` channels exceeds in any of ``trials`` with chance below 1e-6."""
    x = 1.0
    while trials * exp(-x) * sum(x**j / factorial(j) for j in range(channels)) > CHANCE:
        x += 0.25
    return x


def acquire(arrivals: Arrivals, low: int, high: int) -> Tone | None:
    """Looks for the pulse train in clicks ``low`` to ``high`` (exclusive); None if there is none."""
    from scipy import fft  # noqa: PLC0415 - slow to import

    if high - low < MIN_CLICKS:
        return None
    tick = (int(arrivals.ticks[low]) + int(arrivals.ticks[high - 1])) // 2
    t = (arrivals.ticks[low:high] - tick).astype(np.float64)
    channels, which = np.unique(arrivals.channel[low:high], return_inverse=True)
    count = np.bincount(which).astype(np.float64)
    half = max(float(t[-1]), 1.0)
    nominal = arrivals.slots_per_tick
    width = max(1.0, 1 / (4 * MAX_RATE_ERROR * nominal))
    bins = (t + half) // width
    size = 1 << (2 * (int(bins[-1]) + 1) - 1).bit_length()
    step = 1 / (size * width)
    reach = ceil(MAX_RATE_ERROR * nominal / step)
    bend = MAX_ACCELERATION_PER_S * nominal * arrivals.tick_s
    n_bends = ceil(bend * half**2 / 2 / 0.2)
    cell = (which * size + bins).astype(np.int64)
    best = (0.0, 0, 0.0)
    for k in range(-n_bends, n_bends + 1):
        curve = bend * k / max(n_bends, 1)
        turned = np.exp(-2j * pi * (nominal * t + curve * t * t / 2))
        cells = _sum_cells(turned, cell, size * channels.size).reshape(channels.size, size)
        spectrum = np.abs(fft.fft(cells, axis=1)) ** 2
        power = (np.hstack([spectrum[:, -reach:], spectrum[:, : reach + 1]]) / count[:, None]).sum(axis=0)
        top = int(np.argmax(power))
        if power[top] > best[0]:
            best = (float(power[top]), top - reach, curve)
    power_found, offset, curve = best
    threshold = power_threshold(channels.size, (2 * reach + 1) * (2 * n_bends + 1))
    if power_found < threshold:
        return None
    rate = _refine(t, which, count, rate=nominal + offset * step, step=step, curve=curve)
    sums, clicks = np.zeros(256, dtype=np.complex128), np.zeros(256)
    sums[channels] = _sum_cells(np.exp(2j * pi * (rate * t + curve * t * t / 2)), which, channels.size)
    clicks[channels] = count
    return Tone(
        tick=tick,
        sums=sums,
        clicks=clicks,
        slots_per_tick=rate,
        slots_per_tick2=curve,
        half_ticks=half,
        power=power_found,
        threshold=threshold,
    )


def _sum_cells(values: Complex, cell: NDArray[np.integer], size: int) -> Complex:
    real = np.bincount(cell, weights=values.real, minlength=size)
    return real + 1j * np.bincount(cell, weights=values.imag, minlength=size)


def _refine(t: Floats, which: NDArray[np.intp], count: Floats, *, rate: float, step: float, curve: float) -> float:
    """The rate of greatest power within a step of the spectrum."""

    def power(candidate: float) -> float:
        sums = _sum_cells(np.exp(2j * pi * (candidate * t + curve * t * t / 2)), which, count.size)
        return float((np.abs(sums) ** 2 / count).sum())

    for finer in (1.0, 0.2, 0.04):
        rate = max((rate + k / 6 * finer * step for k in range(-6, 7)), key=power)
    return rate


def strongest(arrivals: Arrivals) -> tuple[int, int]:
    """The stretch of the recording with the most clicks per time, long enough to acquire."""
    n = int(arrivals.ticks.size)
    take = min(ACQUIRE_CLICKS, n)
    starts = np.arange(0, n - take + 1, max(1, take // 2))
    spans = arrivals.ticks[starts + take - 1] - arrivals.ticks[starts]
    start = int(starts[int(np.argmin(spans))])
    return window(arrivals, start, 1)


def window(arrivals: Arrivals, at: int, direction: int) -> tuple[int, int]:
    """Clicks from ``at`` on in one direction that a search for the pulse train takes: some thousand, within limits."""
    shortest, longest = (round(s / arrivals.tick_s) for s in ACQUIRE_S)
    n = int(arrivals.ticks.size)
    if direction > 0:
        first = int(arrivals.ticks[at])
        low_time, high_time = np.searchsorted(arrivals.ticks, [first + shortest, first + longest])
        return at, min(n, max(int(low_time), min(at + ACQUIRE_CLICKS, int(high_time))))
    last = int(arrivals.ticks[at - 1])
    high_time, low_time = np.searchsorted(arrivals.ticks, [last - shortest, last - longest])
    return max(0, min(int(high_time), max(at - ACQUIRE_CLICKS, int(low_time)))), at
