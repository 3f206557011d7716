from dataclasses import replace

import numpy as np
import pytest
from timing_streams import DETECTORS, SYNC, Truth, pulsed

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.tags import TimeTags
from qkdpp.timing.delays import FINE_BINS, fold_peak
from qkdpp.timing.detect import Detections
from qkdpp.timing.pulsed import PulsedParams, detections, recover

PERIOD_AS = 1_600_000_000


BASE = PulsedParams(
    method="sync",
    pulse_period_as=PERIOD_AS,
    detector_of_channel=DETECTORS,
    gate_ps=600.0,
    dead_time_ns=50.0,
    sync_channel=SYNC,
    sync_period_pulses=6250,
)


def agreement(found: Detections, truth: Truth) -> tuple[float, float]:
    """Share of the detections whose pulse number is a true one, and error rate in matching bases."""
    at = np.searchsorted(truth.pulse, found.slots).clip(max=truth.pulse.size - 1)
    hit = truth.pulse[at] == found.slots
    state = truth.state[at]
    same = hit & (state >> 1 == found.basis)
    return float(hit.mean()), float((state[same] & 1 != found.bit[same]).mean())


@pytest.mark.parametrize(("rate", "drift"), [(0.0, 0.0), (3e-5, 4e-7), (-1.1e-4, 0.0)])
def test_sync_gives_true_pulse_numbers(rate: float, drift: float) -> None:
    rng = np.random.default_rng(20)
    truth = pulsed(
        rng, n_pulses=60_000_000, detections=20_000, darks=2_000, rate=rate, drift=drift, sync_period=6250,
        delays_ps=(-300.0, 150.0, 420.0, 0.0), start_tick=2 * 10**17,
    )  # fmt: skip
    params = BASE
    found = recover(truth.tags, params)
    d = detections(truth.tags, found, params, OsEntropy())
    share, qber = agreement(d, truth)
    assert share > 0.95  # the rest are dark counts: 2,000 x 600/1600 against 20,000
    assert qber < 0.02
    assert len(d) > 0.95 * 20_000
    assert found.report.locked_share == pytest.approx(1, abs=0.01)
    # (1 + u) over the whole recording: u plus the mean drift
    assert found.report.line_rate_ppm == pytest.approx((rate + drift * 0.048) * 1e6, abs=2e-3)


def test_delays_are_the_true_ones() -> None:
    rng = np.random.default_rng(21)
    delays = (-300.0, 150.0, 420.0, 0.0)
    truth = pulsed(rng, n_pulses=10_000_000, detections=20_000, sync_period=6250, delays_ps=delays)
    found = recover(truth.tags, BASE)
    for channel, code in DETECTORS.items():
        # 5,000 arrivals of 80 ps: 1.1 ps, and the line through the sync pulses
        assert found.delay_ticks[channel] == pytest.approx(delays[code], abs=8)


def test_known_delays_resolve_whole_slots() -> None:
    rng = np.random.default_rng(22)
    delays = (0.0, 8_000.0, -4_500.0, 1_234.0)
    truth = pulsed(rng, n_pulses=20_000_000, detections=8_000, sync_period=6250, delays_ps=delays)
    known = {channel: delays[code] + 100.0 for channel, code in DETECTORS.items()}
    params = replace(BASE, known_delay_ticks=known)
    share, qber = agreement(detections(truth.tags, recover(truth.tags, params), params, OsEntropy()), truth)
    assert (share > 0.99, qber < 0.02) == (True, True)


def test_scan_of_gate_needs_no_new_clock() -> None:
    rng = np.random.default_rng(23)
    truth = pulsed(rng, n_pulses=20_000_000, detections=8_000, darks=8_000, sync_period=6250)
    params = replace(BASE, dead_time_ns=0.0)
    found = recover(truth.tags, params)
    kept = [len(detections(truth.tags, found, params, OsEntropy(), gate_ps=g)) for g in (100, 400, 1600)]
    # erf(50/80/sqrt 2) = 0.468 of the signal and 1/16 of the dark counts; everything
    assert kept[0] == pytest.approx(0.468 * 8000 + 500, rel=0.06)
    assert kept[0] < kept[1] < kept[2]
    assert kept[2] > 15_950


def test_a_detector_without_peak_is_no_lock() -> None:
    rng = np.random.default_rng(24)
    truth = pulsed(rng, n_pulses=20_000_000, detections=4_000, jitter_ps=3000, sync_period=6250)
    with pytest.raises(Abort) as stop:
        recover(truth.tags, BASE)
    assert stop.value.aborted.reason is AbortReason.NO_LOCK


def counted(positions: np.ndarray) -> np.ndarray:
    return np.histogram(positions - np.floor(positions + 0.5), bins=FINE_BINS, range=(-0.5, 0.5))[0]


@pytest.mark.parametrize("centre", [-0.49, -0.2, 0.0, 0.31, 0.4999])
def test_fold_peak_is_the_centroid_wherever_it_lies(centre: float) -> None:
    rng = np.random.default_rng(25)
    signal = centre + rng.normal(0, 0.05, 20_000)
    folded = np.concatenate([signal, rng.uniform(-0.5, 0.5, 20_000)])
    position, significance = fold_peak(counted(folded))
    off = position - centre
    assert abs(off - np.rint(off)) < 5 * 0.05 / np.sqrt(20_000) * 2
    assert significance > 50


def test_flat_arrivals_have_no_peak() -> None:
    rng = np.random.default_rng(26)
    assert max(fold_peak(counted(rng.uniform(-0.5, 0.5, 5000)))[1] for _ in range(50)) < 6


@pytest.mark.parametrize("n", [1, 2, 3, 5, 20])
def test_a_handful_of_arrivals_has_no_peak_and_no_trouble(n: int) -> None:
    """A cut fibre leaves a few dark counts: the window of the centroid may come to lie where there are none."""
    rng = np.random.default_rng(n)
    for _ in range(300):
        position, significance = fold_peak(counted(rng.uniform(-0.5, 0.5, n)))
        assert -0.5 <= position <= 0.5
        assert significance < 8


def test_a_drift_of_the_signal_against_the_sync_is_followed() -> None:
    rng = np.random.default_rng(27)
    truth = pulsed(rng, n_pulses=4_000_000_000, detections=60_000, sync_period=62_500, jitter_ps=60)
    # from the first second to the sixth the signal drifts by 500 ps, the sync pulses do not
    signal = truth.tags.channel != truth.tags.channel_ids.index(SYNC)
    t = (truth.tags.ticks - int(truth.tags.ticks[0])) * 1e-12
    late = truth.tags.ticks + np.where(signal, np.rint(t / 6.4 * 500), 0).astype(np.int64)
    order = np.argsort(late, kind="stable")
    tags = TimeTags(
        ticks=late[order], channel=truth.tags.channel[order], channel_ids=truth.tags.channel_ids, tick_as=1_000_000
    )
    params = replace(BASE, sync_period_pulses=62_500, gate_ps=300.0)
    d = detections(tags, recover(tags, params), params, OsEntropy())
    # 300 ps about the centre keep 98.8 % of 60 ps jitter; uncorrected, the drift would push out half
    assert len(d) > 0.97 * 60_000
    assert agreement(d, truth)[0] > 0.99
