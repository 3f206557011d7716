"""Entangled pairs: rates, correlations and errors against their formulas."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from qkdpp.core.tags import TimeTags, concatenate
from qkdpp.scenarios import scenario, scenario_file
from qkdpp.sim.pairs import PairRun


def laboratory(**changes: Any) -> scenario.Scenario:
    receiver = {"kind": "passive", "p_z": 0.6, "efficiency": [0.5] * 4, "dark_rate_hz": [0.0] * 4}
    document = {
        "title": "test",
        "protocol": "bbm92",
        "duration_s": 0.2,
        "pairs": {"pair_rate_hz": 2e6, "visibility_z": 0.96, "visibility_x": 0.9, **changes.get("pairs", {})},
        "alice": {"loss_db": 3.0, "receiver": {**receiver, **changes.get("alice", {})}},
        "bob": {"loss_db": 1.0, "receiver": {**receiver, **changes.get("bob", {})}, "clock": changes.get("clock", {})},
        "timing": {"method": "pairs", "gate_ps": 1000.0},
    }
    plan = msgspec.convert(document, scenario.Scenario, strict=False)
    scenario_file.check(plan)
    return plan


def run(plan: scenario.Scenario, seed: int) -> tuple[PairRun, TimeTags, TimeTags]:
    result = PairRun(plan, seed)
    chunks = list(result.tags())
    return result, concatenate([a for a, _ in chunks]), concatenate([b for _, b in chunks])


def test_singles_and_pairs_have_their_rates() -> None:
    result, alice, bob = run(laboratory(), 1)
    made = 2e6 * 0.2
    eta_a, eta_b = 0.5 * 10**-0.3, 0.5 * 10**-0.1
    for tags, eta in ((alice, eta_a), (bob, eta_b)):
        assert abs(len(tags) - made * eta) < 4 * math.sqrt(made * eta)
    recorded = result.matrix.sum()
    assert abs(recorded - made * eta_a * eta_b) < 4 * math.sqrt(made * eta_a * eta_b)


def test_correlations_follow_bases_and_visibility() -> None:
    result, _, _ = run(laboratory(), 2)
    n = result.matrix.sum()
    p_basis = np.array([0.6, 0.4])
    expected = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            same_basis, same_bit = i >> 1 == j >> 1, i & 1 == j & 1
            visibility = (0.96, 0.9)[i >> 1]
            p_bits = (1 + visibility if same_bit else 1 - visibility) / 4 if same_basis else 0.25
            expected[i, j] = n * p_basis[i >> 1] * p_basis[j >> 1] * p_bits
    assert (np.abs(result.matrix - expected) < 4.5 * np.sqrt(expected)).all()


def test_unequal_detectors_thin_their_own_channel() -> None:
    _, alice, _ = run(laboratory(alice={"efficiency": [0.5, 0.4, 0.3, 0.2]}), 3)
    made = 2e6 * 0.2 * 10**-0.3
    for channel, p in zip((1, 2, 3, 4), (0.3 * 0.5, 0.3 * 0.4, 0.2 * 0.3, 0.2 * 0.2), strict=True):
        n = alice.of_channel(channel).size
        assert abs(n - made * p) < 4 * math.sqrt(made * p)


def test_coincidences_sit_at_the_difference_of_clocks_and_delays() -> None:
    clock = {"offset_s": 0.03, "rate_ppm": 0.0}
    delays = {"delays_ps": [100.0, 200.0, 300.0, 400.0], "jitter_ps": 50.0}
    result, alice, bob = run(laboratory(bob=delays, clock=clock), 4)
    difference = round(result.clock_difference_s() * 1e12)
    assert difference == pytest.approx(0.02e12)
    for channel, delay in zip((1, 2, 3, 4), (100, 200, 300, 400), strict=True):
        a, b = alice.of_channel(channel), bob.of_channel(channel) - difference
        nearest = b[np.searchsorted(b, a - 1000).clip(max=b.size - 1)] - a
        near = nearest[np.abs(nearest - delay) < 400]
        assert near.size > 1000
        assert near.mean() == pytest.approx(delay, abs=5 * 50 / math.sqrt(near.size) + 1)


def test_accidentals_between_independent_streams() -> None:
    """With dark counts only, coincidences in a window w come at rate r_A r_B w."""
    dark = {"dark_rate_hz": [1e5] * 4}
    _, alice, bob = run(laboratory(pairs={"pair_rate_hz": 0.0}, alice=dark, bob=dark), 5)
    window = 20_000
    counts = np.searchsorted(bob.ticks, alice.ticks + window // 2) - np.searchsorted(
        bob.ticks, alice.ticks - window // 2
    )
    expected = 4e5 * 4e5 * window * 1e-12 * 0.2
    assert abs(counts.sum() - expected) < 4 * math.sqrt(expected)


def test_same_seed_same_tags() -> None:
    first, second, other = (run(laboratory(alice={"after_pulse": 0.02}), seed)[1] for seed in (6, 6, 7))
    np.testing.assert_array_equal(first.ticks, second.ticks)
    np.testing.assert_array_equal(first.channel, second.channel)
    assert not np.array_equal(first.ticks[:1000], other.ticks[:1000])
