"""Clock from a shared sync channel (one pulse for every so many signal pulses).

Assumes that most sync pulses arrive, at a nearly constant interval; missing and
extra pulses are counted and do not matter. Guarantees that a piece of the clock
is called locked only if at least half of its sync pulses were there and lie on
one straight line. The local clock is the sliding linear regression of sync time
against sync number, its window short enough that the drift inside stays below a
tenth of the single-shot jitter. Specification: clock recovery, shared sync
pulses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.tags import AS_PER_S
from qkdpp.timing.clock import Clock, split_position
from qkdpp.timing.sync_line import MIN_SYNCS, MIN_TOLERANCE_TICKS, Line, fit_line

MAX_RATE_ERROR = 2.0**-13
"""Largest relative rate of two free-running clocks that is searched for (122 ppm)."""
WINDOWS = (1024, 256, 64, 16)
"""Sync pulses per regression, longest first."""
MAX_DRIFT_SHARE = 0.1
"""The drift inside a window stays below this share of the jitter."""
MAX_SILENCE_S = 1.0
"""After a longer silence of the sync channel the number of missing pulses is no longer certain."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncFit:
    """Clock of a sync channel and how it was found.

    Attributes:
        clock: slots are signal pulses; the first regular sync pulse has the slot number asked for.
        run: int64[pieces], stretch of pieces whose pulse numbers are certain relative to each other (-1: unlocked).
        jitter_ticks: rms of the accepted sync pulses about their lines.
        window: sync pulses per regression.
        missing: sync pulses that should have been there while locked.
        rejected: tags of the sync channel that are no regular sync pulse.
    """

    clock: Clock
    run: Ints
    jitter_ticks: float
    window: int
    missing: int
    rejected: int


def fit_sync(
    ticks: Ints, *, tick_as: int, pulse_period_as: int, sync_period_pulses: int, first_sync_pulse: int = 0
) -> SyncFit:
    """Fits the local clock to the sync pulses.

    Args:
        ticks: int64[n], tags of the sync channel, sorted.
        tick_as: attoseconds per tick.
        pulse_period_as: nominal pulse period of the sender (attoseconds).
        sync_period_pulses: signal pulses from one sync pulse to the next.
        first_sync_pulse: pulse number of the first regular sync pulse of the recording.

    Raises:
        Abort: NO_LOCK if there is no regular train at the nominal period.
    """
    start = _start(ticks, pulse_period_as * sync_period_pulses / tick_as)
    for window in WINDOWS:
        lines, locked = _slide(ticks, start, window)
        fitted = [line for line, good in zip(lines, locked, strict=True) if good]
        if not fitted:
            continue
        variance = max(float(np.mean([line.variance for line in fitted])), 1 / 12)
        if float(np.mean([line.bend for line in fitted])) < MAX_DRIFT_SHARE**2 * variance:
            break
    if not fitted:
        raise Abort(AbortReason.NO_LOCK, method="sync", sync_tags=int(ticks.size), regular=0)
    clock = _clock(
        lines,
        locked,
        half=window // 2,
        pulses=sync_period_pulses,
        first_sync_pulse=first_sync_pulse,
        last_tick=int(ticks[-1]),
    )
    accepted, square = _accepted(ticks, clock, sync_period_pulses, first_sync_pulse, variance)
    return SyncFit(
        clock=clock,
        run=_runs(clock, MAX_SILENCE_S * AS_PER_S / tick_as),
        jitter_ticks=float(np.sqrt(square)),
        window=window,
        missing=max(0, _expected(clock, sync_period_pulses, int(ticks[-1])) - accepted),
        rejected=int(ticks.size) - accepted,
    )


def _start(ticks: Ints, nominal: float) -> Line:
    """The first regular pulse and the period there: mean of the first 1,024 regular intervals without outliers."""
    intervals = np.diff(ticks).astype(np.float64)
    at = np.flatnonzero(np.abs(intervals - nominal) < max(0.01 * nominal, MIN_TOLERANCE_TICKS))[: WINDOWS[0]]
    if at.size < MIN_SYNCS:
        raise Abort(AbortReason.NO_LOCK, method="sync", sync_tags=int(ticks.size), regular_intervals=int(at.size))
    near = intervals[at]
    middle = float(np.median(near))
    spread = 1.4826 * float(np.median(np.abs(near - middle)))
    period = float(near[np.abs(near - middle) <= max(5 * spread, MIN_TOLERANCE_TICKS)].mean())
    if abs(period / nominal - 1) > 2 * MAX_RATE_ERROR + 1 / nominal:
        raise Abort(AbortReason.NO_LOCK, method="sync", rate_ppm=(period / nominal - 1) * 1e6)
    return Line(
        tick=_first_regular(ticks[max(0, int(at[0]) - 32) :][:256], period), number=0, offset=0.0, period=period
    )


def _first_regular(head: Ints, period: float) -> int:
    """The first tag from which most of the next ones are whole periods away."""
    cycles = (head[None, :] - head[:64, None]) / period
    votes = (np.abs(cycles - np.rint(cycles)) < 1e-3).sum(axis=1)
    return int(head[np.argmax(votes >= 0.9 * votes.max())])


def _slide(ticks: Ints, line: Line, window: int) -> tuple[list[Line], list[bool]]:
    """Lines of consecutive pieces of half a window each; every line is fitted to the window around its piece."""
    half = window // 2
    lines: list[Line] = []
    locked: list[bool] = []
    first_tick, last_tick = line.tick, int(ticks[-1])
    number = 0
    while line.time(number) <= last_tick:
        reach = round((half / 2 + 0.5) * line.period)
        begin = max(line.time(number) - reach, first_tick)
        end = min(line.time(number + half) + reach, last_tick + 1)
        low, high = np.searchsorted(ticks, [begin, end])
        fitted = fit_line(ticks[low:high], line, number)
        good = fitted is not None and fitted.kept >= max(MIN_SYNCS, (end - begin) / line.period / 2)
        if fitted is not None and good:
            line = fitted
        lines.append(line)
        locked.append(good)
        number += half
    return lines, locked


def _clock(
    lines: list[Line], locked: list[bool], *, half: int, pulses: int, first_sync_pulse: int, last_tick: int
) -> Clock:
    """The lines as pieces that start at sync pulses 0, half, 2 half, ..."""
    numbers = [i * half for i in range(len(lines))]
    knots = [line.time(number) for line, number in zip(lines, numbers, strict=True)]
    position = np.array(
        [
            line.residue(number, knot) * pulses / line.period
            for line, number, knot in zip(lines, numbers, knots, strict=True)
        ],
        dtype=np.float64,
    )
    whole, fraction = split_position(position)
    return Clock(
        knot_ticks=np.array(knots, dtype=np.int64),
        knot_slot=np.array(numbers, dtype=np.int64) * pulses + first_sync_pulse + whole,
        knot_fraction=fraction,
        slots_per_tick=pulses / np.array([line.period for line in lines], dtype=np.float64),
        locked=np.array(locked, dtype=np.bool_),
        stop_tick=max(last_tick, knots[-1]) + round(lines[-1].period),
    )


def _accepted(ticks: Ints, clock: Clock, pulses: int, first_sync_pulse: int, variance: float) -> tuple[int, float]:
    """How many tags are regular sync pulses of locked pieces, and their mean square residual (ticks squared)."""
    slot, fraction = clock.slots(ticks)
    past = (slot - first_sync_pulse + pulses // 2) % pulses - pulses // 2
    off = (past + fraction) / clock.slots_per_tick[clock.piece(ticks)]
    regular = clock.is_locked(ticks) & (np.abs(off) <= max(5 * np.sqrt(variance), MIN_TOLERANCE_TICKS))
    return int(regular.sum()), float((off[regular] ** 2).mean()) if regular.any() else 0.0


def _expected(clock: Clock, pulses: int, last_tick: int) -> int:
    """Sync pulses between the start of the clock and the last tag while it was locked."""
    edges = np.append(clock.knot_ticks, max(last_tick + 1, int(clock.knot_ticks[-1])))
    return round(float((np.diff(edges) * clock.slots_per_tick)[clock.locked].sum() / pulses + 0.5))


def _runs(clock: Clock, max_silence_ticks: float) -> Ints:
    """Numbers the stretches of locked pieces that no long silence separates."""
    run = np.full(clock.locked.size, -1, dtype=np.int64)
    at = np.flatnonzero(clock.locked)
    ends = np.append(clock.knot_ticks[1:], clock.stop_tick)
    silence = clock.knot_ticks[at[1:]] - ends[at[:-1]]
    run[at] = np.concatenate([[0], np.cumsum(silence > max_silence_ticks)])
    return run
