"""Every area at a tiny size: rows, units, JSON, page, and peers that compute the same as ours."""

from __future__ import annotations

import json
import math
import platform
import re
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from qkdpp.bench import AREAS, Effort, Report, correction, figure, hashes, run, tags, workloads
from qkdpp.bench.report import Machine
from qkdpp.bench.runner import Absent, PeerRow, Row
from qkdpp.bench.table import WIDTH, page, per_second
from qkdpp.core.bits import Bits
from qkdpp.core.errors import InputError
from qkdpp.core.ledger import Disclosure, Ledger
from qkdpp.estimation import binary_entropy
from qkdpp.reconciliation import Reconciled

UNITS = {"bit", "B", "call", "message", "tag", "slot", "flag"}
DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"


@pytest.fixture(scope="module")
def report() -> Report:
    return run(workloads([], Effort.TINY), Effort.TINY)


def test_every_area_has_rows(report):
    assert {row.area for row in report.rows} == set(AREAS)
    assert set(AREAS) == {"hash", "correction", "tags", "codec", "estimation", "whole"}


def test_rows_are_measured(report):
    for row in report.rows:
        assert row.unit in UNITS
        assert row.amount > 0
        assert 0 < row.lower <= row.rate <= row.upper
        assert math.isfinite(row.rate)
        assert row.rounds == 1
        assert (row.decibels is None) == (row.goal is None)


def test_json_round_trip(report):
    encoded = msgspec.json.encode(report)
    assert msgspec.json.decode(encoded, type=Report) == report
    plain = json.loads(encoded)
    assert plain["format"] == 1
    assert plain["effort"] == "tiny"
    assert platform.node() not in plain["machine"].values()


def test_every_field_of_the_json_is_documented():
    text = DOCUMENT.read_text(encoding="utf-8")
    for kind in (Report, Machine, Row, PeerRow, Absent):
        missing = [name for name in kind.__struct_fields__ if f"`{name}`" not in text]
        assert not missing, f"{kind.__name__}: {missing}"


def test_page_fits_the_terminal(report):
    lines = page(report).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert {line.split(" ")[0] for line in lines} >= set(AREAS)


@pytest.mark.parametrize("effort", Effort)
def test_labels_fit_their_columns(effort):
    for row in workloads([], effort):
        assert len(row.kernel) < 22, row.kernel
        assert len(row.size) < 26, row.size


def test_rates_are_printed_with_prefix_and_unit():
    assert per_second(512.3e6, "bit") == "512 Mbit/s"
    assert per_second(6.81e9, "B") == "6.81 GB/s"
    assert per_second(47.25e3, "call") == "47.2 kcall/s"
    assert per_second(3.0, "call") == "3.00 call/s"


def test_unknown_area():
    with pytest.raises(InputError, match=re.escape("AREA speed: no such area; choose from hash, correction, tags,")):
        workloads(["hash", "speed"], Effort.TINY)


def test_areas_in_the_order_asked_each_once():
    found = dict.fromkeys(row.area for row in workloads(["codec", "hash", "codec"], Effort.TINY))
    assert list(found) == ["codec", "hash"]


def test_absent_peers_stand_below_the_tables(report):
    absent = Absent(peer="thing", install="pip install thing")
    rows = tuple(msgspec.structs.replace(row, absent=(absent,)) for row in report.rows)
    text = page(msgspec.structs.replace(report, rows=rows))
    assert text.count("thing: pip install thing") == 1


# --- correction: the figures of a run -------------------------------------------------------------------------------


def reconciled(key: Bits, suspects: tuple[int, ...]) -> Reconciled:
    return Reconciled(key=key, pattern=None, frame_bits=128, n_frames=3, corrected=0, rounds=7, suspect_frames=suspects)


def key_with(ones: list[int]) -> Bits:
    array = np.zeros(3 * 128, dtype=np.uint8)
    array[ones] = 1
    return Bits.from_array(array)


@pytest.mark.parametrize(("left", "suspects"), [([130], ()), ([], (1,)), ([130], (1,))])
def test_a_failed_frame_costs_its_leak_and_loses_its_bits(left, suspects):
    """Three frames with 2, 3 and 4 errors; the second fails, noticed or not."""
    alice = key_with([])
    keys = correction.Keys(alice=alice, bob=key_with([0, 1, 130, 131, 132, 300, 301, 302, 303]), qber=0.02)
    ledger = Ledger()
    ledger.book("reconciliation", "alice", Disclosure.PARITY, 70)
    ledger.book("reconciliation", "bob", Disclosure.PARITY, 20)
    ledger.book("reconciliation", "bob", Disclosure.PATTERN, 70)
    done = correction.Corrected(
        alice=reconciled(alice, suspects), bob=reconciled(key_with(left), suspects), sent=[], ledger=ledger
    )
    found = correction.efficiency(keys, done)
    assert found["f"] == pytest.approx(90 / (256 * binary_entropy(9 / 384)))
    assert found["over log2 C"] == pytest.approx(90 / sum(math.log2(math.comb(128, k)) for k in (2, 3, 4)))
    assert (found["failed frames"], found["frames"], found["round trips"]) == (1.0, 3.0, 7.0)
    if found["f verified"] is not None:
        assert found["f verified"] > found["f"]


def test_figures_of_real_conversations(report):
    for row in report.rows:
        if row.area == "correction":
            assert row.figures["failed frames"] == 0
            assert 1.0 < row.figures["f"] < row.figures["f verified"]
            assert row.figures["over log2 C"] > 1.0
            assert row.figures["messages"] >= 2 * row.figures["round trips"]


def test_the_keys_have_the_errors_they_claim():
    row = workloads(["correction"], Effort.QUICK)[4]
    keys = row.prepare()
    expected = row.amount * keys.qber
    assert abs((keys.alice ^ keys.bob).count_ones() - expected) < 6 * math.sqrt(expected)


@pytest.mark.parametrize("suffix", figure.SUFFIXES)
def test_figure(report, tmp_path, suffix):
    path = tmp_path / f"correction{suffix}"
    figure.write(report, path)
    assert path.stat().st_size > 5000
    if suffix == ".svg":
        drawn = path.read_text(encoding="utf-8")
        for words in ("error rate (%)", "Mbit/s", "cascade", "hamming, goal"):
            assert words in drawn


# --- peers compute the same as ours ---------------------------------------------------------------------------------


def peer_and_ours(row, name):
    data = row.prepare()
    peer = next(p for p in row.peers if p.name == name)
    try:
        job = peer.prepare(data)
    except ImportError:
        pytest.skip(f"{name} is not installed: {peer.install}")
    return job(), row.run(data)


@pytest.mark.parametrize("name", ["scipy FFT", "gf2x"])
def test_toeplitz_peers_give_the_same_bits(name):
    row = workloads(["hash"], Effort.TINY)[0]
    theirs, ours = peer_and_ours(row, name)
    ours = Bits(ours, row.amount // 2)
    assert ours.equals(theirs if isinstance(theirs, Bits) else Bits.from_array(theirs.astype(np.uint8)))


def test_galois_gives_the_same_hash():
    row = next(row for row in hashes.workloads(Effort.TINY) if row.kernel == "poly_hash")
    theirs, ours = peer_and_ours(row, "galois")
    assert theirs == ours


def test_ptufile_reads_the_same_times():
    row = next(row for row in tags.workloads(Effort.TINY) if row.kernel == "read T2")
    theirs, ours = peer_and_ours(row, "ptufile")
    photons = theirs[theirs["channel"] >= 0]
    assert np.array_equal(photons["time"].astype(np.int64), ours.ticks)


@pytest.mark.parametrize("name", ["tomtag, count", "tomtag, with tags"])
def test_tomtag_finds_the_same_number_of_pairs(name):
    """Events are far apart here, so every rule for the choice of partners gives the same pairs."""
    row = next(row for row in tags.workloads(Effort.TINY) if row.kernel == "match pairs")
    theirs, ours = peer_and_ours(row, name)
    assert (theirs if isinstance(theirs, int) else len(theirs[0])) == ours[0].size


@pytest.mark.parametrize("name", ["TNO Cascade", "TNO Winnow"])
def test_tno_corrects_most_errors(name):
    row = next(r for r in workloads(["correction"], Effort.QUICK) for p in r.peers if p.name == name)
    data = row.prepare()
    peer = row.peers[0]
    try:
        job = peer.prepare(data)
    except ImportError:
        pytest.skip(f"{name} is not installed: {peer.install}")
    for _ in range(2):
        done = job()
        assert done.input_error > 0
        assert done.output_error < done.input_error


def test_seeds_of_batches_have_rising_edges():
    _, messages, edges = hashes.workloads(Effort.TINY)[-1].prepare()
    assert all(b - a == 64 for a, b in pairwise(edges.tolist()))
    assert edges[-1] == len(messages)


def test_the_recording_has_the_tags_it_claims():
    """Another NumPy may draw a little differently."""
    row = workloads(["whole"], Effort.QUICK)[-1]
    recorded = row.prepare()
    outcome = row.run(recorded)
    figures = row.figures(recorded, outcome)
    assert figures["tags"] == pytest.approx(row.amount, rel=0.01)
    assert outcome.aborted is None or figures["secret bits"] == 0
