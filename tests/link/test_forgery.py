"""Somebody in the line who reads and writes everything that carries no tag, as if TLS were not there.

She may cost connections, and sessions at a bounded price in pads; she changes no parameter, brings no pad back, and
leaves nothing that a person must mend: once she is gone, the link works.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from session_pair import SIDES, Pair, Word, block_frame
from toy_stage import FixedEntropy

from qkdpp.core import stage
from qkdpp.core.ledger import Side
from qkdpp.link.events import Control, Down, Event, Failed, PeerLeft, Suspect, Up
from qkdpp.link.hello import WIRE_VERSION, Hello, digest
from qkdpp.link.outer import Outer, Reader, Type
from qkdpp.link.pool import EphemeralPool
from qkdpp.link.session import CONFIRM_S, SESSION_EVERY_S, SESSIONS_AT_ONCE
from qkdpp.link.states import State

N_TAGS = 400


class WatchedPool(EphemeralPool):
    """Notes every pad it gives out or takes in."""

    def __init__(self, side: Side, fresh: EphemeralPool) -> None:
        super().__init__(side, fresh.hash_key, {lane: bytes(pads) for lane, pads in fresh._lanes.items()})
        self.taken: list[int] = []
        self.taken_in: list[int] = []

    def take(self, peer_filled: int | None = None) -> tuple[int, bytes]:
        index, pad = super().take(peer_filled)
        self.taken.append(index)
        return index, pad

    def accept(self, index: int) -> None:
        super().accept(index)
        self.taken_in.append(index)


def watched() -> tuple[Pair, dict[Side, WatchedPool]]:
    fresh = EphemeralPool.pair(N_TAGS, FixedEntropy("pool"))
    pools = {side: WatchedPool(side, one) for side, one in zip(SIDES, fresh, strict=True)}
    return Pair(pools=(pools["alice"], pools["bob"])), pools


def decoded(frame: bytes) -> Outer:
    reader = Reader()
    reader.max_payload_bytes = 1 << 28
    reader.feed(frame)
    outer = reader.next()
    assert outer is not None
    return outer


def state(pair: Pair, side: Side) -> State:
    return pair.session[side].state


def assert_works_again(pair: Pair, pools: dict[Side, WatchedPool], spent: int) -> None:
    """She is gone: the link comes up by itself, with what both sides really say, and nothing was used twice."""
    pair.cut()
    pair.wait(CONFIRM_S)
    pair.settle()
    for side in SIDES:
        assert Failed not in pair.kinds(side)
        assert PeerLeft not in pair.kinds(side)
        assert state(pair, side) is State.RUNNING
        last = [event for event in pair.events[side] if isinstance(event, Up)][-1]
        assert (last.open_blocks, last.capabilities) == (4, frozenset({"x"}))
        pair.session[side].send_control(Word(number=1000))
        pair.session[side].send(block_frame(1001))
    pair.settle()
    for side in SIDES:
        assert pair.numbers(side)[-2:] == [1000, 1001]
        for used in (pools[side].taken, pools[side].taken_in):
            assert len(set(used)) == len(used)
        assert len(pools[side].taken) <= spent + 1


HELLOS: dict[str, Callable[[Hello], dict[str, Any]]] = {
    "wire version": lambda _: {"wire_version": WIRE_VERSION + 1},
    "role": lambda hello: {"role": "bob" if hello.role == "alice" else "alice"},
    "incarnation": lambda hello: {"incarnation": hello.incarnation + 7},
    "capabilities": lambda _: {"capabilities": ["x", "alice", "bob", "y"]},
    "parameters": lambda _: {"parameters": {"a": "2"}, "digest": digest({"a": "2"})},
    "parameters alone": lambda _: {"parameters": {"a": "2"}},
    "open blocks": lambda _: {"open_blocks": 1},
    "no pads": lambda _: {"filled": 0},
    "many pads": lambda _: {"filled": 1 << 40},
    "an older pool": lambda _: {"sent": 0},
    "a pool far ahead": lambda _: {"accepted": 1 << 40, "sent": 1 << 40},
    "nothing received": lambda _: {"received": {}},
    "everything received": lambda _: {"received": {1: 1 << 40}},
}


@pytest.mark.parametrize("when", ["at first", "at a new connection"])
@pytest.mark.parametrize("victim", SIDES)
@pytest.mark.parametrize("what", HELLOS)
def test_a_forged_greeting(what: str, victim: Side, when: str) -> None:
    pair, pools = watched()
    if when == "at a new connection":
        pair.settle()
        pair.session["alice"].send(block_frame(1))
        pair.session["bob"].send_control(Word(number=2))
        pair.cut()
    peer: Side = "bob" if victim == "alice" else "alice"

    def altered(side: Side, frame: bytes) -> list[bytes]:
        outer = decoded(frame)
        if side != peer or outer.type is not Type.HELLO:
            return [frame]
        hello = stage.decode(outer.payload, Hello)
        forged = msgspec.structs.replace(hello, **HELLOS[what](hello))
        return [Outer(type=Type.HELLO, sender=forged.incarnation, payload=stage.encode(forged)).encode()]

    for _ in range(5):
        pair.connect()
        for _ in range(4):
            for side in SIDES:
                pair.deliver(side, altered)
        pair.cut()
    assert_works_again(pair, pools, spent=2 + 5 + 2)


def forged(pair: Pair, victim: Side, kind: Type, **fields: Any) -> list[Event]:
    """One frame that the victim takes for its peer's."""
    peer: Side = "bob" if victim == "alice" else "alice"
    own, other = pair.session[victim].incarnation, pair.session[peer].incarnation
    frame = Outer(type=kind, sender=other, receiver=own, **fields)
    events = pair.session[victim].receive(frame.encode(), pair.now_s)
    pair.events[victim] += events
    return events


@pytest.mark.parametrize("victim", SIDES)
def test_a_forged_goodbye_is_a_lost_connection(victim: Side) -> None:
    pair, pools = watched()
    pair.settle()
    pair.session[victim].send(block_frame(5))
    assert [type(event) for event in forged(pair, victim, Type.BYE, seq=1, ack=1)] == [Down]
    assert not pair.session[victim].finished
    assert_works_again(pair, pools, spent=1)
    assert pair.numbers("bob" if victim == "alice" else "alice") == [5, 1000, 1001]


@pytest.mark.parametrize("victim", SIDES)
@pytest.mark.parametrize("before", [True, False])
def test_a_forged_refusal_is_a_lost_connection(victim: Side, before: bool) -> None:
    pair, pools = watched()
    if before:
        pair.connect()
    else:
        pair.settle()
    (down,) = forged(pair, victim, Type.REFUSE, payload=b"\x1b[2J\n" + bytes(100_000))
    assert isinstance(down, Down)
    assert down.reason.isprintable(), "it goes into a log and onto a screen"
    assert len(down.reason) < 10_000
    assert_works_again(pair, pools, spent=1)


FRAMES: dict[str, tuple[Type, dict[str, Any]]] = {
    "acknowledges what was sent": (Type.BEAT, {"seq": 1, "ack": 3}),
    "acknowledges what was not": (Type.BEAT, {"seq": 1, "ack": 1 << 40}),
    "gives credit": (Type.BEAT, {"seq": 1, "ack": 1, "credit": 1 << 60}),
    "takes credit": (Type.BEAT, {"seq": 1, "ack": 1, "credit": 0}),
    "claims more": (Type.BEAT, {"seq": 1 << 40}),
    "takes the place of a frame": (Type.BLOCK, {"seq": 1, "ack": 1, "payload": block_frame(77)}),
    "takes the place of a message": (Type.CONTROL, {"seq": 1, "ack": 1, "payload": bytes(40)}),
    "too short": (Type.BLOCK, {"seq": 1, "ack": 1, "payload": b"?"}),
    "greets again": (Type.HELLO, {"payload": b""}),
}


@pytest.mark.parametrize("victim", SIDES)
@pytest.mark.parametrize("what", FRAMES)
@pytest.mark.parametrize("running", [True, False])
def test_a_forged_frame(what: str, victim: Side, running: bool) -> None:
    pair, pools = watched()
    kind, fields = FRAMES[what]
    if running:
        pair.settle()
        for side in SIDES:
            pair.session[side].send(block_frame(1))
            pair.session[side].send_control(Word(number=2))
            pair.flush(side)
    else:
        pair.connect()
        for side in SIDES:
            pair.deliver(side)
        fields = (
            fields | ({"seq": 0} if fields.get("seq") == 1 else {}) | ({"ack": 1} if fields.get("ack") == 3 else {})
        )
    forged(pair, victim, kind, **fields)
    for _ in range(3):
        pair.insist()
        for side in SIDES:
            if pair.session[side].established:
                pair.session[side].send_control(Word(number=3))
        pair.wait(CONFIRM_S)
    assert_works_again(pair, pools, spent=12)


@pytest.mark.parametrize("victim", SIDES)
def test_a_message_that_somebody_replaced_by_another_frame_is_missed_and_the_session_begins_anew(victim: Side) -> None:
    """A frame of a block in the place of a control message: its tag counts messages, so the next one shows it."""
    pair, pools = watched()
    peer: Side = "bob" if victim == "alice" else "alice"
    pair.settle()
    forged(pair, victim, Type.BLOCK, seq=1, ack=1, payload=block_frame(9))
    pair.session[peer].send_control(Word(number=1))
    pair.session[peer].send_control(Word(number=2))
    pair.settle()
    assert not any(isinstance(event, Control) for event in pair.events[victim])
    assert [event.resumed for event in pair.events[victim] if isinstance(event, Up)] == [False, False]
    assert Suspect in pair.kinds(victim)
    assert_works_again(pair, pools, spent=4)


def test_whoever_cuts_the_line_again_and_again_costs_no_pad() -> None:
    pair, pools = watched()
    pair.settle()
    for position in range(200):
        pair.connect()
        for _ in range(position % 5):
            for side in SIDES:
                pair.deliver(side)
        pair.cut()
    assert [len(pools[side].taken) for side in SIDES] == [1, 1]


@pytest.mark.parametrize("established", [True, False])
def test_strangers_cost_few_pads_and_an_alarm(established: bool) -> None:
    """Greetings of ever new incarnations: Alice answers some of them, then one in a while."""
    pair, pools = watched()
    if established:
        pair.settle()
        pair.cut()
    seconds = 100.0
    for stranger in range(1000):
        pair.now_s += seconds / 1000
        alice = pair.session["alice"]
        alice.connected(pair.now_s)
        hello = Hello(
            wire_version=WIRE_VERSION,
            role="bob",
            incarnation=100 + stranger,
            capabilities=[],
            parameters={"a": "1"},
            digest=digest({"a": "1"}),
            open_blocks=1,
            filled=N_TAGS,
            sent=9,
            accepted=0 if not established else 1,
            received={},
        )
        frame = Outer(type=Type.HELLO, sender=hello.incarnation, payload=stage.encode(hello))
        pair.events["alice"] += alice.receive(frame.encode(), pair.now_s)
        pair.events["alice"] += alice.disconnected("gone")
    assert len(pools["alice"].taken) <= SESSIONS_AT_ONCE + seconds / SESSION_EVERY_S + 1
    assert Suspect in pair.kinds("alice")
    before = len(pools["alice"].taken)
    if established:
        pair.settle()
        assert len(pools["alice"].taken) == before, "a session that stands goes on at no cost"
    pair.now_s += SESSION_EVERY_S
    assert_works_again(pair, pools, spent=before + 1)
