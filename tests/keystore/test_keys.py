"""From a distilled block to a key at both applications: once, all or nothing, the same bytes at both ends."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from stores import NAMES, OUT_S, Ends, secret

from qkdpp.core.bits import Bits
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.keystore import (
    DESTINATION,
    SOURCE,
    KeysNotFoundError,
    Limits,
    NotEnoughKeyError,
    NotMetError,
    NotNamedError,
    Part,
    Piece,
    Reservation,
    ReservationRefusedError,
    StreamInUseError,
    StreamUnknownError,
    Terms,
)


def test_both_applications_get_the_same_keys_across_borders_of_blocks(ends: Ends) -> None:
    ends.fill(1, 2, 3, 4, 6, nbytes=50)
    ends.meet()
    reservation, got = ends.hand_over("kme-a", 3, 32)
    stream = secret(2, 50) + secret(4, 50)
    assert list(got.values()) == [stream[0:32], stream[32:64], stream[64:96]]
    assert ends.fetch("kme-b", "sae-b", reservation.key_ids) == got
    _, more = ends.hand_over("kme-a", 2, 24)
    stream += secret(6, 50)
    assert list(more.values()) == [stream[96:120], stream[120:144]]
    _, back = ends.hand_over("kme-b", 1, 60)
    assert list(back.values()) == [(secret(1, 50) + secret(3, 50))[:60]]
    ends.totals_fit()


def test_blocks_of_many_chunks(ends: Ends) -> None:
    ends.fill(2, nbytes=100_000)
    ends.meet()
    reservation, got = ends.hand_over("kme-a", 1, 99_999)
    assert list(got.values()) == [secret(2, 100_000)[:99_999]]
    assert ends.fetch("kme-b", "sae-b", reservation.key_ids) == got


def test_bits_beyond_whole_bytes_are_not_used(ends: Ends) -> None:
    for link in (ends.a, ends.b):
        link.stage(2, Bits.from_array(np.ones(29, dtype=np.uint8)))
        link.ready(2)
        link.release(2)
        assert link.held(2) == 29
    ends.meet()
    assert ends.a.status().result(OUT_S).keys(1) == 3


def test_a_short_stream_gives_nothing_and_loses_nothing(ends: Ends) -> None:
    ends.fill(2, 3, nbytes=64)
    ends.meet()
    with pytest.raises(NotEnoughKeyError, match="64 of 65"):
        ends.a.reserve(1, 65, master="m", slaves=["s"]).result(OUT_S)
    _, got = ends.hand_over("kme-a", 1, 64)
    assert list(got.values()) == [secret(2, 64)]


def test_a_key_leaves_once_for_each_slave(ends: Ends) -> None:
    ends.fill(2)
    ends.meet()
    reservation, got = ends.hand_over("kme-a", 2, 16, slaves=("sae-b", "sae-c"))
    ids = reservation.key_ids
    with pytest.raises(KeysNotFoundError):
        ends.a.commit(ids).result(OUT_S)
    assert ends.fetch("kme-b", "sae-b", ids) == got
    with pytest.raises(KeysNotFoundError):
        ends.fetch("kme-b", "sae-b", ids)
    ends.totals_fit()
    assert ends.fetch("kme-b", "sae-c", ids[:1]) == {ids[0]: got[ids[0]]}
    assert ends.fetch("kme-b", "sae-c", ids[1:]) == {ids[1]: got[ids[1]]}
    for slave in ("sae-b", "sae-c", "stranger"):
        with pytest.raises(KeysNotFoundError):
            ends.fetch("kme-b", slave, ids)
    assert ends.b.status().result(OUT_S).held == 0
    ends.totals_fit()


def test_delivery_is_all_or_nothing_and_only_for_those_named(ends: Ends) -> None:
    ends.fill(2, 4)
    ends.meet()
    first, got = ends.hand_over("kme-a", 2, 16)
    second, others = ends.hand_over("kme-a", 1, 16, slaves=("sae-c",))
    ids = first.key_ids
    with pytest.raises(KeysNotFoundError, match="one or more keys specified are not found on KME"):
        ends.fetch("kme-b", "sae-b", (*ids, uuid4()))
    with pytest.raises(NotNamedError):
        ends.fetch("kme-b", "sae-b", (*ids, *second.key_ids))
    with pytest.raises(NotNamedError):
        ends.fetch("kme-b", "stranger", ids)
    with pytest.raises(KeysNotFoundError):
        ends.stores["kme-b"].deliver("sae-b", ids, master="another").result(OUT_S)
    with pytest.raises(ValueError, match="each once"):
        ends.fetch("kme-b", "sae-b", (ids[0], ids[0]))
    assert ends.fetch("kme-b", "sae-b", ids[::-1]) == got
    assert list(ends.fetch("kme-b", "sae-c", second.key_ids).values()) == list(others.values())


def test_what_is_not_fetched_expires_and_its_bytes_are_destroyed(ends: Ends) -> None:
    ends.fill(2)
    ends.meet()
    reservation, _ = ends.hand_over("kme-a", 2, 32, ttl_s=10)
    ends.fetch("kme-b", "sae-b", reservation.key_ids[:1])
    ends.now += 10_000_000_000
    with pytest.raises(KeysNotFoundError):
        ends.fetch("kme-b", "sae-b", reservation.key_ids[1:])
    ends.stores["kme-b"].expire().result(OUT_S)
    status = ends.b.status().result(OUT_S)
    assert (status.held, status.totals["expired"], status.totals["app"]) == (0, 32, 32)
    chunks = "SELECT count(*) FROM chunk"
    for store in ends.stores.values():
        assert store.submit("test", lambda db: db.execute(chunks).fetchone()[0]).result(OUT_S) == 0
    assert ends.b.held(2) == 512


def test_a_reservation_may_be_repeated_but_not_changed(ends: Ends) -> None:
    ends.fill(2, 4, 6)
    ends.meet()
    reservation = ends.a.reserve(2, 32, master="sae-a", slaves=["sae-b"]).result(OUT_S)
    for _ in range(2):
        ends.b.accept(reservation).result(OUT_S)
    other_bytes = (Piece(4, 0, 64),)
    for changed in (
        msgspec.structs.replace(reservation, slaves=("sae-b", "thief")),
        msgspec.structs.replace(reservation, master="thief"),
        msgspec.structs.replace(reservation, pieces=other_bytes),
        msgspec.structs.replace(reservation, key_ids=(reservation.key_ids[0], uuid4())),
    ):
        with pytest.raises(ReservationRefusedError):
            ends.b.accept(changed).result(OUT_S)
    got = {key.key_id: bytes(key.secret) for key in ends.a.commit(reservation.key_ids).result(OUT_S)}
    assert ends.fetch("kme-b", "sae-b", reservation.key_ids) == got
    assert not ends.alarms
    with pytest.raises(ReservationRefusedError):
        ends.b.accept(reservation).result(OUT_S)
    assert [own for own, text in ends.alarms if "taken before" in text] == ["kme-b"]


def test_a_reservation_that_contradicts_itself_is_refused(ends: Ends) -> None:
    ends.fill(2, 3, 4)
    ends.meet()
    good = ends.a.reserve(2, 32, master="sae-a", slaves=["sae-b"]).result(OUT_S)
    change = msgspec.structs.replace
    for bad in (
        change(good, nbytes=31),
        change(good, nbytes=-32, pieces=(Piece(2, 0, -64),)),
        change(good, key_ids=(good.key_ids[0],) * 2),
        change(good, key_ids=(), pieces=()),
        change(good, slaves=()),
        change(good, slaves=("s", "s")),
        change(good, ttl_s=0),
        change(good, pieces=(Piece(2, 2**63, 64),)),
    ):
        with pytest.raises(RemoteProtocolError):
            ends.b.accept(bad).result(OUT_S)
    for absent in (
        change(good, epoch=2),
        change(good, pieces=(Piece(2, 1, 64),)),
        change(good, pieces=(Piece(3, 0, 64),)),
        change(good, pieces=(Piece(8, 0, 64),)),
        change(good, pieces=(Piece(4, 0, 32), Piece(2, 0, 32))),
        change(good, pieces=(Piece(2, 0, 40), Piece(2, 20, 24))),
    ):
        with pytest.raises(ReservationRefusedError):
            ends.b.accept(absent).result(OUT_S)
    assert ends.b.status().result(OUT_S).held == 0
    ends.b.accept(good).result(OUT_S)


def test_a_reservation_travels_as_messagepack(ends: Ends) -> None:
    ends.fill(2, 4)
    ends.meet()
    reservation = ends.a.reserve(3, 32, master="sae-a", slaves=["sae-b"]).result(OUT_S)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(reservation), type=Reservation) == reservation


def test_what_was_lost_on_the_way_is_burned_at_both_ends(ends: Ends) -> None:
    ends.fill(2, 4)
    ends.meet()
    lost = ends.a.reserve(1, 48, master="sae-a", slaves=["sae-b"]).result(OUT_S)
    ends.a.void(lost.key_ids).result(OUT_S)
    with pytest.raises(KeysNotFoundError):
        ends.a.commit(lost.key_ids).result(OUT_S)
    reservation, got = ends.hand_over("kme-a", 1, 32)
    assert list(got.values()) == [secret(2, 64)[48:] + secret(4, 64)[:16]]
    assert ends.fetch("kme-b", "sae-b", reservation.key_ids) == got
    with pytest.raises(ReservationRefusedError):
        ends.b.accept(lost).result(OUT_S)
    assert [ends.link(own).status().result(OUT_S).totals["burned"] for own in NAMES] == [48, 48]
    ends.totals_fit()


def test_a_void_at_the_peer_ends_a_key(ends: Ends) -> None:
    ends.fill(2)
    ends.meet()
    reservation, _ = ends.hand_over("kme-a", 2, 16)
    ends.b.void((*reservation.key_ids[:1], uuid4())).result(OUT_S)
    with pytest.raises(KeysNotFoundError):
        ends.fetch("kme-b", "sae-b", reservation.key_ids)
    ends.fetch("kme-b", "sae-b", reservation.key_ids[1:])
    ends.totals_fit()


def test_nothing_moves_before_the_counters_were_exchanged(ends: Ends) -> None:
    ends.fill(2)
    with pytest.raises(NotMetError):
        ends.a.reserve(1, 8, master="m", slaves=["s"]).result(OUT_S)
    ends.meet()
    reservation, got = ends.hand_over("kme-a", 1, 8)
    ends.stores["kme-b"].close()
    ends.open("kme-b")
    with pytest.raises(NotMetError):
        ends.fetch("kme-b", "sae-b", reservation.key_ids)
    ends.meet()
    assert ends.fetch("kme-b", "sae-b", reservation.key_ids) == got


def test_the_oldest_go_when_the_store_is_full(folder: Path) -> None:
    ends = Ends(folder, replace(Limits(), capacity=256))
    try:
        ends.fill(*range(2, 20), nbytes=64)
        ends.meet()
        a, b = (link.status().result(OUT_S) for link in (ends.a, ends.b))
        assert (a.available, b.available) == (256, 256)
        assert 256 <= a.incoming <= 320
        assert a.keys(32) == a.most_keys(32) == 8
        assert ends.a.held(2) is None
        reservation, got = ends.hand_over("kme-a", 4, 64)
        assert list(got.values()) == [secret(n, 64) for n in (12, 14, 16, 18)]
        assert ends.fetch("kme-b", "sae-b", reservation.key_ids) == got
        ends.totals_fit()
    finally:
        ends.close()


def test_blocks_grow_old(folder: Path) -> None:
    ends = Ends(folder, replace(Limits(), max_age_s=100))
    try:
        ends.fill(2, 3)
        ends.now += 60_000_000_000
        ends.fill(4, 5)
        ends.meet()
        reservation, got = ends.hand_over("kme-a", 1, 16)
        assert ends.a.status().result(OUT_S).oldest_ns == ends.now - 60_000_000_000
        ends.now += 41_000_000_000
        for store in ends.stores.values():
            store.expire().result(OUT_S)
        a = ends.a.status().result(OUT_S)
        assert (a.available, a.incoming, a.totals["expired"]) == (64, 64, 48 + 64)
        assert ends.fetch("kme-b", "sae-b", reservation.key_ids) == got, "taken before, so not burned"
        _, more = ends.hand_over("kme-a", 1, 64)
        assert list(more.values()) == [secret(4, 64)]
        ends.totals_fit()
    finally:
        ends.close()


def test_a_thousand_random_requests_overlap_nowhere(ends: Ends) -> None:
    draw = Random(5)
    ends.fill(*range(100), nbytes=97)
    ends.meet()
    used: dict[str, list[tuple[int, int]]] = {own: [] for own in NAMES}
    for own, numbers in (("kme-a", range(0, 100, 2)), ("kme-b", range(1, 100, 2))):
        stream, at = b"".join(secret(n, 97) for n in numbers), 0
        futures = []
        while True:
            number, nbytes = draw.randint(1, 5), draw.randint(1, 60)
            if at + number * nbytes > len(stream):
                break
            futures.append((at, number, nbytes, ends.link(own).reserve(number, nbytes, master="sae-a", slaves=["s"])))
            at += number * nbytes
        for start, number, nbytes, future in futures:
            reservation = future.result(OUT_S)
            used[own] += [(p.block, p.offset) for p in reservation.pieces]
            keys = ends.link(own).commit(reservation.key_ids).result(OUT_S)
            assert b"".join(k.secret for k in keys) == stream[start : start + number * nbytes]
        assert all(low < high for low, high in pairwise(used[own]))
    ends.totals_fit()


TERMS = Terms(stream=uuid4(), source="sae-a", destination="sae-b", nbytes=8, ttl_s=60, quality="")


def opened(ends: Ends, terms: Terms = TERMS) -> None:
    for who in (SOURCE, DESTINATION):
        ends.a.join(terms, here=SOURCE, who=who).result(OUT_S)
        ends.b.join(terms, here=DESTINATION, who=who).result(OUT_S)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"master": "sae-b"}, RemoteProtocolError),
        ({"slaves": ("sae-c",)}, RemoteProtocolError),
        ({"nbytes": 4, "key_ids": tuple(uuid4() for _ in range(4))}, RemoteProtocolError),
        ({"masks": (bytes(8), bytes(8))}, RemoteProtocolError),
        ({"part": Part(TERMS.stream, -1)}, RemoteProtocolError),
        ({"part": Part(TERMS.stream, 2**63 - 1)}, RemoteProtocolError),
        ({"part": Part(TERMS.stream, 1)}, ReservationRefusedError),
        ({"part": Part(uuid4(), 2)}, ReservationRefusedError),
    ],
)
def test_chunks_that_do_not_fit_their_stream_are_refused(ends: Ends, change: dict, error: type[Exception]) -> None:
    """Also a lower index under new identifiers: an index never names two chunks."""
    ends.fill(2)
    ends.meet()
    opened(ends)
    ends.b.accept(ends.a.reserve_chunks(TERMS.stream, 2).result(OUT_S)).result(OUT_S)
    good = ends.a.reserve_chunks(TERMS.stream, 2).result(OUT_S)
    assert good.part == Part(TERMS.stream, 2)
    with pytest.raises(error):
        ends.b.accept(msgspec.structs.replace(good, **change)).result(OUT_S)
    ends.b.accept(good).result(OUT_S)
    ends.b.accept(good).result(OUT_S)  # again, without effect
    got = ends.b.take(TERMS.stream, None, 10).result(OUT_S)
    assert [bytes(got[index][0].secret) for index in range(4)] == [secret(2, 64)[at : at + 8] for at in (0, 8, 16, 24)]
    assert ends.b.take(TERMS.stream, None, 10).result(OUT_S) == {}
    ends.b.accept(good).exception(OUT_S)  # late: whatever it says, it gives nothing
    assert ends.b.take(TERMS.stream, None, 10).result(OUT_S) == {}


def test_a_stream_has_one_set_of_terms_for_ever(ends: Ends) -> None:
    ends.meet()
    opened(ends)
    opened(ends)
    for change in ({"source": "sae-x"}, {"nbytes": 16}, {"ttl_s": 61}, {"quality": "x"}):
        with pytest.raises(StreamInUseError):
            ends.b.join(msgspec.structs.replace(TERMS, **change), here=DESTINATION, who=SOURCE).result(OUT_S)
    with pytest.raises(StreamInUseError):
        ends.b.join(TERMS, here=SOURCE, who=SOURCE).result(OUT_S)
    for change, who in (({"nbytes": 0}, SOURCE), ({"ttl_s": 0}, SOURCE), ({"destination": "sae-a"}, SOURCE), ({}, 7)):
        with pytest.raises(RemoteProtocolError):
            ends.b.join(msgspec.structs.replace(TERMS, stream=uuid4(), **change), here=DESTINATION, who=who).result(
                OUT_S
            )
    with pytest.raises(RemoteProtocolError):
        ends.b.close_stream(TERMS.stream, who=4, last=0).result(OUT_S)
    ends.b.close_stream(TERMS.stream, who=DESTINATION, last=0).result(OUT_S)
    with pytest.raises(StreamInUseError):
        ends.b.join(TERMS, here=DESTINATION, who=DESTINATION).result(OUT_S)
    ends.fill(2)
    late = ends.a.reserve_chunks(TERMS.stream, 1).result(OUT_S)
    with pytest.raises(ReservationRefusedError):
        ends.b.accept(late).result(OUT_S)
    for link in (ends.a, ends.b):
        with pytest.raises(StreamUnknownError):
            link.stream(uuid4()).result(OUT_S)


def test_pads_and_keys_of_the_masters_own_end_are_counted_once(ends: Ends) -> None:
    ends.fill(2)
    ends.meet()
    store = ends.stores["kme-a"]
    made = store.reserve_at({"kme-b": ["sae-b"]}, 2, 16, master="sae-a", ttl_s=60).result(OUT_S)["kme-b"]
    ends.b.accept(made).result(OUT_S)
    ids = made.key_ids
    keys = store.commit_at(["kme-b"], ids, ["sae-a2"]).result(OUT_S)
    ends.totals_fit()
    with pytest.raises(KeysNotFoundError):
        ends.fetch("kme-a", "sae-a", ids)
    got = ends.fetch("kme-a", "sae-a2", ids[:1])
    assert got == {ids[0]: bytes(keys[0].secret)}
    ends.now += 61_000_000_000
    store.expire().result(OUT_S)
    ends.totals_fit()
    assert ends.a.status().result(OUT_S).held == 0
