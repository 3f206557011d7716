"""Every fault of the proxy at every boundary of a small block, greeting included: equal keys, no pad used twice."""

from __future__ import annotations

import asyncio
import random

import pytest
from proxy import BLOCK, FORGERIES, KINDS, Direction, Kind, Proxy
from two_nodes import SIDES, Node, Note, assert_same_keys, make, run_block, stop

from qkdpp.core.bits import Bits
from qkdpp.node.blocks import Policy

AT_ONCE = 6
"""Pairs of nodes that run side by side: most of their time is waiting for heartbeats."""


class Watch:
    """Notes which pads a pool gives out and takes in."""

    def __init__(self, node: Node) -> None:
        self.taken: list[int] = []
        self.accepted: list[int] = []
        take, accept = node.pool.take, node.pool.accept

        def watched_take(peer_filled: int | None = None) -> tuple[int, bytes]:
            index, pad = take(peer_filled)
            self.taken.append(index)
            return index, pad

        def watched_accept(index: int) -> None:
            accept(index)
            self.accepted.append(index)

        node.pool.take, node.pool.accept = watched_take, watched_accept  # type: ignore[method-assign]

    def assert_once(self) -> None:
        for used in (self.taken, self.accepted):
            assert len(set(used)) == len(used)


async def one_block(kind: Kind, direction: Direction, position: int, *, blocks: int = 1) -> int:
    """One pair of nodes, the fault at one frame; how many frames passed in that direction."""
    alice, bob = make(100, Policy(deadline_s=30.0))
    watches = Watch(alice), Watch(bob)

    def plan(where: Direction, index: int) -> Kind | None:
        return kind if (where, index) == (direction, position) else None

    bob.start(0)
    proxy = Proxy(await bob.listening(), plan)
    alice.start(await proxy.start())
    try:
        for number in range(1, blocks + 1):
            ends = await run_block(alice, bob, number)
            assert all(isinstance(end.result, Bits) for end in ends), (position, ends)
            assert_same_keys(alice, bob, ends)
        async with asyncio.timeout(20):  # the last frames are heartbeats, whose number is a matter of time
            while position >= 0 and not proxy.spoiled:
                await asyncio.sleep(0.02)
    finally:
        await stop(alice, bob)
        await proxy.stop()
    for watch in watches:
        watch.assert_once()
    if position < 0:
        said = ends[0].traffic["alice" if direction == "out" else "bob"].frames
        assert proxy.types[direction, BLOCK] == said, "all that was said in the block went this way"
    else:
        assert proxy.spoiled == [(direction, position)]
    return proxy.counts[direction]


@pytest.mark.parametrize("direction", ["out", "back"])
@pytest.mark.parametrize("kind", [*KINDS, *FORGERIES])
def test_one_fault_at_every_frame_of_a_block(kind: Kind, direction: Direction) -> None:
    async def main() -> None:
        n_frames = await one_block(kind, direction, -1)
        assert n_frames > 8
        print(n_frames, "boundaries")
        limit = asyncio.Semaphore(AT_ONCE)

        async def at(position: int) -> None:
            async with limit:
                await one_block(kind, direction, position)

        await asyncio.gather(*(at(position) for position in range(n_frames)))

    asyncio.run(main())


async def usurped(direction: Direction, position: int) -> int:
    """A forged frame takes the place of one; three blocks, the last with a key, and no key on one side alone.

    How many sessions there were.
    """
    alice, bob = make(200, Policy(deadline_s=1.0))
    watches = Watch(alice), Watch(bob)
    bob.start(0)
    proxy = Proxy(
        await bob.listening(), lambda where, index: "usurp" if (where, index) == (direction, position) else None
    )
    alice.start(await proxy.start())

    async def chatter() -> None:
        """Nodes always have something to say, and the next message shows that one is missing."""
        while True:
            await asyncio.sleep(0.3)
            for node in (alice, bob):
                if node.session.established:
                    node.runner.send_control(Note(text="x"))

    talking = asyncio.create_task(chatter())
    try:
        for number in (1, 2, 3):
            ends = await run_block(alice, bob, number)
        assert all(isinstance(end.result, Bits) for end in ends), (position, ends)
        assert_same_keys(alice, bob, ends)
    finally:
        talking.cancel()
        await stop(alice, bob)
        await proxy.stop()
    for watch in watches:
        watch.assert_once()
    assert proxy.spoiled
    return alice.session.number


@pytest.mark.parametrize("direction", ["out", "back"])
def test_a_forged_frame_in_the_place_of_every_frame_of_a_block(direction: Direction) -> None:
    async def main() -> None:
        sessions = await asyncio.gather(*(usurped(direction, position) for position in range(14)))
        assert set(sessions) == {1, 2}, "a lost message of a block costs the block, one of the link its session"

    asyncio.run(main())


async def random_faults(n_blocks: int, share: float, seed: int) -> dict[str, int]:
    """Blocks in flight while every frame meets a random fault with probability ``share``; how the blocks ended."""
    rng = random.Random(seed)
    alice, bob = make(20 * n_blocks + 500, Policy(deadline_s=30.0))
    watches = Watch(alice), Watch(bob)
    bob.start(0)
    proxy = Proxy(await bob.listening(), lambda *_: rng.choice(KINDS) if rng.random() < share else None)
    alice.start(await proxy.start())

    async def feed(node: Node) -> None:
        for number in range(1, n_blocks + 1):
            await node.open(number)

    async def collect(node: Node) -> dict[int, bool]:
        ends = [await node.end() for _ in range(n_blocks)]
        return {end.block: isinstance(end.result, Bits) for end in ends}

    try:
        _, _, *ended = await asyncio.gather(feed(alice), feed(bob), collect(alice), collect(bob))
    finally:
        await stop(alice, bob)
        await proxy.stop()
    assert_same_keys(alice, bob)
    for watch in watches:
        watch.assert_once()
    assert ended[0] == ended[1], "an agreed drop, or a key on both sides"
    return {"keys": sum(ended[0].values()), "frames": sum(proxy.counts.values())} | {
        f"pads of {side}": len(watch.taken) for side, watch in zip(SIDES, watches, strict=True)
    }


def test_blocks_in_flight_under_random_faults() -> None:
    ended = asyncio.run(random_faults(12, 0.02, seed=3))
    assert ended["keys"] == 12


@pytest.mark.soak
def test_many_blocks_in_flight_under_random_faults() -> None:
    ended = asyncio.run(random_faults(400, 0.03, seed=4))
    print(ended)
    assert ended["keys"] == 400
