"""Blocks of key and their states; every function runs inside a job of the writer.

pending (the peer has not confirmed it) -> ready (rests until released) ->
usable -> draining (keys were taken from it) -> gone; or burned from anywhere.
A block is in one of two one-way streams, by the parity of its number until it
is granted to the other (``qkdpp.keystore.grants``), and the cursor of a stream
(``qkdpp.keystore.streams``) says what of it was taken. Its chunks are destroyed
when nothing can be taken any more and no key on its way (``refs``) lies in it;
the row stays until ``not_after``, so that the block never comes back.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from qkdpp.core.bits import Bits
from qkdpp.core.errors import LocalProtocolError
from qkdpp.keystore.log import Event, append
from qkdpp.keystore.sealing import Origin, Sealer

LEFT: Final = "(b.nbytes - CASE WHEN b.number < c.block THEN b.nbytes WHEN b.number = c.block THEN c.offset ELSE 0 END)"
"""Bytes of block b that cursor c has not passed."""
WITH_CURSOR: Final = "block b JOIN cursor c ON c.link = b.link AND c.dir = b.dir"
LIVE: Final = "('pending', 'ready', 'usable', 'draining')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A link as jobs know it: its row, the peer, the pairing epoch, and the direction that this end allocates from."""

    id: int
    peer: str
    epoch: int
    tx: int

    @property
    def rx(self) -> int:
        """The direction that the peer allocates from."""
        return 1 - self.tx


def count(db: sqlite3.Connection, line: Line, use: str, nbytes: int) -> None:
    """Adds to a total of the link."""
    if nbytes:
        db.execute(
            "INSERT INTO total VALUES (?, ?, ?)"
            " ON CONFLICT (link, use) DO UPDATE SET nbytes = nbytes + excluded.nbytes",
            (line.id, use, nbytes),
        )


def stage(
    db: sqlite3.Connection, sealer: Sealer, line: Line, number: int, key: Bits, *, now: int, not_after: int
) -> None:
    """Stores a block as pending. LocalProtocolError if its number was used before."""
    (floor,) = db.execute("SELECT floor FROM link WHERE id = ?", (line.id,)).fetchone()
    known = db.execute("SELECT 1 FROM block WHERE link = ? AND number = ?", (line.id, number)).fetchone()
    if number <= floor or known:
        raise LocalProtocolError(f"block {number} was stored before; numbers of blocks rise")
    direction, n = number & 1, len(key) // 8
    row = db.execute(
        "INSERT INTO block (link, number, dir, nbits, nbytes, datakey, born, not_after, state)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending')",
        (line.id, number, direction, len(key), n, sealer.current, now, not_after),
    ).lastrowid
    assert row is not None
    sealer.seal(db, origin(db, line, row), key.to_bytes()[:n])


def origin(db: sqlite3.Connection, line: Line, block: int) -> Origin:
    """What the seal of a block (by row) covers."""
    row = db.execute("SELECT number, nbits, datakey, born, not_after FROM block WHERE id = ?", (block,)).fetchone()
    number, nbits, datakey, born, not_after = row
    return Origin(
        block=block,
        peer=line.peer,
        epoch=line.epoch,
        number=number,
        direction=number & 1,
        nbits=nbits,
        datakey=datakey,
        born=born,
        not_after=not_after,
    )


def _state(db: sqlite3.Connection, line: Line, number: int) -> tuple[int, str, int, int, int]:
    """Row, state, direction, bytes in all and bytes left of a block; LocalProtocolError if it never came here."""
    row: tuple[int, str, int, int, int] | None = db.execute(
        f"SELECT b.id, b.state, b.dir, b.nbytes, {LEFT} FROM {WITH_CURSOR} WHERE b.link = ? AND b.number = ?",  # noqa: S608
        (line.id, number),
    ).fetchone()
    if row is None:
        (floor,) = db.execute("SELECT floor FROM link WHERE id = ?", (line.id,)).fetchone()
        if number <= floor:
            return 0, "burned", 0, 0, 0
        raise LocalProtocolError(f"block {number} was never stored here")
    return row


def _set(db: sqlite3.Connection, block: int, state: str) -> None:
    db.execute("UPDATE block SET state = ? WHERE id = ?", (state, block))


def ready(db: sqlite3.Connection, line: Line, number: int, now: int) -> None:
    """Pending becomes ready; no effect on a block that is further, or burned by age."""
    block, state, _, nbytes, _ = _state(db, line, number)
    if state == "pending":
        _set(db, block, "ready")
        count(db, line, "stored", nbytes)
        append(db, now, [Event(kind="stored", sae=f"block {number}", peer=line.peer, nbytes=nbytes)])


def burn(db: sqlite3.Connection, line: Line, number: int, reason: str, now: int) -> None:
    """Destroys what was not taken of a block; keys taken from it before go their way."""
    block, state, _, nbytes, left = _state(db, line, number)
    if state in {"gone", "burned"}:
        return
    lost = left if state in {"usable", "draining"} else nbytes
    _set(db, block, "burned")
    count(db, line, "burned", 0 if state == "pending" else lost)
    append(db, now, [Event(kind="burned", sae=f"block {number}: {reason[:80]}", peer=line.peer, nbytes=lost)])


def release(db: sqlite3.Connection, line: Line, up_to: int, capacity: int, now: int) -> list[int]:
    """Makes ready blocks up to a number usable; which they are. What the cursor has passed over is burned."""
    rows = db.execute(
        f"SELECT b.id, b.number, b.number < c.block FROM {WITH_CURSOR}"  # noqa: S608
        " WHERE b.link = ? AND b.dir IN (0, 1) AND b.state = 'ready' AND b.number <= ? ORDER BY +b.number",
        (line.id, up_to),
    ).fetchall()
    for block, number, passed in rows:
        if passed:
            burn(db, line, number, "the stream has passed it", now)
        else:
            _set(db, block, "usable")
    if rows:
        _evict(db, line, line.tx, capacity, now)
        _evict(db, line, line.rx, capacity + capacity // 4, now)
    return [number for _, number, _ in rows]


def _evict(db: sqlite3.Connection, line: Line, direction: int, capacity: int, now: int) -> None:
    """Burns the oldest blocks that nothing was taken from until the rest fits."""
    over = stock(db, line, direction, "usable") + stock(db, line, direction, "draining") - capacity
    if over <= 0:
        return
    oldest = db.execute(
        "SELECT number, nbytes FROM block WHERE link = ? AND dir = ? AND state = 'usable' ORDER BY number",
        (line.id, direction),
    ).fetchall()
    for number, nbytes in oldest:
        if over <= 0:
            break
        burn(db, line, number, "the store is full", now)
        over -= nbytes


def age(db: sqlite3.Connection, line: Line, now: int) -> int:
    """Destroys blocks past their time and forgets the rows of those that are gone; bytes that expired."""
    old = db.execute(
        f"SELECT b.id, b.number, b.state, {LEFT}, b.nbytes FROM {WITH_CURSOR}"  # noqa: S608
        f" WHERE b.link = ? AND b.dir IN (0, 1) AND b.not_after <= ? AND b.state IN {LIVE}",
        (line.id, now),
    ).fetchall()
    expired = 0
    for block, number, state, left, nbytes in old:
        lost = left if state in {"usable", "draining"} else nbytes
        _set(db, block, "burned")
        append(db, now, [Event(kind="expired", sae=f"block {number}", peer=line.peer, nbytes=lost)])
        expired += 0 if state == "pending" else lost
    count(db, line, "expired", expired)
    ended = "link = ? AND not_after <= ? AND datakey IS NULL AND state IN ('gone', 'burned')"
    (last,) = db.execute(f"SELECT max(number) FROM block WHERE {ended}", (line.id, now)).fetchone()  # noqa: S608
    if last is not None:
        db.execute("UPDATE link SET floor = max(floor, ?) WHERE id = ?", (last, line.id))
        db.execute(f"DELETE FROM block WHERE {ended}", (line.id, now))  # noqa: S608
    return expired


def settle(db: sqlite3.Connection, line: Line, current_datakey: int) -> list[int]:
    """Destroys the chunks of what is used up or burned, and data keys that seal nothing any more; which those are."""
    spent = db.execute(
        f"SELECT b.id FROM {WITH_CURSOR} WHERE b.link = ? AND b.refs = 0 AND b.datakey IS NOT NULL"  # noqa: S608
        f" AND (b.state = 'burned' OR (b.state = 'draining' AND {LEFT} = 0))",
        (line.id,),
    ).fetchall()
    if not spent:
        return []
    db.executemany("DELETE FROM chunk WHERE block = ?", spent)
    db.executemany(
        "UPDATE block SET datakey = NULL, state = CASE state WHEN 'draining' THEN 'gone' ELSE state END WHERE id = ?",
        spent,
    )
    return drop_idle(db, current_datakey)


def drop_idle(db: sqlite3.Connection, current_datakey: int) -> list[int]:
    """Destroys data keys that seal nothing, up to the current one, which serves; which those are.

    A later one stays: it is durable before it serves.
    """
    idle = db.execute(
        "SELECT id FROM datakey d WHERE id < ? AND NOT EXISTS (SELECT 1 FROM block WHERE datakey = d.id)",
        (current_datakey,),
    ).fetchall()
    db.executemany("DELETE FROM datakey WHERE id = ?", idle)
    return [datakey for (datakey,) in idle]


def numbers(db: sqlite3.Connection, line: Line, state: str) -> dict[int, int]:
    """Bits of the blocks in a state, by number, in order."""
    rows = db.execute(
        "SELECT number, nbits FROM block WHERE link = ? AND dir IN (0, 1) AND state = ? ORDER BY +number",
        (line.id, state),
    )
    return dict(rows.fetchall())


def held(db: sqlite3.Connection, line: Line, number: int) -> int | None:
    """Bits of a block that is here or was used; None if it never came or was burned."""
    row = db.execute(
        "SELECT nbits FROM block WHERE link = ? AND number = ? AND state != 'burned'", (line.id, number)
    ).fetchone()
    return None if row is None else int(row[0])


def stock(db: sqlite3.Connection, line: Line, direction: int, state: str) -> int:
    """Bytes that were not taken of the blocks of a stream in a state."""
    left = LEFT if state in {"usable", "draining"} else "b.nbytes"
    n: int = db.execute(
        f"SELECT coalesce(sum({left}), 0) FROM {WITH_CURSOR} WHERE b.link = ? AND b.dir = ? AND b.state = ?",  # noqa: S608
        (line.id, direction, state),
    ).fetchone()[0]
    return n
