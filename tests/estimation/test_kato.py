"""Kato's inequality against its printed closed form, an exact exponential moment and dependent sequences."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from estimation_oracles import too_many
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from qkdpp.estimation.kato import (
    KatoPlan,
    Line,
    kato_lower,
    kato_upper,
    mean_lower,
    mean_upper,
    observed_upper,
    plan,
    plan_for_mean,
)

Chances = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""Conditional probabilities of a step, given counts and sums of expectations so far (one of each per block)."""

BLOCKS = 10_000


def as_printed(n: int, count: float, eps: float) -> tuple[float, float]:
    """Optimal (a, b) as printed by Currás-Lorenzo et al. 2021, Methods."""
    e, root = math.log(eps), math.sqrt(n)
    under = math.sqrt(-(n**2) * e * (9 * count * (n - count) - 2 * n * e))
    above = 72 * root * count * (n - count) * e - 16 * n**1.5 * e**2 + 9 * math.sqrt(2) * (n - 2 * count) * under
    a = 3 * above / (4 * (9 * n - 8 * e) * (9 * count * (n - count) - 2 * n * e))
    b = math.sqrt(18 * a**2 * n - (16 * a**2 + 24 * a * root + 9 * n) * e) / (3 * math.sqrt(2 * n))
    return a, b


@pytest.mark.parametrize(
    ("n", "count", "eps"),
    [(10**6, 100, 1e-10), (10**4, 0, 1e-3), (10**9, 5e8, 1e-20), (1000, 900, 1e-2), (50, 3, 1e-10)],
)
def test_upper_bound_at_the_prediction_is_the_published_one(n, count, eps):
    a, b = as_printed(n, count, eps)
    published = count + (b + a * (2 * count / n - 1)) * math.sqrt(n)
    assert kato_upper(count, n, eps, count) == pytest.approx(min(published, n), rel=1e-9)


@pytest.mark.parametrize(("n", "count", "eps"), [(10**6, 100, 1e-10), (1000, 900, 1e-2), (400, 30, 0.1)])
def test_lower_bound_is_the_second_published_inequality_at_its_best(n, count, eps):
    root = math.sqrt(n)

    def deviation(a: float) -> float:
        b = math.sqrt(a * a - (1 - 4 * a / (3 * root)) ** 2 * math.log(eps) / 2)
        return (b + a * (2 * count / n - 1)) * root

    best = minimize_scalar(deviation, bounds=(-root, root), method="bounded", options={"xatol": 1e-10 * root})
    assert kato_lower(count, n, eps, count) == pytest.approx(count - best.fun, rel=1e-6)


def exponent_of_line(line: Line) -> float:
    """``ln`` of the failure probability of a line that its exponential moment proves, exactly.

    ``exp(t sum(p_u - c xi_u) - n g)`` is a supermartingale if ``g`` is the largest ``ln E exp(t (p - c xi))`` over p.
    """
    c, constant = 1 + line.slope, line.intercept
    if line.slope < 0:
        constant -= line.slope * line.n

    def moment(t: float) -> float:
        drop = -math.expm1(-t * c)
        inside = 1 / drop - 1 / t
        p = min(max(inside, 0.0), 1.0)
        return t * p + math.log1p(-p * drop)

    def exponent(log_t: float) -> float:
        return line.n * moment(math.exp(log_t)) - math.exp(log_t) * constant

    grid = np.linspace(-15, 4, 300)
    start = min(grid, key=exponent)
    found = minimize_scalar(exponent, bounds=(start - 0.1, start + 0.1), method="bounded", options={"xatol": 1e-9})
    return min(exponent(start), float(found.fun))


@pytest.mark.parametrize("eps", [0.3, 1e-2, 1e-10, 1e-25])
@pytest.mark.parametrize("n", [2, 30, 1000, 10**5, 10**7])
def test_every_plan_fails_no_more_often_than_it_says_by_an_exact_exponential_moment(n, eps):
    for share in (0.0, 1e-4, 0.01, 0.2, 0.5, 0.9, 1.0):
        for rule in (plan(n, share * n, eps), plan_for_mean(n, share * n, eps)):
            for line in (rule.above, rule.below):
                if line.slope > -0.999:  # at -1 the line lies at or above n
                    assert exponent_of_line(line) <= math.log(eps) * (1 - 1e-9)


def urn(count, _sums, step):
    """Pólya's urn with 2 marked of 40 balls: every draw makes its own kind likelier."""
    return (2 + count) / (40 + step)


def alternating(count, _sums, step):
    """Rare, then frequent, whatever pushes the count away from the middle."""
    return np.where(count * 20 > step, 0.2, 0.01)


def run(chances: Chances, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    count, sums = np.zeros(BLOCKS), np.zeros(BLOCKS)
    for step in range(n):
        p = chances(count, sums, step)
        sums += p
        count += rng.random(BLOCKS) < p
    return count, sums


def greedy_above(rule: KatoPlan, share: float, deviation: float = 1.0) -> Chances:
    """An adversary who stops at once (p = 0) where the bound is broken."""

    def chances(count, sums, _step):
        line = rule.above.deviation(count, rule.n - count) * deviation
        return np.where(sums > count + line, 0.0, share)

    return chances


def greedy_below(rule: KatoPlan, share: float) -> Chances:
    """The same for the lower bound: stop as soon as the count is too high for its expectations."""

    def chances(count, sums, _step):
        return np.where(sums < count - rule.below.deviation(rule.n - count, count), 0.0, share)

    return chances


@pytest.mark.parametrize("eps", [0.1, 0.01])
@pytest.mark.parametrize("name", ["urn", "alternating", "greedy above", "greedy below"])
@pytest.mark.parametrize("predicted", [20.0, 60.0, None])
def test_dependent_sequences_break_a_bound_no_more_often_than_promised(name, eps, predicted):
    n = 400
    rule = plan(n, predicted, eps)
    sequences: dict[str, Chances] = {
        "urn": urn,
        "alternating": alternating,
        "greedy above": greedy_above(rule, 0.05),
        "greedy below": greedy_below(rule, 0.05),
    }
    count, sums = run(sequences[name], n, seed=7)
    above = sum(s > mean_upper(rule, x) for s, x in zip(sums, count, strict=True))
    below = sum(s < mean_lower(rule, x) for s, x in zip(sums, count, strict=True))
    observed = sum(x > observed_upper(rule, s) for s, x in zip(sums, count, strict=True))
    assert not too_many(above, BLOCKS, eps)
    assert not too_many(below, BLOCKS, eps)
    assert not too_many(observed, BLOCKS, eps)


def test_the_same_adversary_breaks_half_the_deviation():
    rule = plan(400, 20, 0.01)
    count, sums = run(greedy_above(rule, 0.05, 0.5), 400, seed=7)
    half = count + 0.5 * np.array([rule.above.deviation(x, 400 - x) for x in count])
    assert too_many(int((sums > half).sum()), BLOCKS, 0.01)


@pytest.mark.parametrize("n", [100, 10**6, 10**10])
@pytest.mark.parametrize("eps", [1e-3, 1e-20])
def test_without_a_prediction_the_deviation_is_azumas(n, eps):
    x, azuma = n // 2, math.sqrt(n * math.log(1 / eps) / 2)
    assert kato_upper(x, n, eps, None) == pytest.approx(min(n, x + azuma), rel=1e-11)
    assert x - kato_lower(x, n, eps, None) == pytest.approx(min(x, azuma), rel=1e-11)


def test_a_good_prediction_of_a_small_count_is_worth_the_trouble():
    n, x, eps = 10**8, 10**4, 1e-20
    b = math.log(1 / eps)
    for predicted in (7000, 10**4, 14000):
        upper, lower = kato_upper(x, n, eps, predicted), kato_lower(x, n, eps, predicted)
        assert upper - x < 0.04 * math.sqrt(n * b / 2)
        assert x - lower < 0.04 * math.sqrt(n * b / 2)
    assert kato_upper(x, n, eps, x) - x == pytest.approx(math.sqrt(2 * x * b), rel=0.05)


def test_edges():
    for predicted in (None, 0.0, 0.5, 1.0, 17.0):
        for x in (0, 1):
            assert 0 <= kato_lower(x, 1, 1e-3, predicted) <= x <= kato_upper(x, 1, 1e-3, predicted) <= 1
    assert kato_lower(0, 1000, 1e-10, 0) == 0
    assert kato_upper(1000, 1000, 1e-10, 1000) == 1000
    assert kato_upper(0, 10**9, 1e-10, 0) == pytest.approx(4 / 3 * math.log(1e10), rel=1e-6)
    assert kato_lower(10**9, 10**9, 1e-10, 10**9) == pytest.approx(10**9 - 4 / 3 * math.log(1e10), abs=1e-3)
    assert observed_upper(plan_for_mean(10**6, 0.0, 1e-10), 0.0) == pytest.approx(2 / 3 * math.log(1e10), rel=1e-4)


@pytest.mark.parametrize("case", [(0, 1, 0.1), (10, 1, 0.0), (10, 1, 1.0), (10, math.nan, 0.1)])
def test_impossible_arguments_are_refused(case):
    n, predicted, eps = case
    with pytest.raises(ValueError, match=r"variables|number"):
        plan(n, predicted, eps)


def test_impossible_counts_are_refused():
    rule = plan(10, 3, 0.1)
    for x in (-1, 11, math.nan):
        with pytest.raises(ValueError, match="out of 10"):
            mean_upper(rule, x)
        with pytest.raises(ValueError, match="out of 10"):
            mean_lower(rule, x)


SIZES = st.integers(1, 10**9)
SHARES = st.floats(0, 1)
EPS = st.floats(1e-30, 0.5)


@given(n=SIZES, share=SHARES, guess=SHARES, eps=EPS)
def test_bounds_enclose_the_count_and_stay_in_range(n, share, guess, eps):
    x, rule = share * n, plan(n, guess * n, eps)
    assert 0 <= mean_lower(rule, x) <= x <= mean_upper(rule, x) <= n


@given(n=SIZES, first=SHARES, second=SHARES, guess=SHARES, eps=EPS)
def test_more_counts_never_lower_a_bound(n, first, second, guess, eps):
    low, high = sorted((first * n, second * n))
    rule, tiny = plan(n, guess * n, eps), 1e-9 * n
    assert mean_upper(rule, low) <= mean_upper(rule, high) + tiny
    assert mean_lower(rule, low) <= mean_lower(rule, high) + tiny
    assert observed_upper(rule, low) <= observed_upper(rule, high) + tiny


@given(n=SIZES, share=SHARES, first=EPS, second=EPS)
def test_a_smaller_failure_probability_never_helps(n, share, first, second):
    x, (small, large), tiny = share * n, sorted((first, second)), 1e-9 * n
    assert kato_upper(x, n, small, x) >= kato_upper(x, n, large, x) - tiny
    assert kato_lower(x, n, small, x) <= kato_lower(x, n, large, x) + tiny


@given(n=st.integers(10, 10**8), share=SHARES, guess=SHARES, eps=EPS)
def test_no_prediction_beats_the_right_one(n, share, guess, eps):
    x, tiny = share * n, 1e-9 * n
    assert kato_upper(x, n, eps, x) <= kato_upper(x, n, eps, guess * n) + tiny
    assert kato_lower(x, n, eps, x) >= kato_lower(x, n, eps, guess * n) - tiny
    right, other = plan_for_mean(n, x, eps), plan(n, guess * n, eps)
    assert observed_upper(right, x) <= observed_upper(other, x) + 1e-6 * n


@given(n=st.integers(10, 10**8), share=SHARES, guess=SHARES, eps=EPS)
def test_observed_count_and_lower_bound_are_one_statement(n, share, guess, eps):
    rule, mean = plan(n, guess * n, eps), share * n
    count = observed_upper(rule, mean)
    if count < n:
        assert mean_lower(rule, count) == pytest.approx(mean, abs=1e-6 * n)
