"""Choosing how ``eps_sec`` is divided, from counts that are PREDICTED.

A split belongs to the public parameters: both parties hold it before the block.
Predictions come from a model of the link or from earlier blocks. A split chosen
after looking at the counts it is then used for voids the claim: the bounds hold
for a division that does not depend on the data.

With ``w_i`` the share of ``kappa^2`` of statement i, the length is stationary
where ``dl/d ln w_i`` is proportional to ``w_i``, and ``kappa`` where the gain of
all statements balances the cost of privacy amplification. Both conditions are
iterated as they stand; they converge fast because the length depends on
``sqrt(ln 1/w_i)``. The best division met is returned, the equal one included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from qkdpp.estimation.bb84 import length_value_bb84, statements_bb84
from qkdpp.estimation.bbm92 import length_value_bbm92
from qkdpp.estimation.counts import Counts
from qkdpp.estimation.mismatch import Efficiencies
from qkdpp.estimation.security import Security, Split

__all__ = ["Split", "optimised_split", "optimised_split_bbm92"]

_ROUNDS = 4
_STEP = 1.0
"""Change of ``ln eps`` in a numerical derivative: wide, since counts are whole numbers and the length has steps."""
_HELD = 0.25
"""Smoothing at which derivatives are taken; they hardly depend on it."""
_LEAST_WEIGHT = 0.01
"""No statement gets less than this share of the largest: one that does not matter for the predicted counts (a bound
that is capped there) may matter for the real ones, and so little costs the others nothing."""
_SIGNIFICANT = 4
"""Digits kept: a split is written into files by hand."""
_AMPLIFICATION = 2 / math.log(2)
"""Bits that privacy amplification saves per unit of ``ln eps_PA``."""


def optimised_split(
    predicted: Counts, security: Security, *, leak_bits: int = 0, receivers: tuple[Efficiencies, ...] = ()
) -> Split:
    """The division of ``eps_sec`` with the longest key for PREDICTED counts, never worse there than the equal one.

    Never to be called with the counts of the block it is used for: it is fixed beforehand.

    Args:
        predicted: expected counts of a block, errors included.
        security: the other parameters; profile V. Its own split is the first candidate.
        leak_bits: expected charge for error correction; one bit costs one bit, so it moves the length, not the split.
        receivers: declared detector efficiencies, as for the key length.

    Raises:
        ConfigError: intensities the length formula cannot take.
        Abort: predicted counts that no source gives.
    """
    names = tuple(statements_bb84(predicted.intensities, predicted.p_intensity, security, receivers=receivers))

    def value(split: Split) -> float:
        return length_value_bb84(predicted, replace(security, split=split), receivers=receivers) - leak_bits

    return _best(value, names, security)


def optimised_split_bbm92(n_key: int, n_test: int, test_errors: int, security: Security) -> Split:
    """The same for entangled pairs, where the smoothing alone is to be chosen (numbers PREDICTED)."""

    def value(split: Split) -> float:
        return length_value_bbm92(n_key, n_test, test_errors, replace(security, split=split))

    return _best(value, ("phase errors",), security)


def _best(value: Callable[[Split], float], names: tuple[str, ...], security: Security) -> Split:
    candidates = [Split(), security.split]
    split = security.split
    for _ in range(_ROUNDS):
        split = _improved(value, split, names, security.eps_sec)
        candidates.append(split)
    return max(candidates, key=value)


def _improved(value: Callable[[Split], float], split: Split, names: tuple[str, ...], eps_sec: float) -> Split:
    """One step of the fixed-point iteration; ``split`` itself where no statement matters."""

    def statistics(tried: Split) -> float:
        return value(tried) + tried.amplification_bits(eps_sec)

    gains = {name: _gain(statistics, split, name, names) for name in names}
    total = sum(gains.values())
    if total <= 0:
        return split
    largest = max(gains.values())
    weights = {name: _rounded(max(gain / largest, _LEAST_WEIGHT)) for name, gain in gains.items()}
    smoothing = 1 / (2 + _AMPLIFICATION / total)
    return Split(smoothing=min(_rounded(smoothing), 0.4999), weights=weights)


def _gain(statistics: Callable[[Split], float], split: Split, name: str, names: tuple[str, ...]) -> float:
    """Bits won per unit of ``ln eps`` of one statement, the others held: a central difference at half the smoothing."""
    shares = Split(smoothing=_HELD, weights=split.weights).shares(names, 1.0)
    at = []
    for factor in (math.exp(_STEP / 2), math.exp(-_STEP / 2)):
        moved = shares | {name: shares[name] * factor}
        at.append(statistics(Split(smoothing=math.sqrt(sum(moved.values())), weights=moved)))
    return max((at[0] - at[1]) / _STEP, 0.0)


def _rounded(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT}g}")
