"""Photon numbers of pulses whose intensities are known as intervals: what holds everywhere in the box.

Assumes phase-randomised pulses whose mean photon number lies, pulse by pulse,
within ``mu_k (1 - t_k)`` to ``mu_k (1 + t_k)``, t_k relative and without
unit; it may drift or jump in there and the adversary may know it, but it must
not depend on the labels of *other* pulses (pattern effect). Photon numbers 0
to ``cutoff`` are kept apart, all larger ones share one column. Guarantees
that every bound is on the safe side of the true number, rounding included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import ConfigError

Floats = NDArray[np.float64]

_ROUNDING = 1e-13
"""Relative error allowed for in a Poisson probability or a quotient of sums of them; the true one is below 1e-14."""
_TINY = 1e-200
"""Added to upper bounds in case a product fell below the smallest float."""
_DIMMEST = 1e-3
"""Smallest mean photon number of the brightest label for which that suffices."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhotonNumbers:
    """``Pr[n photons]`` at least and at most, for every label.

    Attributes:
        low: float64[K, cutoff + 1].
        high: float64[K, cutoff + 1].
        tail: float64[K], probability of more than ``cutoff`` photons at most.
    """

    low: Floats
    high: Floats
    tail: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelWeights:
    """``p(k|n)``, the probability of a label given the photon number, at least and at most.

    Attributes:
        low: float64[K, cutoff + 2]; the last column holds for every n above the cut-off.
        high: the same.
        tau: probability of 0 and of 1 photon in a pulse, over all labels, at most.
    """

    low: Floats
    high: Floats
    tau: tuple[float, float]


def edges(mu: tuple[float, ...], tolerance: float | tuple[float, ...], cutoff: int) -> tuple[Floats, Floats]:
    """Smallest and largest mean photon number of each label.

    Args:
        mu: mean photon numbers, all different, at least two.
        tolerance: half the width of each interval over its middle, from 0 to 1; one for all labels or one each.
        cutoff: largest photon number that is looked at by itself.

    Raises:
        ConfigError: intensities or tolerances outside these ranges, or a mean that is not below the cut-off.
    """
    shares = (float(tolerance),) * len(mu) if isinstance(tolerance, int | float) else tuple(tolerance)
    if len(mu) < 2 or len(set(mu)) != len(mu) or not all(math.isfinite(v) and v >= 0 for v in mu):
        raise ConfigError("intensities: a decoy-state analysis needs at least two, finite, not negative, all different")
    if len(shares) != len(mu) or not all(0 <= t <= 1 for t in shares):
        raise ConfigError("mu_tolerance: a share from 0 to 1, one for all intensities or one for each")
    middle, width = np.array(mu, dtype=np.float64), np.array(shares, dtype=np.float64)
    low, high = middle * (1 - width), middle * (1 + width)
    if not _DIMMEST <= high.max() < cutoff:
        raise ConfigError(f"intensities: the brightest must lie between {_DIMMEST:g} and the cut-off {cutoff} photons")
    return low, high


def photon_numbers(mu: tuple[float, ...], tolerance: float | tuple[float, ...], cutoff: int) -> PhotonNumbers:
    """Bounds on Poisson probabilities over the box; errors as of :func:`edges`.

    ``P_n(mu)`` rises up to ``mu = n`` and falls from there, so its minimum lies at an end of the interval and its
    maximum at an end or at n. The tail is at most ``P_{c+1} / (1 - mu / (c + 2))`` at the upper end (geometric series).
    """
    low, high = edges(mu, tolerance, cutoff)
    n = range(cutoff + 1)
    at_ends = np.array([[[_poisson(j, v) for j in n] for v in ends] for ends in zip(low, high, strict=True)])
    highest = at_ends.max(axis=1)
    for k, (a, b) in enumerate(zip(low, high, strict=True)):
        for j in n:
            if a <= j <= b:
                highest[k, j] = _poisson(j, float(j))
    tail = np.array([_poisson(cutoff + 1, v) / (1 - v / (cutoff + 2)) for v in high])
    return PhotonNumbers(low=_less(at_ends.min(axis=1)), high=_more(highest), tail=_more(tail))


def label_weights(
    mu: tuple[float, ...], p: tuple[float, ...], tolerance: float | tuple[float, ...], cutoff: int
) -> LabelWeights:
    """Bounds on ``p(k|n)`` over the box; errors as of :func:`edges`.

    ``p(k|n) = p_k P_n(mu_k) / sum_j p_j P_n(mu_j)`` is smallest where its own term is smallest and the others are
    largest. Above the cut-off every P_n rises with the mean; against the brightest label each other one loses weight
    with every further photon, so its share is at most the one at ``cutoff + 1`` in a world of these two.
    """
    low, high = edges(mu, tolerance, cutoff)
    numbers, share = photon_numbers(mu, tolerance, cutoff), np.array(p, dtype=np.float64)
    least, most = share[:, None] * numbers.low, share[:, None] * numbers.high
    others = 1.0 - np.eye(share.size)
    lowest, highest = _quotient(least, others @ most, 0.0), _quotient(most, others @ least, 1.0)
    first = cutoff + 1
    beyond_low = share * np.array([_poisson(first, v) for v in low])
    beyond_high = share * np.array([_poisson(first, v) for v in high])
    brightest = int(np.argmax(mu))
    apart = high < low[brightest]  # labels that stay dimmer than the brightest wherever both are in the box
    tail_high = np.where(apart, _quotient(beyond_high, beyond_low[brightest], 1.0), 1.0)
    tail_low = np.zeros(share.size)
    if int(apart.sum()) == share.size - 1:
        tail_low[brightest] = _quotient(beyond_low, others @ beyond_high, 0.0)[brightest]
    return LabelWeights(
        low=_less(np.column_stack([lowest, tail_low])),
        high=np.minimum(_more(np.column_stack([highest, tail_high])), 1.0),
        tau=(float(most[:, 0].sum()), float(most[:, 1].sum())),
    )


def _poisson(n: int, mu: float) -> float:
    return math.exp(-mu) * mu**n / math.factorial(n)


def _quotient(part: Floats, rest: Floats, otherwise: float) -> Floats:
    """``part / (part + rest)``, or ``otherwise`` where nothing is left to divide by."""
    whole = part + rest
    return np.divide(part, whole, out=np.full_like(whole, otherwise), where=whole > 0)


def _less(x: Floats) -> Floats:
    return np.asarray(x * (1 - _ROUNDING))


def _more(x: Floats) -> Floats:
    return np.asarray(x * (1 + _ROUNDING) + _TINY)
