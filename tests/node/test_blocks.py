"""Blocks in flight over a live link: equal keys or agreed drops, whatever happens to either process or to the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from small_block import SECRET_BITS, block
from two_nodes import SIDES, Node, Note, assert_same_keys, connected, make, run_block, stop

from qkdpp.core.abort import Abort, Aborted, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.errors import LinkError, LocalProtocolError
from qkdpp.core.stage import Stage, receive, send
from qkdpp.link.events import BlockFrame, Control, PeerLeft, Suspect, Up
from qkdpp.link.outer import Outer, Type
from qkdpp.node.blocks import Policy
from qkdpp.node.sink import Alarm, PeerDropped, Reconciled


def run(scenario: Callable[[Node, Node], Awaitable[None]], **changes: object) -> None:
    async def main() -> None:
        alice, bob = make(**changes)  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(40):
                await connected(alice, bob)
                await scenario(alice, bob)
        finally:
            await stop(alice, bob)
        assert_same_keys(alice, bob)

    asyncio.run(main())


def test_a_block_ends_with_equal_keys_ready_on_both_sides() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        ends = await run_block(alice, bob, 1)
        for end in ends:
            assert isinstance(end.result, Bits)
            assert len(end.result) == SECRET_BITS
            assert 0 < end.eps_auth < 1e-30
            assert end.traffic["alice"] == ends[0].traffic["alice"]
            assert end.log.ledger.verification_bits > 0
        assert [e.frame for e in ends[0].transcript] == [e.frame for e in ends[1].transcript]
        assert_same_keys(alice, bob, ends)
        assert alice.sink.history == bob.sink.history == [("stage", 1), ("ready", 1)]

    run(scenario)


def test_several_blocks_in_flight_whatever_order_they_end_in() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        async def feed(node: Node) -> None:
            for number in range(1, 13):
                await node.open(number)
                assert len(node.runner._open) <= 3

        async def collect(node: Node) -> set[int]:
            ends = [await node.end() for _ in range(12)]
            assert all(isinstance(end.result, Bits) for end in ends)
            return {end.block for end in ends}

        _, _, *numbers = await asyncio.gather(feed(alice), feed(bob), collect(alice), collect(bob))
        assert numbers == [set(range(1, 13))] * 2
        assert len(alice.sink.usable) == 12

    run(scenario, open_blocks=3)


def test_numbers_rise_over_restarts() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        await alice.event(Up)
        first = [alice.runner.new_number() for _ in range(3)]
        await alice.kill()
        alice.start(bob.link.port)
        await alice.event(Up)
        assert alice.runner.new_number() > first[-1] > first[0]

    run(scenario)


def test_a_block_is_opened_once_and_in_order() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        await run_block(alice, bob, 5)
        for number in (5, 4):
            with pytest.raises(LocalProtocolError, match="after block 5"):
                await alice.open(number)

    run(scenario)


def test_a_cut_line_costs_nothing_but_time() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        for number in range(1, 6):
            blocks = asyncio.gather(alice.open(number), bob.open(number))
            for _ in range(2):
                await asyncio.sleep(0.004 * number)
                if alice.link._current is not None:
                    alice.link._current.transport.abort()
            await blocks
            ends = await asyncio.gather(alice.end(), bob.end())
            assert all(isinstance(end.result, Bits) for end in ends)
            assert_same_keys(alice, bob, ends)

    run(scenario)


def test_control_messages_of_the_node_pass() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        await alice.event(Up)
        alice.runner.send_control(Note(text="calibrate"))
        event = await bob.event(Control)
        assert isinstance(event, Control)
        assert event.message == Note(text="calibrate")

    run(scenario)


def test_a_block_the_peer_never_opens_is_dropped_at_its_deadline() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        await alice.open(1)
        end = await alice.end()
        assert isinstance(end.result, Aborted)
        assert end.result.reason is AbortReason.DEADLINE_PASSED
        dropped = await bob.event(PeerDropped)
        assert isinstance(dropped, PeerDropped)
        assert (dropped.blocks, dropped.reason) == ((1,), "deadline_passed")
        await bob.open(1)
        end = await bob.end()
        assert isinstance(end.result, Aborted)
        assert end.result.evidence == {"peer_reason": "deadline_passed"}
        ends = await run_block(alice, bob, 2)
        assert all(isinstance(end.result, Bits) for end in ends)

    run(scenario, policy=Policy(deadline_s=0.3))


def test_a_block_that_is_passed_over_is_dropped() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        await alice.open(1)
        await asyncio.sleep(0.1)
        await asyncio.gather(alice.open(2), bob.open(2))
        ends = {end.block: end.result for end in (await alice.end(), await alice.end())}
        assert isinstance(ends[1], Aborted)
        assert ends[1].evidence == {"peer_reason": "not_opened"}
        assert isinstance(ends[2], Bits)

    run(scenario)


def test_more_blocks_than_the_peer_takes_end_by_their_deadline_and_cost_no_pad() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        await alice.event(Up)
        alice.runner._up = replace(alice.runner._up, open_blocks=9)  # type: ignore[type-var]
        for number in range(4, 0, -1):
            bob.runner._frame(BlockFrame(block=1000 + number, frame=bytes(50)))
        for number in range(1, 5):
            await alice.open(number)
        await asyncio.sleep(0.1)
        sent = bob.pool.sent
        assert sent == 1, "nothing but Confirm"
        await asyncio.gather(bob.open(1), bob.open(2))
        ends = {end.block: end.result for end in [await alice.end() for _ in range(4)]}
        assert [isinstance(ends[number], Bits) for number in range(1, 5)] == [True, True, False, False]
        assert {ends[3].reason, ends[4].reason} == {AbortReason.DEADLINE_PASSED}  # type: ignore[union-attr]

    run(scenario, open_blocks=2, policy=Policy(deadline_s=2.0))


def test_the_node_may_drop_a_block() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        await alice.open(1)
        alice.runner.drop(1, Aborted(reason=AbortReason.NO_LOCK))
        end = await alice.end()
        assert isinstance(end.result, Aborted)
        assert end.result.reason is AbortReason.NO_LOCK
        await bob.event(PeerDropped)
        await bob.open(1)
        end = await bob.end()
        assert isinstance(end.result, Aborted)
        assert end.result.evidence == {"peer_reason": "no_lock"}

    run(scenario)


def failing(reason: AbortReason) -> Stage[Bits]:
    yield from send(Note(text="x"))
    yield from receive(Note)
    raise Abort(reason, why="test")


@pytest.mark.parametrize("side", SIDES)
def test_a_stage_that_aborts_ends_the_block_on_both_sides(side: str) -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        for node in (alice, bob):
            stage, log = block(node.role, 1)
            if node.role == side:
                stage.close()
                stage = failing(AbortReason.CONDITIONS_DRIFTED)
            await node.runner.open(1, stage, log)
        results = {node.role: (await node.end()).result for node in (alice, bob)}
        assert all(isinstance(result, Aborted) for result in results.values())
        assert alice.sink.state == bob.sink.state == {}

    run(scenario)


# Restarts.


@pytest.mark.parametrize("side", SIDES)
def test_a_restart_drops_open_blocks_on_both_sides_with_a_reason(side: str) -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        dying, living = (alice, bob) if side == "alice" else (bob, alice)
        port = bob.link.port
        await living.open(1)
        await dying.kill()
        dying.start(port)
        end = await living.end()
        assert isinstance(end.result, Aborted)
        assert end.result.reason is AbortReason.PEER_RESTARTED
        dropped = await dying.event(PeerDropped)
        assert isinstance(dropped, PeerDropped)
        assert (dropped.blocks, dropped.reason) == ((1,), "peer_restarted")
        ends = await run_block(alice, bob, 2)
        assert all(isinstance(end.result, Bits) for end in ends)

    run(scenario)


class CrashError(Exception):
    pass


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("step", ["stage", "ready"])
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_around_every_step_of_storing(side: str, step: str, after: bool) -> None:
    """The process dies before or after the store did what it was asked; afterwards both sides agree."""

    async def scenario(alice: Node, bob: Node) -> None:
        dying, living = (alice, bob) if side == "alice" else (bob, alice)
        port = bob.link.port
        await alice.event(Up)
        await bob.event(Up)
        real = getattr(dying.sink, step)

        def crash(*arguments: object) -> None:
            if after:
                real(*arguments)
            raise CrashError

        setattr(dying.sink, step, crash)
        await asyncio.gather(alice.open(1), bob.open(1))
        await asyncio.wait([dying.task])
        assert dying.task.exception() is not None
        delattr(dying.sink, step)
        dying.start(port)
        await dying.event(Up)
        await living.end()
        ends = await run_block(alice, bob, 2)
        assert all(isinstance(end.result, Bits) for end in ends)
        states = {alice.sink.state.get(1), bob.sink.state.get(1)}
        assert "pending" not in states
        expected = {"ready"} if (side, step, after) != ("alice", "stage", False) else {None}
        if side == "alice" and step == "stage":
            expected = {"burned", None} if after else {None}
        if side == "bob" and step == "stage" and not after:
            expected = {"burned", None}
        assert states == expected

    run(scenario)


def test_what_an_earlier_run_left_pending_is_told() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        await run_block(alice, bob, 1)
        port = bob.link.port
        await alice.kill()
        alice.sink.state[1] = "pending"
        alice.sink.stage(7, Bits.zeros(9))
        alice.start(port)
        told = [await alice.event(Reconciled), await alice.event(Reconciled)]
        assert told == [
            Reconciled(block=1, key_bits=SECRET_BITS, ready=True),
            Reconciled(block=7, key_bits=9, ready=False),
        ]
        assert alice.sink.state == {1: "ready", 7: "burned"}

    run(scenario)


# The pool.


def test_keys_refill_the_pool_and_both_sides_go_on_with_it() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        given = 0
        for number in range(1, 25):
            ends = await run_block(alice, bob, number)
            results = [end.result for end in ends]
            assert all(isinstance(result, Bits) for result in results)
            assert ends[0].pool_bits == ends[1].pool_bits
            given += ends[0].pool_bits
            assert all(len(result) == SECRET_BITS - ends[0].pool_bits for result in results)  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        assert alice.pool.filled == bob.pool.filled == 80 + given // 256 > 120
        assert alice.pool.sent > 80, "slots have served twice, with new pads"
        assert_same_keys(alice, bob)

    # a block costs five pads in a lane and yields two
    run(scenario, n_tags=80, policy=Policy(refill_below=80, refill_to=80))


def test_an_exhausted_pool_is_a_clean_stop_with_an_alarm() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        number, result = 0, None
        while not isinstance(result, Aborted):
            number += 1
            await asyncio.gather(alice.open(number), bob.open(number))
            result = (await alice.end()).result
            await bob.end()
        assert result.reason in (AbortReason.POOL_EXHAUSTED, AbortReason.PEER_ABORTED)
        alarms = [await node.event(Alarm) for node in (alice, bob)]
        assert any(isinstance(alarm, Alarm) and alarm.reason is AbortReason.POOL_EXHAUSTED for alarm in alarms)
        await asyncio.gather(alice.task, bob.task)
        with pytest.raises(LinkError):
            await alice.open(number + 1)
        assert number > 3
        assert min(alice.pool.remaining, bob.pool.remaining) > 0

    run(scenario, n_tags=40)


# Somebody in the line.


def test_a_forged_message_is_an_alarm_and_a_new_session() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        assert (await run_block(alice, bob, 1))[0].block == 1
        incarnation = bob.session.incarnation
        of = {"sender": alice.session.incarnation, "receiver": incarnation}
        seq = alice.session._established().unnumbered(Type.BEAT).seq
        alice.session._ready.append(Outer(type=Type.CONTROL, seq=seq, payload=bytes(40), **of).encode())
        suspect = await bob.event(Suspect)
        assert isinstance(suspect, Suspect)
        assert suspect.aborted.reason is AbortReason.AUTHENTICATION_FAILED
        up = await bob.event(Up)
        assert isinstance(up, Up)
        assert not up.resumed
        assert bob.session.incarnation == incarnation + 1
        ends = await run_block(alice, bob, bob.runner.new_number())
        assert_same_keys(alice, bob, ends)
        assert all(isinstance(end.result, Bits) for end in ends)

    run(scenario)


# Goodbye.


def test_closing_waits_for_open_blocks() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        await asyncio.gather(alice.open(1), bob.open(1))
        await alice.runner.close()
        await alice.task
        assert isinstance((await alice.end()).result, Bits)
        assert isinstance((await bob.end()).result, Bits)
        await bob.event(PeerLeft)
        with pytest.raises(LinkError):
            await alice.open(2)

    run(scenario)


def test_closing_drops_what_does_not_end() -> None:
    async def scenario(alice: Node, bob: Node) -> None:
        await alice.open(1)
        await alice.runner.close(timeout_s=0.1)
        end = await alice.end()
        assert isinstance(end.result, Aborted)
        assert end.result.reason is AbortReason.LINK_LOST
        dropped = await bob.event(PeerDropped)
        assert isinstance(dropped, PeerDropped)
        assert dropped.blocks == (1,)
        await alice.task

    run(scenario)
