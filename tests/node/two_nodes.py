"""Two runners of blocks in one event loop, over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from small_block import PARAMETERS, MemorySink, block

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.ledger import Side
from qkdpp.core.stage import Message
from qkdpp.link.hello import named_fields
from qkdpp.link.pool import EphemeralPool, Pool
from qkdpp.link.session import Session, Setup
from qkdpp.link.tcp import Address, TcpLink
from qkdpp.node.blocks import BlockRunner, Policy
from qkdpp.node.live_messages import LIVE_CONTROLS
from qkdpp.node.messages import CONTROLS
from qkdpp.node.sink import BlockEnd, NodeEvent

SIDES: tuple[Side, Side] = ("alice", "bob")


class Note(Message, frozen=True, kw_only=True):
    """A control message of the node's own."""

    text: str


@dataclass
class Node:
    """One side: its runner, its task and what outlives it."""

    role: Side
    pool: Pool
    sink: MemorySink = field(default_factory=MemorySink)
    policy: Policy = field(default_factory=Policy)
    open_blocks: int = 4

    def start(self, port: int) -> None:
        setup = Setup(role=self.role, parameters=named_fields(PARAMETERS), open_blocks=self.open_blocks)
        self.session = Session(setup, self.pool, [*CONTROLS, *LIVE_CONTROLS, Note])
        address = Address(host="127.0.0.1", port=port, listen=self.role == "bob")
        self.link = TcpLink(self.session, address, None)
        self.runner = BlockRunner(self.link, self.pool, self.sink, self.role, self.policy)
        self.task = asyncio.create_task(self.runner.run())

    async def listening(self) -> int:
        while not self.link.port:
            await asyncio.sleep(0.002)
        return self.link.port

    async def open(self, number: int, seed: int | None = None) -> None:
        await self.runner.open(number, *block(self.role, number if seed is None else seed))

    async def end(self) -> BlockEnd:
        async with asyncio.timeout(20):
            return await self.runner.next_end()

    async def event(self, kind: type[NodeEvent]) -> NodeEvent:
        async with asyncio.timeout(20):
            while True:
                event = await self.runner.next_event()
                assert event is not None, f"ended before {kind.__name__}"
                if isinstance(event, kind):
                    return event

    async def kill(self) -> None:
        """As if the process were gone: nothing is said to anybody."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def make(n_tags: int = 400, policy: Policy | None = None, open_blocks: int = 4) -> tuple[Node, Node]:
    pools = EphemeralPool.pair(n_tags, OsEntropy())
    alice, bob = (
        Node(role=side, pool=pool, policy=policy or Policy(), open_blocks=open_blocks)
        for side, pool in zip(SIDES, pools, strict=True)
    )
    return alice, bob


async def connected(alice: Node, bob: Node) -> int:
    """Starts both; Bob's port."""
    bob.start(0)
    port = await bob.listening()
    alice.start(port)
    return port


async def run_block(alice: Node, bob: Node, number: int) -> tuple[BlockEnd, BlockEnd]:
    await asyncio.gather(alice.open(number), bob.open(number))
    first, second = await asyncio.gather(alice.end(), bob.end())
    return first, second


async def stop(*nodes: Node) -> None:
    await asyncio.gather(*(node.kill() for node in nodes))
    await asyncio.sleep(0.01)


def assert_same_keys(alice: Node, bob: Node, ends: Sequence[BlockEnd] = ()) -> None:
    """What is usable on one side is the same on the other, pending at most; never burned, never different."""
    for own, peer in ((alice, bob), (bob, alice)):
        for number, key in own.sink.usable.items():
            assert peer.sink.state.get(number) in ("pending", "ready")
            assert peer.sink.keys[number].to_bytes() == key
    for end in ends:
        if isinstance(end.result, Bits):
            assert alice.sink.usable[end.block] == bob.sink.usable[end.block] == end.result.to_bytes()
