"""Two key managers over a connection in memory: order, refusals, silence, connections that come and go."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from worlds import KMES, OUT_S

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.errors import LinkError
from qkdpp.delivery import meeting
from qkdpp.delivery.channel import MOST_BYTES, MemoryChannel, StreamChannel, memory_pair
from qkdpp.delivery.messages import DECODER, Answer, Reserve
from qkdpp.delivery.peer import LinkedPeer
from qkdpp.delivery.streams import Chunk, PeerUnreachableError, Streams, awaited
from qkdpp.keystore import (
    DESTINATION,
    SOURCE,
    FileWrapping,
    KeysNotFoundError,
    KeyStore,
    NotEnoughKeyError,
    NotMetError,
    Terms,
    create_kek,
)
from qkdpp.link.tcp import Address, TlsFiles

NBYTES = 4096


class Cutting(MemoryChannel):
    """A channel that loses some messages, and tells which came."""

    def __init__(self, inner: MemoryChannel, lose: Callable[[object], bool]) -> None:
        self._inner, self._lose = inner, lose

    async def send(self, *messages: bytes) -> None:
        await self._inner.send(*(message for message in messages if not self._lose(DECODER.decode(message))))

    async def receive(self) -> bytes:
        return await self._inner.receive()

    def close(self) -> None:
        self._inner.close()


class Ends:
    """Both stores with a block each way, and their peers."""

    def __init__(self, folder: Path) -> None:
        self.stores, self.peers = {}, {}
        self.alarms: list[str] = []
        for own, other in zip(KMES, reversed(KMES), strict=True):
            create_kek(folder / f"{own}.kek", OsEntropy())
            store = KeyStore(folder / own, own, FileWrapping(folder / f"{own}.kek"), alarm=self.alarms.append)
            self.stores[own] = store
            link = store.link(other)
            for block in (2, 3):
                link.stage(block, Bits.from_bytes(bytes([block]) * NBYTES, 8 * NBYTES))
                link.ready(block)
                link.release(block)
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, **timing: float) -> None:
        self.peers = {
            own: LinkedPeer(self.stores[own].link(other), **timing)
            for own, other in zip(KMES, reversed(KMES), strict=True)
        }

    def connect(self, lose: Callable[[object], bool] = lambda _: False) -> None:
        a, b = memory_pair()
        self.tasks += [
            asyncio.create_task(self.peers["kme-a"].converse(Cutting(a, lose))),
            asyncio.create_task(self.peers["kme-b"].converse(Cutting(b, lose))),
        ]

    async def up(self) -> None:
        async with asyncio.timeout(OUT_S):
            while not all(peer.up for peer in self.peers.values()):
                await asyncio.sleep(0.001)

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def take(self, number: int = 1, slave: str = "sae-b"):
        return await self.peers["kme-a"].keys(number, 32, master="sae-a", slaves=[slave], ttl_s=60)

    async def fetch(self, keys):
        ids = [key.key_id for key in keys]
        return await awaited(self.stores["kme-b"].deliver("sae-b", ids, master="sae-a"))

    async def status(self, own: str):
        return await self.peers[own].status()


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    made = Ends(tmp_path)
    yield made
    for store in made.stores.values():
        store.close()


def test_many_reservations_at_once_among_hellos(ends: Ends) -> None:
    """No HELLO may overtake a reservation that it counts: the peer would burn it."""

    async def talk() -> None:
        ends.start(hello_s=0.001)
        ends.connect()
        await ends.up()
        found = await asyncio.gather(*(ends.take() for _ in range(NBYTES // 32)))
        for keys in found:
            assert [bytes(key.secret) for key in await ends.fetch(keys)] == [bytes(key.secret) for key in keys]
        with pytest.raises(NotEnoughKeyError):
            await ends.take()
        await ends.stop()

    asyncio.run(talk())
    assert not ends.alarms
    totals = ends.stores["kme-b"].link("kme-a").status().result(OUT_S).totals
    assert (totals["app"], totals["burned"]) == (NBYTES, 0)


def test_who_has_run_dry_gets_a_block_of_the_other_and_keys_from_it(ends: Ends) -> None:
    async def talk() -> None:
        for store, other in zip(ends.stores.values(), reversed(KMES), strict=True):
            link = store.link(other)
            link.stage(5, Bits.from_bytes(b"\x05" * NBYTES, 8 * NBYTES))
            link.ready(5)
            link.release(5)
        ends.start(hello_s=0.05)
        ends.connect()
        await ends.up()
        first = await ends.take(NBYTES // 32)
        with pytest.raises(NotEnoughKeyError):
            await ends.take()
        async with asyncio.timeout(OUT_S):
            while not (await ends.status("kme-a")).available:
                await asyncio.sleep(0.01)
        (second,) = await ends.take()
        assert {bytes(key.secret) for key in first} == {b"\x02" * 32}
        assert bytes(second.secret) == b"\x05" * 32
        assert [bytes(key.secret) for key in await ends.fetch([second])] == [b"\x05" * 32]
        await asyncio.sleep(0.2)
        assert (await ends.status("kme-b")).available == NBYTES
        await ends.stop()

    asyncio.run(talk())
    assert not ends.alarms


def test_before_a_connection_no_key_is_taken(ends: Ends) -> None:
    async def talk() -> None:
        ends.start()
        with pytest.raises(PeerUnreachableError):
            await ends.take()
        assert (await ends.status("kme-a")).available == NBYTES

    asyncio.run(talk())


def test_before_hello_no_key_is_taken(ends: Ends) -> None:
    async def talk() -> None:
        ends.start(hello_s=100)
        ends.connect(lose=lambda _: True)
        await asyncio.sleep(0.01)
        with pytest.raises(NotMetError):
            await ends.take()
        assert (await ends.status("kme-a")).available == NBYTES
        await ends.stop()

    asyncio.run(talk())


def test_a_lost_reservation_is_void_and_the_next_one_works(ends: Ends) -> None:
    lost: list[Reserve] = []

    def first(message: object) -> bool:
        if isinstance(message, Reserve) and not lost:
            lost.append(message)
            return True
        return False

    async def talk() -> None:
        ends.start(answer_s=0.1)
        ends.connect(lose=first)
        await ends.up()
        with pytest.raises(PeerUnreachableError):
            await ends.take(2)
        ends.peers["kme-a"]._answer_s = OUT_S
        keys = await ends.take()
        assert not set(lost[0].reservation.key_ids) & {key.key_id for key in keys}
        assert bytes((await ends.fetch(keys))[0].secret) == bytes(keys[0].secret)
        with pytest.raises(KeysNotFoundError):
            await awaited(ends.stores["kme-b"].deliver("sae-b", lost[0].reservation.key_ids, master="sae-a"))
        status = await ends.status("kme-a")
        assert (status.reserved, status.totals["burned"]) == (0, 64)
        await ends.stop()

    asyncio.run(talk())


def test_an_accepted_reservation_whose_answer_is_lost_is_void_at_both_ends(ends: Ends) -> None:
    """The connection breaks before the answer; VOID follows over the next one."""

    async def talk() -> None:
        ends.start()
        lost = asyncio.Event()

        def answer(message: object) -> bool:
            if isinstance(message, Answer):
                lost.set()
            return lost.is_set()

        ends.connect(lose=answer)
        await ends.up()
        taking = asyncio.create_task(ends.take())
        async with asyncio.timeout(OUT_S):
            await lost.wait()
        ends.tasks[0].cancel()
        with pytest.raises(PeerUnreachableError):
            await taking
        ends.connect()
        await ends.up()
        async with asyncio.timeout(OUT_S):
            while (await ends.status("kme-b")).held:
                await asyncio.sleep(0.001)
        assert (await ends.status("kme-a")).reserved == 0
        assert (await ends.fetch(await ends.take()))[0]
        await ends.stop()

    asyncio.run(talk())


def test_a_newer_connection_drops_the_older(ends: Ends) -> None:
    async def talk() -> None:
        ends.start()
        ends.connect()
        await ends.up()
        ends.connect()
        async with asyncio.timeout(OUT_S):
            await asyncio.gather(*ends.tasks[:2])
        await ends.up()
        assert await ends.fetch(await ends.take())
        await ends.stop()

    asyncio.run(talk())


@pytest.mark.parametrize("message", [b"", b"\x00", b"\x81\xa4type\xa5other", b"\xff" * 100])
def test_a_message_that_cannot_be_read_ends_the_connection(ends: Ends, message: bytes) -> None:
    async def talk() -> None:
        ends.start()
        near, far = memory_pair()
        task = asyncio.create_task(ends.peers["kme-a"].converse(near))
        await far.send(message)
        await asyncio.wait_for(task, OUT_S)
        assert not ends.peers["kme-a"].up

    asyncio.run(talk())
    assert not ends.alarms


def test_frames_of_a_stream() -> None:
    async def talk() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(b"\0\0\0\3abc\0\0\0\0" + (MOST_BYTES + 1).to_bytes(4, "big"))
        channel = StreamChannel(reader, None)  # type: ignore[arg-type] - nothing is sent
        assert await channel.receive() == b"abc"
        assert await channel.receive() == b""
        with pytest.raises(Exception, match="at most"):
            await channel.receive()
        reader.feed_eof()
        with pytest.raises(LinkError):
            await channel.receive()

    asyncio.run(talk())


def test_who_hangs_up_at_once_is_called_more_and_more_seldom(
    tmp_path: Path, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a key manager does that refuses the other's certificate."""
    first_s, calls = 0.01, 6
    monkeypatch.setattr(meeting, "FIRST_WAIT_S", first_s)
    tls = TlsFiles(
        authority=pki / "authority.pem", certificate=pki / "kme-a.pem", key=pki / "kme-a.key", peer_name="kme-a"
    )
    came: list[float] = []

    async def listen(store: KeyStore) -> None:
        enough = asyncio.Event()

        def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came.append(asyncio.get_running_loop().time())
            writer.close()
            if len(came) == calls:
                enough.set()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=tls.context(server=True))
        where = Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1], listen=False)
        async with asyncio.timeout(OUT_S), meeting.meeting(LinkedPeer(store.link("kme-a")), where, tls):
            await enough.wait()
        server.close()

    create_kek(tmp_path / "kek", OsEntropy())
    with KeyStore(tmp_path / "kme-b", "kme-b", FileWrapping(tmp_path / "kek")) as store:
        asyncio.run(listen(store))
    assert came[-1] - came[0] >= sum(first_s * 2**n for n in range(calls - 1))


async def opened(ends: Ends) -> tuple[UUID, Streams, Streams]:
    """A stream that both applications may read: its identifier, the source's end and the destination's."""
    ends.start(hello_s=100)
    ends.connect()
    await ends.up()
    source, destination = (ends.peers[own].streams for own in KMES)
    terms = Terms(stream=uuid4(), source="sae-a", destination="sae-b", nbytes=32, ttl_s=60, quality="")
    await source.open(terms, SOURCE, new=False)
    await destination.open(terms, DESTINATION, new=False)
    return terms.stream, source, destination


async def chunk(streams: Streams, stream: UUID, index: int | None = None) -> Chunk:
    return await streams.chunk(stream, index, wait_s=OUT_S, max_bps=0, check=lambda _: None)


def test_a_chunk_that_comes_while_its_stream_is_looked_up_is_given(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's answer about the stream counts it already, and is read after that which brings its key."""

    async def talk() -> None:
        stream, source, destination = await opened(ends)
        link = ends.peers["kme-a"].link
        commit, look = link.commit, link.stream
        asked, came = asyncio.Event(), asyncio.Event()

        async def late(answer: Future, event: asyncio.Event):
            result = await awaited(answer)
            await event.wait()
            for _ in range(100):
                await asyncio.sleep(0)
            return result

        def committed(ids: Sequence[UUID]):
            answer = asyncio.create_task(late(commit(ids), asked))
            answer.add_done_callback(lambda _: came.set())
            return answer

        def looked(stream: UUID):
            asked.set()
            return asyncio.create_task(late(look(stream), came))

        monkeypatch.setattr(link, "commit", committed)
        theirs = await chunk(destination, stream)
        monkeypatch.setattr(link, "stream", looked)
        mine = await chunk(source, stream, theirs.index)
        assert (mine.index, mine.key.secret) == (theirs.index, theirs.key.secret)
        await ends.stop()

    asyncio.run(talk())


def test_an_end_that_is_being_filled_is_not_forgotten(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the source, where no application waits: the destination's has asked for chunks."""

    async def talk() -> None:
        stream, source, destination = await opened(ends)
        link = ends.peers["kme-a"].link
        look = link.stream

        def looked(stream: UUID) -> Future:
            source.expire()
            return look(stream)

        monkeypatch.setattr(link, "stream", looked)
        theirs = await chunk(destination, stream)
        mine = await chunk(source, stream, theirs.index)
        assert (mine.index, mine.key.secret) == (theirs.index, theirs.key.secret)
        await ends.stop()

    asyncio.run(talk())
