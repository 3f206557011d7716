"""Decoy-state algebra against known yields, a linear programme and simulated labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import linprog

from qkdpp.core.errors import ConfigError, LocalProtocolError
from qkdpp.estimation.decoy import (
    choose_levels,
    errors_upper,
    photons_one_decoy,
    photons_two_decoys,
    single_lower,
    vacuum_lower,
)
from qkdpp.estimation.registry import Bounded, Observed, Registry

MU, P = (0.5, 0.1, 0.002), (0.6, 0.25, 0.15)
PHOTONS = 20


def label_given_photons(mu: tuple[float, ...], p: tuple[float, ...]) -> np.ndarray:
    """p(k|n), shape (PHOTONS, K)."""
    n = np.arange(PHOTONS)[:, None]
    weight = np.array(p) * stats.poisson.pmf(n, np.array(mu))
    return weight / weight.sum(axis=1, keepdims=True)


def photon_numbers(mu: tuple[float, ...], p: tuple[float, ...]) -> np.ndarray:
    """tau_n."""
    return (np.array(p) * stats.poisson.pmf(np.arange(PHOTONS)[:, None], np.array(mu))).sum(axis=1)


yields = st.lists(st.floats(0, 1), min_size=PHOTONS, max_size=PHOTONS)


@settings(max_examples=300)
@given(yields)
def test_any_yields_stay_on_the_right_side(chosen):
    """An adversary picks the yield of every photon number: vacuum and single photons are never overestimated."""
    scaled = [sum(mu**n / math.factorial(n) * y for n, y in enumerate(chosen)) for mu in MU]
    vacuum = vacuum_lower(MU[1], MU[2], scaled[1], scaled[2])
    assert vacuum <= chosen[0] + 1e-9
    assert single_lower(MU, scaled[0], scaled[1], scaled[2], max(vacuum, 0.0)) <= chosen[1] + 1e-9


def linear_programme(mu: tuple[float, ...], gains: list[float]) -> float:
    """Smallest single-photon yield compatible with exact gains: the best any decoy method can do."""
    n = np.arange(PHOTONS)
    poisson = stats.poisson.pmf(n[None, :], np.array(mu)[:, None])
    found = linprog(
        np.eye(PHOTONS)[1],
        A_ub=np.vstack([poisson, -poisson]),
        b_ub=np.concatenate([gains, -np.array(gains) + stats.poisson.sf(PHOTONS - 1, np.array(mu))]) + 1e-12,
        bounds=[(0, 1)] * PHOTONS,
        method="highs",
    )
    return float(found.fun)


@pytest.mark.parametrize("transmittance", [0.1, 0.01, 0.002])
def test_closed_form_is_no_better_than_the_linear_programme_and_close_to_it(transmittance):
    gains = [2e-6 + 1 - math.exp(-transmittance * mu) for mu in MU]
    scaled = [q * math.exp(mu) for q, mu in zip(gains, MU, strict=True)]
    vacuum = max(vacuum_lower(MU[1], MU[2], scaled[1], scaled[2]), 0.0)
    closed = single_lower(MU, scaled[0], scaled[1], scaled[2], vacuum)
    best = linear_programme(MU, gains)
    assert best - 1e-6 <= transmittance + 2e-6
    assert 0.99 * best <= closed <= best * 1.0001


@pytest.mark.parametrize(
    ("intensities", "p", "used"),
    [
        ((0.5, 0.1, 0.0), (0.6, 0.3, 0.1), (0, 1, 2)),
        ((0.0, 0.5, 0.1), (0.1, 0.6, 0.3), (1, 2, 0)),
        ((0.6, 0.4, 0.1, 0.0), (0.4, 0.2, 0.2, 0.2), (0, 2, 3)),
        ((0.5, 0.1), (0.7, 0.3), (0, 1)),
    ],
)
def test_the_rule_picks_the_brightest_and_the_two_dimmest(intensities, p, used):
    levels = choose_levels(intensities, p)
    assert levels.index == used
    exact = photon_numbers(intensities, p)
    assert levels.tau == pytest.approx(tuple(exact[:2]))
    assert levels.share_of_single_photons(0) == pytest.approx(label_given_photons(intensities, p)[1, used[0]])


@pytest.mark.parametrize("intensities", [(0.5, 0.4, 0.1), (0.3, 0.2, 0.1), (0.5,), (0.5, 0.0)])
def test_intensities_without_a_proof_are_refused(intensities):
    """Trap: mu1 <= mu2 + mu3 accepted silently."""
    share = 1 / len(intensities)
    with pytest.raises(ConfigError, match="intensities"):
        choose_levels(intensities, (share,) * len(intensities))


def test_a_fourth_label_changes_weights_and_not_validity():
    """Exact expected counts with four labels: the chosen three still bound the truth over all four."""
    mu, p = (0.6, 0.4, 0.1, 0.0), (0.4, 0.2, 0.2, 0.2)
    truth = 10**9 * photon_numbers(mu, p) * -np.expm1(np.arange(PHOTONS) * math.log(0.99))
    n = np.rint(truth @ label_given_photons(mu, p)).astype(np.int64)
    photons = photons_two_decoys(choose_levels(mu, p), "Z", n, Observed())
    assert 0.95 * truth[1] < photons.single_lower <= truth[1] + 2
    assert photons.contradictions == ()


DETECTED = np.array([60, 4_000, 5_000] + [0] * (PHOTONS - 3))
WRONG = np.array([30, 200, 0] + [0] * (PHOTONS - 3))
"""Detections and errors by photon number as an adversary would choose them: two photons pass untouched, single
photons take the errors and nothing is left on which the bounds could be loose."""


def simulate(rng: np.random.Generator, mu, p) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn for every detection, given its photon number: int64 counts n and m by label."""
    shares = label_given_photons(mu, p)
    right_labels = sum(rng.multinomial(d - w, q) for d, w, q in zip(DETECTED, WRONG, shares, strict=True))
    wrong_labels = sum(rng.multinomial(w, q) for w, q in zip(WRONG, shares, strict=True))
    return (right_labels + wrong_labels).astype(np.int64), wrong_labels.astype(np.int64)


STATEMENTS = ("n_Z1 upper", "n_Z2 lower", "n_Z2 upper", "n_Z3 lower", "n_Z3 upper", "m_Z2 upper", "m_Z3 lower")
BLOCKS = 10_000


def failures(eps: float, kind) -> tuple[int, int, int]:
    """How often vacuum, single photons and single-photon errors are bounded on the wrong side."""
    rng, levels = np.random.default_rng(5), choose_levels(MU, P)
    bad = np.zeros(3, dtype=int)
    for _ in range(BLOCKS):
        n, m = simulate(rng, MU, P)
        by = Observed() if kind is None else Bounded(Registry(dict.fromkeys(STATEMENTS, ""), lambda _: eps), kind)
        photons = photons_two_decoys(levels, "Z", n, by)
        errors, _ = errors_upper(levels, "Z", m, by)
        bad += np.array([photons.vacuum_lower > DETECTED[0], photons.single_lower > DETECTED[1], errors < WRONG[1]])
    return int(bad[0]), int(bad[1]), int(bad[2])


@pytest.mark.parametrize("eps", [0.1, 0.01])
@pytest.mark.parametrize("kind", ["kl", "chernoff", "hoeffding"])
def test_simulated_failures_of_the_whole_chain(kind, eps):
    """Each quantity fails no more often than its statements together: two, five and two."""
    for found, statements in zip(failures(eps, kind), (2, 5, 2), strict=True):
        assert stats.binom.sf(found - 1, BLOCKS, min(statements * eps, 1.0)) > 1e-6


def test_the_simulation_catches_counts_taken_for_means():
    for found, statements in zip(failures(0.01, None), (2, 5, 2), strict=True):
        assert stats.binom.sf(found - 1, BLOCKS, statements * 0.01) < 1e-6


@pytest.mark.parametrize("as_printed", [True, False])
def test_one_decoy_bounds_known_yields(as_printed):
    """Vacuum detections are bounded through their errors; the printed form is the looser one."""
    mu, p, pulses = (0.5, 0.12), (0.7, 0.3), 10**9
    click = -np.expm1(np.arange(PHOTONS) * math.log(0.99))
    background = 1e-4 * (1 - click)
    detected = pulses * photon_numbers(mu, p) * (click + background)
    wrong = pulses * photon_numbers(mu, p) * (0.01 * click + 0.5 * background)
    shares = label_given_photons(mu, p)
    n, m = (np.rint(v @ shares).astype(np.int64) for v in (detected, wrong))
    levels = choose_levels(mu, p)
    names = ("n_Z1 upper", "n_Z2 lower", "m_Z1 upper", "m_Z2 upper", "vacuum errors Z")
    by = Bounded(Registry(dict.fromkeys(names, ""), lambda _: 1e-10), "kl")
    bounded = photons_one_decoy(levels, "Z", n, m, by, as_printed=as_printed)
    unlimited = photons_one_decoy(levels, "Z", n, m, Observed(), as_printed=as_printed)
    assert bounded.single_lower < unlimited.single_lower <= detected[1]
    assert bounded.vacuum_lower <= detected[0]
    assert bounded.single_lower > 0.85 * detected[1]
    other = photons_one_decoy(levels, "Z", n, m, by, as_printed=not as_printed)
    assert (bounded.single_lower < other.single_lower) == as_printed


class OnlyVacuum(Observed):
    """Labels without fluctuation; the errors of vacuum detections are the only statistics left."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    def log_eps(self, name: str) -> float:
        return -math.log(self.eps)


@pytest.mark.parametrize("as_printed", [True, False])
@pytest.mark.parametrize("eps", [0.1, 0.01])
def test_simulated_failures_of_the_vacuum_bound(eps, as_printed):
    """All detections are vacuum ones, half of them wrong at random: single photons beyond rounding are a failure."""
    levels, vacuum = choose_levels((0.5, 0.1), (0.7, 0.3)), 4_000_000
    share = label_given_photons((0.5, 0.1), (0.7, 0.3))[0]
    n = np.rint(vacuum * share).astype(np.int64)
    rng = np.random.default_rng(2)
    found = 0
    for wrong in rng.binomial(vacuum, 0.5, size=BLOCKS):
        m = np.rint(wrong * share).astype(np.int64)
        photons = photons_one_decoy(levels, "Z", n, m, OnlyVacuum(eps), as_printed=as_printed)
        found += photons.single_lower > 20
    assert stats.binom.sf(found - 1, BLOCKS, eps) > 1e-6
    assert found > 0


def test_errors_are_capped_by_the_errors_seen():
    """Trap: with few errors the scaled difference exceeds everything that went wrong."""
    m = np.array([3, 2, 0], dtype=np.int64)
    by = Bounded(Registry(dict.fromkeys(("m_X2 upper", "m_X3 lower"), ""), lambda _: 1e-10), "kl")
    assert errors_upper(choose_levels(MU, P), "X", m, by)[0] == 5.0


def test_a_vacuum_count_of_zero_is_normal():
    by = Bounded(Registry(dict.fromkeys(STATEMENTS[:5], ""), lambda _: 1e-10), "kl")
    photons = photons_two_decoys(choose_levels(MU, P), "Z", np.array([9_000, 900, 0], dtype=np.int64), by)
    assert math.isfinite(photons.single_lower)
    assert photons.vacuum_lower == 0.0


def test_bounds_must_be_registered_and_used():
    registry = Registry({"n_Z1 upper": "KL", "idle": "KL"}, lambda count: 0.5 / count)
    assert registry.eps("n_Z1 upper") == 0.25
    with pytest.raises(LocalProtocolError, match="never registered"):
        registry.eps("forgotten")
    with pytest.raises(LocalProtocolError, match="never used"):
        registry.bounds()
