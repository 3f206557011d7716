"""Concentration bounds against exact binomial tails, published closed forms and simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import lambertw

from qkdpp.estimation.concentration import binomial_lower, mean_lower, mean_upper

KINDS = ("kl", "chernoff", "hoeffding")
COUNTS = [(0, 50), (1, 50), (3, 1000), (50, 50), (49, 50), (120, 400), (5_000, 10_000), (70, 10**6), (10**6, 10**8)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("x", "n"), COUNTS)
@pytest.mark.parametrize("eps", [1e-2, 1e-10, 6e-23])
def test_exact_binomial_tail_never_exceeds_the_promised_failure(kind, x, n, eps):
    """At the bound, an outcome this far off has at most the promised probability (equal success probabilities)."""
    upper, lower = mean_upper(kind, x, n, eps), mean_lower(kind, x, n, eps)
    if upper < n:
        assert stats.binom.cdf(x, n, upper / n) <= eps * (1 + 1e-6)
    if lower > 0:
        assert stats.binom.sf(x - 1, n, lower / n) <= eps * (1 + 1e-6)


@pytest.mark.parametrize(("x", "n"), [(120, 400), (5_000, 10_000), (70, 10**6), (10**6, 10**8)])
def test_relative_entropy_bound_is_close_to_the_exact_interval(x, n):
    """Clopper-Pearson is the ceiling for equal probabilities: KL stays outside it, by a few per cent of its width."""
    eps = 1e-10
    ceiling = stats.beta.ppf(1 - eps, x + 1, n - x) * n
    floor = stats.beta.ppf(eps, x, n - x + 1) * n
    upper, lower = mean_upper("kl", x, n, eps), mean_lower("kl", x, n, eps)
    assert ceiling < upper < ceiling + 0.15 * (ceiling - x)
    assert floor - 0.15 * (x - floor) < lower < floor


@given(st.integers(1, 10**7), st.floats(0, 1), st.floats(1e-30, 0.2))
def test_relative_entropy_is_never_looser_than_the_others(n, share, eps):
    x = round(share * n)
    slack = 1e-9 * n + 1e-9
    for other in ("chernoff", "hoeffding"):
        assert mean_upper("kl", x, n, eps) <= mean_upper(other, x, n, eps) + slack
        assert mean_lower("kl", x, n, eps) >= mean_lower(other, x, n, eps) - slack


@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.integers(0, 10**6), st.floats(1e-25, 0.5))
def test_bounds_enclose_the_count_and_stay_possible(kind, x, more, eps):
    n = x + more
    lower, upper = mean_lower(kind, x, n, eps), mean_upper(kind, x, n, eps)
    assert 0 <= lower <= x <= upper <= n
    assert mean_lower(kind, x, n, eps / 10) <= lower
    assert mean_upper(kind, x, n, eps / 10) >= upper


@pytest.mark.parametrize("x", [1, 7, 300, 12_345, 10**7])
def test_chernoff_is_the_lambert_function_of_the_literature(x):
    """Zhang et al. 2017, one-sided, and inside the closed forms of Yin et al. 2020."""
    b, n = -math.log(1e-10), 10 * x + 10**4
    argument = -math.exp(-1 - b / x)
    if argument > -1 / math.e * (1 - 1e-6):
        exact_low, exact_up = (-x * lambertw(argument, k).real for k in (0, -1))
        assert mean_upper("chernoff", x, n, 1e-10) == pytest.approx(exact_up, rel=1e-6)
        assert mean_lower("chernoff", x, n, 1e-10) == pytest.approx(exact_low, rel=1e-6)
    assert mean_upper("chernoff", x, n, 1e-10) <= x + b + math.sqrt(2 * b * x + b * b)
    assert mean_lower("chernoff", x, n, 1e-10) >= x - b / 2 - math.sqrt(2 * b * x + b * b / 4)


def test_nothing_seen_still_gives_a_finite_bound():
    b = -math.log(1e-10)
    assert mean_upper("chernoff", 0, 10**6, 1e-10) == pytest.approx(b)
    assert mean_upper("kl", 0, 10**6, 1e-10) == pytest.approx(b, rel=1e-4)
    assert [mean_lower(kind, 0, 10**6, 1e-10) for kind in KINDS] == [0.0, 0.0, 0.0]
    assert [mean_upper(kind, 0, 0, 1e-10) for kind in KINDS] == [0.0, 0.0, 0.0]


def test_hoeffding_uses_the_total_of_the_basis():
    """The deviation comes from all detections of the basis, not from those of one label."""
    assert mean_upper("hoeffding", 100, 10_000, 1e-10) == pytest.approx(100 + math.sqrt(10_000 * 23.0259 / 2), abs=0.01)


@pytest.mark.parametrize(("x", "n", "eps"), [(-1, 5, 0.1), (6, 5, 0.1), (1, 5, 0.0), (1, 5, 1.0)])
def test_impossible_requests_are_refused(x, n, eps):
    with pytest.raises(ValueError, match="no bound"):
        mean_upper("kl", x, n, eps)


@settings(max_examples=50)
@given(st.integers(1, 10**7), st.floats(0.01, 0.99), st.sampled_from([1e-2, 1e-10, 1e-20]))
def test_binomial_shortfall_against_the_exact_tail(n, p, eps):
    """The count falls below the bound with at most the promised probability, and the bound is not idle."""
    bound = binomial_lower(n, p, eps)
    assert stats.binom.cdf(bound - 1, n, p) <= eps * (1 + 1e-6)
    assert bound >= math.floor(n * p - math.sqrt(-math.log(eps) * n / 2)) - 1


def test_binomial_shortfall_at_the_edges():
    assert binomial_lower(1000, 1.0, 1e-10) == 1000
    assert binomial_lower(0, 0.5, 1e-10) == 0
    assert binomial_lower(10, 0.5, 1e-10) == 0


BLOCKS = 10_000
PROBABILITIES = np.repeat([0.9, 0.3, 0.05, 0.005], [50, 150, 800, 1000])
"""Labels of photon-number classes: independent, far from equal probabilities."""


def failures(bound, eps: float, blocks: int = BLOCKS) -> int:
    """Blocks whose true mean lies above the upper bound computed from the block's count."""
    counts = sum(
        np.random.default_rng(7).binomial(n, p, size=blocks)
        for p, n in zip(*np.unique(PROBABILITIES, return_counts=True), strict=True)
    )
    bounds = {x: bound(int(x), PROBABILITIES.size, eps) for x in np.unique(counts)}
    return sum(bounds[x] < PROBABILITIES.sum() for x in counts)


def too_many(found: int, eps: float, blocks: int = BLOCKS) -> bool:
    """Whether so many failures are incompatible with a failure probability of ``eps`` (one-sided, 1e-6)."""
    return bool(stats.binom.sf(found - 1, blocks, eps) < 1e-6)


@pytest.mark.parametrize("eps", [0.1, 0.01])
@pytest.mark.parametrize("kind", KINDS)
def test_simulated_failures_upper(kind, eps):
    assert not too_many(failures(lambda x, n, e: mean_upper(kind, x, n, e), eps), eps)


@pytest.mark.parametrize("eps", [0.1, 0.01])
@pytest.mark.parametrize("kind", KINDS)
def test_simulated_failures_lower(kind, eps):
    """Lower side: the mirrored count ``n - x`` has the mirrored bound."""
    found = failures(lambda x, n, e: 2 * PROBABILITIES.sum() - mean_lower(kind, x, n, e), eps)
    assert not too_many(found, eps)


@pytest.mark.parametrize("eps", [0.1, 0.01])
def test_the_simulation_catches_a_wrong_formula(eps):
    """Trap: a Hoeffding deviation from the label's own count instead of the basis total, here of a rare label."""
    rng = np.random.default_rng(11)
    counts = rng.binomial(2000, 0.03, size=BLOCKS)
    wrong = sum(x + math.sqrt(x * -math.log(eps) / 2) < 60 for x in counts)
    right = sum(x + math.sqrt(2000 * -math.log(eps) / 2) < 60 for x in counts)
    assert too_many(wrong, eps)
    assert not too_many(right, eps)
