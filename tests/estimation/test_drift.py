"""Homogeneity over time: a steady block is left alone, a drifting one is seen, and numbers are those of a textbook."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, chi2_contingency

from qkdpp.estimation.drift import SEGMENTS, Segments, chi_square_tail, chi_squares, drifted, segment_of


def steady(rng: np.random.Generator, detections: int = 40_000, error: float = 0.02) -> Segments:
    by_intensity = rng.multinomial(detections, [0.9, 0.09, 0.01], size=SEGMENTS).astype(np.int64)
    tested = rng.binomial(detections, 0.1, SEGMENTS).astype(np.int64)
    return Segments(by_intensity=by_intensity, tested=tested, wrong=rng.binomial(tested, error).astype(np.int64))


@pytest.mark.parametrize("degrees", [1, 2, 9, 18, 25])
@pytest.mark.parametrize("value", [0.01, 1.0, 23.9, 80.0])
def test_chi_square_tail_against_scipy(value, degrees):
    assert chi_square_tail(value, degrees) == pytest.approx(chi2.sf(value, degrees), rel=1e-9)


def test_contingency_against_scipy():
    block = steady(np.random.default_rng(1))
    found = chi_squares(block)
    for name, table in (
        ("qber", np.stack([block.wrong, block.tested - block.wrong], axis=1)),
        ("intensities", block.by_intensity),
    ):
        expected = chi2_contingency(table, correction=False)
        assert (found[name].value, found[name].degrees) == (pytest.approx(expected.statistic), expected.dof)


def test_steady_blocks_are_left_alone():
    """10,000 steady blocks, rare events included: at a false alarm of 1e-6 none may be refused."""
    rng = np.random.default_rng(2)
    assert not any(drifted(steady(rng, detections=300)) for _ in range(5_000))
    assert not any(drifted(steady(rng)) for _ in range(5_000))


def test_an_error_rate_that_doubles_is_seen():
    rng = np.random.default_rng(3)
    block = steady(rng)
    wrong = rng.binomial(block.tested, np.linspace(0.02, 0.05, SEGMENTS)).astype(np.int64)
    assert drifted(Segments(by_intensity=block.by_intensity, tested=block.tested, wrong=wrong)) == ("qber",)


def test_shares_of_the_intensities_that_move_are_seen():
    block = steady(np.random.default_rng(4))
    moved = block.by_intensity.copy()
    moved[7:, 2] *= 3  # background rose
    assert drifted(Segments(by_intensity=moved, tested=block.tested, wrong=block.wrong)) == ("intensities",)


def test_a_rate_may_change_without_refusal():
    """A satellite comes and goes: the rate says nothing against adding counts, the figure is shown all the same."""
    rng = np.random.default_rng(5)
    detections = 4_000 * np.array([1, 2, 4, 8, 9, 9, 8, 4, 2, 1])
    tested = rng.binomial(detections, 0.1).astype(np.int64)
    passing = Segments(
        by_intensity=rng.multinomial(detections, [0.9, 0.09, 0.01]).astype(np.int64),
        tested=tested,
        wrong=rng.binomial(tested, 0.02).astype(np.int64),
    )
    assert chi_squares(passing)["rate"].p < 1e-6
    assert drifted(passing) == ()


def test_empty_segments_and_tables_are_no_evidence():
    none = np.zeros(SEGMENTS, dtype=np.int64)
    block = Segments(by_intensity=none[:, None], tested=none, wrong=none)
    assert drifted(block) == ()
    assert {test.p for test in chi_squares(block).values()} == {1.0}


def test_segments_are_equal_parts_of_the_time():
    found = segment_of(np.array([0, 99, 100, 950, 1000], dtype=np.int64), 0, 1000)
    assert found.tolist() == [0, 0, 1, 9, 9]
    assert segment_of(np.array([5], dtype=np.int64), 5, 5).tolist() == [0]
