"""Throughput of two live nodes over loopback, tags from memory: ``python bench/live.py rates|delays|profile``.

``rates``: rising rates until tags or intervals are dropped. ``delays``: one rate, round trips from 0 to 100 ms.
``profile``: one rate, and in which functions both nodes were found while they worked. ``--link pulsed``: decoy BB84
of the scenario ``backbone-625mhz`` with its sync channel; ``pairs``: the scenario ``pair-lab`` at 100,000 tags a second
on each side. Both nodes are processes of their own, with TLS, authentication and key stores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from live_node import node, write_file
from live_sources import EPOCH, make_tags

from qkdpp.core.entropy import OsEntropy
from qkdpp.link.pool_file import create_pool
from qkdpp.pki import create_authority, create_certificate

BLOCK_S = {"pairs": 2.0, "pulsed": 10.0}
IN_FLIGHT = 6
NODES = ("alice", "bob")
SPEEDS = {"pairs": (2.0, 5.0, 10.0, 15.0, 20.0, 30.0), "pulsed": (2.0, 5.0, 10.0, 15.0, 20.0, 40.0)}
SETTLED_S = 4.0
"""Blocks that ended earlier do not count."""


class Line:
    """A line to ``target`` on which everything takes ``delay_s``, whatever it is."""

    def __init__(self, target: int, delay_s: float) -> None:
        self.target, self.delay_s = target, delay_s
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """The port to connect to."""
        self.server = await asyncio.start_server(self._arrived, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()

    async def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        for one in (self._carry(reader, far_writer), self._carry(far_reader, writer)):
            self.tasks.add(asyncio.create_task(one))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                asyncio.get_running_loop().call_later(self.delay_s, writer.write, data)
        await asyncio.sleep(self.delay_s)
        writer.close()


async def measure(link: str, folder: Path, *, speed: float, seconds: float, delay_s: float) -> dict[str, Any]:
    """One run; figures of what came after its beginning."""
    for name in NODES:
        for made in (folder / f"{name}.pool", folder / f"{name}.store.key"):
            made.unlink(missing_ok=True)
        shutil.rmtree(folder / f"{name}.store", ignore_errors=True)
    shutil.rmtree(folder / "runs", ignore_errors=True)
    (folder / EPOCH).unlink(missing_ok=True)
    create_pool(folder / "alice.pool", 200_000, OsEntropy())
    shutil.copy(folder / "alice.pool", folder / "bob.pool")
    (folder / "bob.pool").chmod(0o600)
    target = free_port()
    line = Line(target, delay_s)
    connect = await line.start() if delay_s else target
    addresses = {"alice": {"listen": f"127.0.0.1:{target}"}, "bob": {"connect": f"127.0.0.1:{connect}"}}
    processes = []
    for role, address in addresses.items():
        blocks = {"block_s": BLOCK_S[link], "in_flight": IN_FLIGHT}
        write_file(folder / f"{role}.toml", link, role, address, blocks)
        command = [sys.executable, __file__, role, "--link", link, "--folder", str(folder), "--speed", str(speed)]
        with (folder / f"{role}.out").open("w") as out, (folder / f"{role}.err").open("w") as err:
            processes.append(await asyncio.create_subprocess_exec(*command, stdout=out, stderr=err))
    await asyncio.sleep(seconds)
    for role, process in zip(reversed(NODES), reversed(processes), strict=True):
        if process.returncode is not None:
            raise RuntimeError((folder / f"{role}.err").read_text())
        process.send_signal(signal.SIGTERM)
        await process.wait()
    if delay_s:
        line.stop()
    return figures(folder, speed, BLOCK_S[link])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def figures(folder: Path, speed: float, block_s: float) -> dict[str, Any]:
    lines = {}
    for role in NODES:
        rows = [json.loads(line) for line in (folder / f"{role}.out").read_text().splitlines()]
        lines[role] = [row for row in rows if row.get("digest")]
    rows = [row for row in lines["bob"] if row["s"] > SETTLED_S]
    if len(rows) < 2:
        return {"keys": len(rows), "log": (folder / "bob.err").read_text()[-500:], "notes": warnings(folder, "bob")}
    digests = {row["block"]: row["digest"] for row in lines["alice"]}
    span_s = rows[-1]["s"] - rows[0]["s"]
    later = rows[1:]
    durations = [sum(row["stage_seconds"].values()) for row in later]
    stages = {name: [row["stage_seconds"].get(name, 0.0) for row in later] for name in later[0]["stage_seconds"]}
    return {
        "keys": len(later),
        "equal": all(digests.get(row["block"], row["digest"]) == row["digest"] for row in later),
        "share_used": round(len(later) * block_s / span_s / speed, 2),
        "secret_bits_per_s": round(sum(row["secret_bits"] for row in later) / span_s),
        "messages": round(float(np.mean([row["messages"] for row in later]))),
        "kbytes": round(float(np.mean([row["bytes"] for row in later])) / 1000),
        "block_ms": round(1000 * float(np.mean(durations))),
        "in_flight": round(float(np.sum(durations)) / span_s, 2),
        "stage_s": {name: round(float(np.mean(each)), 3) for name, each in stages.items()},
        "dropped_intervals": {role: each[-1]["dropped"] for role, each in lines.items()},
        "warnings": {role: warnings(folder, role) for role in lines},
        "processors": {role: round(slope(each), 2) for role, each in lines.items()},
        "memory_mib": {role: each[-1]["memory_mib"] for role, each in lines.items()},
    }


def warnings(folder: Path, role: str) -> dict[str, int]:
    """How often the node warned of something, numbers left out."""
    found: dict[str, int] = {}
    for log in folder.glob(f"runs/{role}-*/log.jsonl"):
        for row in map(json.loads, log.read_text().splitlines()):
            if row["level"] != "info":
                text = "".join(c for c in row["message"] if not c.isdigit())[:80]
                found[text] = found.get(text, 0) + 1
    return found


def slope(rows: list[dict[str, Any]]) -> float:
    """Processor seconds per second."""
    rows = [row for row in rows if row["s"] > SETTLED_S]
    return float(rows[-1]["cpu_s"] - rows[0]["cpu_s"]) / (rows[-1]["s"] - rows[0]["s"])


async def measured(what: str, link: str, folder: Path, *, speeds: list[float], seconds: float) -> None:
    tags_per_s = make_tags(link, folder)
    create_authority(folder / "pki")
    for role in NODES:
        create_certificate(folder / "pki", role, "node", hosts=("127.0.0.1", "localhost"))
    print(f"tags as made: {tags_per_s} /s at all receivers together; load {os.getloadavg()}")
    runs = [(s, 0.0) for s in speeds or SPEEDS[link]]
    if what == "profile":
        runs = runs[-1:] if speeds else [(SPEEDS[link][2], 0.0)]
    if what == "delays":
        runs = [(speeds[0] if speeds else 1.0, rtt_ms / 2000) for rtt_ms in (0, 10, 20, 50, 75, 100)]
    for one, delay_s in runs:
        found = await measure(link, folder, speed=one, seconds=seconds, delay_s=delay_s)
        print(f"{round(one * tags_per_s):8d} tags/s, round trip {2000 * delay_s:g} ms:", json.dumps(found), flush=True)
        for role in NODES if what == "profile" else ():
            for place, share in json.loads((folder / f"{role}.profile").read_text()).items():
                print(f"{role:6} {share:6.1%}  {place}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["rates", "delays", "profile", *NODES])
    parser.add_argument("--link", choices=list(SPEEDS), default="pulsed")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--speed", type=float, action="append", default=[], help="several for rates")
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    if given.what in NODES:
        node(given.link, given.what, given.folder, given.speed[0])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            asyncio.run(measured(given.what, given.link, Path(temporary), speeds=given.speed, seconds=given.seconds))
