"""Decoy analysis by linear programming against known yields, adversarial channels and the closed forms."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qkdpp.core.abort import Abort
from qkdpp.core.channel import simple_gains
from qkdpp.core.errors import ConfigError
from qkdpp.estimation.asymptotic import Yields, decoy_yields
from qkdpp.estimation.decoy import choose_levels, errors_upper, photons_two_decoys
from qkdpp.estimation.linear import (
    all_labels,
    decoy_yields_linear,
    errors_upper_linear,
    linear_statements,
    photons_linear,
)
from qkdpp.estimation.registry import Bounded, Observed, Registry

PHOTONS = 30
SOURCES = {
    2: ((0.6, 0.2), (0.7, 0.3)),
    3: ((0.5, 0.1, 0.0), (0.6, 0.25, 0.15)),
    4: ((0.5, 0.2, 0.08, 0.0), (0.6, 0.12, 0.18, 0.1)),
    5: ((0.8, 0.4, 0.2, 0.1, 0.001), (0.4, 0.1, 0.2, 0.2, 0.1)),
}


def poisson(mu) -> np.ndarray:
    return stats.poisson.pmf(np.arange(PHOTONS), np.array(mu)[:, None])


def label_given_photons(mu, p) -> np.ndarray:
    """p(k|n), shape (PHOTONS, K)."""
    weight = np.array(p)[:, None] * poisson(mu)
    return (weight / weight.sum(axis=0)).T


# Unlimited data


def model(mu, transmittance, background=1.7e-6, misalignment=0.033):
    gains = simple_gains(mu, transmittance=transmittance, background=background, misalignment=misalignment)
    return tuple(map(float, gains.gain)), tuple(map(float, gains.error_gain))


def check_truth(found: Yields, click: np.ndarray, wrong: np.ndarray) -> None:
    assert found.y0 <= click[0]
    assert found.y1 <= click[1]
    assert found.e1 * click[1] >= wrong[1]


PATTERNS = {
    "one photon only": np.eye(PHOTONS)[1],
    "two photons only": np.eye(PHOTONS)[2],
    "never one photon": 1.0 - np.eye(PHOTONS)[1],
    "two and more": (np.arange(PHOTONS) >= 2) * 1.0,
    "beyond the cut-off": (np.arange(PHOTONS) > 12) * 1.0,
    "vacuum only": np.eye(PHOTONS)[0],
    "everything": np.ones(PHOTONS),
    "nothing": np.zeros(PHOTONS),
    "odd numbers": (np.arange(PHOTONS) % 2) * 1.0,
}


@pytest.mark.parametrize("labels", SOURCES)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_an_adversary_who_counts_photons_never_breaks_the_bounds(labels, pattern, scale):
    mu = SOURCES[labels][0]
    click = scale * PATTERNS[pattern]
    wrong = np.where(np.arange(PHOTONS) == 0, 0.5, 0.1) * click
    gains = [tuple(np.minimum(poisson(mu) @ y, 1.0)) for y in (click, wrong)]
    check_truth(decoy_yields_linear(mu, gains[0], gains[1]), click, wrong)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(list(SOURCES)),
    st.lists(st.floats(0, 1), min_size=PHOTONS, max_size=PHOTONS),
    st.lists(st.floats(0, 1), min_size=PHOTONS, max_size=PHOTONS),
    st.integers(0, 9),
    st.floats(0, 0.2),
    st.integers(0, 2**32 - 1),
)
def test_any_yields_at_any_intensities_of_the_box_stay_on_the_right_side(labels, chosen, errors, power, width, seed):
    """The adversary picks yields and errors of every photon number, and intensities within their intervals."""
    mu = np.array(SOURCES[labels][0])
    inside = mu * (1 + width * np.random.default_rng(seed).uniform(-1, 1, mu.size))
    click = np.array(chosen) * 10.0**-power
    wrong = np.array([0.5, *errors[1:]]) * click
    gain, error_gain = (tuple(np.minimum(poisson(inside) @ y, 1.0)) for y in (click, wrong))
    check_truth(decoy_yields_linear(tuple(mu), gain, error_gain, mu_tolerance=width), click, wrong)


@pytest.mark.parametrize("transmittance", [0.1, 1e-3, 1e-5])
@pytest.mark.parametrize("mu", [(0.48, 0.05, 0.0), (0.5, 0.1, 0.01), (0.6, 0.2, 0.001)])
def test_three_intensities_agree_with_the_closed_forms(mu, transmittance):
    """With vacuum the closed forms are optimal; without, they pass over part of the vacuum (3 to 8 per cent of Y_1)."""
    gain, error_gain = model(mu, transmittance)
    linear, closed = decoy_yields_linear(mu, gain, error_gain), decoy_yields(mu, gain, error_gain)
    slack = 1e-9
    assert closed.y0 * (1 - slack) <= linear.y0 <= 1.7e-6
    assert closed.y1 * (1 - slack) <= linear.y1 <= transmittance + 1.7e-6
    assert linear.e1 <= closed.e1 * (1 + slack)
    if mu[2] == 0:
        assert linear.y1 == pytest.approx(closed.y1, rel=1e-9)
        assert linear.e1 == pytest.approx(closed.e1, rel=5e-4)
    else:
        assert linear.y1 < 1.1 * closed.y1


@pytest.mark.parametrize("transmittance", [0.1, 1e-3, 1e-5])
def test_more_intensities_close_in_on_the_truth(transmittance):
    full = (0.8, 0.4, 0.2, 0.1, 0.0)
    gain, error_gain = model(full, transmittance)
    found = []
    for kept in ((0, 3, 4), (0, 2, 3, 4), (0, 1, 2, 3, 4)):
        found.append(decoy_yields_linear(*(tuple(v[k] for k in kept) for v in (full, gain, error_gain))))
    assert found[0].y1 < found[1].y1 < found[2].y1 <= transmittance + 1.7e-6
    assert found[0].e1 > found[1].e1 > found[2].e1
    assert found[2].y1 > 0.999 * transmittance


@pytest.mark.parametrize("labels", SOURCES)
def test_the_order_of_the_intensities_and_the_cut_off_do_not_matter(labels):
    mu = SOURCES[labels][0]
    gain, error_gain = model(mu, 1e-3)
    here = decoy_yields_linear(mu, gain, error_gain)
    for other in (
        decoy_yields_linear(mu[::-1], gain[::-1], error_gain[::-1]),
        decoy_yields_linear(mu, gain, error_gain, cutoff=25),
    ):
        assert (other.y1, other.e1) == (pytest.approx(here.y1, rel=1e-8), pytest.approx(here.e1, rel=1e-8))


@pytest.mark.parametrize("labels", SOURCES)
def test_wider_intervals_say_less(labels):
    mu = SOURCES[labels][0]
    gain, error_gain = model(mu, 1e-3)
    found = [decoy_yields_linear(mu, gain, error_gain, mu_tolerance=t) for t in (0.0, 0.001, 0.01, 0.05, 0.1)]
    for wide, narrow in zip(found[1:], found, strict=False):
        assert wide.y0 <= narrow.y0 + 1e-12
        assert wide.y1 < narrow.y1
        assert wide.e1 >= narrow.e1
    only_one = decoy_yields_linear(mu, gain, error_gain, mu_tolerance=(0.05,) + (0.0,) * (labels - 1))
    assert found[3].y1 <= only_one.y1 <= found[0].y1


def test_two_intensities_bound_the_vacuum_through_its_errors():
    mu = (0.6, 0.2)
    found = decoy_yields_linear(mu, *model(mu, 1e-2))
    assert 0.8e-2 < found.y1 <= 1e-2 + 1.7e-6


@pytest.mark.parametrize(
    ("gain", "error_gain"),
    [
        ((1e-4, 1e-3, 1e-6), (1e-6, 1e-5, 5e-7)),  # a decoy that clicks more often than the signal
        ((0.5, 1e-6, 1e-6), (1e-6, 5e-7, 6e-7)),  # vacuum clicks that are wrong more than half the time
        ((0.9, 1e-6, 1e-6), (0.0, 0.0, 0.0)),  # more multi-photon clicks than multi-photon pulses
    ],
)
def test_gains_of_no_channel_are_refused(gain, error_gain):
    with pytest.raises(Abort, match="implausible_counts") as end:
        decoy_yields_linear((0.5, 0.1, 0.0), gain, error_gain)
    assert end.value.aborted.evidence["gains"] == list(gain)


def test_gains_that_are_no_probabilities_are_refused():
    for gain, error_gain in (((1.2, 0.1), (0.0, 0.0)), ((0.1, 0.1), (0.2, 0.0)), ((0.1, math.nan), (0.0, 0.0))):
        with pytest.raises(Abort, match="outside of what was sent"):
            decoy_yields_linear((0.5, 0.1), gain, error_gain)
    with pytest.raises(ConfigError, match="gains"):
        decoy_yields_linear((0.5, 0.1), (0.1,), (0.0,))


# Counts


def bounded(labels: int, eps: float, names: tuple[str, ...] | None = None) -> Bounded:
    return Bounded(Registry(dict.fromkeys(names or linear_statements(labels), ""), lambda _: eps), "kl")


def needed(labels: int, m: np.ndarray) -> np.ndarray | None:
    return m if labels == 2 else None


numbers = st.lists(st.integers(0, 10**9) | st.sampled_from([0, 0, 1, 10**12]), min_size=PHOTONS, max_size=PHOTONS)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(SOURCES)), numbers, numbers, st.sampled_from([12, 25]))
def test_counts_at_their_means_never_bound_the_truth_away(labels, detected, wrong, cutoff):
    """Any detections and errors by photon number, labels without fluctuation: the widest statements hold."""
    mu, p = SOURCES[labels]
    errors = np.minimum(np.array(wrong), np.array(detected))
    errors[0] = detected[0] // 2
    n, m = (np.rint(np.array(v) @ label_given_photons(mu, p)).astype(np.int64) for v in (detected, errors))
    source, by = all_labels(mu, p, cutoff=cutoff), bounded(labels, 0.5)
    photons = photons_linear(source, "Z", n, by, needed(labels, m))
    upper, found = errors_upper_linear(source, "X", m, by)
    assert photons.contradictions == found == ()
    assert photons.vacuum_lower <= detected[0] + 1
    assert photons.single_lower <= detected[1] + 1
    assert upper >= errors[1] - 1


def honest(labels: int, pulses: float, transmittance: float = 4e-3):
    """Expected counts by label of one basis, and detections by photon number."""
    mu, p = SOURCES[labels]
    click = 2e-6 - np.expm1(np.arange(PHOTONS) * math.log1p(-transmittance))
    wrong = 0.005 * (click - 2e-6) + 1e-6
    tau = np.array(p) @ poisson(mu)
    n, m = (np.rint((pulses * tau * v) @ label_given_photons(mu, p)).astype(np.int64) for v in (click, wrong))
    return n, m, pulses * tau * click, pulses * tau * wrong


@pytest.mark.parametrize("pulses", [1e8, 1e10, 1e13])
@pytest.mark.parametrize("eps", [0.01, 1e-12, 1e-24])
def test_with_the_same_statements_the_programme_is_never_looser_than_the_closed_forms(pulses, eps):
    n, m, _, _ = honest(3, pulses)
    mu, p = SOURCES[3]
    names = linear_statements(3)
    closed = photons_two_decoys(choose_levels(mu, p), "Z", n, bounded(3, eps, names))
    closed_errors, _ = errors_upper(choose_levels(mu, p), "X", m, bounded(3, eps, names))
    linear = photons_linear(all_labels(mu, p), "Z", n, bounded(3, eps))
    linear_errors, _ = errors_upper_linear(all_labels(mu, p), "X", m, bounded(3, eps))
    tail = 1e-7
    assert linear.vacuum_lower >= closed.vacuum_lower * (1 - tail)
    assert linear.single_lower >= closed.single_lower * (1 - tail)
    assert linear_errors <= closed_errors * (1 + tail)
    assert linear.single_lower <= closed.single_lower * 1.005


@pytest.mark.parametrize("labels", SOURCES)
def test_bounds_approach_the_truth_with_more_data(labels):
    mu, p = SOURCES[labels]
    shares = []
    for pulses in (1e8, 1e10, 1e12, 1e14):
        n, m, detected, _ = honest(labels, pulses)
        found = photons_linear(all_labels(mu, p), "Z", n, bounded(labels, 1e-20), needed(labels, m))
        shares.append(found.single_lower / detected[1])
    assert shares == sorted(shares)
    assert 0.8 < shares[-1] <= 1


@pytest.mark.parametrize("labels", SOURCES)
def test_no_counts_no_photons(labels):
    mu, p = SOURCES[labels]
    none = np.zeros(labels, dtype=np.int64)
    source, by = all_labels(mu, p), bounded(labels, 1e-12)
    found = photons_linear(source, "Z", none, by, needed(labels, none))
    assert (found.vacuum_lower, found.single_lower, found.contradictions) == (0.0, 0.0, ())
    assert errors_upper_linear(source, "X", none, by) == (0.0, ())


def test_a_vacuum_count_of_zero_is_normal():
    n = np.array([9_000, 900, 0], dtype=np.int64)
    found = photons_linear(all_labels(*SOURCES[3]), "Z", n, bounded(3, 1e-12))
    assert found.contradictions == ()
    assert found.vacuum_lower == 0.0
    assert found.single_lower > 0


def test_what_contradicts_is_named():
    """Half the detections carry the vacuum label: then vacuum would be most of all, and the signal too."""
    n = np.array([1_000_000, 10, 1_000_000], dtype=np.int64)
    found = photons_linear(all_labels(*SOURCES[3]), "Z", n, bounded(3, 1e-12))
    assert len(found.contradictions) == 1
    assert "basis Z" in found.contradictions[0]
    assert "n_Z3" in found.contradictions[0]
    assert 0 <= found.single_lower <= n.sum()


@pytest.mark.parametrize(("labels", "count"), [(2, 18), (3, 18), (4, 24), (5, 30)])
def test_every_statement_is_declared_once_and_used(labels, count):
    names = linear_statements(labels)
    assert len(names) == len(set(names)) == count
    registry = Registry(dict.fromkeys(names, ""), lambda number: 1e-10 / number)
    n, m, _, _ = honest(labels, 1e9)
    by, source = Bounded(registry, "kl"), all_labels(*SOURCES[labels])
    for basis in "ZX":
        photons_linear(source, basis, n, by, needed(labels, m))
    errors_upper_linear(source, "X", m, by)
    assert sum(bound.eps for bound in registry.bounds()) == pytest.approx(1e-10)


DETECTED = np.array([60, 4_000, 5_000] + [0] * (PHOTONS - 3))
WRONG = np.array([30, 200, 0] + [0] * (PHOTONS - 3))


def failures(labels: int, by: Observed, blocks: int) -> np.ndarray:
    """Blocks in which vacuum, single photons and single-photon errors were bounded on the wrong side."""
    rng, (mu, p) = np.random.default_rng(5), SOURCES[labels]
    shares, source, bad = label_given_photons(mu, p), all_labels(mu, p), np.zeros(3, dtype=int)
    for _ in range(blocks):
        right = sum(rng.multinomial(d - w, q) for d, w, q in zip(DETECTED, WRONG, shares, strict=True))
        m = sum(rng.multinomial(w, q) for w, q in zip(WRONG, shares, strict=True)).astype(np.int64)
        photons = photons_linear(source, "Z", (right + m).astype(np.int64), by)
        errors, _ = errors_upper_linear(source, "X", m, by)
        bad += np.array([photons.vacuum_lower > DETECTED[0], photons.single_lower > DETECTED[1], errors < WRONG[1]])
    return bad


@pytest.mark.parametrize("blocks", [200, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("labels", [3, 4])
@pytest.mark.parametrize("eps", [0.1, 0.01])
def test_simulated_failures_stay_below_those_of_the_statements_together(labels, eps, blocks):
    for found in failures(labels, bounded(labels, eps), blocks):
        assert stats.binom.sf(found - 1, blocks, min(2 * labels * eps, 1.0)) > 1e-6


def test_the_simulation_catches_counts_taken_for_means():
    for found in failures(4, Observed(), 200)[1:]:
        assert stats.binom.sf(found - 1, 200, 0.08) < 1e-6


def test_estimation_does_not_load_scipy():
    code = "import sys, qkdpp.estimation; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
