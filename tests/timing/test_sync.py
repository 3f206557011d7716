import numpy as np
import pytest
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.timing.sync import SyncFit, fit_sync

Ticks = NDArray[np.int64]


def fit(ticks: Ticks, first_sync_pulse: int = 0) -> SyncFit:
    return fit_sync(
        ticks,
        tick_as=1_000_000,
        pulse_period_as=1_600_000_000,
        sync_period_pulses=6250,
        first_sync_pulse=first_sync_pulse,
    )


def train(
    rng: np.random.Generator,
    n: int,
    *,
    rate: float = 0.0,
    drift: float = 0.0,
    jitter_ps: float = 30.0,
    start: int = 3 * 10**17,
) -> Ticks:
    """Sync pulses every 10 us of the sender's time, ticks of 1 ps."""
    t = np.arange(n) * 1e-5
    local = (t * (1 + rate) + drift * t * t / 2) * 1e12 + rng.normal(0, jitter_ps, n)
    return start + np.rint(local).astype(np.int64)


@pytest.mark.parametrize("rate", [0.0, 1e-6, -1.2e-4])
def test_pulse_numbers_are_exact_beyond_2_to_the_53_ticks(rate: float) -> None:
    rng = np.random.default_rng(1)
    ticks = train(rng, 20_000, rate=rate)
    found = fit(ticks)
    slot, _ = found.clock.slots(ticks)
    assert np.array_equal(slot, np.arange(20_000) * 6250)
    assert found.clock.is_locked(ticks).all()
    # the line through 1,024 pulses of 30 ps jitter is good to about a picosecond
    true = 3 * 10**17 + np.rint(np.arange(20_000) * 1e7 * (1 + rate)).astype(np.int64)
    _, off = found.clock.slots(true)
    assert np.abs(off * 1600)[512:-512].max() < 6
    assert found.jitter_ticks == pytest.approx(30, rel=0.05)
    assert (found.missing, found.rejected) == (0, 0)


def test_missing_and_extra_pulses_are_counted_and_harmless() -> None:
    rng = np.random.default_rng(2)
    ticks = train(rng, 20_000, rate=2e-5)
    lost = rng.choice(np.arange(1, 19_999), 1500, replace=False)
    noise = rng.integers(ticks[0], ticks[-1], 900)
    doubles = ticks[rng.choice(20_000, 200, replace=False)] + 50_000
    dirty = np.sort(np.concatenate([np.delete(ticks, lost), noise, doubles]))
    found = fit(dirty)
    slot, _ = found.clock.slots(ticks)
    assert np.array_equal(slot, np.arange(20_000) * 6250)
    assert abs(found.missing - 1500) <= 2
    assert abs(found.rejected - 1100) <= 2


def test_a_noise_tag_before_the_first_pulse_is_not_pulse_zero() -> None:
    rng = np.random.default_rng(3)
    ticks = train(rng, 3000)
    found = fit(np.concatenate([[ticks[0] - 3_333_333], ticks]), first_sync_pulse=50)
    slot, _ = found.clock.slots(ticks)
    assert slot[0] == 50


def test_window_shrinks_until_the_drift_is_small() -> None:
    rng = np.random.default_rng(4)
    calm = fit(train(rng, 30_000, drift=4e-7))
    wild = fit(train(rng, 30_000, drift=4e-4))
    assert calm.window == 1024
    assert wild.window < 1024
    t = np.arange(30_000) * 1e-5
    true = 3 * 10**17 + np.rint((t + 4e-4 * t * t / 2) * 1e12).astype(np.int64)
    slot, off = wild.clock.slots(true)
    assert np.array_equal(slot, np.arange(30_000) * 6250)
    assert np.std(off * 1600) < 15


def test_gap_is_unlocked_and_numbering_goes_on() -> None:
    rng = np.random.default_rng(5)
    ticks = train(rng, 60_000, rate=1e-5)
    gone = slice(20_000, 40_000)
    found = fit(np.delete(ticks, np.r_[gone]))
    slot, _ = found.clock.slots(ticks)
    assert np.array_equal(slot[40_000:], np.arange(40_000, 60_000) * 6250)
    assert not found.clock.is_locked(ticks[21_000:39_000]).any()
    assert found.clock.is_locked(ticks[41_500:]).all()
    assert set(found.run.tolist()) == {-1, 0}


def test_long_silence_starts_a_new_run() -> None:
    rng = np.random.default_rng(6)
    ticks = np.concatenate([train(rng, 5000), train(rng, 5000, start=3 * 10**17 + 2 * 10**12)])
    found = fit(ticks)
    assert set(found.run.tolist()) == {-1, 0, 1}


@pytest.mark.parametrize(
    "ticks",
    [
        np.empty(0, dtype=np.int64),
        np.array([5], dtype=np.int64),
        np.sort(np.random.default_rng(7).integers(0, 10**11, 10_000)),
        np.arange(10_000) * 10_010_000,
    ],
    ids=["none", "one", "noise", "a thousand ppm off"],
)
def test_no_train_no_lock(ticks: Ticks) -> None:
    with pytest.raises(Abort) as stop:
        fit(ticks)
    assert stop.value.aborted.reason is AbortReason.NO_LOCK
