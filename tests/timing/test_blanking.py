"""Blanking of a pair receiver against its definition, click by click."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qkdpp.core.tags import TimeTags
from qkdpp.timing.blanking import blanked

DETECTORS = {10: 0, 11: 1, 12: 2, 13: 3}


def tags(ticks: list[int], channel: list[int]) -> TimeTags:
    order = np.argsort(np.array(ticks, dtype=np.int64), kind="stable")
    return TimeTags(
        ticks=np.array(ticks, dtype=np.int64)[order],
        channel=np.array(channel, dtype=np.uint8)[order],
        channel_ids=(10, 11, 12, 13, 99),
        tick_as=10**9,
    )


def by_definition(data: TimeTags, dead: int, window: int) -> list[tuple[int, int]]:
    kept = []
    rows = list(zip(data.ticks.tolist(), data.channel.tolist(), strict=True))
    for tick, channel in rows:
        earlier = [t for t, c in rows if c != 4 and t < tick]
        deaf = channel != 4 and any(window < tick - t < dead for t in earlier)
        if not deaf:
            kept.append((tick, channel))
    return kept


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 4)), max_size=60),
    st.integers(0, 60),
    st.integers(0, 20),
)
def test_a_click_counts_only_if_no_detector_clicked_within_the_dead_time(events, dead, window):
    data = tags([t for t, _ in events], [c for _, c in events])
    found = blanked(data, DETECTORS, dead_time_ns=float(dead), window_ps=1000.0 * window)
    expected = by_definition(data, dead, window) if dead > window else by_definition(data, 0, 0)
    assert list(zip(found.ticks.tolist(), found.channel.tolist(), strict=True)) == expected


def test_the_channel_of_the_earlier_click_does_not_matter():
    for first in range(4):
        found = blanked(tags([0, 5], [first, 2]), DETECTORS, dead_time_ns=10.0, window_ps=1000.0)
        assert found.ticks.tolist() == [0]
