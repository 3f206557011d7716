"""Streams of chunks for two applications, as this key manager knows them: one :class:`Streams` for every link.

The source's end reserves chunks, many at a time, when its application asks or
the other end wants more; the destination's end takes them from its store, many
at a time. They lie in memory until they are asked for, each out of the store,
durably, before; what lies there when the process ends is lost. An index is
given once at each end and means the same bytes at both.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar
from uuid import UUID

from qkdpp.core.errors import LinkError, QkdppError
from qkdpp.delivery.identity import Allowance
from qkdpp.delivery.messages import Close, Join, Message, More, Reserve
from qkdpp.keystore import DESTINATION, SOURCE, Key, Link, NotEnoughKeyError, StoreError, StreamState, Terms
from qkdpp.keystore import StreamUnknownError as UnknownError
from qkdpp.keystore.values import SECOND_NS

T = TypeVar("T")
LOGGER = logging.getLogger(__name__)
BOTH: Final = SOURCE | DESTINATION
AHEAD_BYTES: Final = 1 << 16
AHEAD: Final = 64
"""Chunks, and bytes, that are reserved or taken at a time; few while a stream is young."""
KEPT: Final = 4 * AHEAD
"""Chunks that lie in memory for an application that skips them; the lowest are destroyed."""
AGAIN_S: Final = 0.25


class Code(enum.IntEnum):
    """Status of ETSI GS QKD 004."""

    DONE = 0
    PEER_NOT_CONNECTED = 1
    NOT_ENOUGH_KEY = 2
    NO_PEER = 3
    NO_LINK = 4
    IN_USE = 5
    TIMEOUT = 6
    QUALITY = 7
    METADATA = 8


class StreamError(QkdppError):
    """A call that came to nothing; ``final``: nor would it again."""

    def __init__(self, code: Code, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.code, self.final = code, final


class PeerUnreachableError(LinkError):
    """The other end is not connected, was silent, or refused: no key was given, what was reserved is void."""


@dataclass(frozen=True, slots=True)
class Agreed(Generic[T]):
    """Result of a job of the store, and why the peer refuses to do the same (empty: it has); ``silent``: no answer."""

    result: T
    refused: str
    silent: bool = False


def awaited(future: Future[T]) -> asyncio.Future[T]:
    """Waits for a future of the store without ever cancelling its job."""
    return asyncio.shield(asyncio.wrap_future(future))


class Wire(Protocol):
    """What streams need of the connection to the peer; see :class:`qkdpp.delivery.peer.LinkedPeer`."""

    @property
    def up(self) -> bool: ...  # noqa: D102

    def agree(  # noqa: D102
        self, job: Callable[[], Future[T]], message_of: Callable[[int, T], Message]
    ) -> Coroutine[Any, Any, Agreed[T]]: ...

    def tell(self, after: Future[Any], message: Message) -> None: ...  # noqa: D102

    async def void(self, key_ids: tuple[UUID, ...]) -> None: ...  # noqa: D102


@dataclass(slots=True, eq=False)
class Chunk:
    """Key for one application; ``not_after_ns``: until when it may be given out."""

    index: int
    key: Key
    not_after_ns: int


@dataclass(slots=True, eq=False)
class _End:
    """This end of a stream in memory. ``top`` is above every index that was given."""

    state: StreamState
    top: int
    allowance: Allowance | None = None
    chunks: dict[int, Chunk] = field(default_factory=dict)
    given: int = 0
    users: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    filling: asyncio.Task[None] | None = None

    @property
    def number(self) -> int:
        """Chunks to get at a time."""
        return max(1, min(AHEAD, 1 + self.given + len(self.chunks), AHEAD_BYTES // self.state.terms.nbytes))

    def find(self, index: int | None, now_ns: int) -> Chunk | None:
        """The chunk of an index, or the lowest."""
        self.drop(lambda chunk: chunk.not_after_ns <= now_ns)
        return self.chunks.get(min(self.chunks, default=-1) if index is None else index)

    def add(self, found: dict[int, tuple[Key, int]]) -> None:
        self.chunks |= {i: Chunk(i, key, not_after) for i, (key, not_after) in found.items()}
        lowest = sorted(self.chunks)[-KEPT:][0] if self.chunks else 0
        self.drop(lambda chunk: chunk.index < lowest)

    def drop(self, which: Callable[[Chunk], bool]) -> None:
        """Wipes chunks."""
        for chunk in [chunk for chunk in self.chunks.values() if which(chunk)]:
            self.chunks.pop(chunk.index).key.wipe()


class Streams:
    """Both kinds of ends; belongs to one event loop."""

    def __init__(self, link: Link, wire: Wire) -> None:
        self._link, self._wire = link, wire
        self._ends: dict[UUID, _End] = {}
        self._running: set[asyncio.Task[None]] = set()

    # For the delivery server.

    async def known(self, stream: UUID) -> StreamState | None:
        """A stream over this link."""
        if stream in self._ends:
            return self._ends[stream].state
        try:
            return await awaited(self._link.stream(stream))
        except UnknownError:
            return None

    async def open(self, terms: Terms, here: int, *, new: bool) -> StreamState:
        """The application at this end opens a stream, or joins it. StoreError, StreamError or PeerUnreachableError.

        ``new``: nobody else knows its identifier, so that it is over if the peer does not take part.
        """
        agreed = await self._wire.agree(
            lambda: self._link.join(terms, here=here, who=here), lambda number, _: Join(number, terms, here)
        )
        if agreed.refused and new:
            closing = self._link.close_stream(terms.stream, who=here, last=0)
            self._wire.tell(closing, Close(terms.stream, here, 0))
            await awaited(closing)
        if agreed.silent:
            raise StreamError(Code.TIMEOUT, "the peer KME did not answer in time")
        if agreed.refused:
            raise StreamError(Code.NO_LINK if new else Code.IN_USE, "the peer KME refused the stream")
        self.changed(terms.stream)
        return await awaited(self._link.stream(terms.stream))

    async def chunk(
        self, stream: UUID, index: int | None, *, wait_s: float, max_bps: int, check: Callable[[Chunk], None]
    ) -> Chunk:
        """The chunk of an index, or the lowest that is there, for the application of this end.

        ``check`` may raise, and the chunk stays. StreamError, or StoreError, if there is none within ``wait_s``.
        ``max_bps``: most bits a second in the long run, 0 for any number.
        """
        end = await self._end(stream)
        if end.allowance is None and max_bps:
            end.allowance = Allowance(max_bps / (8 * end.state.terms.nbytes))
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        end.users += 1
        try:
            while True:
                end.news.clear()
                if self._link.stopped:
                    end.drop(lambda _: True)
                    await awaited(self._link.take(stream, None, 0))  # says why
                found = end.find(index, self._link.now_ns())
                if found is not None and end.state.joined == BOTH:
                    check(found)
                    if end.allowance is None or end.allowance.take(loop.time()):
                        del end.chunks[found.index]
                        end.given, end.top = end.given + 1, max(end.top, found.index + 1)
                        return found
                else:
                    await self._fill(end, index, until_s - loop.time())
                    if end.find(index, self._link.now_ns()) is not None:
                        continue
                if loop.time() >= until_s:
                    raise await self._why(end, found)
                await _wait(end.news, min(AGAIN_S, until_s - loop.time()))
        finally:
            end.users -= 1

    async def close(self, stream: UUID) -> None:
        """The application of this end closes a stream."""
        end = await self._end(stream)
        self._ends.pop(stream, None)
        end.drop(lambda _: True)
        here = end.state.here
        closing = self._link.close_stream(stream, who=here, last=end.top)
        self._wire.tell(closing, Close(stream, here, end.top))
        end.state = await awaited(closing)
        end.news.set()

    def now_ns(self) -> int:
        """The store's clock."""
        return self._link.now_ns()

    # For the connection.

    def changed(self, stream: UUID) -> None:
        """Something of a stream may be otherwise now."""
        if stream in self._ends:
            self._start(self._look(self._ends[stream]))

    def wanted(self, stream: UUID) -> None:
        """The destination's end has no chunk left."""
        self._start(self._provide(stream))

    def expire(self) -> None:
        """Destroys what nobody asked for in time; to be called every second or so."""
        for stream, end in list(self._ends.items()):
            end.find(None, self._link.now_ns())
            if not end.chunks and not end.users and end.filling is None:
                del self._ends[stream]

    # Within.

    def _start(self, part: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(part)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            LOGGER.warning("a stream over the link to %s: %s", self._link.line.peer, task.exception())

    async def _end(self, stream: UUID) -> _End:
        """UnknownError if this end of the stream is not there, or closed."""
        if stream not in self._ends:
            state = await awaited(self._link.stream(stream))
            self._ends.setdefault(stream, _End(state, state.waiting))
        end = self._ends[stream]
        if end.state.closed & end.state.here:
            raise UnknownError("the stream is closed")
        return end

    async def _look(self, end: _End) -> None:
        end.state = await awaited(self._link.stream(end.state.terms.stream))
        if end.state.last is not None:
            end.drop(lambda chunk: chunk.index >= (end.state.last or 0))
        end.news.set()

    async def _fill(self, end: _End, index: int | None, wait_s: float) -> None:
        """Gets chunks into memory; StreamError if there can be none of this index. Goes on when the time is over."""
        await self._look(end)
        state = end.state
        if state.closed & state.here:
            raise UnknownError("the stream is closed")
        if state.joined != BOTH:
            return
        if state.here == DESTINATION:
            await asyncio.shield(self._start(self._take(end, index)))
        elif end.filling is None:
            if index is not None and end.find(index, self._link.now_ns()) is not None:
                return  # it came while we looked
            _hopeless(state, index)
            end.filling = self._start(self._reserve(end))
            end.filling.add_done_callback(lambda _: setattr(end, "filling", None))
        if end.filling is not None:
            await asyncio.wait({filling := end.filling}, timeout=max(0.0, wait_s))
            if filling.done():
                filling.result()
        elif end.find(index, self._link.now_ns()) is None:
            _hopeless(state, index)

    async def _reserve(self, end: _End) -> None:
        """At the source's end: the next chunks. Without effect if there is too little key, or no answer."""
        terms = end.state.terms
        not_after_ns = self._link.now_ns() + terms.ttl_s * SECOND_NS
        agreed = None
        for number in {end.number: None, 1: None}:
            job = partial(self._link.reserve_chunks, terms.stream, number)
            with contextlib.suppress(NotEnoughKeyError, PeerUnreachableError):
                agreed = await self._wire.agree(job, Reserve)
                break
        if agreed is None:
            return
        ids, part = agreed.result.key_ids, agreed.result.part
        assert part is not None
        if agreed.refused:
            await self._wire.void(ids)
        else:
            found = await awaited(self._link.commit(ids))
            end.add({part.first + at: (key, not_after_ns) for at, key in enumerate(found)})
        if end.state.closed & SOURCE:
            end.drop(lambda _: True)
        end.news.set()

    async def _take(self, end: _End, index: int | None) -> None:
        """At the destination's end: chunks from the store, or a word to the source's end that there are none."""
        taking = self._link.take(end.state.terms.stream, index, end.number)
        found = await awaited(taking)
        end.add(found)
        if not found and not end.state.closed:
            self._wire.tell(taking, More(end.state.terms.stream))

    async def _provide(self, stream: UUID) -> None:
        """Chunks for a destination that waits, or the news that its stream is over."""
        try:
            end = await self._end(stream)
        except UnknownError:
            state = await self.known(stream)
            if state is not None and state.closed & state.here:
                asking = self._link.stream(stream)
                self._wire.tell(asking, Close(stream, state.here, state.last or 0))
            return
        if end.state.here == SOURCE and len(end.chunks) < AHEAD:
            end.users += 1  # or it might be forgotten meanwhile
            try:
                await self._fill(end, None, 0)
            except (StreamError, StoreError):
                return
            finally:
                end.users -= 1

    async def _why(self, end: _End, found: Chunk | None) -> StreamError:
        """Why there was no chunk in time."""
        if found is not None and end.state.joined == BOTH:
            return StreamError(Code.NOT_ENOUGH_KEY, "more than Max_bps")
        if not self._wire.up:
            return StreamError(Code.NO_LINK, "the peer KME cannot be reached")
        if end.state.joined != BOTH:
            return StreamError(Code.NO_PEER, "the other application has not opened the stream")
        status = await awaited(self._link.status())
        stock = status.available if end.state.here == SOURCE else status.incoming
        if stock < end.state.terms.nbytes:
            return StreamError(Code.NOT_ENOUGH_KEY, "not enough key")
        return StreamError(Code.TIMEOUT, "no chunk in time")


def _hopeless(state: StreamState, index: int | None) -> None:
    """StreamError if a chunk that is not there will never come."""
    if index is not None and index < state.next:
        raise StreamError(Code.NOT_ENOUGH_KEY, "the chunk of this index was given, lost or destroyed", final=True)
    if index is not None and index >= state.next + AHEAD:
        raise StreamError(Code.NOT_ENOUGH_KEY, "the index is far beyond all that were agreed on", final=True)
    if state.closed:
        raise StreamError(Code.NO_PEER, "the other application has closed the stream", final=True)


async def _wait(event: asyncio.Event, wait_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await event.wait()
