"""The key manager at the other end: which keys are reserved, accepted, and void. Both halves of the conversation.

Each end sends its HELLO when a connection is made and every second after, and
answers where the store asks for it. What goes out is queued as futures of the
store in the order in which the store was asked, and its one writer works in
that order: so no HELLO overtakes a reservation that it already counts, and
reservations reach the other store in the order in which they were made, while
many share one commit.

One connection serves at a time: a newer one drops the older, whose
reservations become void. A reservation that is refused, or not answered in
time, is void at both ends; its master gets no key, and waits for no one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

import msgspec

from qkdpp.core.errors import LinkError, RemoteProtocolError
from qkdpp.delivery.channel import Channel
from qkdpp.delivery.messages import (
    DECODER,
    ENCODER,
    Answer,
    Ask,
    Grant,
    Greeting,
    Join,
    Message,
    More,
    Reserve,
    Void,
)
from qkdpp.delivery.streams import Agreed, PeerUnreachableError, Streams, awaited
from qkdpp.keystore import DESTINATION, SOURCE, Key, Link, LinkStatus, NotEnoughKeyError, StoreError

T = TypeVar("T")
LOGGER = logging.getLogger(__name__)
HELLO_S: Final = 1.0
SILENT_S: Final = 5.0
"""Nothing heard for so long: the connection is dead."""
ANSWER_S: Final = 5.0
MOST_VOIDS: Final = 10_000
"""Identifiers kept to be told as void when the peer is back; it destroys older ones when their time has passed."""


class Peer(Protocol):
    """What the delivery server needs of the key manager at the other end."""

    @property
    def up(self) -> bool:
        """Whether keys can be agreed on now."""
        ...

    async def keys(self, number: int, nbytes: int, *, master: str, slaves: Sequence[str], ttl_s: int) -> list[Key]:
        """Keys for the master that the other end holds for the slaves.

        Raises:
            StoreError: the store could not give them.
            PeerUnreachableError: the other end did not take part.
        """
        ...

    async def status(self) -> LinkStatus:
        """Stock and state of the link."""
        ...

    def agree(
        self, job: Callable[[], Future[T]], message_of: Callable[[int, T], Message]
    ) -> Coroutine[Any, Any, Agreed[T]]:
        """Asks the store for a job, tells the peer of its result, and gives what waits for the answer; to be awaited.

        The job is asked for, and its message is in the queue, when this returns: so no other can come between. Raises
        PeerUnreachableError, without asking for it, if the peer is not connected; later what the job raises.
        """
        ...

    async def void(self, key_ids: Sequence[UUID]) -> None:
        """Destroys reserved keys at both ends."""
        ...

    @property
    def streams(self) -> Streams:
        """Of applications, over this link."""
        ...


@dataclass(slots=True, eq=False)
class _Connection:
    channel: Channel
    outgoing: asyncio.Queue[tuple[Future[Any], Callable[[Future[Any]], Message | None]]] = field(
        default_factory=asyncio.Queue
    )
    answers: dict[int, asyncio.Future[str]] = field(default_factory=dict)
    heard_s: float = 0.0
    heard: bool = False


class LinkedPeer:
    """One peer, over whatever connections :meth:`converse` is given; belongs to one event loop."""

    def __init__(self, link: Link, *, hello_s: float = HELLO_S, answer_s: float = ANSWER_S) -> None:
        self.link = link
        self.name = link.line.peer
        self._hello_s, self._answer_s = hello_s, answer_s
        self._now: _Connection | None = None
        self._number = 0
        self._voids: deque[UUID] = deque(maxlen=MOST_VOIDS)
        self._asked_s = -math.inf
        self.streams = Streams(link, self)

    # For the delivery server.

    @property
    def up(self) -> bool:
        """See :class:`Peer`."""
        return self._now is not None and self.link.met

    async def status(self) -> LinkStatus:
        """See :class:`Peer`."""
        found = await awaited(self.link.status())
        if not found.available:
            self._ask()
        return found

    async def keys(self, number: int, nbytes: int, *, master: str, slaves: Sequence[str], ttl_s: int) -> list[Key]:
        """See :class:`Peer`."""
        agreed = await self.agree(
            lambda: self.link.reserve(number, nbytes, master=master, slaves=slaves, ttl_s=ttl_s), Reserve
        )
        if agreed.refused:
            await self.void(agreed.result.key_ids)
            raise PeerUnreachableError(f"{self.name}: {agreed.refused}")
        return await awaited(self.link.commit(agreed.result.key_ids))

    def agree(
        self, job: Callable[[], Future[T]], message_of: Callable[[int, T], Message]
    ) -> Coroutine[Any, Any, Agreed[T]]:
        """See :class:`Peer`."""
        connection = self._now
        if connection is None:
            raise PeerUnreachableError(f"{self.name}: not connected")
        self._number += 1
        own = self._number
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        doing = job()
        connection.answers[own] = answer
        connection.outgoing.put_nowait(
            (doing, lambda done: None if done.exception() else message_of(own, done.result()))
        )
        return self._agreed(connection, own, doing, answer)

    async def _agreed(
        self, connection: _Connection, own: int, doing: Future[T], answer: asyncio.Future[str]
    ) -> Agreed[T]:
        try:
            try:
                result = await awaited(doing)
            except NotEnoughKeyError:
                self._ask()
                raise
            try:
                async with asyncio.timeout(self._answer_s):
                    return Agreed(result, await answer)
            except (TimeoutError, LinkError) as error:
                return Agreed(result, str(error) or "no answer in time", silent=True)
        finally:
            del connection.answers[own]
            answer.cancel()

    def tell(self, after: Future[Any], message: Message) -> None:
        """Sends a message, if the peer can be reached, once a job has succeeded."""
        if self._now is not None:
            self._now.outgoing.put_nowait((after, lambda done: None if done.exception() else message))

    def _ask(self) -> None:
        """For a block of the peer's stream; at most once in the time between two HELLOs."""
        if _now_s() - self._asked_s >= self._hello_s:
            self._asked_s = _now_s()
            at_once: Future[None] = Future()
            at_once.set_result(None)
            self.tell(at_once, Ask())

    async def void(self, key_ids: Sequence[UUID]) -> None:
        """See :class:`Peer`."""
        self._voids.extend(key_ids)
        voiding = self.link.void(key_ids)
        if self._now is not None:
            self._tell_voids(self._now, voiding)
        await awaited(voiding)

    def _tell_voids(self, connection: _Connection, after: Future[Any]) -> None:
        told = tuple(self._voids)
        self._voids.clear()
        connection.outgoing.put_nowait((after, lambda _: Void(told)))

    # The conversation.

    async def converse(self, channel: Channel) -> bool:
        """Serves one connection until it ends, or a newer one replaces it; whether the peer has said anything.

        Never raises what the peer has caused.
        """
        connection = _Connection(channel, heard_s=_now_s())
        if self._now is not None:
            self._now.channel.close()
        self._now = connection
        self._greet(connection)
        if self._voids:
            self._tell_voids(connection, self.link.void(tuple(self._voids)))
        parts = (self._send(connection), self._receive(connection), self._tick(connection))
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._now is connection:
                self._now = None
            for task in tasks:
                task.cancel()
            channel.close()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            for answer in connection.answers.values():
                if not answer.done():
                    answer.set_exception(LinkError("the connection was lost"))
        for end in ends:
            if isinstance(end, (LinkError, RemoteProtocolError, StoreError)):
                LOGGER.warning("key manager %s: %s", self.name, end)
            elif isinstance(end, Exception):
                raise end
        return connection.heard

    def _greet(self, connection: _Connection) -> None:
        connection.outgoing.put_nowait((self.link.hello(), lambda done: Greeting(done.result())))

    async def _send(self, connection: _Connection) -> None:
        """What one commit of the store has made ready leaves together."""
        ready: list[bytes] = []

        async def leave() -> None:
            if ready:
                await connection.channel.send(*ready)
                ready.clear()

        while True:
            if connection.outgoing.empty():
                await leave()
            future, message_of = await connection.outgoing.get()
            if not future.done():
                await leave()
                with contextlib.suppress(Exception):  # judged by message_of
                    await awaited(future)
            message = message_of(future)
            if message is not None:
                ready.append(ENCODER.encode(message))

    async def _receive(self, connection: _Connection) -> None:
        while True:
            data = await connection.channel.receive()
            if self._now is not connection:
                return
            connection.heard_s = _now_s()
            try:
                message = DECODER.decode(data)
            except msgspec.MsgspecError as error:
                raise RemoteProtocolError(f"a message that cannot be read: {error}") from None
            connection.heard = True
            await self._take(connection, message)

    async def _take(self, connection: _Connection, message: Message) -> None:
        if isinstance(message, Greeting):
            meeting = await awaited(self.link.meet(message.hello))
            if meeting.answer:
                self._greet(connection)
        elif isinstance(message, Reserve):
            number = message.number
            accepting = self.link.accept(message.reservation)
            stream = None if message.reservation.part is None else message.reservation.part.stream
            connection.outgoing.put_nowait((accepting, lambda done: self._done(number, done, stream)))
        elif isinstance(message, Join):
            number, here = message.number, DESTINATION if message.who == SOURCE else SOURCE
            joining = self.link.join(message.terms, here=here, who=message.who)
            stream = message.terms.stream
            connection.outgoing.put_nowait((joining, lambda done: self._done(number, done, stream)))
        elif isinstance(message, Answer):
            answer = connection.answers.get(message.number)
            if answer is not None and not answer.done():
                answer.set_result(message.refused)
        elif isinstance(message, Void):
            await awaited(self.link.void(message.key_ids))
        elif isinstance(message, Ask):
            connection.outgoing.put_nowait((self.link.grant(), self._grant))
        elif isinstance(message, Grant):
            with contextlib.suppress(StoreError):
                await awaited(self.link.granted(message.epoch, message.block))
        elif isinstance(message, More):
            self.streams.wanted(message.stream)
        else:
            with contextlib.suppress(StoreError):
                await awaited(self.link.close_stream(message.stream, who=message.who, last=message.last))
            self.streams.changed(message.stream)

    def _grant(self, done: Future[int | None]) -> Grant | None:
        """Nothing where no block could be spared."""
        block = None if done.exception() else done.result()
        return None if block is None else Grant(self.link.line.epoch, block)

    def _done(self, number: int, done: Future[Any], stream: UUID | None) -> Answer:
        """Wakes whoever waits for a stream; a peer that has missed the end of one is told again."""
        if stream is not None and done.exception() is None:
            self.streams.changed(stream)
        elif stream is not None:
            self.streams.wanted(stream)
        return _answer(number, done)

    async def _tick(self, connection: _Connection) -> None:
        while True:
            await asyncio.sleep(self._hello_s)
            if _now_s() - connection.heard_s > SILENT_S:
                raise LinkError(f"silent for {SILENT_S:g} s")
            self._greet(connection)
            self.streams.expire()


def _answer(number: int, done: Future[Any]) -> Answer:
    """StoreError is the peer's to know; anything else breaks the connection."""
    error = done.exception()
    if error is not None and not isinstance(error, StoreError):
        raise error
    return Answer(number, "" if error is None else str(error))


def _now_s() -> float:
    return asyncio.get_running_loop().time()
