"""Streams that two applications read chunk by chunk: who has opened one, and which indices are gone.

A chunk is a key with an index. The source's end reserves the next indices, as
many at a time as it likes; the other end holds them for the destination. An
index is reserved once: the counter is on disk with the cursor, at both ends,
and the row of a stream stays for ever. Runs inside jobs of the writer.
"""

from __future__ import annotations

import sqlite3
from typing import Final
from uuid import UUID

import msgspec

from qkdpp.core.errors import RemoteProtocolError
from qkdpp.keystore import keys
from qkdpp.keystore.blocks import Line
from qkdpp.keystore.errors import ReservationRefusedError, StreamInUseError, StreamUnknownError, TooManyStreamsError
from qkdpp.keystore.log import Event, append
from qkdpp.keystore.streams import Reader
from qkdpp.keystore.values import DESTINATION, SOURCE, Key, Part, Reservation, StreamState, Terms

MOST: Final = 64
"""Streams of one application that are open at a time."""


def state(db: sqlite3.Connection, line: Line, stream: UUID) -> StreamState:
    """What is known of a stream; StreamUnknownError if it is none of this link."""
    row = db.execute(
        "SELECT terms, here, next, last, joined, closed,"
        " (SELECT min(place) FROM held WHERE stream = id AND places IS NOT NULL) FROM stream WHERE id = ? AND link = ?",
        (stream.bytes, line.id),
    ).fetchone()
    if row is None:
        raise StreamUnknownError("no such stream")
    terms, here, following, last, joined, closed, waiting = row
    return StreamState(
        terms=msgspec.json.decode(terms, type=Terms),
        here=here,
        next=following,
        waiting=following if waiting is None else waiting,
        last=last,
        joined=joined,
        closed=closed,
    )


def join(
    db: sqlite3.Connection, line: Line, terms: Terms, *, here: int, who: int, now: int, most: int = MOST
) -> StreamState:
    """The application ``who`` opens a stream; again without effect. StreamInUseError if its name means another one.

    TooManyStreamsError if that is the application of this end, and it has ``most`` that it did not close.
    """
    sound = who in {SOURCE, DESTINATION} and 0 < terms.nbytes <= keys.HIGHEST and 0 < terms.ttl_s <= 2**31
    if not sound or terms.source == terms.destination:
        raise RemoteProtocolError("a stream on terms that no stream has")
    known = db.execute("SELECT link, joined FROM stream WHERE id = ?", (terms.stream.bytes,)).fetchone()
    app = terms.source if here == SOURCE else terms.destination
    if who == here and not (known and known[1] & who):
        open_now = "SELECT count(*) FROM stream WHERE app = ? AND joined & here AND closed & here = 0"
        if db.execute(open_now, (app,)).fetchone()[0] >= most:
            raise TooManyStreamsError(f"an application has {most} streams that it did not close")
    if known is None:
        db.execute(
            "INSERT INTO stream (id, link, here, app, terms) VALUES (?, ?, ?, ?, ?)",
            (terms.stream.bytes, line.id, here, app, msgspec.json.encode(terms)),
        )
        append(db, now, [Event(kind="stream", key_id=terms.stream.bytes, sae="opened", peer=line.peer)])
    elif known[0] != line.id or (before := state(db, line, terms.stream)).terms != terms or before.here != here:
        raise StreamInUseError("a stream of this identifier is between others, or on other terms")
    elif before.closed & who:
        raise StreamInUseError("this stream was closed")
    db.execute("UPDATE stream SET joined = joined | ? WHERE id = ?", (who, terms.stream.bytes))
    return state(db, line, terms.stream)


def reserve(db: sqlite3.Connection, line: Line, stream: UUID, number: int, now: int) -> Reservation:
    """The next ``number`` chunks, at the source's end; StreamUnknownError unless both ends may read."""
    at = state(db, line, stream)
    if at.here != SOURCE or at.closed:
        raise StreamUnknownError("no stream that gives chunks here")
    terms = at.terms
    reservation = keys.reserve(
        db, line, number, terms.nbytes, master=terms.source, slaves=[terms.destination], ttl_s=terms.ttl_s, now=now
    )
    db.execute("UPDATE stream SET next = next + ? WHERE id = ?", (number, stream.bytes))
    return msgspec.structs.replace(reservation, part=Part(stream, at.next))


def accept(db: sqlite3.Connection, line: Line, reservation: Reservation, now: int) -> None:
    """Holds keys, or chunks of a stream that lie above all before; see :func:`qkdpp.keystore.keys.accept`."""
    part = reservation.part
    if part is None:
        keys.accept(db, line, reservation, now)
        return
    try:
        at = state(db, line, part.stream)
    except StreamUnknownError as error:
        raise ReservationRefusedError(f"{line.peer} reserved chunks of a stream that is not here") from error
    terms, end = at.terms, part.first + len(reservation.key_ids)
    agreed = (reservation.master, reservation.slaves, reservation.nbytes)
    if agreed != (terms.source, (terms.destination,), terms.nbytes) or reservation.masks or at.here != DESTINATION:
        raise RemoteProtocolError("a reservation that is not on the terms of its stream")
    if not 0 <= part.first < end <= keys.HIGHEST:
        raise RemoteProtocolError("a reservation of chunks without an index")
    if at.closed:
        raise ReservationRefusedError("the stream was closed")
    if keys.accept(db, line, reservation, now):
        if part.first < at.next:
            raise ReservationRefusedError(f"{line.peer} reserved chunk {part.first} of a stream again")
        db.execute("UPDATE stream SET next = ? WHERE id = ?", (end, part.stream.bytes))


def take(
    db: sqlite3.Connection, reader: Reader, line: Line, stream: UUID, index: int | None, *, most: int, now: int
) -> dict[int, tuple[Key, int]]:
    """The next ``most`` chunks that wait for the destination here, and until when each may be given out.

    From ``index`` on where it is given: that one alone if lower ones wait, none if it does not wait itself.
    """
    waits = "FROM held WHERE stream = ? AND places IS NOT NULL AND not_after > ?"
    if index is not None:
        lower = db.execute(f"SELECT 1 {waits} AND place < ? LIMIT 1", (stream.bytes, now, index)).fetchone()
        most = 1 if lower else most
    rows = db.execute(
        f"SELECT place, key_id, not_after {waits} AND place >= ? ORDER BY place LIMIT ?",
        (stream.bytes, now, index or 0, most),
    ).fetchall()
    if not rows or (index is not None and rows[0][0] != index):
        return {}
    slave = state(db, line, stream).terms.destination
    found = keys.deliver(db, reader, line, slave, [UUID(bytes=key_id) for _, key_id, _ in rows], now=now)
    return {place: (found[UUID(bytes=key_id)], not_after) for place, key_id, not_after in rows}


def close(db: sqlite3.Connection, line: Line, stream: UUID, *, who: int, last: int, now: int) -> StreamState:
    """The application ``who`` has read up to ``last`` and reads no more; what only it could have read is destroyed.

    What the other one may still read lies below ``last``. StreamUnknownError if there is no such stream.
    """
    if who not in {SOURCE, DESTINATION} or not 0 <= last <= keys.HIGHEST:
        raise RemoteProtocolError("a stream closed by nobody, or below its beginning")
    before = state(db, line, stream)
    end = last if before.last is None else min(last, before.last)
    db.execute("UPDATE stream SET closed = closed | ?, last = ? WHERE id = ?", (who, end, stream.bytes))
    spare = db.execute(
        "SELECT key_id FROM held WHERE stream = ? AND place >= ?", (stream.bytes, 0 if who == before.here else end)
    ).fetchall()
    keys.void(db, line, [UUID(bytes=key_id) for (key_id,) in spare], now)
    if not before.closed & who:
        append(db, now, [Event(kind="stream", key_id=stream.bytes, sae="closed", peer=line.peer)])
    return state(db, line, stream)
