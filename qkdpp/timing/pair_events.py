"""Clicks of one party of a pair source: local rules, announced slots, one-to-one matching.

Times are integers: sub-ticks (ticks times 256) from the party's first tag, or
sub-slots (slots times 256) on the peer's slots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.entropy import Entropy
from qkdpp.core.tags import TimeTags
from qkdpp.kernels.tags import merge, sort
from qkdpp.timing.detect import assign_double_clicks

SUB = 256
"""Sub-ticks per tick, and sub-slots per slot."""
MAX_INTERPOLATOR_AS = 5 * 10**9
"""Longest period of a converter's interpolator that is looked for."""

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Events:
    """Clicks of the detectors of one party.

    Attributes:
        time: int64[n], sub-ticks from the first tag, sorted.
        detector: uint8[n], ``basis << 1 | bit``; secret.
    """

    time: Ints
    detector: Bytes

    def __len__(self) -> int:
        return int(self.time.size)

    def __repr__(self) -> str:
        return f"Events(n={len(self)})"

    def between(self, start: int, stop: int) -> Events:
        """Events from ``start`` to ``stop`` (exclusive)."""
        low, high = np.searchsorted(self.time, [start, stop])
        return Events(time=self.time[low:high], detector=self.detector[low:high])

    def without(self, start: int, stop: int) -> Events:
        """Events outside ``start`` to ``stop`` (exclusive)."""
        keep = (self.time < start) | (self.time >= stop)
        return Events(time=self.time[keep], detector=self.detector[keep])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resolved:
    """Single events after the local rules: corrected sub-ticks (strictly increasing), detectors, and counts."""

    events: Events
    double_same_basis: int
    double_cross_basis: int
    repeated: int


def detector_events(tags: TimeTags, detector_of_channel: Mapping[int, int], entropy: Entropy) -> Events:
    """The tags of channels that are detectors, lost intervals left out, every channel linearised."""
    origin = int(tags.ticks[0]) if len(tags) else 0
    usable = np.ones(len(tags), dtype=np.bool_)
    for start, end in tags.lost:
        usable &= (tags.ticks < start) | (tags.ticks >= end)
    streams = []
    for index, channel_id in enumerate(tags.channel_ids):
        if channel_id in detector_of_channel:
            ticks = tags.ticks[usable & (tags.channel == index)]
            time = linearise(ticks, origin, tags.tick_as, entropy)
            streams.append(sort(time, np.full(ticks.size, detector_of_channel[channel_id], dtype=np.uint8)))
    time, detector = merge(streams)
    return Events(time=time, detector=detector)


def linearise(ticks: Ints, origin: int, tick_as: int, entropy: Entropy) -> Ints:
    """Sub-ticks from ``origin`` of one channel's ticks, the unequal widths of its converter's steps taken out.

    A time-to-digital converter interpolates between clock edges in steps of unequal width, different for every
    channel: ticks modulo the interpolator's period then tell the channel, and so does any slot computed from them.
    Clicks fall uniformly within a clock period, so the share of each step is its width: a click is put at a random
    place within its step. This also sharpens coincidences. The period is the power of two (up to 64 ticks and 5 ns)
    that explains the data best (Bayesian information criterion); with equal steps the ticks stay as they are.
    """
    relative = (ticks - origin) * SUB
    period, share = _steps(ticks, tick_as)
    if period == 1:
        return relative
    step = ticks % period
    edge = np.concatenate([[0.0], np.cumsum(share)])
    place = np.frombuffer(entropy.bytes(2 * ticks.size), dtype="<u2") / 65536.0
    moved = (edge[step] + place * share[step]) * (period * SUB)
    return relative - step * SUB + np.floor(moved).astype(np.int64)


def _steps(ticks: Ints, tick_as: int) -> tuple[int, Floats]:
    """Period of the interpolator in ticks (1: none to be seen) and the share of clicks on each of its steps."""
    best, period, share = 0.0, 1, np.ones(1)
    for candidate in (2, 4, 8, 16, 32, 64):
        if candidate * tick_as > MAX_INTERPOLATOR_AS or not ticks.size:
            break
        count = np.bincount(ticks % candidate, minlength=candidate).astype(np.float64)
        seen = count[count > 0]
        gain = 2 * float((seen * np.log(seen * candidate / ticks.size)).sum())
        gain -= (candidate - 1) * float(np.log(ticks.size))
        if gain > best:
            best, period, share = gain, candidate, count / ticks.size
    return period, share


def corrected(events: Events, delay_ticks: Floats) -> Events:
    """The delay of each detector (float64[4], ticks) taken out, sorted again."""
    time = events.time - np.rint(delay_ticks * SUB).astype(np.int64)[events.detector]
    time, detector = sort(time, events.detector)
    return Events(time=time, detector=detector)


def resolve(events: Events, window: int, entropy: Entropy) -> Resolved:
    """Makes one event of all clicks of one party within ``window`` sub-ticks after a first one.

    Several detectors of one basis give a random bit, detectors of both bases a random basis and bit; the time is that
    of the first click.
    """
    n = len(events)
    if not n:
        return Resolved(events=events, double_same_basis=0, double_cross_basis=0, repeated=0)
    leads = _leads(events.time, window)
    group = np.cumsum(leads) - 1
    mask = np.zeros(int(group[-1]) + 1, dtype=np.uint8)
    np.bitwise_or.at(mask, group, (np.uint8(1) << events.detector).astype(np.uint8))
    same = (mask == 0b0011) | (mask == 0b1100)
    several = np.bitwise_count(mask) > 1
    single = Events(time=events.time[leads], detector=assign_double_clicks(mask, entropy))
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
