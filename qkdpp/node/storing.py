"""When a key becomes usable: both sides have stored it and know so of each other.

Alice stores a key as pending and says so (``Stored``); from then on she is
bound until Bob answers. Bob stores it, makes it ready and answers; then Alice
makes it ready. Bob alone may decide otherwise (``Drop``). If either process is
started again in between, each side asks the other about what it has pending:
what the other holds is made ready, what it does not hold is burned. So no key is
ever usable on one side and burned on the other.

Part of a key may refill the authentication pool, by the same messages. All
calls of the key store come from one thread, in the order in which messages were
handled: an answer about a block counts everything decided before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar

from qkdpp.core.abort import Abort, Aborted, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.ledger import Side
from qkdpp.core.stage import Message
from qkdpp.link.pool import PAD_BITS, Pool
from qkdpp.link.tcp import TcpLink
from qkdpp.node.messages import Drop, Held, Pending, PoolFilled, Stored
from qkdpp.node.open_block import OpenBlock
from qkdpp.node.sink import Alarm, KeySink, NodeEvent, Reconciled

BITS_PER_PAD: Final = 2 * PAD_BITS
"""One pad in each lane."""
LEAST_KEY_BITS: Final = 8
"""What a refill leaves of a key."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a key that was pending: the peer's ``stored``, or merely whether it ``holds`` the key.

    ``holds`` None: nobody knows, the link has ended; it stays pending.
    """

    holds: bool | None
    reason: str = ""
    stored: Stored | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Doubt:
    """A block for which Alice is bound, since this session."""

    session: int
    verdict: asyncio.Future[Verdict]


class Storing:
    """Hands keys to ``sink`` and bits to ``pool``, in step with the peer; ``tell`` takes events for the node."""

    def __init__(
        self,
        link: TcpLink,
        pool: Pool,
        sink: KeySink,
        role: Side,
        *,
        refill_below: int,
        refill_to: int,
        tell: Callable[[NodeEvent], None],
    ) -> None:
        self._link, self._pool, self._sink, self._tell = link, pool, sink, tell
        self._role: Side = role
        self._refill_below, self._refill_to = refill_below, refill_to
        self._thread = ThreadPoolExecutor(1, "keys")
        self._bound: set[int] = set()
        self._doubts: dict[int, Doubt] = {}
        self._asked: dict[int, int] = {}
        self._refilling: int | None = None
        self._peer_room = 0

    def close(self) -> None:
        """Lets the thread of the key store end."""
        self._thread.shutdown(wait=False)

    def bound(self, block: int) -> bool:
        """Whether this side may have to keep the key of ``block``: it can no longer be dropped from here."""
        return block in self._bound

    async def commit(self, opened: OpenBlock, key: Bits) -> Bits | Aborted:
        """The key as stored on both sides and ready here, or why there is none."""
        self._bound.add(opened.block)
        try:
            return await (self._alice(opened, key) if self._role == "alice" else self._bob(opened, key))
        finally:
            self._bound.discard(opened.block)

    async def _alice(self, opened: OpenBlock, key: Bits) -> Bits | Aborted:
        block, pads, at = opened.block, self._pads_for_pool(len(key)), self._pool.filled
        for_pool, rest = _split(key, pads)
        doubt = Doubt(session=opened.session, verdict=asyncio.get_running_loop().create_future())
        self._doubts[block] = doubt
        if pads:
            self._refilling = block
        await self._call(self._sink.stage, block, rest)
        if self._present(opened.session):
            self._send(Stored(block=block, key_bits=len(rest), pool_pads=pads, pool_at=at, room=self._pool.room))
        verdict = await doubt.verdict
        del self._doubts[block]
        if verdict.holds is None:
            return Aborted(
                reason=AbortReason.LINK_LOST, evidence={"key": "stored here, pending until the link is back"}
            )
        if pads and verdict.stored is not None and self._present(opened.session):
            self._pool.fill(at, for_pool)
            self._pool.agree(at + pads)
            self._send(PoolFilled(end=at + pads))
            opened.pool_bits = pads * BITS_PER_PAD
        if self._refilling == block:
            self._refilling = None
        if verdict.holds:
            await self._call(self._sink.ready, block)
            return rest
        await self._call(self._sink.burn, block, verdict.reason)
        return Aborted(reason=AbortReason.PEER_ABORTED, evidence={"peer_reason": verdict.reason})

    async def _bob(self, opened: OpenBlock, key: Bits) -> Bits | Aborted:
        block, theirs = opened.block, opened.stored.result()
        pads, at = theirs.pool_pads, theirs.pool_at
        fits = pads == 0 or (at == self._pool.filled and 0 < pads <= self._pool.room)
        if not fits or theirs.key_bits + pads * BITS_PER_PAD != len(key) or theirs.key_bits < 0:
            reason = AbortReason.PROTOCOL_VIOLATION
            self._tell(Alarm(reason=reason, remedy="the peer stores another key or pool: compare the two programs"))
            self._send(Drop(blocks=[block], reason=reason.value))
            return Aborted(reason=reason, evidence={"own_bits": len(key), "peer_bits": theirs.key_bits, "pads": pads})
        for_pool, rest = _split(key, pads)
        await self._call(self._sink.stage, block, rest)
        if pads and self._present(opened.session):
            self._pool.fill(at, for_pool)
            opened.pool_bits = pads * BITS_PER_PAD
        await self._call(self._sink.ready, block)
        if self._present(opened.session):
            self._send(Stored(block=block, key_bits=len(rest), pool_pads=pads, pool_at=at, room=self._pool.room))
        return rest

    def _pads_for_pool(self, key_bits: int) -> int:
        if self._refilling is not None or self._pool.remaining >= self._refill_below:
            return 0
        wanted = self._refill_to - self._pool.remaining
        possible = (key_bits - LEAST_KEY_BITS) // BITS_PER_PAD
        return max(0, min(wanted, possible, self._pool.room, self._peer_room))

    # What the peer says.

    def stored(self, message: Stored) -> None:
        """Bob's answer to a block for which Alice is bound."""
        self._peer_room = message.room
        self._decide(message.block, Verdict(holds=True, stored=message))

    def dropped(self, block: int, reason: str) -> None:
        """Bob has ended a block for which Alice is bound."""
        self._decide(block, Verdict(holds=False, reason=reason))

    def pool_filled(self, message: PoolFilled) -> None:
        """Alice too has filled her pool: Bob may take from it."""
        if message.end == self._pool.filled:
            self._pool.agree(message.end)
        else:
            self._tell(Alarm(reason=AbortReason.PROTOCOL_VIOLATION, remedy="the pools differ: make new ones"))

    async def reconcile(self) -> None:
        """In a new session: asks the peer about what earlier sessions left pending."""
        self._refilling, self._peer_room = None, 0
        now = {block for block, doubt in self._doubts.items() if self._present(doubt.session)}
        if self._role == "bob":
            now |= self._bound
        pending = await self._call(self._sink.pending)
        self._asked = {block: bits for block, bits in pending.items() if block not in now}
        if self._asked:
            self._send(Pending(blocks=self._asked))

    async def answer(self, message: Pending) -> None:
        """Tells the peer which of its pending blocks are held here."""

        def held() -> list[int]:
            return [block for block, bits in message.blocks.items() if self._sink.held(block) == bits]

        self._send(Held(blocks=await self._call(held)))

    async def settle(self, message: Held) -> None:
        """The peer's answer: what it holds becomes ready, the rest is burned."""
        asked, self._asked = self._asked, {}
        for block, bits in asked.items():
            holds = block in message.blocks
            reason = "the peer does not hold it"
            if block in self._doubts:
                self._decide(block, Verdict(holds=holds, reason=reason))
                continue
            if holds:
                await self._call(self._sink.ready, block)
            else:
                await self._call(self._sink.burn, block, reason)
            self._tell(Reconciled(block=block, key_bits=bits, ready=holds))

    def give_up(self) -> None:
        """The link has ended: what is in doubt stays pending until this program is started again."""
        for block in list(self._doubts):
            self._decide(block, Verdict(holds=None))

    def _decide(self, block: int, verdict: Verdict) -> None:
        doubt = self._doubts.get(block)
        if doubt is not None and not doubt.verdict.done():
            doubt.verdict.set_result(verdict)

    def _present(self, session: int) -> bool:
        return self._link.session.number == session

    def _send(self, message: Message) -> None:
        try:
            self._link.send_control(message)
        except Abort as abort:
            self._tell(Alarm(reason=abort.aborted.reason, remedy="make new authentication pools for both parties"))

    async def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))


def _split(key: Bits, pads: int) -> tuple[bytes, Bits]:
    """The first bits as bytes for both lanes of the pool, and the rest."""
    if pads == 0:
        return b"", key
    cut = pads * BITS_PER_PAD
    return key.to_bytes()[: cut // 8], Bits.from_bytes(key.to_bytes()[cut // 8 :], len(key) - cut)
