"""From errors seen in the test basis to phase errors of the key: sampling without replacement.

``n_observed`` of ``n_observed + n_unobserved`` single-photon detections were
tested, ``errors`` of them wrong. The exact bound is the largest number of
errors in the whole population that is still compatible with so few in the
sample. It is monotone: more errors, or fewer tested detections, never lower it
(``docs/security.md``), so it may be evaluated at bounds of these numbers.
"""

from __future__ import annotations

import math

import numpy as np

_CHUNK, _LARGEST_CHUNK = 256, 65_536
"""Terms summed at once; four times as many in each round that follows."""
_RELATIVE_END = 1e-18
"""Terms of the tail sum below this share of it are left out (the sum is rounded up for them)."""


def log_hypergeometric_cdf(k: int, population: int, marked: int, drawn: int) -> tuple[float, float]:
    """``ln Pr[at most k marked among drawn]`` and a bound on its rounding error.

    Sums the terms from ``k`` downwards in the log domain; the number of terms grows like the square root of k.
    """
    lowest = max(0, drawn + marked - population)
    if k < lowest:
        return -math.inf, 0.0
    if k >= min(marked, drawn):
        return 0.0, 0.0
    parts = (
        (marked, k),
        (population - marked, drawn - k),
        (population, drawn),
    )
    logs = [(math.lgamma(a + 1), math.lgamma(b + 1), math.lgamma(a - b + 1)) for a, b in parts]
    first, second, whole = (a - b - c for a, b, c in logs)
    rounding = 8 * 2.3e-16 * sum(a + b + c for a, b, c in logs)
    return first + second - whole + _log_tail_ratio(k, lowest, population, marked, drawn), rounding


def _log_tail_ratio(k: int, lowest: int, population: int, marked: int, drawn: int) -> float:
    """``ln(sum_{j <= k} term(j) / term(k))``."""
    total, last, top, size = 1.0, 0.0, k, _CHUNK
    while top > lowest:
        j = np.arange(top, max(lowest, top - size), -1, dtype=np.float64)
        up = (marked - j + 1) * (drawn - j + 1)
        down = j * (population - marked - drawn + j)
        logs = last + np.cumsum(np.log(down / up))
        total += float(np.exp(logs).sum())
        last = float(logs[-1])
        top, size = top - j.size, min(4 * size, _LARGEST_CHUNK)
        if math.exp(min(last, 0.0)) < _RELATIVE_END * total and down[-1] < up[-1]:
            break
    return math.log(total)


def phase_error_upper(errors: int, n_observed: int, n_unobserved: int, tail: float) -> float:
    """Exact upper bound on the error rate of the unobserved part, exceeded with probability at most ``tail``.

    The number of marked items is interpolated between the whole numbers on either side of ``tail``: never below
    the exact one, and without its steps, so that the key length grows smoothly with the counts.

    Args:
        errors: wrong detections among the observed ones (or an upper bound).
        n_observed: observed detections (or a lower bound).
        n_unobserved: detections to be bounded.
        tail: failure probability; in proofs by entropic uncertainty the square of the smoothing parameter
            (Tomamichel et al. 2012, Lemma 3).

    Returns:
        A rate from 0 to 1; 1 where nothing is known.
    """
    if n_unobserved <= 0 or n_observed <= 0 or errors >= n_observed:
        return 1.0
    log_tail = math.log(tail)
    population = n_observed + n_unobserved

    def excess(marked: int) -> float:
        """Positive while ``marked`` is compatible with the sample, rounding counted against us."""
        value, rounding = log_hypergeometric_cdf(errors, population, marked, n_observed)
        return value + rounding - log_tail

    good, bad = errors, errors + n_unobserved  # all unobserved ones wrong is the most there can be
    at_bad = excess(bad)
    if at_bad > 0:
        return 1.0
    step = max(1, errors * n_unobserved // n_observed)
    while good + step < bad:
        if excess(good + step) > 0:
            good, step = good + step, 2 * step
        else:
            bad = good + step
    while bad - good > 1:
        middle = (good + bad) // 2
        if excess(middle) > 0:
            good = middle
        else:
            bad = middle
    low, high = excess(good), excess(bad)
    fraction = 0.0 if high == -math.inf else low / (low - high)
    return min(1.0, (good + max(fraction, 0.0) - errors) / n_unobserved)


def gamma_as_printed(errors: float, n_observed: float, n_unobserved: float, eps: float) -> float:
    """Error rate plus the deviation gamma of Lim et al. 2014, Eq. (5), as printed (``eps`` is their eps_sec/21).

    An expansion for many observed errors, and nothing else: it vanishes with them. Callers put the exact bound
    beside it.
    """
    if n_observed <= 0 or n_unobserved <= 0 or errors >= n_observed:
        return 1.0
    rate = errors / n_observed
    if rate == 0:
        return 0.0
    spread = (n_observed + n_unobserved) * (1 - rate) * rate / (n_observed * n_unobserved * math.log(2))
    inside = (n_observed + n_unobserved) / (n_observed * n_unobserved * (1 - rate) * rate * eps**2)
    return min(1.0, rate + math.sqrt(spread * max(math.log2(inside), 0.0)))
