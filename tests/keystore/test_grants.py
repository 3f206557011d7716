"""A block changes streams: whose stream has run dry allocates from it, and nobody ever twice."""

import pytest
from stores import OUT_S, Ends, secret

from qkdpp.keystore import LinkClosedError, NotEnoughKeyError, NotMetError


def drain(ends: Ends, own: str) -> None:
    left = ends.link(own).status().result(OUT_S).available
    if left:
        ends.hand_over(own, 1, left)


def granted(ends: Ends) -> bool:
    """From ``a`` to ``b``."""
    block = ends.a.grant().result(OUT_S)
    return block is not None and ends.b.granted(1, block).result(OUT_S)


def test_who_has_run_dry_gets_the_newest_block_and_both_ends_mean_the_same_bytes(ends: Ends) -> None:
    ends.meet()
    ends.fill(2, 3, 4, 6)
    drain(ends, "kme-b")
    assert ends.a.grant().result(OUT_S) == 6
    with pytest.raises(NotEnoughKeyError):
        ends.b.reserve(1, 1, master="m", slaves=["s"]).result(OUT_S)
    assert ends.b.granted(1, 6).result(OUT_S)
    assert [end.status().result(OUT_S).available for end in (ends.a, ends.b)] == [128, 64]
    reservation, got = ends.hand_over("kme-b", 2, 32)
    assert b"".join(got.values()) == secret(6, 64)
    assert ends.fetch("kme-a", "sae-b", reservation.key_ids) == got
    _, rest = ends.hand_over("kme-a", 1, 128)
    assert b"".join(rest.values()) == secret(2, 64) + secret(4, 64)
    ends.totals_fit()
    assert not ends.alarms


def test_it_is_read_after_both_stores_were_opened_anew(ends: Ends) -> None:
    """The seal covers the stream in which a block was distilled."""
    ends.meet()
    ends.fill(2, 4, 6)
    assert granted(ends)
    for own in ("kme-a", "kme-b"):
        ends.stores[own].close()
        ends.open(own)
    ends.meet()
    reservation, got = ends.hand_over("kme-b", 1, 64)
    assert b"".join(got.values()) == secret(6, 64)
    assert ends.fetch("kme-a", "sae-b", reservation.key_ids) == got


def test_as_much_stays_as_is_given_and_only_untouched_blocks_above_both_cursors_go(ends: Ends) -> None:
    ends.meet()
    ends.fill(2)
    assert ends.a.grant().result(OUT_S) is None
    ends.fill(4, 5)
    drain(ends, "kme-b")
    assert ends.a.grant().result(OUT_S) is None
    ends.fill(6, 8)
    assert granted(ends)
    ends.hand_over("kme-a", 1, 130)
    assert ends.a.grant().result(OUT_S) is None
    drain(ends, "kme-b")
    ends.totals_fit()


def test_a_block_that_was_given_is_never_allocated_again_though_the_word_of_it_is_lost(ends: Ends) -> None:
    ends.meet()
    ends.fill(2, 4)
    assert ends.a.grant().result(OUT_S) == 4
    _, got = ends.hand_over("kme-a", 1, 64)
    assert b"".join(got.values()) == secret(2, 64)
    with pytest.raises(NotEnoughKeyError):
        ends.a.reserve(1, 1, master="m", slaves=["s"]).result(OUT_S)
    ends.fill(5)
    ends.hand_over("kme-b", 1, 64)
    assert not ends.b.granted(1, 4).result(OUT_S)
    with pytest.raises(NotEnoughKeyError):
        ends.b.reserve(1, 1, master="m", slaves=["s"]).result(OUT_S)
    ends.totals_fit()


@pytest.mark.parametrize("when", ["again", "used", "another epoch", "own block", "unknown"])
def test_a_grant_that_does_not_fit_has_no_effect(ends: Ends, when: str) -> None:
    ends.meet()
    ends.fill(2, 3, 4)
    number = ends.a.grant().result(OUT_S)
    assert number == 4
    if when in {"again", "used"}:
        assert ends.b.granted(1, 4).result(OUT_S)
    if when == "used":
        drain(ends, "kme-b")
    number = {"own block": 3, "unknown": 2**63 - 1}.get(when, number)
    before = ends.b.status().result(OUT_S)
    assert not ends.b.granted(2 if when == "another epoch" else 1, number).result(OUT_S)
    assert ends.b.status().result(OUT_S) == before


def test_a_block_moves_once_so_that_a_late_word_undoes_nothing(ends: Ends) -> None:
    """Given, given back and allocated, it must not be taken by a repeated message."""
    ends.meet()
    ends.fill(2, 4, 6)
    assert granted(ends)
    ends.fill(8)
    assert granted(ends)
    assert ends.b.grant().result(OUT_S) is None
    ends.fill(3, 5, 7)
    assert ends.b.grant().result(OUT_S) == 7
    assert not ends.a.granted(1, 6).result(OUT_S)


def test_nothing_is_given_before_the_ends_have_met_or_after_an_alarm(ends: Ends) -> None:
    ends.fill(2, 4)
    for job in (ends.a.grant(), ends.b.granted(1, 4)):
        with pytest.raises(NotMetError):
            job.result(OUT_S)
    ends.meet()
    ends.a.halt("blinding")
    with pytest.raises(LinkClosedError):
        ends.a.grant().result(OUT_S)
