"""Counts, exact tails and simulated labels that the tests of this folder measure against.

Nothing here uses the package's own bounds: true numbers come from drawn photon
numbers, tails from SciPy or from sums in the log domain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from qkdpp.core.abort import Abort
from qkdpp.estimation import Counts, KeyLength, Security, key_length_bb84

PHOTONS = 14
"""Photon numbers simulated: 0 to 13."""


def counts(n_z, n_x, m_z, m_x, mu=(0.5, 0.1, 0.0), p=(0.6, 0.25, 0.15)) -> Counts:
    """Counts of a block from four rows by intensity."""
    return Counts(
        intensities=tuple(mu),
        p_intensity=tuple(p),
        n=np.array([n_z, n_x], dtype=np.int64),
        m=np.array([m_z, m_x], dtype=np.int64),
    )


def length(block: Counts, security: Security, *, leak: int = 0, verification: int = 0, dropped: int = 0) -> KeyLength:
    """Key length with costs that default to nothing."""
    return key_length_bb84(
        block, leak_bits=leak, verification_bits=verification, dropped_bits=dropped, security=security
    )


def value(block: Counts, security: Security) -> float | None:
    """Length before rounding down, None for a block that is refused as implausible."""
    try:
        return length(block, security).value
    except Abort:
        return None


def share_of_labels(mu: Sequence[float], p: Sequence[float]) -> np.ndarray:
    """``p(k|n)``: how a detection of an n-photon pulse is labelled, float64[PHOTONS, K]."""
    weight = np.array(p) * stats.poisson.pmf(np.arange(PHOTONS)[:, None], np.array(mu))
    return weight / weight.sum(axis=1, keepdims=True)


def draw_labels(rng: np.random.Generator, by_photons: np.ndarray, mu, p, blocks: int) -> np.ndarray:
    """Labels drawn for a fixed number of detections by photon number: int64[blocks, K]."""
    shares = share_of_labels(mu, p)
    drawn = [rng.multinomial(int(d), q, size=blocks) for d, q in zip(by_photons, shares, strict=True) if d]
    return np.sum(drawn, axis=0, dtype=np.int64)


def too_many(failures: int, blocks: int, eps: float) -> bool:
    """Whether so many failures in so many blocks contradict a failure probability of ``eps`` (one-sided, 1e-6)."""
    return bool(stats.binom.sf(failures - 1, blocks, min(eps, 1.0)) < 1e-6)


def log_binomial_cdf(k: int, n: int, p: float) -> float:
    """``ln Pr[Binomial(n, p) <= k]`` by summing every term in the log domain."""
    j = np.arange(0, k + 1, dtype=np.float64)
    choose = special.gammaln(n + 1) - special.gammaln(j + 1) - special.gammaln(n - j + 1)
    return float(special.logsumexp(choose + j * math.log(p) + (n - j) * math.log1p(-p)))


def log_hypergeometric_cdf(k: int, population: int, marked: int, drawn: int) -> float:
    """``ln Pr[at most k marked among drawn]`` by summing every term in the log domain."""
    low = max(0, drawn + marked - population)
    if k < low:
        return -math.inf
    j = np.arange(low, min(k, marked, drawn) + 1, dtype=np.float64)

    def choose(a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
        return special.gammaln(a + 1) - special.gammaln(b + 1) - special.gammaln(np.asarray(a - b) + 1)

    terms = choose(float(marked), j) + choose(float(population - marked), drawn - j) - choose(population, drawn)
    return float(special.logsumexp(terms))
