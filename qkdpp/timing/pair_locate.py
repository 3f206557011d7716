"""Bob's calculations between the messages: calibration, clock, matching.

Pure functions of what Bob was told and his own clicks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.tags import AS_PER_S
from qkdpp.kernels.tags import match
from qkdpp.timing.clock import Clock
from qkdpp.timing.pair_delays import Calibration, Segment, calibrate
from qkdpp.timing.pair_events import SUB, Events, near_pairs
from qkdpp.timing.pair_messages import CalibrationSegment, decode_segment
from qkdpp.timing.pair_search import NEAR_ROOM_NS, Coarse, search, search_near
from qkdpp.timing.pair_track import Line, Scale, Track, follow, slice_subs
from qkdpp.timing.pair_values import Coincidences, Expected, PairParams

Ints = NDArray[np.int64]

COINCIDENCE_RANGE_NS = 20.0
COINCIDENCE_BIN_NS = 0.1
CUT_MARGIN_NS = 200.0
"""Bob cuts so much more than the public segment on either side."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """A segment found in the own recording.

    Attributes:
        message: the segment.
        coarse, calibration: what was found.
        line: the peer's slots against own time, in the middle of the segment.
        scale: nanoseconds per own sub-tick and per slot; slices as long as its rate of coincidences asks for.
    """

    message: CalibrationSegment
    coarse: Coarse
    calibration: Calibration
    line: Line
    scale: Scale

    def own_time(self, peer_time: int) -> int:
        """Own time at a time of the peer, both in sub-ticks from the first tag."""
        since = (2 * peer_time - self.message.start - self.message.stop) / 2
        ns = since * (self.message.tick_as / SUB * 1e-9) * (1 + self.calibration.rate)
        return self.line.sub0 + round(ns / self.scale.ns_per_sub)


def find_segment(
    message: CalibrationSegment,
    events: Events,
    *,
    tick_as: int,
    origin_tick: int,
    params: PairParams,
    known: Expected | None = None,
) -> Found | None:
    """Looks for a segment in the own clicks, first where ``known`` says, then everywhere; None if no peak stands out.

    ``tick_as`` and ``origin_tick`` are the own tagger's tick and first tag.
    """
    wanted = _Wanted(
        message=message, theirs=decode_segment(message), events=events, tick_as=tick_as, origin_tick=origin_tick
    )
    found = None if known is None else wanted.near(known, params)
    return wanted.anywhere(params) if found is None else found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Wanted:
    """A segment, the own clicks it is looked for in, tick and first tag of the own tagger."""

    message: CalibrationSegment
    theirs: Events
    events: Events
    tick_as: int
    origin_tick: int

    @property
    def units_ns(self) -> tuple[float, float]:
        """Own sub-tick and the peer's."""
        return self.tick_as / SUB * 1e-9, self.message.tick_as / SUB * 1e-9

    @property
    def length_ns(self) -> float:
        """Of the segment."""
        return (self.message.stop - self.message.start) * self.units_ns[1]

    def near(self, known: Expected, params: PairParams) -> Found | None:
        """Where an earlier lock says."""
        message = self.message
        since_as = message.origin_tick * message.tick_as + message.start * message.tick_as // SUB
        start = self._start(round(since_as * known.rate))
        reach_ns = known.reach_s * 1e9
        room_ns = max(reach_ns, NEAR_ROOM_NS) + known.max_change * self.length_ns
        segment = self._around(start, room_ns, room_ns + self.length_ns * (1 + known.rate))
        coarse = search_near(
            segment.peer_ns,
            segment.own_ns,
            length_ns=self.length_ns,
            reach_ns=reach_ns,
            rate=known.rate,
            max_change=known.max_change,
        )
        return self._refined(segment, coarse, start, params)

    def anywhere(self, params: PairParams) -> Found | None:
        """Within the range and the rates of the parameters."""
        start = self._start(round(params.offset_hint_s * AS_PER_S))
        # the hint is meant for the start of the peer's recording; until the segment the rate moves it
        range_ns = params.offset_range_s * 1e9 + params.max_rate * self.message.start * self.units_ns[1]
        segment = self._around(start, range_ns, range_ns + 2 * self.length_ns)
        coarse = search(
            segment.peer_ns,
            segment.own_ns,
            length_ns=self.length_ns,
            range_ns=range_ns,
            max_rate=params.max_rate,
            most_effort=params.search_effort,
        )
        return self._refined(segment, coarse, start, params)

    def _start(self, late_as: int) -> int:
        """Own time at which the segment starts if the own clock shows so much more than the peer's."""
        late_as += self.message.origin_tick * self.message.tick_as - self.origin_tick * self.tick_as
        return (late_as * SUB + self.message.start * self.message.tick_as) // self.tick_as

    def _around(self, start: int, before_ns: float, after_ns: float) -> Segment:
        """The segment, with own clicks from so long before its expected start to so long after that."""
        own_ns, peer_ns = self.units_ns
        near = self.events.between(start - math.ceil(before_ns / own_ns), start + math.ceil(after_ns / own_ns))
        return Segment(
            peer_ns=self.theirs.time.astype(np.float64) * peer_ns,
            peer_detector=self.theirs.detector,
            own_ns=(near.time - start).astype(np.float64) * own_ns,
            own_detector=near.detector,
            length_ns=self.length_ns,
        ).without_echoes()

    def _refined(self, segment: Segment, coarse: Coarse | None, start: int, params: PairParams) -> Found | None:
        """What a coarse peak leads to."""
        found = calibrate(segment, coarse, delay_range_ns=params.delay_range_ns) if coarse else None
        if coarse is None or found is None:
            return None
        message, time, (ns, their_ns) = self.message, self.events.time, self.units_ns
        slot = message.slot_ticks * SUB
        middle = (message.start + message.stop) // 2
        slot_ns = slot * their_ns
        own_ns = found.offset_ns + (middle - message.start) * their_ns * (1 + found.rate)
        line = Line(
            sub0=start + round(own_ns / ns),
            slot0=middle // slot,
            fraction=(middle % slot) / slot - 0.5,
            slots_per_sub=ns / (slot_ns * (1 + found.rate)),
            phase_error_ns=found.spread_ns / math.sqrt(found.pairs),
            rate_error=found.rate_error,
        )
        pairs_hz = found.pairs / (self.length_ns * 1e-9)
        scale = Scale(
            ns_per_sub=ns,
            ns_per_slot=slot_ns,
            spread_ns=max(found.spread_ns, slot_ns / 4),
            slice_subs=slice_subs(pairs_hz, int(time[-1] - time[0]) * ns * 1e-9, ns * 1e-9),
        )
        return Found(message=message, coarse=coarse, calibration=found, line=line, scale=scale)


def cut_public(events: Events, found: Found, public: list[CalibrationSegment]) -> Events:
    """Own clicks without those of the public segments, a margin included."""
    for message in public:
        far_ns = abs(message.start - found.message.start) * (message.tick_as / SUB * 1e-9)
        margin = math.ceil((CUT_MARGIN_NS + 5 * found.calibration.rate_error * far_ns) / found.scale.ns_per_sub)
        events = events.without(found.own_time(message.start) - margin, found.own_time(message.stop) + margin)
    return events


def track(found: Found, own: Ints, slots: Ints) -> Track:
    """Follows the clock through all own events (sub-ticks) against the announced slots."""
    segment = (found.own_time(found.message.start), found.own_time(found.message.stop))
    return follow(found.line, segment, own, slots, found.scale)


def positions(clock: Clock, own: Ints, base: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Own events (sub-ticks) on the peer's slots, in sub-slots from slot ``base``; and whether the clock is locked."""
    ticks = own // SUB
    slot, residual = clock.slots(ticks)
    residual += (own - ticks * SUB) / SUB * clock.slots_per_tick[clock.piece(ticks)]
    return (slot - base) * SUB + np.rint(residual * SUB).astype(np.int64), clock.is_locked(ticks)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Joined:
    """Matched pairs: indices of the announced slots and of the own events, and the histograms."""

    announced: Ints
    own: Ints
    unlocked: int
    coincidences: Coincidences


def join(found: Found, clock: Clock, own: Ints, slots: Ints, gate_ps: float) -> Joined:
    """Matches own events with announced slots, one to one, while the clock is locked."""
    base = int(slots[0]) if slots.size else 0
    place, locked = positions(clock, own, base)
    at = np.flatnonzero(locked)
    theirs = (slots - base) * SUB
    sub_ps = found.scale.ns_per_slot * 1000 / SUB
    announced, own_index = match(theirs, place[at], round(gate_ps / 2 / sub_ps))
    edges_ps, counts = _histogram(theirs, place[at], sub_ps)
    outer = counts[np.abs(edges_ps[:-1] + COINCIDENCE_BIN_NS * 500) > 5 * gate_ps]
    per_bin = 0.0
    if outer.size:
        per_bin = float(np.median(outer)) if np.median(outer) >= 10 else float(outer.mean())
    result = found.calibration
    return Joined(
        announced=announced,
        own=at[own_index],
        unlocked=int(own.size - at.size),
        coincidences=Coincidences(
            pair_histograms=result.histograms,
            edges_ps=edges_ps,
            counts=counts,
            accidentals=per_bin * gate_ps / (COINCIDENCE_BIN_NS * 1000),
            calibration_pairs=result.pairs,
            delay_residual_ps=result.residual_ns * 1000,
            spread_ps=result.spread_ns * 1000,
        ),
    )


def _histogram(theirs: Ints, place: Ints, sub_ps: float) -> tuple[NDArray[np.float64], Ints]:
    """Differences of all clicks within 20 ns, in picoseconds."""
    bins = round(2 * COINCIDENCE_RANGE_NS / COINCIDENCE_BIN_NS)
    edges = np.linspace(-COINCIDENCE_RANGE_NS, COINCIDENCE_RANGE_NS, bins + 1) * 1000
    counts = np.zeros(bins, dtype=np.int64)
    reach = COINCIDENCE_RANGE_NS * 1000 / sub_ps
    for start in range(0, theirs.size, 1 << 20):
        part = theirs[start : start + (1 << 20)]
        ia, ib = near_pairs(part, place, -reach, reach)
        counts += np.histogram((place[ib] - part[ia]) * sub_ps, bins=edges)[0]
    return edges, counts
