"""The health check tells repeated, biased and sound keys apart by its stated thresholds."""

from pathlib import Path

import numpy as np
import pytest

from qkdpp.core.bits import Bits
from qkdpp.sifting.health import AUTOCORRELATION_REFUSE, BIAS_REFUSE, BIAS_WARN, REPEATED_REFUSE, check

LINZ = Path(__file__).parents[3] / "shared" / "data" / "eqkd_linz"


def random_bits(n: int, seed: int = 1, p: float = 0.5) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < p).astype(np.uint8)


@pytest.mark.parametrize("n", [300, 1000, 65537, 300_000])
def test_a_random_key_passes_without_a_word(n):
    for seed in range(10):
        health = check(Bits.from_array(random_bits(n, seed)))
        assert health.warnings == health.refusals == ()
        assert health.repeated == 0.0


@pytest.mark.parametrize(("p", "warned", "refused"), [(0.51, 0, 0), (0.53, 1, 0), (0.72, 0, 1)])
def test_bias_warns_and_refuses_at_its_thresholds(p, warned, refused):
    health = check(Bits.from_array(random_bits(200_000, 2, p)))
    assert abs(health.bias - (p - 0.5)) < 0.005
    assert sum("bias" in w for w in health.warnings) == warned
    assert sum("bias" in r for r in health.refusals) == refused
    assert BIAS_WARN < 0.03 < BIAS_REFUSE < 0.22


def test_a_repeated_block_is_refused_at_any_length_of_block():
    for length in (70, 1754, 40_000):
        key = np.resize(random_bits(length, 3), 80_000)
        health = check(Bits.from_array(key))
        assert health.refusals
        assert health.repeated > REPEATED_REFUSE


def test_a_noisy_repetition_is_found_by_its_autocorrelation():
    key = np.resize(random_bits(1754, 4), 75_000) ^ random_bits(75_000, 5, 0.02)
    health = check(Bits.from_array(key))
    assert health.lag % 1754 == 0
    assert health.autocorrelation > AUTOCORRELATION_REFUSE
    assert abs(health.autocorrelation - (1 - 0.04) ** 2) < 0.05


def test_short_keys_are_not_judged():
    assert check(Bits.zeros(200)).refusals == ()


def test_all_zeros_are_refused():
    assert check(Bits.zeros(10_000)).refusals


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
