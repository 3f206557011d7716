"""Pulsed links: everything between tags and detections, on the receiver's side alone.

:func:`recover` finds the clock and the per-detector delays of a recording;
:func:`qkdpp.timing.detect.detect` turns them into detections, as often as
wanted. No messages are exchanged here: what is public (sync pulses, the
synchronisation string) is known beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.entropy import Entropy
from qkdpp.core.sync_string import SyncString
from qkdpp.core.tags import AS_PER_PS, AS_PER_S, TimeTags
from qkdpp.timing.clock import Clock, ClockReport
from qkdpp.timing.delays import find_delays, follow_phase
from qkdpp.timing.detect import Detections, DoubleClickRule, detect
from qkdpp.timing.numbering import Counted, Guess, Numbered, first_run_only, number
from qkdpp.timing.qubit_clock import Arrivals
from qkdpp.timing.qubit_track import Walk, clock_of
from qkdpp.timing.sync import fit_sync

Ints = NDArray[np.int64]

MIN_REACH = 64
"""Whole slots of delay that are looked for however good the hint is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PulsedParams:
    """How a pulsed link is timed.

    Attributes:
        method: ``sync`` (a shared sync channel) or ``string`` (the public synchronisation string alone).
        pulse_period_as: nominal pulse period of the sender (attoseconds).
        detector_of_channel: detector code (``basis << 1 | bit``) of every instrument channel that is a detector.
        gate_ps: full width of the gate.
        dead_time_ns: blanking of all detectors after any click.
        known_delay_ticks: delays known beforehand, by instrument channel.
        sync_channel: instrument channel of the sync pulses (method ``sync``).
        sync_period_pulses: signal pulses from one sync pulse to the next (method ``sync``).
        first_sync_pulse: pulse number of the first sync pulse of the recording (method ``sync``).
        string: the public synchronisation string, if the sender prepares one.
        offset_hint_s: local time at which pulse ``offset_hint_pulse`` arrived, counted from tick zero (used with a
            string).
        offset_range_s: the hint may be wrong by so much, either way. With a sync channel and a string, where the hint
            leads nowhere, ``first_sync_pulse`` is the guess, and may be wrong by as much.
        double_clicks: ``random`` (squashing) or ``first`` (no composable claim).
    """

    method: Literal["sync", "string"]
    pulse_period_as: int
    detector_of_channel: Mapping[int, int]
    gate_ps: float
    dead_time_ns: float
    known_delay_ticks: Mapping[int, float] = field(default_factory=dict)
    sync_channel: int | None = None
    sync_period_pulses: int = 0
    first_sync_pulse: int = 0
    string: SyncString | None = None
    offset_hint_s: float = 0.0
    offset_hint_pulse: int = 0
    offset_range_s: float = 0.0
    double_clicks: DoubleClickRule = "random"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recovered:
    """Clock, delays (ticks, by instrument channel) and their report."""

    clock: Clock
    delay_ticks: Mapping[int, float]
    report: ClockReport


def recover(tags: TimeTags, params: PulsedParams) -> Recovered:
    """Finds clock and delays of a recording.

    Raises:
        Abort: NO_LOCK, with what was found, if there is no clock to trust.
    """
    return from_sync(tags, params) if params.method == "sync" else from_string(tags, params)


def detections(
    tags: TimeTags,
    found: Recovered,
    params: PulsedParams,
    entropy: Entropy,
    *,
    gate_ps: float | None = None,
    gate_offset_ps: float = 0.0,
) -> Detections:
    """Detections under a recovered clock; ``gate_ps`` and ``gate_offset_ps`` may differ from run to run."""
    return detect(
        tags,
        found.clock,
        found.delay_ticks,
        params.detector_of_channel,
        pulse_period_as=params.pulse_period_as,
        gate_ps=params.gate_ps if gate_ps is None else gate_ps,
        dead_time_ns=params.dead_time_ns,
        entropy=entropy,
        gate_offset_ps=gate_offset_ps,
        double_clicks=params.double_clicks,
    )


def from_sync(tags: TimeTags, params: PulsedParams) -> Recovered:
    """Clock from the sync channel (see :mod:`qkdpp.timing.sync`), delays from the arrivals.

    With a string the pulse numbers are those of the string; without one the first regular sync pulse has the number
    ``first_sync_pulse``, and delays of whole slots stay unknown.

    Raises:
        Abort: NO_LOCK if there is no regular sync train, a detector shows no peak, or the string is not recognised.
    """
    if params.sync_channel is None or params.sync_period_pulses < 1:
        raise ValueError("the sync method needs a sync channel and the number of pulses per sync period")
    fit = fit_sync(
        tags.of_channel(params.sync_channel),
        tick_as=tags.tick_as,
        pulse_period_as=params.pulse_period_as,
        sync_period_pulses=params.sync_period_pulses,
        first_sync_pulse=params.first_sync_pulse,
    )
    delays, significance = find_delays(tags, fit.clock, params.detector_of_channel, params.known_delay_ticks)
    clock, drift = follow_phase(tags, fit.clock, delays)
    first = Guess(
        tick=int(clock.knot_ticks[0]),
        pulse=int(clock.knot_slot[0]),
        reach=_reach(params, params.offset_range_s),
    )
    numbered = _number(tags, params, (clock, fit.run), delays=delays, guesses=[_hinted(tags, params), first])
    sync = (
        f"sync: regression over {fit.window} pulses, {fit.missing} missing, {fit.rejected} rejected; "
        f"the signal drifts by {drift:.3f} slots"
    )
    return _recovered(tags, params, numbered, rms_ticks=fit.jitter_ticks, significance=significance, note=sync)


def from_string(tags: TimeTags, params: PulsedParams) -> Recovered:
    """Clock from the arrivals of the qubits (see :mod:`qkdpp.timing.qubit_clock`), numbers from the string.

    Raises:
        Abort: NO_LOCK if the arrivals show no pulse train, a detector no peak, or the string is not recognised.
    """
    if params.string is None:
        raise ValueError("the string method needs the synchronisation string")
    arrivals = _arrivals(tags, params)
    walk = Walk(arrivals).all_points() if arrivals.ticks.size else None
    if walk is None:
        raise Abort(AbortReason.NO_LOCK, method="string", detector_tags=int(arrivals.ticks.size), pulse_train=False)
    points, tone = walk
    clock, run = clock_of(points, arrivals.tick_s)
    delays, _ = find_delays(tags, clock, params.detector_of_channel, params.known_delay_ticks)
    numbered = _number(tags, params, (clock, run), delays=delays, guesses=[_hinted(tags, params)])
    rms_ticks = float(np.sqrt(np.mean([point.off**2 for point in points]))) / arrivals.slots_per_tick
    train = f"pulse train: power {tone.power:.0f}, threshold {tone.threshold:.0f}; {len(points)} slices"
    return _recovered(tags, params, numbered, rms_ticks=rms_ticks, significance=tone.power, note=train)


def _arrivals(tags: TimeTags, params: PulsedParams) -> Arrivals:
    """Clicks of all detectors, known delays taken out, lost intervals left out."""
    times, channels = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.uint8)]
    for index, channel_id in enumerate(tags.channel_ids):
        if channel_id in params.detector_of_channel:
            times.append(tags.of_channel(channel_id) - round(params.known_delay_ticks.get(channel_id, 0.0)))
            channels.append(np.full(times[-1].size, index, dtype=np.uint8))
    ticks, channel = np.concatenate(times), np.concatenate(channels)
    keep = np.ones(ticks.size, dtype=np.bool_)
    for start, end in tags.lost:
        keep &= (ticks < start) | (ticks >= end)
    order = np.argsort(ticks[keep], kind="stable")
    return Arrivals(
        ticks=ticks[keep][order],
        channel=channel[keep][order],
        slots_per_tick=tags.tick_as / params.pulse_period_as,
        tick_as=tags.tick_as,
    )


def _reach(params: PulsedParams, seconds: float) -> int:
    """Pulses in a time, and some whole slots of delay."""
    return MIN_REACH + round(seconds * AS_PER_S / params.pulse_period_as)


def _hinted(tags: TimeTags, params: PulsedParams) -> Guess:
    """The pulse where the hint puts it."""
    tick = round(params.offset_hint_s * AS_PER_S / tags.tick_as)
    return Guess(tick=tick, pulse=params.offset_hint_pulse, reach=_reach(params, params.offset_range_s))


def _number(
    tags: TimeTags,
    params: PulsedParams,
    counting: tuple[Clock, Ints],
    *,
    delays: Mapping[int, float],
    guesses: list[Guess],
) -> Numbered:
    clock, run = counting
    if params.string is None:
        return first_run_only(clock, run, delays)
    counted = Counted(
        tags=tags,
        clock=clock,
        run=run,
        detector_of_channel=params.detector_of_channel,
        string=params.string,
        gate=min(1.0, params.gate_ps * AS_PER_PS / params.pulse_period_as),
    )
    return number(counted, delays, guesses)


def _recovered(
    tags: TimeTags, params: PulsedParams, numbered: Numbered, *, rms_ticks: float, significance: float, note: str
) -> Recovered:
    notes = [note, f"{numbered.runs[0]} of {numbered.runs[1]} runs numbered"]
    if numbered.first is None:
        notes.append("pulse numbers count from the first regular sync pulse")
    else:
        shift = numbered.first
        significance = min(significance, shift.significance)
        notes.append(
            f"string: significance {shift.significance:.1f}, threshold {shift.threshold:.1f}, on frames of its own "
            f"{shift.confirmed:.1f}; {shift.agreement:.1%} of its bits agree"
        )
    if numbered.unconfirmed:
        notes.append(f"{numbered.unconfirmed} stretches unlocked: the string was not recognised there")
    report = numbered.clock.describe(
        method=params.method,
        tick_as=tags.tick_as,
        slot_as=params.pulse_period_as,
        first_tick=int(tags.ticks[0]),
        last_tick=int(tags.ticks[-1]),
        residual_rms_ps=rms_ticks * tags.tick_as / AS_PER_PS,
        significance=significance,
        notes=tuple(notes),
    )
    return Recovered(clock=numbered.clock, delay_ticks=numbered.delay_ticks, report=report)
