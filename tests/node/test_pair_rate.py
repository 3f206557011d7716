"""A pair link at 10^6 events a second in all: a laboratory and two nodes, a process each."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import pytest
from pair_link import NODE

from qkdpp.core.entropy import OsEntropy
from qkdpp.link.pool_file import create_pool

pytestmark = pytest.mark.xdist_group("live")

BLOCK_S = 2.0
PAIR_RATE_HZ = 2e6
"""About 520,000 and 480,000 events a second; one in four has its partner."""
LAB = """scenario = "pair-lab"
seed = 3
[world]
pair_rate_hz = {rate}
[instruments]
"alice/tagger" = "{kind}-alice"
"bob/tagger" = "{kind}-bob"
"""


class Processes:
    """A laboratory and two nodes; what they write lies in files beside their settings."""

    def __init__(self, folder: Path, kind: str, options: str) -> None:
        self.folder, self.kind, self.options = folder, kind, options
        self.files: list[TextIO] = []
        (folder / "lab.toml").write_text(LAB.format(rate=PAIR_RATE_HZ, kind=kind))
        command = [sys.executable, "-m", "qkdpp_drivers.sim.lab", str(folder / "lab.toml")]
        self.lab = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self.file("lab.out"))
        self.wait_for("lab.json")
        create_pool(folder / "alice.pool", 100_000, OsEntropy())
        shutil.copy(folder / "alice.pool", folder / "bob.pool")
        (folder / "bob.pool").chmod(0o600)
        self.alice = self.node("alice", 'listen = "127.0.0.1:0"')
        self.bob = self.node("bob", f'connect = "127.0.0.1:{self.wait_for("alice.port")}"')

    def file(self, name: str) -> TextIO:
        self.files.append((self.folder / name).open("w"))
        return self.files[-1]

    def wait_for(self, name: str) -> str:
        deadline = time.monotonic() + 60.0
        while not (self.folder / name).exists() or not (self.folder / name).read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return (self.folder / name).read_text()

    def node(self, role: str, link: str) -> subprocess.Popen[bytes]:
        text = NODE.format(role=role, link=link, driver=self.kind, block_s=BLOCK_S, options=self.options, pool="")
        (self.folder / f"{role}.toml").write_text(text.replace("tags = true", "tags = false"))
        script, toml, port = Path(__file__).with_name("pair_process.py"), f"{role}.toml", f"{role}.port"
        command = [sys.executable, str(script), str(self.folder / toml), str(self.folder / port)]
        return subprocess.Popen(command, stdout=self.file(f"{role}.out"), stderr=self.file(f"{role}.err"))

    def stop(self) -> None:
        for process in (self.bob, self.alice):
            process.send_signal(signal.SIGTERM)
            process.wait(120)
        self.lab.kill()  # it may be far behind
        self.lab.communicate()
        for file in self.files:
            file.close()

    def blocks(self, role: str) -> dict[int, dict[str, Any]]:
        text = (self.folder / f"{role}.out").read_text()
        lines = map(json.loads, text[: text.rfind("\n") + 1].splitlines())
        return {line["block"]: line for line in lines if "block" in line}

    def keys(self) -> list[int]:
        """The blocks of which both have a key."""
        alice, bob = self.blocks("alice"), self.blocks("bob")
        return [n for n in alice.keys() & bob.keys() if alice[n]["digest"] and bob[n]["digest"]]


@pytest.mark.parametrize(("kind", "options"), [("tdc1", ""), ("id900", "record_s = 1.0")])
@pytest.mark.parametrize("n_keys", [3, pytest.param(56, marks=pytest.mark.soak)])
def test_equal_keys_at_a_million_events_a_second(tmp_path: Path, kind: str, options: str, n_keys: int) -> None:
    """In real time: a machine with other work may drop intervals, so the time for the keys is ample."""
    processes = Processes(tmp_path, kind, options)
    try:
        deadline = time.monotonic() + 240.0 + 2.0 * n_keys * BLOCK_S
        while len(processes.keys()) < n_keys and time.monotonic() < deadline:
            time.sleep(0.5)
    finally:
        processes.stop()
    alice, bob, keys = processes.blocks("alice"), processes.blocks("bob"), processes.keys()
    assert len(keys) >= n_keys
    assert all(alice[n]["digest"] == bob[n]["digest"] for n in keys)
    rate = sum(blocks[n]["tags"] for n in keys for blocks in (alice, bob)) / len(keys) / BLOCK_S
    assert rate > 0.9e6
    print(f"\n{kind}: {len(keys)} equal keys {rate:.3g} events/s")
    for role, blocks in (("alice", alice), ("bob", bob)):
        last = blocks[max(blocks)]
        aborts = [line["abort"] for line in blocks.values() if line["abort"]]
        print(role, {name: last[name] for name in ("s", "dropped", "cpu_s", "memory_mib")}, aborts)
        print((processes.folder / f"{role}.err").read_text()[-3000:])
    print("bits", sum(bob[n]["secret_bits"] for n in keys), "bytes/block", bob[max(keys)]["bytes"])
