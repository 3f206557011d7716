"""A random history of two key managers: what they do is done by stores, what may come of it is known to a model.

The model is short: no byte of a block is under two identifiers; whoever gets a
key gets the bytes that were distilled at the place that was reserved; nobody
gets a key twice; a key that the master has is there for every slave until it
expires, whatever crashed. A chunk of a stream is such a key, and its index is
never given to another.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import msgspec
from crash_worker import NAMES, Begin
from stores import secret

from qkdpp.keystore import Reservation

OPENING = ("opening", "link")
"""Jobs that a process does once, at its start."""
SLAVES = ("sae-1", "sae-2")
NEAR = "sae-0"
"""A slave at the master's own end."""
BLOCK_BYTES = 96
TTL_S = 1000


class DiedError(Exception):
    """The process is gone."""


@dataclass
class Process:
    """One opening of a store."""

    where: str
    begin: Begin

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(self.where)
        self.lines = self.socket.makefile("rwb")
        self._ask(msgspec.json.encode(self.begin))

    def do(self, method: str, argument: Any = None) -> Any:
        error, answer = self.attempt(method, argument)
        assert not error, (method, error, answer)
        return answer

    def attempt(self, method: str, argument: Any = None) -> tuple[str, Any]:
        """Name of an error and its text, or nothing and the answer."""
        answer = msgspec.json.decode(self._ask(msgspec.json.encode([method, argument])))
        return answer.get("error", ""), answer.get("text", answer.get("ok"))

    def _ask(self, line: bytes) -> bytes:
        try:
            self.lines.write(line + b"\n")
            self.lines.flush()
            answer = self.lines.readline()
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        if not answer:
            self.end()
            raise DiedError
        return answer

    def end(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.lines.close()
        self.socket.close()


@dataclass
class Request:
    """A reservation and what the model knows of it; ``sure``: nothing happened that may have cost the keys."""

    own: str
    reservation: dict[str, Any]
    end: int
    accepted: bool = False
    master_has: bool = False
    sure: bool = True
    open: dict[str, set[str]] = field(default_factory=dict)

    @property
    def stream(self) -> str:
        """Of which these are chunks; empty if of none."""
        return str((self.reservation["part"] or [""])[0])

    def home(self, slave: str) -> str:
        return self.own if slave == NEAR else other(self.own)

    def index(self, key_id: str) -> int:
        return int(self.reservation["part"][1]) + self.ids.index(key_id)

    @property
    def ids(self) -> list[str]:
        return list(self.reservation["key_ids"])


class World:
    """Both ends, the messages between them, and the model."""

    def __init__(self, where: str, folder: Path, seed: int, points: list[str]) -> None:
        self.where, self.folder, self.draw, self.points = where, folder, Random(seed), points
        self.now = 1_700_000_000_000_000_000
        self.fired: set[str] = set()
        self.kills = self.delivered = self.delivered_from_grants = 0
        self.processes: dict[str, Process] = {}
        self.requests: list[Request] = []
        self.late: list[tuple[str, Any]] = []
        self.grants: list[tuple[str, int]] = []
        self.used: dict[tuple[int, int], str] = {}
        self.owners: dict[str, str] = {}
        self.got: dict[str, bytes] = {}
        self.had: set[tuple[str, str]] = set()
        self.next_block = 1
        self.streams: dict[str, str] = {}
        self.chunks: dict[tuple[str, int], str] = {}

    def run(self, steps: int) -> None:
        self.settle()
        for _ in range(steps):
            kind = self.draw.choices(
                (
                    self.distil,
                    self.reserve,
                    self.grant,
                    self.open_stream,
                    self.reserve_chunks,
                    self.close_stream,
                    self.hand_over,
                    self.fetch,
                    self.fetch_again,
                    self.lose,
                    self.repeat,
                    self.time_passes,
                    self.close,
                ),
                (4, 6, 3, 1.5, 4, 0.7, 8, 8, 2, 2, 2, 1, 0.5),
            )[0]
            try:
                self.arm()
                kind()
            except DiedError:
                self.settle()
        self.collect()
        for own in NAMES:
            assert [a for a in self.processes[own].do("alarms") if "taken before" not in a] == []
            self.processes[own].end()

    def settle(self) -> None:
        """Starts what is down, exchanges counters and asks about pending blocks, until nothing dies any more."""
        for attempt in range(20):
            try:
                for own in NAMES:
                    if own not in self.processes or self.processes[own].lines.closed:
                        self.start(own, armed=attempt < 5)
                for own in NAMES:  # one that lived through the other's death in time_passes
                    self.processes[own].do("time", self.now)
                self.meet()
                self.reconcile()
            except DiedError:
                continue
            return
        raise AssertionError("it never comes up")

    def start(self, own: str, *, armed: bool) -> None:
        before = self.processes.get(own)
        if before is not None and before.begin.point:
            self.kills += 1
            self.fired.add(before.begin.point)
        point = self.next_point(opening=True) if armed and self.draw.random() < 0.4 else ""
        begin = Begin(str(self.folder), own, self.now, point, self.draw.randint(1, 2))
        try:
            self.processes[own] = Process(self.where, begin)
        except DiedError:
            self.kills += 1
            self.fired.add(point)
            self.processes.pop(own, None)
            raise
        for request in self.requests:
            if request.own == own and not request.master_has:
                request.sure = False

    def arm(self) -> None:
        """Now and then says where the next death is to be."""
        process = self.processes[self.draw.choice(NAMES)]
        point = "" if process.begin.point or self.draw.random() > 0.3 else self.next_point(opening=False)
        if point:
            process.begin.point = point
            process.do("arm", [process.begin.point, self.draw.randint(1, 2)])

    def next_point(self, *, opening: bool) -> str:
        """The next point that a process can still come to; empty if there is none."""
        for at, point in enumerate(self.points):
            if opening == point.startswith(OPENING):
                return self.points.pop(at)
        return ""

    def meet(self) -> None:
        under_way = [(other(own), self.processes[own].do("hello")) for own in NAMES]
        first = list(under_way)
        while under_way:
            own, hello = under_way.pop(0)
            if self.processes[own].do("meet", hello):
                under_way.append((other(own), self.processes[own].do("hello")))
        self.late += first

    def reconcile(self) -> None:
        for own in NAMES:
            process, peer = self.processes[own], self.processes[other(own)]
            for block, bits in process.do("pending"):
                process.do("ready" if peer.do("held", block) == bits else "burn", block)
            process.do("release", self.next_block)

    # What happens.

    def distil(self) -> None:
        """The two-phase agreement of the nodes: kme-a is bound from its stage on, kme-b decides."""
        block, self.next_block = self.next_block, self.next_block + 1
        a, b = (self.processes[own] for own in NAMES)
        key = [block, block_key(block).hex()]
        a.do("stage", key)
        if self.draw.random() < 0.2:
            a.do("burn", block)
            return
        b.do("stage", key)
        b.do("ready", block)
        a.do("ready", block)
        for process in (b, a):
            process.do("release", block)

    def reserve(self) -> None:
        own = self.draw.choice(NAMES)
        slaves = list(self.draw.sample(SLAVES, self.draw.randint(1, 2)))
        wanted = [self.draw.randint(1, 4), self.draw.randint(1, 60), slaves, TTL_S]
        error, got = self.processes[own].attempt("reserve", wanted)
        if error:
            assert error == "NotEnoughKeyError", got
            return
        self.reserved(own, got)

    def reserved(self, own: str, got: dict[str, Any]) -> None:
        reservation = msgspec.convert(got, Reservation)
        at = iter([(p.block, p.offset + i) for p in reservation.pieces for i in range(p.nbytes)])
        for key_id in got["key_ids"]:
            self.owners[key_id] = own
            for _ in range(reservation.nbytes):
                byte = next(at)
                assert byte not in self.used, f"byte {byte} is under two identifiers"
                self.used[byte] = key_id
        assert next(at, None) is None
        self.requests.append(Request(own, got, self.now + TTL_S * 10**9))

    def grant(self) -> None:
        """One end gives the other a block; the word of it may be lost, come late, or more than once."""
        own = self.draw.choice(NAMES)
        block = self.processes[own].do("grant")
        if block is not None:
            self.grants.append((other(own), block))
        if self.grants and self.draw.random() < 0.8:
            taker, block = self.grants[-1]
            self.processes[taker].do("granted", block)

    def open_stream(self) -> None:
        """One application opens a stream, then the other; both ends are told each time."""
        own = self.draw.choice(NAMES)
        stream = str(UUID(int=self.draw.getrandbits(128)))
        terms = {
            "stream": stream, "source": "sae-m", "destination": "sae-d", "nbytes": self.draw.randint(1, 20),
            "ttl_s": TTL_S, "quality": "",
        }  # fmt: skip
        ends = ((own, 1), (other(own), 2))
        for who in self.draw.sample((1, 2), 2):
            for end, here in sorted(ends, key=lambda one: one[1] != who):
                self.processes[end].do("join", [terms, here, who])
        self.streams[stream] = own

    def reserve_chunks(self) -> None:
        if not self.streams:
            return
        stream = self.draw.choice(sorted(self.streams))
        own = self.streams[stream]
        error, got = self.processes[own].attempt("reserve chunks", [stream, self.draw.randint(1, 5)])
        if error:
            assert error == "NotEnoughKeyError", got
            return
        for at, key_id in enumerate(got["key_ids"]):
            place = (stream, got["part"][1] + at)
            assert place not in self.chunks, f"{place} was given before"
            self.chunks[place] = key_id
        self.reserved(own, got)

    def close_stream(self) -> None:
        """One end closes; the other hears of it, or will never give anything more anyway."""
        if not self.streams:
            return
        stream = self.draw.choice(sorted(self.streams))
        own, who = self.streams.pop(stream), self.draw.choice((1, 2))
        last = self.draw.randint(0, 1 + max([at for name, at in self.chunks if name == stream], default=0))
        for request in self.requests:
            if request.stream == stream:
                for ids in request.open.values():
                    ids -= {i for i in ids if who == 2 or request.index(i) >= last}
        for end in (own, other(own)):
            self.processes[end].do("close stream", [stream, who, last])

    def hand_over(self) -> None:
        """The oldest reservation under way reaches the peer, and its answer the master."""
        waiting = [r for r in self.requests if not r.accepted and r.sure]
        if not waiting:
            return
        request = waiting[0]
        if not self.accept(request):
            self.give_up(request)
            return
        request.accepted = True
        request.open = {slave: set(request.ids) for slave in request.reservation["slaves"]}
        request.sure = False  # until the master's answer is there, it may die with the keys
        near = [NEAR] if not request.stream and self.draw.random() < 0.3 else []
        error, keys = self.processes[request.own].attempt("commit", [request.ids, near])
        if error:
            assert (error, request.end <= self.now) == ("KeysNotFoundError", True), keys
            return
        request.open |= {slave: set(request.ids) for slave in near}
        self.take("master", keys)
        request.master_has = request.sure = True

    def accept(self, request: Request) -> bool:
        error, text = self.processes[other(request.own)].attempt("accept", request.reservation)
        assert error in {"", "ReservationRefusedError", "ReplayError"}, text
        return not error

    def give_up(self, request: Request) -> None:
        self.requests.remove(request)
        self.processes[request.own].do("void", request.ids)
        self.processes[other(request.own)].do("void", request.ids)

    def lose(self) -> None:
        """A reservation, or its answer, is lost on the way."""
        waiting = [r for r in self.requests if not r.accepted and r.sure]
        if waiting:
            request = self.draw.choice(waiting)
            if self.draw.random() < 0.5:
                self.accept(request)
            self.give_up(request)

    def fetch(self) -> None:
        """A slave asks for some of the keys that wait for it, or for one too many."""
        ready = [(r, s) for r in self.requests if r.master_has and r.end > self.now for s in r.open if r.open[s]]
        if not ready:
            return
        request, slave = self.draw.choice(ready)
        if request.stream:
            self.read(request, slave)
            return
        ids = self.draw.sample(sorted(request.open[slave]), self.draw.randint(1, len(request.open[slave])))
        process = self.processes[request.home(slave)]
        if self.draw.random() < 0.2:
            unknown = "00000000-0000-4000-8000-000000000000"
            refused(process, "KeysNotFoundError", [slave, [*ids, unknown]])
        request.open[slave] -= set(ids)  # if it dies with them they may be gone
        self.take(slave, process.do("deliver", [slave, ids]))

    def read(self, request: Request, slave: str) -> None:
        """The destination asks for chunks from some index on."""
        chosen = self.draw.choice(sorted(request.open[slave]))
        index, most = request.index(chosen), self.draw.randint(1, 6)
        same = [r for r in self.requests if r.stream == request.stream]
        after = {i: r for r in same for i in r.open.get(slave, ()) if r.index(i) >= index}
        for key_id, its in after.items():
            its.open[slave].discard(key_id)  # if it dies with them they may be gone
        found = self.processes[other(request.own)].do("take", [request.stream, index, most])
        assert found, f"chunk {index} is not there"
        assert found[0][0] == index
        for at, key_id, _ in found:
            assert self.chunks[request.stream, at] == key_id
        got = {key_id for _, key_id, _ in found}
        for key_id in after.keys() - got:
            after[key_id].open[slave].add(key_id)
        self.take(slave, [[key_id, text] for _, key_id, text in found])

    def fetch_again(self) -> None:
        """Whoever has a key asks again; a stranger asks."""
        if not self.had:
            return
        who, key_id = self.draw.choice(sorted(self.had))
        its = next(request for request in self.requests if key_id in request.ids)
        for own in NAMES:
            named = who != "master" and own == its.home(who)
            refused(self.processes[own], "KeysNotFoundError" if named else None, [who, [key_id]])
        request = self.draw.choice(self.requests)
        refused(self.processes[other(request.own)], None, ["stranger", request.ids])

    def repeat(self) -> None:
        """A message comes once more, late."""
        if self.requests and self.draw.random() < 0.7:
            request = self.draw.choice(self.requests)
            if request.accepted:
                self.accept(request)
        elif self.grants and self.draw.random() < 0.5:
            own, block = self.draw.choice(self.grants)
            self.processes[own].do("granted", block)
        elif self.late:
            own, hello = self.draw.choice(self.late)
            self.processes[own].do("meet", hello)

    def time_passes(self) -> None:
        self.now += self.draw.choice((1, 300, TTL_S + 1)) * 10**9
        for own in NAMES:
            self.processes[own].do("time", self.now)

    def close(self) -> None:
        """An orderly end and a new start."""
        own = self.draw.choice(NAMES)
        process = self.processes[own]
        try:
            process.do("close")
        except DiedError:
            process.begin.point = ""
            raise

    # What the model knows.

    def take(self, who: str, keys: list[list[str]]) -> None:
        for key_id, text in keys:
            assert (who, key_id) not in self.had, f"{who} got {key_id} twice"
            self.had.add((who, key_id))
            self.delivered += 1
            key = bytes.fromhex(text)
            assert self.got.setdefault(key_id, key) == key, f"two ends got different bytes as {key_id}"
            places = sorted(byte for byte, name in self.used.items() if name == key_id)
            self.delivered_from_grants += places[0][0] % 2 != NAMES.index(self.owners[key_id])
            assert key == bytes(block_key(block)[offset] for block, offset in places)

    def collect(self) -> None:
        """At the end: what masters have is there for their slaves."""
        for request in self.requests:
            for slave, ids in request.open.items():
                if request.master_has and request.end > self.now and ids:
                    self.collect_one(request, [slave, sorted(ids)])

    def collect_one(self, request: Request, wanted: list[Any]) -> None:
        try:
            self.take(wanted[0], self.processes[request.home(wanted[0])].do("deliver", wanted))
        except DiedError:  # perhaps with the keys
            self.settle()


@cache
def block_key(block: int) -> bytes:
    return secret(block, BLOCK_BYTES)


def refused(process: Process, name: str | None, argument: list[Any]) -> None:
    error, text = process.attempt("deliver", argument)
    assert error, f"{argument} was delivered"
    assert name is None or error == name, text


def other(own: str) -> str:
    return NAMES[1 - NAMES.index(own)]
