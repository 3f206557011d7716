"""One key for slaves at several key managers, the master's own among them: all of them, or none.

The key comes from the stream to the first peer. To every other one it goes
under a one-time pad from the stream of that link, inside the reservation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from qkdpp.delivery.messages import Reserve
from qkdpp.delivery.peer import Peer
from qkdpp.delivery.streams import PeerUnreachableError, awaited
from qkdpp.keystore import Key, KeyStore, Reservation

MOST_BYTES: Final = 1 << 21
"""Key of one request to several peers; it travels in one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Homes:
    """Slaves by peer, in the order in which the peers were named, and those of this key manager."""

    peers: Mapping[str, Sequence[str]]
    here: Sequence[str]


async def multicast(
    store: KeyStore, peers: Mapping[str, Peer], homes: Homes, number: int, nbytes: int, *, master: str, ttl_s: int
) -> list[Key]:
    """Keys for the master that wait for every slave, of whom at least one is a peer's.

    StoreError or PeerUnreachableError, and none, if one cannot have it; what was reserved for it is void at all ends.
    """
    for name in homes.peers:
        if not peers[name].up:
            raise PeerUnreachableError(f"{name}: not connected")
    reserving = store.reserve_at(homes.peers, number, nbytes, master=master, ttl_s=ttl_s)
    asking = [peers[name].agree(lambda: reserving, partial(_of, name)) for name in homes.peers]
    agreed = await asyncio.gather(*asking)
    ids = next(iter(agreed[0].result.values())).key_ids
    refused = [f"{name}: {one.refused}" for name, one in zip(homes.peers, agreed, strict=True) if one.refused]
    if refused:
        await asyncio.gather(*(peers[name].void(ids) for name in homes.peers))
        raise PeerUnreachableError("; ".join(refused))
    return await awaited(store.commit_at(list(homes.peers), ids, homes.here))


def _of(name: str, number: int, made: Mapping[str, Reservation]) -> Reserve:
    return Reserve(number, made[name])
