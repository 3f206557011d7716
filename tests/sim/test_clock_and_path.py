"""Clocks and ways of the light against exact arithmetic and geometry."""

import math
from fractions import Fraction

import numpy as np
import pytest

from qkdpp.scenarios import scenario
from qkdpp.sim import path
from qkdpp.sim.clock import FS_PER_S, LocalClock, ticks


@pytest.mark.parametrize("tick_as", [1_000_000, 78_125_000, 3_906_250, 500_000, 82_300_000])
def test_ticks_are_exact_for_long_recordings(tick_as: int) -> None:
    times = np.array([0, 1, 999, 123_456_789_012_345, 1_999 * FS_PER_S + 7], dtype=np.int64)
    for base_s in (0, 3_000_000):
        exact = [(base_s * 10**15 + int(t)) * 1000 // tick_as for t in times]
        assert ticks(times, tick_as, base_s).tolist() == exact


def test_a_clock_shows_offset_rate_and_drift() -> None:
    plan = scenario.Clock(offset_s=0.25, rate_ppm=-20.0, drift_ppm_per_s=0.4)
    clock = LocalClock(plan, 300.0, np.random.default_rng(0))
    times = np.array([0, FS_PER_S, 300 * FS_PER_S], dtype=np.int64)
    for true_fs, shown in zip(times.tolist(), clock.read(times).tolist(), strict=True):
        t = Fraction(true_fs, FS_PER_S)
        exact = Fraction(1, 4) + t + Fraction(-20, 10**6) * t + Fraction(4, 10**7) * t * t / 2
        assert abs(shown - exact * FS_PER_S) < 50  # 50 fs over 300 s: double precision of the correction


def test_a_clock_that_counts_anew_shows_the_same() -> None:
    plan = scenario.Clock(offset_s=0.25, rate_ppm=-20.0, drift_ppm_per_s=0.001, walk_ps_per_sqrt_s=50.0)
    one, two = (LocalClock(plan, 30.0, np.random.default_rng(4), cycle_s=10.0) for _ in range(2))
    times = np.array([12, 17, 29], dtype=np.int64) * FS_PER_S
    for _ in range(3):
        two.rebase(4)
    assert two.base_s == 12
    moved = two.read(times - 12 * FS_PER_S) + 12 * FS_PER_S
    assert np.abs(one.read(times) - moved).max() <= 2
    assert two.read(np.array([29 * FS_PER_S]))[0] != 0  # the walk goes on beyond what was drawn first


def test_a_drift_that_comes_and_goes_begins_like_one_that_stays_and_is_bounded() -> None:
    plan = scenario.Clock(offset_s=0.0, drift_ppm_per_s=0.01)
    stays = LocalClock(plan, 100.0, np.random.default_rng(0))
    goes = LocalClock(plan, 100.0, np.random.default_rng(0), cycle_s=3600.0)
    early, late = np.array([10 * FS_PER_S]), np.array([3600 * FS_PER_S])
    assert goes.read(early)[0] - early[0] == pytest.approx(stays.read(early)[0] - early[0], rel=1e-3)
    assert abs(goes.read(late)[0] - late[0]) < 1000


def test_the_random_walk_grows_with_the_square_root_of_time() -> None:
    plan = scenario.Clock(walk_ps_per_sqrt_s=100.0)
    at = np.array([4 * FS_PER_S], dtype=np.int64)
    ends = [LocalClock(plan, 4.0, np.random.default_rng(s)).read(at)[0] - at[0] - FS_PER_S // 100 for s in range(300)]
    assert np.std(ends) / 1e3 == pytest.approx(200.0, rel=4 / math.sqrt(2 * 300))


PASS = path.PassPath(17.0, scenario.SatellitePass(altitude_km=500.0, closest_km=508.0, zenith_transmission=0.75), 364.0)


def test_a_pass_has_the_published_distances() -> None:
    """Chen et al. 2021: 508 km to more than 1,200 km in 364 s."""
    distance = PASS.orbit.range_km(np.linspace(-182.0, 182.0, 365))
    assert distance.min() == pytest.approx(508.0, abs=1e-6)
    assert 1200.0 < distance.max() < 1500.0


def test_the_doppler_shift_changes_by_less_than_four_tenths_of_a_ppm_per_second() -> None:
    emission = (np.arange(0, 365) * FS_PER_S).astype(np.int64)
    delay_s = (PASS.arrival_fs(emission) - emission) / FS_PER_S
    shift_ppm = np.diff(delay_s) * 1e6
    assert 20.0 < np.abs(shift_ppm).max() < 25.0
    assert 0.3 < np.abs(np.diff(shift_ppm)).max() < 0.4


def test_emission_times_undo_the_pass() -> None:
    emission = np.random.default_rng(1).integers(0, 364 * FS_PER_S, 10_000)
    assert np.abs(PASS.emission_fs(PASS.arrival_fs(emission)) - emission).max() <= 1


def test_loss_follows_range_and_air_mass() -> None:
    instants = np.array([182, 182 + 100], dtype=np.int64) * FS_PER_S
    share = PASS.transmittance(instants)
    assert share[0] == pytest.approx(10**-1.7)
    near, far = 508.0, float(PASS.orbit.range_km(np.array([100.0]))[0])

    def air_mass(distance: float) -> float:
        """From the law of cosines for the zenith angle at the station."""
        cosine = (6871.0**2 - 6371.0**2 - distance**2) / (2 * 6371.0 * distance)
        return 1 / cosine

    expected = (near / far) ** 2 * 0.75 ** (air_mass(far) - air_mass(near))
    assert share[1] / share[0] == pytest.approx(expected)
    assert PASS.best_transmittance(0, 364 * FS_PER_S) == pytest.approx(share[0])
    assert PASS.best_transmittance(int(instants[1]), 364 * FS_PER_S) == pytest.approx(share[1])


def test_fibre_takes_five_microseconds_a_kilometre() -> None:
    way = path.build(scenario.Channel(loss_db=1.0, length_km=50.0, attenuation_db_per_km=0.2), 1.0)
    at = np.array([10**12], dtype=np.int64)
    assert way.arrival_fs(at)[0] - 10**12 == pytest.approx(50 * 4.9e9, rel=1e-9)
    assert way.transmittance(at)[0] == pytest.approx(10**-1.1)
    assert way.emission_fs(way.arrival_fs(at))[0] == 10**12
