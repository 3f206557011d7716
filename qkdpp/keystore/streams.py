"""The two one-way streams of a link: bytes are taken in order, and cursors only grow.

Direction 0 belongs to the key manager with the smaller name, direction 1 to the
other; the owner allocates without asking. The receiver accepts what lies at or
above its own cursor and nothing else.
"""

from __future__ import annotations

import heapq
import sqlite3
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from qkdpp.keystore.blocks import LEFT, WITH_CURSOR, Line, count, origin
from qkdpp.keystore.errors import NotEnoughKeyError, ReservationRefusedError
from qkdpp.keystore.sealing import CHUNK_BYTES, Sealer
from qkdpp.keystore.values import Piece, Position

PLACE: Final = struct.Struct("<QQQ")


class Place(NamedTuple):
    """``nbytes`` bytes from ``offset`` on of the block in row ``block``."""

    block: int
    offset: int
    nbytes: int


class ReplayError(ReservationRefusedError):
    """The peer names bytes that lie below what was accepted."""


def cursor(db: sqlite3.Connection, line: Line, direction: int) -> Position:
    """End of what was taken from a stream."""
    at: Position = db.execute(
        "SELECT block, offset FROM cursor WHERE link = ? AND dir = ?", (line.id, direction)
    ).fetchone()
    return at


def allocate(db: sqlite3.Connection, line: Line, need: int, now: int) -> tuple[list[Place], list[Piece]]:
    """Takes ``need`` bytes from the own stream; NotEnoughKeyError, and nothing taken, if it has fewer."""
    block, offset = cursor(db, line, line.tx)
    query = (
        "SELECT number, id, nbytes FROM block"
        " WHERE link = ? AND dir = ? AND state = ? AND number >= ? AND not_after > ? ORDER BY number"
    )
    runs = [db.execute(query, (line.id, line.tx, state, block, now)) for state in ("draining", "usable")]
    places, pieces, left = [], [], need
    for number, row, nbytes in heapq.merge(*runs):
        start = offset if number == block else 0
        n = min(left, nbytes - start)
        if n > 0:
            places.append(Place(row, start, n))
            pieces.append(Piece(number, start, n))
            left -= n
        if left == 0:
            break
    for run in runs:
        run.close()
    if left:
        raise NotEnoughKeyError(f"{line.peer}: {need - left} of {need} bytes are there; ask for less, or later")
    _advance(db, line, line.tx, places, pieces)
    return places, pieces


def accept(db: sqlite3.Connection, line: Line, pieces: Sequence[Piece]) -> list[Place]:
    """Takes from the peer's stream what the peer has allocated. :class:`ReplayError` below the cursor.

    A block that still rests is taken too: the peer, who allocates from it, has released it. ReservationRefusedError if
    a range is not there in full; nothing is taken then.
    """
    at = cursor(db, line, line.rx)
    if (pieces[0].block, pieces[0].offset) < at:
        raise ReplayError(f"{line.peer} reserved bytes of block {pieces[0].block} that were taken before")
    places = []
    for piece in pieces:
        row = db.execute(
            "SELECT id, nbytes FROM block WHERE link = ? AND dir = ? AND number = ?"
            " AND state IN ('ready', 'usable', 'draining')",
            (line.id, line.rx, piece.block),
        ).fetchone()
        if row is None or (piece.block, piece.offset) < at or piece.nbytes < 1 or piece.offset + piece.nbytes > row[1]:
            raise ReservationRefusedError(f"{line.peer} reserved bytes of block {piece.block} that are not here")
        places.append(Place(row[0], piece.offset, piece.nbytes))
        at = (piece.block, piece.offset + piece.nbytes)
    _advance(db, line, line.rx, places, pieces)
    return places


def locate(db: sqlite3.Connection, line: Line, pieces: Iterable[Piece]) -> list[Place]:
    """Rows of pieces of the peer's stream, whatever their state; ReservationRefusedError if a block never came here."""
    query = "SELECT id FROM block WHERE link = ? AND dir = ? AND number = ?"
    rows = [db.execute(query, (line.id, line.rx, piece.block)).fetchone() for piece in pieces]
    if None in rows:
        raise ReservationRefusedError(f"{line.peer} reserved bytes of a block that is not here")
    return [Place(row[0], piece.offset, piece.nbytes) for row, piece in zip(rows, pieces, strict=True)]


def skip(db: sqlite3.Connection, line: Line, direction: int, to: Position) -> int:
    """Moves a cursor forward to ``to``; what it passes is burned. Bytes passed, those taken just now included."""
    block, offset = to
    start = cursor(db, line, direction)
    if to <= start:
        return 0
    before = (line.id, direction, block)
    (passed,) = db.execute(
        f"SELECT coalesce(sum({LEFT}), 0) FROM {WITH_CURSOR}"  # noqa: S608
        " WHERE b.link = ? AND b.dir = ? AND b.state IN ('usable', 'draining') AND b.number < ?",
        before,
    ).fetchone()
    inside = db.execute(
        "SELECT min(nbytes, ?) FROM block WHERE link = ? AND dir = ? AND number = ?"
        " AND state IN ('ready', 'usable', 'draining')",
        (offset, *before),
    ).fetchone()
    if inside is not None:
        passed += inside[0] - (start[1] if start[0] == block else 0)
    db.execute("UPDATE cursor SET block = ?, offset = ? WHERE link = ? AND dir = ?", (*to, line.id, direction))
    db.execute(
        "UPDATE block SET state = 'burned' WHERE link = ? AND dir = ? AND number < ? AND state = 'usable'", before
    )
    db.execute(
        "UPDATE block SET state = 'draining'"
        " WHERE link = ? AND dir = ? AND number = ? AND state IN ('ready', 'usable')",
        before,
    )
    return int(passed)


def _advance(
    db: sqlite3.Connection, line: Line, direction: int, places: Iterable[Place], pieces: Sequence[Piece]
) -> None:
    """Moves the cursor behind what was taken; what it passes over is burned."""
    db.executemany("UPDATE block SET state = 'draining' WHERE id = ?", {(place.block,) for place in places})
    last = pieces[-1]
    passed = skip(db, line, direction, (last.block, last.offset + last.nbytes))
    count(db, line, "burned", passed - sum(piece.nbytes for piece in pieces))


def cut(places: Iterable[Place], nbytes: int) -> list[list[Place]]:
    """Cuts ranges into keys of ``nbytes`` bytes, one after the other."""
    keys: list[list[Place]] = [[]]
    room = nbytes
    for place in places:
        start, end = place.offset, place.offset + place.nbytes
        while start < end:
            if room == 0:
                keys.append([])
                room = nbytes
            n = min(room, end - start)
            keys[-1].append(Place(place.block, start, n))
            start, room = start + n, room - n
    return keys


def pack(places: Iterable[Place]) -> bytes:
    """Places as a column."""
    return b"".join(PLACE.pack(*place) for place in places)


def unpack(column: bytes) -> list[Place]:
    """Places from a column."""
    return [Place(*fields) for fields in PLACE.iter_unpack(column)]


def refer(db: sqlite3.Connection, keys: Iterable[Iterable[Place]], sign: int) -> None:
    """Counts keys on their way into (+1) or out of (-1) the blocks that they lie in."""
    change = Counter(place.block for places in keys for place in places)
    db.executemany("UPDATE block SET refs = refs + ? WHERE id = ?", [(sign * n, b) for b, n in change.items()])


class Reader:
    """Reads keys; keeps the chunks it opened for one job."""

    def __init__(self, db: sqlite3.Connection, sealer: Sealer, line: Line) -> None:
        self._db, self._sealer, self._line = db, sealer, line
        self._chunks: dict[tuple[int, int], bytes] = {}

    def read(self, places: Iterable[Place]) -> bytearray:
        """The bytes at ``places``, one after the other."""
        out = bytearray()
        for place in places:
            at, end = place.offset, place.offset + place.nbytes
            while at < end:
                part, inside = divmod(at, CHUNK_BYTES)
                chunk = self._chunk(place.block, part)
                stop = min(len(chunk), inside + end - at)
                out += chunk[inside:stop]
                at += stop - inside
        return out

    def _chunk(self, block: int, part: int) -> bytes:
        if (block, part) not in self._chunks:
            self._chunks[block, part] = self._sealer.open(self._db, origin(self._db, self._line, block), part)
        return self._chunks[block, part]
