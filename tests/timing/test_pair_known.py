"""The narrow search for the clock: where an earlier lock says; and what happens where that is wrong."""

import numpy as np
import pytest
from pair_streams import ALICE, BOB, Lab, converse, lab, sifted

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.entropy import OsEntropy
from qkdpp.timing.pair_events import detector_events
from qkdpp.timing.pair_locate import Found, find_segment
from qkdpp.timing.pair_messages import encode_segment
from qkdpp.timing.pair_search import NEAR_BINS_NS, search_near
from qkdpp.timing.pair_values import Expected, PairParams
from qkdpp.timing.pairs import segment_bounds

REACH_S, CHANGE = 5e-6, 4e-6
"""What is left open two seconds after a lock."""


def found(world: Lab, known: Expected | None, offset_range_s: float = 0.002) -> Found | None:
    params = PairParams(detector_of_channel=BOB, offset_range_s=offset_range_s)
    theirs = detector_events(world.alice, ALICE, OsEntropy())
    message = encode_segment(
        theirs,
        segment_bounds(theirs, 0.5, params),
        tick_as=world.alice.tick_as,
        slot_ticks=37,
        origin_tick=int(world.alice.ticks[0]),
    )
    own = detector_events(world.bob, BOB, OsEntropy())
    origin = int(world.bob.ticks[0])
    return find_segment(message, own, tick_as=world.bob.tick_as, origin_tick=origin, params=params, known=known)


def late_ns(world: Lab, result: Found, rate: float) -> float:
    """Offset of Bob's clock, in the middle of the segment, by the clocks that made the tags."""
    middle = (result.message.start + result.message.stop) // 2
    own = int(world.bob.ticks[0]) + result.own_time(middle) / 256
    peer = int(world.alice.ticks[0]) + middle / 256
    return own * world.bob.tick_as * 1e-9 - peer * world.alice.tick_as * 1e-9 * (1 + rate)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rate", [8e-6, -9e-5])
def test_the_narrow_search_finds_what_the_wide_one_finds(seed: int, rate: float) -> None:
    """Offset and rate as the clocks really are, anywhere within what the earlier lock leaves open."""
    rng = np.random.default_rng([40, seed])
    off_s, change = rng.uniform(-1, 1) * REACH_S, rng.uniform(-1, 1) * CHANGE
    world = lab(rng, duration_s=0.1, rate=rate, offset_s=off_s)
    wide = found(world, None)
    near = found(world, Expected(reach_s=REACH_S, rate=rate - change, max_change=CHANGE))
    assert wide is not None
    assert near is not None
    assert near.coarse.bin_ns == NEAR_BINS_NS[0]
    assert near.coarse.significance > near.coarse.threshold
    # 170 ps of jitter and steps of 81 ps over some 400 pairs, delays found to as much
    for one in (near, wide):
        assert late_ns(world, one, rate) == pytest.approx(off_s * 1e9, abs=0.15)
        assert one.calibration.rate == pytest.approx(rate, abs=5 * one.calibration.rate_error)
    assert late_ns(world, near, rate) == pytest.approx(late_ns(world, wide, rate), abs=0.02)
    assert near.calibration.own_delay_ns == pytest.approx(wide.calibration.own_delay_ns, abs=0.05)


@pytest.mark.parametrize("reach_s", [1e-4, 1e-3])
def test_what_was_known_long_ago_serves_too(reach_s: float) -> None:
    rng = np.random.default_rng(46)
    off_s, change = 0.9 * reach_s, 3e-5
    world = lab(rng, rate=8e-6, offset_s=off_s)
    near = found(world, Expected(reach_s=reach_s, rate=8e-6 - 0.9 * change, max_change=change), offset_range_s=1e-6)
    assert near is not None  # where the wide search may not look
    assert late_ns(world, near, 8e-6) == pytest.approx(off_s * 1e9, abs=0.15)


@pytest.mark.parametrize("jump_s", [40e-6, -8e-3])
def test_a_jump_out_of_the_narrow_range_is_found_by_the_wide_search(jump_s: float) -> None:
    rng = np.random.default_rng(41)
    world = lab(rng, duration_s=0.1, rate=3e-6, offset_s=jump_s)
    a, b, _ = converse(
        world.alice, world.bob, Expected(reach_s=REACH_S, rate=3e-6, max_change=CHANGE), offset_range_s=0.01
    )
    assert sifted(a, b)[0] > 0.95 * 0.96 * 10_000 / 2
    assert b.clock.line_offset_s == pytest.approx(jump_s, abs=1e-9)
    assert b.clock.line_rate_ppm == pytest.approx(3.0, abs=1e-3)


def test_a_rate_that_is_not_the_expected_one_is_found_by_the_wide_search() -> None:
    rng = np.random.default_rng(42)
    world = lab(rng, duration_s=0.1, rate=5e-5)
    a, b, _ = converse(
        world.alice, world.bob, Expected(reach_s=REACH_S, rate=-5e-5, max_change=CHANGE), offset_range_s=0.01
    )
    assert sifted(a, b)[0] > 0.95 * 0.96 * 10_000 / 2
    assert b.clock.line_rate_ppm == pytest.approx(50.0, abs=1e-3)


def test_without_pairs_an_expectation_locks_nothing() -> None:
    rng = np.random.default_rng(43)
    known = Expected(reach_s=REACH_S, rate=0.0, max_change=CHANGE)
    for seconds in (0.1, 1e-5):  # the second has too few tags to tell anything
        ones = [lab(rng, duration_s=seconds) for _ in range(2)]
        with pytest.raises(Abort) as caught:
            converse(ones[0].alice, ones[1].bob, known, offset_range_s=0.002, max_segments=2)
        assert caught.value.aborted.reason is AbortReason.NO_LOCK


def test_chance_makes_no_peak() -> None:
    """Of 100 narrow searches in clicks that have nothing to do with each other none finds anything."""
    rng = np.random.default_rng(44)
    for _ in range(100):
        peer, own = (np.sort(rng.uniform(-3e5, 4.3e6, 2000)) for _ in range(2))
        peer = peer[(peer >= 0) & (peer < 4e6)]
        result = search_near(peer, own, length_ns=4e6, reach_ns=5e3, rate=0.0, max_change=CHANGE)
        assert result is None


def test_a_pulsed_pump_does_not_fool_the_narrow_search() -> None:
    rng = np.random.default_rng(45)
    world = lab(rng, duration_s=0.1, pump_ps=13_000.0, offset_s=2e-6)
    near = found(world, Expected(reach_s=REACH_S, rate=0.0, max_change=CHANGE))
    assert near is not None
    assert near.coarse.bin_ns == NEAR_BINS_NS[0]
    assert late_ns(world, near, 0.0) == pytest.approx(2000.0, abs=0.15)
