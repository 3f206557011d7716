"""A whole block changes streams: who has much gives the newest untouched one to whose stream has run dry.

Two steps, each durable before the next begins: the giver moves the block into
the other stream and can never allocate from it again; then the taker does the
same and may. What is lost or repeated in between costs a block at most: a block
moves once and never back, or a late word of the first move would undo the
second. Streams are read in the order of numbers, so only a block above both
cursors serves the taker. Every function runs inside a job of the writer.
"""

from __future__ import annotations

import sqlite3

from qkdpp.keystore import blocks
from qkdpp.keystore.blocks import Line
from qkdpp.keystore.log import Event, append
from qkdpp.keystore.streams import cursor


def give(db: sqlite3.Connection, line: Line, now: int) -> int | None:
    """Number of the block that is the peer's from now on; None if none can be spared: as much stays as is given."""
    above = max(cursor(db, line, line.tx)[0], cursor(db, line, line.rx)[0])
    row = db.execute(
        "SELECT number, nbytes FROM block WHERE link = ? AND dir = ? AND state = 'usable' AND number & 1 = dir"
        " AND number > ? AND not_after > ? ORDER BY number DESC LIMIT 1",
        (line.id, line.tx, above, now),
    ).fetchone()
    if row is None or sum(blocks.stock(db, line, line.tx, state) for state in ("usable", "draining")) < 2 * row[1]:
        return None
    _move(db, line, row[0], line.rx, now)
    return int(row[0])


def take(db: sqlite3.Connection, line: Line, number: int, now: int) -> bool:
    """Whether a block that the peer gave is allocated from here from now on; not if it is used, burned or passed."""
    row = db.execute(
        "SELECT 1 FROM block WHERE link = ? AND dir = ? AND number = ? AND number & 1 = dir"
        " AND number > ? AND state IN ('ready', 'usable')",
        (line.id, line.rx, number, cursor(db, line, line.tx)[0]),
    ).fetchone()
    if row is not None:
        _move(db, line, number, line.tx, now)
    return row is not None


def _move(db: sqlite3.Connection, line: Line, number: int, direction: int, now: int) -> None:
    what = f"block {number} {'from' if direction == line.tx else 'to'} {line.peer}"
    db.execute("UPDATE block SET dir = ? WHERE link = ? AND number = ?", (direction, line.id, number))
    append(db, now, [Event(kind="granted", sae=what, peer=line.peer)])
