"""Decoy-state analysis of any number of intensities (two or more) by linear programming.

Ma, Qi, Zhao and Lo 2005 (Phys. Rev. A 72, 012326), Eqs. (9)-(10), for unlimited
data; for counts the picture of Lim et al. 2014 (Phys. Rev. A 89, 022307): given
photon numbers, labels are independent, so the mean of every label's count is
``sum_n p(k|n) s_n``. The closed forms of :mod:`qkdpp.estimation.decoy` combine a
few of these constraints; here the best combination of all of them is found.

Assumes what :mod:`qkdpp.estimation.intervals` says of the source; intensities may be
known as intervals. Every figure returned is a dual bound in exact arithmetic
(:mod:`qkdpp.estimation.dual`), so it holds whatever the solver did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.errors import ConfigError
from qkdpp.estimation.asymptotic import VACUUM_ERROR, Yields
from qkdpp.estimation.decoy import Estimator, Levels, Photons
from qkdpp.estimation.dual import Polytope, Row, polytope
from qkdpp.estimation.intervals import Floats, LabelWeights, PhotonNumbers, label_weights, photon_numbers

CUTOFF = 12
"""Largest photon number with a variable of its own."""

_GAIN_ROUNDING = 1e-12
"""Gains are floats: they are taken to be known to this relative accuracy."""
_ROUNDING = 1e-13
_BASES = "ZX"


def decoy_yields_linear(
    mu: tuple[float, ...],
    gain: tuple[float, ...],
    error_gain: tuple[float, ...],
    *,
    mu_tolerance: float | tuple[float, ...] = 0.0,
    cutoff: int = CUTOFF,
) -> Yields:
    """Yields from the gains of two or more intensities, in any order.

    Over all yields ``0 <= Y_n <= 1`` and error yields ``0 <= e_n Y_n <= Y_n`` that give the gains (detections without
    a photon are wrong half the time): the smallest Y_0, the smallest Y_1, and the largest ``e_1 Y_1``.

    Args:
        mu: mean photon numbers.
        gain: ``Q_k``, detections per pulse.
        error_gain: ``E_k Q_k``, wrong detections per pulse.
        mu_tolerance: relative half-width of the interval each mean photon number is known to lie in (0.05: within
            5 per cent), one for all or one for each. A mean of 0 stays 0: write an imperfect vacuum as a small mean
            with a wide interval.
        cutoff: largest photon number with a variable of its own.

    Raises:
        ConfigError: intensities or tolerances that cannot be used.
        Abort: gains that are no probabilities, or that no channel gives (``implausible_counts``).
    """
    if len(gain) != len(mu) or len(error_gain) != len(mu):
        raise ConfigError("gains: one gain and one error gain per intensity")
    if not all(0 <= e <= q <= 1 for q, e in zip(gain, error_gain, strict=True)):
        raise _contradiction(("gains or errors outside of what was sent",), mu, gain, error_gain)
    size = cutoff + 1
    rows = _gain_rows(photon_numbers(mu, mu_tolerance, cutoff), gain, error_gain)
    region, wrong = polytope(rows, np.ones(2 * size)).settled()
    if wrong:
        raise _contradiction(tuple(dict.fromkeys(wrong)), mu, gain, error_gain)
    y0, y1 = (max(region.least(np.eye(2 * size)[n]), 0.0) for n in (0, 1))
    if y1 == 0:
        return Yields(y0=y0, y1=0.0, e1=1.0)
    errors = max(region.most(np.eye(2 * size)[size + 1]), 0.0)
    return Yields(y0=y0, y1=y1, e1=min(errors / y1 * (1 + _ROUNDING), 1.0))


def _contradiction(
    what: tuple[str, ...], mu: tuple[float, ...], gain: tuple[float, ...], error_gain: tuple[float, ...]
) -> Abort:
    return Abort(
        AbortReason.IMPLAUSIBLE_COUNTS,
        contradictions=[f"no yields fit ({', '.join(what)})"],
        intensities=list(mu),
        gains=list(gain),
        error_gains=list(error_gain),
    )


def _gain_rows(numbers: PhotonNumbers, gain: tuple[float, ...], error_gain: tuple[float, ...]) -> list[Row]:
    """What gains say about yields (first half of the variables) and error yields (second half)."""
    size = numbers.low.shape[1]
    unit, half = np.eye(2 * size), np.zeros(size)
    rows: list[Row] = []
    for k, (low, high, tail) in enumerate(zip(numbers.low, numbers.high, numbers.tail, strict=True)):
        for name, value in (("gain", gain[k]), ("error gain", error_gain[k])):
            least, most = value * (1 - _GAIN_ROUNDING) - float(tail), value * (1 + _GAIN_ROUNDING)
            for row, limit in ((low, most), (-high, -least)):
                rows.append((f"{name} {k}", np.concatenate([row, half] if name == "gain" else [half, row]), limit))
    rows += [(f"errors {n}", unit[size + n] - unit[n], 0.0) for n in range(size)]
    vacuum = unit[size] - VACUUM_ERROR * unit[0]
    return [*rows, ("vacuum errors", vacuum, 0.0), ("vacuum errors", -vacuum, 0.0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """All labels of a source, brightest first.

    Attributes:
        levels: positions in the record, means and probabilities; ``tau`` is the largest in the box.
        weights: bounds on ``p(k|n)``, rows in the same order.
    """

    levels: Levels
    weights: LabelWeights


def all_labels(
    intensities: tuple[float, ...],
    p_intensity: tuple[float, ...],
    *,
    mu_tolerance: float | tuple[float, ...] = 0.0,
    cutoff: int = CUTOFF,
) -> Labels:
    """The labels of a source; ``mu_tolerance`` and ConfigError as of :func:`decoy_yields_linear`."""
    order = tuple(sorted(range(len(intensities)), key=lambda k: -intensities[k]))
    mu, p = tuple(intensities[k] for k in order), tuple(p_intensity[k] for k in order)
    if not isinstance(mu_tolerance, int | float) and len(mu_tolerance) == len(order):
        mu_tolerance = tuple(mu_tolerance[k] for k in order)
    weights = label_weights(mu, p, mu_tolerance, cutoff)
    return Labels(levels=Levels(index=order, mu=mu, p=p, tau=weights.tau), weights=weights)


def linear_statements(labels: int) -> tuple[str, ...]:
    """Names of the statements on counts that the analysis of both bases makes with so many labels.

    Both sides of every label's count in both bases, and of its errors in the test basis; with two labels also of its
    errors in the key basis, and one more in each basis on the errors of vacuum detections.
    """
    counts = [("n", b) for b in _BASES] + [("m", b) for b in (_BASES if labels == 2 else _BASES[1])]
    names = [f"{what}_{b}{r + 1} {side}" for what, b in counts for r in range(labels) for side in ("lower", "upper")]
    return tuple(names + [f"vacuum errors {b}" for b in _BASES if labels == 2])


def photons_linear(
    labels: Labels, basis: str, n: NDArray[np.int64], by: Estimator, m: NDArray[np.int64] | None = None
) -> Photons:
    """Vacuum and single-photon detections among those of one basis, at least.

    Args:
        labels: from :func:`all_labels`.
        basis: name of the basis.
        n: detections by label in the order of the record, int64[K].
        by: how counts become bounds on means; statements as listed by :func:`linear_statements`.
        m: bit errors by label, int64[K]. They limit the vacuum detections, half of which are wrong: needed with two
            labels, which leave those open.

    Returns:
        Bounds; if no photon numbers fit, those for counts relaxed as little as needed, and the statements that
        contradict each other.
    """
    total = int(n.sum())
    rows = _mean_rows(labels, f"n_{basis}", n, by)
    wrong: tuple[str, ...] = ()
    if m is not None:
        errors, wrong = errors_upper_linear(labels, basis, m, by, photons=0)
        b = by.log_eps(f"vacuum errors {basis}")
        upper = (math.sqrt(b / 2) + math.sqrt(b / 2 + 2 * errors)) ** 2 * (1 + _ROUNDING)
        rows.append((f"vacuum errors {basis}", _unit(labels, 0), upper))
    region, found = _settled(rows, total, f"detections of basis {basis}")
    vacuum, single = (min(max(region.least(_unit(labels, j)), 0.0), float(total)) for j in (0, 1))
    return Photons(vacuum_lower=vacuum, single_lower=single, contradictions=wrong + found)


def errors_upper_linear(
    labels: Labels, basis: str, m: NDArray[np.int64], by: Estimator, *, photons: int = 1
) -> tuple[float, tuple[str, ...]]:
    """Errors among detections of so many photons at most, of ``m`` (int64[K]) in one basis; and contradictions."""
    total = int(m.sum())
    region, found = _settled(_mean_rows(labels, f"m_{basis}", m, by), total, f"errors of basis {basis}")
    return min(max(region.most(_unit(labels, photons)), 0.0), float(total)), found


def _unit(labels: Labels, photons: int) -> Floats:
    return np.asarray(np.eye(labels.weights.low.shape[1])[photons])


def _mean_rows(labels: Labels, name: str, x: NDArray[np.int64], by: Estimator) -> list[Row]:
    """Both sides of every label's mean, and the total: in variables s_0 ... s_cutoff and all beyond."""
    total = int(x.sum())
    every = np.ones(labels.weights.low.shape[1])
    rows = [("total", every, float(total)), ("total", -every, -float(total))]
    for rank, k in enumerate(labels.levels.index):
        lower, upper = (side(f"{name}{rank + 1}", int(x[k]), total) for side in (by.lower, by.upper))
        rows.append((f"{name}{rank + 1} upper", labels.weights.low[rank], upper))
        if lower > 0:
            rows.append((f"{name}{rank + 1} lower", -labels.weights.high[rank], -lower))
    return rows


def _settled(rows: list[Row], total: int, what: str) -> tuple[Polytope, tuple[str, ...]]:
    region, wrong = polytope(rows, np.full(rows[0][1].size, float(total))).settled()
    names = ", ".join(name for name in dict.fromkeys(wrong) if name != "total")
    return region, (f"no photon numbers fit the {what} ({names})",) if wrong else ()
