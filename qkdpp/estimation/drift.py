"""Whether the conditions of a block stayed the same: equal segments of its time, compared.

The bounds hold against any channel, a drifting one included, as long as
intensities and probabilities stay: counts of a whole block may be added. What
a drift costs is length, and it may be the trace of something else. So it is
measured, and by declared rule (``security.drift``) shown or a reason to stop.

A refusal rests on tails that hold for any block of constant conditions, however
small its counts. Given the totals, the x_s of one kind among the N_s events of
segment s are drawn without replacement. *One segment*: ``N_s D(x_s/N_s || share)
>= t`` with probability at most ``2 exp(-t)`` (Hoeffding 1963). *All together*: were
the x_s independent binomials, every term would lie below an exponential variable
plus ln 2, and their sum below a gamma variable; that the total is given costs no
more than ``1 / Pr[total] <= sqrt(8 M (1 - M/N))``. Chi-square, an approximation
for large counts, is for the eye.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEGMENTS = 10
FALSE_ALARM = 1e-6
"""Probability that a block of constant conditions is called inhomogeneous."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segments:
    """Public counts of a block by equal segments of its time.

    Attributes:
        by_intensity: int64[S, K], detections with equal bases by intensity, keyed ones included (pairs: K = 1).
        tested: int64[S], disclosed detections of the test basis.
        wrong: int64[S], errors among them.
    """

    by_intensity: NDArray[np.int64]
    tested: NDArray[np.int64]
    wrong: NDArray[np.int64]

    @property
    def detections(self) -> NDArray[np.int64]:
        """Detections with equal bases by segment."""
        total: NDArray[np.int64] = self.by_intensity.sum(axis=1)
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class ChiSquare:
    """A test of homogeneity: statistic, degrees of freedom, probability of as much by accident."""

    value: float
    degrees: int
    p: float


def segment_of(position: NDArray[np.int64] | NDArray[np.float32], first: float, last: float) -> NDArray[np.int64]:
    """Segment 0 .. S - 1 of each position (pulse number or time) between ``first`` and ``last``."""
    span = max(float(last) - float(first), 1e-9)
    index = (position.astype(np.float64) - float(first)) * (SEGMENTS / span)
    return np.clip(index.astype(np.int64), 0, SEGMENTS - 1)


def chi_squares(segments: Segments) -> dict[str, ChiSquare]:
    """Homogeneity of the test basis' error rate, of the shares of the intensities and of the rate of detections."""
    right = segments.tested - segments.wrong
    rates = segments.detections
    expected = np.full(rates.shape, rates.mean())
    found = {
        "qber": _contingency(np.stack([segments.wrong, right], axis=1)),
        "rate": _chi_square(rates.astype(np.float64), expected, rates.size - 1),
    }
    if segments.by_intensity.shape[1] > 1:
        found["intensities"] = _contingency(segments.by_intensity)
    return found


def drifted(segments: Segments) -> tuple[str, ...]:
    """``qber`` and ``intensities`` where they differ between segments beyond :data:`FALSE_ALARM`; rates may change."""
    labels = segments.by_intensity.shape[1]
    tables = [("qber", segments.wrong, segments.tested)]
    if labels > 1:
        tables += [("intensities", segments.by_intensity[:, k], segments.detections) for k in range(labels)]
    alarm = FALSE_ALARM / len(tables)
    return tuple(dict.fromkeys(name for name, part, whole in tables if _accident(part, whole) < alarm))


def _accident(part: NDArray[np.int64], whole: NDArray[np.int64]) -> float:
    """Bound on the probability that shares in segments of one block differ as much as these, by either measure."""
    total, kind = int(whole.sum()), int(part.sum())
    if not 0 < kind < total:
        return 1.0
    exponents = [_exponent(int(x), int(n), kind / total) for x, n in zip(part, whole, strict=True)]
    n = len(exponents)
    single = 2 * n * math.exp(-max(exponents))
    together = sum(exponents) - n * math.log(2)
    given = math.sqrt(8 * kind * (1 - kind / total))
    joint = max(given, 1.0) * chi_square_tail(2 * together, 2 * n) if together > 0 else 1.0
    return min(1.0, 2 * min(single, joint))


def _exponent(x: int, n: int, share: float) -> float:
    hit = x * math.log(x / (n * share)) if x else 0.0
    miss = (n - x) * math.log((n - x) / (n * (1 - share))) if x < n else 0.0
    return hit + miss


def _contingency(table: NDArray[np.int64]) -> ChiSquare:
    """Chi-square of a table of counts, empty rows and columns left out."""
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    rows, columns = table.shape
    if min(rows, columns) < 2:
        return ChiSquare(value=0.0, degrees=0, p=1.0)
    expected = table.sum(axis=1, keepdims=True) * (table.sum(axis=0, keepdims=True) / table.sum())
    return _chi_square(table.astype(np.float64), expected, (rows - 1) * (columns - 1))


def _chi_square(found: NDArray[np.float64], expected: NDArray[np.float64], degrees: int) -> ChiSquare:
    if degrees < 1 or not expected.all():
        return ChiSquare(value=0.0, degrees=0, p=1.0)
    value = float(((found - expected) ** 2 / expected).sum())
    return ChiSquare(value=value, degrees=degrees, p=chi_square_tail(value, degrees))


def chi_square_tail(value: float, degrees: int) -> float:
    """Probability that chi-square with whole ``degrees`` exceeds ``value``: the finite sums of both parities."""
    half = value / 2
    odd = degrees % 2
    term = math.exp(-half) * (math.sqrt(half / math.pi) * 2 if odd else 1.0)
    total = math.erfc(math.sqrt(half)) if odd else 0.0
    for k in range(degrees // 2):
        total += term
        term *= half / (k + 1.5 if odd else k + 1)
    return min(1.0, total)
