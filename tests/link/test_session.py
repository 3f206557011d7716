"""The live link without sockets: greeting, sessions, exactly-once delivery under faults, credit, restarts, goodbye."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_pair import SIDES, Pair, Word, block_frame, number_of, split
from toy_stage import FixedEntropy

from qkdpp.core.abort import AbortReason
from qkdpp.core.errors import LocalProtocolError
from qkdpp.core.ledger import Side
from qkdpp.link.events import BlockFrame, Control, Down, Failed, PeerLeft, Suspect, Up
from qkdpp.link.outer import Outer, Type
from qkdpp.link.pool import EphemeralPool, PeerSeen
from qkdpp.link.session import BEAT_S, DEAD_S
from qkdpp.link.states import TABLE, Move, State, diagram, moved


def up(**changes: object) -> Pair:
    pair = Pair(**changes)  # type: ignore[arg-type]
    pair.settle()
    assert [pair.session[side].state for side in SIDES] == [State.RUNNING] * 2
    return pair


def beat(pair: Pair) -> None:
    """A second passes."""
    pair.wait(BEAT_S)
    pair.settle()


def test_greeting_leads_to_a_session_with_what_both_can_do() -> None:
    pair = up()
    for side in SIDES:
        (event,) = pair.events[side]
        assert event == Up(session=1, resumed=False, peer_incarnation=1, open_blocks=4, capabilities=frozenset({"x"}))


def test_opening_a_session_costs_one_pad_each_and_resuming_none() -> None:
    pair = up()
    for _ in range(3):
        pair.cut()
        pair.settle()
    assert [pair.pool[side].sent for side in SIDES] == [1, 1]
    assert [type(event) for event in pair.events["bob"]] == [Up, *[Down, Up] * 3]
    assert [event.resumed for event in pair.events["bob"] if isinstance(event, Up)] == [False, True, True, True]


def test_a_difference_is_named_with_both_values_and_ends_the_session() -> None:
    pair = Pair(parameters=({"security.eps_sec": "1e-10", "same": "1"}, {"same": "1", "timing.gate_ps": "500.0"}))
    pair.settle()
    for side, first in (("alice", 0), ("bob", 1)):
        failed = pair.events[side][0]  # type: ignore[index]
        assert isinstance(failed, Failed)
        assert failed.aborted.reason is AbortReason.PARAMETERS_DIFFER
        named = failed.aborted.evidence["own_and_peer_value"]
        values = (["1e-10", "absent"], ["absent", "500.0"])
        assert named == {
            "security.eps_sec": values[0][:: 1 - 2 * first],
            "timing.gate_ps": values[1][:: 1 - 2 * first],
        }
        assert "timing.gate_ps" in failed.remedy
        assert pair.session[side].state is State.ABORTED  # type: ignore[index]
    assert [pair.pool[side].sent for side in SIDES] == [1, 1], "each has proved what it says"


def test_two_of_the_same_role_do_not_meet() -> None:
    pair = Pair()
    pools = EphemeralPool.pair(9, FixedEntropy("pool"))
    other = Pair(pools=(pools[0], pools[1]))
    pair.session["bob"] = other.session["alice"]
    pair.insist()
    suspect = pair.events["alice"][0]
    assert isinstance(suspect, Suspect)
    assert "role" in suspect.remedy
    assert pair.pool["alice"].sent == 0, "no pad for it"


def test_messages_of_both_kinds_arrive_once_and_in_order() -> None:
    pair = up()
    for number in range(0, 60, 2):
        for side in SIDES:
            pair.session[side].send(block_frame(number))
            if number % 10 == 0:
                pair.session[side].send_control(Word(number=number + 1))
    pair.settle()
    expected = [n for n in range(60) if n % 2 == 0 or n % 10 == 1]
    assert pair.numbers("alice") == pair.numbers("bob") == expected
    beat(pair)
    assert all(pair.session[side].queued_bytes == 0 for side in SIDES)


def test_nothing_can_be_sent_before_the_link_was_up_once() -> None:
    with pytest.raises(LocalProtocolError):
        Pair().session["alice"].send(block_frame(0))


def test_what_is_sent_while_the_link_is_down_arrives_later() -> None:
    pair = up()
    pair.cut()
    pair.session["alice"].send(block_frame(5))
    pair.session["alice"].send_control(Word(number=6))
    pair.settle()
    assert pair.numbers("bob") == [5, 6]


# Faults at every boundary.

FAULTS = ("cut", "drop", "twice", "swap", "damage header", "damage payload", "truncate", "strange")


def spoiled(kind: str, frame: bytes, held: list[bytes]) -> list[bytes] | None:
    if kind == "swap":
        held.append(frame)
        return []
    middle = len(frame) // 2
    return {
        "cut": None,
        "drop": [],
        "twice": [frame, frame],
        "damage header": [frame[:9] + bytes([frame[9] ^ 4]) + frame[10:]],
        "damage payload": [frame[:-1] + bytes([frame[-1] ^ 1])],
        "truncate": [frame[:middle], b""],
        "strange": [b"GET / HTTP/1.1\r\n\r\n" + frame],
    }[kind]


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("victim", SIDES)
def test_every_fault_at_every_frame_loses_nothing_and_repeats_nothing(kind: str, victim: Side) -> None:
    for position in range(40):
        pair, seen, held = Pair(), [0], list[bytes]()

        def fault(side: Side, frame: bytes) -> list[bytes] | None:
            arriving: list[bytes] | None = [frame]
            if side == victim:
                if seen[0] == position:  # noqa: B023 - called within this turn
                    arriving = spoiled(kind, frame, held)  # noqa: B023
                elif held:  # noqa: B023
                    arriving = [frame, held.pop()]  # noqa: B023
                seen[0] += 1  # noqa: B023
            return arriving

        def patient() -> None:
            """A lost or half frame is noticed when the next one comes, or by silence."""
            for _ in range(8):
                pair.settle(fault)  # noqa: B023
                pair.wait(1.1)  # noqa: B023

        patient()
        for number in range(4):
            for side in SIDES:
                pair.session[side].send(block_frame(2 * number))
                pair.session[side].send_control(Word(number=2 * number + 1))
        patient()
        assert pair.numbers("alice") == pair.numbers("bob") == list(range(8)), position
        assert [pair.kinds(side).count(Failed) for side in SIDES] == [0, 0]
        if position > seen[0]:
            break
    else:
        pytest.fail("the conversation never ended")


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["deliver"] * 8 + ["send", "control"] * 4 + ["tick", "restart", *FAULTS]),
        st.sampled_from(SIDES),
        st.integers(0, 255),
    ),
    min_size=30,
    max_size=150,
)


class WatchedPool(EphemeralPool):
    """Notes every pad it gives out or takes in."""

    def take(self, peer_filled: int | None = None) -> tuple[int, bytes]:
        index, pad = super().take(peer_filled)
        self.__dict__.setdefault("taken", []).append(index)
        return index, pad

    def accept(self, index: int) -> None:
        super().accept(index)
        self.__dict__.setdefault("taken_in", []).append(index)


@settings(max_examples=60, deadline=None)
@given(actions=ACTIONS)
def test_any_history_of_faults_and_restarts(actions: list[tuple[str, Side, int]]) -> None:
    """Within a session everything arrives once and in order; nothing crosses sessions; no pad serves twice."""
    fresh = EphemeralPool.pair(400, FixedEntropy("pool"))
    pools = (
        WatchedPool("alice", fresh[0].hash_key, fresh[0]._lanes),
        WatchedPool("bob", fresh[1].hash_key, fresh[1]._lanes),
    )
    pair, number = Pair(pools=pools), 0
    sent: dict[Side, dict[int, list[int]]] = {"alice": {}, "bob": {}}

    def session_of(side: Side) -> int:
        """Which of its sessions ``side`` is in: the number of new ones it was told of, and its incarnation."""
        return (pair.session[side].incarnation << 8) + sum(
            isinstance(event, Up) and not event.resumed for event in pair.events[side]
        )

    for action, side, value in actions:
        if action in ("send", "control"):
            if pair.session[side].established:
                number += 1
                sent[side].setdefault(session_of(side), []).append(number)
                if action == "send":
                    pair.session[side].send(block_frame(number, size=value))
                else:
                    pair.session[side].send_control(Word(number=number))
        elif action == "deliver":
            pair.connect()
            for _ in range(value % 4):
                pair.deliver(side)
        elif action == "restart":
            pair.restart(side)
        elif action == "tick":
            pair.wait(value / 100)
        else:
            held: list[bytes] = []
            pair.deliver(side, lambda _, frame: spoiled(action, frame, held))  # noqa: B023
            if held and pair.deliver(side):
                pair.deliver(side, lambda *_: held)  # noqa: B023
    for _ in range(8):
        pair.settle()
        pair.wait(1.1)
    pair.settle()
    for side, peer in (("alice", "bob"), ("bob", "alice")):
        assert pair.session[side].state is State.RUNNING  # type: ignore[index]
        assert pair.numbers(peer) == sent[side].get(session_of(side), [])  # type: ignore[index, arg-type]
        assert Failed not in pair.kinds(side)  # type: ignore[arg-type]
    for pool in pools:
        for used in (pool.__dict__.get("taken", []), pool.__dict__.get("taken_in", [])):
            assert len(set(used)) == len(used)


# Sessions and restarts.


@pytest.mark.parametrize("side", SIDES)
def test_a_restart_begins_a_new_session_that_hears_nothing_of_the_old_one(side: Side) -> None:
    pair = up()
    other: Side = "bob" if side == "alice" else "alice"
    pair.session[other].send(block_frame(1))
    pair.session[other].send_control(Word(number=2))
    pair.restart(side)
    pair.settle()
    assert pair.numbers(side) == []
    assert [e.resumed for e in pair.events[other] if isinstance(e, Up)] == [False, False]
    pair.session[other].send_control(Word(number=3))
    pair.settle()
    assert pair.numbers(side) == [3]


def test_the_pad_of_a_lost_message_is_burned_by_the_next_session() -> None:
    pair = up()
    pair.session["alice"].send_control(Word(number=1))
    pair.restart("alice")
    pair.settle()
    assert pair.pool["alice"].sent == pair.pool["bob"].accepted == 3
    assert pair.pool["bob"].bits_used == (2 + 2) * 128


class HurriedPool(EphemeralPool):
    """Threads of open blocks take pads at the very moment."""

    def take(self, peer_filled: int | None = None) -> tuple[int, bytes]:
        super().take()
        return super().take(peer_filled)


def test_pads_taken_by_other_threads_while_a_session_is_confirmed_raise_no_alarm() -> None:
    fresh = EphemeralPool.pair(60, FixedEntropy("pool"))
    pair = up(pools=(HurriedPool("alice", fresh[0].hash_key, fresh[0]._lanes), fresh[1]))
    pair.restart("bob")
    pair.settle()
    assert pair.session["alice"].state is State.RUNNING


def test_a_forged_greeting_of_a_new_incarnation_disturbs_no_session() -> None:
    pair = up()
    pair.session["alice"].send(block_frame(1))
    pair.cut()
    stranger = Pair()
    stranger.pool["alice"].begin()
    stranger.pool["alice"].take()
    stranger.start("alice")
    stranger.session["alice"].connected(0.0)
    pair.session["bob"].connected(0.0)
    pair.session["bob"].receive(stranger.session["alice"].outgoing(), 0.0)
    assert pair.session["bob"].state is State.AGREED
    assert pair.pool["bob"].sent == 1, "Bob spends no pad on it"
    pair.session["bob"].disconnected("gone")
    pair.settle()
    assert [event.resumed for event in pair.events["bob"] if isinstance(event, Up)] == [False, True]
    assert pair.numbers("bob") == [1]


def test_messages_before_the_confirmation_are_refused() -> None:
    pair = Pair()
    pair.connect()
    pair.deliver("alice")
    assert pair.session["bob"].state is State.AGREED
    forged = Outer(type=Type.BLOCK, sender=1, receiver=1, payload=block_frame(1))
    pair.events["bob"] += pair.session["bob"].receive(forged.encode(), 0.0)
    assert_only_suspected(pair, "bob")
    pair.cut()
    pair.settle()
    assert pair.session["bob"].state is State.RUNNING


def assert_only_suspected(pair: Pair, side: Side) -> None:
    """An alarm and a lost connection, nothing else."""
    suspect, down = pair.events[side][-2:]
    assert isinstance(suspect, Suspect)
    assert isinstance(down, Down)
    assert suspect.aborted.reason is AbortReason.AUTHENTICATION_FAILED
    assert pair.session[side].state is State.CLOSED


def test_a_forged_control_message_ends_the_session_with_an_alarm_and_a_new_one_begins() -> None:
    pair = up()
    pair.session["alice"].send_control(Word(number=1))
    frame = split(pair.session["alice"].outgoing())[0]
    forged = Outer(type=Type.CONTROL, sender=1, receiver=1, seq=1, payload=frame[52:-1] + b"\2")
    assert frame[52:-1] + frame[-1:] == frame[52:]
    pair.events["bob"] += pair.session["bob"].receive(forged.encode(), 0.0)
    assert_only_suspected(pair, "bob")
    pair.cut()
    pair.settle()
    for side in SIDES:
        assert [event.resumed for event in pair.events[side] if isinstance(event, Up)] == [False, False]
        assert pair.numbers(side) == []
    pair.session["alice"].send_control(Word(number=3))
    pair.settle()
    assert pair.numbers("bob") == [3]


def test_pools_that_are_no_copies_of_one_another() -> None:
    pools = EphemeralPool.pair(9, FixedEntropy("one"))[0], EphemeralPool.pair(9, FixedEntropy("two"))[1]
    pair = Pair(pools=pools)
    pair.insist()
    suspect = next(event for event in pair.events["bob"] if isinstance(event, Suspect))
    assert "copies" in suspect.remedy
    assert pair.pool["alice"].sent == 1, "every try says the same"


@pytest.mark.parametrize("what", ["incarnation", "sent", "accepted"])
def test_a_restored_pool_is_refused(what: str) -> None:
    pair = up()
    for _ in range(3):
        pair.session["alice"].send_control(Word(number=1))
        pair.session["bob"].send_control(Word(number=1))
        pair.settle()
    pair.cut()
    alice, _ = EphemeralPool.pair(60, FixedEntropy("pool"))
    pair.pool["alice"] = alice
    if what != "incarnation":
        for _ in range(4):
            alice.begin()
    if what == "accepted":
        for _ in range(3):
            alice.take()
        pair.pool["bob"].note_peer(PeerSeen(incarnation=1, sent=3, accepted=3))
    sent = pair.pool["alice"].sent
    pair.start("alice")
    pair.insist()
    suspect = next(event for event in pair.events["bob"] if isinstance(event, Suspect))
    assert "make new pools" in str(suspect.aborted.evidence["error"])
    assert "own copy of one pool" in suspect.remedy
    assert suspect.aborted.reason is AbortReason.AUTHENTICATION_FAILED
    assert not any(isinstance(event, Up) for event in pair.events["alice"])
    assert pair.pool["alice"].sent == sent, "no pad leaves a restored pool"


def test_the_side_whose_own_pool_was_restored_notices_too() -> None:
    pair = up()
    pair.session["alice"].send_control(Word(number=1))
    pair.settle()
    pair.cut()
    pair.pool["alice"] = EphemeralPool.pair(60, FixedEntropy("pool"))[0]
    pair.start("alice")
    pair.insist()
    suspect = next(event for event in pair.events["alice"] if isinstance(event, Suspect))
    assert "this pool is only at 0" in str(suspect.aborted.evidence["error"])
    assert pair.pool["alice"].sent == 0


def test_an_exhausted_pool_is_a_stop_with_a_reason() -> None:
    pools = EphemeralPool.pair(1, FixedEntropy("pool"))
    pair = up(pools=pools)
    pair.restart("alice")
    pair.settle()
    failed = next(event for event in pair.events["alice"] if isinstance(event, Failed))
    assert failed.aborted.reason is AbortReason.POOL_EXHAUSTED
    assert "make a new one" in failed.remedy


def test_a_refill_that_one_side_made_alone_is_taken_back_by_both() -> None:
    pair = up()
    for side in SIDES:
        for _ in range(10):
            index, _ = pair.pool[side].take()
            pair.pool["bob" if side == "alice" else "alice"].accept(index)
    pair.pool["alice"].fill(60, bytes(range(160)))
    assert pair.pool["alice"].filled == 65
    pair.restart("alice")
    pair.settle()
    assert [pair.pool[side].filled for side in SIDES] == [60, 60]
    assert [pair.pool[side].remaining for side in SIDES] == [60 - 12] * 2


# Back-pressure.


def test_credit_limits_what_is_under_way_and_control_overtakes() -> None:
    pair = up(window_bytes=1000)
    size = len(block_frame(0, size=100))
    for number in range(50):
        pair.session["alice"].send(block_frame(number, size=100))
    pair.session["alice"].send_control(Word(number=1000))
    pair.settle()
    arrived = pair.numbers("bob")
    allowed = -(-1000 // size)
    assert arrived == [*range(allowed), 1000]
    for taken in range(1, 51):
        pair.session["bob"].taken(size)
        beat(pair)
        blocks = [n for n in pair.numbers("bob") if n != 1000]
        assert blocks == list(range(len(blocks)))
        assert (len(blocks) - taken) * size < 1000 + size
    assert len(blocks) == 50


def test_a_peer_that_sends_beyond_its_credit_is_cut_off() -> None:
    pair = up(window_bytes=1000)
    size = 0
    for seq in range(1, 40):
        frame = Outer(type=Type.BLOCK, sender=1, receiver=1, seq=seq, payload=block_frame(seq, size=100))
        events = pair.session["bob"].receive(frame.encode(), 0.0)
        if isinstance(events[0], Down):
            break
        size += len(frame.payload)
    assert "credit" in events[0].reason  # type: ignore[union-attr]
    assert 1000 <= size < 1000 + len(frame.payload)


# Time.


def test_heartbeats_keep_an_idle_link_alive_and_silence_ends_it() -> None:
    pair = up()
    for _ in range(100):
        pair.wait(0.5)
        pair.settle()
    assert [type(e) for side in SIDES for e in pair.events[side]] == [Up, Up]
    assert pair.session["alice"].tick(pair.now_s + DEAD_S) == []
    (down,) = pair.session["alice"].tick(pair.now_s + DEAD_S + 0.01)
    assert isinstance(down, Down)
    assert "5 s" in down.reason
    assert pair.session["alice"].state is State.CLOSED


# Goodbye.


def say_goodbye(pair: Pair) -> None:
    """Without new connections, as long as something moves or time would move it."""
    for _ in range(3):
        while pair.deliver("alice") | pair.deliver("bob"):
            pass
        pair.wait(BEAT_S)


@pytest.mark.parametrize("leaver", SIDES)
def test_goodbye_waits_for_what_was_sent_and_the_other_side_lives_on(leaver: Side) -> None:
    pair = up()
    other: Side = "bob" if leaver == "alice" else "alice"
    pair.session[leaver].send(block_frame(1))
    pair.session[other].send(block_frame(2))
    pair.session[leaver].close()
    assert pair.session[leaver].state is State.DRAINING
    say_goodbye(pair)
    assert pair.numbers(other) == [1]
    assert pair.numbers(leaver) == [2]
    assert pair.session[leaver].finished
    assert not pair.session[other].finished
    assert pair.session[other].state is State.CLOSED
    assert PeerLeft in pair.kinds(other)
    pair.restart(leaver)
    pair.settle()
    assert pair.session[other].state is State.RUNNING


def test_both_may_leave_at_once() -> None:
    pair = up()
    for side in SIDES:
        pair.session[side].send(block_frame(1))
        pair.session[side].close()
    say_goodbye(pair)
    assert [pair.session[side].finished for side in SIDES] == [True, True]
    assert pair.numbers("alice") == pair.numbers("bob") == [1]


def test_a_goodbye_that_is_cut_off_is_said_again() -> None:
    pair = up()
    pair.session["alice"].send(block_frame(1))
    pair.session["alice"].close()
    pair.cut()
    assert not pair.session["alice"].finished
    pair.connect()
    say_goodbye(pair)
    assert pair.session["alice"].finished
    assert pair.numbers("bob") == [1]


# The table.


def test_the_table_is_that_of_the_design() -> None:
    order = [State.CLOSED, State.HELLO, State.AGREED, State.RUNNING, State.DRAINING, State.CLOSED]
    forward = list(pairwise(order))
    assert {(state, after) for (state, move), after in TABLE.items() if move not in (Move.LOST, Move.REFUSED)} == set(
        forward
    )
    assert {state for (state, move) in TABLE if move is Move.REFUSED} == set(State) - {State.ABORTED}
    with pytest.raises(LocalProtocolError):
        moved(State.ABORTED, Move.CONNECTED)


def test_the_diagram_in_the_documentation_is_that_of_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs/formats/wire.md").read_text()
    assert diagram() in page


def test_block_frames_name_their_block_and_hide_their_bytes() -> None:
    pair = up()
    pair.session["alice"].send(block_frame(7, block=99))
    pair.settle()
    event = pair.events["bob"][-1]
    assert isinstance(event, BlockFrame)
    assert (event.block, number_of(event.frame)) == (99, 7)
    assert "frame=" not in repr(event)
    assert Control not in pair.kinds("bob")
