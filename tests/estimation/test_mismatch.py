"""Unequal detectors: the published correction and its limits; adversaries in ``test_mismatch_adversary.py``."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkdpp.core.errors import ConfigError
from qkdpp.estimation import (
    Counts,
    Efficiencies,
    KeyLength,
    Security,
    key_length_bb84,
    key_length_bbm92,
    key_lengths_bb84_both,
    mismatched_rate,
    untagged_average,
)
from qkdpp.estimation.claims import correction
from qkdpp.estimation.concentration import binomial_lower

EQUAL = Efficiencies(values=(0.5, 0.5, 0.5, 0.5), tolerance=0.0)


def length(counts: Counts, *receivers: Efficiencies, **changes) -> KeyLength:
    return key_length_bb84(
        counts, leak_bits=0, verification_bits=0, dropped_bits=0, security=Security(**changes), receivers=receivers
    )


@pytest.mark.parametrize(("mismatch", "cost"), [(0.05, 0.03), (0.20, 0.13)])
def test_published_costs(mismatch, cost):
    """A6 of the specification: 5 % mismatch about 3 %, 20 % about 13 % of the rate (QBER 1 %, f 1.04)."""
    whole = mismatched_rate(1.0, 0.01, 0.01, f_ec=1.04)
    left = mismatched_rate(untagged_average(1.0, 1.0 - mismatch), 0.01, 0.01, f_ec=1.04)
    assert 1 - left / whole == pytest.approx(cost, abs=0.006)


def test_the_rate_by_hand():
    """D = 2 * 0.4 / (0.5 + 0.4) = 8/9; r = 8/9 (1 - h(9/8 * 0.04)) - 1.1 h(0.04)."""
    h = lambda x: -x * math.log2(x) - (1 - x) * math.log2(1 - x)  # noqa: E731
    found = mismatched_rate(untagged_average(0.5, 0.4), 0.04, 0.04, f_ec=1.1)
    assert found == pytest.approx(8 / 9 * (1 - h(0.045)) - 1.1 * h(0.04), rel=1e-12)


def test_the_rate_ends_at_zero():
    assert mismatched_rate(0.1, 0.06, 0.06, f_ec=1.0) == 0.0  # e/D above one half: h stays at 1
    assert mismatched_rate(1.0, 0.2, 0.2, f_ec=1.0) == 0.0


@pytest.mark.parametrize("values", [(0.5, 0.5, 0.5, 0.0), (0.5, 0.5, 0.5, 1.1), (0.5, 0.5, 0.5, math.nan)])
def test_efficiencies_that_are_none(values):
    with pytest.raises(ConfigError, match="efficiencies"):
        Efficiencies(values=values)


@pytest.mark.parametrize("tolerance", [-0.01, 0.5, math.nan])
def test_tolerances_that_are_none(tolerance):
    with pytest.raises(ConfigError, match="tolerance"):
        Efficiencies(values=(0.5, 0.5, 0.5, 0.5), tolerance=tolerance)


def test_equal_detectors_cost_nothing(link):
    assert length(link(1e9), EQUAL).value == length(link(1e9)).value
    assert len(length(link(1e9), EQUAL).bounds) == 13


def test_one_statement_more_for_every_basis_with_tagged_detections(link):
    found = length(link(1e9), Efficiencies(values=(0.5, 0.4, 0.5, 0.5), tolerance=0.0))
    assert {b.name for b in found.bounds} >= {"untagged single photons Z", "untagged single photons X"}
    assert sum(b.eps for b in found.bounds) == pytest.approx((1e-10 / 4) ** 2)
    assert any("0.8000" in note for note in found.notes)


def test_the_weakest_of_all_four_counts_in_either_basis():
    """Untagged detection must not depend on the basis: a weak X detector tags in Z too."""
    receiver = Efficiencies(values=(0.6, 0.6, 0.6, 0.3), tolerance=0.0)
    assert receiver.untagged(0) == receiver.untagged(1) == 0.5


def test_the_tolerance_is_taken_against_us():
    assert Efficiencies(values=(0.5, 0.5, 0.5, 0.5), tolerance=0.02).untagged(0) == pytest.approx(0.98 / 1.02)


def test_beyond_the_bound_nothing_is_corrected():
    mild, gross = Efficiencies(values=(0.5, 0.3, 0.5, 0.5)), Efficiencies(values=(0.5, 0.24, 0.5, 0.5), tolerance=0.0)
    assert correction((mild,)) == (mild,)
    assert correction((gross,)) == correction((mild, mild)) == ()  # of pairs, what both receivers leave together


def test_both_detectors_of_a_pair_must_be_untagged():
    receiver = Efficiencies(values=(0.5, 0.45, 0.5, 0.5), tolerance=0.0)
    costs = {"leak_bits": 0, "verification_bits": 0, "dropped_bits": 0, "security": Security()}
    one, two = (key_length_bbm92(100_000, 20_000, 200, receivers=(receiver,) * k, **costs) for k in (1, 2))
    assert one.single_photon_bits < 90_000
    assert two.single_photon_bits < 81_000
    assert two.value < one.value < key_length_bbm92(100_000, 20_000, 200, **costs).value


def test_the_printed_pair_formula_knows_no_correction():
    with pytest.raises(ConfigError, match="profile V"):
        key_length_bbm92(
            100, 100, 0, leak_bits=0, verification_bits=0, dropped_bits=0, security=Security(profile="L"),
            form="printed", receivers=(EQUAL,),
        )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(weak=st.floats(0.5, 1.0), weaker=st.floats(0.9, 1.0))
def test_a_weaker_detector_never_helps(link, weak, weaker):
    counts = link(1e9)
    values = [
        length(counts, Efficiencies(values=(1.0, 1.0, 1.0, eta), tolerance=0.0)).value for eta in (weak, weak * weaker)
    ]
    assert values[1] <= values[0]


def test_the_asymptotic_length_follows_the_ratio(link):
    """With unlimited data the correction is the ratio of the bound: singles and tested detections both shrink."""
    counts = link(1e9)
    found = length(counts, Efficiencies(values=(1.0, 0.8, 1.0, 0.8), tolerance=0.0))
    assert 0.7 * length(counts).secret_bits_asymptotic < found.secret_bits_asymptotic
    assert found.secret_bits_asymptotic < 0.8 * length(counts).secret_bits_asymptotic


def test_both_bases_keyed_swap_their_detectors(link):
    counts = link(1e9, p_z=(0.5, 0.5))
    costs = {name: (0, 0) for name in ("leak_bits", "verification_bits", "dropped_bits")}
    receiver = Efficiencies(values=(0.6, 0.6, 0.54, 0.54), tolerance=0.0)
    z, x = key_lengths_bb84_both(counts, security=Security(), receivers=(receiver,), **costs)
    assert z.single_photon_bits < 0.91 * x.single_photon_bits  # Z detections are tagged, those of the weak basis not


@pytest.mark.parametrize("eps", [0.1, 0.01])
def test_untagged_detections_are_as_many_as_claimed(eps):
    """The tail behind the statement: 10,000 drawn numbers of untagged detections."""
    rng = np.random.default_rng(11)
    n, ratio, blocks = 2_000, 0.8, 10_000
    bound = binomial_lower(n, ratio, eps)
    failures = int((rng.binomial(n, ratio, blocks) < bound).sum())
    assert failures <= eps * blocks + 3.1 * math.sqrt(eps * blocks)


@pytest.mark.parametrize(
    ("values", "tolerance", "basis", "expected"),
    [
        ((0.6, 0.4, 0.5, 0.5), 0.0, 0, (0.2, 0.2)),
        ((0.6, 0.4, 0.5, 0.5), 0.0, 1, (0.0, 0.0)),
        ((0.5, 0.5, 0.5, 0.5), 0.02, 0, (-0.02, 0.02)),
    ],
)
def test_explained_imbalance(values, tolerance, basis, expected):
    assert Efficiencies(values=values, tolerance=tolerance).imbalance(basis) == pytest.approx(expected)
