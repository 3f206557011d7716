"""One node of ``bench/live.py``: its file, its process, and where its threads are found while it works."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "node"))

from live_sources import STRING_SEED, MemoryTagger, MemoryTransmitter, epoch_begins, plan_of, repeat_string
from pair_process import Lines

from qkdpp.core.sync_string import SyncString
from qkdpp.node import assemble
from qkdpp.node.config import load_node
from qkdpp.node.monitors import Alarm
from qkdpp.node.run import run_node
from qkdpp.node.store import open_store
from qkdpp.scenarios.scenario import ROLES
from qkdpp.sim.run_toml import lines, public_toml

EVEN_S = 12.0
"""From the start until the first search for the clock is over."""
OFFSET_RANGE_S = 2.0
"""Clocks of a pair link: time runs fast here, also on the way of a message."""
WAITING = ("wait", "select", "_worker", "get", "sleep", "accept", "_wait_for_tstate_lock")
"""Functions in which a thread that has nothing to do is found."""
IDLE = ("keystore/writer.py:_run",)
"""The same, where what waits is not written in Python."""


def write_file(path: Path, link: str, role: str, address: dict[str, str], blocks: Mapping[str, object]) -> None:
    """The file of one node: TLS, pool and store as ``qkdpp init --live`` has them, instruments from memory."""
    peer = "bob" if role == "alice" else "alice"
    plan, string = plan_of(link), None
    if plan.sync_string is not None:
        string = SyncString(seed=STRING_SEED, length=plan.sync_string.length, frame=plan.sync_string.frame)
    tls = {"authority": "pki/authority.pem", "certificate": f"pki/{role}.pem", "key": f"pki/{role}.key"}
    public = public_toml(plan, string)
    parts = [
        lines("", {"format": 1, "protocol": plan.protocol}),
        lines("node", {"role": role, "name": role, "folder": "runs"}),
        lines("link", address | tls | {"peer_name": peer}),
        lines("pool", {"file": f"{role}.pool"}),
        lines("store", {"folder": f"{role}.store", "key": f"{role}.store.key", "peer": peer}),
        lines("devices.memory", {"driver": "memory", "url": "memory"}),
        lines("calibration", {"steps": [], "keep_s": 0.0}),
        lines("alarms", {"look_back_s": 1.0}),
        lines("blocks", blocks),
        public if string is not None else public.replace("[timing]", f"[timing]\noffset_range_s = {OFFSET_RANGE_S}"),
    ]
    if link == "pulsed" and role == "alice":
        parts.append(lines("sender", {"transmitter": "memory"}))
    else:
        channels = {str(n + 1): name for n, name in enumerate(ROLES)}
        channels |= {"5": "sync"} if link == "pulsed" else {}
        parts += [lines("receiver", {"tagger": "memory"}), lines("receiver.channels", channels)]
        if link == "pulsed":
            delays = dict(zip("1234", plan.bob.receiver.delays_ps, strict=True))
            parts.append(lines("receiver.delays_ps", delays))
    path.write_text("\n\n".join(parts) + "\n")


def node(link: str, role: str, folder: Path, speed: float) -> None:
    """One process, until SIGTERM: a line of JSON for every block that ends, and a profile."""
    device: MemoryTagger | MemoryTransmitter
    if link == "pulsed":
        repeat_string()
    if link == "pulsed" and role == "alice":
        device = MemoryTransmitter(folder, speed)
    else:
        begin = (lambda: epoch_begins(folder)) if link == "pulsed" else (lambda: 0.0)
        device = MemoryTagger(folder / f"{role}.npz", speed, begin)
    assemble.driver_registry = lambda: SimpleNamespace(connect=lambda *_, **__: device)  # type: ignore[assignment]
    file, alarms = load_node(folder / f"{role}.toml"), list[Alarm]()
    sampler = Sampler()
    sampler.start()
    with open_store(file, alarms.extend) as store:
        (keys,) = store.links()
        run_node(file, keys, watchers=[Lines()], alarms=alarms, duration_s=None)
    (folder / f"{role}.profile").write_text(json.dumps(sampler.shares()))


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
    if frame is None or frame.f_code.co_name in WAITING or "/bench/" in frame.f_code.co_filename:
        return None
    called = ""
    while frame is not None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if "/qkdpp/" in file:
            place = f"{file.rpartition('/qkdpp/')[2]}:{name}{called}"
            return None if place in IDLE else place
        called, frame = f" > {name}", frame.f_back
    return None
