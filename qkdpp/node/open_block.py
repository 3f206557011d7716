"""A block in flight, as the runner of blocks and the storing of keys see it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from qkdpp.core.abort import Aborted
from qkdpp.core.bits import Bits
from qkdpp.link.endpoint import Endpoint
from qkdpp.node.messages import Stored
from qkdpp.protocols.block import BlockLog


@dataclass(slots=True, kw_only=True, eq=False)
class OpenBlock:
    """A block in flight. ``over`` is set when it ends from outside, ``stored`` when the peer holds its key."""

    block: int
    session: int
    endpoint: Endpoint[Bits]
    log: BlockLog
    inbox: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    over: asyncio.Future[Aborted]
    stored: asyncio.Future[Stored]
    pool_bits: int = 0

    def end(self, aborted: Aborted) -> None:
        """Ends it from outside, unless it has ended so before."""
        if not self.over.done():
            self.over.set_result(aborted)
            self.inbox.put_nowait(None)
