"""Ranges as they are typed."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkdpp.core.errors import InputError
from qkdpp.rate.ranges import boundary, linear, logarithmic


def test_both_ends_are_included() -> None:
    assert linear("0:40:10", "--loss", low=0, high=1e3) == (0.0, 10.0, 20.0, 30.0, 40.0)
    assert linear("0:1:0.1", "--loss", low=0, high=1e3)[-1] == 1.0
    assert logarithmic("1e6:1e12:3", "--block", low=1, high=1e18) == pytest.approx((1e6, 1e9, 1e12))


def test_a_step_that_misses_the_end_stays_below_it() -> None:
    assert linear("0:10:4", "--loss", low=0, high=1e3) == (0.0, 4.0, 8.0)


def test_one_number() -> None:
    assert linear("17.5", "--loss", low=0, high=1e3) == (17.5,)
    assert logarithmic("1e9", "--block", low=1, high=1e18) == (1e9,)


@given(st.floats(1, 1e9), st.floats(1.001, 1e6), st.integers(2, 50))
def test_logarithmic_steps_have_one_ratio(start: float, factor: float, count: int) -> None:
    values = logarithmic(f"{start!r}:{start * factor!r}:{count}", "--block", low=1, high=1e18)
    assert (values[0], values[-1], len(values)) == (start, start * factor, count)
    ratios = [math.log(b / a) for a, b in pairwise(values)]
    assert ratios == pytest.approx([math.log(factor) / (count - 1)] * (count - 1), rel=1e-6)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "write one number, or FROM:TO:STEP"),
        ("0:40", "write one number, or FROM:TO:STEP"),
        ("0:40:x", "write one number, or FROM:TO:STEP"),
        ("0:nan:1", "write one number, or FROM:TO:STEP"),
        ("40:0:1", "TO must lie above FROM"),
        ("5:5:1", "empty range"),
        ("0:40:0", "step must be above 0"),
        ("0:40:-1", "step must be above 0"),
        ("0:40:0.001", "at most 1000 points"),
        ("-1:40:1", "-1 must lie between 0 and 1000"),
        ("0:2000:10", "2000 must lie between 0 and 1000"),
    ],
)
def test_bad_ranges_say_what_to_write(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=f"--loss.*{complaint}"):
        linear(text, "--loss", low=0, high=1e3)


@pytest.mark.parametrize("text", ["1e6:1e9:1", "1e6:1e9:2.5", "1e6:1e9:2000"])
def test_a_count_is_a_whole_number(text: str) -> None:
    with pytest.raises(InputError, match="third number counts the points"):
        logarithmic(text, "--block", low=1, high=1e18)


def test_boundary_lies_just_above_the_condition() -> None:
    found = boundary(lambda x: x * x >= 2.0, 1.0, 4.0, 1.001)
    assert math.sqrt(2) <= found <= 1.001 * math.sqrt(2)
