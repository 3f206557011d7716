"""A key store that this process owns: one folder, one key manager, any number of links.

Every change is durable when its method returns, or when its future is done.
Methods may be called from any thread; an event loop awaits
``asyncio.wrap_future(store.deliver(...))``.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

import msgspec

from qkdpp.core.entropy import Entropy, OsEntropy
from qkdpp.core.errors import InputError
from qkdpp.keystore import blocks, keys
from qkdpp.keystore.blocks import Line
from qkdpp.keystore.errors import NotMetError
from qkdpp.keystore.link import Link
from qkdpp.keystore.log import Event, append
from qkdpp.keystore.schema import Folder
from qkdpp.keystore.sealing import Sealer
from qkdpp.keystore.streams import Reader
from qkdpp.keystore.values import SECOND_NS, Key, Limits, Reservation
from qkdpp.keystore.wrapping import FileWrapping, Wrapping
from qkdpp.keystore.writer import Refused, Writer, no_fault

T = TypeVar("T")
LIMITS, OS_ENTROPY = Limits(), OsEntropy()
LOGGER = logging.getLogger(__name__)


def log_alarm(text: str) -> None:
    """Where alarms go unless the caller takes them."""
    LOGGER.error("key store alarm: %s", text)


class KeyStore:
    """Opens the store in ``path``, or makes one; this process owns it until :meth:`close`.

    Args:
        path: folder of the store, mode 0700, on a local file system.
        own: name of this key manager, the same for ever.
        wrapping: the key-encrypting key.
        limits: capacity and ages.
        entropy: source of data keys.
        clock: ns since 1970.
        alarm: told in words, from the writer's thread, when a person must look.
        fault: see :class:`qkdpp.keystore.writer.Writer`; for tests.

    Raises InputError if another process owns it, if it is another manager's or sealed under another key, or holds
    its key-encrypting key, and FormatError if it is no store.
    """

    def __init__(
        self,
        path: Path,
        own: str,
        wrapping: Wrapping,
        *,
        limits: Limits = LIMITS,
        entropy: Entropy = OS_ENTROPY,
        clock: Callable[[], int] = time.time_ns,
        alarm: Callable[[str], None] = log_alarm,
        fault: Callable[[str], None] = no_fault,
    ) -> None:
        self.path, self.own, self.limits, self.clock = path, own, limits, clock
        self.alarms, self._tell = 0, alarm
        self.instance = uuid4()
        self._wrapping_lock = threading.Lock()
        self._links: dict[str, Link] = {}
        if isinstance(wrapping, FileWrapping) and wrapping.path.resolve().is_relative_to(path.resolve()):
            raise InputError(f"{wrapping.path}: a key-encrypting key in the store that it seals; move it elsewhere")
        self._folder = Folder(path, create=True)
        try:
            db = self._folder.connect(create=True)
            try:
                self._open(db, wrapping, entropy, fault)
            except BaseException:
                db.close()
                raise
        except BaseException:
            self._folder.close()
            raise
        self._writer = Writer(db, fault)

    def __enter__(self) -> KeyStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"KeyStore({str(self.path)!r}, {self.own!r})"

    def close(self) -> None:
        """Finishes what waits and gives the folder back."""
        self._writer.close()
        self._folder.close()

    def _open(self, db: sqlite3.Connection, wrapping: Wrapping, entropy: Entropy, fault: Callable[[str], None]) -> None:
        now = self.clock()
        db.execute("BEGIN IMMEDIATE")
        meta = dict(db.execute("SELECT name, value FROM meta").fetchall())
        if meta.get("own", self.own) != self.own:
            raise InputError(f"{self.path}: the key store of {meta['own']!r}, not of {self.own!r}")
        meta = {"own": self.own, "store": meta.get("store", str(uuid4())), "boot": meta.get("boot", 0) + 1}
        db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
        self.sealer = Sealer(UUID(meta["store"]), wrapping, entropy)
        self.sealer.check(db)
        cipher, wrapped = self.sealer.fresh()
        datakey = _insert_datakey(db, now, wrapped)
        self.sealer.use(datakey, cipher)
        self._rotated = now
        append(db, now, [Event(kind="opened", sae=f"opening {meta['boot']}")])
        for line in lines(db, self.own):
            keys.void_all(db, line, "reserved", now)
            blocks.settle(db, line, datakey)
        blocks.drop_idle(db, datakey)
        fault("opening before commit")
        db.execute("COMMIT")
        fault("opening after commit")
        self._folder.say(f"{self.own}, opening {meta['boot']}")

    def link(self, peer: str) -> Link:
        """The link to a peer; a new one begins in pairing epoch 1."""

        def run(db: sqlite3.Connection) -> Line:
            found = [line for line in lines(db, self.own) if line.peer == peer]
            return found[0] if found else make_link(db, self.own, peer, 1)

        if peer not in self._links:
            line = self.submit("link", run).result()
            self._links.setdefault(peer, Link(self, line))
        return self._links[peer]

    def alarm(self, text: str, *, told: bool = False) -> None:
        """Counts an alarm in ``alarms`` and tells it, unless that was done; in the writer's thread."""
        self.alarms += 1
        if not told:
            self._tell(text)

    def links(self) -> list[Link]:
        """All links that were asked for in this opening."""
        return list(self._links.values())

    def submit(self, name: str, run: Callable[[sqlite3.Connection], T | Refused]) -> Future[T]:
        """Queues a job of the writer."""
        return self._writer.submit(name, run)

    def deliver(self, slave: str, key_ids: Sequence[UUID], *, master: str) -> Future[list[Key]]:
        """The keys of ``master`` that wait for ``slave``, in order: all of them once, or none.

        The future raises KeysNotFoundError, NotNamedError, or NotMetError if a peer has not been met in this opening.
        """
        if not key_ids or len(set(key_ids)) != len(key_ids):
            raise ValueError("identifiers of keys: at least one, and each once")

        def run(db: sqlite3.Connection) -> list[Key]:
            now = self.clock()
            by_link: defaultdict[int, list[UUID]] = defaultdict(list)
            for key_id, row in keys.find(db, slave, master, key_ids, now).items():
                by_link[row].append(key_id)
            found: dict[UUID, Key] = {}
            for row, ids in by_link.items():
                link = self._by_row(row)
                link.require_met(db)
                reader = Reader(db, self.sealer, link.line)
                found |= keys.deliver(db, reader, link.line, slave, ids, now=now)
                self.settle(db, link.line)
            return [found[key_id] for key_id in key_ids]

        return self.submit("deliver", run)

    def reserve_at(
        self, places: Mapping[str, Sequence[str]], number: int, nbytes: int, *, master: str, ttl_s: int
    ) -> Future[dict[str, Reservation]]:
        """One set of keys for slaves at several peers, by peer: all reserved, or none (NotEnoughKeyError).

        The keys come from the stream to the first peer; for the others as many bytes are taken from theirs, and serve
        as one-time pads. Every reservation is to be accepted, then :meth:`commit_at`; otherwise void all.
        """
        links = [self.link(peer) for peer in places]

        def run(db: sqlite3.Connection) -> dict[str, Reservation]:
            now, readers = self.clock(), []
            made: dict[str, Reservation] = {}
            ids: tuple[UUID, ...] = ()
            for link, slaves in zip(links, places.values(), strict=True):
                link.require_met(db)
                line = link.line
                reservation = keys.reserve(
                    db, line, number, nbytes, master=master, slaves=slaves, ttl_s=ttl_s, now=now, ids=ids
                )
                readers.append(Reader(db, self.sealer, line))
                if made:
                    pair = (links[0].line, line)
                    masks = keys.mask(db, (readers[0], readers[-1]), pair, reservation.key_ids, now)
                    reservation = msgspec.structs.replace(reservation, masks=masks)
                made[line.peer], ids = reservation, reservation.key_ids
            return made

        return self.submit("reserve", run)

    def commit_at(self, peers: Sequence[str], key_ids: Sequence[UUID], here: Sequence[str]) -> Future[list[Key]]:
        """The keys of :meth:`reserve_at`, all accepted, once; from now on they wait for the slaves ``here``, too."""
        links = [self.link(peer) for peer in peers]

        def run(db: sqlite3.Connection) -> list[Key]:
            now, first = self.clock(), links[0]
            for link in links:
                link.require_met(db)
            if here:
                keys.hold_here(db, first.line, key_ids, here, now)
            found = keys.commit(db, Reader(db, self.sealer, first.line), first.line, key_ids, now)
            for link in links[1:]:
                keys.spend(db, link.line, key_ids, now)
            for link in links:
                self.settle(db, link.line)
            return found

        return self.submit("commit", run)

    def expire(self) -> Future[None]:
        """Destroys what is past its time; to be called every few seconds."""

        def run(db: sqlite3.Connection) -> None:
            expire(db, self.own, self.clock(), self.sealer.current)

        return self.submit("expire", run)

    def rotate(self) -> None:
        """Begins to seal under a new data key if the present one has served its time."""
        with self._wrapping_lock:
            now = self.clock()
            if now - self._rotated < self.limits.rotate_s * SECOND_NS:
                return
            cipher, wrapped = self.sealer.fresh()
            datakey = self.submit("rotate", lambda db: _insert_datakey(db, now, wrapped)).result()

            def use(db: sqlite3.Connection) -> None:
                self.sealer.use(datakey, cipher)
                self._forget(blocks.drop_idle(db, datakey))

            self.submit("use", use).result()
            self._rotated = now

    def settle(self, db: sqlite3.Connection, line: Line) -> None:
        """Within a job: destroys what is used up."""
        self._forget(blocks.settle(db, line, self.sealer.current))

    def _forget(self, datakeys: Sequence[int]) -> None:
        for datakey in datakeys:
            self.sealer.forget(datakey)

    def _by_row(self, row: int) -> Link:
        for link in self._links.values():
            if link.line.id == row:
                return link
        raise NotMetError("keys of a link that was not asked for since this store was opened")


def _insert_datakey(db: sqlite3.Connection, now: int, wrapped: bytes) -> int:
    row = db.execute("INSERT INTO datakey (born, wrapped) VALUES (?, ?)", (now, wrapped)).lastrowid
    assert row is not None
    return row


def lines(db: sqlite3.Connection, own: str) -> list[Line]:
    """The links of a store, each in its latest pairing epoch."""
    rows = db.execute("SELECT id, peer, max(epoch) FROM link GROUP BY peer ORDER BY peer").fetchall()
    return [Line(id=row, peer=peer, epoch=epoch, tx=int(own > peer)) for row, peer, epoch in rows]


def make_link(db: sqlite3.Connection, own: str, peer: str, epoch: int) -> Line:
    """A link with both cursors before every block."""
    if own == peer:
        raise InputError(f"{own!r}: both ends of a link have this name; give the key managers different ones")
    row = db.execute("INSERT INTO link (peer, epoch) VALUES (?, ?)", (peer, epoch)).lastrowid
    assert row is not None
    db.executemany("INSERT INTO cursor VALUES (?, ?, -1, 0)", [(row, 0), (row, 1)])
    return Line(id=row, peer=peer, epoch=epoch, tx=int(own > peer))


def expire(db: sqlite3.Connection, own: str, now: int, current_datakey: int) -> None:
    """Destroys blocks and keys of all links that are past their time."""
    for line in lines(db, own):
        keys.expire(db, line, now)
        blocks.settle(db, line, current_datakey)
        blocks.age(db, line, now)
        blocks.settle(db, line, current_datakey)
