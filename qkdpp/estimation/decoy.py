"""Decoy-state algebra: from counts by intensity to counts by photon number.

Two decoys: Lim et al. 2014 (Phys. Rev. A 89, 022307), Eqs. (2)-(4); one decoy:
Rusca et al. 2018 (Appl. Phys. Lett. 112, 171104). Written in scaled counts
``N_k = e^mu_k n_k / p_k``, whose means are ``sum_n mu_k^n / n! s_n / tau_n``: the
finite-size bounds and the asymptotic ones share the algebra. Assumes labels
drawn independently of everything but the photon number; any number of further
labels may exist, ``tau_n`` runs over all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import ConfigError


class Estimator(Protocol):
    """Turns counts into bounds on their means (:mod:`qkdpp.estimation.registry`)."""

    def lower(self, name: str, x: float, n: float) -> float:
        """Lower bound on the mean of ``x`` out of ``n``."""
        ...

    def upper(self, name: str, x: float, n: float) -> float:
        """Upper bound on the mean of ``x`` out of ``n``."""
        ...

    def log_eps(self, name: str) -> float:
        """``ln 1/eps`` of a named statement."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """The two or three intensities that enter the closed forms, brightest first, and what all labels weigh.

    Attributes:
        index: positions of the chosen labels in the record.
        mu: their mean photon numbers.
        p: their probabilities.
        tau: probability of 0 and of 1 photon in a pulse, over all labels.
    """

    index: tuple[int, ...]
    mu: tuple[float, ...]
    p: tuple[float, ...]
    tau: tuple[float, float]

    def share_of_single_photons(self, rank: int) -> float:
        """Probability that a single photon carries the chosen label ``rank``."""
        return self.p[rank] * math.exp(-self.mu[rank]) * self.mu[rank] / self.tau[1]


def choose_levels(intensities: tuple[float, ...], p_intensity: tuple[float, ...]) -> Levels:
    """The labels to use: the brightest and, of the rest, the two dimmest (the only other one of two).

    The rule looks at the source's parameters, never at data.

    Raises:
        ConfigError: fewer than two intensities, or ``mu1 > mu2 + mu3`` does not hold.
    """
    order = sorted(range(len(intensities)), key=lambda k: -intensities[k])
    if len(order) < 2:
        raise ConfigError("intensities: a decoy-state key length needs at least two")
    index = (order[0], order[1]) if len(order) == 2 else (order[0], order[-2], order[-1])
    mu = tuple(intensities[k] for k in index)
    if mu[0] <= sum(mu[1:]):
        raise ConfigError(f"intensities: {mu[0]} must exceed the sum of the decoys {mu[1:]}")
    if mu[1] <= 0:
        raise ConfigError("intensities: with two of them the weaker one must not be vacuum")
    tau = tuple(sum(p * math.exp(-v) * v**n for v, p in zip(intensities, p_intensity, strict=True)) for n in (0, 1))
    return Levels(index=index, mu=mu, p=tuple(p_intensity[k] for k in index), tau=(tau[0], tau[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Photons:
    """Bounds on the detections of one basis by photon number, and what in them contradicts the model."""

    vacuum_lower: float
    single_lower: float
    contradictions: tuple[str, ...] = ()


def vacuum_lower(mu2: float, mu3: float, n2_upper: float, n3_lower: float) -> float:
    """``s_0 / tau_0`` at least (scaled counts of two intensities, mu2 > mu3)."""
    return (mu2 * n3_lower - mu3 * n2_upper) / (mu2 - mu3)


def single_lower(mu: tuple[float, ...], n1_upper: float, n2_lower: float, n3_upper: float, vacuum: float) -> float:
    """``s_1 / tau_1`` at least, from three intensities and a lower bound ``vacuum`` on ``s_0 / tau_0``."""
    mu1, mu2, mu3 = mu
    many = (mu2**2 - mu3**2) / mu1**2 * (n1_upper - vacuum)
    return mu1 * (n2_lower - n3_upper - many) / (mu1 * (mu2 - mu3) - mu2**2 + mu3**2)


def single_lower_one_decoy(mu: tuple[float, ...], n1_upper: float, n2_lower: float, vacuum: float) -> float:
    """``s_1 / tau_1`` at least, from two intensities and an UPPER bound ``vacuum`` on ``s_0 / tau_0``."""
    mu1, mu2 = mu
    rest = mu2**2 / mu1**2 * n1_upper + (mu1**2 - mu2**2) / mu1**2 * vacuum
    return mu1 / (mu2 * (mu1 - mu2)) * (n2_lower - rest)


def _scale(levels: Levels, rank: int, count: float) -> float:
    return math.exp(levels.mu[rank]) / levels.p[rank] * count


def photons_two_decoys(levels: Levels, basis: str, n: NDArray[np.int64], by: Estimator) -> Photons:
    """Vacuum and single-photon detections among ``n`` (int64[K], all labels) of one basis: five statements."""
    total = int(n.sum())
    mu1, mu2, mu3 = levels.mu
    x = [int(n[k]) for k in levels.index]
    n1_up, n2_up, n3_up = (_scale(levels, r, by.upper(f"n_{basis}{r + 1}", x[r], total)) for r in range(3))
    n2_low, n3_low = (_scale(levels, r, by.lower(f"n_{basis}{r + 1}", x[r], total)) for r in (1, 2))
    vacuum = min(max(vacuum_lower(mu2, mu3, n2_up, n3_low), 0.0), total / levels.tau[0])
    single = single_lower(levels.mu, n1_up, n2_low, n3_up, vacuum)
    wrong = []
    if n2_up < n3_low:
        wrong.append(f"single-photon yield below zero in basis {basis}")
    if (n1_up - n2_low) / (mu1 - mu2) < (n2_low - n3_up) / (mu2 - mu3):
        wrong.append(f"multi-photon yields below zero in basis {basis}")
    if levels.tau[1] * single > total:
        wrong.append(f"more single-photon detections than detections in basis {basis}")
    return Photons(
        vacuum_lower=levels.tau[0] * vacuum,
        single_lower=min(max(levels.tau[1] * single, 0.0), total),
        contradictions=tuple(wrong),
    )


def photons_one_decoy(
    levels: Levels, basis: str, n: NDArray[np.int64], m: NDArray[np.int64], by: Estimator, *, as_printed: bool
) -> Photons:
    """The same from two intensities; the errors ``m`` of the basis bound its vacuum detections: five statements.

    Args:
        levels: the two intensities.
        basis: name of the basis.
        n: detections by label, int64[K].
        m: bit errors by label, int64[K], all known.
        by: how counts become bounds.
        as_printed: take the vacuum bound of Rusca et al. 2018 instead of the tighter root.
    """
    total, wrong_total = int(n.sum()), int(m.sum())
    mu1, mu2 = levels.mu
    first, second = levels.index
    n1_up = _scale(levels, 0, by.upper(f"n_{basis}1", int(n[first]), total))
    n2_low = _scale(levels, 1, by.lower(f"n_{basis}2", int(n[second]), total))
    errors = [
        _scale(levels, r, by.upper(f"m_{basis}{r + 1}", int(m[k]), wrong_total)) for r, k in enumerate(levels.index)
    ]
    vacuum_errors = min(levels.tau[0] * min(errors), wrong_total)
    b = by.log_eps(f"vacuum errors {basis}")
    if as_printed:
        vacuum_upper = 2 * (vacuum_errors + math.sqrt(total * b / 2))
    else:
        vacuum_upper = (math.sqrt(b / 2) + math.sqrt(b / 2 + 2 * vacuum_errors)) ** 2
    vacuum = min(vacuum_upper, total) / levels.tau[0]
    single = single_lower_one_decoy(levels.mu, n1_up, n2_low, vacuum)
    wrong = []
    if n1_up < n2_low:
        wrong.append(f"photon yields below zero in basis {basis}")
    if levels.tau[1] * single > total:
        wrong.append(f"more single-photon detections than detections in basis {basis}")
    return Photons(
        vacuum_lower=min(max(levels.tau[0] * vacuum_lower(mu1, mu2, n1_up, n2_low), 0.0), total),
        single_lower=min(max(levels.tau[1] * single, 0.0), total),
        contradictions=tuple(wrong),
    )


def errors_upper(levels: Levels, basis: str, m: NDArray[np.int64], by: Estimator) -> tuple[float, tuple[str, ...]]:
    """Upper bound on the single-photon errors among ``m`` (int64[K]), and contradictions: two statements.

    Uses the two dimmest of the chosen labels (of two: both). Never more than the errors seen.
    """
    total = int(m.sum())
    high, low = len(levels.index) - 2, len(levels.index) - 1
    upper = _scale(levels, high, by.upper(f"m_{basis}{high + 1}", int(m[levels.index[high]]), total))
    lower = _scale(levels, low, by.lower(f"m_{basis}{low + 1}", int(m[levels.index[low]]), total))
    value = levels.tau[1] * (upper - lower) / (levels.mu[high] - levels.mu[low])
    wrong = (f"single-photon error yield below zero in basis {basis}",) if value < 0 else ()
    return min(max(value, 0.0), float(total)), wrong
