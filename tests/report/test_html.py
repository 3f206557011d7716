"""The page: self-contained, complete, escaped, and never in the way of a run that ended early."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from qkdpp.core.abort import AbortReason
from qkdpp.report.html import render
from qkdpp.report.words import Json

VOID = {"meta", "br", "img", "link", "hr", "input"}
HOSTILE = "<script>alert(1)</script>\" onload='x' <b> & \u202e $\\frac{$"


class Page(HTMLParser):
    """Collects elements, attributes and visible text; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def leaves(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of every part of a report, containers before what they hold; of a list only the first entry."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from leaves(inner, (*path, key))


def replaced(report: Json, path: tuple[Any, ...], value: Json) -> Json:
    out = copy.deepcopy(report)
    place = out
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return out


def mapped(value: Json, change: Callable[[Any], Any]) -> Json:
    """The report with ``change`` applied to every leaf."""
    if isinstance(value, dict):
        return {k: mapped(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [mapped(v, change) for v in value]
    return change(value)


@pytest.mark.parametrize("name", ["bb84", "bbm92", "aborted"])
def test_loads_nothing_and_nests(name: str, request: pytest.FixtureRequest) -> None:
    text = render(request.getfixturevalue(name))
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "base", "image"} & set(page.tags)
    links = [v for k, v in page.attributes if k in ("href", "src", "xlink:href", "srcset", "action")]
    assert all(v.startswith("#") for v in links)
    assert "url(" not in text.replace("url(#", "")
    assert "@import" not in text
    outside = [v for k, v in page.attributes if "//" in v and not k.startswith("xmlns")]
    assert outside == []


@pytest.mark.parametrize("name", ["bb84", "bbm92"])
def test_ids_are_unique_and_found(name: str, request: pytest.FixtureRequest) -> None:
    text = render(request.getfixturevalue(name))
    ids = Counter(v for k, v in Page(text).attributes if k == "id")
    assert [i for i, n in ids.items() if n > 1] == []
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    assert used <= set(ids)


def test_headline_of_a_key(bb84: dict[str, Any]) -> None:
    text = Page(render(bb84)).text
    for words in (
        "1,234,567 secret bits",
        "123,457 bit/s",
        "1,233,927",
        "0.53 %",
        "Estimate",
        "2 preconditions failed",
    ):
        assert words in text
    assert "phase randomised : pulses carry independent random phases (not declared)" in text
    assert "count alike (found 0.27, threshold 0.05)" in text
    assert "throw-away pool" in text


def test_claim_with_a_pool_on_file_has_no_remarks(bbm92: dict[str, Any]) -> None:
    page = Page(render(bbm92))
    assert "Composable" in page.text
    assert not any(k == "class" and "note" in v.split() for k, v in page.attributes)


def test_matrix_and_waterfall_numbers(bbm92: dict[str, Any]) -> None:
    text = Page(render(bbm92)).text
    for row in bbm92["matrix"]:
        for count in row:
            assert f"{count:,}" in text
    assert "66.59 %" in text  # 3793 of 3793 + 195 + 1103 + 605
    assert "3,100,000 (37.80 %, 31.00 %)" in text  # of 8,200,000 gated, of 10,000,000 tags


def test_plots_by_protocol(bb84: dict[str, Any], bbm92: dict[str, Any]) -> None:
    labels = {
        name: {v for k, v in Page(render(report)).attributes if k == "aria-label"}
        for name, report in (("bb84", bb84), ("bbm92", bbm92))
    }
    assert any("arrival" in v for v in labels["bb84"])
    assert any("every pair" in v for v in labels["bbm92"])
    assert any("Coincidence" in v for v in labels["bbm92"])
    for found in labels.values():
        assert any("QBER against time" in v for v in found)
        assert any("Clock offset" in v for v in found)


@pytest.mark.parametrize("reason", list(AbortReason))
def test_every_abort_is_told_in_words(reason: AbortReason, aborted: dict[str, Any]) -> None:
    aborted["abort"]["reason"] = reason.value
    text = Page(render(aborted)).text
    sentence = re.search(r"No key: (.*?) 0 bit/s", text)
    assert sentence is not None
    assert "_" not in sentence[1]
    assert len(sentence[1].split()) >= 3
    assert f"Reason: {reason.value}" in text
    assert "offset range (s) 0.01" in text


def test_conditions_are_shown(bb84: dict[str, Any]) -> None:
    page = render(bb84)
    for words in ("Changed beyond accident: qber", "131.5", "Ten equal segments", "1,712,345", "3 hops", "92.87 %"):
        assert words in page
    for part in ("drift", "mismatch", "accumulated"):
        bb84[part] = None
    assert "Conditions" not in render(bb84)


def test_zero_without_abort_is_no_key(bb84: dict[str, Any]) -> None:
    bb84["secret_bits"] = 0
    assert "No key: the secret length is zero" in Page(render(bb84)).text


def test_a_test_key_is_never_called_secret(bb84: dict[str, Any]) -> None:
    bb84 |= {"secret_bits": 0, "test_bits": 5000, "claim": {"level": "none", "failed": [], "passed": []}}
    text = Page(render(bb84)).text
    assert "Test key of 5,000 bits, not secret" in text
    assert "5,000 secret" not in text


def test_what_reading_met(bb84: dict[str, Any], bbm92: dict[str, Any]) -> None:
    text = Page(render(bb84)).text
    assert "Bob's recording: the last record was cut" in text
    assert "Bob 10,000,000 17 0.02 4,000" in text
    assert "on channel 2 6,000,000" in text
    text = Page(render(bbm92)).text
    assert "tags Alice Bob" in text
    assert "on channel 2 – 6,000,000" in text
    assert "delay residual (ps) 61" in text


def test_disagreeing_recount_is_shown(bb84: dict[str, Any]) -> None:
    bb84["ledger_recount"]["agrees"] = False
    assert "does not agree with the ledger" in Page(render(bb84)).text


def test_any_part_may_be_null(bb84: dict[str, Any]) -> None:
    bb84["plots"], bb84["clock"]["time_s"] = {}, []  # no figures: they have a test of their own
    for path in leaves(bb84):
        without = replaced(bb84, path, None)
        Page(render(without))
        if isinstance(path[-1], str):
            place = without
            for key in path[:-1]:
                place = place[key]
            del place[path[-1]]
            Page(render(without))


@pytest.mark.parametrize("name", ["bb84", "bbm92"])
def test_any_part_of_the_plots_may_be_null(name: str, request: pytest.FixtureRequest) -> None:
    plots = request.getfixturevalue(name)["plots"]
    for path in leaves(plots):
        Page(render({"plots": {path[0]: replaced(plots, path, None)[path[0]]}}))
    for name_of_series in ("time_s", "offset_s", "rate_ppm"):
        Page(render({"clock": request.getfixturevalue(name)["clock"] | {name_of_series: None}}))
    Page(render({"plots": mapped(plots, lambda v: 0 if isinstance(v, int | float) else v)}))
    Page(render({"plots": {k: {} if isinstance(v, dict) else [] for k, v in plots.items()}}))


def test_empty_report() -> None:
    assert "No key" in Page(render({})).text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 10**40, 1e300, True, "text"])
def test_odd_numbers_do_no_harm(value: Json, bb84: dict[str, Any]) -> None:
    bb84["plots"] = {"waterfall": bb84["plots"]["waterfall"]}
    page = Page(render(mapped(bb84, lambda v: value if isinstance(v, int | float) else v)))
    assert not re.search(r"\b(nan|inf)\b", page.text)


def test_plots_survive_nan(bb84: dict[str, Any]) -> None:
    for part in ("arrival", "series"):
        broken = mapped(bb84["plots"][part], lambda v: float("nan") if isinstance(v, int | float) else v)
        Page(render({"plots": {part: broken}}))
    gaps = copy.deepcopy(bb84)
    gaps["plots"]["series"]["qber"][::2] = [None] * 50
    assert "QBER against time" in render(gaps)


@pytest.mark.parametrize("name", ["bb84", "aborted"])
def test_hostile_strings_are_escaped(name: str, request: pytest.FixtureRequest) -> None:
    report = mapped(request.getfixturevalue(name), lambda v: HOSTILE if isinstance(v, str) else v)
    report["versions"] = {HOSTILE: HOSTILE}
    if report["key_length"]:
        report["key_length"]["terms"] = {HOSTILE: 1.0}
        report["qber"]["by_basis"] = {HOSTILE: 0.1}
    page = Page(render(report))
    assert "script" not in page.tags
    assert not any(k.startswith("on") for k, _ in page.attributes)
    assert "<script>alert(1)</script>" in page.text


def test_pure_and_repeatable(bbm92: dict[str, Any]) -> None:
    before = copy.deepcopy(bbm92)
    assert render(bbm92) == render(bbm92)
    assert bbm92 == before


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = "import sys, qkdpp.report.html, qkdpp.report.text; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_format_page_names_every_field(bb84: dict[str, Any], bbm92: dict[str, Any]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats" / "report.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", page))))
    free = {"terms", "evidence", "versions", "counters"}
    for report in (bb84, bbm92):
        named = {p[-1] for p in leaves(report) if isinstance(p[-1], str) and not free & set(p[:-1])}
        assert named - documented == set()
