"""A live link to try at home: Alice's and Bob's node and delivery files, and a simulated laboratory for them.

The loss is raised, or the pair rate lowered, until the clicks come at a rate that an ordinary computer simulates in
real time. Written once, never over anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import msgspec

from qkdpp.core.entropy import OsEntropy
from qkdpp.core.errors import ConfigError, InputError
from qkdpp.core.keyfile import create_secret
from qkdpp.core.sync_string import SyncString
from qkdpp.link.pool_file import create_pool
from qkdpp.pki import create_authority, create_certificate
from qkdpp.scenarios import scenario
from qkdpp.sim.run_toml import lines, public_toml

POOL_TAGS = 4000
CLICKS_HZ = 60_000.0
LONGEST_GATE_PERIOD_PS = 1600.0
"""Gates of the laboratory are 180 ps wide: with a longer period a scan would take very many steps."""
SCAN_STEP_PS = 25.0
MISALIGNMENT = 0.004
WANDER = 0.002
NODES = ("alice", "bob")
TDC1_GATE_PS, TDC1_DEAD_NS = 6000.0, 40.0
"""Coincidence window of three ticks of 2 ns, and dead time, of receivers with a TDC1."""
PAIR_INSTRUMENTS = {f"{node}/tagger": f"tdc1-{node}" for node in NODES}
QUARANTINE = "# Keys rest so long before they may be given out.\n[alarms]\nlook_back_s = 15.0"
INSTRUMENTS = {
    "alice/transmitter": "transmitter",
    "bob/tagger": "raw64-bob",
    "bob/gates": "dg645-gates",
    "bob/rectilinear": "oz_epc-rectilinear",
    "bob/diagonal": "oz_epc-diagonal",
    **{f"bob/current-{role}": f"dmm-{role}" for role in scenario.ROLES},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was written, what is to be typed in three terminals, and what then gives an application a key."""

    files: list[Path]
    commands: list[str]
    ask: str


def write_trial(folder: Path, name: str, plan: scenario.Scenario, *, port: int, block_s: float) -> Trial:
    """Fills a new folder for the scenario ``name``, already read as ``plan``.

    ``port``: Alice's for Bob; the next three serve delivery: Alice's and Bob's for applications, and between them.

    Raises:
        InputError: something is in the folder, or the scenario is neither pairs nor a transmitter with sync pulses and
            a passive receiver.
    """
    if plan.pairs is None and (plan.source is None or plan.sync is None or plan.bob.receiver.kind != "passive"):
        raise InputError(f"{name}: a live trial needs pairs, or bb84 with sync pulses and a passive receiver")
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    entropy = OsEntropy()
    section = plan.sync_string
    string = None if section is None else SyncString(seed=entropy.bytes(32), length=section.length, frame=section.frame)
    create_authority(folder / "pki")
    for node in NODES:
        create_certificate(folder / "pki", node, "node", hosts=("127.0.0.1", "localhost"))
        create_certificate(folder / "pki", f"sae-{node}", "application")
    create_pool(folder / "alice.pool", POOL_TAGS, entropy)
    create_secret(folder / "bob.pool", (folder / "alice.pool").read_bytes())
    blocks = "\n\n" + lines("blocks", {"block_s": block_s}) + "\n"
    if plan.pairs is not None:
        texts = _pair_texts(name, plan, port, blocks)
    else:
        gate_ps = gate_period_ps(plan)
        public = public_toml(plan, string) + blocks
        texts = {
            "lab.toml": _lab(name, _world(plan, gate_ps, string), INSTRUMENTS),
            "alice.toml": _alice(port) + public,
            "bob.toml": _bob(port, plan, gate_ps) + public,
        }
    texts |= {
        **{f"kme-{node}.toml": _delivery(node, port + 1 + n, port + 3) for n, node in enumerate(NODES)},
    }
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
    return Trial(
        files=[folder / file for file in texts],
        commands=[
            f"python -m qkdpp_drivers.sim.lab {folder / 'lab.toml'}",
            f"qkdpp run {folder / 'alice.toml'}",
            f"qkdpp run {folder / 'bob.toml'}",
        ],
        ask=f"qkdpp keys get 127.0.0.1:{port + 1} sae-bob --authority {folder / 'pki/authority.pem'}"
        f" --certificate {folder / 'pki/sae-alice.pem'}",
    )


def gate_period_ps(plan: scenario.Scenario) -> float:
    """The detectors' gate period, or a whole part of it; 0 where they are free-running."""
    rate_hz = plan.bob.receiver.gate_rate_hz
    if not rate_hz:
        return 0.0
    return 1e12 / rate_hz / math.ceil(1e12 / rate_hz / LONGEST_GATE_PERIOD_PS)


def trial_loss_db(plan: scenario.Scenario) -> float:
    """Loss of the channel: the scenario's, or what leaves ``CLICKS_HZ`` clicks per second, in whole decibels."""
    source, receiver = plan.source, plan.bob.receiver
    if source is None:
        raise ConfigError("a trial needs a [source]")
    photons = sum(mu * p for mu, p in zip(source.intensities, source.p_intensity, strict=True))
    clicks_hz = 1e18 / source.pulse_period_as * photons * sum(receiver.efficiency) / len(receiver.efficiency)
    needed = 10.0 * math.log10(clicks_hz / CLICKS_HZ) - receiver.loss_db
    channel = plan.channel
    own = channel.loss_db + channel.length_km * channel.attenuation_db_per_km
    return float(math.ceil(max(needed, own)) - channel.length_km * channel.attenuation_db_per_km)


def trial_pair_rate_hz(plan: scenario.Scenario) -> float:
    """Pairs per second: the scenario's, or what leaves ``CLICKS_HZ`` clicks per second at Bob."""
    pairs, receiver = plan.pairs, plan.bob.receiver
    if pairs is None:
        raise ConfigError("a trial of pairs needs [pairs]")
    channel = plan.channel
    loss_db = channel.loss_db + plan.bob.loss_db + plan.bob.length_km * channel.attenuation_db_per_km + receiver.loss_db
    share = 10.0 ** (-loss_db / 10.0) * sum(receiver.efficiency) / len(receiver.efficiency)
    return min(pairs.pair_rate_hz, float(round(CLICKS_HZ / share)))


def _pair_texts(name: str, plan: scenario.Scenario, port: int, blocks: str) -> dict[str, str]:
    """Laboratory and both nodes, each with a TDC1: two receivers on free-running clocks."""
    timing = msgspec.structs.replace(
        plan.timing,
        gate_ps=max(plan.timing.gate_ps, TDC1_GATE_PS),
        dead_time_ns=max(plan.timing.dead_time_ns, TDC1_DEAD_NS),
    )
    public = public_toml(msgspec.structs.replace(plan, timing=timing), None) + blocks
    parts = [
        lines("receiver", {"tagger": "tagger"}),
        lines("receiver.channels", {str(n + 1): role for n, role in enumerate(scenario.ROLES)}),
        QUARANTINE,
        "# Public: the same at both nodes, compared when the link comes up.",
        public,
    ]
    nodes = {
        f"{node}.toml": _node(node, port, protocol="bbm92")
        + "\n\n".join([_device("tagger", f"{node}/tagger", "tdc1"), *parts])
        for node in NODES
    }
    return {"lab.toml": _lab(name, {"pair_rate_hz": trial_pair_rate_hz(plan)}, PAIR_INSTRUMENTS)} | nodes


def _world(plan: scenario.Scenario, gate_ps: float, string: SyncString | None) -> dict[str, object]:
    world: dict[str, object] = {
        "loss_db": trial_loss_db(plan),
        "misalignment": MISALIGNMENT,
        "wander_rad_per_sqrt_s": WANDER,
        "gate_period_ps": gate_ps,
    }
    if string is not None:
        world["string_seed"] = string.seed.hex()
    return world


def _lab(name: str, world: dict[str, object], instruments: dict[str, str]) -> str:
    quoted = "\n".join(f'"{instrument}" = "{kind}"' for instrument, kind in instruments.items())
    head = lines("", {"scenario": name, "seed": 1, "factor": 1.0})
    return (
        "# A simulated laboratory: the instruments of both nodes behind their own protocols.\n"
        "# factor: how fast its time runs; below 1 for a computer that cannot keep up.\n"
        f"{head}\n\n{lines('world', world)}\n\n[instruments]\n{quoted}\n"
    )


def _node(role: str, port: int, protocol: str = "bb84") -> str:
    peer = "bob" if role == "alice" else "alice"
    address = {"listen" if role == "alice" else "connect": f"127.0.0.1:{port}"}
    tls = {"authority": "pki/authority.pem", "certificate": f"pki/{role}.pem", "key": f"pki/{role}.key"}
    parts = [
        f"# Node {role} of a live link (docs/formats/node.md). Instruments are simulated: on a bench, give each\n"
        "# device its own url instead, such as serial:///dev/ttyACM0 or tcp://192.168.1.20:5025; beside that only\n"
        "# addresses, certificates and pools change.",
        lines("", {"format": 1, "protocol": protocol}),
        lines("node", {"role": role, "name": role, "folder": "runs"}),
        lines("link", address | tls | {"peer_name": peer}),
        lines("pool", {"file": f"{role}.pool", "refill_below": 2000, "refill_to": 2200}),
        lines("store", {"folder": f"{role}.store", "key": f"{role}.store.key", "peer": peer}),
        lines("delivery", {"file": f"kme-{role}.toml"}),
        "# Recordings of tags and randomness give every key away: here for `qkdpp replay`, off on a link in service.\n"
        + lines("recording", {"tags": True, "entropy": True}),
        '# [metrics]\n# listen = "127.0.0.1:9460"',
    ]
    return "\n\n".join(parts) + "\n\n"


def _delivery(role: str, port: int, meeting: int) -> str:
    peer = "bob" if role == "alice" else "alice"
    pki = {"authority": "pki/authority.pem", "certificate": f"pki/{role}.pem", "key": f"pki/{role}.key"}
    parts = [
        f"# Keys of node {role} for applications (docs/formats/delivery.md): served by `qkdpp run {role}.toml`, or by\n"
        f"# `qkdpp serve kme-{role}.toml` while the node does not run.",
        lines("", {"format": 1}),
        lines("server", {"name": role, "listen": f"127.0.0.1:{port}"} | pki),
        lines("store", {"folder": f"{role}.store", "key": f"{role}.store.key"}),
        _entry("peer", {"name": peer, "listen" if role == "alice" else "connect": f"127.0.0.1:{meeting}"}),
        *(_entry("sae", {"id": f"sae-{node}", "kme": node}) for node in NODES),
    ]
    return "\n\n".join(parts) + "\n"


def _entry(name: str, values: dict[str, object]) -> str:
    return f"[[{name}]]\n" + lines("", values)


def _device(name: str, instrument: str, driver: str, options: dict[str, object] | None = None) -> str:
    text = lines(f"devices.{name}", {"driver": driver, "url": f"sim://{instrument}?lab=lab.json"})
    return text if options is None else text + "\n" + lines(f"devices.{name}.options", options)


def _alice(port: int) -> str:
    parts = [
        lines("sender", {"transmitter": "transmitter"}),
        _device("transmitter", "alice/transmitter", "transmitter"),
        "# Public: the same at both nodes, compared when the link comes up.",
    ]
    return _node("alice", port) + "\n\n".join(parts) + "\n\n"


def _bob(port: int, plan: scenario.Scenario, gate_ps: float) -> str:
    devices = [
        _device("tagger", "bob/tagger", "raw64", {"layout": "a1s"}),
        _device("gates", "bob/gates", "dg645"),
        _device("rectilinear", "bob/rectilinear", "oz_epc"),
        _device("diagonal", "bob/diagonal", "oz_epc"),
        *(_device(f"current-{role}", f"bob/current-{role}", "dmm") for role in scenario.ROLES),
    ]
    steps = ["delay"] * bool(gate_ps) + ["polarisation", "synchronisation"]
    delays = {role: f"gates:{channel}" for role, channel in zip(scenario.ROLES, "ACEG", strict=True)}
    parts = [
        lines("receiver", {"tagger": "tagger", "polarisation": ["rectilinear", "diagonal"]}),
        lines("receiver.channels", {str(n + 1): role for n, role in enumerate((*scenario.ROLES, "sync"))}),
        lines("receiver.gate_delays", delays),
        lines("receiver.current_meters", {role: f"current-{role}" for role in scenario.ROLES}),
        *devices,
        lines("calibration", {"steps": steps}),
        *([lines("calibration.delay", {"span_ps": gate_ps, "step_ps": SCAN_STEP_PS})] if gate_ps else []),
        QUARANTINE,
        "# Public: the same at both nodes, compared when the link comes up.",
    ]
    return _node("bob", port) + "\n\n".join(parts) + "\n\n"
