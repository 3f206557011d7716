"""The log of a store: who got which key when; append-only, hash-chained, without a byte of key."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

FIRST: Final = bytes(32)
"""Stands before the first event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened.

    Attributes:
        kind: ``opened``, ``stored``, ``burned``, ``reserved``, ``accepted``, ``delivered``, ``expired``, ``voided``,
            ``met``, ``alarm``, ``paired``, ``masked``, ``stream``.
        key_id: the key, where there is one.
        sae: the SAE, or what the kind calls for in words.
        peer: the link.
        nbytes: how much key.
    """

    kind: str
    key_id: bytes | None = None
    sae: str = ""
    peer: str = ""
    nbytes: int = 0


def append(db: sqlite3.Connection, now: int, events: Iterable[Event]) -> None:
    """Appends events at time ``now`` (ns since 1970)."""
    n, digest = head(db)
    rows = []
    for e in events:
        n += 1
        row = (n, now, e.kind, e.key_id, e.sae, e.peer, e.nbytes)
        digest = _digest(digest, row)
        rows.append((*row, digest))
    db.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def head(db: sqlite3.Connection) -> tuple[int, bytes]:
    """Number of events, and the digest of the last one."""
    last: tuple[int, bytes] | None = db.execute("SELECT n, digest FROM event ORDER BY n DESC LIMIT 1").fetchone()
    return last or (0, FIRST)


def digest_at(db: sqlite3.Connection, n: int) -> bytes | None:
    """Digest of event ``n``; None if there is no such event."""
    row = db.execute("SELECT digest FROM event WHERE n = ?", (n,)).fetchone()
    return None if row is None else row[0]


def first_break(db: sqlite3.Connection) -> int | None:
    """Number of the first event that the chain does not confirm; None if the log is whole."""
    digest, expected = FIRST, 1
    for *row, stored in db.execute("SELECT * FROM event ORDER BY n"):
        digest = _digest(digest, row)
        if row[0] != expected or digest != stored:
            return expected
        expected += 1
    return None


def _digest(before: bytes, row: Sequence[object]) -> bytes:
    """SHA-256 of the digest before and the row as a JSON array, its identifier in hexadecimal."""
    return hashlib.sha256(before + msgspec.json.encode([c.hex() if isinstance(c, bytes) else c for c in row])).digest()
