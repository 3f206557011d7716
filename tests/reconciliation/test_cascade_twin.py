"""The state machine against a player who sees both keys: the same messages, the same result."""

import cascade_twin
import numpy as np
import pytest
from pairs import Coins, bernoulli, correct

from qkdpp.core.bits import Bits
from qkdpp.reconciliation import cascade_steering
from qkdpp.reconciliation.cascade import Cascade, CascadeFlags, CascadeParities

SIZES = (1, 2, 3, 5, 63, 64, 65, 100, 127, 128, 129, 1000)


def unpacked(data: bytes, n: int) -> list[int]:
    return Bits.from_bytes(data, n).to_array().tolist()


def assert_same(errors: np.ndarray, hint: float, frame_bits: int, seed: int) -> int:
    outcome = correct(Cascade(frame_bits), errors, hint=hint, seed=seed)
    parities = [unpacked(m.parities, m.n_parities) for _, m in outcome.transcript if isinstance(m, CascadeParities)]
    flags = [unpacked(m.flags, m.n_flags) for _, m in outcome.transcript if isinstance(m, CascadeFlags)]
    start = outcome.transcript[0][1]
    key = outcome.key.to_array()
    rounds, pattern, suspects = cascade_twin.play(
        key.tolist(), (key ^ errors).tolist(), Coins(seed).bytes(32), start.qber_ppm, frame_bits
    )
    assert [p for p, _ in rounds] == parities
    assert [f for _, f in rounds] == flags
    for result in (outcome.alice, outcome.bob):
        assert result.pattern is not None
        assert result.pattern.to_array().tolist() == pattern
        assert result.suspect_frames == tuple(suspects)
        assert result.rounds == len(rounds)
    assert outcome.bob.key.equals(outcome.key ^ Bits.from_array(errors) ^ outcome.bob.pattern)
    return len(rounds)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("qber", [0.0, 0.03, 0.15, 0.5, 1.0])
def test_short_keys(n, qber):
    for seed in range(3):
        assert_same(bernoulli(n, qber, seed), hint=0.03, frame_bits=1 << 16, seed=seed)


@pytest.mark.parametrize(("frame_bits", "n"), [(64, 200), (100, 1000), (1000, 4001), (1, 5), (4096, 8200)])
def test_several_frames_and_a_short_one(frame_bits, n):
    for seed, (qber, hint) in enumerate([(0.01, 0.01), (0.05, 0.05), (0.1, 0.03), (0.02, 0.06)]):
        assert_same(bernoulli(n, qber, seed), hint=hint, frame_bits=frame_bits, seed=seed)


def test_bursts():
    errors = np.zeros(5000, dtype=np.uint8)
    errors[700:760] = 1
    errors[3000:3010] = 1
    assert_same(errors, hint=0.014, frame_bits=2048, seed=3)


@pytest.mark.parametrize(("late", "last"), [(8, 110), (14, 20), (999, 14)])
def test_late_rounds_and_giving_up(monkeypatch, late, last):
    """The rules for late rounds, brought forward so that short frames meet them."""
    for name, value in (("LATE_FROM", late), ("MAX_ROUNDS", last)):
        monkeypatch.setattr(cascade_steering, name, value)
    for name, value in (("LATE", late), ("LAST", last)):
        monkeypatch.setattr(cascade_twin, name, value)
    for seed in range(8):
        errors = bernoulli(6000, 0.03, seed)
        assert assert_same(errors, hint=0.03, frame_bits=2500, seed=seed) <= last
