"""Clicks of one party of a pair source: local rules, announced slots, one-to-one matching.

Times are integers: ticks times 256 (sub-ticks) once delays are taken out, or
positions times 256 (sub-slots) on the peer's slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.entropy import Entropy
from qkdpp.core.tags import TimeTags
from qkdpp.timing.detect import assign_double_clicks

SUB = 256
"""Sub-ticks per tick, and sub-slots per slot."""

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Events:
    """Clicks of the detectors of one party.

    Attributes:
        ticks: int64[n], raw ticks, or sub-ticks after delay correction; sorted.
        detector: uint8[n], ``basis << 1 | bit``; secret.
    """

    ticks: Ints
    detector: Bytes

    def __len__(self) -> int:
        return int(self.ticks.size)

    def __repr__(self) -> str:
        return f"Events(n={len(self)})"

    def between(self, start: int, stop: int) -> Events:
        """Events from ``start`` to ``stop`` (exclusive)."""
        low, high = np.searchsorted(self.ticks, [start, stop])
        return Events(ticks=self.ticks[low:high], detector=self.detector[low:high])

    def without(self, start: int, stop: int) -> Events:
        """Events outside ``start`` to ``stop`` (exclusive)."""
        keep = (self.ticks < start) | (self.ticks >= stop)
        return Events(ticks=self.ticks[keep], detector=self.detector[keep])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resolved:
    """Single events after the local rules: corrected sub-ticks (strictly increasing), detectors, and counts."""

    events: Events
    double_same_basis: int
    double_cross_basis: int
    repeated: int


def detector_events(tags: TimeTags, detector_of_channel: Mapping[int, int]) -> Events:
    """The tags of channels that are detectors, lost intervals left out."""
    code = np.full(256, -1, dtype=np.int8)
    for index, channel_id in enumerate(tags.channel_ids):
        code[index] = detector_of_channel.get(channel_id, -1)
    detector = code[tags.channel]
    keep = detector >= 0
    for start, end in tags.lost:
        keep &= (tags.ticks < start) | (tags.ticks >= end)
    return Events(ticks=tags.ticks[keep], detector=detector[keep].astype(np.uint8))


def corrected(events: Events, delay_ticks: Floats) -> Events:
    """Events in sub-ticks, the delay of each detector (float64[4], ticks) taken out, sorted."""
    time = events.ticks * SUB - np.rint(delay_ticks * SUB).astype(np.int64)[events.detector]
    order = np.argsort(time, kind="stable")
    return Events(ticks=time[order], detector=events.detector[order])


def resolve(events: Events, window: int, entropy: Entropy) -> Resolved:
    """Makes one event of all clicks of one party within ``window`` sub-ticks after a first one.

    Several detectors of one basis give a random bit, detectors of both bases a random basis and bit; the time is that
    of the first click.
    """
    n = len(events)
    if not n:
        return Resolved(events=events, double_same_basis=0, double_cross_basis=0, repeated=0)
    leads = _leads(events.ticks, window)
    group = np.cumsum(leads) - 1
    mask = np.zeros(int(group[-1]) + 1, dtype=np.uint8)
    np.bitwise_or.at(mask, group, (np.uint8(1) << events.detector).astype(np.uint8))
    same = (mask == 0b0011) | (mask == 0b1100)
    several = np.bitwise_count(mask) > 1
    single = Events(ticks=events.ticks[leads], detector=assign_double_clicks(mask, entropy))
    return Resolved(
        events=single,
        double_same_basis=int(same.sum()),
        double_cross_basis=int((several & ~same).sum()),
        repeated=n - int(np.bitwise_count(mask).sum()),
    )


def _leads(ticks: Ints, window: int) -> NDArray[np.bool_]:
    """Which clicks come later than ``window`` after the last click that leads."""
    leads = np.diff(ticks, prepend=ticks[0] - window - 1) > window
    # inside a chain of close clicks, every click beyond the window of its leader leads again
    starts = np.flatnonzero(leads)
    ends = np.append(starts[1:], ticks.size)
    long = np.flatnonzero(ticks[ends - 1] - ticks[starts] > window)
    for start, end in zip(starts[long].tolist(), ends[long].tolist(), strict=True):
        at = start
        while at < end:
            leads[at] = True
            at = int(np.searchsorted(ticks[start:end], ticks[at] + window, side="right")) + start
    return leads


def near_pairs(a: Ints | Floats, b: Ints | Floats, low: float, high: float) -> tuple[Ints, Ints]:
    """Indices of all pairs with ``low <= b - a <= high``; both arrays sorted."""
    first = np.searchsorted(b, a + low, side="left")
    count = np.searchsorted(b, a + high, side="right") - first
    ia = np.repeat(np.arange(a.size), count)
    ib = np.arange(ia.size) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    return ia.astype(np.int64), ib.astype(np.int64)


def match(a: Ints, b: Ints, half_window: int) -> tuple[Ints, Ints]:
    """One-to-one coincidences: indices of the events of ``a`` and ``b`` (sorted) that are each other's nearest.

    Every event is used at most once; ``|a - b| <= half_window``. Both results increase.
    """
    if not a.size or not b.size:
        empty = np.empty(0, dtype=np.int64)
        return empty, empty
    to_b, to_a = _nearest(a, b), _nearest(b, a)
    ia = np.arange(a.size, dtype=np.int64)
    mutual = (to_a[to_b] == ia) & (np.abs(b[to_b] - a) <= half_window)
    return ia[mutual], to_b[mutual]


def _nearest(x: Ints, y: Ints) -> Ints:
    """For every ``x`` the index of the nearest ``y`` (sorted); the earlier one if two are equally far."""
    right = np.searchsorted(y, x).clip(max=y.size - 1)
    left = (right - 1).clip(min=0)
    return np.where(np.abs(x - y[left]) <= np.abs(y[right] - x), left, right).astype(np.int64)
