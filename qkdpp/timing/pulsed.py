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

from qkdpp.core.entropy import Entropy
from qkdpp.core.sync_string import SyncString
from qkdpp.core.tags import AS_PER_PS, TimeTags
from qkdpp.timing.clock import Clock, ClockReport
from qkdpp.timing.delays import find_delays
from qkdpp.timing.detect import Detections, DoubleClickRule, detect
from qkdpp.timing.sync import SyncFit, fit_sync


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
        offset_hint_s: local time at which pulse zero arrived, counted from tick zero (method ``string``).
        offset_range_s: the hint may be wrong by so much, either way. With a sync channel and a string:
            ``first_sync_pulse`` may be wrong by so much.
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
    return from_sync(tags, params)


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

    Raises:
        Abort: NO_LOCK if there is no regular sync train or a detector shows no peak.
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
    return Recovered(
        clock=fit.clock,
        delay_ticks=delays,
        report=_report(
            tags,
            params,
            fit.clock,
            rms_ticks=fit.jitter_ticks,
            significance=significance,
            notes=_sync_notes(fit),
        ),
    )


def _sync_notes(fit: SyncFit) -> tuple[str, ...]:
    return (
        f"sync: regression over {fit.window} pulses, {fit.missing} missing, {fit.rejected} rejected",
        "pulse numbers count from the first regular sync pulse",
    )


def _report(
    tags: TimeTags,
    params: PulsedParams,
    clock: Clock,
    *,
    rms_ticks: float,
    significance: float,
    notes: tuple[str, ...],
) -> ClockReport:
    return clock.describe(
        method=params.method,
        tick_as=tags.tick_as,
        slot_as=params.pulse_period_as,
        first_tick=int(tags.ticks[0]),
        last_tick=int(tags.ticks[-1]),
        residual_rms_ps=rms_ticks * tags.tick_as / AS_PER_PS,
        significance=significance,
        notes=notes,
    )
