"""Bounds on photon numbers and label weights against Poisson probabilities computed elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qkdpp.core.errors import ConfigError
from qkdpp.estimation.intervals import label_weights, photon_numbers

MANY = 60
MU = st.lists(
    st.sampled_from([0.0, 1e-4, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.52, 1.0, 2.5]), min_size=2, max_size=5, unique=True
).filter(lambda mu: max(mu) >= 0.01)


def exact(mu: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poisson probabilities and p(k|n), shape (K, MANY)."""
    poisson = stats.poisson.pmf(np.arange(MANY), mu[:, None])
    with np.errstate(invalid="ignore"):
        return poisson, p[:, None] * poisson / (p[:, None] * poisson).sum(axis=0)


@settings(max_examples=150, deadline=None)
@given(MU, st.floats(0, 1), st.integers(0, 2**32 - 1), st.sampled_from([4, 12, 25]))
def test_every_point_of_the_box_lies_within_the_bounds(mu, tolerance, seed, cutoff):
    rng = np.random.default_rng(seed)
    if max(mu) * (1 + tolerance) >= cutoff:
        cutoff = 25
    p = rng.dirichlet(np.ones(len(mu))) + 1e-3
    p /= p.sum()
    inside = np.array(mu) * (1 + tolerance * rng.choice([-1.0, 1.0, rng.uniform(-1, 1)], len(mu)))
    poisson, share = exact(inside, p)
    numbers = photon_numbers(tuple(mu), tolerance, cutoff)
    weights = label_weights(tuple(mu), tuple(p), tolerance, cutoff)
    near = 1 + 1e-11
    assert np.all(numbers.low <= poisson[:, : cutoff + 1] * near)
    assert np.all(poisson[:, : cutoff + 1] <= numbers.high * near)
    assert np.all(stats.poisson.sf(cutoff, inside) <= numbers.tail * near)
    known = np.where(np.isnan(share), weights.low[:, -1:], share)  # no pulse ever has so many photons
    assert np.all(weights.low[:, :-1] <= known[:, : cutoff + 1] * near + 1e-150)
    assert np.all(known[:, : cutoff + 1] <= weights.high[:, :-1] * near)
    assert np.all(weights.low[:, -1:] <= known[:, cutoff + 1 :] * near + 1e-150)
    assert np.all(known[:, cutoff + 1 :] <= weights.high[:, -1:] * near)
    assert weights.tau[0] >= (p * poisson[:, 0]).sum() / near
    assert weights.tau[1] >= (p * poisson[:, 1]).sum() / near


def test_without_tolerance_the_bounds_meet():
    mu, p = (0.5, 0.1, 0.0), (0.7, 0.2, 0.1)
    weights = label_weights(mu, p, 0.0, 12)
    _, share = exact(np.array(mu), np.array(p))
    for bound in (weights.low, weights.high):
        np.testing.assert_allclose(bound[:, :13], share[:, :13], rtol=1e-12, atol=1e-150)


@pytest.mark.parametrize(
    ("mu", "tolerance"),
    [
        ((0.5,), 0.0),
        ((0.5, 0.5), 0.0),
        ((0.5, -0.1), 0.0),
        ((0.5, float("nan")), 0.0),
        ((12.0, 0.1), 0.0),
        ((11.0, 0.1), 0.2),
        ((1e-4, 0.0), 0.0),
        ((0.5, 0.1), -0.1),
        ((0.5, 0.1), 1.1),
        ((0.5, 0.1), (0.1,)),
        ((0.5, 0.1), float("nan")),
    ],
)
def test_sources_that_cannot_be_analysed_are_refused(mu, tolerance):
    with pytest.raises(ConfigError, match=r"intensities|mu_tolerance"):
        photon_numbers(mu, tolerance, 12)
