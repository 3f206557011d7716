"""One link of a store: where its node puts keys, and where its key manager takes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from qkdpp.core.bits import Bits
from qkdpp.keystore import blocks, chunks, grants, hello, keys
from qkdpp.keystore.blocks import Line
from qkdpp.keystore.errors import LinkClosedError, NotMetError
from qkdpp.keystore.log import Event, append
from qkdpp.keystore.streams import Reader, ReplayError
from qkdpp.keystore.values import (
    SECOND_NS,
    Hello,
    Key,
    LinkStatus,
    Meeting,
    Reservation,
    StreamState,
    Terms,
)
from qkdpp.keystore.writer import Refused

if TYPE_CHECKING:
    from qkdpp.keystore.store import KeyStore

T = TypeVar("T")


class Link:
    """Made by :meth:`qkdpp.keystore.KeyStore.link`.

    The first group of methods is what a live node needs of a store (``qkdpp.node.quarantine.LiveStore``): they block
    until their effect is durable. The others return futures.
    """

    def __init__(self, store: KeyStore, line: Line) -> None:
        self.line = line
        self._store = store
        self._met = False
        self._refused = ""
        self._halted = ""

    def __repr__(self) -> str:
        return f"Link({self._store.own!r} to {self.line.peer!r}, epoch {self.line.epoch})"

    # For the node.

    def stage(self, block: int, key: Bits) -> None:
        """Stores a key as pending. LocalProtocolError if the number was used before."""
        self._store.rotate()
        store, now = self._store, self._store.clock()
        not_after = now + store.limits.max_age_s * SECOND_NS

        def run(db: sqlite3.Connection) -> None:
            blocks.stage(db, store.sealer, self.line, block, key, now=now, not_after=not_after)

        store.submit("stage", run).result()

    def ready(self, block: int) -> None:
        """The peer holds the same key; it rests until :meth:`release`."""
        self._store.submit("ready", lambda db: blocks.ready(db, self.line, block, self._store.clock())).result()

    def burn(self, block: int, reason: str) -> None:
        """Destroys what is left of a key; it never comes back."""

        def run(db: sqlite3.Connection) -> None:
            blocks.burn(db, self.line, block, reason, self._store.clock())
            self._store.settle(db, self.line)

        self._store.submit("burn", run).result()

    def pending(self) -> Mapping[int, int]:
        """Bits of every pending block, by number."""
        return self._store.submit("pending", lambda db: blocks.numbers(db, self.line, "pending")).result()

    def held(self, block: int) -> int | None:
        """Bits of a block that is pending, ready or already used; None if it never came here or was burned."""
        return self._store.submit("held", lambda db: blocks.held(db, self.line, block)).result()

    def release(self, up_to: int) -> list[int]:
        """Ready blocks up to this number may be given out from now on; which they are."""

        def run(db: sqlite3.Connection) -> list[int]:
            store = self._store
            released = blocks.release(db, self.line, up_to, store.limits.capacity, store.clock())
            store.settle(db, self.line)
            return released

        return self._store.submit("release", run).result()

    def resting(self) -> list[int]:
        """Ready blocks that were not released yet, in order."""
        return self._store.submit("resting", lambda db: list(blocks.numbers(db, self.line, "ready"))).result()

    def halt(self, reason: str) -> None:
        """From now on nothing is reserved, accepted or delivered, until the store is opened anew. Never blocks."""
        self._halted = self._halted or reason

    # For the key manager.

    def hello(self) -> Future[Hello]:
        """What to send the peer when a connection is made (both ends do), and when :meth:`meet` asks for an answer.

        Worth repeating every second or so: what the peer has seen is what a restored copy can be told by.
        """
        return self._store.submit("hello", lambda db: hello.hello(db, self.line, self._store.instance))

    def meet(self, theirs: Hello) -> Future[Meeting]:
        """Takes the peer's HELLO. An alarm, and a link that stays closed, if one of the stores went back in time."""

        def run(db: sqlite3.Connection) -> Meeting:
            meeting = hello.meet(db, self.line, theirs, self._store.instance, self._store.clock())
            self._store.settle(db, self.line)
            return meeting

        future = self._store.submit("meet", run)
        future.add_done_callback(self._have_met)
        return future

    def _have_met(self, future: Future[Meeting]) -> None:
        """Runs in the writer's thread, before any later job."""
        if future.cancelled() or future.exception() is not None:
            return
        meeting = future.result()
        self._met = (self._met or meeting.met) and not meeting.refused
        if meeting.refused:
            self._store.alarm(meeting.refused, told=meeting.refused == self._refused)
            self._refused = meeting.refused

    @property
    def met(self) -> bool:
        """Whether keys may move: counters were exchanged since this store was opened, and nothing was wrong."""
        return self._met

    def require_met(self, db: sqlite3.Connection) -> None:
        """Within a job: LinkClosedError or NotMetError unless keys may move."""
        (closed,) = db.execute("SELECT closed FROM link WHERE id = ?", (self.line.id,)).fetchone()
        if closed or self._halted:
            raise LinkClosedError(closed or f"stopped by the node: {self._halted}")
        if not self._met:
            raise NotMetError(f"{self.line.peer}: no HELLO was exchanged since this store was opened")

    def reserve(
        self, number: int, nbytes: int, *, master: str, slaves: Sequence[str], ttl_s: int = 3600
    ) -> Future[Reservation]:
        """Takes ``number`` keys of ``nbytes`` bytes for ``master`` and ``slaves``; NotEnoughKeyError takes none.

        Reservations must reach the peer's :meth:`accept` in the order in which they were made. Then :meth:`commit`
        gives the keys; where the peer refuses or stays silent, :meth:`void` them at both ends.
        """
        if number < 1 or nbytes < 1 or ttl_s < 1 or not slaves or len(set(slaves)) != len(slaves):
            raise ValueError("a reservation needs a number of keys, their size, a time to live, and different slaves")

        def run(db: sqlite3.Connection) -> Reservation:
            self.require_met(db)
            store = self._store
            return keys.reserve(
                db, self.line, number, nbytes, master=master, slaves=slaves, ttl_s=ttl_s, now=store.clock()
            )

        return self._store.submit("reserve", run)

    def commit(self, key_ids: Sequence[UUID]) -> Future[list[Key]]:
        """The keys of a reservation that the peer has accepted, once. KeysNotFoundError, and none, if one is gone."""

        def run(db: sqlite3.Connection) -> list[Key]:
            self.require_met(db)
            reader = Reader(db, self._store.sealer, self.line)
            found = keys.commit(db, reader, self.line, key_ids, self._store.clock())
            self._store.settle(db, self.line)
            return found

        return self._store.submit("commit", run)

    def accept(self, reservation: Reservation) -> Future[None]:
        """Holds what the peer has reserved; again without effect. ReservationRefusedError if it cannot.

        Bytes below what was accepted before are a replay: refused, with an alarm.
        """

        def run(db: sqlite3.Connection) -> Refused | None:
            self.require_met(db)
            now = self._store.clock()
            try:
                chunks.accept(db, self.line, reservation, now)
            except ReplayError as replay:
                append(db, now, [Event(kind="alarm", sae=str(replay), peer=self.line.peer)])
                return Refused(replay)
            self._store.settle(db, self.line)
            return None

        future = self._store.submit("accept", run)
        future.add_done_callback(self._replayed)
        return future

    def _replayed(self, future: Future[None]) -> None:
        if not future.cancelled() and isinstance(error := future.exception(), ReplayError):
            self._store.alarm(str(error))

    def void(self, key_ids: Sequence[UUID]) -> Future[None]:
        """Destroys keys reserved or held here; for both ends of a reservation that came to nothing."""

        def run(db: sqlite3.Connection) -> None:
            keys.void(db, self.line, key_ids, self._store.clock())
            self._store.settle(db, self.line)

        return self._store.submit("void", run)

    # For streams.

    @property
    def stopped(self) -> str:
        """Why nothing of this link may be given out now; empty if it may."""
        return self._halted or ("" if self._met else "closed, or not met since the store was opened")

    def now_ns(self) -> int:
        """The store's clock."""
        return self._store.clock()

    def stream(self, stream: UUID) -> Future[StreamState]:
        """What is known of a stream; StreamUnknownError."""
        return self._store.submit("stream", lambda db: chunks.state(db, self.line, stream))

    def join(self, terms: Terms, *, here: int, who: int) -> Future[StreamState]:
        """The application ``who`` opens a stream of which this is the end ``here``; both ends must be told."""

        def run(db: sqlite3.Connection) -> StreamState:
            self.require_met(db)
            return chunks.join(db, self.line, terms, here=here, who=who, now=self._store.clock())

        return self._store.submit("join", run)

    def reserve_chunks(self, stream: UUID, number: int) -> Future[Reservation]:
        """The next chunks of a stream, at the source's end; otherwise like :meth:`reserve`."""

        def run(db: sqlite3.Connection) -> Reservation:
            self.require_met(db)
            return chunks.reserve(db, self.line, stream, number, self._store.clock())

        return self._store.submit("reserve chunks", run)

    def take(self, stream: UUID, index: int | None, most: int) -> Future[dict[int, tuple[Key, int]]]:
        """Chunks for the destination, by index, each with its last time (ns since 1970); nowhere else from now on."""

        def run(db: sqlite3.Connection) -> dict[int, tuple[Key, int]]:
            self.require_met(db)
            reader = Reader(db, self._store.sealer, self.line)
            found = chunks.take(db, reader, self.line, stream, index, most=most, now=self._store.clock())
            self._store.settle(db, self.line)
            return found

        return self._store.submit("take", run)

    def close_stream(self, stream: UUID, *, who: int, last: int) -> Future[StreamState]:
        """The application ``who`` reads no more, and nobody any chunk from ``last`` on; both ends must be told."""

        def run(db: sqlite3.Connection) -> StreamState:
            found = chunks.close(db, self.line, stream, who=who, last=last, now=self._store.clock())
            self._store.settle(db, self.line)
            return found

        return self._store.submit("close stream", run)

    def grant(self) -> Future[int | None]:
        """Gives the peer, whose stream has run dry, a block that can be spared; its number, for :meth:`granted`."""

        def run(db: sqlite3.Connection) -> int | None:
            self.require_met(db)
            return grants.give(db, self.line, self._store.clock())

        return self._store.submit("grant", run)

    def granted(self, epoch: int, block: int) -> Future[bool]:
        """Takes a block that the peer gave; False, and no effect, where it comes too late."""

        def run(db: sqlite3.Connection) -> bool:
            self.require_met(db)
            return epoch == self.line.epoch and grants.take(db, self.line, block, self._store.clock())

        return self._store.submit("granted", run)

    def status(self) -> Future[LinkStatus]:
        """Stock and state."""

        def run(db: sqlite3.Connection) -> LinkStatus:
            found = status(db, self.line, self._store.limits.capacity)
            return replace(found, closed=found.closed or self._halted)

        return self._store.submit("status", run)


def status(db: sqlite3.Connection, line: Line, capacity: int) -> LinkStatus:
    """Stock and state of a link."""

    def stock(state: str, *directions: int) -> int:
        return sum(blocks.stock(db, line, direction, state) for direction in directions)

    def rows(query: str) -> int:
        return int(db.execute(query, (line.id,)).fetchone()[0])

    (closed,) = db.execute("SELECT closed FROM link WHERE id = ?", (line.id,)).fetchone()
    oldest = db.execute(
        f"SELECT min(b.born) FROM {blocks.WITH_CURSOR} WHERE b.link = ? AND b.dir = ?"  # noqa: S608
        f" AND b.state IN ('usable', 'draining') AND {blocks.LEFT} > 0",
        (line.id, line.tx),
    ).fetchone()[0]
    totals = dict.fromkeys(("stored", "app", "burned", "expired"), 0)
    totals |= dict(db.execute("SELECT use, nbytes FROM total WHERE link = ?", (line.id,)).fetchall())
    return LinkStatus(
        peer=line.peer,
        epoch=line.epoch,
        closed=closed,
        available=stock("usable", line.tx) + stock("draining", line.tx),
        incoming=stock("usable", line.rx) + stock("draining", line.rx),
        resting=stock("ready", 0, 1),
        pending=stock("pending", 0, 1),
        capacity=capacity,
        reserved=rows("SELECT count(*) FROM reserved WHERE link = ?"),
        held=rows("SELECT count(DISTINCT key_id) FROM held WHERE link = ?"),
        oldest_ns=oldest,
        totals=totals,
    )
