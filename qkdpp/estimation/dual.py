"""Linear programmes whose answer is a proof: bounds from dual vectors, evaluated in exact arithmetic.

A solver returns floating-point numbers that satisfy its constraints to some
tolerance; neither its optimum nor its "infeasible" can be relied upon. What
can: over ``{x : A x <= b, 0 <= x <= u}`` every vector ``y >= 0`` gives

    c.x  >=  c.x + y.(A x - b)  >=  -y.b + sum_j min(0, c_j + (A^T y)_j) u_j

for *all* feasible x (weak duality). The right side is a sum of products of
floats and is evaluated in rationals, without rounding. So the solver (HiGHS,
in scaled variables) only proposes y. Components below zero are set to zero;
what is left of a reduced cost below zero is charged against the box, which
repairs dual feasibility whatever y is. A poor y gives a loose bound, never a
wrong one. With c = 0 the same expression, if positive, proves that no x exists.

Assumes that the matrix entries given are on the safe side of the true ones (callers round them outwards).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Row = tuple[str, Floats, float]
"""``coefficients @ x <= limit``: its name, the coefficients and the limit."""

_TOLERANCE = 1e-10
"""Feasibility tolerances asked of HiGHS (its smallest), in scaled variables of order one."""
_EXTRA = 1e-9
"""Constraints that contradict each other are relaxed by this much (relative) more than is needed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Polytope:
    """All ``x`` with ``matrix @ x <= rhs`` and ``0 <= x <= box``.

    Attributes:
        matrix: float64[R, J].
        rhs: float64[R].
        box: float64[J], finite upper limits.
        names: what each row says, R of them.
    """

    matrix: Floats
    rhs: Floats
    box: Floats
    names: tuple[str, ...]

    def least(self, cost: Floats) -> float:
        """A number that ``cost @ x`` is nowhere below (rounded down)."""
        return _down(self._dual_value(cost, self._propose(cost)))

    def most(self, cost: Floats) -> float:
        """A number that ``cost @ x`` is nowhere above (rounded up)."""
        return -self.least(-cost)

    def settled(self) -> tuple[Polytope, tuple[str, ...]]:
        """A polytope that contains this one and is not empty, and names of rows proven to contradict each other.

        Without contradictions it is this one, up to roundings of the solver.
        """
        excess, y = self._violation()
        proven = self._dual_value(np.zeros_like(self.box), y) > 0
        if not proven and excess <= _TOLERANCE:
            return self, ()
        relaxed = replace(self, rhs=self.rhs + (excess * (1 + _EXTRA) + _EXTRA) * self._row_scale())
        return relaxed, tuple(n for n, v in zip(self.names, y, strict=True) if v > 0) if proven else ()

    def _dual_value(self, cost: Floats, y: Floats) -> Fraction:
        """The right side above, exactly."""
        weights = [(i, Fraction(float(v))) for i, v in enumerate(y) if v > 0]
        total = -sum((v * Fraction(float(self.rhs[i])) for i, v in weights), Fraction(0))
        for j, limit in enumerate(self.box):
            column = [(v, float(self.matrix[i, j])) for i, v in weights]
            reduced = Fraction(float(cost[j])) + sum((v * Fraction(a) for v, a in column if a), Fraction(0))
            if reduced < 0:
                total += reduced * Fraction(float(limit))
        return total

    def _row_scale(self) -> Floats:
        """What one unit of violation means in each row: its right side, or its largest term where that is zero."""
        largest = np.abs(self.matrix * self.box).max(axis=1)
        scale = np.where(self.rhs != 0, np.abs(self.rhs), largest)
        return np.where(scale > 0, scale, 1.0)

    def _propose(self, cost: Floats) -> Floats:
        """Dual vector of the solver for ``min cost @ x``; zeros where it has none to offer."""
        from scipy.optimize import linprog  # noqa: PLC0415

        scale, unit = self._row_scale(), max(float(np.abs(cost * self.box).max()), np.finfo(float).tiny)
        found = linprog(
            cost * self.box / unit,
            A_ub=self.matrix * self.box / scale[:, None],
            b_ub=self.rhs / scale,
            bounds=[(0.0, 1.0)] * self.box.size,
            method="highs-ds",
            options={"primal_feasibility_tolerance": _TOLERANCE, "dual_feasibility_tolerance": _TOLERANCE},
        )
        if found.status != 0:
            return np.zeros_like(self.rhs)
        return np.maximum(-found.ineqlin.marginals, 0.0) * unit / scale

    def _violation(self) -> tuple[float, Floats]:
        """Smallest common relative violation of the rows that some x of the box reaches, and its dual vector."""
        from scipy.optimize import linprog  # noqa: PLC0415

        scale = self._row_scale()
        found = linprog(
            np.append(np.zeros(self.box.size), 1.0),
            A_ub=np.column_stack([self.matrix * self.box / scale[:, None], -np.ones(self.rhs.size)]),
            b_ub=self.rhs / scale,
            bounds=[(0.0, 1.0)] * self.box.size + [(0.0, None)],
            method="highs-ds",
            options={"primal_feasibility_tolerance": _TOLERANCE, "dual_feasibility_tolerance": _TOLERANCE},
        )
        if found.status != 0 or found.x is None:
            return 0.0, np.zeros_like(self.rhs)
        return float(found.x[-1]), np.maximum(-found.ineqlin.marginals, 0.0) / scale


def polytope(rows: list[Row], box: Floats) -> Polytope:
    """The rows, in a box that is shrunk to what they imply.

    A row without negative coefficients limits every variable in it: the smaller the box, the less a rounding of the
    solver costs.
    """
    matrix = np.array([coefficients for _, coefficients, _ in rows], dtype=np.float64)
    rhs = np.array([limit for _, _, limit in rows], dtype=np.float64)
    small = box.astype(np.float64)
    for coefficients, limit in zip(matrix, rhs, strict=True):
        if limit >= 0 and bool(np.all(coefficients >= 0)):
            reach = coefficients * small > limit
            small[reach] = np.minimum(small[reach], np.nextafter(limit / coefficients[reach], np.inf))
    return Polytope(matrix=matrix, rhs=rhs, box=small, names=tuple(name for name, _, _ in rows))


def _down(value: Fraction) -> float:
    """The largest float that is not above ``value`` (or the one below it)."""
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else math.nextafter(nearest, -math.inf)
