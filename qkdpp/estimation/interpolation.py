"""Single-photon detections from above and from below, by polynomials through intensities.

Assumes what :mod:`qkdpp.estimation.decoy` assumes. Scaled counts ``N(mu) = e^mu n / p`` have the mean
``sum_n mu^n / n! s_n / tau_n``, so ``s_1 / tau_1`` is the slope of that series at zero. The slope at zero of the
polynomial through m points of it differs from the slope of the series by
``(-1)^m sum_{n >= m} (e_{m-1} h_{n-m} - e_m h_{n-m-1}) / n! s_n / tau_n`` with elementary (e) and complete homogeneous
(h) symmetric polynomials of the m intensities. Each bracket is at least 0, because ``h_j >= max(mu) h_{j-1}`` and
``e_{m-1} >= e_m / max(mu)``: an odd number of intensities gives a lower bound, an even number an upper one. Two points
are the error bound of Lim et al. 2014 (Phys. Rev. A 89, 022307), Eq. (4); three with a vacuum are their Eq. (3).

The sets used are chosen from intensities alone: the two dimmest, with one of the others for a lower bound; alone, and
with two of the others, for an upper one. The best of several is taken; every count that any of them needs is a
statement of its own. Guarantees bounds between 0 and the number of detections.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import ConfigError
from qkdpp.estimation.decoy import Estimator

Weights = tuple[tuple[int, float], ...]
"""Labels of a polynomial with the weight of each one's scaled count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slopes:
    """Every polynomial that bounds the single photons of one set of intensities.

    Attributes:
        mu: mean photon numbers by label.
        p: probability of each label.
        tau1: probability that a pulse of any label holds one photon.
        lower: polynomials through three intensities.
        upper: polynomials through two and through four.
    """

    mu: tuple[float, ...]
    p: tuple[float, ...]
    tau1: float
    lower: tuple[Weights, ...]
    upper: tuple[Weights, ...]


def slopes(mu: tuple[float, ...], p: tuple[float, ...]) -> Slopes:
    """The polynomials for labels of these intensities and probabilities.

    Raises:
        ConfigError: fewer than three intensities, or one that is not a finite number >= 0.
    """
    if len(mu) < 3 or len(set(mu)) != len(mu) or not all(0 <= v < math.inf for v in mu):
        raise ConfigError(
            "intensities: bounds from above and from below need three or more, all different, none negative"
        )
    first, second, *others = sorted(range(len(mu)), key=lambda k: mu[k])
    pairs = [(first, second, *pair) for pair in itertools.combinations(others, 2)]
    return Slopes(
        mu=mu,
        p=p,
        tau1=sum(share * math.exp(-v) * v for v, share in zip(mu, p, strict=True)),
        lower=tuple(_weights(mu, (first, second, other)) for other in others),
        upper=tuple(_weights(mu, labels) for labels in [(first, second), *pairs]),
    )


def slope_bounds(through: Slopes, scaled: NDArray[np.float64]) -> tuple[float, float]:
    """``s_1 / tau_1`` at least and at most from scaled counts known exactly, float64[K]; not clipped."""
    lower = max(sum(w * float(scaled[k]) for k, w in weights) for weights in through.lower)
    return lower, min(sum(w * float(scaled[k]) for k, w in weights) for weights in through.upper)


def statements(through: Slopes, name: str, *, upper: bool) -> tuple[str, ...]:
    """Names of the statements that a bound on the detections ``name`` rests on."""
    needed = {(k, (w < 0) != upper) for weights in (through.upper if upper else through.lower) for k, w in weights}
    return tuple(_statement(name, k, "upper" if side else "lower") for k, side in sorted(needed))


def singles_lower(through: Slopes, name: str, n: NDArray[np.int64], by: Estimator) -> float:
    """Lower bound on the single-photon detections among ``n`` (int64[K]); above ``n.sum()`` only if counts lie."""
    return through.tau1 * max(0.0, *(_value(through, w, name, n, by, upper=False) for w in through.lower))


def singles_upper(through: Slopes, name: str, n: NDArray[np.int64], by: Estimator) -> float:
    """Upper bound on the single-photon detections among ``n`` (int64[K]); below 0 only if counts lie."""
    values = [_value(through, w, name, n, by, upper=True) for w in through.upper]
    return min(float(n.sum()), through.tau1 * min(values))


def _weights(mu: tuple[float, ...], labels: tuple[int, ...]) -> Weights:
    """Slope at zero of the polynomial through the points of ``labels``, by Lagrange."""
    found = []
    for k in labels:
        rest = [mu[j] for j in labels if j != k]
        slope = sum(math.prod(-v for j, v in enumerate(rest) if j != i) for i in range(len(rest)))
        found.append((k, slope / math.prod(mu[k] - v for v in rest)))
    return tuple(found)


def _statement(name: str, label: int, side: str) -> str:
    return f"n_{name}[{label}] {side}"


def _value(through: Slopes, weights: Weights, name: str, n: NDArray[np.int64], by: Estimator, *, upper: bool) -> float:
    total, value = int(n.sum()), 0.0
    for k, w in weights:
        side = by.upper if (w < 0) != upper else by.lower
        value += w * math.exp(through.mu[k]) / through.p[k] * side(f"n_{name}[{k}]", int(n[k]), total)
    return value
