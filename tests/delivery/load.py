"""Requests at a fixed rate to two key managers in service: keys at the master's, the same keys at the slave's.

An open-loop schedule: request k is due at k / rate, whatever became of those before, and its time counts from then, so
that a server which stalls is seen to stall. The slave asks for a key as soon as the master has it. Connections over
mutual TLS are kept alive; one request at a time is on each. What has not found a free connection when the time is over
is not asked any more.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import os
import signal
import ssl
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from worlds import KMES, OUT_S, free_port

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.keystore import FileWrapping, KeyStore, create_kek

SAES = dict(zip(KMES, ("sae-a", "sae-b"), strict=True))
ENC, DEC = (f"/api/v1/keys/{sae}/{what}" for sae, what in (("sae-b", "enc_keys"), ("sae-a", "dec_keys")))
BLOCK_BYTES = 1 << 20
KEY_BYTES = 32
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Connection(asyncio.Protocol):
    """One connection; :meth:`ask` gives code and body of the answer to one request."""

    def __init__(self) -> None:
        self._got = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._got += data
        head = self._got.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._got.index(b"Content-Length: ") + 16
        body = head + 4 + int(self._got[at : self._got.index(b"\r", at)])
        if len(self._got) >= body:
            answer, self._answer = self._answer, None
            assert answer is not None
            answer.set_result((int(self._got[9:12]), bytes(self._got[head + 4 : body])))
            self._got.clear()

    def connection_lost(self, error: Exception | None) -> None:
        self._gone.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"the connection was lost: {error}"))

    async def close(self) -> None:
        self._transport.close()
        await self._gone.wait()


class Side:
    """Connections of one application to its key manager, taken in turn."""

    def __init__(self, pki: Path, sae: str, port: int, most: int) -> None:
        self._context = ssl.create_default_context(cafile=pki / "authority.pem")
        self._context.load_cert_chain(pki / f"{sae}.pem", pki / f"{sae}.key")
        self._port, self._most = port, most
        self._all: list[Connection] = []
        self._free: deque[Connection] = deque()
        self._turn: asyncio.Semaphore = asyncio.Semaphore(most)

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self._most):
            _, made = await loop.create_connection(Connection, "127.0.0.1", self._port, ssl=self._context)
            self._all.append(made)
        self._free.extend(self._all)

    async def close(self) -> None:
        await asyncio.gather(*(connection.close() for connection in self._all))

    async def ask(self, path: str, body: bytes, *, until_s: float = math.inf) -> tuple[int, bytes] | None:
        """Code and body; None if no connection was free before ``until_s``."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        async with self._turn:
            if time.perf_counter() > until_s:
                return None
            connection = self._free.popleft()
            try:
                return await connection.ask(head.encode() + body)
            finally:
                self._free.append(connection)


@dataclass(eq=False)
class Load:
    """What came of a run; times in s from when a request was due, in the order in which they ended."""

    rate_hz: float
    enc_s: list[float] = field(default_factory=list)
    dec_s: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    keys: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    late: int = 0
    wall_s: float = 0.0

    def took(self, what: str, answer: tuple[int, bytes]) -> dict[str, str] | None:
        """The one key of an answer."""
        code, body = answer
        if code != 200:
            self.faults[f"{what} {code}: {body.decode()}"] += 1
            return None
        (item,) = json.loads(body)["keys"]
        assert isinstance(item, dict)
        return item

    def keep(self, one: dict[str, str], other: dict[str, str]) -> None:
        """Judges what master and slave have got."""
        identifier, key = one["key_ID"], one["key"]
        for fault, is_so in (
            ("different keys", one != other),
            ("an identifier came twice", identifier in self.keys),
            ("a key came twice", key in self.secrets),
            ("a key of another size", len(base64.b64decode(key)) != KEY_BYTES),
        ):
            if is_so:
                self.faults[fault] += 1
        self.keys[identifier] = key
        self.secrets.add(key)

    @property
    def reached_hz(self) -> float:
        """Pairs of both requests a second."""
        return len(self.dec_s) / self.wall_s


def percentiles_ms(times_s: list[float]) -> dict[str, float]:
    ordered, parts = sorted(times_s), {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: 1e3 * ordered[round(q * (len(ordered) - 1))] for name, q in parts.items()}


class _Run:
    """One run and its connections."""

    def __init__(self, load: Load, master: Side, slave: Side) -> None:
        self.load, self.master, self.slave = load, master, slave

    async def go(self, seconds: float) -> None:
        begin_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for k in range(round(self.load.rate_hz * seconds)):
                due_s = begin_s + k / self.load.rate_hz
                await asyncio.sleep(due_s - time.perf_counter())
                group.create_task(self._pair(due_s, begin_s + seconds))
        self.load.wall_s = time.perf_counter() - begin_s

    async def _pair(self, due_s: float, until_s: float) -> None:
        try:
            await self._asked(due_s, until_s)
        except ConnectionError as error:
            self.load.faults[str(error)] += 1

    async def _asked(self, due_s: float, until_s: float) -> None:
        load = self.load
        got = await self.master.ask(ENC, b'{"number":1,"size":%d}' % (8 * KEY_BYTES), until_s=until_s)
        if got is None:
            load.late += 1
            return
        now_s = time.perf_counter()
        item = load.took("enc_keys", got)
        if item is None:
            return
        load.enc_s.append(now_s - due_s)
        again = await self.slave.ask(DEC, b'{"key_IDs":[{"key_ID":"%s"}]}' % item["key_ID"].encode())
        assert again is not None
        same = load.took("dec_keys", again)
        if same is None:
            return
        load.dec_s.append(time.perf_counter() - now_s)
        load.keep(item, same)


async def run_load(pki: Path, ports: dict[str, int], rate_hz: float, seconds: float, connections: int = 128) -> Load:
    """``rate_hz`` requests a second at each side for so long."""
    load = Load(rate_hz)
    sides = [Side(pki, SAES[own], ports[own], connections) for own in KMES]
    for side in sides:
        await side.open()
    await _Run(load, *sides).go(seconds)
    for side in sides:
        await side.close()
    return load


class Servers:
    """Two ``qkdpp serve``, processes of their own, on stores that were filled beforehand."""

    def __init__(self, folder: Path, pki: Path, nbytes: int, rate_per_s: float = 10_000.0) -> None:
        self.folder, self.pki = folder, pki
        fill(folder, nbytes)
        meeting = free_port()
        self.metrics = {own: free_port() for own in KMES}
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.ports: dict[str, int] = {}
        try:
            for own, meet in zip(KMES, ("listen", "connect"), strict=True):
                path = self._file(own, f'{meet} = ":{meeting}"', rate_per_s)
                with open(folder / f"{own}.log", "w", encoding="utf-8") as log:
                    command = [sys.executable, "-P", "-m", "qkdpp", "serve", str(path)]
                    self.processes[own] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
            for own, process in self.processes.items():
                assert process.stdout is not None
                self.ports[own] = int(process.stdout.readline().rpartition(":")[2])
            end_s = time.monotonic() + OUT_S
            while not all(self.scrape(own)["qkdpp_km_link_up", KMES[1 - KMES.index(own)]] for own in KMES):
                assert time.monotonic() < end_s
                time.sleep(0.05)
        except BaseException:
            self.stop()
            raise

    def _file(self, own: str, meet: str, rate_per_s: float) -> Path:
        other = KMES[1 - KMES.index(own)]
        saes = "".join(
            f'[[sae]]\nid = "{sae}"\nkme = "{kme}"\nrate_per_s = {rate_per_s}\n' for kme, sae in SAES.items()
        )
        path = self.folder / f"{own}.toml"
        path.write_text(
            f"""
format = 1
[server]
name = "{own}"
listen = ":0"
authority = "{self.pki}/authority.pem"
certificate = "{self.pki}/{own}.pem"
key = "{self.pki}/{own}.key"
metrics = ":{self.metrics[own]}"
[store]
folder = "{own}"
key = "{own}.kek"
[[peer]]
name = "{other}"
{meet}
{saes}
""",
            encoding="utf-8",
        )
        return path

    def scrape(self, own: str) -> dict[tuple[str, ...], float]:
        """Samples of the metrics, by name and values of labels in the order of their names."""
        with urlopen(f"http://127.0.0.1:{self.metrics[own]}/metrics", timeout=OUT_S) as got:
            text = got.read().decode()
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def processor_s(self, own: str) -> float:
        """Processor time that a server has taken."""
        fields = Path(f"/proc/{self.processes[own].pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def stop(self) -> dict[str, int]:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        ends = {}
        for own, process in self.processes.items():
            try:
                ends[own] = process.wait(OUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                ends[own] = process.wait()
            assert process.stdout is not None
            process.stdout.close()
        return ends


def fill(folder: Path, nbytes: int) -> None:
    """``nbytes`` of the same random key in both stores, in the stream that the first one allocates from."""
    stores = []
    for own in KMES:
        create_kek(folder / f"{own}.kek", OsEntropy())
        stores.append(KeyStore(folder / own, own, FileWrapping(folder / f"{own}.kek")))
    random = Random(nbytes)
    for number in range(0, 2 * -(-nbytes // BLOCK_BYTES), 2):
        size = min(BLOCK_BYTES, nbytes - number // 2 * BLOCK_BYTES)
        key = Bits.from_bytes(random.randbytes(size), 8 * size)
        for store, peer in zip(stores, reversed(KMES), strict=True):
            store.link(peer).stage(number, key)
            store.link(peer).ready(number)
            store.link(peer).release(number)
    for store in stores:
        store.close()


@contextmanager
def servers(folder: Path, pki: Path, nbytes: int) -> Iterator[Servers]:
    made = Servers(folder, pki, nbytes)
    try:
        yield made
    finally:
        made.stop()
