"""Time order, look-back, merging and cutting, against plain sorting."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkdpp.core.errors import FormatError
from qkdpp.sources.batches import Batch, Tally
from qkdpp.sources.order import LOOK_BACK_AS, merged, ordered, within

TICK_AS = 10**14  # a look-back of ten ticks
LOOK_BACK = LOOK_BACK_AS // TICK_AS


def batches(ticks: list[int], sizes: list[int]) -> Iterator[Batch]:
    """The ticks in batches of the given sizes; ids number the tags."""
    edges = np.cumsum([0, *sizes, len(ticks)])
    for start, end in pairwise(edges):
        part = np.array(ticks[start:end], dtype=np.int64)
        yield Batch(ticks=part, ids=np.arange(start, start + part.size, dtype=np.int64))


def flat(stream: Iterator[Batch]) -> tuple[list[int], list[int]]:
    parts = list(stream)
    return [int(t) for b in parts for t in b.ticks], [int(i) for b in parts for i in b.ids]


@st.composite
def shuffled_within_look_back(draw: st.DrawFn) -> list[int]:
    """Times that never come back by more than the look-back."""
    base = draw(st.lists(st.integers(0, 30), max_size=60))
    jitter = draw(st.lists(st.integers(0, LOOK_BACK), min_size=len(base), max_size=len(base)))
    return [int(t) + j for t, j in zip(np.cumsum(base, dtype=np.int64), jitter, strict=True)]


@given(shuffled_within_look_back(), st.lists(st.integers(0, 20), max_size=5))
def test_tags_within_the_look_back_are_sorted_stably(ticks: list[int], sizes: list[int]) -> None:
    tally = Tally()
    times, numbers = flat(ordered(batches(ticks, sizes), TICK_AS, tally))
    expected = sorted(range(len(ticks)), key=lambda i: ticks[i])
    assert numbers == expected
    assert times == [ticks[i] for i in expected]
    steps = [a - b for a, b in pairwise(ticks) if b < a]
    assert tally.backward_steps == len(steps)
    assert tally.worst_backward_ticks == max(steps, default=0)
    assert tally.late_tags == 0


@given(st.lists(st.integers(-(2**62), 2**62), max_size=40), st.lists(st.integers(0, 9), max_size=6))
def test_whatever_comes_in_the_output_is_sorted_and_nothing_vanishes_uncounted(
    ticks: list[int], sizes: list[int]
) -> None:
    tally = Tally()
    times, numbers = flat(ordered(batches(ticks, sizes), TICK_AS, tally))
    assert times == sorted(times)
    assert len(set(numbers)) == len(numbers) == len(ticks) - tally.late_tags
    assert [ticks[i] for i in numbers] == times


def test_a_tag_beyond_the_look_back_is_dropped_counted_and_marked() -> None:
    ticks = [0, 100, 200, 300, 50, 400]
    tally = Tally()
    parts = list(ordered(batches(ticks, [4]), TICK_AS, tally))
    assert [int(t) for b in parts for t in b.ticks] == [0, 100, 200, 300, 400]
    assert tally.late_tags == 1
    assert tally.backward_steps == 1
    assert tally.worst_backward_ticks == 250
    assert [gap for b in parts for gap in b.lost] == [(50, 200)]
    assert tally.warnings


def test_a_headerless_file_with_implausible_times_is_refused() -> None:
    rng = np.random.default_rng(1)
    ticks = rng.integers(0, 2**54, 1000).tolist()
    with pytest.raises(FormatError, match="backward steps"):
        list(ordered(batches(ticks, []), TICK_AS, Tally(), check="run.bin"))


@given(st.lists(st.lists(st.integers(0, 50), max_size=30).map(sorted), min_size=1, max_size=4), st.integers(1, 7))
def test_merging_keeps_time_order_and_the_order_of_the_streams(lists: list[list[int]], size: int) -> None:
    sizes = [size] * 4
    times, _ = flat(merged([batches(ticks, sizes) for ticks in lists]))
    assert times == sorted(t for ticks in lists for t in ticks)


def test_equal_times_keep_the_order_of_the_streams() -> None:
    streams = [
        iter([Batch(ticks=np.array([5, 5, 9], dtype=np.int64), ids=np.full(3, channel, dtype=np.int64))])
        for channel in (1, 2, 3)
    ]
    assert flat(merged(streams)) == ([5] * 6 + [9] * 3, [1, 1, 2, 2, 3, 3, 1, 2, 3])


@given(
    st.lists(st.integers(0, 100), min_size=1, max_size=40).map(sorted),
    st.integers(0, 120),
    st.integers(0, 120),
    st.lists(st.integers(0, 9), max_size=6),
)
def test_an_interval_counts_from_the_first_tag(ticks: list[int], start: int, stop: int, sizes: list[int]) -> None:
    times, _ = flat(within(batches(ticks, sizes), start, stop))
    assert times == [t for t in ticks if ticks[0] + start <= t < ticks[0] + stop]


def test_lost_intervals_are_clipped_to_the_interval() -> None:
    batch = Batch(
        ticks=np.array([0, 50, 100], dtype=np.int64),
        ids=np.zeros(3, dtype=np.int64),
        lost=((5, 15), (40, 90), (95, 99)),
    )
    parts = list(within(iter([batch]), 10, 60))
    assert [gap for b in parts for gap in b.lost] == [(10, 15), (40, 60)]
