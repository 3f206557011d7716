"""Entangled pairs: orders of magnitude of the specification, the printed formula, simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qkdpp.core.errors import InputError
from qkdpp.core.ledger import Rule
from qkdpp.estimation import Security, binary_entropy, key_length_bbm92, key_lengths_bbm92_both

PAIRS = {"n_key": 7_700, "n_test": 1_835, "test_errors": 20}
V = Security(eps_sec=1e-10, eps_cor=1e-12)


def length(n_key=7_700, n_test=1_835, test_errors=20, *, leak=0, verification=0, dropped=0, security=V, form="tight"):
    return key_length_bbm92(
        n_key,
        n_test,
        test_errors,
        leak_bits=leak,
        verification_bits=verification,
        dropped_bits=dropped,
        security=security,
        form=form,
    )


def test_orders_of_magnitude_of_the_specification():
    """n = 7,700, k = 1,835, 20 wrong, QBER 5.1 %: +2,770 and +430 bits (tight), +680 and below zero (printed).

    The first two figures fix what was charged: 2,425 bits with one side's parities, 2,340 more with both. 2,340 is
    1.045 times the Shannon limit of 7,700 bits at 5.1 %. The printed figure then follows without freedom:
    n (1 - h(lambda + mu)) = 3,215.8, with ln(4/eps_sec) in mu.
    """
    limit = 7_700 * binary_entropy(0.051)
    one_side, both = 2_425, 2_425 + 2_340
    assert 2_340 / limit == pytest.approx(1.045, abs=0.005)
    assert length(leak=one_side).value == pytest.approx(2_770, abs=10)
    assert length(leak=both, security=Security(rule=Rule.BOTH)).value == pytest.approx(430, abs=10)
    tag_and_rounding = math.log2(2 / 1e-12)
    printed = length(leak=one_side, form="printed")
    assert printed.value - tag_and_rounding == pytest.approx(3_215.8 - 2_425 - 66.4 - 40.9, abs=0.2)
    assert length(leak=both, form="printed").value < 0
    assert length(leak=both, form="printed").secret_bits == 0


def test_printed_deviation_by_hand():
    """mu = sqrt((n + k)/(n k) (k + 1)/k ln(4/eps)) = 0.1284 for these numbers."""
    mu = math.sqrt(9_535 / (7_700 * 1_835) * 1_836 / 1_835 * 24.412145)
    found = length(form="printed")
    assert found.phase_error_upper == pytest.approx(20 / 1_835 + mu, rel=1e-6)
    assert found.terms["privacy amplification"] == pytest.approx(-2 * math.log2(1e10))
    assert found.profile == "L"
    assert any("fixed-length" in note for note in found.notes)


def test_one_statement_takes_all_of_kappa_squared():
    (bound,) = length().bounds
    assert bound.eps == pytest.approx((1e-10 / 4) ** 2)
    assert "hypergeometric" in bound.inequality


@given(st.integers(0, 10_000), st.integers(0, 500), st.integers(0, 7_000))
@settings(max_examples=30)
def test_disclosed_and_dropped_bits_cost_one_bit_each(leak, verification, dropped):
    base = length().value
    found = length(leak=leak, verification=verification, dropped=dropped)
    assert found.value == pytest.approx(base - leak - verification - dropped, abs=1e-6)
    assert found.secret_bits == max(0, math.floor(found.value))


@settings(max_examples=60)
@given(st.integers(100, 50_000), st.integers(100, 20_000), st.floats(0, 0.2))
def test_monotone(n, k, rate):
    errors = round(rate * k)
    base = length(n, k, errors).value
    assert length(n, k, min(k, errors + 1)).value <= base + 1e-6
    assert length(n + 1, k, errors).value >= base - 1e-6
    assert length(n, k, errors, security=Security(eps_sec=1e-12)).value <= base
    assert length(n, k, errors, form="printed").value <= base + 1e-6 or errors > 0.1 * k
    assert base < n


@pytest.mark.parametrize("form", ["tight", "printed"])
@pytest.mark.parametrize(("n", "k", "e"), [(0, 0, 0), (0, 100, 1), (100, 0, 0), (100, 100, 100), (5, 5, 0)])
def test_edges_are_zero_and_finite(form, n, k, e):
    found = length(n, k, e, form=form)
    assert found.secret_bits == 0
    assert math.isfinite(found.value)
    assert 0 <= found.phase_error_upper <= 1


@pytest.mark.parametrize(("n", "k", "e"), [(-1, 5, 0), (5, -1, 0), (5, 5, -1), (5, 5, 6)])
def test_impossible_counts_are_refused(n, k, e):
    with pytest.raises(InputError):
        length(n, k, e)


def test_dropping_more_than_there_is_is_refused():
    with pytest.raises(InputError):
        length(dropped=7_701)


@pytest.mark.parametrize("form", ["tight", "printed"])
def test_too_few_pairs_say_how_many_would_do(form):
    found = length(700, 180, 2, leak=250, verification=129, form=form)
    assert found.secret_bits == 0
    assert found.detections_needed is not None
    factor = found.detections_needed / 880
    enough = length(
        round(700 * factor),
        round(180 * factor),
        round(2 * factor),
        leak=round(250 * factor),
        verification=129,
        form=form,
    )
    assert enough.value > 0
    assert enough.secret_bits_asymptotic > enough.secret_bits
    assert length(700, 180, 60, leak=250, form=form).detections_needed is None


def test_unlimited_data_is_reached_from_below():
    shares = []
    for factor in (1, 10, 100, 10_000):
        found = length(*(v * factor for v in PAIRS.values()), leak=2_340 * factor)
        shares.append(found.value / found.secret_bits_asymptotic)
    assert shares == sorted(shares)
    assert 0.98 < shares[-1] < 1


def test_both_bases_test_each_other_at_half_the_secrecy():
    z, x = key_lengths_bbm92_both(
        (5_000, 4_000), (60, 40), leak_bits=(600, 500), verification_bits=(129, 129), dropped_bits=(0, 0), security=V
    )
    half = Security(eps_sec=5e-11)
    assert z.value == length(5_000, 4_000, 40, leak=600, verification=129, security=half).value
    assert x.value == length(4_000, 5_000, 60, leak=500, verification=129, security=half).value
    assert z.eps_sec + x.eps_sec == V.eps_sec


def test_simulated_phase_errors_exceed_the_bound_no_more_often_than_promised():
    """A channel with a fixed set of 6 % errors, test positions drawn at random; evaluated where kappa^2 is 0.01."""
    security = Security(eps_sec=0.4)
    blocks, wrong = 10_000, 240
    seen = np.random.default_rng(1).hypergeometric(wrong, 4_000 - wrong, 800, size=blocks)
    bounds = {k: length(3_200, 800, int(k), security=security).phase_error_upper for k in np.unique(seen)}
    failures = sum((wrong - k) / 3_200 > bounds[k] for k in seen)
    assert length(security=security).bounds[0].eps == pytest.approx(0.01)
    assert stats.binom.sf(failures - 1, blocks, 0.01) > 1e-6
    assert failures > 10
