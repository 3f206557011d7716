"""Dead time and after-pulses of one detector against their formulas."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from qkdpp.kernels import use_backend
from qkdpp.sim import dead_time
from qkdpp.sim.dead_time import DeadTime

FS_PER_S = 10**15
SPAN_FS = FS_PER_S // 10


def poisson(rate_hz: float, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.sort(rng.integers(0, SPAN_FS, rng.poisson(rate_hz * SPAN_FS / FS_PER_S)))


def test_recorded_rate_is_that_of_a_non_paralysable_detector() -> None:
    rng = np.random.default_rng(1)
    incident_hz, dead_fs = 2e6, 10**9  # 1 us
    times = poisson(incident_hz, rng)
    clicked, index = DeadTime(dead_fs=dead_fs).click(times, SPAN_FS, rng)
    expected = incident_hz / (1 + incident_hz * 1e-6) * SPAN_FS / FS_PER_S
    assert abs(clicked.size - expected) < 4 * math.sqrt(expected)
    assert np.diff(clicked).min() >= dead_fs
    np.testing.assert_array_equal(times[index], clicked)


def test_an_event_at_the_end_of_the_dead_time_clicks() -> None:
    unit = DeadTime(dead_fs=100)
    clicked, _ = unit.click(np.array([0, 99, 100, 150, 200, 299]), 1000, np.random.default_rng(0))
    assert clicked.tolist() == [0, 100, 200]


def test_after_pulses_breed_and_decay() -> None:
    rng = np.random.default_rng(2)
    times = poisson(1e5, rng)
    unit = DeadTime(dead_fs=10**8, after_pulse=0.1, decay_fs=1e9)
    clicked, index = unit.click(times, SPAN_FS, rng)
    after = index < 0
    primaries = (~after).sum()
    assert abs(after.sum() - primaries * 0.1 / 0.9) < 4 * math.sqrt(primaries * 0.1 / 0.9)
    waits = np.diff(clicked)[after[1:]] - 10**8
    assert waits.min() >= 0
    # most after-pulses follow their parent directly, so that the mean wait is close to the decay time
    assert waits.mean() == pytest.approx(1e9, rel=0.1)


def test_gated_after_pulses_fall_into_gates() -> None:
    rng = np.random.default_rng(3)
    gate, phase, width = 800_000, 12_345, 180_000
    primaries = phase + rng.integers(0, SPAN_FS // gate, 20_000) * gate
    unit = DeadTime(
        dead_fs=10**9, after_pulse=0.2, decay_fs=1e9, gate_fs=gate, phase_fs=phase, gate_width_fs=float(width)
    )
    clicked, index = unit.click(np.sort(primaries), SPAN_FS, rng)
    off = (clicked[index < 0] - phase + gate // 2) % gate - gate // 2
    assert off.size > 1000
    assert np.abs(off).max() <= width / 2
    assert off.std() == pytest.approx(width / math.sqrt(12), rel=0.05)


def test_cutting_the_stream_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    times = poisson(3e6, rng)
    whole, _ = DeadTime(dead_fs=10**8).click(times, SPAN_FS, rng)
    unit = DeadTime(dead_fs=10**8)
    parts = []
    for end in [*np.sort(rng.integers(0, SPAN_FS, 50)).tolist(), SPAN_FS]:
        before = times < end
        parts.append(unit.click(times[before], end, rng)[0])
        times = times[~before]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_after_pulses_wait_for_the_next_slice() -> None:
    unit = DeadTime(dead_fs=100, after_pulse=0.3, decay_fs=1e6)
    rng = np.random.default_rng(5)
    first, _ = unit.click(np.arange(0, 10_000_000, 10_000), 10_000_000, rng)
    later, index = unit.click(np.empty(0, dtype=np.int64), dead_time.FAR, rng)
    assert later.size > 0
    assert (index == -1).all()
    assert later[0] >= 10_000_000 > first[-1]


def test_without_numba_the_clicks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    times = poisson(2e5, np.random.default_rng(6))

    def clicks() -> NDArray[np.int64]:
        unit = DeadTime(dead_fs=10**9, after_pulse=0.05, decay_fs=1e9)
        return unit.click(times, SPAN_FS, np.random.default_rng(7))[0]

    compiled = clicks()
    monkeypatch.setattr(dead_time, "_compiled", lambda: dead_time._loop)
    np.testing.assert_array_equal(clicks(), compiled)


def test_the_loop_is_compiled_where_numba_is_in_use() -> None:
    use_backend("numba")
    assert dead_time._compiled() is not dead_time._loop
