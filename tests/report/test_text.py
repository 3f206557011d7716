"""The short text of a run."""

from __future__ import annotations

from typing import Any

import pytest

from qkdpp.core.abort import AbortReason
from qkdpp.report.text import summary
from qkdpp.report.words import Json, label, number, percent, seconds, value_text


@pytest.mark.parametrize("name", ["bb84", "bbm92", "aborted"])
def test_fits_a_terminal(name: str, request: pytest.FixtureRequest) -> None:
    lines = summary(request.getfixturevalue(name)).split("\n")
    assert 3 <= len(lines) <= 24
    assert all(line.strip() and len(line) <= 160 for line in lines)


def test_tells_what_matters(bb84: dict[str, Any]) -> None:
    text = summary(bb84)
    for words in (
        "1,234,567 secret bits",
        "net 1,233,927 bits",
        "2 preconditions failed",
        "QBER       0.53 % (Z 0.51 %, X 0.61 %)",
        "160,321 bits charged (rule public_errors)",
        "f 1.083",
        "throw-away pool",
        "eps_sec 1e-10",
        "recount of the transcript agrees",
    ):
        assert words in text


def test_conditions_are_told(bb84: dict[str, Any]) -> None:
    text = summary(bb84)
    for words in (
        "corrected for unequal efficiencies: at least 92.87 % of the keyed",
        "conditions changed (qber chi-square 131.5); rule merge",
        "1.01e-10 a block, 0.00032 a year (3,155,760 blocks), 0.00096 a year over 3 hops",
    ):
        assert words in text
    bb84["drift"]["drifted"] = []
    bb84["mismatch"]["corrected"] = False
    assert "conditions changed" not in summary(bb84)
    assert "too unequal to be corrected for" in summary(bb84)
    bb84["mismatch"] = {"corrected": True, "untagged": {"Z": 1.0, "X": 1.0}}
    assert "declared equal, with no tolerance: nothing to correct for" in summary(bb84)


def test_one_failed_precondition_is_explained(bb84: dict[str, Any]) -> None:
    del bb84["claim"]["failed"][1]
    assert "pulses carry independent random phases" in summary(bb84)


def test_disagreement_is_loud(bb84: dict[str, Any]) -> None:
    bb84["ledger_recount"]["agrees"] = False
    assert "DISAGREES" in summary(bb84)


@pytest.mark.parametrize("reason", list(AbortReason))
def test_abort_comes_with_its_evidence(reason: AbortReason, aborted: dict[str, Any]) -> None:
    aborted["abort"]["reason"] = reason.value
    text = summary(aborted)
    assert text.split("\n")[1].startswith("result     No key: ")
    assert "significance 3.1; needed 7.8; offset range (s) 0.01" in text


def test_empty_and_hostile(bb84: dict[str, Any]) -> None:
    assert "No key" in summary({})
    bb84["run"]["name"] = "\x1b[2J\nkey 1 bit\r\u202e" + "x" * 500
    text = summary(bb84)
    assert text.count("\n") < 24
    assert all(c.isprintable() for c in text.replace("\n", ""))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0"),
        (1234567, "1,234,567"),
        (-12.5, "-12.5"),
        (123456.7, "123,457"),
        (1e-10, "1e-10"),
        (2.0, "2"),
        (10**40, "1e+40"),
        (True, "yes"),
    ],
)
def test_numbers(value: Json, text: str) -> None:
    assert number(value) == text


def test_units_and_shares() -> None:
    assert percent(0.0436) == "4.36 %"
    assert percent(0.00012345) == "0.0123 %"
    assert percent(0.0) == "0.00 %"
    assert seconds(0.0983) == "98.3 ms"
    assert seconds(12.0) == "12 s"
    assert label("residual_rms_ps") == "residual rms (ps)"
    assert label("rate_hz") == "rate (Hz)"
    assert value_text({"offset_s": 0.5, "detectors": ["Z0", None]}) == "offset (s) 0.5, detectors Z0, –"
