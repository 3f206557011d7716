"""Writes the ``run.toml`` of a simulated run: public parameters and each party's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from qkdpp.core.sync_string import SyncString
from qkdpp.scenarios import scenario
from qkdpp.sources.formats import FORMATS


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What only the run itself knows: recordings by party, the string, and the true clock offset."""

    recordings: dict[str, str]
    sync_string: SyncString | None
    offset_s: float


def run_toml(plan: scenario.Scenario, written: Written) -> str:
    """The text of ``run.toml``."""
    parts = [
        f"# {plan.title}\n# Simulated; truth.json, where it lies beside this file, is read by neither party.",
        lines("", {"format": 1, "protocol": plan.protocol}),
    ]
    parts += _source_and_string(plan, written.sync_string)
    if plan.alice is None:
        parts.append(lines("alice", {"record": "alice.h5"}))
    else:
        parts.append(_party("alice", plan.alice, written.recordings["alice"], sync=False))
    parts.append(_party("bob", plan.bob, written.recordings["bob"], sync=plan.sync is not None))
    parts.append(_detectors(plan))
    offset_s = round(written.offset_s + plan.timing.hint_error_s, 9)
    parts.append(_timing(plan, {"offset_hint_s": offset_s, "offset_range_s": plan.timing.offset_range_s}))
    return "\n\n".join(parts + _security(plan)) + "\n"


def public_toml(plan: scenario.Scenario, string: SyncString | None) -> str:
    """The sections that both nodes of a live link must have alike."""
    return "\n\n".join([*_source_and_string(plan, string), _detectors(plan), _timing(plan, {}), *_security(plan)])


def _source_and_string(plan: scenario.Scenario, string: SyncString | None) -> list[str]:
    parts = [] if plan.source is None else [_source(plan, plan.source)]
    if string is not None:
        parts.append(lines("sync_string", {"seed": string.seed.hex(), "length": string.length, "frame": string.frame}))
    return parts


def _security(plan: scenario.Scenario) -> list[str]:
    security = plan.security
    return [
        lines("security", {name: getattr(security, name) for name in security.__struct_fields__}),
        lines("correction", {"method": plan.correction}),
    ]


def _source(plan: scenario.Scenario, source: scenario.PulseSource) -> str:
    return lines(
        "source",
        {
            "pulse_period_as": source.pulse_period_as,
            "intensities": list(source.intensities),
            "p_intensity": list(source.p_intensity),
            "p_z_alice": source.p_z,
            "p_z_bob": plan.bob.receiver.p_z,
            "phase_randomised": source.phase_randomised,
            "intensities_declared": True,
            "receiver": plan.bob.receiver.kind,
        },
    )


def _party(name: str, party: scenario.Party, recording: str, *, sync: bool) -> str:
    row = FORMATS[party.tagger.format]
    values: dict[str, object] = {"files": [recording]}
    if row.tick != "header":
        values["format"] = row.name
    if row.tick == "declared":
        values["tick_as"] = party.tagger.tick_as
    channels: dict[str, object] = dict(zip(map(str, party.tagger.channels), scenario.ROLES, strict=True))
    if sync:
        channels[str(party.tagger.sync_channel)] = "sync"
    return lines(name, values) + "\n\n" + lines(f"{name}.channels", channels)


def _detectors(plan: scenario.Scenario) -> str:
    """Efficiencies by role, known exactly: this is a simulation. An active receiver has one pair for both bases."""
    values: dict[str, object] = {}
    for name, party in (("alice", plan.alice), ("bob", plan.bob)):
        if party is not None:
            values[name] = list(party.receiver.efficiency) * (4 // party.receiver.n_detectors)
    return lines("detectors", values | {"tolerance": 0.0})


def _timing(plan: scenario.Scenario, offset: dict[str, object]) -> str:
    values: dict[str, object] = {"method": plan.timing.method}
    if plan.timing.method == "sync" and plan.sync is not None:
        values["sync_period_pulses"] = plan.sync.period_pulses
    values |= offset | {"gate_ps": plan.timing.gate_ps, "dead_time_ns": plan.timing.dead_time_ns}
    return lines("timing", values)


def lines(section: str, values: Mapping[str, object]) -> str:
    """One TOML table; JSON's notation of these values is also TOML's."""
    head = [f"[{section}]"] if section else []
    return "\n".join(head + [f"{key} = {json.dumps(value)}" for key, value in values.items()])
