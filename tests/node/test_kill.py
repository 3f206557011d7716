"""Two processes, either of which is killed at random moments and started again."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from qkdpp.core.entropy import OsEntropy
from qkdpp.link.pool_file import create_pool

HERE = Path(__file__).parent
N_TAGS = 50_000
ROLES = ("alice", "bob")


class Process:
    """One node; it can be killed and started again."""

    def __init__(self, role: str, folder: Path, port: int) -> None:
        self.role, self.folder, self.port = role, folder, port
        self.lines: list[str] = []
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(HERE / "live_process.py"), self.role, str(self.folder), str(self.port)]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, args=(self.child,), daemon=True)
        self.reader.start()

    def _read(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        self.lines += list(child.stdout)

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self._gone()

    def stop(self) -> str:
        self.child.send_signal(signal.SIGTERM)
        return self._gone()

    def _gone(self) -> str:
        self.child.wait(30)
        self.reader.join(30)
        assert self.child.stdout is not None
        assert self.child.stderr is not None
        errors = self.child.stderr.read()
        self.child.stdout.close()
        self.child.stderr.close()
        return errors

    def ready(self) -> set[str]:
        return {path.name for path in (self.folder / "ready").glob("*")}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def until_further_keys(nodes: list[Process], n: int) -> float:
    """Seconds until both sides have ``n`` keys more."""
    begin_s, before = time.monotonic(), [len(node.ready()) for node in nodes]
    while any(len(node.ready()) < b + n for node, b in zip(nodes, before, strict=True)):
        assert all(node.child.poll() is None for node in nodes), [node.lines[-3:] for node in nodes]
        assert time.monotonic() - begin_s < 120, [node.lines[-5:] for node in nodes]
        time.sleep(0.02)
    return time.monotonic() - begin_s


def kill_at_random_moments(tmp_path: Path, kills: int, seed: int) -> list[float]:
    rng, port = random.Random(seed), free_port()
    create_pool(tmp_path / "pool", N_TAGS, OsEntropy())
    original = (tmp_path / "pool").read_bytes()
    nodes = []
    for role in ROLES:
        (tmp_path / role).mkdir()
        shutil.copy(tmp_path / "pool", tmp_path / role / "pool")
        nodes.append(Process(role, tmp_path / role, port))
    waits_s = []
    try:
        until_further_keys(nodes, 1)
        for _ in range(kills):
            time.sleep(rng.random() * 0.5)
            victims = rng.choice([nodes[:1], nodes[1:], nodes[:1], nodes[1:], nodes])
            for node in victims:
                node.kill()
            for node in victims:
                node.start()
            waits_s.append(until_further_keys(nodes, 2))
    finally:
        errors = [node.stop() for node in nodes]
        print(*errors, sep="\n")
    assert not any("Traceback" in text for text in errors), errors
    check_keys(tmp_path)
    for node in nodes:
        check_pads(node.folder, original)
    return waits_s


def check_keys(folder: Path) -> None:
    """The same keys are usable on both sides, and nothing is left in doubt."""
    keys = {role: {p.name: p.read_bytes() for p in (folder / role / "ready").glob("*")} for role in ROLES}
    assert keys["alice"] == keys["bob"]
    assert len(keys["alice"]) > 2
    for role in ROLES:
        assert list((folder / role / "pending").glob("[0-9]*")) == []
        burned = {path.name for path in (folder / role / "burned").glob("*")}
        assert not burned & keys["alice"].keys()


def check_pads(folder: Path, original: bytes) -> None:
    """No pad was given out or taken in twice, over all lives of the process, and used ones are gone from the file."""
    words = [line.split() for line in (folder / "pads.log").read_text().splitlines()]
    pool, n_used = (folder / "pool").read_bytes(), 0
    for verb, lane in (("take", ROLES.index(folder.name)), ("accept", 1 - ROLES.index(folder.name))):
        used = [int(index) for what, index in words if what == verb]
        assert len(set(used)) == len(used)
        for index in used:
            at = 128 + 16 * (N_TAGS * lane + index % N_TAGS)
            assert index >= N_TAGS or pool[at : at + 16] != original[at : at + 16]
        n_used += len(used)
    assert n_used > 20


def test_a_few_kills(tmp_path: Path) -> None:
    kill_at_random_moments(tmp_path, 3, seed=1)


@pytest.mark.soak
def test_fifty_kills(tmp_path: Path) -> None:
    waits_s = kill_at_random_moments(tmp_path, 50, seed=2)
    print(f"two keys more after {min(waits_s):.1f} to {max(waits_s):.1f} s, in the mean {sum(waits_s) / 50:.1f} s")
