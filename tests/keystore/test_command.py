"""``qkdpp keys`` on a store."""

import json
from pathlib import Path

import pytest
from stores import NAMES, OUT_S, Ends
from typer.testing import CliRunner, Result

from qkdpp.cli.app import build
from qkdpp.core.bits import Bits
from qkdpp.core.errors import InputError


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build(), ["keys", *map(str, arguments)])


@pytest.fixture
def left(ends: Ends) -> Ends:
    """Both stores after some traffic an hour ago, closed."""
    ends.now -= 3600 * 10**9
    ends.fill(2, 3, 4)
    ends.meet()
    reservation, _ = ends.hand_over("kme-a", 2, 16)
    ends.fetch("kme-b", "sae-b", reservation.key_ids[:1])
    ends.waiting["kme-b"] = reservation.key_ids[1:]
    ends.b.stage(7, Bits.zeros(80))
    for store in ends.stores.values():
        store.close()
    return ends


def test_status(left: Ends) -> None:
    shown = json.loads(run("status", left.folder / "kme-b", "--json").output)
    assert (shown["key_manager"], shown["log_broken_at"]) == ("kme-b", None)
    (link,) = shown["links"]
    assert (link["peer"], link["available"], link["incoming"], link["pending"], link["held"]) == (
        "kme-a",
        64,
        96,
        10,
        1,
    )
    assert link["totals"] == {"stored": 192, "app": 16, "burned": 0, "expired": 0}
    text = run("status", left.folder / "kme-b").output.splitlines()
    assert text[0] == "kme-b: log whole"
    assert dict(zip(text[1].split(), text[2].split(), strict=True))["incoming"] == "96"


def test_ls_and_expire(left: Ends) -> None:
    (row,) = json.loads(run("ls", left.folder / "kme-b", "--json").output)
    (key_id,) = left.waiting["kme-b"]
    assert (row["key_id"], row["state"], row["slave"], row["nbytes"]) == (str(key_id), "held", "sae-b", 16)
    assert str(key_id) in run("ls", left.folder / "kme-b").output
    assert json.loads(run("expire", left.folder / "kme-b", "--json").output) == {"kme-a": 16}
    assert json.loads(run("ls", left.folder / "kme-b", "--json").output) == []
    assert "16 bytes" in run("expire", left.folder / "kme-b").output


def test_a_store_in_use_is_looked_into_and_left_as_it_is(ends: Ends) -> None:
    ends.fill(2, 3)
    ends.meet()
    reservation, _ = ends.hand_over("kme-a", 2, 16)
    store, height = ends.folder / "kme-b", ends.b.hello().result(OUT_S).own.height
    (link,) = json.loads(run("status", store, "--json").output)["links"]
    assert (link["available"], link["incoming"], link["held"]) == (64, 32, 2)
    shown = json.loads(run("ls", store, "--json").output)
    assert {row["key_id"] for row in shown} == {str(key_id) for key_id in reservation.key_ids}
    for verb, *peer in (("expire",), ("renew", "kme-a")):
        result = run(verb, store, *peer)
        assert isinstance(result.exception, InputError)
        assert "another process owns this key store" in str(result.exception)
    assert ends.b.hello().result(OUT_S).own.height == height
    ends.fetch("kme-b", "sae-b", reservation.key_ids)


def test_a_store_that_is_not_there_is_refused(tmp_path: Path) -> None:
    result = run("ls", tmp_path)
    assert isinstance(result.exception, InputError)
    assert "no key store" in str(result.exception)


def test_renew_both_ends(left: Ends) -> None:
    told = run("renew", left.folder / "kme-a", "kme-b").output
    assert told.endswith("--epoch 2\n")
    assert run("renew", left.folder / "kme-b", "kme-a", "--epoch", 2).exit_code == 0
    assert isinstance(run("renew", left.folder / "kme-b", "kme-a", "--epoch", 2).exception, InputError)
    assert isinstance(run("renew", left.folder / "kme-b", "nobody").exception, InputError)
    for own in NAMES:
        left.open(own)
    left.meet()
    assert [left.link(own).status().result(OUT_S).available for own in NAMES] == [0, 0]
    assert not left.alarms
    left.fill(2)
    left.hand_over("kme-a", 1, 16)


def test_a_key_encrypting_key(tmp_path: Path) -> None:
    assert run("kek", tmp_path / "kek").exit_code == 0
    assert (tmp_path / "kek").stat().st_mode & 0o777 == 0o400
    assert isinstance(run("kek", tmp_path / "kek").exception, InputError)
