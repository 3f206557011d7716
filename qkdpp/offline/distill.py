"""The main job: a run file and recordings in, equal keys and their report out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.errors import ConfigError
from qkdpp.core.stage import Stage
from qkdpp.core.tags import AS_PER_PS, AS_PER_S, TimeTags
from qkdpp.link.pool import Pool
from qkdpp.offline.drive import Outcome, drive
from qkdpp.offline.inputs import Inputs
from qkdpp.offline.runfile import RunFile
from qkdpp.protocols import bb84, bbm92
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.distillation import Party
from qkdpp.protocols.parameters import Parameters
from qkdpp.timing.detect import Detections
from qkdpp.timing.pulsed import PulsedParams, Recovered, detections, recover


@dataclass(slots=True, kw_only=True)
class ClockCache:
    """Bob's clock and delays, kept when a scan runs the same tags through several gates."""

    recovered: Recovered | None = field(default=None)


def distill(
    run: RunFile,
    inputs: Inputs,
    *,
    now: Callable[[], float],
    pools: tuple[Pool, Pool] | None = None,
    cache: ClockCache | None = None,
    gate_offset_ps: float = 0.0,
) -> Outcome:
    """Runs both parties of ``run`` in memory on one block; each is given only its own inputs."""
    stages, logs = conversation(run, inputs, now=now, cache=cache, gate_offset_ps=gate_offset_ps)
    return drive(*stages, logs, pools)


def conversation(
    run: RunFile,
    inputs: Inputs,
    *,
    now: Callable[[], float],
    cache: ClockCache | None = None,
    gate_offset_ps: float = 0.0,
) -> tuple[tuple[Stage[Bits], Stage[Bits]], tuple[BlockLog, BlockLog]]:
    """Alice's and Bob's halves of one block, not yet begun, and their logs."""
    logs = (BlockLog(now=now), BlockLog(now=now))
    parties = (
        Party(role="alice", parameters=run.parameters, entropy=OsEntropy(), log=logs[0]),
        Party(role="bob", parameters=run.parameters, entropy=OsEntropy(), log=logs[1]),
    )
    if run.parameters.protocol == "bb84":
        if inputs.prepared is None:
            raise ConfigError(f"{run.path}: alice.record is missing")
        detect = _detector(run, inputs, parties[1], cache or ClockCache(), gate_offset_ps)
        stages: tuple[Stage[Bits], Stage[Bits]] = (
            bb84.alice(inputs.prepared, parties[0]),
            bb84.bob(detect, parties[1]),
        )
    else:
        if inputs.alice is None:
            raise ConfigError(f"{run.path}: alice.files is missing")
        stages = (
            bbm92.alice(inputs.alice.tags, run.alice.detectors("alice"), parties[0]),
            bbm92.bob(inputs.bob.tags, run.bob.detectors("bob"), parties[1]),
        )
    return stages, logs


def _detector(
    run: RunFile, inputs: Inputs, party: Party, cache: ClockCache, gate_offset_ps: float
) -> Callable[[], Detections]:
    """Bob's clock recovery and gating, run inside his stage so that a lost lock is an abort like any other."""
    tags = inputs.bob.tags
    params = pulsed_params(run, tags.tick_as)

    def detect() -> Detections:
        party.log.facts["tags"] = len(tags)
        if cache.recovered is None:
            cache.recovered = recover(tags, params)
        party.log.facts["recovered"] = cache.recovered
        party.log.mark("clock", len(tags))
        used = _from(tags, inputs.from_s)
        found = detections(used, cache.recovered, params, party.entropy, gate_offset_ps=gate_offset_ps)
        party.log.mark("gated", len(found), len(used) - len(found))
        party.log.facts["detections"] = found
        return found

    return detect


def _from(tags: TimeTags, start_s: float) -> TimeTags:
    """The tags from ``start_s`` seconds after the first one on."""
    if start_s <= 0.0:
        return tags
    first = int(np.searchsorted(tags.ticks, int(tags.ticks[0]) + round(start_s * AS_PER_S / tags.tick_as)))
    return replace(tags, ticks=tags.ticks[first:], channel=tags.channel[first:])


def pulsed_params(run: RunFile, tick_as: int) -> PulsedParams:
    """Bob's timing parameters from the run file."""
    parameters: Parameters = run.parameters
    timing, source = parameters.timing, parameters.source
    if source is None or timing.method == "pairs":
        raise ConfigError(f"{run.path}: bb84 needs a [source] section and timing.method sync or string")
    roles = run.bob.channel_roles("bob")
    delays_ps = run.bob.delays("bob") or {}
    return PulsedParams(
        method=timing.method,
        pulse_period_as=source.pulse_period_as,
        detector_of_channel=run.bob.detectors("bob"),
        gate_ps=timing.gate_ps,
        dead_time_ns=timing.dead_time_ns,
        known_delay_ticks={c: ps * AS_PER_PS / tick_as for c, ps in delays_ps.items()},
        sync_channel=next((c for c, role in roles.items() if role == "sync"), None),
        sync_period_pulses=timing.sync_period_pulses,
        string=None if parameters.sync_string is None else parameters.sync_string.build(),
        offset_hint_s=timing.offset_hint_s,
        offset_range_s=timing.search_range_s,
        double_clicks=timing.double_click,
    )


def with_gate(run: RunFile, gate_ps: float) -> RunFile:
    """The run with another gate."""
    parameters = run.parameters
    timing = msgspec.structs.replace(parameters.timing, gate_ps=gate_ps)
    changed = msgspec.structs.replace(parameters, timing=timing)
    changed.check()
    return RunFile(path=run.path, folder=run.folder, parameters=changed, alice=run.alice, bob=run.bob)
