"""SIGTERM: answers under way are finished, nobody else is waited for, whatever connections are open."""

import contextlib
import signal
import socket
import sqlite3
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from serve_processes import Served
from worlds import OUT_S

from qkdpp.delivery import Client
from qkdpp.delivery.server import EXIT_AT_ONCE, FINISH_S

STATUS = b"GET /api/v1/keys/sae-b/status HTTP/1.1\r\nHost: kme\r\n\r\n"
HALF_A_BODY = b"POST /api/v1/keys/sae-b/enc_keys HTTP/1.1\r\nHost: kme\r\nContent-Length: 90\r\n\r\n{"


def client(served: Served, sae: str, own: str) -> Client:
    files = {"certificate": served.pki / f"{sae}.pem", "key": served.pki / f"{sae}.key"}
    return Client(f"127.0.0.1:{served.ports[own]}", authority=served.pki / "authority.pem", timeout_s=OUT_S, **files)


def met(alice: Client) -> None:
    end = time.monotonic() + OUT_S
    while not alice.status("sae-b").stored_key_count:
        assert time.monotonic() < end
        time.sleep(0.05)


def silent(port: int) -> socket.socket:
    """TCP alone."""
    return socket.create_connection(("127.0.0.1", port), timeout=OUT_S)


def shaking(port: int, trust: ssl.SSLContext, n_bytes: int) -> socket.socket:
    """In the middle of a handshake: ``n_bytes`` of its first message, and nothing more."""
    made, out = silent(port), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        trust.wrap_bio(ssl.MemoryBIO(), out, server_hostname="127.0.0.1").do_handshake()
    made.sendall(out.read()[:n_bytes])
    return made


def speaking(port: int, trust: ssl.SSLContext, said: bytes) -> socket.socket:
    """Connected, and has said so much."""
    made = trust.wrap_socket(silent(port), server_hostname="127.0.0.1")
    made.sendall(said)
    return made


@contextlib.contextmanager
def nuisances(served: Served, own: str, seed: int) -> Iterator[None]:
    """Connections of all kinds, at the applications' port and at the other key manager's."""
    draw, trust = Random(seed), ssl.create_default_context(cafile=served.pki / "authority.pem")
    trust.load_cert_chain(served.pki / "sae-a.pem", served.pki / "sae-a.key")
    with contextlib.ExitStack() as stack:
        for port in (served.ports[own], served.meeting):
            made = [silent(port), shaking(port, trust, draw.randint(1, 200)), shaking(port, trust, 10_000)]
            if port == served.ports[own]:
                made += [speaking(port, trust, said) for said in (b"", STATUS, STATUS[:20], HALF_A_BODY, 50 * STATUS)]
            for one in made:
                stack.callback(one.close)
        yield


def test_answers_under_way_are_finished_and_nothing_else_is(served: Served) -> None:
    """The other key manager is held up, so that requests wait for it when the signal comes."""
    first, second = served.processes.values()
    with (
        client(served, "sae-a", "kme-a") as alice,
        client(served, "sae-b", "kme-b") as bob,
        ThreadPoolExecutor(4) as pool,
    ):
        met(alice)
        bob.status("sae-a")
        second.send_signal(signal.SIGSTOP)

        def ask(_: int) -> list[object]:
            with client(served, "sae-a", "kme-a") as mine:
                return list(mine.get("sae-b", 2))

        waiting = [pool.submit(ask, n) for n in range(4)]
        end = time.monotonic() + OUT_S
        while stored(served, "kme-a", "reserved") < 8:
            assert time.monotonic() < end
            time.sleep(0.02)
        with nuisances(served, "kme-a", seed=1):
            first.send_signal(signal.SIGTERM)
            while listens(served.ports["kme-a"]):
                assert time.monotonic() < end
            second.send_signal(signal.SIGCONT)
            keys = [key for one in waiting for key in one.result(OUT_S)]
            assert first.wait(OUT_S) == 0
        assert len({key.key_id for key in keys}) == 8
        assert bob.fetch("sae-a", [key.key_id for key in keys]) == keys


def test_the_second_signal_ends_it_at_once(served: Served) -> None:
    process = served.processes["kme-a"]
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert process.wait(OUT_S) == EXIT_AT_ONCE


def listens(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), silent(port):
        return True
    return False


def stored(served: Served, own: str, table: str) -> int:
    with contextlib.closing(sqlite3.connect(served.folder / own / "keys.sqlite")) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def end_amid_nuisances(folder: Path, pki: Path, seed: int) -> None:
    folder.mkdir()
    made = Served(folder, pki)
    try:
        with client(made, "sae-a", "kme-a") as alice, nuisances(made, "kme-a", seed):
            met(alice)
            alice.get("sae-b")
            process = made.processes["kme-a"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(OUT_S + 2 * FINISH_S) == 0
        assert made.stop() == [0, 0]
    finally:
        for process in made.processes.values():
            process.kill()
            process.wait(OUT_S)
            process.stdout.close()


@pytest.mark.soak
def test_nobody_is_waited_for_in_two_hundred_ends(tmp_path: Path, pki: Path) -> None:
    for seed in range(200):
        end_amid_nuisances(tmp_path / str(seed), pki, seed)
