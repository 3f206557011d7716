"""The hypergeometric bound against exact sums, its monotonicity, and simulated truth."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qkdpp.estimation.phase_error import gamma_as_printed, log_hypergeometric_cdf, phase_error_upper
from qkdpp.estimation.security import error_penalty


def exact_cdf(k: int, population: int, marked: int, drawn: int) -> Fraction:
    ways = sum(math.comb(marked, j) * math.comb(population - marked, drawn - j) for j in range(k + 1))
    return Fraction(ways, math.comb(population, drawn))


def exact_largest(errors: int, observed: int, unobserved: int, tail: float) -> int:
    """Largest number of marked items compatible with the sample, by trying them all."""
    population = observed + unobserved
    fits = [
        marked
        for marked in range(errors, errors + unobserved + 1)
        if exact_cdf(errors, population, marked, observed) > Fraction(tail)
    ]
    return max(fits)


@settings(max_examples=60)
@given(st.integers(1, 400), st.data())
def test_tail_equals_the_sum_of_whole_numbers(population, data):
    marked = data.draw(st.integers(0, population))
    drawn = data.draw(st.integers(1, population))
    k = data.draw(st.integers(0, min(marked, drawn)))
    exact = exact_cdf(k, population, marked, drawn)
    value, rounding = log_hypergeometric_cdf(k, population, marked, drawn)
    if exact == 0:
        assert value == -math.inf
    else:
        expected = math.log(exact.numerator) - math.log(exact.denominator)
        assert value == pytest.approx(expected, abs=1e-9)
        assert rounding < 1e-9


@pytest.mark.parametrize(
    ("k", "population", "marked", "drawn"),
    [(20, 9_535, 290, 1_835), (100, 10**6, 20_500, 10**4), (40, 10**6, 9_000, 10**4), (10**5, 10**8, 1_020_000, 10**7)],
)
def test_tails_down_to_1e_10_and_beyond_agree_with_scipy(k, population, marked, drawn):
    value, rounding = log_hypergeometric_cdf(k, population, marked, drawn)
    assert value < math.log(1e-8)
    assert value == pytest.approx(stats.hypergeom.logcdf(k, population, marked, drawn), abs=1e-5)
    assert rounding < 1e-4


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([0.1, 1e-3, 1e-10]), st.data())
def test_bound_is_the_largest_compatible_number_of_errors(observed, unobserved, tail, data):
    """Never below the exact bound, and above it by less than one error."""
    errors = data.draw(st.integers(0, observed - 1))
    exact = exact_largest(errors, observed, unobserved, tail) - errors
    found = phase_error_upper(errors, observed, unobserved, tail) * unobserved
    assert exact - 1e-9 <= found <= exact + 1 + 1e-9


SAMPLES = st.tuples(st.integers(0, 60), st.integers(70, 5_000), st.integers(10, 50_000))


@settings(max_examples=200)
@given(SAMPLES, st.sampled_from([0.01, 1e-10, 6e-22]))
def test_bound_may_be_evaluated_at_bounds_of_its_arguments(sample, tail):
    """More errors, fewer tested detections and a smaller tail never lower it."""
    errors, observed, unobserved = sample
    phi = phase_error_upper(errors, observed, unobserved, tail)
    slack = 1e-9
    assert phase_error_upper(errors + 1, observed, unobserved, tail) >= phi - slack
    assert phase_error_upper(errors, observed - 1, unobserved, tail) >= phi - slack
    assert phase_error_upper(errors, observed, unobserved, tail / 100) >= phi - slack


@settings(max_examples=200)
@given(SAMPLES, st.sampled_from([1e-10, 6e-22]))
def test_key_bits_grow_with_the_single_photons(sample, tail):
    """``n (1 - h(phi(n)))`` does not fall when a single-photon detection is added: no sawtooth."""
    errors, observed, unobserved = sample

    def bits(n: int) -> float:
        return n * (1 - error_penalty(phase_error_upper(errors, observed, n, tail)))

    assert bits(unobserved + 1) >= bits(unobserved) - 1e-7


@pytest.mark.parametrize(("errors", "observed", "unobserved"), [(0, 0, 100), (5, 5, 100), (3, 100, 0), (7, 5, 100)])
def test_where_nothing_is_known_the_rate_is_one(errors, observed, unobserved):
    assert phase_error_upper(errors, observed, unobserved, 1e-10) == 1.0


def test_no_errors_seen_is_not_no_errors():
    """One error in eleven lands in the sample: K errors are all missed with probability below (10/11)^K."""
    most = 20 * math.log(10) / math.log(11 / 10)
    assert 0.97 * most < 10_000 * phase_error_upper(0, 1_000, 10_000, 1e-20) < most


def test_hundred_million_detections():
    """A 10-million sample with one per cent: the deviation is that of a normal variable, 9.5 standard errors."""
    phi = phase_error_upper(100_000, 10**7, 9 * 10**7, 1e-21)
    sigma = math.sqrt(0.01 * 0.99 * 10**8 / (10**7 * 9.0 * 10**7))
    assert phi == pytest.approx(0.01 + stats.norm.isf(1e-21) * sigma, rel=2e-3)


BLOCKS = 10_000


def failure_count(bound, eps: float) -> int:
    """Adversary's worst choice: the marked share is fixed, the sample is random; how often the rest is worse."""
    observed, unobserved, marked = 300, 2_000, 92
    seen = np.random.default_rng(3).hypergeometric(marked, observed + unobserved - marked, observed, size=BLOCKS)
    bounds = {m: bound(int(m), observed, unobserved, eps) for m in np.unique(seen)}
    return sum((marked - m) / unobserved > bounds[m] for m in seen)


def too_many(found: int, eps: float) -> bool:
    return bool(stats.binom.sf(found - 1, BLOCKS, eps) < 1e-6)


@pytest.mark.parametrize("eps", [0.1, 0.01])
def test_simulated_failures(eps):
    found = failure_count(phase_error_upper, eps)
    assert not too_many(found, eps)
    assert found > 0.2 * eps * BLOCKS, "the bound is exact, so failures must not be far below what is allowed"


@pytest.mark.parametrize("eps", [0.1, 0.01])
def test_the_simulation_catches_wrong_formulas(eps):
    """The rate itself, and a bound with the roles of the two samples exchanged."""
    assert too_many(failure_count(lambda m, n, u, e: m / n, eps), eps)
    assert too_many(failure_count(lambda m, n, u, e: phase_error_upper(round(m * u / n), u, 10**6, e), eps), eps)


def test_printed_gamma_by_hand():
    """Lim et al. 2014, Eq. (5): 1 per cent of 10,000, 50,000 unobserved, eps_sec = 1e-10."""
    spread = 60_000 * 0.0099 / (5e8 * 0.693147)
    inside = 60_000 / (5e8 * 0.0099) * 441e20
    expected = 0.01 + math.sqrt(spread * math.log(inside) / 0.693147)
    assert gamma_as_printed(100, 10_000, 50_000, 1e-10 / 21) == pytest.approx(expected, rel=1e-6)


def test_printed_gamma_is_blind_at_zero_errors():
    """Why it is never used alone."""
    assert gamma_as_printed(0, 1_000, 10_000, 1e-10 / 21) == 0.0
    assert phase_error_upper(0, 1_000, 10_000, (1e-10 / 21) ** 2) > 0.04
