"""The division of eps_sec: what is promised stays the same, and a chosen division is never worse than the equal one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkdpp.core.errors import ConfigError
from qkdpp.estimation import (
    Counts,
    KeyLength,
    Security,
    Split,
    key_length_bb84,
    key_length_bbm92,
    optimised_split,
    optimised_split_bbm92,
)
from qkdpp.estimation.bb84 import statements_bb84

STATEMENTS = ("n_Z1 upper", "n_Z2 lower", "n_X3 upper", "m_X2 upper", "phase errors")


def length(counts: Counts, security: Security, leak: int = 0) -> KeyLength:
    return key_length_bb84(counts, leak_bits=leak, verification_bits=0, dropped_bits=0, security=security)


@settings(max_examples=40, deadline=None)
@given(
    smoothing=st.floats(1e-3, 0.499),
    weights=st.dictionaries(st.sampled_from(STATEMENTS), st.floats(1e-6, 1e6)),
    exponent=st.integers(6, 15),
)
def test_what_is_promised_does_not_depend_on_the_split(link, smoothing, weights, exponent):
    """2 kappa + eps_PA = eps_sec, and all statements together fail with probability kappa^2 at most."""
    security = Security(eps_sec=10.0**-exponent, split=Split(smoothing=smoothing, weights=weights))
    found = length(link(1e9), security)
    kappa = smoothing * security.eps_sec
    eps_pa = 2 ** (found.terms["privacy amplification"] / 2) / 2  # l loses 2 log2 (1 / (2 eps_PA))
    assert 2 * kappa + eps_pa == pytest.approx(security.eps_sec, rel=1e-9)
    assert sum(bound.eps for bound in found.bounds) <= kappa**2 * (1 + 1e-12)


def test_weights_move_failure_probability_between_statements(link):
    found = length(link(1e9), Security(split=Split(weights={"phase errors": 5.0})))
    eps = {bound.name: bound.eps for bound in found.bounds}
    assert eps["phase errors"] == pytest.approx(5 * eps["n_Z1 upper"])
    assert eps["n_Z1 upper"] == pytest.approx((1e-10 / 4) ** 2 / 17)


def test_the_default_split_is_the_equal_one(link):
    counts = link(1e9)
    names = [bound.name for bound in length(counts, Security()).bounds]
    spelt_out = Split(smoothing=0.25, weights=dict.fromkeys(names, 1.0))
    assert length(counts, Security(split=spelt_out)).value == length(counts, Security()).value


@pytest.mark.parametrize("smoothing", [0.0, 0.5, -0.1, 0.7, math.nan])
def test_a_smoothing_that_leaves_nothing_is_refused(smoothing):
    with pytest.raises(ConfigError, match="smoothing"):
        Split(smoothing=smoothing)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_a_weight_that_is_no_weight_is_refused(weight):
    with pytest.raises(ConfigError, match="phase errors"):
        Split(weights={"phase errors": weight})


def test_a_weight_for_a_statement_that_does_not_exist_is_refused(link):
    with pytest.raises(ConfigError, match="n_Y1 upper"):
        length(link(1e9), Security(split=Split(weights={"n_Y1 upper": 1.0})))


@pytest.mark.parametrize("split", [{"smoothing": 1e-180}, {"weights": {"phase errors": 5e-324}}])
def test_a_statement_without_any_failure_probability_is_refused_before_the_block(split):
    with pytest.raises(ConfigError, match="no failure probability"):
        statements_bb84((0.5, 0.1, 0.0), (0.6, 0.25, 0.15), Security(split=Split(**split)))


@pytest.mark.parametrize("profile", ["L", "T"])
def test_published_budgets_cannot_be_divided_anew(profile):
    with pytest.raises(ConfigError, match="profile V"):
        Security(profile=profile, split=Split(smoothing=0.4))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"p_z": (0.5, 0.5)},
        {"transmittance": 3e-5},
        {"intensities": (0.5, 0.08), "p_intensity": (0.8, 0.2)},
    ],
)
@pytest.mark.parametrize("detections", [3e4, 1e6, 6e7])
def test_a_chosen_split_is_never_worse_on_the_predicted_counts(link, detections, options):
    counts = link(1e10, **options)
    counts = counts.scaled(detections / counts.detections)
    chosen = optimised_split(counts, Security())
    assert length(counts, Security(split=chosen)).value >= length(counts, Security()).value


def test_a_satellite_pass_gains(link):
    """A million sifted bits, p_z 0.9: several per cent; the published budget of a block is not touched."""
    counts = link(1e10)
    counts = counts.scaled(1e6 / counts.detections)
    chosen = optimised_split(counts, Security(eps_sec=1e-9))
    equal, better = (length(counts, Security(eps_sec=1e-9, split=s), 50_000).value for s in (Split(), chosen))
    assert better > 1.03 * equal


def test_random_splits_do_not_beat_the_chosen_one(link):
    """The search ends at a maximum: of 200 splits around it none wins more than a thousandth."""
    counts = link(2e9)
    chosen = optimised_split(counts, Security())
    best = length(counts, Security(split=chosen)).value
    rng = np.random.default_rng(3)
    for _ in range(200):
        weights = {name: w * math.exp(rng.normal(0, 0.7)) for name, w in chosen.weights.items()}
        tried = Split(smoothing=0.5 * rng.beta(30, 1), weights=weights)
        assert length(counts, Security(split=tried)).value <= best * 1.001


def test_a_split_serves_counts_near_the_predicted_ones(link):
    """It is chosen for predictions: on a block that is 10 % worse it still does better than the equal one."""
    predicted, real = link(2e9), link(1.8e9, transmittance=3.6e-3, misalignment=0.006)
    chosen = optimised_split(predicted, Security())
    assert length(real, Security(split=chosen)).value > length(real, Security()).value


def test_pairs_have_only_the_smoothing_to_choose():
    chosen = optimised_split_bbm92(8_000, 2_000, 22, Security())
    assert chosen.smoothing > 0.25
    values = [
        key_length_bbm92(
            8_000, 2_000, 22, leak_bits=0, verification_bits=0, dropped_bits=0, security=Security(split=split)
        ).value
        for split in (Split(), chosen)
    ]
    assert values[1] > values[0]


def test_hopeless_counts_give_a_valid_split(link):
    counts = link(1e5, transmittance=1e-5)
    security = replace(Security(), split=optimised_split(counts, Security()))
    assert length(counts, security).secret_bits == 0
