"""A store as the command line sees it: no key is opened, so no key-encrypting key is needed.

To look at, another process may own it; for the rest, none.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from qkdpp.core.errors import InputError
from qkdpp.keystore import blocks, keys, log
from qkdpp.keystore.link import status
from qkdpp.keystore.log import Event, append
from qkdpp.keystore.schema import Folder
from qkdpp.keystore.store import expire, lines, make_link
from qkdpp.keystore.values import Limits, LinkStatus

NO_DATAKEY = 2**63 - 1
"""Above every data key, so that none stays which seals nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """A key on its way; times in ns since 1970. ``slave`` is empty while it is reserved."""

    key_id: UUID
    state: str
    peer: str
    master: str
    slave: str
    nbytes: int
    not_after: int


@contextlib.contextmanager
def _looked_at(path: Path) -> Iterator[tuple[sqlite3.Connection, str]]:
    """The database as it is now, and the name of its key manager."""
    with contextlib.closing(Folder(path, create=False, own=False).connect(create=False)) as db:
        db.execute("PRAGMA query_only = ON")
        db.execute("BEGIN")
        (own,) = db.execute("SELECT value FROM meta WHERE name = 'own'").fetchone()
        yield db, own


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[sqlite3.Connection, str]]:
    """The database in a transaction, and the name of its key manager. InputError if a process owns the store."""
    folder = Folder(path, create=False)
    try:
        db = folder.connect(create=False)
        try:
            db.execute("BEGIN IMMEDIATE")
            (own,) = db.execute("SELECT value FROM meta WHERE name = 'own'").fetchone()
            yield db, own
            db.execute("COMMIT")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            db.close()
    finally:
        folder.close()


def stock(path: Path) -> tuple[str, list[LinkStatus], int | None]:
    """Name of the key manager, its links, and the first event of the log that its chain denies (None: it is whole)."""
    with _looked_at(path) as (db, own):
        return own, [status(db, line, Limits().capacity) for line in lines(db, own)], log.first_break(db)


def list_keys(path: Path) -> list[KeyRow]:
    """Keys reserved or held, by the time they expire; never their bytes."""
    with _looked_at(path) as (db, _):
        rows = db.execute(
            "SELECT key_id, 'reserved', peer, master, '', nbytes, not_after"
            " FROM reserved r JOIN link l ON l.id = r.link"
            " UNION ALL SELECT key_id, iif(places IS NULL, 'delivered', 'held'), peer, master, slave, nbytes, not_after"
            " FROM held h JOIN link l ON l.id = h.link ORDER BY 7, 1, 5"
        ).fetchall()
    return [
        KeyRow(key_id=UUID(bytes=i), state=state, peer=peer, master=master, slave=slave, nbytes=n, not_after=end)
        for i, state, peer, master, slave, n, end in rows
    ]


def expire_now(path: Path) -> None:
    """Destroys what is past its time."""
    with _opened(path) as (db, own):
        expire(db, own, time.time_ns(), NO_DATAKEY)


def pair_anew(path: Path, peer: str, epoch: int | None) -> int:
    """Destroys all keys of a link and begins a new pairing epoch, which both ends must give the same number.

    Returns the number; None takes the next one. InputError if there is no such link, or the number does not rise.
    """
    with _opened(path) as (db, own):
        now = time.time_ns()
        found = [line for line in lines(db, own) if line.peer == peer]
        if not found:
            raise InputError(f"{path}: no link to {peer!r}")
        old = found[0]
        chosen = old.epoch + 1 if epoch is None else epoch
        if chosen <= old.epoch:
            raise InputError(f"{path}: pairing epoch {old.epoch} is over; choose a higher number than {chosen}")
        keys.void_all(db, old, "reserved", now)
        keys.void_all(db, old, "held", now)
        for state in ("pending", "ready", "usable", "draining"):
            for number in blocks.numbers(db, old, state):
                blocks.burn(db, old, number, "paired anew", now)
        blocks.settle(db, old, NO_DATAKEY)
        make_link(db, own, peer, chosen)
        append(db, now, [Event(kind="paired", sae=f"epoch {chosen}", peer=peer)])
    return chosen
