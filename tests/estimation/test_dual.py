"""Dual bounds: proofs whatever the solver proposes, and as good as the optimum when it does its work."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from qkdpp.estimation.dual import Polytope, polytope

seeds = st.integers(0, 2**32 - 1)


def with_a_point(seed: int, scale: float = 1.0) -> tuple[Polytope, np.ndarray, np.ndarray]:
    """A random polytope, a point inside it (exactly: the entries are small integers) and a cost."""
    rng = np.random.default_rng(seed)
    size, rows = int(rng.integers(1, 7)), int(rng.integers(1, 7))
    x = rng.integers(0, 50, size) * scale
    matrix = rng.integers(-20, 20, (rows, size)).astype(float)
    rhs = matrix @ x + rng.integers(0, 30, rows) * scale
    inside = polytope(
        [(f"row {i}", a, b) for i, (a, b) in enumerate(zip(matrix, rhs, strict=True))], np.full(size, 64.0 * scale)
    )
    return inside, x, rng.integers(-9, 10, size).astype(float)


def exactly(cost: np.ndarray, x: np.ndarray) -> Fraction:
    return sum((Fraction(float(c)) * Fraction(float(v)) for c, v in zip(cost, x, strict=True)), Fraction(0))


@settings(max_examples=150, deadline=None)
@given(seeds, st.sampled_from([2.0**-30, 1.0, 2.0**34]))
def test_no_point_lies_beyond_the_bounds_and_the_optimum_is_reached(seed, scale):
    inside, x, cost = with_a_point(seed, scale)
    assert Fraction(inside.least(cost)) <= exactly(cost, x) <= Fraction(inside.most(cost))
    optimum = linprog(
        cost,
        A_ub=inside.matrix,
        b_ub=inside.rhs / scale,
        bounds=list(zip(np.zeros(x.size), inside.box / scale, strict=True)),
    )
    assert inside.least(cost) / scale == pytest.approx(optimum.fun, rel=1e-8, abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(seeds, st.integers(0, 2**32 - 1))
def test_whatever_the_solver_proposes_the_bound_holds(seed, noise):
    """The solver is replaced by noise: looser, never wrong, and never a proof of a contradiction."""
    inside, x, cost = with_a_point(seed)
    y = np.random.default_rng(noise).exponential(3.0, inside.rhs.size)

    class Lying(Polytope):
        __slots__ = ()

        def _propose(self, cost):
            return y

        def _violation(self):
            return 0.0, y

    liar = Lying(matrix=inside.matrix, rhs=inside.rhs, box=inside.box, names=inside.names)
    assert Fraction(liar.least(cost)) <= exactly(cost, x)
    assert liar.settled()[1] == ()


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_a_box_shrunk_by_the_rows_still_holds_every_point(seed):
    inside, x, _ = with_a_point(seed)
    assert np.all(x <= inside.box)


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_what_has_a_point_is_not_said_to_be_empty(seed):
    inside, _, _ = with_a_point(seed)
    same, found = inside.settled()
    assert found == ()
    assert same is inside


def test_a_contradiction_is_proven_named_and_relaxed():
    one, two = np.array([1.0, 1.0]), np.array([2.0, 1.0])
    rows = [("sum", one, 1.0), ("idle", two, 50.0), ("difference", -two, -5.0)]
    empty = polytope(rows, np.array([10.0, 10.0]))
    settled, found = empty.settled()
    assert found == ("sum", "difference")
    assert replace(settled, rhs=settled.rhs).settled()[1] == ()
    assert 1.0 < settled.most(one) < 5.0
