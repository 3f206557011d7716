from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_streams import converse, lab, sifted

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.stage import encode
from qkdpp.core.tags import TimeTags
from qkdpp.kernels.tags import match
from qkdpp.timing.clock import ClockReport
from qkdpp.timing.pair_events import Events, near_pairs, resolve
from qkdpp.timing.pair_messages import (
    MAX_TICK,
    AnnouncedSlots,
    CalibrationRequest,
    CalibrationSegment,
    MatchedSlots,
    checked_delays,
    decode_chunk,
    decode_positions,
    decode_segment,
    position_chunks,
    slot_chunks,
)


@pytest.mark.parametrize(
    ("rate", "offset_s", "start_s", "hint"),
    [(0.0, 0.0, 0.0, {}), (5e-5, -0.3, 0.0, {}), (-1.1e-4, 0.7, 0.0, {}), (1e-6, 3.0, 2e5, {"offset_hint_s": 3.2})],
)  # fmt: skip
def test_both_parties_get_the_same_pairs(rate: float, offset_s: float, start_s: float, hint: dict[str, float]) -> None:
    rng = np.random.default_rng(30)
    world = lab(rng, rate=rate, offset_s=offset_s, start_s=start_s)
    if start_s:  # the hint is meant for the start of the recording
        hint = {"offset_hint_s": hint["offset_hint_s"] + rate * start_s}
    a, b, _ = converse(world.alice, world.bob, **hint)
    bits, qber = sifted(a, b)
    # 10,000 pairs less 4 %; jitter of 170 ps in a window of 1 ns, 81 ps steps: nearly all are found
    assert len(a) == len(b)
    assert bits > 0.95 * 0.96 * 10_000 / 2
    assert qber < 0.05
    assert b.clock.locked_share > 0.99
    assert b.clock.line_rate_ppm == pytest.approx(rate * 1e6, abs=1e-3)


def test_delays_of_both_parties_are_found() -> None:
    rng = np.random.default_rng(31)
    delays = ((-6.0, 2.0, 1.0, 3.0), (5.0, -4.0, 0.5, -1.5))
    world = lab(rng, delays_ns=delays)
    a, b, _ = converse(world.alice, world.bob)
    assert np.array(a.delays_ticks) * 4e-3 == pytest.approx(np.array(delays[0]), abs=0.08)
    assert np.array(b.delays_ticks) * 81e-3 == pytest.approx(np.array(delays[1]), abs=0.08)


def test_counters_add_up_and_the_segment_is_cut() -> None:
    rng = np.random.default_rng(32)
    world = lab(rng)
    a, b, said = converse(world.alice, world.bob)
    for side, tags in ((a, world.alice), (b, world.bob)):
        c = side.counters
        parts = c.public + c.repeated + c.further_clicks + c.unlocked + c.unmatched + c.matched
        assert parts == c.detector_tags == len(tags)
        assert c.matched == len(side)
    public = next(m for _, m in said if isinstance(m, CalibrationSegment))
    assert a.counters.public == public.n
    assert a.counters.public == pytest.approx(0.04 * len(world.alice), rel=0.1)
    assert b.coincidences is not None
    assert b.coincidences.calibration_pairs == pytest.approx(400, rel=0.25)
    # accidentals: both rates, a window of 1 ns, 96 ms
    assert b.coincidences.accidentals == pytest.approx(400e3 * 400e3 * 1e-9 * 0.096, rel=0.2)
    middle = np.abs(a.time_s - 0.05) < 0.0019
    assert not middle.any()


def test_a_weak_link_is_found() -> None:
    rng = np.random.default_rng(33)
    world = lab(rng, duration_s=2.0, pairs_hz=2_000, noise_hz=(200_000, 30_000), rate=2e-5, offset_s=0.05)
    a, b, _ = converse(world.alice, world.bob, offset_range_s=0.1)
    bits, qber = sifted(a, b)
    assert bits > 0.9 * 0.96 * 2_000
    assert qber < 0.06


def test_clock_wander_and_a_gap_are_followed() -> None:
    rng = np.random.default_rng(34)
    world = lab(rng, duration_s=1.0, pairs_hz=50_000, noise_hz=(50_000, 50_000))
    # Bob's rate changes by up to 4e-7 per second, as in a satellite pass; he has no tags for 50 ms
    t = world.bob.ticks * 81e-12
    late = np.rint(10e-9 * np.sin(2 * np.pi * t) / 81e-12).astype(np.int64)
    keep = (t < 0.20) | (t > 0.25)
    bent = TimeTags(
        ticks=(world.bob.ticks + late)[keep],
        channel=world.bob.channel[keep],
        channel_ids=world.bob.channel_ids,
        tick_as=world.bob.tick_as,
    )
    a, b, _ = converse(world.alice, bent)
    bits, qber = sifted(a, b)
    assert bits > 0.95 * 0.95 * 0.96 * 25_000
    assert qber < 0.04
    assert b.clock.locked_share == pytest.approx(0.95, abs=0.01)
    assert b.clock.residual_rms_ps < 60


def test_independent_streams_do_not_lock() -> None:
    one, other = lab(np.random.default_rng(35), duration_s=0.05), lab(np.random.default_rng(36), duration_s=0.05)
    with pytest.raises(Abort) as stop:
        converse(one.alice, other.bob, max_segments=2, offset_range_s=0.02)
    assert stop.value.aborted.reason is AbortReason.NO_LOCK
    assert stop.value.aborted.evidence["segments"] == 2


@pytest.mark.parametrize("empty", ["alice", "bob", "both"])
def test_no_tags_no_lock(empty: str) -> None:
    world = lab(np.random.default_rng(37), duration_s=0.01)
    none = TimeTags(
        ticks=np.empty(0, dtype=np.int64), channel=np.empty(0, dtype=np.uint8), channel_ids=(), tick_as=1_000_000
    )
    a = none if empty in ("alice", "both") else world.alice
    b = none if empty in ("bob", "both") else world.bob
    with pytest.raises(Abort) as stop:
        converse(a, b)
    assert stop.value.aborted.reason is AbortReason.NO_LOCK


def test_a_pulsed_pump_does_not_fool_the_search() -> None:
    rng = np.random.default_rng(38)
    world = lab(rng, pump_ps=12_500.0, rate=1e-5, offset_s=0.01)
    a, b, _ = converse(world.alice, world.bob)
    bits, qber = sifted(a, b)
    assert bits > 0.9 * 0.96 * 5_000
    assert qber < 0.05


def test_the_second_segment_serves_where_the_first_cannot() -> None:
    rng = np.random.default_rng(39)
    world = lab(rng)
    t = world.bob.ticks * 81e-12
    keep = (t < 0.046) | (t > 0.054)
    hole = TimeTags(
        ticks=world.bob.ticks[keep],
        channel=world.bob.channel[keep],
        channel_ids=world.bob.channel_ids,
        tick_as=world.bob.tick_as,
    )
    a, b, said = converse(world.alice, hole)
    assert sum(isinstance(m, CalibrationSegment) for _, m in said) == 2
    assert a.counters.public == pytest.approx(0.08 * len(world.alice), rel=0.1)
    assert sifted(a, b)[0] > 0.85 * 5_000


# pieces


times = st.lists(st.integers(0, 400), max_size=40).map(lambda v: np.array(sorted(v), dtype=np.int64))


@given(times, times, st.integers(0, 20))
def test_near_pairs_are_all_pairs(a: np.ndarray, b: np.ndarray, half: int) -> None:
    ia, ib = near_pairs(a, b, -half, half)
    want = [(i, j) for i in range(a.size) for j in range(b.size) if abs(int(b[j]) - int(a[i])) <= half]
    assert list(zip(ia.tolist(), ib.tolist(), strict=True)) == want


@given(times, times, st.integers(0, 20))
def test_matching_is_one_to_one_nearest_and_ordered(a: np.ndarray, b: np.ndarray, half: int) -> None:
    ia, ib = match(a, b, half)
    assert (np.diff(ia) > 0).all()
    assert (np.diff(ib) > 0).all()
    assert (np.abs(a[ia] - b[ib]) <= half).all()
    for i, j in zip(ia, ib, strict=True):
        assert abs(a[i] - b[j]) == np.abs(b - a[i]).min() == np.abs(a - b[j]).min()
    # where both streams have one event only within reach of each other, they are matched
    for i in range(a.size):
        near = np.flatnonzero(np.abs(b - a[i]) <= half)
        if near.size == 1 and (np.abs(a - b[near[0]]) <= half).sum() == 1:
            assert i in ia


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 3)), min_size=1, max_size=60), st.integers(1, 30))
def test_local_rule_against_a_plain_loop(clicks: list[tuple[int, int]], window: int) -> None:
    clicks = sorted(clicks, key=lambda c: c[0])
    groups: list[list[tuple[int, int]]] = []
    for click in clicks:
        if groups and click[0] - groups[-1][0][0] <= window:
            groups[-1].append(click)
        else:
            groups.append([click])
    events = Events(
        time=np.array([c[0] for c in clicks], dtype=np.int64), detector=np.array([c[1] for c in clicks], dtype=np.uint8)
    )
    got = resolve(events, window, OsEntropy())
    assert got.events.time.tolist() == [g[0][0] for g in groups]
    sets = [{c[1] for c in g} for g in groups]
    assert got.double_same_basis == sum(s in ({0, 1}, {2, 3}) for s in sets)
    assert got.double_cross_basis == sum(len(s) > 1 and s not in ({0, 1}, {2, 3}) for s in sets)
    assert got.repeated == len(clicks) - sum(len(s) for s in sets)
    for detector, members in zip(got.events.detector.tolist(), sets, strict=True):
        if len(members) == 1:
            assert {detector} == members
        elif members in ({0, 1}, {2, 3}):
            assert detector in members


@given(st.lists(st.integers(0, 2**40), max_size=50, unique=True), st.integers(-1000, 2**55))
def test_slots_survive_the_wire(values: list[int], shift: int) -> None:
    slots = np.array(sorted(values), dtype=np.int64) + shift
    after, parts = -MAX_TICK, []
    chunks = list(slot_chunks(slots))
    for chunk in chunks:
        parts.append(decode_chunk(chunk, after, 0))
        after = int(parts[-1][-1]) if parts[-1].size else after
        assert len(encode(chunk)) <= AnnouncedSlots.max_bytes
    assert [c.last for c in chunks] == [False] * (len(chunks) - 1) + [True]
    assert np.array_equal(np.concatenate(parts), slots)


REPORT = ClockReport(
    method="pairs", time_s=(), offset_s=(), rate_ppm=(), line_offset_s=0.0, line_rate_ppm=0.0, residual_rms_ps=0.0,
    significance=0.0, locked_share=0.0,
)  # fmt: skip


@given(st.sets(st.integers(0, 10_000), max_size=200))
def test_positions_survive_the_wire(values: set[int]) -> None:
    positions = np.array(sorted(values), dtype=np.int64)
    (chunk,) = position_chunks(positions, REPORT)
    assert np.array_equal(decode_positions(chunk, -1, 10_001), positions)
    assert chunk.clock == REPORT
    if positions.size:
        with pytest.raises(RemoteProtocolError):
            decode_positions(chunk, -1, int(positions[-1]))
        with pytest.raises(RemoteProtocolError):
            decode_positions(chunk, int(positions[0]), 10_001)


wide = st.integers(-(2**70), 2**70)


@given(
    n=wide, base=wide, data=st.binary(max_size=40), last=st.booleans(), tick=wide, stop=wide, after=st.integers(-1, 9)
)
@settings(max_examples=300)
def test_hostile_messages_are_refused(
    n: int, base: int, data: bytes, last: bool, tick: int, stop: int, after: int
) -> None:
    calls: list[Callable[[], np.ndarray]] = [
        lambda: decode_chunk(AnnouncedSlots(base=base, n=n, slots=data, last=last), after, 0),
        lambda: decode_positions(MatchedSlots(base=base, n=n, positions=data), after, 100),
        lambda: (
            decode_segment(
                CalibrationSegment(tick_as=tick, slot_ticks=2, origin_tick=base, start=0, stop=stop, n=n, clicks=data)
            ).time
        ),
    ]
    for call in calls:
        try:
            values = call()
        except RemoteProtocolError:
            continue
        assert (np.diff(values) >= 0).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e12, -1e12])
def test_nonsense_delays_are_refused(bad: float) -> None:
    with pytest.raises(RemoteProtocolError):
        checked_delays(CalibrationRequest(segment=0, delays_ps=(0.0, bad, 0.0, 0.0)), 5)
    with pytest.raises(RemoteProtocolError):
        checked_delays(CalibrationRequest(segment=5), 5)
    assert checked_delays(CalibrationRequest(segment=4), 5) is None
