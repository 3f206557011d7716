"""Entangled pairs: from two recordings to coincidences in a common order.

Each party is given its own tags only. Bob asks for a short segment of Alice's
tags, finds offset, rate and all delays from it, and tells Alice hers; the
segment is public and cut out on both sides. Alice then announces the slots of
her remaining clicks, computed after delay correction, so that a slot says
nothing about the detector; Bob follows the clock through the recording and
answers which of them met a click of his. Nothing is matched while unlocked.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.entropy import Entropy
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.stage import Stage, receive, send
from qkdpp.core.tags import AS_PER_PS, AS_PER_S, TimeTags, ticks_from_ps
from qkdpp.kernels.tags import count_labels
from qkdpp.timing.clock import ClockReport
from qkdpp.timing.pair_events import SUB, Events, Resolved, corrected, detector_events, resolve
from qkdpp.timing.pair_locate import Found, cut_public, find_segment, join, track
from qkdpp.timing.pair_messages import (
    MAX_TICK,
    AnnouncedSlots,
    CalibrationRequest,
    CalibrationSegment,
    MatchedSlots,
    checked_delays,
    decode_chunk,
    decode_positions,
    encode_segment,
    position_chunks,
    slot_chunks,
)
from qkdpp.timing.pair_track import Track
from qkdpp.timing.pair_values import CENTRES, Coincidences, Expected, Matched, PairCounters, PairParams

__all__ = ["Coincidences", "Expected", "Matched", "PairCounters", "PairParams", "alice", "bob"]

Ints = NDArray[np.int64]

MIN_CONFIRMED = 2
"""Slices next to the segment that must show the peak too, before anything is matched."""

# pure functions (Bob's are in pair_locate)


def segment_bounds(events: Events, centre: float, params: PairParams) -> tuple[int, int]:
    """Start and end (exclusive, sub-ticks) of the public segment around a share of the recording."""
    if not len(events):
        return 0, 1
    first, last = int(events.time[0]), int(events.time[-1]) + 1
    share = min(params.calibration_share, params.calibration_tags / len(events))
    length = max(1, round((last - first) * share))
    start = max(0, first + round((last - first) * centre) - length // 2)
    return start, start + length


def local_window(params: PairParams, tick_as: int, at_least: int) -> int:
    """Window of the local rule for multiple clicks in sub-ticks: the coincidence window, never below a slot."""
    return max(round(params.gate_ps * AS_PER_PS / tick_as * SUB), at_least)


def _counters(
    tags: TimeTags, events: Events, cut: Events, resolved: Resolved, *, unlocked: int, matched: int
) -> PairCounters:
    by_index = count_labels(tags.channel)
    return PairCounters(
        tags_by_channel={channel_id: int(by_index[i]) for i, channel_id in enumerate(tags.channel_ids)},
        detector_tags=len(events),
        public=len(events) - len(cut),
        repeated=resolved.repeated,
        further_clicks=len(cut) - resolved.repeated - len(resolved.events),
        double_same_basis=resolved.double_same_basis,
        double_cross_basis=resolved.double_cross_basis,
        unlocked=unlocked,
        unmatched=len(resolved.events) - unlocked - matched,
        matched=matched,
    )


def _time_s(events: Events, at: Ints, tags: TimeTags) -> NDArray[np.float32]:
    return (events.time[at] * (tags.tick_as / SUB / AS_PER_S)).astype(np.float32)


def _clock_report(tags: TimeTags, found: Found, tracked: Track, tried: int) -> ClockReport:
    """The tracked clock against absolute ticks of both taggers."""
    message, coarse, origin = found.message, found.coarse, int(tags.ticks[0])
    slot_as = message.slot_ticks * message.tick_as
    clock = replace(
        tracked.clock, knot_ticks=tracked.clock.knot_ticks + origin, stop_tick=tracked.clock.stop_tick + origin
    )
    return clock.describe(
        method="pairs",
        tick_as=tags.tick_as,
        slot_as=slot_as,
        first_tick=origin,
        last_tick=int(tags.ticks[-1]),
        residual_rms_ps=tracked.residual_ns * 1000,
        significance=coarse.significance,
        origin_as=message.origin_tick * message.tick_as + slot_as // 2,
        notes=(
            f"{tried} public segments; found in {coarse.bin_ns:.0f} ns bins, threshold {coarse.threshold:.1f}",
            f"delays from {found.calibration.pairs:.0f} public coincidences",
            f"{tracked.locked} of {tracked.slices} slices locked; lines over {tracked.span} slices to either side",
        ),
    )


# conversation


def alice(tags: TimeTags, params: PairParams, entropy: Entropy) -> Stage[Matched]:
    """Alice's side: gives up a segment, announces slots, learns which of them met a click of Bob's.

    Raises:
        RemoteProtocolError: Bob sent what is not allowed.
    """
    events = detector_events(tags, params.detector_of_channel, entropy)
    origin_tick = int(tags.ticks[0]) if len(tags) else 0
    slot_ticks = max(1, ticks_from_ps(params.slot_ps, tags.tick_as))
    cut, delays_ps = events, None
    segments = min(params.max_segments, len(CENTRES))
    for _ in range(segments + 1):
        request = yield from receive(CalibrationRequest)
        delays_ps = checked_delays(request, segments)
        if delays_ps is not None:
            break
        bounds = segment_bounds(events, CENTRES[request.segment], params)
        cut = cut.without(*bounds)
        yield from send(
            encode_segment(events, bounds, tick_as=tags.tick_as, slot_ticks=slot_ticks, origin_tick=origin_tick)
        )
    if delays_ps is None:
        raise RemoteProtocolError("CalibrationRequest: more segments than agreed")
    delay_ticks = np.array(delays_ps, dtype=np.float64) * (AS_PER_PS / tags.tick_as)
    resolved = resolve(corrected(cut, delay_ticks), local_window(params, tags.tick_as, slot_ticks * SUB), entropy)
    for chunk in slot_chunks(resolved.events.time // (slot_ticks * SUB)):
        yield from send(chunk)
    matched: list[Ints] = []
    clock, after = None, -1
    while clock is None:
        answer = yield from receive(MatchedSlots)
        matched.append(decode_positions(answer, after, len(resolved.events)))
        after = int(matched[-1][-1]) if matched[-1].size else after
        clock = answer.clock
    at = np.concatenate(matched)
    return Matched(
        detector=resolved.events.detector[at],
        time_s=_time_s(resolved.events, at, tags),
        counters=_counters(tags, events, cut, resolved, unlocked=0, matched=at.size),
        clock=clock,
        delays_ticks=tuple(delay_ticks.tolist()),
        coincidences=None,
    )


def bob(tags: TimeTags, params: PairParams, entropy: Entropy, known: Expected | None = None) -> Stage[Matched]:
    """Bob's side: finds the clock from a public segment, follows it, says which slots he matched.

    ``known`` says where to look first; whatever it says, what is not there is looked for everywhere.

    Raises:
        Abort: NO_LOCK if no segment shows a peak, or the slices beside it do not confirm it.
        RemoteProtocolError: Alice sent what is not allowed.
    """
    events = detector_events(tags, params.detector_of_channel, entropy)
    origin_tick = int(tags.ticks[0]) if len(tags) else 0
    found, public = yield from _calibrate(tags.tick_as, origin_tick, events, params, known)
    cut = cut_public(events, found, public)
    ns_to_ticks = 1000 * AS_PER_PS / tags.tick_as
    delay_ticks = found.calibration.own_delay_ns * ns_to_ticks
    slot_subs = round(found.message.slot_ticks * found.message.tick_as / tags.tick_as * SUB)
    resolved = resolve(corrected(cut, delay_ticks), local_window(params, tags.tick_as, slot_subs), entropy)
    slots = yield from _announced()
    own = resolved.events.time
    tracked = track(found, own, slots)
    if tracked.confirmed < MIN_CONFIRMED:
        raise Abort(
            AbortReason.NO_LOCK,
            method="pairs",
            significance=found.coarse.significance,
            confirming_slices=tracked.confirmed,
        )
    joined = join(found, tracked.clock, own, slots, params.gate_ps)
    clock = _clock_report(tags, found, tracked, len(public))
    for chunk in position_chunks(joined.announced, clock):
        yield from send(chunk)
    return Matched(
        detector=resolved.events.detector[joined.own],
        time_s=_time_s(resolved.events, joined.own, tags),
        counters=_counters(tags, events, cut, resolved, unlocked=joined.unlocked, matched=joined.own.size),
        clock=clock,
        delays_ticks=tuple(delay_ticks.tolist()),
        coincidences=joined.coincidences,
    )


def _calibrate(
    tick_as: int, origin_tick: int, events: Events, params: PairParams, known: Expected | None
) -> Stage[tuple[Found, list[CalibrationSegment]]]:
    """Asks for segments until one shows a peak, and tells Alice her delays."""
    public: list[CalibrationSegment] = []
    for segment in range(min(params.max_segments, len(CENTRES)) if len(events) else 0):
        yield from send(CalibrationRequest(segment=segment))
        public.append((yield from receive(CalibrationSegment)))
        found = find_segment(public[-1], events, tick_as=tick_as, origin_tick=origin_tick, params=params, known=known)
        if found is not None:
            a, b, c, d = (found.calibration.peer_delay_ns * 1000).tolist()
            yield from send(CalibrationRequest(segment=segment, delays_ps=(a, b, c, d)))
            return found, public
    raise Abort(AbortReason.NO_LOCK, method="pairs", segments=len(public), own_clicks=len(events))


def _announced() -> Stage[Ints]:
    """All announced slots (int64, strictly increasing)."""
    parts: list[Ints] = []
    held, after = 0, -MAX_TICK
    while True:
        chunk = yield from receive(AnnouncedSlots)
        parts.append(decode_chunk(chunk, after, held))
        held += parts[-1].size
        after = int(parts[-1][-1]) if parts[-1].size else after
        if chunk.last:
            return np.concatenate(parts)
