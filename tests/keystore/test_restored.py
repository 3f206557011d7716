"""A store that was put back from a copy is refused by both ends, whatever moved since; late messages are not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from stores import NAMES, OUT_S, Ends, other

from qkdpp.keystore import KeysNotFoundError, LinkClosedError, NotMetError, ReservationRefusedError
from qkdpp.keystore.look import pair_anew


def copy(folder: Path, to: Path) -> None:
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("lock"))
    to.chmod(0o700)


def put_back(ends: Ends, own: str, saved: Path) -> None:
    ends.stores[own].close()
    shutil.rmtree(ends.folder / own)
    copy(saved, ends.folder / own)
    ends.open(own)


def refused(ends: Ends) -> None:
    """Both ends raise an alarm and do nothing any more, also after a new opening."""
    assert {own for own, _ in ends.alarms} == set(NAMES)
    for again in (False, True):
        for own in NAMES:
            if again:
                ends.stores[own].close()
                ends.open(own)
            with pytest.raises(LinkClosedError, match="pair anew"):
                ends.link(own).reserve(1, 1, master="m", slaves=["s"]).result(OUT_S)
            assert ends.link(own).status().result(OUT_S).closed


def allocate(ends: Ends, own: str) -> None:
    ends.hand_over(own, 1, 16)


def accept(ends: Ends, own: str) -> None:
    ends.hand_over(other(own), 1, 16)


def fetch(ends: Ends, own: str) -> None:
    ids = ends.waiting[own]
    ends.fetch(own, "sae-b", ids)


def open_again(ends: Ends, own: str) -> None:
    ends.stores[own].close()
    ends.open(own)


def burn(ends: Ends, own: str) -> None:
    ends.link(own).burn(6, "an alarm")


@pytest.mark.parametrize("since", [allocate, accept, fetch, open_again, burn])
@pytest.mark.parametrize("own", NAMES)
@pytest.mark.parametrize("running", [False, True])
def test_a_copy_put_back_is_refused(folder: Path, since: Callable[[Ends, str], None], own: str, running: bool) -> None:
    ends = Ends(folder / "ends")
    try:
        ends.fill(2, 3, 4, 5, 6, 7)
        ends.meet()
        ends.waiting = {other(name): ends.hand_over(name, 1, 8)[0].key_ids for name in NAMES}
        if not running:
            ends.stores[own].close()
        copy(ends.folder / own, folder / "copy")
        if not running:
            ends.open(own)
            ends.meet()
        since(ends, own)
        ends.meet()
        put_back(ends, own, folder / "copy")
        with pytest.raises(NotMetError):
            ends.fetch(own, "sae-b", ends.waiting[own])
        ends.meet()
        refused(ends)
    finally:
        ends.close()


def test_allocations_that_no_hello_told_are_noticed_too(ends: Ends, folder: Path) -> None:
    ends.fill(2, 4)
    ends.meet()
    copy(ends.folder / "kme-a", folder / "copy")
    ends.hand_over("kme-a", 1, 16)
    put_back(ends, "kme-a", folder / "copy")
    ends.meet()
    refused(ends)


def test_an_alarm_that_stands_is_counted_at_every_hello_and_told_once(ends: Ends, folder: Path) -> None:
    ends.fill(2, 4)
    ends.meet()
    copy(ends.folder / "kme-a", folder / "copy")
    ends.hand_over("kme-a", 1, 16)
    put_back(ends, "kme-a", folder / "copy")
    ends.meet()
    told, counted = list(ends.alarms), [store.alarms for store in ends.stores.values()]
    for _ in range(5):
        ends.meet()
    assert ends.alarms == told
    assert all(store.alarms >= before + 5 for store, before in zip(ends.stores.values(), counted, strict=True))


def test_a_new_store_is_not_taken_for_the_old_one(ends: Ends) -> None:
    ends.fill(2)
    ends.meet()
    ends.stores["kme-b"].close()
    shutil.rmtree(ends.folder / "kme-b")
    ends.open("kme-b")
    ends.meet()
    refused(ends)


def test_both_pair_anew(ends: Ends, folder: Path) -> None:
    ends.fill(2, 4)
    ends.meet()
    copy(ends.folder / "kme-a", folder / "copy")
    reservation, _ = ends.hand_over("kme-a", 1, 16)
    put_back(ends, "kme-a", folder / "copy")
    ends.meet()
    refused(ends)
    ends.stores["kme-a"].close()
    assert pair_anew(ends.folder / "kme-a", "kme-b", 7) == 7
    ends.open("kme-a")
    ends.alarms.clear()
    ends.meet()
    assert {own for own, text in ends.alarms if "epoch" in text} == set(NAMES)
    with pytest.raises(NotMetError):
        ends.a.reserve(1, 1, master="m", slaves=["s"]).result(OUT_S)
    ends.stores["kme-b"].close()
    pair_anew(ends.folder / "kme-b", "kme-a", 7)
    ends.open("kme-b")
    ends.meet()
    assert [ends.link(own).status().result(OUT_S).available for own in NAMES] == [0, 0]
    ends.fill(2, 3)
    again, got = ends.hand_over("kme-a", 1, 16)
    assert ends.fetch("kme-b", "sae-b", again.key_ids) == got
    with pytest.raises(KeysNotFoundError):
        ends.fetch("kme-b", "sae-b", reservation.key_ids)


def test_openings_crashes_and_late_hellos_raise_no_alarm(ends: Ends) -> None:
    ends.fill(2, 3, 4, 5)
    ends.meet()
    late = []
    for _ in range(3):
        for own in NAMES:
            late.append((other(own), ends.link(own).hello().result(OUT_S)))
            ends.stores[own].close()
            ends.open(own)
            late.append((other(own), ends.link(own).hello().result(OUT_S)))
            ends.meet()
            ends.hand_over(own, 1, 4)
            late.append((other(own), ends.link(own).hello().result(OUT_S)))
    seen = [own for own in late if ends.link(own[0]).meet(own[1]).result(OUT_S).refused]
    assert not seen
    assert not ends.alarms
    assert ends.a.met
    assert ends.b.met
    ends.hand_over("kme-a", 1, 4)
    ends.hand_over("kme-b", 1, 4)


def test_what_is_in_doubt_is_burned(ends: Ends) -> None:
    ends.fill(2)
    ends.meet()
    lost = ends.a.reserve(1, 16, master="m", slaves=["s"]).result(OUT_S)
    ends.stores["kme-a"].close()
    ends.open("kme-a")
    ends.meet()
    assert [ends.link(own).status().result(OUT_S).totals["burned"] for own in NAMES] == [16, 16]
    with pytest.raises(KeysNotFoundError):
        ends.a.commit(lost.key_ids).result(OUT_S)
    with pytest.raises(ReservationRefusedError):
        ends.b.accept(lost).result(OUT_S)
    ends.totals_fit()
