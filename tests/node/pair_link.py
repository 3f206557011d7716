"""A pair link for tests: a laboratory and two nodes that know it only by the bytes of its instruments."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from memory_store import MemoryStore
from numpy.typing import NDArray

from qkdpp.core.entropy import OsEntropy
from qkdpp.core.ledger import Side
from qkdpp.link.pool_file import create_pool
from qkdpp.node.assemble import Assembled, assembled
from qkdpp.node.config import load_node
from qkdpp.node.monitors import Alarm
from qkdpp.node.recording import FOLDER, read_tags
from qkdpp.node.sink import BlockEnd
from qkdpp.node.status import Status
from qkdpp_drivers.sim.lab import Lab, LabFile, WorldSection, running
from qkdpp_drivers.sim.ports import Edges

NODE = """format = 1
protocol = "bbm92"
[node]
role = "{role}"
name = "{role}"
[link]
{link}
[pool]
file = "{role}.pool"
{pool}
[timing]
method = "pairs"
gate_ps = 6000.0
dead_time_ns = 40.0
offset_range_s = 0.5
[detectors]
alice = [0.55, 0.55, 0.55, 0.55]
bob = [0.55, 0.55, 0.55, 0.55]
tolerance = 0.0
[security]
eps_sec = 1e-9
[blocks]
block_s = {block_s}
[devices.tagger]
driver = "{driver}"
url = "sim://{role}/tagger?lab=lab.json"
options = {{ {options} }}
[receiver]
tagger = "tagger"
channels = {{ 1 = "Z0", 2 = "Z1", 3 = "X0", 4 = "X1" }}
[alarms]
look_back_s = 1.0
[recording]
tags = true
"""


class Truth:
    """What really came to the inputs of a tagger, in picoseconds of its clock."""

    def __init__(self, lab: Lab, name: str) -> None:
        instrument = lab.hosts[name].instrument
        self._parts: list[NDArray[np.int64]] = []
        self._source, instrument.edges = instrument.edges, self  # type: ignore[attr-defined]

    def edges(self, until_s: float) -> Edges:
        times, inputs = self._source.edges(until_s)
        self._parts.append(times)
        return times, inputs

    def ticks(self, tick_ps: int) -> NDArray[np.int64]:
        return np.unique(np.concatenate(self._parts) // tick_ps)


@dataclass
class Seen:
    """A watcher that keeps the ends of blocks."""

    ends: dict[int, BlockEnd] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)

    def block(self, end: BlockEnd, row: object) -> None:
        self.ends[end.block] = end

    def alarm(self, alarm: Alarm) -> None:
        self.alarms.append(alarm.name)

    def changed(self, status: Status) -> None: ...


@dataclass
class End:
    """One node."""

    made: Assembled
    store: MemoryStore
    seen: Seen

    @property
    def ok(self) -> list[int]:
        return sorted(block for block, end in self.seen.ends.items() if not hasattr(end.result, "reason"))


@contextlib.contextmanager
def laboratory(folder: Path, kind: str, *, pair_rate_hz: float, seed: int = 3) -> Iterator[Lab]:
    names: dict[Side, str] = {"alice": f"{kind}-alice", "bob": f"{kind}-bob"}
    file = LabFile(
        scenario="pair-lab",
        seed=seed,
        instruments={f"{side}/tagger": name for side, name in names.items()},
        world=WorldSection(pair_rate_hz=pair_rate_hz),
    )
    with running(file) as lab:
        (folder / "lab.json").write_text(json.dumps(lab.urls))
        yield lab


@contextlib.asynccontextmanager
async def two_nodes(
    folder: Path, driver: str, *, block_s: float, options: str = "", tags: int = 4000, pool: str = ""
) -> AsyncIterator[tuple[End, End]]:
    """Alice and Bob over loopback, with pools of so many tags; stopped in order at the end."""
    create_pool(folder / "alice.pool", tags, OsEntropy())
    if not (folder / "bob.pool").exists():
        shutil.copy(folder / "alice.pool", folder / "bob.pool")
    (folder / "bob.pool").chmod(0o600)
    with contextlib.ExitStack() as stack:

        def start(role: Side, link: str) -> tuple[End, asyncio.Task[None]]:
            path = folder / f"{role}.toml"
            more = {"driver": driver, "block_s": block_s, "options": options, "pool": pool}
            path.write_text(NODE.format(role=role, link=link, **more))
            store, seen = MemoryStore(), Seen()
            made = stack.enter_context(assembled(load_node(path), store, now=time.monotonic, watchers=[seen]))
            return End(made, store, seen), asyncio.create_task(made.node.run())

        alice, first = start("alice", 'listen = "127.0.0.1:0"')
        while alice.made.port() == 0:
            await asyncio.sleep(0.02)
        bob, second = start("bob", f'connect = "127.0.0.1:{alice.made.port()}"')
        try:
            yield alice, bob
        finally:
            for end, task in ((bob, second), (alice, first)):
                end.made.node.stop()
                await task


async def until(ends: tuple[End, End], n_blocks: int, timeout_s: float = 150.0) -> None:
    """Waits until both have a key of ``n_blocks`` further blocks."""
    wanted = [len(end.ok) + n_blocks for end in ends]
    async with asyncio.timeout(timeout_s):
        while any(len(end.ok) < n for end, n in zip(ends, wanted, strict=True)):
            await asyncio.sleep(0.05)


def assert_equal_keys(alice: End, bob: End) -> None:
    common = alice.store.keys.keys() & bob.store.keys.keys()
    assert len(common) >= min(len(alice.ok), len(bob.ok)) > 0
    for block in common:
        assert alice.store.keys[block].equals(bob.store.keys[block])


def assert_nothing_lost_is_used(end: End, truth: NDArray[np.int64]) -> float:
    """Between its lost intervals every block holds exactly what came to the inputs; seconds that were checked.

    Clocks begin anew at every stretch: where it lies in the truth is found by its first ten differences.
    """
    checked_s = 0.0
    for recorded in sorted((end.made.folder.path / FOLDER).glob("*.h5")):
        tags = read_tags(end.made.folder.path, int(recorded.stem))
        ticks = np.unique(tags.ticks)
        borders = [(-1, 0), *sorted(tags.lost), (1 << 62, 1 << 62)]
        for (_, begin), (stop, _) in pairwise(borders):
            stretch = ticks[(ticks >= begin) & (ticks < stop)]
            if stretch.size < 200:
                continue
            at = _place(np.diff(stretch[:11]), truth)
            assert np.array_equal(stretch - stretch[0], truth[at : at + stretch.size] - truth[at])
            checked_s += float(stretch[-1] - stretch[0]) * tags.tick_as / 1e18
    return checked_s


def _place(pattern: NDArray[np.int64], truth: NDArray[np.int64]) -> int:
    steps = np.diff(truth)
    places = np.flatnonzero(steps[: -pattern.size] == pattern[0])
    for k in range(1, pattern.size):
        places = places[steps[places + k] == pattern[k]]
    assert places.size == 1
    return int(places[0])
