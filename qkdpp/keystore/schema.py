"""Tables and pragmas of the store (``docs/formats/keystore.md``), and the folder with its lock."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Final

from qkdpp.core.errors import FormatError, InputError

DATABASE: Final = "keys.sqlite"
LOCK: Final = "lock"
VERSION: Final = 2

SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE link (
    id INTEGER PRIMARY KEY, peer TEXT NOT NULL, epoch INTEGER NOT NULL, closed TEXT NOT NULL DEFAULT '',
    floor INTEGER NOT NULL DEFAULT -1, UNIQUE (peer, epoch));
CREATE TABLE datakey (id INTEGER PRIMARY KEY AUTOINCREMENT, born INTEGER NOT NULL, wrapped BLOB NOT NULL);
CREATE TABLE block (
    id INTEGER PRIMARY KEY AUTOINCREMENT, link INTEGER NOT NULL REFERENCES link, number INTEGER NOT NULL,
    dir INTEGER NOT NULL, nbits INTEGER NOT NULL, nbytes INTEGER NOT NULL,
    datakey INTEGER REFERENCES datakey, born INTEGER NOT NULL, not_after INTEGER NOT NULL, state TEXT NOT NULL,
    refs INTEGER NOT NULL DEFAULT 0 CHECK (refs >= 0), UNIQUE (link, number));
CREATE INDEX block_live ON block (link, dir, state, number);
CREATE INDEX block_spent ON block (link, dir) WHERE refs = 0 AND datakey IS NOT NULL;
CREATE INDEX block_sealed ON block (datakey) WHERE datakey IS NOT NULL;
CREATE TABLE chunk (
    block INTEGER NOT NULL REFERENCES block, part INTEGER NOT NULL, nonce BLOB NOT NULL, sealed BLOB NOT NULL,
    UNIQUE (block, part));
CREATE TABLE cursor (
    link INTEGER NOT NULL REFERENCES link, dir INTEGER NOT NULL, block INTEGER NOT NULL, offset INTEGER NOT NULL,
    PRIMARY KEY (link, dir)) WITHOUT ROWID;
CREATE TRIGGER cursor_grows BEFORE UPDATE ON cursor WHEN (NEW.block, NEW.offset) < (OLD.block, OLD.offset)
    BEGIN SELECT RAISE(ABORT, 'a cursor never goes back'); END;
CREATE TABLE reserved (
    key_id BLOB NOT NULL, link INTEGER NOT NULL REFERENCES link, master TEXT NOT NULL, places BLOB NOT NULL,
    nbytes INTEGER NOT NULL, not_after INTEGER NOT NULL, PRIMARY KEY (key_id, link)) WITHOUT ROWID;
CREATE TABLE held (
    slave TEXT NOT NULL, key_id BLOB NOT NULL, link INTEGER NOT NULL REFERENCES link, master TEXT NOT NULL,
    places BLOB, nbytes INTEGER NOT NULL, slaves INTEGER NOT NULL, not_after INTEGER NOT NULL,
    mask BLOB, stream BLOB REFERENCES stream, place INTEGER, PRIMARY KEY (slave, key_id)) WITHOUT ROWID;
CREATE INDEX held_stream ON held (stream, place) WHERE stream IS NOT NULL;
CREATE TABLE stream (
    id BLOB PRIMARY KEY, link INTEGER NOT NULL REFERENCES link, here INTEGER NOT NULL, app TEXT NOT NULL,
    terms BLOB NOT NULL, next INTEGER NOT NULL DEFAULT 0, last INTEGER, joined INTEGER NOT NULL DEFAULT 0,
    closed INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX stream_open ON stream (app) WHERE joined & here AND closed & here = 0;
CREATE TRIGGER stream_grows BEFORE UPDATE ON stream WHEN NEW.next < OLD.next
    BEGIN SELECT RAISE(ABORT, 'an index never comes back'); END;
CREATE TRIGGER stream_never_goes BEFORE DELETE ON stream BEGIN SELECT RAISE(ABORT, 'streams are kept'); END;
CREATE INDEX held_key ON held (key_id);
CREATE INDEX held_end ON held (not_after);
CREATE TABLE seen (
    link INTEGER PRIMARY KEY REFERENCES link, counters BLOB NOT NULL);
CREATE TABLE instance (
    link INTEGER NOT NULL REFERENCES link, instance BLOB NOT NULL, PRIMARY KEY (link, instance)) WITHOUT ROWID;
CREATE TABLE total (
    link INTEGER NOT NULL REFERENCES link, use TEXT NOT NULL, nbytes INTEGER NOT NULL, PRIMARY KEY (link, use))
    WITHOUT ROWID;
CREATE TABLE event (
    n INTEGER PRIMARY KEY, time INTEGER NOT NULL, kind TEXT NOT NULL, key_id BLOB, sae TEXT NOT NULL,
    link TEXT NOT NULL, nbytes INTEGER NOT NULL, digest BLOB NOT NULL);
CREATE TRIGGER event_stays BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER event_never_goes BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
"""
ADDED: Final = "CREATE INDEX IF NOT EXISTS block_ended ON block (link, not_after) WHERE datakey IS NULL"
"""Came later; a store made before gets it when it is opened."""


class Folder:
    """The folder of a store, owned by this process from construction to :meth:`close`; to look at, if not ``own``.

    Raises InputError if another process owns it, or others may read it.
    """

    def __init__(self, path: Path, *, create: bool, own: bool = True) -> None:
        self.path, self._lock = path, -1
        if create:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not (path / DATABASE).exists():
            raise InputError(f"{path}: no key store; name the folder of one")
        if path.stat().st_mode & 0o077:
            raise InputError(f"{path}: others may enter this folder; a key store needs mode 0700 (chmod 700)")
        if own:
            self._take()

    def _take(self) -> None:
        self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._lock, 80, 0).decode(errors="replace").strip()
            os.close(self._lock)
            raise InputError(
                f"{self.path}: another process owns this key store ({owner or 'starting'}); end it, or ask it for "
                "keys (`qkdpp keys get`); what the store holds tell its metrics and `qkdpp keys status|ls` meanwhile"
            ) from error

    def say(self, text: str) -> None:
        """Writes into the lock file who owns the store, for people."""
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, text.encode() + b"\n", 0)

    def close(self) -> None:
        """Gives the folder back; may be called again."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def connect(self, *, create: bool) -> sqlite3.Connection:
        """A connection for one thread; makes the tables where there are none. FormatError if it is no store of ours."""
        path = self.path / DATABASE
        if create and not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            prepare(db)
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and create:
                db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
            elif version != VERSION:
                raise FormatError(f"{path}: a key store of version {version}; this program knows version {VERSION}")
            if create:
                db.execute(ADDED)
        except sqlite3.DatabaseError as error:
            db.close()
            raise FormatError(
                f"{path}: no usable key store ({error}); never put back a copy, make a new one"
            ) from error
        except FormatError:
            db.close()
            raise
        return db


def prepare(db: sqlite3.Connection) -> None:
    """The pragmas that durability and erasure rest on."""
    db.execute("PRAGMA busy_timeout = 5000")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    db.execute("PRAGMA foreign_keys = ON")
