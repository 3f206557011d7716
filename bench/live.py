"""Throughput of two live nodes over loopback, tags injected from memory: ``python bench/live.py rates|delays|profile``.

``rates``: rising rates until tags or intervals are dropped. ``delays``: one rate, round trips from 0 to 100 ms, by a
proxy. ``profile``: one rate, and in which functions both nodes were found while they worked. The tags are those of the
scenario ``pair-lab`` at 100,000 a second on each side, played over and over and faster than they were made. Both nodes
are processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "node"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "system"))

from pair_link import NODE
from pair_process import main as node_process
from proxy import Proxy

from qkdpp.core.devices import Chunk
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.tags import TimeTags
from qkdpp.link.pool_file import create_pool
from qkdpp.node import assemble
from qkdpp.scenarios.scenario_file import load
from qkdpp_drivers.sim.world.pairs import PairWorld

LENGTH_S, PAIR_RATE_HZ, BLOCK_S, IN_FLIGHT = 6.0, 3.85e5, 2.0, 6
STEP_S = 0.01
EVEN_S = 12.0
"""From the start until the wide search for the clock is over."""
WAITING = ("wait", "select", "_worker", "get", "sleep", "accept", "_wait_for_tstate_lock")
"""Functions in which a thread that has nothing to do is found."""
STAGES = ("blanked", "gated", "sifted", "corrected", "secret")
TICKS_PER_S = 10**12


def make_tags(folder: Path) -> int:
    """Both sides' tags as files; tags per second of both together."""
    plan = load("pair-lab")
    steady = msgspec.structs.replace(plan.bob.clock, rate_ppm=0.0, drift_ppm_per_s=0.0, walk_ps_per_sqrt_s=0.0)
    plan = msgspec.structs.replace(
        plan,
        pairs=msgspec.structs.replace(plan.pairs, pair_rate_hz=PAIR_RATE_HZ),
        bob=msgspec.structs.replace(plan.bob, clock=steady),
    )
    world, n = PairWorld(plan, 1), 0
    for side, name in enumerate(("alice", "bob")):
        times, inputs = world.edges(side, LENGTH_S)
        whole = times >= 0  # echoes of what came before the first light
        np.savez(folder / f"{name}.npz", ticks=times[whole], channel=inputs[whole])
        n += int(whole.sum())
    return round(n / LENGTH_S)


class MemoryTagger:
    """Plays tags over and over, ``speed`` times as fast as they were made, in step with the other process."""

    def __init__(self, path: Path, speed: float) -> None:
        with np.load(path) as found:
            self.ticks, self.channel = found["ticks"], found["channel"]
        self.speed = speed
        self.position_s = 0.0

    def _now_s(self) -> float:
        return time.monotonic() * self.speed

    def start(self) -> None:
        self.position_s = self._now_s()

    def read(self, timeout_s: float) -> Chunk:
        time.sleep(max(0.0, STEP_S - (self._now_s() - self.position_s) / self.speed))
        begin, self.position_s = self.position_s, self._now_s()
        parts = [self._part(begin, self.position_s, turn) for turn in self._turns(begin)]
        ticks, channel = (np.concatenate(each) for each in zip(*parts, strict=True))
        return Chunk(tags=TimeTags(ticks=ticks, channel=channel, channel_ids=(1, 2, 3, 4), tick_as=10**6))

    def _turns(self, begin: float) -> range:
        return range(int(begin / LENGTH_S), int(self.position_s / LENGTH_S) + 1)

    def _part(self, begin: float, end: float, turn: int) -> tuple[np.ndarray, np.ndarray]:
        zero = turn * round(LENGTH_S * TICKS_PER_S)
        first, last = np.searchsorted(self.ticks, [int(begin * TICKS_PER_S) - zero, int(end * TICKS_PER_S) - zero])
        return self.ticks[first:last] + zero, self.channel[first:last]

    def status(self) -> dict[str, bool]:
        return {"clean": True}

    def stop(self) -> None: ...
    def close(self) -> None: ...
    def snapshot(self) -> dict[str, object]:
        return {}


class Sampler(threading.Thread):
    """Looks a hundred times a second where every thread is, once it runs evenly; those that wait do not count."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.found: Counter[str] = Counter()

    def run(self) -> None:
        time.sleep(EVEN_S)
        while True:
            time.sleep(0.01)
            for frame in sys._current_frames().values():
                if (place := _place(frame)) is not None:
                    self.found[place] += 1

    def shares(self, most: int = 12) -> dict[str, float]:
        """Share of all samples, the largest first."""
        return {place: round(n / self.found.total(), 3) for place, n in self.found.most_common(most)}


def _place(frame: FrameType | None) -> str | None:
    """The innermost function of qkdpp, and of the library that it has called; None for a thread that waits."""
    if frame is None or frame.f_code.co_name in WAITING or frame.f_code.co_filename == __file__:
        return None
    called = ""
    while frame is not None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if "/qkdpp/" in file:
            return f"{file.rpartition('/qkdpp/')[2]}:{name}{called}"
        called, frame = f" > {name}", frame.f_back
    return None


def node(role: str, folder: Path, speed: float) -> None:
    """One process."""
    tagger, sampler = MemoryTagger(folder / f"{role}.npz", speed), Sampler()
    assemble.driver_registry = lambda: SimpleNamespace(connect=lambda *_, **__: tagger)  # type: ignore[assignment]
    sampler.start()
    asyncio.run(node_process(folder / f"{role}.toml", folder / f"{role}.port"))
    (folder / f"{role}.profile").write_text(json.dumps(sampler.shares()))


async def measure(folder: Path, *, speed: float, seconds: float, delay_s: float) -> dict[str, Any]:
    """One run; figures of its second half and later."""
    for name in ("alice", "bob"):
        (folder / f"{name}.port").unlink(missing_ok=True)
        (folder / f"{name}.pool").unlink(missing_ok=True)
        for run in folder.glob(f"{name}-*"):
            shutil.rmtree(run)
    create_pool(folder / "alice.pool", 200_000, OsEntropy())
    shutil.copy(folder / "alice.pool", folder / "bob.pool")
    (folder / "bob.pool").chmod(0o600)
    alice = await start("alice", folder, speed, 'listen = "127.0.0.1:0"')
    proxy = Proxy(target=await port(folder / "alice.port"), delay_s=delay_s)
    bob = await start("bob", folder, speed, f'connect = "127.0.0.1:{await proxy.start()}"')
    await asyncio.sleep(seconds)
    for process in (bob, alice):
        process.send_signal(signal.SIGTERM)
        await process.wait()
    await proxy.stop()
    return figures(folder, speed)


async def start(role: str, folder: Path, speed: float, link: str) -> asyncio.subprocess.Process:
    text = NODE.format(role=role, link=link, driver="memory", block_s=BLOCK_S, options="", pool="")
    text = text.replace("tags = true", "tags = false").replace("offset_range_s = 0.5", "offset_range_s = 2.0")
    text = text.replace("[blocks]", f"[blocks]\nin_flight = {IN_FLIGHT}")
    (folder / f"{role}.toml").write_text(text.replace("gate_ps = 6000.0", "gate_ps = 1200.0"))
    command = [sys.executable, __file__, role, "--folder", str(folder), "--speed", str(speed)]
    with (folder / f"{role}.out").open("w") as out, (folder / f"{role}.err").open("w") as err:
        return await asyncio.create_subprocess_exec(*command, stdout=out, stderr=err)


async def port(path: Path) -> int:
    while not path.exists() or not path.read_text():
        await asyncio.sleep(0.02)
    return int(path.read_text())


def figures(folder: Path, speed: float) -> dict[str, Any]:
    lines = {}
    for role in ("alice", "bob"):
        rows = [json.loads(line) for line in (folder / f"{role}.out").read_text().splitlines()]
        lines[role] = [row for row in rows if row.get("digest")]
    rows = [row for row in lines["bob"] if row["s"] > 4.0]
    if len(rows) < 2:
        return {"keys": len(rows), "log": (folder / "bob.err").read_text()[-500:]}
    digests = {row["block"]: row["digest"] for row in lines["alice"]}
    span_s = rows[-1]["s"] - rows[0]["s"]
    later = rows[1:]
    durations = [sum(row["stage_seconds"].values()) for row in later]
    stages = {stage: round(float(np.mean([row["stage_seconds"][stage] for row in later])), 3) for stage in STAGES}
    return {
        "keys": len(later),
        "equal": all(digests.get(row["block"], row["digest"]) == row["digest"] for row in later),
        "share_used": round(len(later) * BLOCK_S / span_s / speed, 2),
        "secret_bits_per_s": round(sum(row["secret_bits"] for row in later) / span_s),
        "messages": round(float(np.mean([row["messages"] for row in later]))),
        "kbytes": round(float(np.mean([row["bytes"] for row in later])) / 1000),
        "block_ms": round(1000 * float(np.mean(durations))),
        "in_flight": round(float(np.sum(durations)) / span_s, 2),
        "stage_s": stages,
        "dropped_intervals": {role: each[-1]["dropped"] for role, each in lines.items()},
        "shed": {role: shed(folder, role) for role in lines},
        "processors": {role: round(slope(each), 2) for role, each in lines.items()},
        "memory_mib": {role: each[-1]["memory_mib"] for role, each in lines.items()},
    }


def shed(folder: Path, role: str) -> bool:
    """Whether the node said that it dropped tags."""
    return any("tags are dropped" in log.read_text() for log in folder.glob(f"{role}-*/log.jsonl"))


def slope(rows: list[dict[str, Any]]) -> float:
    """Processor seconds per second."""
    return (rows[-1]["cpu_s"] - rows[0]["cpu_s"]) / (rows[-1]["s"] - rows[0]["s"])


async def measured(what: str, folder: Path, *, speed: float, seconds: float) -> None:
    tags_per_s = make_tags(folder)
    print(f"tags as made: {tags_per_s} /s on both sides together; load {os.getloadavg()}")
    runs = [(s, 0.0) for s in (1.0, 2.0, 3.0, 4.0, 5.0, 15.0)]
    if what == "profile":
        runs = [(speed, 0.0)]
    if what == "delays":
        runs = [(speed, rtt_ms / 2000) for rtt_ms in (0, 10, 20, 50, 75, 100)]
    for one, delay_s in runs:
        found = await measure(folder, speed=one, seconds=seconds, delay_s=delay_s)
        print(f"{round(one * tags_per_s):8d} tags/s, round trip {2000 * delay_s:g} ms:", json.dumps(found), flush=True)
        for role in ("alice", "bob") if what == "profile" else ():
            for place, share in json.loads((folder / f"{role}.profile").read_text()).items():
                print(f"{role:6} {share:6.1%}  {place}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["rates", "delays", "profile", "alice", "bob"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--speed", type=float, default=2.5)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    if given.what in ("alice", "bob"):
        node(given.what, given.folder, given.speed)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            asyncio.run(measured(given.what, Path(temporary), speed=given.speed, seconds=given.seconds))
