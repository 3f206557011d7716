"""Both key managers' whole conversation under random loss, repetition and cuts, while applications ask at both ends."""

import asyncio
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from worlds import KMES, OUT_S

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.delivery.channel import MemoryChannel, memory_pair
from qkdpp.delivery.peer import LinkedPeer
from qkdpp.delivery.streams import PeerUnreachableError, awaited
from qkdpp.keystore import FileWrapping, KeysNotFoundError, KeyStore, StoreError, create_kek

OTHER = dict(zip(KMES, reversed(KMES), strict=True))
BLOCKS = range(2, 42)
BLOCK_BYTES = 2000
SLAVES = ("sae-1", "sae-2")


class Lossy(MemoryChannel):
    """Loses some messages, sends some twice, and breaks now and then."""

    def __init__(self, inner: MemoryChannel, draw: Random) -> None:
        self._inner, self._draw = inner, draw

    async def send(self, *messages: bytes) -> None:
        sent = [m for m in messages for _ in range(self._draw.choices((0, 1, 2), (3, 94, 3))[0])]
        await self._inner.send(*sent)
        if self._draw.random() < 0.005:
            self._inner.close()

    async def receive(self) -> bytes:
        return await self._inner.receive()

    def close(self) -> None:
        self._inner.close()


class Ends:
    """Two stores with the same blocks, their peers, and what applications were given."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.draw = Random(seed)
        self.alarms: list[str] = []
        self.stores, self.peers = {}, {}
        for own in KMES:
            create_kek(folder / f"{own}.kek", OsEntropy())
            self.stores[own] = KeyStore(
                folder / own, own, FileWrapping(folder / f"{own}.kek"), alarm=self.alarms.append
            )
            link = self.stores[own].link(OTHER[own])
            for block in BLOCKS:
                link.stage(block, Bits.from_bytes(Random(f"{seed} {block}").randbytes(BLOCK_BYTES), 8 * BLOCK_BYTES))
                link.ready(block)
            link.release(BLOCKS[-1])
        self.given: dict[UUID, bytes] = {}
        self.refused = 0

    async def run(self, requests: int) -> None:
        self.peers = {own: LinkedPeer(self.stores[own].link(OTHER[own]), hello_s=0.05, answer_s=0.2) for own in KMES}
        connecting = asyncio.create_task(self.connect())
        async with asyncio.timeout(3 * OUT_S):
            await asyncio.gather(*(self.application(own, requests) for own in KMES for _ in range(3)))
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)

    async def connect(self) -> None:
        while True:
            both = zip(KMES, memory_pair(), strict=True)
            tasks = [asyncio.create_task(self.peers[own].converse(Lossy(channel, self.draw))) for own, channel in both]
            await asyncio.gather(*tasks)

    async def application(self, own: str, requests: int) -> None:
        """A master at one end, and its slaves at the other, who ask as soon as it has its answer, and once more."""
        for _ in range(requests):
            slaves = self.draw.sample(SLAVES, self.draw.randint(1, 2))
            number, nbytes = self.draw.randint(1, 4), self.draw.randint(16, 64)
            try:
                keys = await self.peers[own].keys(number, nbytes, master=own, slaves=slaves, ttl_s=600)
            except (StoreError, PeerUnreachableError):
                self.refused += 1
                await asyncio.sleep(0.01)
                continue
            ids, secrets = [key.key_id for key in keys], [bytes(key.secret) for key in keys]
            assert not self.given.keys() & set(ids)
            assert not set(self.given.values()) & set(secrets)
            self.given |= dict(zip(ids, secrets, strict=True))
            for slave in slaves:
                fetched = await awaited(self.stores[OTHER[own]].deliver(slave, ids, master=own))
                assert [bytes(key.secret) for key in fetched] == secrets
                with pytest.raises(KeysNotFoundError):
                    await awaited(self.stores[OTHER[own]].deliver(slave, ids[:1], master=own))


def lossy(folder: Path, seed: int, requests: int) -> tuple[int, int]:
    """Keys that were given to masters, and refused requests."""
    ends = Ends(folder, seed)
    try:
        asyncio.run(ends.run(requests))
        assert not ends.alarms, "a message that was lost or came twice is no attack"
        assert len(ends.given) > 3 * requests
        assert ends.refused, "nothing was lost in this run"
        used = [ends.stores[own].link(OTHER[own]).status().result(OUT_S).totals["app"] for own in KMES]
        assert used == [sum(map(len, ends.given.values()))] * 2
        return len(ends.given), ends.refused
    finally:
        for store in ends.stores.values():
            store.close()


def test_lost_and_repeated_messages(tmp_path: Path) -> None:
    lossy(tmp_path, seed=1, requests=60)


@pytest.mark.soak
def test_lost_and_repeated_messages_in_many_runs(tmp_path: Path) -> None:
    found = []
    for seed in range(100):
        folder = tmp_path / str(seed)
        folder.mkdir()
        found.append(lossy(folder, 100 + seed, requests=60))
    print("keys, refused requests:", [sum(column) for column in zip(*found, strict=True)])
