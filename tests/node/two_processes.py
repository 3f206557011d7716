"""A laboratory and two nodes, each a process of its own, as people start them."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qkdpp.core.bits import Bits
from qkdpp.delivery.config import load_delivery
from qkdpp.keystore import FileWrapping, KeyStore
from qkdpp.scenarios.scenario_file import load
from qkdpp.sim.trial import write_trial

PATIENCE_S = 240.0
PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def trial(folder: Path, *, block_s: float, loss_db: float, metrics: int) -> None:
    """The files of ``qkdpp init --live``, with short calibrations and more light than it proposes."""
    name = "backbone-625mhz"
    write_trial(folder, name, load(name), port=free_port(), block_s=block_s)
    change(folder / "lab.toml", {"loss_db": loss_db})
    change(folder / "bob.toml", {"step_ps": 50.0, "look_back_s": 2.0})
    text = (folder / "bob.toml").read_text()
    text = text.replace("[calibration.delay]\n", "[calibration.delay]\ndwell_s = 0.05\n")
    text = text.replace("[alarms]\n", "[calibration.polarisation]\ndwell_s = 0.03\n\n[alarms]\n")
    text = text.replace('# [metrics]\n# listen = "127.0.0.1:9460"', f'[metrics]\nlisten = ":{metrics}"')
    (folder / "bob.toml").write_text(text)
    move_ports(folder)


def move_ports(folder: Path) -> None:
    """Ports of delivery that are free, in place of those beside the link's."""
    files = {path: path.read_text() for path in folder.glob("kme-*.toml")}
    free = {port: str(free_port()) for port in sorted({p for text in files.values() for p in PORT.findall(text)})}
    for path, text in files.items():
        path.write_text(PORT.sub(lambda found: free[found[0]], text))


def served_at(folder: Path, name: str) -> str:
    """Where a node answers applications."""
    return str(load_delivery(folder / f"kme-{name}.toml").server.listen)


def change(path: Path, values: dict[str, float] | dict[str, str]) -> None:
    lines = path.read_text().splitlines()
    for name, value in values.items():
        (at,) = (i for i, line in enumerate(lines) if line.startswith(f"{name} ="))
        lines[at] = f"{name} = {value}"
    path.write_text("\n".join(lines) + "\n")


def qkdpp(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "qkdpp", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


@dataclass
class NodeProcess:
    """``qkdpp run NAME.toml --json``."""

    folder: Path
    name: str
    arguments: tuple[str, ...] = ()
    program: tuple[str, ...] = ("-P", "-m", "qkdpp")

    def __post_init__(self) -> None:
        file = str(self.folder / f"{self.name}.toml")
        command = [sys.executable, *self.program, "run", file, "--json", *self.arguments]
        self.out = self.folder / f"{self.name}.out"
        self.errors = self.folder / f"{self.name}.err"
        with self.out.open("w") as out, self.errors.open("w") as errors:
            self.process = subprocess.Popen(command, stdout=out, stderr=errors)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def secret_blocks(self) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["event"] == "block" and event["secret_bits"]]

    def blocks(self) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["event"] == "block"]

    def alarms(self) -> list[str]:
        return [event["name"] for event in self.events() if event["event"] == "alarm"]

    def security(self) -> list[str]:
        return [e["name"] for e in self.events() if e["event"] == "alarm" and e["level"] == "security"]

    def wait_until(self, reached: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline, self.events()
            time.sleep(0.1)

    def wait_for_keys(self, n: int) -> None:
        self.wait_until(lambda: len(self.secret_blocks()) >= n)

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    @property
    def run(self) -> Path:
        """The run folder."""
        (found,) = (path for path in (self.folder / "runs").glob(f"{self.name}-*") if "replay" not in path.name)
        return found


@contextlib.contextmanager
def laboratory(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The simulated instruments; takes orders on its standard input."""
    command = [sys.executable, "-P", "-m", "qkdpp_drivers.sim.lab", str(folder / "lab.toml")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while not (folder / "lab.json").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def two_nodes(
    folder: Path, *arguments: str, program: tuple[str, ...] = NodeProcess.program
) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """Alice and Bob, killed at the end if they still run."""
    alice = NodeProcess(folder, "alice", arguments, program)
    try:
        bob = NodeProcess(folder, "bob", arguments, program)
        try:
            yield alice, bob
        finally:
            bob.process.kill()
            bob.process.wait(10)
    finally:
        alice.process.kill()
        alice.process.wait(10)


def given_out(folder: Path) -> dict[str, bytes]:
    """All that both stores give out for keys that Alice (Bob) allocates, by who allocates; both must give the same."""
    with contextlib.ExitStack() as stack:
        stores = {
            name: stack.enter_context(
                KeyStore(folder / f"{name}.store", name, FileWrapping(folder / f"{name}.store.key"))
            )
            for name in ("alice", "bob")
        }
        links = {"alice": stores["alice"].link("bob"), "bob": stores["bob"].link("alice")}
        for link in links.values():
            link.release(1 << 60)
        for _ in range(2):
            hello = {name: link.hello().result() for name, link in links.items()}
            links["alice"].meet(hello["bob"]).result()
            links["bob"].meet(hello["alice"]).result()
        found = {}
        for master, slave in (("alice", "bob"), ("bob", "alice")):
            n_bytes = links[master].status().result().available
            if not n_bytes:
                continue
            reservation = links[master].reserve(1, n_bytes, master="sae-m", slaves=["sae-s"]).result()
            links[slave].accept(reservation).result()
            (key,) = links[master].commit(reservation.key_ids).result()
            (other,) = stores[slave].deliver("sae-s", reservation.key_ids, master="sae-m").result()
            assert bytes(key.secret) == bytes(other.secret)
            found[master] = bytes(key.secret)
        return found


def whole_bytes(key: Bits) -> bytes:
    """What a store of bytes keeps of a key."""
    return key.to_bytes()[: len(key) // 8]
