"""Keys cut from the streams: reserved -> held -> delivered, expired or voided. Both ends of the conversation.

The end whose SAE asks (master) reserves and, once the other end has accepted,
commits; the other end holds each key once for every slave and delivers it. A
row is gone before its key leaves. Runs inside jobs of the writer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final
from uuid import UUID, uuid4

from qkdpp.core.errors import RemoteProtocolError
from qkdpp.keystore import streams
from qkdpp.keystore.blocks import Line, count
from qkdpp.keystore.errors import KeysNotFoundError, NotNamedError, ReservationRefusedError
from qkdpp.keystore.log import Event, append
from qkdpp.keystore.streams import Reader
from qkdpp.keystore.values import SECOND_NS, Key, Reservation

NOT_FOUND: Final = "one or more keys specified are not found on KME"
NOT_NAMED: Final = "the caller was not named for one or more of the keys"
HIGHEST: Final = 2**63 - 1


def reserve(
    db: sqlite3.Connection,
    line: Line,
    number: int,
    nbytes: int,
    *,
    master: str,
    slaves: Sequence[str],
    ttl_s: int,
    now: int,
    ids: Sequence[UUID] = (),
) -> Reservation:
    """Takes ``number`` keys of ``nbytes`` bytes from the own stream, under ``ids`` where they have names already.

    NotEnoughKeyError if it has fewer.
    """
    places, pieces = streams.allocate(db, line, number * nbytes, now)
    keys = streams.cut(places, nbytes)
    ids = tuple(ids) or tuple(uuid4() for _ in keys)
    not_after = now + ttl_s * SECOND_NS
    db.executemany(
        "INSERT INTO reserved VALUES (?, ?, ?, ?, ?, ?)",
        [(i.bytes, line.id, master, streams.pack(k), nbytes, not_after) for i, k in zip(ids, keys, strict=True)],
    )
    streams.refer(db, keys, +1)
    append(db, now, [Event(kind="reserved", sae=master, peer=line.peer, nbytes=number * nbytes)])
    return Reservation(
        epoch=line.epoch,
        key_ids=ids,
        nbytes=nbytes,
        pieces=tuple(pieces),
        master=master,
        slaves=tuple(slaves),
        ttl_s=ttl_s,
    )


def commit(db: sqlite3.Connection, reader: Reader, line: Line, ids: Sequence[UUID], now: int) -> list[Key]:
    """The keys of a reservation that the peer has accepted, for the master; KeysNotFoundError if one was voided."""
    found = [_reserved(db, line, key_id, now) for key_id in ids]
    keys = [Key(key_id=i, secret=reader.read(places)) for i, (_, places) in zip(ids, found, strict=True)]
    _unreserve(db, line, ids, [places for _, places in found])
    count(db, line, "app", sum(len(key.secret) for key in keys))
    append(
        db,
        now,
        [
            Event(kind="delivered", key_id=k.key_id.bytes, sae=master, peer=line.peer, nbytes=len(k.secret))
            for k, (master, _) in zip(keys, found, strict=True)
        ],
    )
    return keys


def _unreserve(db: sqlite3.Connection, line: Line, ids: Sequence[UUID], places: Sequence[list[streams.Place]]) -> None:
    db.executemany("DELETE FROM reserved WHERE key_id = ? AND link = ?", [(i.bytes, line.id) for i in ids])
    streams.refer(db, places, -1)


def mask(
    db: sqlite3.Connection, readers: Sequence[Reader], lines: Sequence[Line], ids: Sequence[UUID], now: int
) -> tuple[bytes, ...]:
    """Keys reserved from the first of two links under one-time pads reserved from the second by the same names."""
    masks = []
    for key_id in ids:
        key, pad = (r.read(_reserved(db, line, key_id, now)[1]) for r, line in zip(readers, lines, strict=True))
        masks.append(xor(key, pad))
        key[:] = pad[:] = bytes(len(pad))
    return tuple(masks)


def xor(one: bytes | bytearray, other: bytes | bytearray) -> bytes:
    """Bitwise sum of two keys of one length."""
    return (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(len(one))


def spend(db: sqlite3.Connection, line: Line, ids: Sequence[UUID], now: int) -> None:
    """One-time pads have done their work: :func:`mask` used them and the peer has accepted."""
    found = [_reserved(db, line, key_id, now) for key_id in ids]
    _unreserve(db, line, ids, [places for _, places in found])
    nbytes = sum(place.nbytes for _, places in found for place in places)
    count(db, line, "app", nbytes)
    append(db, now, [Event(kind="masked", sae=found[0][0], peer=line.peer, nbytes=nbytes)])


def hold_here(db: sqlite3.Connection, line: Line, ids: Sequence[UUID], slaves: Sequence[str], now: int) -> None:
    """Holds reserved keys for slaves of the master's own key manager; before :func:`commit`, in the same job."""
    for key_id in ids:
        master, places = _reserved(db, line, key_id, now)
        query = "SELECT nbytes, not_after FROM reserved WHERE key_id = ? AND link = ?"
        nbytes, not_after = db.execute(query, (key_id.bytes, line.id)).fetchone()
        for who in (master, *slaves):  # the master's row says that the key was counted
            column = None if who == master else streams.pack(places)
            db.execute(
                "INSERT INTO held VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)",
                (who, key_id.bytes, line.id, master, column, nbytes, 1 + len(slaves), not_after),
            )
        for _ in slaves:
            streams.refer(db, [places], +1)


def _reserved(db: sqlite3.Connection, line: Line, key_id: UUID, now: int) -> tuple[str, list[streams.Place]]:
    row = db.execute(
        "SELECT master, places FROM reserved WHERE key_id = ? AND link = ? AND not_after > ?",
        (key_id.bytes, line.id, now),
    ).fetchone()
    if row is None:
        raise KeysNotFoundError(NOT_FOUND)
    return row[0], streams.unpack(row[1])


def accept(db: sqlite3.Connection, line: Line, reservation: Reservation, now: int) -> bool:
    """Holds what the peer has reserved for its slaves; False, and no effect, if it is held already.

    ReservationRefusedError (below the cursor ReplayError) if the bytes are not there in full, RemoteProtocolError if
    the reservation contradicts itself; nothing is held then.
    """
    _check(reservation)
    if reservation.epoch != line.epoch:
        raise ReservationRefusedError(
            f"{line.peer} reserved in pairing epoch {reservation.epoch}; here it is {line.epoch}"
        )
    if _repeated(db, line, reservation):
        return False
    keys = streams.cut(streams.accept(db, line, reservation.pieces), reservation.nbytes)
    not_after = now + reservation.ttl_s * SECOND_NS
    master, n, part, number = reservation.master, reservation.nbytes, reservation.part, len(reservation.slaves)
    masks = reservation.masks or (None,) * len(keys)
    where = [(part and part.stream.bytes, part and part.first + at) for at in range(len(keys))]
    rows = [
        (slave, i.bytes, line.id, master, streams.pack(k), n, number, not_after, mask, *place)
        for i, k, mask, place in zip(reservation.key_ids, keys, masks, where, strict=True)
        for slave in reservation.slaves
    ]
    db.executemany("INSERT INTO held VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    for _ in reservation.slaves:
        streams.refer(db, keys, +1)
    nbytes = reservation.nbytes * len(keys)
    append(db, now, [Event(kind="accepted", sae=reservation.master, peer=line.peer, nbytes=nbytes)])
    return True


def _check(r: Reservation) -> None:
    """RemoteProtocolError unless ids, slaves and pieces fit together."""
    sums = sum(piece.nbytes for piece in r.pieces) == r.nbytes * len(r.key_ids)
    distinct = len(set(r.key_ids)) == len(r.key_ids) and len(set(r.slaves)) == len(r.slaves)
    small = all(0 <= n <= HIGHEST for p in r.pieces for n in (p.block, p.offset, p.nbytes))
    masked = not r.masks or [len(m) for m in r.masks] == [r.nbytes] * len(r.key_ids)
    some = r.key_ids and r.slaves and r.nbytes > 0
    if not (sums and distinct and masked and small and some and 0 < r.ttl_s <= 2**31):
        raise RemoteProtocolError("a reservation whose keys, slaves and ranges do not fit together")


def _repeated(db: sqlite3.Connection, line: Line, r: Reservation) -> bool:
    """Whether all of it is held here already; ReservationRefusedError if only some of it, or otherwise."""
    held = [_held(db, line, i) for i in r.key_ids]
    if not any(held):
        return False
    if not all(held):
        raise ReservationRefusedError(f"{line.peer} repeats a reservation of which keys were delivered")
    masks = r.masks or (None,) * len(held)
    for rows, key, mask in zip(held, streams.cut(streams.locate(db, line, r.pieces), r.nbytes), masks, strict=True):
        places = streams.pack(key)
        same = {row[0] for row in rows} == set(r.slaves) and {row[3] for row in rows} == {mask}
        if not same or any(row[1] != r.master or row[2] not in {None, places} for row in rows):
            raise ReservationRefusedError(f"{line.peer} reserved other keys under the same identifiers")
    return True


def _held(db: sqlite3.Connection, line: Line, key_id: UUID) -> list[tuple[str, str, bytes | None, bytes | None]]:
    query = "SELECT slave, master, places, mask FROM held WHERE key_id = ? AND link = ?"
    return db.execute(query, (key_id.bytes, line.id)).fetchall()


def find(db: sqlite3.Connection, slave: str, master: str, ids: Sequence[UUID], now: int) -> dict[UUID, int]:
    """Row of the link of every key, if all of them wait here for ``slave`` and came from ``master``.

    KeysNotFoundError if one is unknown, past its time, delivered to this slave or another master's; NotNamedError if
    all are here and ``slave`` was not named for one.
    """
    links: dict[UUID, int] = {}
    named = True
    for key_id in ids:
        rows = db.execute(
            "SELECT slave, link, places FROM held WHERE key_id = ? AND master = ? AND not_after > ?",
            (key_id.bytes, master, now),
        ).fetchall()
        mine = [(link, places) for who, link, places in rows if who == slave]
        if not rows or (mine and mine[0][1] is None):
            raise KeysNotFoundError(NOT_FOUND)
        named = named and bool(mine)
        links[key_id] = rows[0][1]
    if not named:
        raise NotNamedError(NOT_NAMED)
    return links


def deliver(
    db: sqlite3.Connection, reader: Reader, line: Line, slave: str, ids: Sequence[UUID], *, now: int
) -> dict[UUID, Key]:
    """Keys of one link that :func:`find` found, by identifier; their rows are gone."""
    keys, used, events, first = {}, [], [], 0
    for key_id in ids:
        who = (slave, key_id.bytes)
        query = "SELECT places, slaves, mask FROM held WHERE slave = ? AND key_id = ?"
        column, slaves, mask = db.execute(query, who).fetchone()
        places = streams.unpack(column)
        keys[key_id] = Key(key_id=key_id, secret=reader.read(places))
        if mask is not None:
            keys[key_id].secret[:] = xor(keys[key_id].secret, mask)
        used.append(places)
        n = len(keys[key_id].secret)
        first += 0 if slaves > 1 and _any_delivered(db, key_id) else n
        events.append(Event(kind="delivered", key_id=key_id.bytes, sae=slave, peer=line.peer, nbytes=n))
        if slaves == 1:
            db.execute("DELETE FROM held WHERE slave = ? AND key_id = ?", who)
        else:  # the others' rows must still tell this slave from a stranger
            db.execute("UPDATE held SET places = NULL WHERE slave = ? AND key_id = ?", who)
            _drop_if_done(db, key_id)
    streams.refer(db, used, -1)
    count(db, line, "app", first)
    append(db, now, events)
    return keys


def _any_delivered(db: sqlite3.Connection, key_id: UUID) -> bool:
    query = "SELECT 1 FROM held WHERE key_id = ? AND places IS NULL LIMIT 1"
    return db.execute(query, (key_id.bytes,)).fetchone() is not None


def _drop_if_done(db: sqlite3.Connection, key_id: UUID) -> None:
    query = "SELECT 1 FROM held WHERE key_id = ? AND places IS NOT NULL LIMIT 1"
    if db.execute(query, (key_id.bytes,)).fetchone() is None:
        db.execute("DELETE FROM held WHERE key_id = ?", (key_id.bytes,))


def void(db: sqlite3.Connection, line: Line, ids: Sequence[UUID], now: int) -> None:
    """Destroys keys that were reserved or are held here; unknown identifiers have no effect."""
    for table in ("reserved", "held"):
        for key_id in ids:
            _end(db, line, table, ("key_id = ?", key_id.bytes), "voided", now=now)


def expire(db: sqlite3.Connection, line: Line, now: int) -> None:
    """Destroys keys past their time."""
    for table in ("reserved", "held"):
        _end(db, line, table, ("not_after <= ?", now), "expired", now=now)


def void_all(db: sqlite3.Connection, line: Line, table: str, now: int) -> None:
    """Destroys every key that was reserved (table ``reserved``) or is held (``held``) here."""
    _end(db, line, table, ("? = 1", 1), "voided", now=now)


def _end(
    db: sqlite3.Connection, line: Line, table: str, which: tuple[str, bytes | int], kind: str, *, now: int
) -> None:
    """Removes the rows of a table for which ``which`` holds; a key that nobody got counts as burned or expired."""
    where, args = f"link = ? AND {which[0]}", (line.id, which[1])
    rows = db.execute(f"SELECT key_id, places, nbytes FROM {table} WHERE {where}", args).fetchall()  # noqa: S608
    if not rows:
        return
    db.execute(f"DELETE FROM {table} WHERE {where}", args)  # noqa: S608
    streams.refer(db, [streams.unpack(places) for _, places, _ in rows if places is not None], -1)
    delivered = {key_id for key_id, places, _ in rows if places is None}
    left = {key_id: nbytes for key_id, places, nbytes in rows if places is not None}
    lost = sum(nbytes for key_id, nbytes in left.items() if key_id not in delivered)
    count(db, line, "expired" if kind == "expired" else "burned", lost)
    append(db, now, [Event(kind=kind, key_id=k, sae=table, peer=line.peer, nbytes=n) for k, n in left.items()])
