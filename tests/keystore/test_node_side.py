"""What a live node asks of a store: pending, ready, resting, released; burned keys never come back."""

import sqlite3
from typing import TYPE_CHECKING

import pytest
from stores import OUT_S, Ends, secret

from qkdpp.core.bits import Bits
from qkdpp.core.errors import LocalProtocolError
from qkdpp.keystore import LinkClosedError, NotEnoughKeyError, ReservationRefusedError

if TYPE_CHECKING:
    from qkdpp.keystore import Link
    from qkdpp.node.quarantine import LiveStore

    def is_a_live_store(link: Link) -> LiveStore:
        return link


def key(block: int, nbytes: int = 64) -> Bits:
    return Bits.from_bytes(secret(block, nbytes), 8 * nbytes)


def test_a_block_is_given_out_only_when_released(ends: Ends) -> None:
    ends.meet()
    for block in (2, 4, 5):
        for link in (ends.a, ends.b):
            link.stage(block, key(block))
    assert ends.a.pending() == {2: 512, 4: 512, 5: 512}
    for link in (ends.a, ends.b):
        link.ready(4)
        link.ready(2)
    assert ends.a.pending() == {5: 512}
    assert ends.a.resting() == [2, 4]
    with pytest.raises(NotEnoughKeyError):
        ends.a.reserve(1, 1, master="m", slaves=["s"]).result(OUT_S)
    assert ends.a.release(3) == [2]
    assert ends.a.release(3) == []
    with pytest.raises(NotEnoughKeyError):
        ends.a.reserve(1, 65, master="m", slaves=["s"]).result(OUT_S)
    assert ends.a.release(10) == [4]
    assert ends.a.resting() == []
    reservation = ends.a.reserve(1, 128, master="m", slaves=["s"]).result(OUT_S)
    ends.b.accept(reservation).result(OUT_S)
    (got,) = ends.a.commit(reservation.key_ids).result(OUT_S)
    assert got.secret == secret(2, 64) + secret(4, 64)
    assert [ends.a.held(n) for n in (2, 4, 5, 6)] == [512, 512, 512, None]


def test_a_pending_block_is_never_accepted_for_the_peer(ends: Ends) -> None:
    ends.meet()
    for link in (ends.a, ends.b):
        link.stage(2, key(2))
    ends.a.ready(2)
    ends.a.release(2)
    reservation = ends.a.reserve(1, 8, master="m", slaves=["s"]).result(OUT_S)
    with pytest.raises(ReservationRefusedError):
        ends.b.accept(reservation).result(OUT_S)


@pytest.mark.parametrize("further", ["pending", "ready", "released", "drained"])
def test_a_burned_block_never_comes_back(ends: Ends, further: str) -> None:
    ends.meet()
    for link in (ends.a, ends.b):
        link.stage(2, key(2))
        if further != "pending":
            link.ready(2)
    if further in {"released", "drained"}:
        ends.a.release(2)
    if further == "drained":
        ends.hand_over("kme-a", 1, 60)
    ends.a.burn(2, "an alarm")
    ends.a.burn(2, "again")
    ends.a.ready(2)
    assert ends.a.release(2) == []
    assert ends.a.held(2) is None
    with pytest.raises(NotEnoughKeyError):
        ends.a.reserve(1, 1, master="m", slaves=["s"]).result(OUT_S)
    for link in (ends.a, ends.b):
        with pytest.raises(LocalProtocolError, match="stored before"):
            link.stage(2, key(2))
    ends.totals_fit()


def test_a_number_that_never_came_is_an_error(ends: Ends) -> None:
    with pytest.raises(LocalProtocolError, match="never stored"):
        ends.a.ready(9)
    with pytest.raises(LocalProtocolError, match="never stored"):
        ends.a.burn(9, "why")


def test_the_peer_may_allocate_what_still_rests_here(ends: Ends) -> None:
    """The receiver releases first and says so by another way than the key managers talk."""
    ends.meet()
    for link in (ends.a, ends.b):
        for block in (2, 4):
            link.stage(block, key(block))
            link.ready(block)
    ends.a.release(4)
    reservation, got = ends.hand_over("kme-a", 1, 80)
    assert ends.fetch("kme-b", "sae-b", reservation.key_ids) == got
    ends.b.release(4)
    ends.totals_fit()


def test_a_block_that_is_ready_after_its_stream_has_passed_it_is_burned(ends: Ends) -> None:
    ends.meet()
    for link in (ends.a, ends.b):
        link.stage(2, key(2))
    ends.fill(4)
    ends.hand_over("kme-a", 1, 8)
    for link in (ends.a, ends.b):
        link.ready(2)
        assert link.release(4) == [2]
        assert link.held(2) is None
    ends.totals_fit()


def test_state_survives_a_new_opening(ends: Ends) -> None:
    ends.fill(2, 3)
    for block in (4, 6):
        ends.a.stage(block, key(block))
    ends.a.ready(6)
    ends.stores["kme-a"].close()
    ends.open("kme-a")
    assert ends.a.pending() == {4: 512}
    assert ends.a.resting() == [6]
    ends.meet()
    reservation, got = ends.hand_over("kme-a", 1, 64)
    assert ends.fetch("kme-b", "sae-b", reservation.key_ids) == got


def test_old_numbers_are_forgotten_but_not_taken_again(ends: Ends) -> None:
    ends.fill(2)
    ends.meet()
    reservation, _ = ends.hand_over("kme-a", 1, 64)
    ends.fetch("kme-b", "sae-b", reservation.key_ids)
    ends.now += ends.limits.max_age_s * 1_000_000_000
    store = ends.stores["kme-a"]
    store.expire().result(OUT_S)
    rows = "SELECT count(*) FROM block"
    assert store.submit("test", lambda db: db.execute(rows).fetchone()[0]).result(OUT_S) == 0
    with pytest.raises(LocalProtocolError, match="stored before"):
        ends.a.stage(2, key(2))
    ends.a.burn(2, "why")
    assert ends.a.held(2) is None


def test_work_does_not_grow_with_blocks_that_are_gone(ends: Ends) -> None:
    """In the steps of SQLite's machine; a month of blocks of 10 s leaves 260,000 rows."""
    n_rows, steps = 10_000, [0]
    later = ends.now + 10**15

    def before(db: sqlite3.Connection) -> None:
        db.executemany(
            "INSERT INTO block (link, number, dir, nbits, nbytes, born, not_after, state)"
            " VALUES (?, ?, ?, 80, 10, 0, ?, 'gone')",
            [(ends.a.line.id, number, number & 1, later) for number in range(n_rows)],
        )
        db.execute("DROP INDEX block_ended")

    def count() -> int:
        steps[0] += 1
        return 0

    ends.stores["kme-a"].submit("test", before).result(OUT_S)
    ends.stores["kme-a"].close()
    store = ends.open("kme-a")
    ends.fill(n_rows, n_rows + 1)
    store.submit("test", lambda db: db.set_progress_handler(count, 10)).result(OUT_S)
    store.expire().result(OUT_S)
    assert ends.a.pending() == {}
    assert ends.a.resting() == ends.a.release(n_rows + 1) == []
    assert ends.a.status().result(OUT_S).available == 64
    ends.meet()
    for master, here in (("kme-a", "kme-b"), ("kme-b", "kme-a")):
        ends.fetch(here, "sae-b", ends.hand_over(master, 1, 32)[0].key_ids)
    assert ends.a.grant().result(OUT_S) is None
    assert 10 * steps[0] < n_rows


def test_a_halted_link_gives_nothing_out_until_the_store_is_opened_anew(ends: Ends) -> None:
    ends.meet()
    ends.fill(2, 3)
    reservation, _ = ends.hand_over("kme-a", 1, 16)
    waiting = ends.b.reserve(1, 16, master="m", slaves=["s"]).result(OUT_S)
    ends.b.halt("blinding")
    ends.b.halt("another reason")
    for refused in (
        ends.b.reserve(1, 16, master="m", slaves=["s"]),
        ends.b.commit(waiting.key_ids),
        ends.b.accept(ends.a.reserve(1, 16, master="m", slaves=["s"]).result(OUT_S)),
        ends.stores["kme-b"].deliver("sae-b", reservation.key_ids, master="sae-a"),
    ):
        with pytest.raises(LinkClosedError, match="blinding"):
            refused.result(OUT_S)
    assert "blinding" in ends.b.status().result(OUT_S).closed
    ends.stores["kme-b"].close()
    ends.open("kme-b")
    ends.meet()
    assert ends.b.status().result(OUT_S).closed == ""
    assert ends.fetch("kme-b", "sae-b", reservation.key_ids)
