"""``qkdpp keys`` on a store that no process owns."""

import json
import time
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
    """Both stores after some traffic, closed."""
    ends.fill(2, 3, 4)
    ends.meet()
    reservation, _ = ends.hand_over("kme-a", 2, 16, ttl_s=1)
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
    time.sleep(max(0.0, row["not_after"] / 1e9 - time.time()))
    assert json.loads(run("expire", left.folder / "kme-b", "--json").output) == {"kme-a": 16}
    assert json.loads(run("ls", left.folder / "kme-b", "--json").output) == []
    assert "16 bytes" in run("expire", left.folder / "kme-b").output


def test_a_store_in_use_or_absent_is_refused(ends: Ends, tmp_path: Path) -> None:
    assert isinstance(run("status", ends.folder / "kme-a").exception, InputError)
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
