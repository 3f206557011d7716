"""The health check tells repeated, correlated, biased and sound keys apart by its stated thresholds and power."""

from pathlib import Path

import numpy as np
import pytest

from qkdpp.core.bits import Bits
from qkdpp.sifting.health import (
    AUTOCORRELATION_REFUSE,
    BIAS_REFUSE,
    BIAS_WARN,
    REPEATED_REFUSE,
    REPEATED_WARN,
    WHOLE_BITS,
    check,
)

LINZ = Path(__file__).parents[3] / "shared" / "data" / "eqkd_linz"
LONG = (1 << 20) + 77
"""A key in which lags are searched in rows and in sums."""


def random_bits(n: int, seed: int = 1, p: float = 0.5) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < p).astype(np.uint8)


def correlated(n: int, lag: int, r: float, seed: int = 7) -> np.ndarray:
    """Each bit is, with probability ``r``, that at ``lag`` before it."""
    bits, copied = random_bits(n, seed), random_bits(n, seed + 1, r).astype(bool)
    for first in range(lag, n, lag):
        part = slice(first, min(first + lag, n))
        before = bits[first - lag : part.stop - lag]
        bits[part] = np.where(copied[part], before, bits[part])
    return bits


@pytest.mark.parametrize("n", [256, 300, 1000, 32767, 65537, 300_000])
def test_a_random_key_passes_without_a_word(n):
    for seed in range(10):
        health = check(Bits.from_array(random_bits(n, seed)))
        assert health.warnings == health.refusals == ()
        assert health.repeated == 0.0
        assert health.bits == n


@pytest.mark.parametrize("n", [WHOLE_BITS, WHOLE_BITS + 1, LONG, 5_000_011])
def test_a_long_random_key_passes_without_a_word(n):
    for seed in range(3):
        health = check(Bits.from_array(random_bits(n, seed)))
        assert health.warnings == health.refusals == ()
        assert health.repeated == 0.0
        assert abs(health.autocorrelation) < 6 / np.sqrt(n / 2)


@pytest.mark.slow
def test_no_false_alarm_in_two_thousand_random_keys():
    generator = np.random.default_rng(5)
    for n in [2000] * 1500 + [30_000] * 400 + [280_000] * 100:
        health = check(Bits(generator.integers(0, 1 << 64, n // 64, dtype=np.uint64), n // 64 * 64))
        assert health.warnings == health.refusals == ()


@pytest.mark.parametrize(("p", "warned", "refused"), [(0.51, 0, 0), (0.53, 1, 0), (0.72, 0, 1)])
def test_bias_warns_and_refuses_at_its_thresholds(p, warned, refused):
    for n in (200_000, 400_000):
        health = check(Bits.from_array(random_bits(n, 2, p)))
        assert abs(health.bias - (p - 0.5)) < 0.005
        assert sum("bias" in w for w in health.warnings) == warned
        assert sum("bias" in r for r in health.refusals) == refused
    assert BIAS_WARN < 0.03 < BIAS_REFUSE < 0.22


@pytest.mark.parametrize("period", [70, 1754, 30_001, 40_000])
def test_a_repeated_block_is_refused(period):
    health = check(Bits.from_array(np.resize(random_bits(period, 3), 80_000)))
    assert any("autocorrelation" in r for r in health.refusals)
    assert health.lag % period == 0
    assert health.autocorrelation > 0.99


@pytest.mark.parametrize("period", [2, 63, 64, 65, 2047, 2048, 2049, 4096, 4133, 99_991, LONG // 2 - 1, LONG // 2])
def test_a_long_key_that_repeats_itself_is_refused_whatever_the_period(period):
    block = random_bits(period, 3)
    block[:2] = 1, 0
    health = check(Bits.from_array(np.resize(block, LONG)))
    assert health.refusals
    assert abs(health.autocorrelation) > 0.99
    if period > 2:
        assert health.lag % period == 0
    if period > 4096:
        assert health.repeated > REPEATED_REFUSE


def test_a_noisy_repetition_is_found_by_its_autocorrelation():
    key = np.resize(random_bits(1754, 4), 75_000) ^ random_bits(75_000, 5, 0.02)
    health = check(Bits.from_array(key))
    assert health.lag % 1754 == 0
    assert health.autocorrelation > AUTOCORRELATION_REFUSE
    assert abs(health.autocorrelation - (1 - 0.04) ** 2) < 0.05


@pytest.mark.parametrize("period", [3003, 70_048, 300_007, 500_000])
def test_a_repetition_with_a_fifth_of_the_bits_wrong_is_refused_in_a_long_key(period):
    key = np.resize(random_bits(period, 4), LONG) ^ random_bits(LONG, 5, 0.2)
    health = check(Bits.from_array(key))
    assert health.lag % period == 0
    assert abs(health.autocorrelation - 0.6**2) < 0.01
    assert any("autocorrelation" in r for r in health.refusals)


@pytest.mark.parametrize("offset", range(2, 64, 15))
def test_long_lags_are_found_at_the_stated_strength_however_they_fall_on_words(offset):
    lag = 64 * 3000 + offset
    health = check(Bits.from_array(correlated(LONG, lag, 0.16)))
    assert health.lag == lag
    assert abs(health.autocorrelation - 0.16) < 0.01
    assert any(f"lag {lag} " in w for w in health.warnings)


@pytest.mark.parametrize(("lag", "r", "warned"), [(1, 0.04, 1), (700, 0.04, 1), (2047, 0.05, 1), (700, 0.02, 0)])
def test_short_lags_warn_at_the_threshold(lag, r, warned):
    health = check(Bits.from_array(correlated(LONG, lag, r)))
    assert len(health.warnings) == warned
    assert health.refusals == ()
    if warned:
        assert health.lag == lag
        assert abs(health.autocorrelation - r) < 0.006


def test_a_drift_of_the_bias_does_not_hide_a_repetition():
    drift = 0.06 * np.sin(np.arange(LONG) * (8 * np.pi / LONG))
    key = correlated(LONG, 400_009, 0.4) ^ (np.random.default_rng(3).random(LONG) < 0.05 + np.abs(drift))
    health = check(Bits.from_array(key))
    assert health.lag == 400_009
    assert health.refusals


@pytest.mark.parametrize(("n", "part"), [(20_000, 64), (40_000, 120), (LONG, 1500), (5_000_000, 4000)])
def test_a_copied_part_warns_wherever_it_lies(n, part):
    for seed, (source, copy) in enumerate([(0, n - part), (7001, n // 2 + 13), (n // 5 * 2, n // 5 * 2 + part)]):
        key = random_bits(n, seed)
        key[copy : copy + part] = key[source : source + part]
        health = check(Bits.from_array(key))
        assert [w.split(" is ")[0] for w in health.warnings] == ["share of repeated 64-bit windows"]
        assert health.refusals == ()
        assert REPEATED_WARN <= health.repeated < 1.5 * part / n + 1e-3


def test_a_copied_part_is_seen_whole_where_the_key_is_read_in_portions():
    """2^21 bits are looked at at a time: a part across that border shows as many windows as any other."""
    shares = []
    for source in (1 << 20, (1 << 21) - 150_000):
        key = random_bits(5_000_000, 3)
        key[4_000_003:4_300_003] = key[source : source + 300_000]
        shares.append(check(Bits.from_array(key)).repeated)
    assert abs(shares[0] - 0.06) < 0.003
    assert abs(shares[1] - 0.06) < 0.003


def test_a_key_whose_last_sixth_is_a_copy_is_refused():
    key = random_bits(LONG, 9)
    part = LONG // 6
    key[-part:] = key[1001 : 1001 + part]
    health = check(Bits.from_array(key))
    assert any("repeated" in r for r in health.refusals)
    assert abs(health.repeated - 1 / 6) < 0.01


def test_the_autocorrelation_reported_is_that_of_the_signs():
    for n in (256, 257, 1000, 4159):
        bits = random_bits(n, n, 0.45)
        health = check(Bits.from_array(bits))
        signs = 1.0 - 2.0 * bits
        mean, later = signs.mean(), signs[health.lag :]
        expected = ((signs[: later.size] * later).mean() - mean**2) / (1 - mean**2)
        assert abs(health.autocorrelation - expected) < 1e-9
        assert 1 <= health.lag <= n // 2


def test_short_keys_are_not_judged():
    assert check(Bits.zeros(200)).refusals == ()


@pytest.mark.parametrize("n", [10_000, LONG])
def test_all_zeros_and_all_ones_are_refused(n):
    assert check(Bits.zeros(n)).refusals
    assert check(Bits.from_array(np.ones(n, dtype=np.uint8))).refusals


@pytest.mark.recordings
def test_the_recorded_keys_of_linz():
    if not LINZ.exists():
        pytest.skip("the recordings of ../shared/data are not here")
    keys = {
        name: Bits.from_array(np.loadtxt(LINZ / f"icons_Key_{name}.txt", dtype=np.uint8))
        for name in ("Alice_v1", "Bob_v1", "Alice_v2", "Bob_v2")
    }
    for name in ("Alice_v1", "Bob_v1"):
        health = check(keys[name])
        assert health.lag == 1754
        assert round(health.autocorrelation, 2) == 0.95
        assert health.refusals
    for name in ("Alice_v2", "Bob_v2"):
        assert check(keys[name]).refusals == ()
