"""Two key managers with a store each, a clock that the test moves, and an exchange of counters."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from uuid import UUID

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.keystore import FileWrapping, KeyStore, Limits, Link, Reservation, create_kek

NAMES = ("kme-a", "kme-b")
OUT_S = 20
"""No call of a store takes so long."""


def kek(path: Path) -> FileWrapping:
    if not path.exists():
        create_kek(path, OsEntropy())
    return FileWrapping(path)


def secret(block: int, nbytes: int) -> bytes:
    """The key that both ends distilled as ``block``."""
    return Random(f"key of block {block}").randbytes(nbytes)


class Ends:
    """Both ends; ``a`` allocates from even blocks, ``b`` from odd ones."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder, self.limits = folder, limits or Limits()
        self.waiting: dict[str, tuple[UUID, ...]] = {}
        self.now = time.time_ns()
        folder.mkdir(exist_ok=True)
        self.alarms: list[tuple[str, str]] = []
        self.stores: dict[str, KeyStore] = {}
        for own in NAMES:
            self.open(own)

    def open(self, own: str, fault: Callable[[str], None] = lambda _: None) -> KeyStore:
        store = KeyStore(
            self.folder / own,
            own,
            kek(self.folder / f"{own}.kek"),
            limits=self.limits,
            clock=lambda: self.now,
            alarm=lambda text: self.alarms.append((own, text)),
            fault=fault,
        )
        self.stores[own] = store
        store.link(other(own))
        return store

    def link(self, own: str) -> Link:
        return self.stores[own].link(other(own))

    @property
    def a(self) -> Link:
        return self.link(NAMES[0])

    @property
    def b(self) -> Link:
        return self.link(NAMES[1])

    def meet(self) -> None:
        """Both connect: each sends its HELLO, and answers while asked to."""
        under_way = [(other(own), self.link(own).hello().result(OUT_S)) for own in NAMES]
        for _ in range(8):
            if not under_way:
                return
            own, hello = under_way.pop(0)
            if self.link(own).meet(hello).result(OUT_S).answer:
                under_way.append((other(own), self.link(own).hello().result(OUT_S)))
        raise AssertionError("HELLO goes back and forth for ever")

    def fill(self, *blocks: int, nbytes: int = 64) -> None:
        """Both nodes distil the blocks and release them."""
        for block in blocks:
            key = Bits.from_bytes(secret(block, nbytes), 8 * nbytes)
            for link in (self.a, self.b):
                link.stage(block, key)
                link.ready(block)
                link.release(block)

    def hand_over(
        self, master: str, number: int, nbytes: int, slaves: tuple[str, ...] = ("sae-b",), ttl_s: int = 60
    ) -> tuple[Reservation, dict[UUID, bytes]]:
        """Reserve, accept and commit; the reservation and the master's keys."""
        link = self.link(master)
        reservation = link.reserve(number, nbytes, master="sae-a", slaves=slaves, ttl_s=ttl_s).result(OUT_S)
        self.link(other(master)).accept(reservation).result(OUT_S)
        keys = link.commit(reservation.key_ids).result(OUT_S)
        return reservation, {key.key_id: bytes(key.secret) for key in keys}

    def fetch(self, own: str, slave: str, ids: tuple[UUID, ...]) -> dict[UUID, bytes]:
        keys = self.stores[own].deliver(slave, ids, master="sae-a").result(OUT_S)
        return {key.key_id: bytes(key.secret) for key in keys}

    def totals_fit(self) -> None:
        """Nothing was lost or made: every byte that was ever ready is somewhere."""
        for own in NAMES:
            status = self.link(own).status().result(OUT_S)
            t = status.totals
            store = self.stores[own]
            under_way = store.submit("test", bytes_under_way).result(OUT_S)
            here = status.available + status.incoming + status.resting + under_way
            assert t["stored"] == here + t["app"] + t["burned"] + t["expired"], (own, status, under_way)

    def close(self) -> None:
        for store in self.stores.values():
            store.close()


def bytes_under_way(db) -> int:
    """Of keys reserved, or held and not given to anyone yet."""
    (reserved,) = db.execute("SELECT coalesce(sum(nbytes), 0) FROM reserved").fetchone()
    (held,) = db.execute(
        "SELECT coalesce(sum(n), 0) FROM (SELECT max(nbytes) n FROM held GROUP BY key_id"
        " HAVING sum(places IS NULL) = 0)"
    ).fetchone()
    return reserved + held


def other(own: str) -> str:
    return NAMES[1 - NAMES.index(own)]
