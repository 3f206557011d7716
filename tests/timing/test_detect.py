from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timing_streams import DETECTORS, Gaps, merge, pulsed

from qkdpp.core.entropy import OsEntropy
from qkdpp.core.tags import TimeTags
from qkdpp.timing import gate_kernel, gate_portable
from qkdpp.timing.clock import Clock
from qkdpp.timing.detect import Detections, assign_double_clicks, detect, gate_rules
from qkdpp.timing.gate_rules import GateRules

PERIOD_AS = 1_000_000_000  # 1 ns


def plain_clock(stop: int = 10**12) -> Clock:
    """One slot per 1,000 ticks of 1 ps, slot 0 at tick 0."""
    return Clock(
        knot_ticks=np.array([0]),
        knot_slot=np.array([0]),
        knot_fraction=np.array([0.0]),
        slots_per_tick=np.array([1e-3]),
        locked=np.array([True]),
        stop_tick=stop,
    )


def tags_of(events: list[tuple[int, int]], lost: Gaps = ()) -> TimeTags:
    """Recording of 1 ps ticks from (tick, channel 1..4)."""
    return merge([(c, np.array([t for t, k in events if k == c], dtype=np.int64)) for c in DETECTORS], 1_000_000, lost)


def run(
    events: list[tuple[int, int]],
    *,
    gate_ps: float = 400,
    clock: Clock | None = None,
    delays: dict[int, float] | None = None,
    lost: Gaps = (),
    gate_offset_ps: float = 0.0,
    double_clicks: Literal["random", "first"] = "random",
) -> Detections:
    """Detections of a recording with 20 ns dead time."""
    return detect(
        tags_of(events, lost),
        clock or plain_clock(),
        delays or {},
        DETECTORS,
        pulse_period_as=PERIOD_AS,
        gate_ps=gate_ps,
        dead_time_ns=20.0,
        entropy=OsEntropy(),
        gate_offset_ps=gate_offset_ps,
        double_clicks=double_clicks,
    )


def test_slot_is_the_nearest_and_the_gate_is_a_full_width() -> None:
    d = run([(50_000, 1), (100_199, 2), (150_201, 3), (199_805, 4)])
    assert d.slots.tolist() == [50, 100, 200]
    assert (d.basis.tolist(), d.bit.tolist()) == ([0, 0, 1], [0, 1, 1])
    assert d.counters.outside_gate == 1


def test_every_click_blanks_all_detectors_even_outside_the_gate_and_while_blanked() -> None:
    d = run([(50_000, 1), (65_000, 2), (80_000, 3), (110_500, 1), (120_000, 4), (150_000, 2)])
    assert d.slots.tolist() == [50, 150]
    assert (d.counters.blanked, d.counters.outside_gate) == (3, 1)


def test_double_clicks_are_kept_and_counted() -> None:
    d = run([(50_000, 1), (50_100, 2), (100_000, 1), (100_020, 3), (150_000, 4), (150_010, 4)])
    assert d.slots.tolist() == [50, 100, 150]
    c = d.counters
    assert (c.double_same_basis, c.double_cross_basis, c.repeated, c.further_clicks) == (1, 1, 1, 2)
    assert d.basis[0] == 0
    assert (d.basis[2], d.bit[2]) == (1, 1)
    first = run([(50_100, 1), (50_000, 2), (100_000, 3), (100_020, 1)], double_clicks="first")
    assert (first.basis.tolist(), first.bit.tolist()) == ([0, 1], [1, 0])
    assert first.double_click_rule == "first"


def test_double_clicks_are_uniform() -> None:
    for mask, values in [(0b0011, {0, 1}), (0b1100, {2, 3}), (0b0101, {0, 1, 2, 3}), (0b1111, {0, 1, 2, 3})]:
        code = assign_double_clicks(np.full(40_000, mask, dtype=np.uint8), OsEntropy())
        share = np.bincount(code, minlength=4) / code.size
        for value in range(4):
            expected = 1 / len(values) if value in values else 0.0
            assert abs(share[value] - expected) < 0.015  # 6 sigma


def test_lost_interval_excludes_itself_and_the_dead_time_after() -> None:
    d = run([(50_000, 1), (120_000, 2), (215_000, 3), (225_000, 3), (300_000, 4)], lost=((100_000, 200_000),))
    assert d.slots.tolist() == [50, 300]
    assert (d.counters.lost, d.counters.blanked) == (2, 1)


def test_nothing_is_detected_while_unlocked_or_before_pulse_zero() -> None:
    clock = Clock(
        knot_ticks=np.array([10_000, 100_000, 200_000]),
        knot_slot=np.array([-40, 50, 150]),
        knot_fraction=np.zeros(3),
        slots_per_tick=np.full(3, 1e-3),
        locked=np.array([True, False, True]),
        stop_tick=300_000,
    )
    d = run([(5_000, 1), (30_000, 1), (60_000, 1), (150_000, 1), (250_000, 1), (350_000, 1)], clock=clock)
    assert d.slots.tolist() == [10, 200]
    assert d.counters.unlocked == 4


def test_delays_reorder_clicks_before_blanking() -> None:
    # channel 1 is 30 ns late: its click at 100 ns belongs to slot 70 and blanks the click at 80 ns
    d = run([(80_000, 2), (100_000, 1)], delays={1: 30_000.0})
    assert (d.slots.tolist(), d.bit.tolist(), d.counters.blanked) == ([70], [0], 1)


def test_gate_offset_moves_the_middle_of_the_gate() -> None:
    d = run([(50_350, 1), (100_650, 2)], gate_ps=100, gate_offset_ps=350.0)
    assert d.slots.tolist() == [50]
    assert run([(50_350, 1)], gate_ps=100).counters.outside_gate == 1


def test_histogram_counts_every_locked_click_by_detector() -> None:
    d = run([(50_000, 1), (100_250, 2), (150_499, 2), (150_500, 4)])
    assert d.histogram.sum(axis=1).tolist() == [1, 2, 0, 1]
    assert d.histogram_edges_ps[0] == -500
    peak = d.histogram_edges_ps[np.flatnonzero(d.histogram[1])]
    assert peak[0] <= 250 < peak[0] + 4


def test_the_parts_of_the_counters_add_up() -> None:
    rng = np.random.default_rng(11)
    t = pulsed(rng, n_pulses=50_000, detections=4000, darks=3000, period_as=PERIOD_AS, start_tick=0, jitter_ps=150)
    d = detect(
        t.tags, plain_clock(40_000_000), {2: 7.3}, DETECTORS, pulse_period_as=PERIOD_AS, gate_ps=500, dead_time_ns=5,
        entropy=OsEntropy(),
    )  # fmt: skip
    c = d.counters
    assert c.detector_tags == len(t.tags) == sum(c.tags_by_channel.values())
    parts = c.lost + c.unlocked + c.outside_gate + c.blanked + c.repeated + c.further_clicks + c.detections
    assert parts == c.detector_tags
    assert min(c.unlocked, c.outside_gate, c.blanked, c.double_same_basis, c.double_cross_basis) > 0
    assert (np.diff(d.slots) > 0).all()


@st.composite
def recordings(draw: st.DrawFn) -> tuple[TimeTags, GateRules]:
    """Busy little recordings with unlocked pieces, gaps, unmapped channels and delays of either sign."""
    n = draw(st.integers(0, 120))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    ticks = np.sort(rng.integers(-2_000, 60_000, n)).astype(np.int64)
    base = draw(st.sampled_from([0, 2 * 10**17]))
    knots = np.concatenate([[0], np.sort(rng.choice(np.arange(1, 50_000), 3, replace=False))]).astype(np.int64)
    clock = Clock(
        knot_ticks=knots + base,
        knot_slot=knots // 1000 + draw(st.sampled_from([-5, 0, 2**50])),
        knot_fraction=rng.uniform(-0.5, 0.5, 4),
        slots_per_tick=1e-3 * (1 + rng.uniform(-1e-3, 1e-3, 4)),
        locked=rng.random(4) < 0.8,
        stop_tick=base + 55_000,
    )
    tags = TimeTags(
        ticks=ticks + base,
        channel=rng.integers(0, 5, n).astype(np.uint8),
        channel_ids=(1, 2, 3, 4, -7),
        tick_as=1_000_000,
        lost=((base + 10_000, base + 12_000), (base + 11_500, base + 12_500), (base + 40_000, base + 40_001)),
    )
    delays = {c: float(rng.uniform(-4000, 4000)) for c in DETECTORS}
    return tags, gate_rules(
        tags, clock, delays, DETECTORS, pulse_period_as=PERIOD_AS,
        gate_ps=draw(st.sampled_from([200.0, 700.0, 1000.0])), dead_time_ns=draw(st.sampled_from([0.0, 0.4, 3.0])),
        gate_offset_ps=draw(st.sampled_from([0.0, -230.0])),
    )  # fmt: skip


@given(recordings())
@settings(max_examples=300, deadline=None)
def test_fast_form_equals_portable_form(recording: tuple[TimeTags, GateRules]) -> None:
    tags, rules = recording
    fast = gate_kernel.clicks(tags.ticks, tags.channel, rules)
    slow = gate_portable.clicks(tags.ticks, tags.channel, rules)
    for name in ("slots", "mask", "leader", "at_tick", "histogram", "counters"):
        assert np.array_equal(getattr(fast, name), getattr(slow, name)), name
    assert (np.diff(fast.slots) > 0).all()


def test_the_buffer_of_the_fast_form_grows() -> None:
    # 20,000 clicks within the largest delay: far more than the first buffer holds
    ticks = np.arange(20_000, dtype=np.int64)
    tags = TimeTags(ticks=ticks, channel=(ticks % 2).astype(np.uint8), channel_ids=(1, 2), tick_as=1_000_000)
    rules = gate_rules(
        tags, plain_clock(), {1: 1e6, 2: -1e6}, DETECTORS, pulse_period_as=PERIOD_AS, gate_ps=1000, dead_time_ns=0
    )
    fast = gate_kernel.clicks(tags.ticks, tags.channel, rules)
    slow = gate_portable.clicks(tags.ticks, tags.channel, rules)
    assert np.array_equal(fast.slots, slow.slots)
    assert np.array_equal(fast.mask, slow.mask)


@given(
    knot=st.integers(0, 26 * 10**16),
    slot=st.integers(0, 2**50),
    fraction=st.floats(-0.5, 0.499),
    step=st.integers(0, 10**12),
    rate=st.floats(1e-5, 2.0),
)
def test_clock_agrees_with_exact_arithmetic(knot: int, slot: int, fraction: float, step: int, rate: float) -> None:
    step = min(step, int(10**9 / rate))  # a piece of a second at most
    clock = Clock(
        knot_ticks=np.array([knot]),
        knot_slot=np.array([slot]),
        knot_fraction=np.array([fraction]),
        slots_per_tick=np.array([rate]),
        locked=np.array([True]),
        stop_tick=knot + step + 1,
    )
    s, r = clock.slots(np.array([knot + step]))
    exact = slot + Fraction(fraction) + step * Fraction(rate)
    assert -0.5 <= r[0] < 0.5
    assert abs(int(s[0]) + Fraction(float(r[0])) - exact) < Fraction(1, 10**6)


def test_clock_refuses_knots_out_of_order() -> None:
    with pytest.raises(ValueError, match="increase"):
        Clock(
            knot_ticks=np.array([5, 5]),
            knot_slot=np.zeros(2, dtype=np.int64),
            knot_fraction=np.zeros(2),
            slots_per_tick=np.ones(2),
            locked=np.ones(2, dtype=bool),
            stop_tick=9,
        )
