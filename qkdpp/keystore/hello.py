"""Two ends compare counters: what is in doubt is burned, and a store that was put back from a copy is refused.

Counters only grow, so one that is lower than seen before, under an instance not
seen before, means that the store went back in time. Each end also says what it
has seen of the other, the digest of its log included, so that a restored store
learns what it is even where its counters have caught up; it tells its peer.
Late copies of a HELLO are told by the instance they name, and have no effect.
Keys move only when both ends have the other's present instance on disk.
"""

from __future__ import annotations

import sqlite3
from typing import Final
from uuid import UUID

import msgspec

from qkdpp.core.errors import RemoteProtocolError
from qkdpp.keystore import streams
from qkdpp.keystore.blocks import Line, count
from qkdpp.keystore.log import Event, append, digest_at, head
from qkdpp.keystore.values import Counters, Hello, Meeting

REMEDY: Final = "pair anew at both ends (qkdpp keys renew)"


def counters(db: sqlite3.Connection, line: Line, instance: UUID) -> Counters:
    """This end's counters."""
    meta = dict(db.execute("SELECT name, value FROM meta").fetchall())
    height, digest = head(db)
    return Counters(
        store=UUID(meta["store"]),
        boot=meta["boot"],
        instance=instance,
        height=height,
        digest=digest,
        tx=streams.cursor(db, line, line.tx),
        rx=streams.cursor(db, line, line.rx),
    )


def seen(db: sqlite3.Connection, line: Line) -> Counters | None:
    """The last counters that the peer showed."""
    row = db.execute("SELECT counters FROM seen WHERE link = ?", (line.id,)).fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=Counters)


def hello(db: sqlite3.Connection, line: Line, instance: UUID) -> Hello:
    """What the peer is to be told."""
    (closed,) = db.execute("SELECT closed FROM link WHERE id = ?", (line.id,)).fetchone()
    return Hello(epoch=line.epoch, closed=closed, own=counters(db, line, instance), seen=seen(db, line))


def meet(db: sqlite3.Connection, line: Line, theirs: Hello, instance: UUID, now: int) -> Meeting:
    """Judges the peer's HELLO and moves the cursor of its stream to the larger counter."""
    (closed,) = db.execute("SELECT closed FROM link WHERE id = ?", (line.id,)).fetchone()
    if min(theirs.own.boot, theirs.own.height, theirs.own.tx[1], theirs.own.rx[1]) < 0:
        raise RemoteProtocolError("a HELLO with negative counters")
    if theirs.epoch != line.epoch:
        why = f"{line.peer} is in pairing epoch {theirs.epoch}, this end in {line.epoch}; {REMEDY}, with one number"
        return Meeting(met=False, answer=False, refused=why)
    if closed:
        return Meeting(met=False, answer=False, refused=closed)
    before, own = seen(db, line), counters(db, line, instance)
    new = _new(db, line, theirs.own.instance)
    if not new and before is not None and _late(before, theirs.own):
        return Meeting(met=False, answer=False)
    why = (
        (theirs.closed and f"{line.peer} has closed the link: {theirs.closed[:300]}")
        or _peer_went_back(line, theirs.own, before, own, new)
        or _went_back(db, line, theirs, own)
    )
    if why:
        db.execute("UPDATE link SET closed = ? WHERE id = ?", (why, line.id))
        append(db, now, [Event(kind="alarm", sae=why, peer=line.peer)])
        return Meeting(met=False, answer=True, refused=why)
    _adopt(db, line, theirs.own, new, now)
    knows = theirs.seen is not None and theirs.seen.instance == own.instance
    return Meeting(met=knows, answer=new or not knows)


def _new(db: sqlite3.Connection, line: Line, instance: UUID) -> bool:
    query = "SELECT 1 FROM instance WHERE link = ? AND instance = ?"
    return db.execute(query, (line.id, instance.bytes)).fetchone() is None


def _late(before: Counters, now: Counters) -> bool:
    """A HELLO that was overtaken by a later one."""
    return now.instance != before.instance or now.height < before.height


def _peer_went_back(line: Line, theirs: Counters, before: Counters | None, own: Counters, new: bool) -> str:
    """Why the peer's store cannot be the one that was here before; empty if it can."""
    what = ""
    if before is not None and theirs.store != before.store:
        what = "another store than before"
    elif before is not None and new and theirs.boot <= before.boot:
        what = f"opening {theirs.boot}, after opening {before.boot}"
    elif before is not None and new and theirs.height < before.height:
        what = f"{theirs.height} events, after {before.height}"
    elif before is not None and (theirs.tx < before.tx or theirs.rx < before.rx):
        what = "cursors below earlier ones"
    elif new and theirs.tx < own.rx:
        what = f"allocated up to {theirs.tx}, but {own.rx} was accepted from it"
    return f"{line.peer} shows {what}: its store was put back from a copy or exchanged; {REMEDY}" if what else ""


def _went_back(db: sqlite3.Connection, line: Line, theirs: Hello, own: Counters) -> str:
    """Why this end's store cannot be the one that the peer knows; empty if it can."""
    known, what = theirs.seen, ""
    if known is not None and known.store != own.store:
        what = "another store"
    elif known is not None and (known.boot > own.boot or (known.boot == own.boot and known.instance != own.instance)):
        what = f"opening {known.boot}, this is opening {own.boot}"
    elif known is not None and (known.height > own.height or known.tx > own.tx or known.rx > own.rx):
        what = "higher counters than this store has"
    elif known is not None and digest_at(db, known.height) != known.digest:
        what = f"another event {known.height} in the log of this store"
    elif theirs.own.rx > own.tx:
        what = f"bytes up to {theirs.own.rx}, this store has allocated up to {own.tx}"
    return f"{line.peer} knows {what}: this store was put back from a copy or exchanged; {REMEDY}" if what else ""


def _adopt(db: sqlite3.Connection, line: Line, theirs: Counters, new: bool, now: int) -> None:
    """Takes the larger counters; what the peer took and never reserved here is burned."""
    burned = streams.skip(db, line, line.rx, theirs.tx)
    if burned:
        count(db, line, "burned", burned)
        append(db, now, [Event(kind="burned", sae="never reserved here", peer=line.peer, nbytes=burned)])
    db.execute(
        "INSERT INTO seen VALUES (?, ?) ON CONFLICT (link) DO UPDATE SET counters = excluded.counters",
        (line.id, msgspec.json.encode(theirs)),
    )
    if new:
        db.execute("INSERT INTO instance VALUES (?, ?)", (line.id, theirs.instance.bytes))
        append(db, now, [Event(kind="met", sae=f"opening {theirs.boot}", peer=line.peer)])
