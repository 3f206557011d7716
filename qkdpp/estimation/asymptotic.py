"""Decoy-state BB84 with unlimited data: vacuum + weak decoy, in gains per pulse.

Ma, Qi, Zhao and Lo 2005 (Phys. Rev. A 72, 012326), Eqs. (18), (21), (25), (35)-(38).
Assumes phase-randomised pulses and gains ``Q_k`` and error gains ``E_k Q_k`` known
exactly; the same algebra as the finite-size bounds (:mod:`qkdpp.estimation.decoy`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.errors import ConfigError
from qkdpp.estimation.decoy import single_lower, vacuum_lower
from qkdpp.estimation.security import binary_entropy, error_penalty

ROUNDING = 1e-9
"""Relative rounding of gains that is no contradiction yet."""
VACUUM_ERROR = 0.5
"""Error rate of detections without a photon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Yields:
    """Vacuum and single-photon yields (lower bounds) and single-photon error rate (upper bound)."""

    y0: float
    y1: float
    e1: float


def decoy_yields(mu: tuple[float, float, float], gain: tuple[float, ...], error_gain: tuple[float, ...]) -> Yields:
    """Yields from the gains of three intensities, brightest first.

    Args:
        mu: mean photon numbers, ``mu1 > mu2 + mu3`` and ``mu2 > mu3 >= 0``.
        gain: ``Q_k``, detections per pulse.
        error_gain: ``E_k Q_k``, wrong detections per pulse.

    Raises:
        ConfigError: intensities that the bounds do not hold for.
        Abort: gains that no channel gives (``implausible_counts``): a yield below zero or above one.
    """
    if not mu[0] > mu[1] + mu[2] or not mu[1] > mu[2] >= 0:
        raise ConfigError(f"intensities {mu}: the first must exceed the sum of the others, in falling order")
    q1, q2, q3 = (q * math.exp(v) for q, v in zip(gain, mu, strict=True))
    wrong1, wrong2, wrong3 = (q * math.exp(v) for q, v in zip(error_gain, mu, strict=True))
    _refuse_contradictions(mu, gain, error_gain)
    y0 = max(vacuum_lower(mu[1], mu[2], q2, q3), 0.0)
    y1 = max(single_lower(mu, q1, q2, q3, y0), 0.0)
    if max(y0, y1) > 1 + ROUNDING:
        raise _contradiction("a yield above one", mu, gain, error_gain)
    if y1 == 0:
        return Yields(y0=y0, y1=0.0, e1=1.0)
    errors = min((wrong2 - wrong3) / (mu[1] - mu[2]), (wrong1 - VACUUM_ERROR * y0) / mu[0])
    return Yields(y0=y0, y1=y1, e1=min(max(errors / y1, 0.0), 1.0))


def _refuse_contradictions(
    mu: tuple[float, float, float], gain: tuple[float, ...], error_gain: tuple[float, ...]
) -> None:
    """Abort unless ``e^mu Q`` and ``e^mu E Q`` can be power series with coefficients from 0 to ``1/n!``."""
    if not all(0 <= wrong <= q <= 1 for wrong, q in zip(error_gain, gain, strict=True)):
        raise _contradiction("gains or errors outside of what was sent", mu, gain, error_gain)
    detected = [q * math.exp(v) for q, v in zip(gain, mu, strict=True)]
    wrong = [q * math.exp(v) for q, v in zip(error_gain, mu, strict=True)]
    slack = ROUNDING * detected[0]
    if detected[1] < detected[2] - slack:
        raise _contradiction("a photon yield below zero", mu, gain, error_gain)
    steep, flat = mu[0] - mu[1], mu[1] - mu[2]
    if (detected[0] - detected[1]) * flat < (detected[1] - detected[2]) * steep - slack * steep:
        raise _contradiction("a multi-photon yield below zero", mu, gain, error_gain)
    if wrong[1] < wrong[2] - slack:
        raise _contradiction("a photon error yield below zero", mu, gain, error_gain)


def _contradiction(
    what: str, mu: tuple[float, float, float], gain: tuple[float, ...], error_gain: tuple[float, ...]
) -> Abort:
    return Abort(
        AbortReason.IMPLAUSIBLE_COUNTS,
        contradictions=[what],
        intensities=list(mu),
        gains=list(gain),
        error_gains=list(error_gain),
    )


def asymptotic_rate(mu: float, gain: float, error_rate: float, yields: Yields, *, f_ec: float) -> float:
    """Secret bits per sifted signal pulse; at least 0.

    To be multiplied by what sifting keeps, the share of signal pulses and the share of the time that is live.

    Args:
        mu: mean photon number of the signal.
        gain: ``Q_mu``.
        error_rate: ``E_mu``.
        yields: from :func:`decoy_yields`.
        f_ec: leak of error correction over its Shannon limit.
    """
    singles = mu * math.exp(-mu) * yields.y1
    return max(0.0, singles * (1 - error_penalty(yields.e1)) - f_ec * gain * binary_entropy(error_rate))
