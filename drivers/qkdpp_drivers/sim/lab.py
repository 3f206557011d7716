"""A simulated laboratory: every instrument of both sides behind its real protocol, on one optical world.

    python -m qkdpp_drivers.sim.lab lab.toml

writes ``lab.json`` beside the file (names of instruments and their URLs, for ``sim://NAME?lab=lab.json``) and takes
orders on standard input, one a line (``help`` lists them). Ctrl-C or the end of standard input ends it.

``lab.toml`` names a scenario and what is behind which instrument (``docs/devices.md``).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from qkdpp.scenarios.scenario_file import load
from qkdpp_drivers.sim.bench import KINDS, World
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.hosts import Host
from qkdpp_drivers.sim.simulated import RealClock
from qkdpp_drivers.sim.world.pairs import PairWorld
from qkdpp_drivers.sim.world.pulsed import PulsedWorld


class WorldSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What differs from the scenario, and what a scenario does not know.

    ``aligned_ps``: the instruments stand as a calibration leaves them: polarisation undone, gates within half of this.
    ``string_seed``: of the public synchronisation string, 64 hexadecimal digits; drawn from the seed if missing.
    """

    loss_db: float | None = None
    misalignment: float | None = None
    pair_rate_hz: float | None = None
    wander_rad_per_sqrt_s: float = 0.0
    gate_period_ps: float = 0.0
    aligned_ps: float | None = None
    string_seed: str | None = None


class LabFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``instruments``: name -> kind, a name of ``qkdpp_drivers.sim.bench.KINDS``."""

    scenario: str
    instruments: dict[str, str]
    seed: int = 1
    factor: float = 1.0
    world: WorldSection = WorldSection()


def read_lab(path: Path) -> LabFile:
    """The file; ValueError with the path where it does not make sense."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), LabFile)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; `qkdpp init --live FOLDER` writes one") from error
    except (msgspec.ValidationError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}; is it the file of a laboratory (lab.toml)?") from error


def build_world(file: LabFile) -> World:
    """The optical world of a laboratory."""
    plan = load(file.scenario)
    changes: dict[str, Any] = {
        name: value for name in ("loss_db", "misalignment") if (value := getattr(file.world, name)) is not None
    }
    plan = msgspec.structs.replace(plan, channel=msgspec.structs.replace(plan.channel, **changes))
    if plan.protocol == "bbm92" and plan.pairs is not None:
        rate_hz = file.world.pair_rate_hz or plan.pairs.pair_rate_hz
        plan = msgspec.structs.replace(plan, pairs=msgspec.structs.replace(plan.pairs, pair_rate_hz=rate_hz))
        return PairWorld(plan, file.seed)
    string_seed = None if file.world.string_seed is None else bytes.fromhex(file.world.string_seed)
    world = PulsedWorld(
        plan,
        file.seed,
        wander_rad_per_sqrt_s=file.world.wander_rad_per_sqrt_s,
        gate_period_ps=file.world.gate_period_ps,
        string_seed=string_seed,
    )
    if file.world.aligned_ps is not None:
        world.fibre.rotation = np.eye(3)
        for detector in world.knobs.detectors:
            detector.gate_optimum_ps = float(world.rng.uniform(-0.5, 0.5)) * file.world.aligned_ps
    return world


@dataclass(slots=True, kw_only=True)
class Lab:
    """A running laboratory; ``faults`` of every instrument may be switched at any time."""

    world: World
    hosts: Mapping[str, Host]
    faults: Mapping[str, Faults]

    @property
    def urls(self) -> dict[str, str]:
        """URL of every instrument."""
        return {name: host.url for name, host in self.hosts.items()}

    def order(self, line: str) -> str:
        """Obeys one order of standard input; what to say about it."""
        name, *words = line.split()
        if name not in _ORDERS:
            return HELP
        try:
            return _ORDERS[name](self, words)
        except (LookupError, ValueError) as error:
            why = str(error) if isinstance(error, ValueError) else f"no {error}" if isinstance(error, KeyError) else ""
            return f"not understood: {line.strip()!r} {why}\n{HELP}"


def _fault(lab: Lab, words: list[str]) -> str:
    lab.faults[words[0]].add(words[1], int(words[2]) if len(words) > 2 else None)
    return f"{words[0]}: {words[1]} is on"


def _mend(lab: Lab, words: list[str]) -> str:
    lab.faults[words[0]].discard(words[1])
    return f"{words[0]}: {words[1]} is off"


def _pulsed(lab: Lab) -> PulsedWorld:
    if not isinstance(lab.world, PulsedWorld):
        raise ValueError("there is no pulsed source here")
    return lab.world


def _eve(lab: Lab, words: list[str]) -> str:
    eve = _pulsed(lab).knobs.eve
    name, value = words
    if name not in {field.name for field in fields(eve)}:
        raise ValueError(f"(eve knows {', '.join(field.name for field in fields(eve))})")
    present = getattr(eve, name)
    if name in ("intercept", "shift_share") and not 0.0 <= float(value) <= 1.0:
        raise ValueError(f"({name} is a share, 0 to 1)")
    setattr(eve, name, value in ("1", "on", "true") if isinstance(present, bool) else float(value))
    return f"eve: {name} = {getattr(eve, name)}"


def _fibre(lab: Lab, words: list[str]) -> str:
    world = _pulsed(lab)
    if words[0] == "jump":
        with world.lock:
            world.fibre.jump()
    else:
        world.knobs.fibre_connected = {"cut": False, "join": True}[words[0]]
    return f"fibre: {words[0]}"


def _clock(lab: Lab, words: list[str]) -> str:
    world = _pulsed(lab)
    with world.lock:
        world.clock_jump_ps += int(words[0])
    return f"clock: {world.clock_jump_ps} ps"


def _stray(lab: Lab, words: list[str]) -> str:
    world = _pulsed(lab)
    world.dark_hz = tuple(own + float(words[0]) for own in world.plan.bob.receiver.dark_rate_hz)
    return f"stray light: {float(words[0]):g} clicks per second in every detector"


HELP = """orders:
  fault NAME FAULT [TIMES]    a fault of an instrument (docs/devices.md); mend NAME FAULT
  eve WHAT VALUE              an attack: intercept SHARE, blinding on|off, splitting on|off, shift_ps, shift_share
  fibre jump|cut|join
  clock PICOSECONDS           Bob's clock jumps
  stray HERTZ                 light in every detector, at any time
  stop"""
_ORDERS = {"fault": _fault, "mend": _mend, "eve": _eve, "fibre": _fibre, "clock": _clock, "stray": _stray}


@contextlib.contextmanager
def running(file: LabFile) -> Iterator[Lab]:
    """The laboratory, all instruments behind their URLs, until the end of the context."""
    world = build_world(file)
    world.step()
    clock = RealClock(file.factor)
    with contextlib.ExitStack() as stack:
        hosts, faults = {}, {}
        for i, (name, kind) in enumerate(file.instruments.items()):
            if kind not in KINDS:
                raise ValueError(f"instrument {name}: no kind {kind!r}; known are {', '.join(sorted(KINDS))}")
            made, host = KINDS[kind](world, clock, np.random.default_rng([file.seed, i]))
            hosts[name], faults[name] = stack.enter_context(host), made.faults
        yield Lab(world=world, hosts=hosts, faults=faults)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open() as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path}: a laboratory of this file is running; end it first") from None
        yield


def main(path: Path) -> None:
    """Runs until ``stop`` or the end of standard input. ValueError if the file is not one, or is in use."""
    file = read_lab(path)
    with _alone(path), running(file) as lab:
        listing = path.with_suffix(".json")
        part = listing.with_name(f".{listing.name}.{os.getpid()}")
        part.write_text(json.dumps(lab.urls, indent=1) + "\n", encoding="utf-8")
        part.replace(listing)
        try:
            print(f"laboratory {path} is running; instruments are listed in {listing}", flush=True)
            for line in sys.stdin:
                if line.strip() == "stop":
                    break
                if line.strip():
                    print(lab.order(line), flush=True)
        finally:
            listing.unlink(missing_ok=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(f"python -m qkdpp_drivers.sim.lab lab.toml\n\n{HELP}")
    try:
        main(Path(sys.argv[1]))
    except ValueError as error:
        sys.exit(f"laboratory: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
