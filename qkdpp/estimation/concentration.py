"""Concentration inequalities, inverted exactly: what an observed count says about its mean, and the reverse.

Assumes a sum of independent 0/1 variables, not necessarily of equal
probability (the labels of detected pulses, Lim et al. 2014). Each function
returns one side; that side fails with probability at most ``eps``. Results are
clipped to what is always true (0 <= mean <= n) and rounding errs to the safe
side.

``hoeffding``: Hoeffding 1963, Theorem 2. ``chernoff``: the multiplicative
bound, solved for the mean (one-sided form of Zhang et al. 2017, Phys. Rev. A
95, 012333). ``kl``: Hoeffding 1963, Theorem 1, the relative-entropy form,
never looser than the other two.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from qkdpp.estimation.security import Concentration

_STEPS = 200
"""Halvings of an interval: more than the bits of a double."""
_SLACK = 1e-13
"""Relative rounding error allowed for in the exponent, always against us."""


def mean_upper(kind: Concentration, x: float, n: float, eps: float) -> float:
    """Upper bound on the mean of a count observed as ``x`` out of ``n``."""
    _check(x, n, eps)
    return min(float(n), _UPPER[kind](x, n, -math.log(eps)))


def mean_lower(kind: Concentration, x: float, n: float, eps: float) -> float:
    """Lower bound on the mean of a count observed as ``x`` out of ``n``."""
    _check(x, n, eps)
    return max(0.0, _LOWER[kind](x, n, -math.log(eps)))


def binomial_lower(n: int, p: float, eps: float) -> int:
    """A whole number that a Binomial(n, p) count falls short of with probability at most ``eps`` (KL form)."""
    if n <= 0 or p <= 0:
        return 0
    if p >= 1:
        return n
    target = -math.log(eps) + _SLACK * n

    def exceeds(x: float) -> bool:
        return _kl_exponent(x, n, math.log(p), math.log1p(-p)) >= target

    if not exceeds(0.0):
        return 0
    return math.floor(_bisect(exceeds, true_at=0.0, false_at=n * p))


def _check(x: float, n: float, eps: float) -> None:
    if not 0 <= x <= n or not 0 < eps < 1:
        raise ValueError(f"no bound for a count of {x} out of {n} at failure probability {eps}")


def _bisect(condition: Callable[[float], bool], *, true_at: float, false_at: float) -> float:
    """The boundary of a monotone condition, from the side where it is true."""
    good, bad = true_at, false_at
    for _ in range(_STEPS):
        middle = (good + bad) / 2
        if middle in (good, bad):
            break
        if condition(middle):
            good = middle
        else:
            bad = middle
    return good


def _hoeffding_upper(x: float, n: float, b: float) -> float:
    return x + math.sqrt(n * b / 2)


def _hoeffding_lower(x: float, n: float, b: float) -> float:
    return x - math.sqrt(n * b / 2)


def _chernoff_exponent(x: float, delta: float) -> float:
    """``E - x + x ln(x / E)`` for ``E = x (1 + delta)``; by its series where the difference would cancel."""
    if abs(delta) < 1e-2:
        return x * sum((-delta) ** j / j for j in range(2, 12))
    return x * (delta - math.log1p(delta))


def _chernoff_upper(x: float, n: float, b: float) -> float:
    if x == 0:
        return b
    far = 2 * (b / x + math.sqrt(2 * b / x)) + 1e-9  # beyond the closed form of Yin et al. 2020
    return x * (1 + _bisect(lambda d: _chernoff_exponent(x, d) >= b * (1 + 1e-12), true_at=far, false_at=0.0))


def _chernoff_lower(x: float, n: float, b: float) -> float:
    if x == 0:
        return 0.0
    nearly = -1 + 2**-52
    if _chernoff_exponent(x, nearly) < b:
        return 0.0
    return x * (1 + _bisect(lambda d: _chernoff_exponent(x, d) >= b * (1 + 1e-12), true_at=nearly, false_at=0.0))


def _kl_exponent(x: float, n: float, log_p: float, log_q: float) -> float:
    """``n D(x/n || p)`` with ``log_p = ln p`` and ``log_q = ln(1 - p)``."""
    hit = x * (math.log(x / n) - log_p) if x > 0 else 0.0
    miss = (n - x) * (math.log((n - x) / n) - log_q) if x < n else 0.0
    return hit + miss


def _softplus(t: float) -> float:
    return max(t, 0.0) + math.log1p(math.exp(-abs(t)))


def _kl_root(x: float, n: float, b: float, direction: int) -> float:
    """Solves ``n D(x/n || p) = b`` on one side, in the logit of p; returns ``n p``.

    The exponent is convex in the logit, so Newton's steps come from outside and stay there; each is checked, and they
    aim a little outside so that rounding does not make the check fail.
    """
    target, spare = b + _SLACK * n, 0.1 * _SLACK * (n + b)

    def excess(t: float) -> float:
        return _kl_exponent(x, n, -_softplus(-t), -_softplus(t)) - target

    start, step = math.log(x / (n - x)), math.sqrt(2 * target * n / (x * (n - x)))
    while (over := excess(t := start + direction * step)) < 0:
        step *= 2
    for _ in range(_STEPS):
        nearer = t - (over - spare) / (n * math.exp(-_softplus(-t)) - x)
        over = excess(nearer)
        if over < 0:
            break
        t = nearer
        if over <= 2 * spare:
            break
    return n * math.exp(-_softplus(-t))


def _kl_upper(x: float, n: float, b: float) -> float:
    if x >= n:
        return float(n)
    if x == 0:
        return -n * math.expm1(-b / n)
    return _kl_root(x, n, b, +1)


def _kl_lower(x: float, n: float, b: float) -> float:
    if x == 0:
        return 0.0
    if x >= n:
        return n * math.exp(-b / n)
    return _kl_root(x, n, b, -1)


_UPPER: dict[Concentration, Callable[[float, float, float], float]] = {
    "hoeffding": _hoeffding_upper,
    "chernoff": _chernoff_upper,
    "kl": _kl_upper,
}
_LOWER: dict[Concentration, Callable[[float, float, float], float]] = {
    "hoeffding": _hoeffding_lower,
    "chernoff": _chernoff_lower,
    "kl": _kl_lower,
}
