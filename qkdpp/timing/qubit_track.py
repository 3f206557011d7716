"""Following the pulse train of a link without a sync channel, slice by slice."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from qkdpp.timing.clock import Clock, split_position
from qkdpp.timing.qubit_clock import (
    ACCELERATION_WALK,
    MAX_ACCELERATION_PER_S,
    MAX_PHASE_ERROR,
    MAX_SLICES,
    MIN_CLICKS,
    MIN_SLICE_S,
    SLICE_CLICKS,
    SLICE_POWER,
    Arrivals,
    Point,
    Tone,
    acquire,
    strongest,
    window,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_MISSED_S = 0.05
"""A piece between two slices further apart than this is not locked."""


class Follower:
    """Position, rate and acceleration of the train (slots, slots/s, slots/s2) at a tick, and their covariance."""

    def __init__(self, arrivals: Arrivals, tone: Tone, relative: Floats, known: NDArray[np.bool_], run: int) -> None:
        """Starts at a tone; ``relative`` are delays of the channels (slots), trusted where ``known``."""
        self.arrivals, self.relative, self.known, self.run = arrivals, relative, known, run
        self.tick = tone.tick
        common = np.angle((tone.sums * np.exp(-2j * pi * relative))[known].sum()) / (2 * pi)
        nominal = round((tone.tick - int(arrivals.ticks[0])) * arrivals.slots_per_tick)
        whole, fraction = split_position(np.array([-common]))
        self.slot, self.fraction = nominal + int(whole[0]), float(fraction[0])
        self.rate = tone.slots_per_tick / arrivals.tick_s
        self.bend = tone.slots_per_tick2 / arrivals.tick_s**2
        half_s = tone.half_ticks * arrivals.tick_s
        phase = 1 / (2 * pi * sqrt(2 * tone.power))
        bend = min(MAX_ACCELERATION_PER_S * arrivals.pulse_hz / 2, 0.2 / half_s**2)
        self.covariance = np.diag([phase**2, 3 * (phase / half_s) ** 2, bend**2])

    def move(self, tick: int) -> float:
        """Moves the reference to a tick; returns the standard deviation of the position there."""
        dt = (tick - self.tick) * self.arrivals.tick_s
        position = self.fraction + self.rate * dt + self.bend * dt * dt / 2
        whole, fraction = split_position(np.array([position]))
        self.tick, self.slot, self.fraction = tick, self.slot + int(whole[0]), float(fraction[0])
        self.rate += self.bend * dt
        step = np.array([[1.0, dt, dt * dt / 2], [0.0, 1.0, dt], [0.0, 0.0, 1.0]])
        size, sign = abs(dt), np.sign(dt)
        noise = np.array(
            [
                [size**5 / 20, sign * size**4 / 8, size**3 / 6],
                [sign * size**4 / 8, size**3 / 3, sign * size**2 / 2],
                [size**3 / 6, sign * size**2 / 2, size],
            ]
        )
        self.covariance = step @ self.covariance @ step.T
        self.covariance += (ACCELERATION_WALK * self.arrivals.pulse_hz) ** 2 * noise
        return sqrt(float(self.covariance[0, 0]))

    def measure(self, low: int, high: int) -> Point | None:
        """Measures the position at the reference from clicks ``low`` to ``high``; None if they show no train."""
        channel = self.arrivals.channel[low:high]
        use = self.known[channel]
        n = int(use.sum())
        if n < MIN_CLICKS:
            return None
        t = (self.arrivals.ticks[low:high][use] - self.tick) * self.arrivals.tick_s
        turns = self.fraction + self.rate * t + self.bend * t * t / 2 - self.relative[channel[use]]
        mean = complex(np.exp(2j * pi * turns).mean())
        power = abs(mean) ** 2
        if n * power < SLICE_POWER:
            return None
        off = float(np.angle(mean)) / (2 * pi)
        variance = max((1 - power) / (2 * n * power) / (2 * pi) ** 2, 1e-10)
        gain = self.covariance[:, 0] / (self.covariance[0, 0] + variance)
        whole, fraction = split_position(np.array([self.fraction - gain[0] * off]))
        self.slot, self.fraction = self.slot + int(whole[0]), float(fraction[0])
        self.rate -= float(gain[1]) * off
        self.bend -= float(gain[2]) * off
        self.covariance = self.covariance - np.outer(gain, self.covariance[0, :])
        return Point(
            tick=self.tick,
            slot=self.slot,
            fraction=self.fraction,
            slots_per_tick=self.rate * self.arrivals.tick_s,
            start=int(self.arrivals.ticks[low]),
            stop=int(self.arrivals.ticks[high - 1]) + 1,
            run=self.run,
            off=off,
        )


class Walk:
    """All points of a recording: from its strongest stretch to both ends, with new runs where the train was lost."""

    def __init__(self, arrivals: Arrivals) -> None:
        """Prepares a walk over the arrivals."""
        self.arrivals = arrivals
        duration = int(arrivals.ticks[-1] - arrivals.ticks[0])
        longest_s = min(0.1, sqrt(0.2 / (MAX_ACCELERATION_PER_S * arrivals.pulse_hz)))
        self.shortest = max(round(MIN_SLICE_S / arrivals.tick_s), duration // MAX_SLICES)
        self.longest = max(round(longest_s / arrivals.tick_s), self.shortest)
        self.points: list[Point] = []
        self.runs = 0

    def all_points(self) -> tuple[list[Point], Tone] | None:
        """The points in order of time and the tone they began with; None if there is no train to be seen."""
        tone = acquire(self.arrivals, *strongest(self.arrivals))
        if tone is None:
            return None
        relative, known = tone.phases()
        start = int(np.searchsorted(self.arrivals.ticks, tone.tick))
        for direction in (1, -1):
            follower = Follower(self.arrivals, tone, relative, known, 0)
            self._walk(follower, start, direction)
        return sorted(self.points, key=lambda p: p.tick), tone

    def _walk(self, follower: Follower, at: int, direction: int) -> None:
        n = int(self.arrivals.ticks.size)
        current: Follower | None = follower
        misses = 0
        while 0 < at < n or (at == 0 and direction > 0) or (at == n and direction < 0):
            if current is None:
                low, high = window(self.arrivals, at, direction)
                tone = acquire(self.arrivals, low, high)
                if tone is None:
                    # in a long darkness one looks less and less often
                    ticks, ahead = self.arrivals.ticks, direction * (1 << min(misses, 4))
                    away = int(ticks[high - 1] - ticks[low]) // 2 * ahead
                    there = int(np.searchsorted(ticks, int(ticks[low if direction > 0 else high - 1]) + away))
                    at = max(at + 1, there) if direction > 0 else min(at - 1, there)
                    misses += 1
                    continue
                misses = 0
                self.runs += 1
                current = Follower(self.arrivals, tone, follower.relative, follower.known, self.runs)
            low, high = self._slice(at, direction)
            middle_tick = (int(self.arrivals.ticks[low]) + int(self.arrivals.ticks[high - 1])) // 2
            if current.move(middle_tick) > MAX_PHASE_ERROR:
                current = None
                continue
            point = current.measure(low, high)
            if point is not None:
                self.points.append(point)
            at = high if direction > 0 else low

    def _slice(self, at: int, direction: int) -> tuple[int, int]:
        """Clicks of the next slice: some hundred, but neither too short nor too long in time."""
        ticks = self.arrivals.ticks
        if direction > 0:
            first = int(ticks[at])
            low, high = (int(x) for x in np.searchsorted(ticks, [first + self.shortest, first + self.longest]))
            return at, max(at + 1, low, min(at + SLICE_CLICKS, high))
        last = int(ticks[at - 1])
        low, high = (int(x) for x in np.searchsorted(ticks, [last - self.longest, last - self.shortest], side="right"))
        return min(at - 1, high, max(at - SLICE_CLICKS, low)), at


def clock_of(points: list[Point], tick_s: float) -> tuple[Clock, Ints]:
    """The points joined by straight lines; and the run of every piece (-1 where it is not locked)."""
    knots: list[tuple[int, int, float, float, int]] = []
    limit = MAX_MISSED_S / tick_s
    for k, point in enumerate(points):
        before, after = points[k - 1] if k else None, points[k + 1] if k + 1 < len(points) else None
        if before is None or before.run != point.run:
            begin = max(point.start, points[k - 1].stop) if before else point.start
            if before and begin > points[k - 1].stop:
                knots.append((points[k - 1].stop, 0, 0.0, point.slots_per_tick, -1))
            if begin < point.tick:
                whole, fraction = split_position(
                    np.array([point.fraction - (point.tick - begin) * point.slots_per_tick])
                )
                knots.append((begin, point.slot + int(whole[0]), float(fraction[0]), point.slots_per_tick, point.run))
        if after is None or after.run != point.run:
            slope, locked = point.slots_per_tick, True
        else:
            ahead = after.tick - point.tick
            slope = ((after.slot - point.slot) + (after.fraction - point.fraction)) / ahead
            locked = after.start - point.stop <= limit
        knots.append((point.tick, point.slot, point.fraction, slope, point.run if locked else -1))
    columns = list(zip(*knots, strict=True))
    run = np.array(columns[4], dtype=np.int64)
    clock = Clock(
        knot_ticks=np.array(columns[0], dtype=np.int64),
        knot_slot=np.array(columns[1], dtype=np.int64),
        knot_fraction=np.array(columns[2], dtype=np.float64),
        slots_per_tick=np.array(columns[3], dtype=np.float64),
        locked=run >= 0,
        stop_tick=points[-1].stop,
    )
    return clock, run
