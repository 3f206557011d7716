"""Several blocks in flight over one live link, from their first message to a key that both sides hold.

Stages run in worker threads; everything else in one event loop. A key becomes
usable only when both sides have stored it and know so of each other
(``qkdpp.node.storing``). While both processes live, lost connections cost
nothing but time; when one is started again, all open blocks are dropped on both
sides, and keys that only one side stored are burned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from qkdpp.core.abort import Abort, Aborted, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.errors import LinkError, LocalProtocolError
from qkdpp.core.ledger import Side
from qkdpp.core.stage import Message, Stage
from qkdpp.link.endpoint import Endpoint
from qkdpp.link.events import BlockFrame, Control, Down, Event, Failed, PeerLeft, Suspect, Up
from qkdpp.link.pool import LANES, Pool
from qkdpp.link.tcp import TcpLink
from qkdpp.node.messages import Drop, Held, Pending, PoolFilled, Stored
from qkdpp.node.open_block import OpenBlock
from qkdpp.node.sink import Alarm, BlockEnd, KeySink, NodeEvent, PeerDropped
from qkdpp.node.storing import Storing
from qkdpp.protocols.block import BlockLog

PADS_PER_BLOCK: Final = 8
"""Pads that one side uses for a block at most: four gates, Stored, Drop, PoolFilled, and one to spare."""
POOL_REMEDY: Final = "the authentication pool is used up: make a new one for both parties"
RESERVE_PADS: Final = 8
"""Pads per direction that stay for sessions, drops and reconciliation."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How blocks are run.

    Attributes:
        workers: threads that compute.
        deadline_s: time from the opening of a block to the end of its conversation.
        refill_below: when fewer pads are left in the pool, keys refill it (0: never); Alice decides.
        refill_to: pads up to which it is refilled, as far as slots are free.
    """

    workers: int = 2
    deadline_s: float = 60.0
    refill_below: int = 0
    refill_to: int = 0


class BlockRunner:
    """Runs blocks as ``role`` over ``link``; keys go to ``sink``. Run :meth:`run` in a task.

    The session of ``link`` must have been made with ``qkdpp.node.messages.CONTROLS`` among its control types.
    """

    def __init__(self, link: TcpLink, pool: Pool, sink: KeySink, role: Side, policy: Policy = Policy()) -> None:
        self._link, self._pool, self._policy = link, pool, policy
        self._role: Side = role
        self._open: dict[int, OpenBlock] = {}
        self._early: dict[int, list[bytes]] = {}
        self._dropped: dict[int, str] = {}
        self._newest = -1
        self._made = 0
        self._up: Up | None = None
        self._connected = False
        self._closing = False
        self._halted: Aborted | None = None
        self._change = asyncio.Condition()
        self._opening = asyncio.Lock()
        self._ends: asyncio.Queue[BlockEnd] = asyncio.Queue()
        self._events: asyncio.Queue[NodeEvent | None] = asyncio.Queue()
        self._tasks: asyncio.TaskGroup | None = None
        self._workers = ThreadPoolExecutor(policy.workers, "block")
        self._storing = Storing(
            link,
            pool,
            sink,
            role,
            refill_below=policy.refill_below,
            refill_to=policy.refill_to,
            tell=self._events.put_nowait,
        )

    # What the node calls.

    async def next_end(self) -> BlockEnd:
        """The next block that ended."""
        return await self._ends.get()

    async def next_event(self) -> NodeEvent | None:
        """The next event of link or blocks, the node's own control messages included; None after the last."""
        return await self._events.get()

    async def connected(self) -> None:
        """Returns when the link is up, or never will be again."""
        async with self._change:
            await self._change.wait_for(lambda: self._connected or self._closing)

    @property
    def oldest_open(self) -> int | None:
        """The lowest number of a block that has not ended."""
        return min(self._open, default=None)

    def new_number(self) -> int:
        """A number for a new block, above all earlier ones of this side, also of earlier runs.

        One side numbers; the other learns the number by a control message of the node's own.
        """
        self._made += 1
        return self._link.session.incarnation << 32 | self._made

    async def open(self, block: int, stage: Stage[Bits], log: BlockLog) -> None:
        """Begins a block as soon as a place is free; its end comes by :meth:`next_end`.

        Numbers must rise. Raises LinkError if the link is closed or has failed. If the pool is used up, the block ends
        at once, with an alarm, and the link is closed.
        """
        async with self._opening:
            if block <= self._newest:
                raise LocalProtocolError(f"block {block} after block {self._newest}")
            exhausted = await self._place()
            loop, tasks = asyncio.get_running_loop(), self._tasks
            if self._halted is not None:
                raise LinkError(f"no block is begun: {self._halted.reason.value}")
            if self._closing or tasks is None:
                raise LinkError("the link is closed or has failed")
            endpoint = Endpoint(stage, self._role, block, self._pool)
            opened = OpenBlock(
                block=block,
                session=self._link.session.number,
                endpoint=endpoint,
                log=log,
                over=loop.create_future(),
                stored=loop.create_future(),
            )
            self._newest = block
            self._open[block] = opened
            self._take_early(opened)
            if exhausted:
                self._drop([block], AbortReason.POOL_EXHAUSTED.value)
                opened.end(exhausted)
            tasks.create_task(self._drive(opened))
            if exhausted:
                tasks.create_task(self.close())

    def drop(self, block: int, why: Aborted) -> None:
        """Ends an open block on both sides; without effect once this side may have to keep its key."""
        opened = self._open.get(block)
        if opened is not None and not self._storing.bound(block) and not opened.over.done():
            self._drop([block], why.reason.value)
            opened.end(why)

    def halt(self, why: Aborted) -> None:
        """Begins no block from now on, and ends those under way as :meth:`drop` does; the link stays."""
        self._halted = why
        for block in list(self._open):
            self.drop(block, why)

    def send_control(self, message: Message) -> None:
        """Sends one of the node's own control messages. LocalProtocolError before the link was up once."""
        self._control(message)

    async def close(self, timeout_s: float = 10.0) -> None:
        """Opens nothing more, waits for open blocks, drops what is left after ``timeout_s``, and takes leave."""
        self._closing = True
        await self._changed()
        try:
            async with asyncio.timeout(timeout_s), self._change:
                await self._change.wait_for(lambda: not self._open)
        except TimeoutError:
            for block in list(self._open):
                self.drop(block, Aborted(reason=AbortReason.LINK_LOST, evidence={"link": "closed here"}))
        await self._link.close()

    async def run(self) -> None:
        """Runs the link and all blocks until the link is closed or has failed for good."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                link = self._tasks.create_task(self._link.run())
                while (event := await self._link.next_event()) is not None:
                    await self._heard(event)
                await link
                self._end_all(Aborted(reason=AbortReason.LINK_LOST, evidence={"link": "closed"}))
                self._storing.give_up()
        finally:
            self._closing, self._tasks = True, None
            self._events.put_nowait(None)
            self._workers.shutdown(wait=False)
            self._storing.close()
            await self._changed()

    # Places.

    async def _place(self) -> Aborted | None:
        """Waits for the link and for a free place; an Aborted if the pool cannot serve another block."""
        async with self._change:
            await self._change.wait_for(
                lambda: (
                    self._closing
                    or self._halted is not None
                    or (
                        self._up is not None
                        and self._connected
                        and len(self._open) < self._up.open_blocks
                        and (not self._open or self._pads_missing() <= 0)
                    )
                )
            )
        if self._closing or self._halted is not None or self._pads_missing() <= 0:
            return None
        self._events.put_nowait(
            Alarm(
                reason=AbortReason.POOL_EXHAUSTED,
                remedy=POOL_REMEDY,
            )
        )
        return Aborted(reason=AbortReason.POOL_EXHAUSTED, evidence={"tags_left": self._pool.remaining})

    def _pads_missing(self) -> int:
        return (len(self._open) + 1) * PADS_PER_BLOCK + RESERVE_PADS - self._pool.remaining

    async def _changed(self) -> None:
        async with self._change:
            self._change.notify_all()

    # One block.

    async def _drive(self, opened: OpenBlock) -> None:
        result: Bits | Aborted
        try:
            async with asyncio.timeout(self._policy.deadline_s):
                result = await self._converse(opened)
                if self._role == "bob" and isinstance(result, Bits):
                    await asyncio.wait((opened.stored, opened.over), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            result = Aborted(reason=AbortReason.DEADLINE_PASSED, evidence={"deadline_s": self._policy.deadline_s})
        if opened.over.done():
            result = opened.over.result()
        elif isinstance(result, Aborted) and self._present(opened) and self._must_tell(result, opened):
            self._drop([opened.block], result.reason.value)
        if isinstance(result, Bits):
            result = await self._storing.commit(opened, result)
        self._finish(opened, result)
        await self._changed()

    def _must_tell(self, result: Aborted, opened: OpenBlock) -> bool:
        """An abort frame has told Alice's stage, but not an Alice who has finished and is bound until Bob answers."""
        own_word = self._role == "bob" and result.reason is not AbortReason.PEER_ABORTED
        return own_word or result.reason is AbortReason.DEADLINE_PASSED or opened.stored.done()

    async def _converse(self, opened: OpenBlock) -> Bits | Aborted:
        """The stage, from its first message to its result."""
        if opened.over.done():
            return opened.over.result()
        endpoint = opened.endpoint
        frames = await self._compute(endpoint.start)
        while True:
            if self._present(opened) and not opened.over.done():
                for frame in frames:
                    self._link.send(frame)
            if endpoint.finished:
                return endpoint.result
            arrived = await opened.inbox.get()
            if arrived is None:
                return opened.over.result()
            frames = await self._compute(partial(endpoint.receive, arrived))
            self._taken(len(arrived), opened.session)

    async def _compute(self, step: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._workers, step)

    def _finish(self, opened: OpenBlock, result: Bits | Aborted) -> None:
        del self._open[opened.block]
        while not opened.inbox.empty():
            self._taken(len(opened.inbox.get_nowait() or b""), opened.session)
        endpoint = opened.endpoint
        self._ends.put_nowait(
            BlockEnd(
                block=opened.block,
                result=result,
                log=opened.log,
                pool_bits=opened.pool_bits if isinstance(result, Bits) else 0,
                traffic={side: endpoint.traffic(side) for side in LANES},
                eps_auth=endpoint.eps_auth,
                transcript=endpoint.transcript,
            )
        )

    def _present(self, opened: OpenBlock) -> bool:
        """Whether the session the block was opened in still stands."""
        return self._link.session.number == opened.session

    def _taken(self, n_bytes: int, session: int) -> None:
        if self._link.session.number == session:
            self._link.taken(n_bytes)

    def _take_early(self, opened: OpenBlock) -> None:
        """Frames that came before the block was opened; blocks that were passed over are dropped."""
        passed = sorted(number for number in self._early if number < opened.block)
        for number in passed:
            self._taken(sum(map(len, self._early.pop(number))), opened.session)
        if passed:
            self._drop(passed, "not_opened")
        for frame in self._early.pop(opened.block, []):
            opened.inbox.put_nowait(frame)
        if (reason := self._dropped.get(opened.block)) is not None:
            opened.end(Aborted(reason=AbortReason.PEER_ABORTED, evidence={"peer_reason": reason}))
        self._dropped = {block: reason for block, reason in self._dropped.items() if block > opened.block}

    def _end_all(self, aborted: Aborted, *, before: int | None = None) -> list[int]:
        """Ends the open blocks of sessions before ``before`` (all of them if None); which they are."""
        ended = [opened for opened in self._open.values() if before is None or opened.session < before]
        for opened in ended:
            opened.end(aborted)
        return [opened.block for opened in ended if not self._storing.bound(opened.block)]

    # What the link tells.

    async def _heard(self, event: Event) -> None:
        if isinstance(event, BlockFrame):
            self._frame(event)
        elif isinstance(event, Control):
            await self._control_heard(event)
        else:
            if not isinstance(event, Suspect):
                self._connected = isinstance(event, Up)
            if isinstance(event, Up):
                await self._is_up(event)
            elif isinstance(event, PeerLeft):
                self._end_all(Aborted(reason=AbortReason.PEER_ABORTED, evidence={"peer_reason": "left"}))
            elif isinstance(event, Failed):
                self._end_all(event.aborted)
                self._storing.give_up()
            self._events.put_nowait(event)
        if not isinstance(event, BlockFrame | Down):
            await self._changed()

    def _frame(self, event: BlockFrame) -> None:
        opened = self._open.get(event.block)
        if opened is not None:
            opened.inbox.put_nowait(event.frame)
        elif event.block > self._newest and event.block not in self._dropped:
            self._early.setdefault(event.block, []).append(event.frame)
            if self._up is not None and len(self._early) > self._up.open_blocks:
                self._throw_away(max(self._early))
        else:
            self._taken(len(event.frame), self._link.session.number)

    def _throw_away(self, block: int) -> None:
        """More blocks wait than the peer may begin. Nothing is said: no tag covers them yet, and a word costs a pad."""
        self._taken(sum(map(len, self._early.pop(block))), self._link.session.number)

    async def _is_up(self, up: Up) -> None:
        self._up = up
        if up.resumed:
            return
        self._early.clear()
        reason = AbortReason.PEER_RESTARTED
        lost = self._end_all(Aborted(reason=reason, evidence={"incarnation": up.peer_incarnation}), before=up.session)
        if lost:
            self._drop(lost, reason.value)
        await self._storing.reconcile()

    async def _control_heard(self, event: Control) -> None:
        message = event.message
        if isinstance(message, Drop):
            self._peer_drops(message)
        elif isinstance(message, Stored):
            opened = self._open.get(message.block)
            if self._role == "alice":
                self._storing.stored(message)
            elif opened is None:
                self._drop([message.block], "not_open")
            elif not opened.stored.done():
                opened.stored.set_result(message)
        elif isinstance(message, PoolFilled):
            self._storing.pool_filled(message)
        elif isinstance(message, Pending):
            await self._storing.answer(message)
        elif isinstance(message, Held):
            await self._storing.settle(message)
        else:
            self._events.put_nowait(event)

    def _peer_drops(self, message: Drop) -> None:
        unknown = []
        for block in message.blocks:
            opened = self._open.get(block)
            if opened is not None:
                self._storing.dropped(block, message.reason)
                opened.end(Aborted(reason=AbortReason.PEER_ABORTED, evidence={"peer_reason": message.reason}))
                continue
            unknown.append(block)
            if block > self._newest:
                self._dropped[block] = message.reason
                frames = self._early.pop(block, [])
                self._taken(sum(map(len, frames)), self._link.session.number)
        if unknown:
            self._events.put_nowait(PeerDropped(blocks=tuple(unknown), reason=message.reason))

    def _drop(self, blocks: list[int], reason: str) -> None:
        self._control(Drop(blocks=blocks, reason=reason))

    def _control(self, message: Message) -> None:
        try:
            self._link.send_control(message)
        except Abort as abort:
            self._events.put_nowait(Alarm(reason=abort.aborted.reason, remedy="make new authentication pools"))
