"""Kato's inequality: observed counts and sums of conditional expectations where rounds depend on each other.

Kato 2020 (arXiv:2002.04357), optimal parameters in closed form as in Currás-Lorenzo et al. 2021 (npj Quantum
Information 7, 22). For any 0/1 variables ``xi_1 .. xi_n``, however dependent, with observed sum ``x`` and
``S = sum E(xi_u | all before u)``, and for any ``a`` and ``b >= |a|`` fixed beforehand,

    Pr[ S - x >= (b + a (2x/n - 1)) sqrt(n) ] <= exp( -2 (b^2 - a^2) / (1 + 4a / (3 sqrt(n)))^2 ).

Assumes that ``a`` and ``b`` do not depend on the variables: they follow from ``n``, from the failure probability and
from a PREDICTED count. Valid for every prediction, tight for a good one: the bound is a straight line that touches
the curve of all optimal bounds at the prediction. The other direction is the same inequality for ``1 - xi``.
Without a prediction ``a = 0``: Azuma's inequality for variables between 0 and 1, deviation ``sqrt(n ln(1/eps) / 2)``.
Guarantees results between 0 and n, rounding on the safe side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_SLACK = 1e-12
"""Relative rounding error allowed for in the exponent, always against us."""
_FIXED_POINT_STEPS = 100
_SMALL = 0.5
"""Counts below this multiple of ``ln 1/eps`` have no lower bound above 0: predictions are lifted to it on that side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Kato's deviation as a line in the count ``x``: ``intercept + slope x``, or ``intercept - slope (n - x)``.

    The first form serves ``slope >= 0``, the second ``slope < 0``: both terms are then positive and nothing cancels.

    Attributes:
        n: number of variables.
        slope: ``2 a / sqrt(n)``, at least -1.
        intercept: ``(b - |a|) sqrt(n)``.
    """

    n: int
    slope: float
    intercept: float

    def deviation(self, x: float, rest: float) -> float:
        """How far the sum of expectations may lie above ``x``; ``rest`` is ``n - x``."""
        return self.intercept + (self.slope * x if self.slope >= 0 else -self.slope * rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class KatoPlan:
    """Everything that is fixed before the data.

    Attributes:
        n: number of variables.
        eps: failure probability of each side.
        above: line of the upper bound.
        below: line of the lower bound, for the variables ``1 - xi``.
    """

    n: int
    eps: float
    above: Line
    below: Line


def plan(n: int, predicted: float | None, eps: float) -> KatoPlan:
    """Parameters that are best if the observed count is as predicted.

    Args:
        n: number of variables, at least 1. May itself be observed if it is fixed before the first variable is
            (the number of clicks, say, for variables that are outcomes of these clicks).
        predicted: count expected from a model or from earlier blocks, never from the data themselves; clipped to
            0 .. n. None: no prediction, Azuma's deviation.
        eps: failure probability of each side.

    Raises:
        ValueError: no variables, a prediction that is not a number, or eps outside 0 .. 1.
    """
    _check(n, eps)
    if predicted is None:
        line = _line(n, 0.0, eps)
        return KatoPlan(n=n, eps=eps, above=line, below=line)
    expected = _clip(predicted, n)
    return KatoPlan(n=n, eps=eps, above=_best(n, expected, eps), below=_best(n, n - expected, eps))


def plan_for_mean(n: int, predicted_mean: float | None, eps: float) -> KatoPlan:
    """Parameters for :func:`observed_upper`, best if the sum of expectations is as predicted.

    The best line for a given sum is the one that is best for the count it allows: solved by iteration, and valid
    wherever the iteration stops. Arguments and errors as of :func:`plan`.
    """
    if predicted_mean is None:
        return plan(n, None, eps)
    _check(n, eps)
    mean = _clip(predicted_mean, n)
    count = mean
    for _ in range(_FIXED_POINT_STEPS):
        before, count = count, observed_upper(plan(n, count, eps), mean)
        if abs(count - before) <= 1e-9 * n:
            break
    return plan(n, count, eps)


def mean_upper(rule: KatoPlan, x: float) -> float:
    """Upper bound on the sum of conditional expectations; never falls when ``x`` grows."""
    rest = _rest(rule, x)
    return min(float(rule.n), x + rule.above.deviation(x, rest))


def mean_lower(rule: KatoPlan, x: float) -> float:
    """Lower bound on the sum of conditional expectations; never falls when ``x`` grows."""
    rest = _rest(rule, x)
    return max(0.0, x - rule.below.deviation(rest, x))


def observed_upper(rule: KatoPlan, mean: float) -> float:
    """Upper bound on the observed count, given (a bound on) the sum of conditional expectations.

    The same statement as :func:`mean_lower`, solved for the count.
    """
    n, slope = rule.n, rule.below.slope
    raised = mean + rule.below.intercept
    if slope >= 0:
        return min(float(n), (raised + slope * n) / (1 + slope))
    return float(n) if slope <= -1 else min(float(n), raised / (1 + slope))


def kato_upper(x: float, n: int, eps: float, predicted: float | None) -> float:
    """:func:`mean_upper` with the plan of :func:`plan`."""
    return mean_upper(plan(n, predicted, eps), x)


def kato_lower(x: float, n: int, eps: float, predicted: float | None) -> float:
    """:func:`mean_lower` with the plan of :func:`plan`."""
    return mean_lower(plan(n, predicted, eps), x)


def _check(n: int, eps: float) -> None:
    if n < 1 or not 0 < eps < 1:
        raise ValueError(f"no bound for {n} variables at failure probability {eps}")


def _clip(predicted: float, n: int) -> float:
    if math.isnan(predicted):
        raise ValueError("a prediction must be a number")
    return min(max(float(predicted), 0.0), float(n))


def _rest(rule: KatoPlan, x: float) -> float:
    if not 0 <= x <= rule.n:
        raise ValueError(f"no bound for a count of {x} out of {rule.n}")
    return rule.n - x


def _best(n: int, count: float, eps: float) -> Line:
    """The line that is lowest at ``count``: minimum over a of ``b(a) + a (2 count/n - 1)``, a convex function.

    With ``s = 4 / (3 sqrt(n))`` and ``B = ln(1/eps)`` the square of ``b(a)`` is the parabola
    ``a^2 + (1 + s a)^2 B / 2``; about its vertex the minimum is elementary.
    """
    log_eps, s = -math.log(eps), 4 / (3 * math.sqrt(n))
    count = min(count, max(n - _SMALL * log_eps, n / 2))
    y = 2 * count / n - 1
    curvature = 1 + s * s * log_eps / 2
    spread = 4 * (count / n) * (1 - count / n) + s * s * log_eps / 2  # curvature - y^2, without cancellation
    a = -(y * math.sqrt(log_eps / (2 * spread)) + s * log_eps / 2) / curvature
    return _line(n, a, eps)


def _line(n: int, a: float, eps: float) -> Line:
    """The line for a given ``a``; below ``-sqrt(n)/2`` no line says anything, so that is where they end."""
    root = math.sqrt(n)
    a = max(a, -root / 2)
    variance = (1 + 4 * a / (3 * root)) ** 2 * -math.log(eps) / 2 * (1 + _SLACK)
    b = math.sqrt(a * a + variance)
    return Line(n=n, slope=2 * a / root, intercept=root * variance / (b + abs(a)))
