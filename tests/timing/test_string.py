from dataclasses import replace

import numpy as np
import pytest
from timing_streams import DETECTORS, SYNC, Pulses, Truth, pulsed

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.sync_string import SyncString
from qkdpp.core.tags import TimeTags
from qkdpp.timing import string_search
from qkdpp.timing.detect import Detections
from qkdpp.timing.pulsed import PulsedParams, detections, recover
from qkdpp.timing.string_search import Clicks, find_shift, stretches, whole_slots

PERIOD_AS = 10_000_000_000  # 100 MHz
STRING = SyncString(seed=bytes(range(32)), length=20_000, frame=1_000_000)
BASE = PulsedParams(
    method="string",
    pulse_period_as=PERIOD_AS,
    detector_of_channel=DETECTORS,
    gate_ps=1000.0,
    dead_time_ns=50.0,
    string=STRING,
    offset_hint_s=1.0,  # the streams begin at tick 10^12 of 1 ps
    offset_range_s=0.01,
)


def link(
    seed: int,
    *,
    n_pulses: int = 100_000_000,
    detections: int = 40_000,
    string: SyncString = STRING,
    period_as: int = PERIOD_AS,
    sync_period: int = 0,
    rate: float = 0.0,
    drift: float = 0.0,
) -> Truth:
    """A recording whose sender prepares the public string."""
    rng = np.random.default_rng(seed)

    def states(pulse: Pulses) -> np.ndarray:
        state = rng.integers(0, 4, pulse.size).astype(np.uint8)
        public = string.mask(pulse)
        state[public] = string.states(pulse[public])
        return state

    return pulsed(
        rng, n_pulses=n_pulses, detections=detections, states=states, period_as=period_as, sync_period=sync_period,
        delays_ps=(450.0, -300.0, 150.0, -500.0), darks=detections // 20, rate=rate, drift=drift,
    )  # fmt: skip


def share_right(found: Detections, truth: Truth) -> float:
    """Share of the detections that lie on a pulse that was detected."""
    at = np.searchsorted(truth.pulse, found.slots).clip(max=truth.pulse.size - 1)
    return float((truth.pulse[at] == found.slots).mean())


@pytest.mark.parametrize("hint_error_s", [0.0, 0.0098, -0.0098])
@pytest.mark.parametrize(("rate", "drift"), [(-1.2e-5, 5e-9), (1.1e-4, 4e-7)])
def test_numbers_are_true_without_a_sync_channel(hint_error_s: float, rate: float, drift: float) -> None:
    truth = link(60, rate=rate, drift=drift)
    params = replace(BASE, offset_hint_s=1.0 + hint_error_s)
    found = recover(truth.tags, params)
    d = detections(truth.tags, found, params, OsEntropy())
    # 40,000 detections and 2,000 dark counts, a tenth of which falls into the gate
    assert share_right(d, truth) > 0.985
    assert len(d) > 0.98 * 40_000
    assert found.report.locked_share > 0.99
    assert found.report.line_rate_ppm == pytest.approx((rate + drift / 2) * 1e6, abs=1e-2)


def test_625_mhz_with_doppler_of_a_satellite() -> None:
    string = SyncString(seed=bytes(32), length=62_500, frame=6_250_000)
    period_as = 1_600_000_000
    truth = link(61, n_pulses=312_500_000, detections=60_000, string=string, period_as=period_as, rate=2e-5, drift=4e-7)
    params = replace(BASE, pulse_period_as=period_as, string=string, offset_hint_s=0.991, gate_ps=600.0)
    found = recover(truth.tags, params)
    d = detections(truth.tags, found, params, OsEntropy())
    assert share_right(d, truth) > 0.96
    assert len(d) > 0.97 * 60_000
    assert found.report.locked_share > 0.99


def test_some_hundred_detections_of_the_string_suffice() -> None:
    truth = link(62, detections=10_000, rate=2e-6)
    assert STRING.mask(truth.pulse).sum() < 250
    params = replace(BASE, offset_hint_s=1.005)
    found = recover(truth.tags, params)
    assert share_right(detections(truth.tags, found, params, OsEntropy()), truth) > 0.98


def test_whole_slots_between_detectors_are_resolved() -> None:
    truth = link(63, detections=40_000, rate=1e-6)
    extra = {1: 0, 2: 31_000, 3: -12_000, 4: 5_000}
    late = truth.tags.ticks + np.array([extra[c] for c in truth.tags.channel_ids])[truth.tags.channel]
    order = np.argsort(late, kind="stable")
    tags = TimeTags(
        ticks=late[order], channel=truth.tags.channel[order], channel_ids=truth.tags.channel_ids, tick_as=1_000_000
    )
    params = replace(BASE, offset_hint_s=0.998)
    found = recover(tags, params)
    assert share_right(detections(tags, found, params, OsEntropy()), truth) > 0.98


@pytest.mark.parametrize("fault", ["no string", "wrong string", "hint", "no pulses"])
def test_no_lock_is_said(fault: str) -> None:
    truth = link(64, detections=20_000)
    params = BASE
    if fault == "no string":
        truth = pulsed(np.random.default_rng(64), n_pulses=100_000_000, detections=20_000, period_as=PERIOD_AS)
    elif fault == "wrong string":
        params = replace(BASE, string=replace(STRING, seed=bytes(32)))
    elif fault == "hint":
        params = replace(BASE, offset_hint_s=1.03)
    else:
        truth = pulsed(
            np.random.default_rng(64), n_pulses=100_000_000, detections=20_000, period_as=PERIOD_AS, jitter_ps=20_000
        )
    with pytest.raises(Abort) as stop:
        recover(truth.tags, replace(params, offset_range_s=0.002))
    assert stop.value.aborted.reason is AbortReason.NO_LOCK


def test_a_fade_starts_a_new_run_with_its_own_numbers() -> None:
    truth = link(65, n_pulses=400_000_000, detections=120_000, rate=3e-6, drift=2e-7)
    t = (truth.tags.ticks - 10**12) * 1e-12
    keep = (t < 1.0) | (t > 3.2)
    tags = TimeTags(
        ticks=truth.tags.ticks[keep], channel=truth.tags.channel[keep], channel_ids=truth.tags.channel_ids,
        tick_as=1_000_000,
    )  # fmt: skip
    found = recover(tags, BASE)
    d = detections(tags, found, BASE, OsEntropy())
    assert share_right(d, truth) > 0.98
    for start, stop in ((0.0, 1.0), (3.2, 4.0)):
        inside = ((t > start) & (t < stop)).sum()
        assert ((d.time_s > start) & (d.time_s < stop)).sum() > 0.9 * inside
    assert found.report.locked_share == pytest.approx(1.8 / 4, abs=0.01)
    assert "2 of 2 runs numbered" in found.report.notes


def test_a_step_of_the_clock_is_not_distilled() -> None:
    truth = link(66, n_pulses=200_000_000, detections=150_000)
    # after one second the tagger is 3 whole pulses late: the phase shows nothing, the string does
    late = truth.tags.ticks + np.where(truth.tags.ticks > 2 * 10**12, 30_000, 0)
    tags = TimeTags(
        ticks=late, channel=truth.tags.channel, channel_ids=truth.tags.channel_ids, tick_as=truth.tags.tick_as
    )
    found = recover(tags, BASE)
    d = detections(tags, found, BASE, OsEntropy())
    assert any("not recognised" in note for note in found.report.notes)
    assert 0.3 < found.report.locked_share < 0.6
    assert share_right(d, truth) > 0.98


def test_the_string_numbers_the_sync_pulses() -> None:
    truth = link(67, detections=20_000, sync_period=10_000, rate=5e-6)
    # the recording begins in the middle: its first sync pulse is number 3,210,000
    begin = 10**12 + 32_095 * 10**6
    keep = truth.tags.ticks > begin
    tags = TimeTags(
        ticks=truth.tags.ticks[keep], channel=truth.tags.channel[keep], channel_ids=truth.tags.channel_ids,
        tick_as=truth.tags.tick_as,
    )  # fmt: skip
    params = replace(BASE, method="sync", sync_channel=SYNC, sync_period_pulses=10_000, offset_hint_s=0.9995)
    params = replace(params, offset_range_s=0.001)
    found = recover(tags, params)
    assert share_right(detections(tags, found, params, OsEntropy()), truth) > 0.98
    guess = replace(params, offset_hint_s=77.0, first_sync_pulse=3_200_000)
    again = recover(tags, guess)
    assert np.array_equal(again.clock.knot_slot, found.clock.knot_slot)
    blind = recover(tags, replace(params, string=None, first_sync_pulse=3_210_000))
    assert np.array_equal(blind.clock.knot_slot, found.clock.knot_slot)


# pieces


def clicks_at(shift: int, seed: int, n: int = 20_000, qber: float = 0.0) -> Clicks:
    """Clicks on random pulses of 10 frames, numbered ``shift`` too low."""
    rng = np.random.default_rng(seed)
    pulse = np.sort(rng.choice(10 * STRING.frame, n, replace=False))
    state = rng.integers(0, 4, n).astype(np.uint8)
    public = STRING.mask(pulse)
    state[public] = STRING.states(pulse[public])
    basis = rng.integers(0, 2, n)
    right = np.where(rng.random(n) < qber, state ^ 1, state)
    detector = np.where(basis == state >> 1, right, basis << 1 | rng.integers(0, 2, n)).astype(np.uint8)
    return Clicks(slots=pulse - shift, detector=detector, channel=detector)


@pytest.mark.parametrize("shift", [-1_000_000, -3, 0, 17, 999_999])
def test_search_finds_the_shift(shift: int) -> None:
    found = find_shift(clicks_at(shift, 70, qber=0.05), STRING, guess=0, reach=1_000_000)
    assert found is not None
    assert found.shift == shift
    assert found.significance > found.threshold
    assert found.agreement == pytest.approx(0.95, abs=0.05)


def test_search_finds_nothing_where_there_is_nothing() -> None:
    for seed in range(5):
        clicks = clicks_at(500_000, 80 + seed)
        assert find_shift(clicks, STRING, guess=0, reach=100_000) is None


def test_a_slip_shows_in_its_stretch() -> None:
    clicks = clicks_at(0, 90, n=60_000)
    slipped = Clicks(
        slots=clicks.slots + np.where(clicks.slots > 5 * STRING.frame, 1, 0),
        detector=clicks.detector,
        channel=clicks.channel,
    )
    groups = stretches(slipped, STRING, 200)
    assert len(groups) >= 4
    for start, stop, found in groups:
        if stop <= 5 * STRING.frame:
            assert found > 7
        if start >= 5 * STRING.frame:
            assert found < 4


def test_channels_that_are_whole_slots_off_are_told() -> None:
    clicks = clicks_at(0, 91, n=60_000)
    off = np.array([0, 5, -40, 63])
    moved = Clicks(slots=clicks.slots + off[clicks.channel], detector=clicks.detector, channel=clicks.channel)
    assert whole_slots(moved, STRING) == {0: 0, 1: -5, 2: 40, 3: -63}


@pytest.mark.parametrize("reach", [300, 5_000])
def test_the_search_finds_the_same_click_by_click_and_by_transforms(
    monkeypatch: pytest.MonkeyPatch, reach: int
) -> None:
    clicks, unit = clicks_at(70, 95, n=60_000), string_search._Unit(start=2 * STRING.frame, length=STRING.length)
    found = []
    for additions in (0, 1 << 60):
        monkeypatch.setattr(string_search, "SPARSE", additions)
        found.append(np.zeros(2 * reach + 1, dtype=np.int32))
        string_search._correlate(found[-1], clicks, STRING, unit, guess=0)
    np.testing.assert_array_equal(*found)
    assert int(np.argmax(found[0])) - reach == 70
