"""The clock of one recording against another's, from their coincidences alone.

For a first look at two recordings of a pair source: a coarse search near a common start
(:mod:`qkdpp.timing.pair_search`), then a straight line through the strongest peak, refined over growing spans. Delays
between detectors are not known here, so the line follows whichever pair of detectors is strongest. Times are float64
nanoseconds from the first tag: spans of seconds, which a double resolves far below a picosecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.tags import TimeTags
from qkdpp.timing import pair_search

Floats = NDArray[np.float64]

RANGE_NS = 1e9
"""How far apart the two recordings may have been started."""
MAX_RATE = 120e-6
SEGMENTS_NS = (20e6, 100e6, 500e6)
"""Lengths of the segment of the first recording that is looked for in the second."""
FINEST_NS = 0.25
AS_PER_NS = 10**9


class Line(NamedTuple):
    """``second = offset + first * (1 + rate)``, ns."""

    offset: float
    rate: float


class Span(NamedTuple):
    """A stretch of the first recording, ns."""

    start: float
    stop: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """``second = offset_ns + first * (1 + rate)``, both in ns from the first tag of their recording.

    ``significance`` is that of the coarse search.
    """

    offset_ns: float
    rate: float
    significance: float

    def on_first(self, second: TimeTags, tick_as: int) -> NDArray[np.int64]:
        """Times of the second recording in ticks of ``tick_as`` after the first recording's first tag."""
        first_ns = (_ns(second) - self.offset_ns) / (1 + self.rate)
        return np.rint(first_ns * (AS_PER_NS / tick_as)).astype(np.int64)


def _ns(tags: TimeTags) -> Floats:
    """Times in ns from the first tag."""
    result: Floats = (tags.ticks - tags.ticks[0]) * (tags.tick_as / AS_PER_NS)
    return result


def of_channels(tags: TimeTags, channels: Sequence[int]) -> Floats:
    """Times in ns from the recording's first tag of the tags on some channels."""
    wanted = np.isin(np.array(tags.channel_ids), np.array(channels))
    return _ns(tags)[wanted[tags.channel]]


def compare(first_ns: Floats, second_ns: Floats) -> Comparison | None:
    """Clock of the second recording against the first; None if their tags are not correlated."""
    if min(first_ns.size, second_ns.size) < pair_search.MIN_PAIRS:
        return None
    common = min(float(first_ns[-1]), float(second_ns[-1]))
    for length in SEGMENTS_NS:
        start = (common - length) / 2
        if start <= 0:
            break
        low, high = np.searchsorted(first_ns, [start, start + length])
        found = pair_search.search(
            first_ns[low:high] - start,
            second_ns - start,
            length_ns=length,
            range_ns=RANGE_NS,
            max_rate=MAX_RATE,
            most_effort=pair_search.MOST_EFFORT,
        )
        if found is not None:
            return _refined(first_ns - start, second_ns - start, length, found, start)
    return None


def _refined(first: Floats, second: Floats, length: float, coarse: pair_search.Coarse, start: float) -> Comparison:
    """The line through the strongest peak; times are from the start of the segment."""
    line, bin_ns, span = Line(coarse.offset_ns, coarse.rate), coarse.bin_ns / 4, Span(0.0, length)
    while True:
        line = _improved(*_deviations(first, second, span, line, 8 * bin_ns), line, bin_ns, span)
        if bin_ns > FINEST_NS:
            bin_ns /= 4
        elif span.start > first[0] or span.stop < first[-1]:
            span = Span(span.start - length, span.stop + length)
            length = span.stop - span.start
        else:
            break
    return Comparison(offset_ns=line.offset - line.rate * start, rate=line.rate, significance=coarse.significance)


def _deviations(first: Floats, second: Floats, span: Span, line: Line, window: float) -> tuple[Floats, Floats]:
    """(time, deviation from the line) of all pairs of tags in ``span`` that lie within ``window`` of the line."""
    low, high = np.searchsorted(first, span)
    at = first[low:high]
    expected = line.offset + at * (1 + line.rate)
    begin = np.searchsorted(second, expected - window)
    n = np.searchsorted(second, expected + window) - begin
    which = np.repeat(np.arange(at.size), n)
    place = np.arange(which.size) - np.repeat(np.cumsum(n) - n, n) + begin[which]
    return at[which], second[place] - expected[which]


def _improved(at: Floats, deviation: Floats, line: Line, bin_ns: float, span: Span) -> Line:
    """The line whose slope and offset gather most pairs in two neighbouring bins."""
    middle = (span.start + span.stop) / 2
    best = (-1.0, line)
    for step in range(-12, 13):
        slope = step * bin_ns / 2 / (span.stop - span.start)
        rest = deviation - slope * (at - middle)
        low = float(rest.min(initial=0.0))
        counts = np.bincount(((rest - low) / bin_ns).astype(np.int64), minlength=2)
        both = counts[:-1] + counts[1:]
        top = int(np.argmax(both))
        if both[top] > best[0]:
            offset = line.offset + low + (top + 1) * bin_ns - slope * middle
            best = (float(both[top]), Line(offset, line.rate + slope))
    return best[1]
