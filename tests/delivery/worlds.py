"""Two key managers with stores filled alike, their servers in a thread, and applications with certificates."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from random import Random
from typing import Any

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.delivery import Client
from qkdpp.delivery.config import Delivery, load_delivery
from qkdpp.delivery.server import Ports, serving
from qkdpp.keystore import FileWrapping, KeyStore, create_kek
from qkdpp.pki import create_authority, create_certificate

OUT_S = 20
KMES = ("kme-a", "kme-b")
BLOCK_BYTES = 4096
APPLICATIONS = ("sae-a", "sae-b", "sae-b2", "sae-slow", "stranger")
ODD = "sae/ü %41?"
"""An identifier that needs every care in a path."""


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def certificates(folder: Path) -> Path:
    create_authority(folder)
    for name in KMES:
        create_certificate(folder, name, "node", hosts=("127.0.0.1",))
    for name in APPLICATIONS:
        create_certificate(folder, name, "application")
    create_certificate(folder, "late", "application", days=0)
    create_authority(folder / "other")
    create_certificate(folder / "other", "sae-a", "application")
    return folder


def delivery_file(folder: Path, pki: Path, own: str, meet: str, extra: str = "", server: str = "") -> Delivery:
    other = KMES[1 - KMES.index(own)]
    path = folder / f"{own}.toml"
    path.write_text(
        f"""
format = 1
[server]
name = "{own}"
listen = ":0"
authority = "{pki}/authority.pem"
certificate = "{pki}/{own}.pem"
key = "{pki}/{own}.key"
{server}
[store]
folder = "{own}"
key = "{own}.kek"
[[peer]]
name = "{other}"
{meet}
[[sae]]
id = "sae-a"
kme = "kme-a"
[[sae]]
id = "sae-slow"
kme = "kme-a"
rate_per_s = 0.001
[[sae]]
id = "sae-b"
kme = "kme-b"
[[sae]]
id = "sae-b2"
kme = "kme-b"
[[sae]]
id = "{ODD}"
kme = "kme-b"
identity = "odd"
{extra}
""",
        encoding="utf-8",
    )
    return load_delivery(path)


@dataclass(frozen=True)
class Answered:
    code: int
    body: Any
    headers: dict[str, str]

    @property
    def message(self) -> str:
        return str(self.body["message"])


class World:
    """Both servers, meeting over TCP on loopback, in the thread of one event loop."""

    def __init__(self, folder: Path, pki: Path, extra: str = "", server: str = "") -> None:
        self.folder, self.pki, self._extra, self._server = folder, pki, extra, server
        self.ports: dict[str, int] = {}
        self.metrics: dict[str, int] = {}
        self.now = time.time_ns()
        self.alarms: list[str] = []
        self.stores = {own: self._open(own) for own in KMES}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._ends: dict[str, Callable[[], None]] = {}

    def _open(self, own: str) -> KeyStore:
        kek = self.folder / f"{own}.kek"
        if not kek.exists():
            create_kek(kek, OsEntropy())
        return KeyStore(self.folder / own, own, FileWrapping(kek), clock=lambda: self.now, alarm=self.alarms.append)

    def __enter__(self) -> World:
        self._thread.start()
        self.fill(2)
        try:
            self._meet()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _meet(self) -> None:
        self.meeting = self._serve("kme-a", 'listen = ":0"').peers["kme-b"]
        self._serve("kme-b", f'connect = ":{self.meeting}"')
        self.wait(lambda: all(self.link(own).met for own in KMES))

    def again(self) -> None:
        """Both key managers end, stores and all, and start anew."""
        for own in KMES:
            self.leave(own)
            self.stores[own].close()
        self.stores = {own: self._open(own) for own in KMES}
        self._meet()

    def __exit__(self, *_: object) -> None:
        for own in list(self._ends):
            self.leave(own)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(OUT_S)
        self.close()

    def close(self) -> None:
        for store in self.stores.values():
            store.close()
        self._loop.close()

    def _serve(self, own: str, meet: str) -> Ports:
        delivery = delivery_file(self.folder, self.pki, own, meet, self._extra, self._server)
        context = serving(delivery, self.stores[own])
        ports = self.run(context.__aenter__())
        self._ends[own] = lambda: self.run(context.__aexit__(None, None, None))
        self.ports[own], self.metrics[own] = ports.applications, ports.metrics
        return ports

    def leave(self, own: str) -> None:
        """Stops one server; its store stays open."""
        self._ends.pop(own)()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(OUT_S)

    @staticmethod
    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + OUT_S
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.005)

    def link(self, own: str):
        return self.stores[own].link(KMES[1 - KMES.index(own)])

    def fill(self, *blocks: int, nbytes: int = BLOCK_BYTES) -> None:
        """As live nodes do: a key is at both ends before one of them allocates from it."""
        for block in blocks:
            key = Bits.from_bytes(Random(f"block {block}").randbytes(nbytes), 8 * nbytes)
            links = [self.link(own) for own in KMES]
            for link in links:
                link.stage(block, key)
            for link in links:
                link.ready(block)
            for link in links:
                link.release(block)

    def stock(self) -> tuple[Any, ...]:
        """All that a consumed key would change."""
        shown = [self.link(own).status().result(OUT_S) for own in KMES]
        return tuple((s.available, s.incoming, s.reserved, s.held, dict(s.totals)) for s in shown)

    def tls(self, sae: str | None, folder: Path | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.pki / "authority.pem")
        if sae is not None:
            where = folder or self.pki
            context.load_cert_chain(where / f"{sae}.pem", where / f"{sae}.key")
        return context

    @contextlib.contextmanager
    def connect(self, context: ssl.SSLContext, own: str = "kme-a") -> Iterator[HTTPSConnection]:
        made = HTTPSConnection("127.0.0.1", self.ports[own], context=context, timeout=OUT_S)
        try:
            yield made
        finally:
            made.close()

    def connection(self, sae: str | None, own: str | None = None, folder: Path | None = None):
        return self.connect(self.tls(sae, folder), own or self.home(sae))

    @staticmethod
    def home(sae: str | None) -> str:
        return "kme-b" if sae in {"sae-b", "sae-b2"} else "kme-a"

    def ask(
        self, sae: str, verb: str, path: str, body: Any = None, *, raw: bytes | None = None, own: str | None = None
    ) -> Answered:
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        with self.connection(sae, own) as connection:
            connection.request(verb, path, data, {"Content-Type": "application/json"})
            got = connection.getresponse()
            text = got.read()
            assert got.headers.get_content_type() == "application/json", text
            return Answered(got.status, json.loads(text) if text else None, dict(got.headers.items()))

    def client(self, sae: str) -> Client:
        own = self.home(sae)
        files = {"certificate": self.pki / f"{sae}.pem", "key": self.pki / f"{sae}.key"}
        where = f"127.0.0.1:{self.ports[own]}"
        return Client(where, authority=self.pki / "authority.pem", timeout_s=2 * OUT_S, **files)
