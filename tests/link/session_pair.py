"""Two sessions in memory and a channel between them that a test can spoil."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from toy_stage import FixedEntropy

from qkdpp.core.ledger import Side
from qkdpp.core.stage import Message
from qkdpp.link.events import BlockFrame, Control, Down, Event, Up
from qkdpp.link.frame import Frame, Kind
from qkdpp.link.outer import HEADER_BYTES
from qkdpp.link.pool import EphemeralPool, Pool
from qkdpp.link.session import SESSION_EVERY_S, Session, Setup
from qkdpp.link.states import State

SIDES: tuple[Side, Side] = ("alice", "bob")
Fault = Callable[[Side, bytes], list[bytes] | None]
"""Given the sender and one outer frame: what arrives instead; None cuts the connection."""


class Word(Message, frozen=True, kw_only=True):
    """A control message of the tests."""

    number: int


def block_frame(number: int, size: int = 10, block: int = 1) -> bytes:
    body = number.to_bytes(4, "big") + bytes(size)
    return Frame(kind=Kind.MESSAGE, block=block, seq=0, ack=0, body=body).encode()


def number_of(frame: bytes) -> int:
    return int.from_bytes(frame[21:25], "big")


def split(data: bytes) -> list[bytes]:
    """Outer frames of intact bytes, by docs/formats/wire.md."""
    found = []
    while data:
        size = HEADER_BYTES + int.from_bytes(data[8:12], "big")
        found.append(data[:size])
        data = data[size:]
    return found


@dataclass
class Pair:
    """Both sessions, what they were told, and a clock."""

    parameters: tuple[dict[str, str], dict[str, str]] = field(default_factory=lambda: ({"a": "1"}, {"a": "1"}))
    n_tags: int = 60
    window_bytes: int = 1 << 20
    pools: tuple[Pool, Pool] | None = None

    def __post_init__(self) -> None:
        self.now_s = 0.0
        made = self.pools or EphemeralPool.pair(self.n_tags, FixedEntropy("pool"))
        self.pool: dict[Side, Pool] = dict(zip(SIDES, made, strict=True))
        self.events: dict[Side, list[Event]] = {"alice": [], "bob": []}
        self.session: dict[Side, Session] = {}
        self.wire: dict[Side, deque[bytes]] = {"alice": deque(), "bob": deque()}
        for side in SIDES:
            self.start(side)

    def start(self, side: Side) -> None:
        """A new process: nothing survives but the pool."""
        parameters = self.parameters[SIDES.index(side)]
        setup = Setup(
            role=side, parameters=parameters, window_bytes=self.window_bytes, capabilities=frozenset({"x", side})
        )
        self.session[side] = Session(setup, self.pool[side], [Word])
        self.events[side] = []

    def restart(self, side: Side) -> None:
        """It takes its time, so that new sessions never come too often."""
        self.cut()
        self.now_s += SESSION_EVERY_S
        self.start(side)

    def cut(self) -> None:
        for side in SIDES:
            self.wire[side].clear()
            self.events[side] += self.session[side].disconnected("cut")

    def connect(self) -> None:
        for side in SIDES:
            if self.session[side].state is State.CLOSED:
                self.session[side].connected(self.now_s)

    def flush(self, side: Side) -> None:
        """What ``side`` writes lies on the wire."""
        while data := self.session[side].outgoing():
            self.wire[side].extend(split(data))

    def deliver(self, side: Side, fault: Fault | None = None) -> bool:
        """One outer frame of ``side`` arrives, or what the fault makes of it. False if there was none."""
        self.flush(side)
        if not self.wire[side]:
            return False
        frame = self.wire[side].popleft()
        arriving = [frame] if fault is None else fault(side, frame)
        if arriving is None:
            self.cut()
            return True
        receiver: Side = "bob" if side == "alice" else "alice"
        for data in arriving:
            self.events[receiver] += self.session[receiver].receive(data, self.now_s)
        self.flush(receiver)
        if self.session[receiver].state in (State.CLOSED, State.ABORTED):
            for data in self.wire[receiver]:
                self.events[side] += self.session[side].receive(data, self.now_s)
            self.cut()
        return True

    def settle(self, fault: Fault | None = None, turns: int = 2000) -> None:
        """Connects, and again where it breaks, until nothing moves any more."""
        for _ in range(turns):
            if State.ABORTED in (self.session["alice"].state, self.session["bob"].state):
                return
            self.connect()
            moved = [self.deliver(side, fault) for side in SIDES]
            if not any(moved):
                return
        raise AssertionError("the sessions never come to rest")

    def insist(self, turns: int = 12) -> None:
        """Connects again and again, whatever comes of it."""
        for _ in range(turns):
            if State.ABORTED in (self.session["alice"].state, self.session["bob"].state):
                return
            self.connect()
            for side in SIDES:
                self.deliver(side)

    def wait(self, seconds: float) -> None:
        """Time passes; a side that gives up takes the connection with it."""
        self.now_s += seconds
        for side in SIDES:
            self.events[side] += self.session[side].tick(self.now_s)
        if any(session.state is State.CLOSED and not session.finished for session in self.session.values()):
            self.cut()

    def numbers(self, side: Side) -> list[int]:
        """What ``side`` was told in its present session, in order."""
        told: list[int] = []
        for event in self.events[side]:
            if isinstance(event, Up) and not event.resumed:
                told = []
            elif isinstance(event, BlockFrame):
                told.append(number_of(event.frame))
            elif isinstance(event, Control):
                assert isinstance(event.message, Word)
                told.append(event.message.number)
        return told

    def kinds(self, side: Side) -> list[type[Event]]:
        return [type(event) for event in self.events[side] if not isinstance(event, Down)]
