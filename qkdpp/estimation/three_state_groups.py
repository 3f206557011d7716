"""Kinds of detections (state sent, outcome of X) that enter the phase errors of three states with the same factor.

Factors are those of :mod:`qkdpp.estimation.virtual_states`. They are rounded, for those of ideal states to become equal
or zero; a bound on phase errors must add :data:`ROUNDING` per detection, and per unit of the largest factor above 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.estimation.virtual_states import ThreeStates

_DECIMALS = 12
ROUNDING = 1e-12
"""More than half a unit of the last decimal and the floating-point error; relative for factors above 1."""
_STATES = ("Z0", "Z1", "X0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Kinds whose chances are added before they are multiplied by the factor."""

    name: str
    cells: tuple[tuple[int, int], ...]
    factor: float

    def counts(self, n: NDArray[np.int64]) -> NDArray[np.int64]:
        """Detections of these kinds by label, int64[K], from int64[K, 3, 4]."""
        return np.asarray(sum(n[:, s, 2 + o] for s, o in self.cells))

    @property
    def raises(self) -> bool:
        """Whether more of these detections mean more phase errors."""
        return self.factor > 0


def groups(states: ThreeStates, p_bob: tuple[float, float]) -> tuple[Group, ...]:
    """Phase errors of keyed single photons are the sum of factor times chances of a group."""
    factors, by_factor = states.phase_error_factors() * (p_bob[0] / p_bob[1]), dict[float, list[tuple[int, int]]]()
    for s in range(3):
        for o in range(2):
            factor = round(float(factors[s, o]), _DECIMALS)
            if factor != 0:
                by_factor.setdefault(factor, []).append((s, o))
    return tuple(
        Group(name="+".join(f"{_STATES[s]}x{o}" for s, o in cells), cells=tuple(cells), factor=factor)
        for factor, cells in by_factor.items()
    )
