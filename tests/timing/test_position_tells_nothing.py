"""What an announced slot tells about the detector: nothing measurable once delays and converter steps are corrected.

Information is estimated by the plug-in formula; ``bias`` is what independent variables would show by chance. A true
leak of that size could not be told from none with these numbers of clicks.
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from pair_streams import announced, converse, kwiat, lab, mutual_information
from timing_streams import DETECTORS, SYNC, pulsed

from qkdpp.core.entropy import OsEntropy
from qkdpp.timing.detect import detect
from qkdpp.timing.pair_events import SUB, Events, corrected, linearise, resolve
from qkdpp.timing.pair_messages import MatchedSlots, decode_positions
from qkdpp.timing.pulsed import PulsedParams, detections, recover

PUMP_PS = 12_500.0
SLOT_PS = 152.0  # 38 ticks of 4 ps
DELAYS = ((-3.0, 2.0, 1.2, -0.2), (1.0, -2.0, 0.5, 0.5))


def phases(slots: NDArray[np.int64], period_ps: float) -> NDArray[np.int64]:
    """Position of each slot relative to the nearest pump pulse, in steps of a slot."""
    position = (slots + 0.5) * SLOT_PS % period_ps
    return np.asarray(np.floor(position / SLOT_PS), dtype=np.int64)


def test_slots_of_pairs_tell_neither_bit_nor_basis() -> None:
    world = lab(np.random.default_rng(40), delays_ns=DELAYS, pump_ps=PUMP_PS, noise_hz=(0.0, 0.0), pairs_hz=400_000)
    # delays known from n pairs leave about 6 / n bits: 12,000 pairs here
    a, _, said = converse(world.alice, world.bob, calibration_share=0.3)
    slots = announced(said)
    positions = np.concatenate([decode_positions(m, -1, slots.size) for _, m in said if isinstance(m, MatchedSlots)])
    matched = slots[positions]
    for secret in (a.detector, a.detector & 1, a.detector >> 1):
        for x in (matched % 2, matched % 16, matched % 64, phases(matched, PUMP_PS)):
            information, bias = mutual_information(x, secret)
            assert information < 3 * bias + 1e-3
    # the same clicks without the correction: the position is the bit
    raw = resolve(
        Events(
            time=(world.alice.ticks - world.alice.ticks[0]) * SUB,
            detector=world.alice.channel.astype(np.uint8),
        ),
        round(1000 / 4 * SUB),
        OsEntropy(),
    ).events
    open_slots = raw.time // (38 * SUB)
    information, bias = mutual_information(phases(open_slots, PUMP_PS), raw.detector & 1)
    assert information > 0.5
    assert information > 100 * bias


def test_half_corrected_delays_are_noticed() -> None:
    world = lab(np.random.default_rng(41), delays_ns=DELAYS, pump_ps=PUMP_PS, noise_hz=(0.0, 0.0), pairs_hz=400_000)
    events = Events(time=(world.alice.ticks - world.alice.ticks[0]) * SUB, detector=world.alice.channel)
    for error_ns, leaks in ((0.0, False), (0.1, True)):
        ticks = (np.array(DELAYS[0]) + np.array([error_ns, -error_ns, 0.0, 0.0])) * 250
        fixed = corrected(events, ticks)
        information, bias = mutual_information(phases(fixed.time // (38 * SUB), PUMP_PS), fixed.detector & 1)
        assert bool(information > 3 * bias + 1e-3) is leaks


def uneven(rng: np.random.Generator, n: int, steps: NDArray[np.float64]) -> NDArray[np.int64]:
    """Ticks of uniform arrivals on a converter whose 16 steps have the given shares of a period of 16 ticks."""
    true = np.sort(rng.random(n)) * 16 * 40_000_000
    period = (true // 16).astype(np.int64)
    return period * 16 + np.searchsorted(np.cumsum(steps)[:-1], true % 16 / 16, side="right")


def test_steps_of_the_converter_do_not_tell_the_channel() -> None:
    rng = np.random.default_rng(42)
    steps = [rng.dirichlet(np.full(16, 1.0)) for _ in range(2)]
    ticks = [uneven(rng, 30_000, s) for s in steps]
    channel = np.repeat([0, 1], 30_000)
    before = mutual_information(np.concatenate([t % 16 for t in ticks]), channel)
    fixed = np.concatenate([linearise(t, 0, 78_125_000, OsEntropy()) for t in ticks]) + 3 * channel * SUB
    after = mutual_information(fixed // (2 * SUB) % 8, channel)
    assert before[0] > 0.1
    assert after[0] < 3 * after[1]


def test_linearised_times_are_nearer_the_truth() -> None:
    rng = np.random.default_rng(43)
    steps = rng.dirichlet(np.full(16, 1.0))
    true = np.sort(rng.random(40_000)) * 16 * 40_000_000
    ticks = (true // 16).astype(np.int64) * 16 + np.searchsorted(np.cumsum(steps)[:-1], true % 16 / 16, side="right")
    fixed = linearise(ticks, 0, 78_125_000, OsEntropy()) / SUB
    # within a step of width w nobody knows better: the true place and the random one are both uniform in it
    expected = np.sqrt((steps * (16 * steps) ** 2).sum() / 6)
    assert np.std(fixed - true) == pytest.approx(expected, rel=0.05)
    assert expected < 0.75 * np.std(ticks - true)
    assert np.abs(fixed - true).max() < 16 * steps.max() + 0.2


def test_even_steps_are_left_alone() -> None:
    rng = np.random.default_rng(44)
    ticks = np.sort(rng.integers(10**16, 10**16 + 10**9, 50_000))
    origin = int(ticks[0])
    assert np.array_equal(linearise(ticks, origin, 81_000_000, OsEntropy()), (ticks - origin) * SUB)
    none = np.empty(0, dtype=np.int64)
    assert linearise(none, 0, 81_000_000, OsEntropy()).size == 0


@pytest.mark.recordings
def test_slots_of_the_real_recording_tell_nothing() -> None:
    tags, other = kwiat()
    a, b, said = converse(tags, other)
    slots = announced(said)
    matched = slots[
        np.concatenate([decode_positions(m, -1, slots.size) for _, m in said if isinstance(m, MatchedSlots)])
    ]
    for secret in (a.detector, a.detector & 1, b.detector, b.detector & 1):
        for period in (2, 4, 8, 16, 32, 64):
            information, bias = mutual_information(matched % period, secret)
            assert information < 3 * bias + 1e-3
    # delays taken out, but the converter's steps left as they are: a third of a bit
    raw = Events(time=(tags.ticks - tags.ticks[0]) * SUB, detector=tags.channel)
    fixed = corrected(raw, np.array(a.delays_ticks))
    information, _ = mutual_information(fixed.time // (2 * SUB) % 8, fixed.detector)
    assert information > 0.2


def nearest(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """The element of the sorted ``x`` nearest to each ``y``."""
    right = np.searchsorted(x, y).clip(1, x.size - 1)
    return np.asarray(np.where(y - x[right - 1] <= x[right] - y, x[right - 1], x[right]), dtype=np.int64)


def test_pulse_numbers_of_a_receiver_tell_nothing() -> None:
    delays = (-2_600.0, 1_500.0, 4_200.0, 0.0)
    truth = pulsed(
        np.random.default_rng(45), n_pulses=20_000_000, detections=40_000, sync_period=6250, delays_ps=delays
    )
    params = PulsedParams(
        method="sync", pulse_period_as=1_600_000_000, detector_of_channel=DETECTORS, gate_ps=600.0, dead_time_ns=0.0,
        known_delay_ticks={c: delays[d] + 50.0 for c, d in DETECTORS.items()}, sync_channel=SYNC,
        sync_period_pulses=6250,
    )  # fmt: skip
    found = recover(truth.tags, params)
    d = detections(truth.tags, found, params, OsEntropy())
    # relative to the pulse that was really sent, and modulo small periods
    away = d.slots - nearest(truth.pulse, d.slots)
    away = away.clip(-8, 8) + 8
    for secret in (d.bit, d.basis):
        for x in (away, d.slots % 2, d.slots % 8, d.slots % 64):
            information, bias = mutual_information(x, secret)
            assert information < 3 * bias + 1e-3
    # without correction the click falls into another pulse's slot, and which one is the bit
    bare = detect(
        truth.tags, found.clock, {}, DETECTORS, pulse_period_as=1_600_000_000, gate_ps=1600.0, dead_time_ns=0.0,
        entropy=OsEntropy(),
    )  # fmt: skip
    away = (bare.slots - nearest(truth.pulse, bare.slots)).clip(-8, 8) + 8
    assert mutual_information(away, bare.bit)[0] > 0.3
