"""A known key is planted; then everything that a node and a key manager wrote is searched for it, core files too."""

import base64
import contextlib
import ctypes
import mmap
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import pytest
from worlds import OUT_S, free_port

from qkdpp.cli import main
from qkdpp.core import guard
from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.errors import LinkError
from qkdpp.delivery import Client, DeliveryError
from qkdpp.delivery.config import load_delivery
from qkdpp.keystore import FileWrapping, KeyStore, create_kek
from qkdpp.scenarios.scenario_file import load
from qkdpp.sim.trial import write_trial

NODES = ("alice", "bob")
NBYTES = 4096
PLANTED = {block: Random(f"planted {block}").randbytes(NBYTES) for block in (2, 4)}
FATAL = (signal.SIGABRT, signal.SIGSEGV)
CORES = Path("/proc/sys/kernel/core_pattern")


def forms(piece: bytes) -> list[bytes]:
    """A piece of a key as programs write bytes."""
    aligned = [base64.b64encode(bytes(n) + piece)[4 * (n > 0) : -4] for n in range(3)]
    text = (repr(piece)[2:-1], piece.hex(), piece.hex().upper(), piece.hex(" "), str(list(piece))[1:-1])
    return [piece, *aligned, *(form.encode() for form in text)]


def found_in(folder: Path, pieces: Iterable[int] = range(0, 256, 16)) -> list[tuple[str, int]]:
    """Files in which a piece of 16 bytes of a key occurs in some form, with its place."""
    needles = {form: at for key in PLANTED.values() for at in pieces for form in forms(key[at : at + 16])}
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                found += [(path.name, at) for needle, at in needles.items() if data.find(needle) >= 0]
    return found


def plant(folder: Path) -> None:
    """A trial whose stores hold known blocks; of the second, Alice's sealed form is spoilt."""
    write_trial(folder, "backbone-625mhz", load("backbone-625mhz"), port=1, block_s=10.0)
    ports = {f"127.0.0.1:{port}": f"127.0.0.1:{free_port()}" for port in (2, 3, 4)}
    for name, other in (NODES, NODES[::-1]):
        path = folder / f"kme-{name}.toml"
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"127\.0\.0\.1:\d", lambda found: ports[found[0]], text), encoding="utf-8")
        create_kek(folder / f"{name}.store.key", OsEntropy())
        with KeyStore(folder / f"{name}.store", name, FileWrapping(folder / f"{name}.store.key")) as store:
            for block, key in PLANTED.items():
                store.link(other).stage(block, Bits.from_bytes(key, 8 * NBYTES))
                store.link(other).ready(block)
                store.link(other).release(block)
    with contextlib.closing(sqlite3.connect(folder / "alice.store" / "keys.sqlite")) as db, db:
        db.execute("UPDATE chunk SET sealed = zeroblob(length(sealed)) WHERE block = (SELECT max(id) FROM block)")


@contextlib.contextmanager
def loud(folder: Path, verb: str, file: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    program = str(Path(__file__).parent / "loud_process.py")
    with (folder / f"{file}.said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-P", program, verb, file],
            cwd=folder,
            stdout=said,
            stderr=said,
            env=os.environ | environment,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(OUT_S)


def application(folder: Path, node: str) -> Client:
    files = {"certificate": folder / f"pki/sae-{node}.pem", "key": folder / f"pki/sae-{node}.key"}
    where = load_delivery(folder / f"kme-{node}.toml").server.listen
    return Client(where, authority=folder / "pki/authority.pem", **files)


def use(folder: Path) -> None:
    """Keys for both applications, refusals, planted faults, and the spoilt block."""
    with application(folder, "alice") as alice, application(folder, "bob") as bob:
        end = time.monotonic() + OUT_S
        while True:
            with contextlib.suppress(LinkError):
                if alice.status("sae-bob").stored_key_count:
                    break
            assert time.monotonic() < end
            time.sleep(0.1)
        first = alice.get("sae-bob", 2)
        assert b"".join(key.key for key in first) == PLANTED[2][:64]
        assert bob.fetch("sae-alice", [key.key_id for key in first]) == first
        second = alice.get("sae-bob", 2)
        with pytest.raises(DeliveryError, match="not found"):
            bob.fetch("sae-alice", [key.key_id for key in first])
        assert bob.fetch("sae-alice", [second[1].key_id]) == second[1:]
        with pytest.raises(DeliveryError, match="internal error"):
            alice.get("sae-bob", 2)
        with pytest.raises(DeliveryError, match="internal error"):
            bob.fetch("sae-alice", [second[0].key_id])
        with pytest.raises(DeliveryError, match="internal error"):
            alice.get("sae-bob", 126, 256)


def test_nothing_that_a_node_and_a_key_manager_write_holds_the_key(tmp_path: Path) -> None:
    folder = tmp_path / "link"
    plant(folder)
    with (
        lab(folder),
        loud(folder, "run", "alice.toml") as alice,
        loud(folder, "serve", "kme-bob.toml") as bob,
    ):
        use(folder)
        for process, fatal in zip((alice, bob), FATAL, strict=True):
            process.send_signal(fatal)
            assert process.wait(OUT_S) == -fatal
    said = [(folder / f"{file}.said").read_text(encoding="utf-8") for file in ("alice.toml", "kme-bob.toml")]
    for text, words in zip(
        said, ("Fatal Python error: Aborted", "Fatal Python error: Segmentation fault"), strict=True
    ):
        assert words in text
        assert "planted fault with [Key(" in text
        assert "Executing <Task" in text
    assert "InvalidTag" in said[0]
    assert found_in(folder) == []
    assert not [path for path in folder.rglob("core*") if path.is_file()]


@pytest.mark.skipif(
    not CORES.exists() or CORES.read_text().startswith(("|", "/")) or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0,
    reason="this machine writes no core files into the folder of a process",
)
def test_without_the_guard_the_search_finds_the_key_in_a_core_file(tmp_path: Path) -> None:
    folder = tmp_path / "link"
    plant(folder)
    with (
        loud(folder, "serve", "kme-alice.toml", UNGUARDED="1") as alice,
        loud(folder, "serve", "kme-bob.toml"),
    ):
        use(folder)
        alice.send_signal(signal.SIGABRT)
        assert alice.wait(OUT_S) == -signal.SIGABRT
    assert {name.partition(".")[0] for name, _ in found_in(folder, [0])} == {"core"}


@contextlib.contextmanager
def lab(folder: Path) -> Iterator[None]:
    """Instruments for Alice's node."""
    command = [sys.executable, "-P", "-m", "qkdpp_drivers.sim.lab", str(folder / "lab.toml")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + OUT_S
            while not (folder / "lab.json").exists():
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.05)
            yield
        finally:
            process.kill()


def test_every_form_is_found(tmp_path: Path) -> None:
    piece = PLANTED[2][32:48]
    for n, form in enumerate(forms(piece)):
        (tmp_path / str(n)).write_bytes(b"x" + form + b"y")
    for n in range(3):
        (tmp_path / f"base64 {n}").write_bytes(base64.b64encode(PLANTED[4][48 - n : 100]))
    places = found_in(tmp_path)
    assert {name for name, _ in places} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "a.toml"],
        ["serve", "a.toml"],
        ["keys", "get", "a:1", "b", "--authority", "a", "--certificate", "b"],
        ["keys", "stream", "a:1", "a", "b", "--authority", "a", "--certificate", "b"],
        ["distill", "a.toml"],
        ["reconcile", "a", "b"],
        ["replay", "a"],
    ],
)
def test_whoever_holds_keys_is_guarded_before_anything_else(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class CalledError(Exception):
        pass

    def called() -> None:
        raise CalledError

    monkeypatch.setattr(guard, "keep_memory_private", called)
    monkeypatch.setattr(sys, "argv", ["qkdpp", *arguments])
    with pytest.raises(CalledError):
        main()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_guarded_process_is_not_dumpable() -> None:
    get_dumpable = 3
    assert ctypes.CDLL(None).prctl(get_dumpable, 0, 0, 0, 0) == 1
    program = (
        "import ctypes, resource; from qkdpp.core.guard import keep_memory_private; keep_memory_private();"
        f"print(ctypes.CDLL(None).prctl({get_dumpable}, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "0 (0, 0)\n"
