"""Tags and states of simulated links from memory: what the nodes of ``bench/live.py`` have for instruments.

The tags of ``LENGTH_S`` seconds are made once and played over and over, faster than they were made. For that clocks
run evenly, and the pulses of a synchronisation string repeat with the tags. All processes of one machine share its
steady clock, and by it the time of the laboratory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.devices import Chunk
from qkdpp.core.sync_string import SyncString
from qkdpp.core.tags import TimeTags
from qkdpp.scenarios.scenario import Scenario
from qkdpp.scenarios.scenario_file import load
from qkdpp_drivers.sim.world.light import Mode
from qkdpp_drivers.sim.world.pairs import PairWorld
from qkdpp_drivers.sim.world.pulsed import PulsedWorld

LENGTH_S = 6
TICKS_PER_S = 10**12
STEP_S = 0.01
AHEAD_S = 0.05
"""An epoch begins so long after the transmitter was told: the tagger must not have passed it."""
PAIR_RATE_HZ = 3.85e5
"""Leaves 100,000 tags a second on each side."""
EPOCH = "epoch"
SCENARIOS = {"pairs": "pair-lab", "pulsed": "backbone-625mhz"}
STRING_SEED = bytes(range(32))


def plan_of(link: str) -> Scenario:
    """The scenario of a link, Bob's clock as even as Alice's."""
    plan = load(SCENARIOS[link])
    steady = msgspec.structs.replace(plan.bob.clock, rate_ppm=0.0, drift_ppm_per_s=0.0, walk_ps_per_sqrt_s=0.0)
    plan = msgspec.structs.replace(plan, bob=msgspec.structs.replace(plan.bob, clock=steady))
    if plan.pairs is not None:
        plan = msgspec.structs.replace(plan, pairs=msgspec.structs.replace(plan.pairs, pair_rate_hz=PAIR_RATE_HZ))
    return plan


def make_tags(link: str, folder: Path) -> int:
    """Every receiver's tags as files; tags per second of all together."""
    if link == "pulsed":
        world = _sending()
        late_ps = int(world.path.arrival_fs(np.zeros(1, dtype=np.int64))[0]) // 1000 - 800
        edges = {"bob": world.edges(LENGTH_S + 0.1)}
    else:
        pairs, late_ps = PairWorld(plan_of(link), 1), 0
        edges = {name: pairs.edges(side, LENGTH_S) for side, name in enumerate(("alice", "bob"))}
    n = 0
    for name, (times, inputs) in edges.items():
        # neither what comes before the first light nor what comes after the last
        whole = (times >= late_ps) & (times < late_ps + LENGTH_S * TICKS_PER_S)
        np.savez(folder / f"{name}.npz", ticks=times[whole] - late_ps, channel=inputs[whole])
        n += int(whole.sum())
    return round(n / LENGTH_S)


def _sending() -> PulsedWorld:
    """The laboratory of the pulsed link, aligned, at the start of an epoch; the same in every process."""
    world = PulsedWorld(plan_of("pulsed"), 1, string_seed=STRING_SEED)
    world.fibre.rotation = np.eye(3)
    world.send(Mode.RANDOM)
    return world


def repeat_string() -> None:
    """From now on, in this process, the states of the string repeat with the tags."""
    once = SyncString.states

    def states(self: SyncString, pulses: NDArray[np.int64]) -> NDArray[np.uint8]:
        return once(self, pulses % _pulses())

    SyncString.states = states  # type: ignore[method-assign]


def _pulses() -> int:
    """Pulses in ``LENGTH_S``."""
    return LENGTH_S * 625_000_000


class MemoryTagger:
    """Plays tags over and over, ``speed`` times as fast as they were made.

    ``begin`` tells the time of the laboratory at which they begin, or None: until then it is dark but for a dark count
    now and then.
    """

    def __init__(self, path: Path, speed: float, begin: Callable[[], float | None]) -> None:
        with np.load(path) as found:
            self.ticks, self.channel = found["ticks"], found["channel"]
        self.speed, self.begin = speed, begin
        self.position_s = 0.0

    def _now_s(self) -> float:
        return time.monotonic() * self.speed

    def start(self) -> None:
        self.position_s = self._now_s()

    def read(self, timeout_s: float) -> Chunk:
        time.sleep(max(0.0, STEP_S - (self._now_s() - self.position_s) / self.speed))
        first, self.position_s = self.position_s, self._now_s()
        zero_s = self.begin()
        if zero_s is None or self.position_s <= zero_s:
            dark = np.array([int(self.position_s * TICKS_PER_S) - 1])
            return _chunk(dark, np.zeros(1, dtype=np.uint8))
        since, until = max(0.0, first - zero_s), self.position_s - zero_s
        turns = range(int(since / LENGTH_S), int(until / LENGTH_S) + 1)
        parts = [self._part(since, until, turn) for turn in turns]
        ticks, channel = (np.concatenate(each) for each in zip(*parts, strict=True))
        return _chunk(ticks + int(zero_s * TICKS_PER_S), channel)

    def _part(self, since: float, until: float, turn: int) -> tuple[np.ndarray, np.ndarray]:
        zero = turn * LENGTH_S * TICKS_PER_S
        first, last = np.searchsorted(self.ticks, [int(since * TICKS_PER_S) - zero, int(until * TICKS_PER_S) - zero])
        return self.ticks[first:last] + zero, self.channel[first:last]

    def status(self) -> dict[str, bool]:
        return {"clean": True}

    def reconnect(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def snapshot(self) -> dict[str, object]:
        return {}


def _chunk(ticks: NDArray[np.int64], channel: NDArray[np.uint8]) -> Chunk:
    return Chunk(tags=TimeTags(ticks=ticks, channel=channel, channel_ids=(1, 2, 3, 4, 5), tick_as=10**6))


class MemoryTransmitter:
    """Answers for the states of the pulses whose tags Bob has; tells his tagger through ``folder`` of an epoch."""

    def __init__(self, folder: Path, speed: float) -> None:
        self.world, self.speed, self.file, self.epoch = _sending(), speed, folder / EPOCH, 0
        self.light = self.world._run.light

    def configuration(self) -> dict[str, Any]:
        header, string = self.world.header, self.world.header.sync_string
        assert string is not None
        return {
            "pulse_period_as": header.pulse_period_as,
            "intensities": list(header.intensities),
            "p_intensity": list(header.p_intensity),
            "p_z": header.p_z,
            "sync_period_pulses": self.world.sync.period_pulses,
            "sync_string": {"seed": string.seed.hex(), "length": string.length, "frame": string.frame},
        }

    def send(self, mode: str) -> None:
        self.file.unlink(missing_ok=True)

    def start(self) -> int:
        self.epoch += 1
        part = self.file.with_suffix(".part")
        part.write_text(repr((time.monotonic() + AHEAD_S) * self.speed))
        part.rename(self.file)
        return self.epoch

    def state(self) -> tuple[str, int, int]:
        return ("RANDOM" if self.file.exists() else "OFF"), self.epoch, 0

    def lookup(self, epoch: int, slots: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.light.states(slots % _pulses())

    def totals(self, epoch: int, first: int, count: int, n_codes: int) -> NDArray[np.int64]:
        return self.world.totals(first, count)

    def release(self, epoch: int, before: int) -> None: ...
    def reconnect(self) -> None: ...
    def close(self) -> None: ...
    def snapshot(self) -> dict[str, object]:
        return {}


def epoch_begins(folder: Path) -> float | None:
    """When the epoch begins that the transmitter sends, by the time of the laboratory; None while it is dark."""
    try:
        return float((folder / EPOCH).read_text())
    except FileNotFoundError:
        return None
