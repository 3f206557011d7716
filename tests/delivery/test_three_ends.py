"""Three key managers: a key for slaves at two of them and at the master's own, all or none, once each."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from worlds import OUT_S

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.delivery import Client, DeliveryError
from qkdpp.delivery.channel import MemoryChannel, memory_pair
from qkdpp.delivery.config import load_delivery
from qkdpp.delivery.messages import DECODER, Answer, Reserve
from qkdpp.delivery.multicast import Homes, multicast
from qkdpp.delivery.peer import LinkedPeer
from qkdpp.delivery.server import answering
from qkdpp.delivery.streams import PeerUnreachableError, awaited
from qkdpp.keystore import FileWrapping, KeysNotFoundError, KeyStore, NotEnoughKeyError, NotNamedError, create_kek

A, B, C = NAMES = ("kme-a", "kme-b", "kme-c")
NBYTES = 1024
HOMES = Homes(peers={"kme-b": ["sae-b"], "kme-c": ["sae-c", "sae-c2"]}, here=["sae-a2"])
WHERE = {"sae-b": B, "sae-c": C, "sae-c2": C, "sae-a2": A}
Loses = Callable[[object], bool]


class Heard(MemoryChannel):
    """Keeps what is sent, and loses some of it."""

    def __init__(self, inner: MemoryChannel, sent: list[object], lose: Loses) -> None:
        self._inner, self._sent, self._lose = inner, sent, lose

    async def send(self, *messages: bytes) -> None:
        for message in messages:
            self._sent.append(DECODER.decode(message))
            if not self._lose(self._sent[-1]):
                await self._inner.send(message)

    async def receive(self) -> bytes:
        return await self._inner.receive()

    def close(self) -> None:
        self._inner.close()


class Three:
    """A with a link to B and one to C; every link has a block each way."""

    def __init__(self, folder: Path) -> None:
        self.stores, self.sent = {}, []
        self.alarms: list[str] = []
        for own in NAMES:
            create_kek(folder / f"{own}.kek", OsEntropy())
            self.stores[own] = KeyStore(
                folder / own, own, FileWrapping(folder / f"{own}.kek"), alarm=self.alarms.append
            )
        for other in (B, C):
            self.fill(other, 2, 3)

    def fill(self, other: str, *blocks: int) -> None:
        for one, two in ((A, other), (other, A)):
            link = self.stores[one].link(two)
            for block in blocks:
                link.stage(block, Bits.from_bytes(secret(other, block), 8 * NBYTES))
                link.ready(block)
                link.release(block)

    async def meet(self, lose: Loses = lambda _: False, answer_s: float = OUT_S) -> None:
        self.peers = {other: LinkedPeer(self.stores[A].link(other), answer_s=answer_s) for other in (B, C)}
        ends, self.tasks = list(self.peers.values()), []
        for other in (B, C):
            near, far = memory_pair()
            end = LinkedPeer(self.stores[other].link(A))
            ends.append(end)
            heard = Heard(near, self.sent, lose)
            self.tasks.append(asyncio.create_task(self.peers[other].converse(heard)))
            self.tasks.append(asyncio.create_task(end.converse(Heard(far, [], lose))))
        async with asyncio.timeout(OUT_S):
            while not all(end.up for end in ends):
                await asyncio.sleep(0.001)

    async def part(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def take(self, number: int = 1, nbytes: int = 32, homes: Homes = HOMES):
        return await multicast(self.stores[A], self.peers, homes, number, nbytes, master="sae-a", ttl_s=60)

    async def fetch(self, sae: str, keys, where: str | None = None) -> list[bytes]:
        ids = [key.key_id for key in keys]
        store = self.stores[where or WHERE[sae]]
        return [bytes(key.secret) for key in await awaited(store.deliver(sae, ids, master="sae-a"))]

    def rest(self) -> list[tuple[int, int]]:
        """Keys reserved and held, at both ends of both links."""
        ends = [(A, B), (B, A), (A, C), (C, A)]
        found = [self.stores[own].link(other).status().result(OUT_S) for own, other in ends]
        return [(status.reserved, status.held) for status in found]


def secret(other: str, block: int) -> bytes:
    return Random(f"{other} {block}").randbytes(NBYTES)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Three]:
    made = Three(tmp_path)
    yield made
    for store in made.stores.values():
        store.close()


def test_every_slave_gets_the_masters_keys_once(three: Three) -> None:
    async def talk() -> None:
        await three.meet()
        keys = await three.take(3)
        mine = [bytes(key.secret) for key in keys]
        assert mine == [secret(B, 2)[at : at + 32] for at in (0, 32, 64)]
        for sae in WHERE:
            with pytest.raises(KeysNotFoundError):
                await awaited(three.stores[WHERE[sae]].deliver(sae, [keys[0].key_id], master="another"))
            assert await three.fetch(sae, keys) == mine, sae
            with pytest.raises(KeysNotFoundError):
                await three.fetch(sae, keys)
        for sae, where in (("sae-a", A), ("sae-b", C), ("stranger", A)):
            with pytest.raises((KeysNotFoundError, NotNamedError)):
                await three.fetch(sae, keys, where)
        assert three.rest() == [(0, 0)] * 4
        await three.part()

    asyncio.run(talk())
    totals = [three.stores[A].link(other).status().result(OUT_S).totals for other in (B, C)]
    assert [total["app"] for total in totals] == [96, 96]
    for own, other in ((B, A), (C, A), (A, B), (A, C)):
        status = three.stores[own].link(other).status().result(OUT_S)
        assert status.totals["stored"] == status.available + status.incoming + status.totals["app"]
    assert not three.alarms


def test_to_the_second_peer_the_key_goes_under_a_one_time_pad(three: Three) -> None:
    async def talk() -> None:
        await three.meet()
        (key,) = await three.take()
        sent = {m.reservation.masks: m for m in three.sent if isinstance(m, Reserve)}
        assert len(sent) == 2
        ((mask,),) = [masks for masks in sent if masks]
        pad = secret(C, 2)[:32]
        assert mask == bytes(k ^ p for k, p in zip(key.secret, pad, strict=True))
        (again,) = await three.take()
        masks = [m.reservation.masks[0] for m in three.sent if isinstance(m, Reserve) and m.reservation.masks]
        pad = secret(C, 2)[32:64]
        assert masks[1] == bytes(k ^ p for k, p in zip(again.secret, pad, strict=True))
        await three.part()

    asyncio.run(talk())


def test_a_stranger_at_the_masters_own_end_is_not_named(three: Three) -> None:
    async def talk() -> None:
        await three.meet()
        keys = await three.take()
        with pytest.raises(NotNamedError):
            await three.fetch("sae-a3", keys, A)
        assert len(await three.fetch("sae-a2", keys)) == 1
        await three.part()

    asyncio.run(talk())


def test_too_little_key_on_one_link_takes_none_of_the_other(three: Three) -> None:
    async def talk() -> None:
        await three.meet()
        only_b = Homes(peers={B: ["sae-b"]}, here=["sae-a2"])
        await three.take(1, NBYTES - 32, only_b)
        before = three.stores[A].link(C).status().result(OUT_S).available
        with pytest.raises(NotEnoughKeyError):
            await three.take(2, 32)
        assert three.stores[A].link(C).status().result(OUT_S).available == before
        assert three.stores[A].link(B).status().result(OUT_S).available == 32
        await three.part()

    asyncio.run(talk())


def test_one_request_for_slaves_everywhere(three: Three, pki: Path) -> None:
    """Over the web; too much for one message is refused before anything is taken."""
    homes = {"sae-a": A, "sae-slow": A, "sae-b": B, "sae-c": C}
    text = (
        f'format = 1\n[server]\nname = "{A}"\nlisten = ":0"\nauthority = "{pki}/authority.pem"\n'
        f'certificate = "{pki}/{A}.pem"\nkey = "{pki}/{A}.key"\n[store]\nfolder = "{A}"\nkey = "{A}.kek"\n'
        + "".join(f'[[peer]]\nname = "{name}"\nlisten = ":0"\n' for name in (B, C))
        + "".join(f'[[sae]]\nid = "{sae}"\nkme = "{kme}"\n' for sae, kme in homes.items())
    )
    path = three.stores[A].path.parent / "kme-a.toml"
    path.write_text(text, encoding="utf-8")

    def ask(port: int) -> None:
        files = {"authority": pki / "authority.pem"}
        master, near = (
            Client(f"127.0.0.1:{port}", certificate=pki / f"{sae}.pem", key=pki / f"{sae}.key", **files)
            for sae in ("sae-a", "sae-slow")
        )
        with master, near:
            keys = master.get("sae-c", 2, additional_slaves=["sae-slow", "sae-b"])
            ids = [key.key_id for key in keys]
            assert near.fetch("sae-a", ids) == keys
            for sae in ("sae-b", "sae-c"):
                got = three.stores[homes[sae]].deliver(sae, ids, master="sae-a").result(OUT_S)
                assert [bytes(key.secret) for key in got] == [key.key for key in keys]
            with pytest.raises(DeliveryError, match="number times size") as refused:
                master.get("sae-c", 128, 262_144, additional_slaves=["sae-b"])
            assert refused.value.code == 400
            with pytest.raises(DeliveryError, match="not enough key") as short:
                master.get("sae-c", 64, 256, additional_slaves=["sae-b"])
            assert short.value.code == 503

    async def talk() -> None:
        await three.meet()
        async with answering(load_delivery(path), three.stores[A], three.peers) as (port, _):
            await asyncio.to_thread(ask, port)
        await three.part()

    asyncio.run(talk())


@pytest.mark.parametrize("kind", [Reserve, Answer])
def test_one_silent_peer_voids_the_key_at_all(three: Three, kind: type) -> None:
    """The reservation, or its answer, is lost on the way to or from C, once."""
    lost: list[object] = []

    def lose(message: object) -> bool:
        mine = isinstance(message, kind) and (kind is Answer or bool(message.reservation.masks))
        if mine and (kind is Reserve or len(lost) < 1):
            lost.append(message)
            return len(lost) == 1
        return False

    async def talk() -> None:
        await three.meet(lose, answer_s=0.2)
        with pytest.raises(PeerUnreachableError):
            await three.take(2)
        for peer in three.peers.values():
            peer._answer_s = OUT_S
        keys = await three.take()
        mine = [bytes(key.secret) for key in keys]
        assert mine == [secret(B, 2)[64:96]]
        for sae in WHERE:
            assert await three.fetch(sae, keys) == mine
        assert three.rest() == [(0, 0)] * 4
        await three.part()

    asyncio.run(talk())
    assert not three.alarms


def test_a_peer_that_is_not_there_takes_nothing_from_the_other(three: Three) -> None:
    async def talk() -> None:
        await three.meet()
        three.tasks[2].cancel()
        while three.peers[C].up:
            await asyncio.sleep(0)
        with pytest.raises(PeerUnreachableError):
            await three.take()
        assert three.stores[A].link(B).status().result(OUT_S).available == NBYTES
        await three.part()

    asyncio.run(talk())


def test_many_at_once_beside_single_reservations(three: Three) -> None:
    """Both kinds share the streams: nothing may overtake anything."""

    async def talk() -> None:
        await three.meet()

        async def single(other: str, slave: str):
            peer = three.peers[other]
            return await peer.keys(1, 8, master="sae-a", slaves=[slave], ttl_s=60)

        found = await asyncio.gather(
            *(f for _ in range(20) for f in (three.take(1, 8), single(B, "sae-b"), single(C, "sae-c")))
        )
        for at, keys in enumerate(found):
            for sae in (tuple(WHERE), ("sae-b",), ("sae-c",))[at % 3]:
                assert await three.fetch(sae, keys) == [bytes(key.secret) for key in keys]
        await three.part()

    asyncio.run(talk())
    assert not three.alarms
