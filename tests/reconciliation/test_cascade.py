"""Cascade: equal keys, booked bits, bounded rounds, efficiency, and no more than the rules promise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import Coins, assert_booked, bernoulli, correct, exact

from qkdpp.core.bits import Bits
from qkdpp.core.ledger import Ledger
from qkdpp.core.stage import run_pair
from qkdpp.reconciliation import Cascade, by_name, efficiency
from qkdpp.reconciliation.cascade import CascadeFlags, CascadeParities
from qkdpp.reconciliation.cascade_steering import MAX_ROUNDS

KEPT = 250
"""Bits below which a leak above n is no surprise: masks and blocks cost a few dozen bits in any frame."""


def assert_sound(outcome, undetected=0):
    assert_booked(outcome)
    unnoticed = set(outcome.wrong_frames()) - set(outcome.alice.suspect_frames)
    assert len(unnoticed) <= undetected
    for result in (outcome.alice, outcome.bob):
        assert result.suspect_frames == outcome.bob.suspect_frames
        assert result.pattern.equals(outcome.bob.pattern)
        assert result.corrected == result.pattern.count_ones()
        assert result.rounds == outcome.bob.rounds <= MAX_ROUNDS
        assert len(result.key) == outcome.errors.size
    assert outcome.alice.key.equals(outcome.key)
    assert len(outcome.transcript) == (1 + 2 * outcome.bob.rounds if outcome.errors.size else 0)


@settings(max_examples=60, deadline=None)
@given(
    n=st.one_of(st.integers(0, 300), st.integers(300, 200_000)),
    qber=st.floats(0.0, 0.15),
    off=st.floats(0.3, 3.0),
    seed=st.integers(0, 1 << 30),
)
def test_keys_are_equal_in_the_end(n, qber, off, seed):
    outcome = correct(Cascade(), bernoulli(n, qber, seed), hint=max(qber, 0.001) * off, seed=seed)
    # a frame that still differs passed ten random parities: below 1e-3 each, 60 examples of at most 4 frames
    assert_sound(outcome, undetected=1)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1000, 100_000),
    bursts=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 300), st.floats(0.1, 1.0)), max_size=5),
    seed=st.integers(0, 1 << 30),
)
def test_bursts_are_corrected(n, bursts, seed):
    errors = bernoulli(n, 0.01, seed)
    for where, length, density in bursts:
        lo = int(where * n)
        hi = min(n, lo + length)
        errors[lo:hi] |= bernoulli(hi - lo, density, seed + 1)
    assert_sound(correct(Cascade(), errors, hint=0.02, seed=seed), undetected=1)


def test_equal_keys_cost_little():
    outcome = correct(Cascade(), np.zeros(200_000, dtype=np.uint8), hint=0.01)
    assert_sound(outcome)
    assert outcome.bob.corrected == 0
    assert outcome.bob.rounds <= 4
    assert outcome.parities < 200_000 * 0.01  # the blocks of the first pass, little else


def test_empty_keys_say_nothing():
    outcome = correct(Cascade(), np.zeros(0, dtype=np.uint8), hint=0.01)
    assert outcome.transcript == []
    assert len(outcome.bob.key) == 0
    assert outcome.bob.n_frames == 0


@pytest.mark.parametrize("qber", [0.25, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("n", [1, 100, 5000, 70_000])
def test_hopeless_keys_end(n, qber):
    outcome = correct(Cascade(), bernoulli(n, qber, 5), hint=0.05)
    assert_sound(outcome)
    assert outcome.parities <= n + max(n // 2, KEPT)


@pytest.mark.parametrize(
    ("rates", "last", "hint"),
    [
        ([0.15], 8033, 0.034),
        ([0.02, 0.15], 8033, 0.034),
        ([0.034, 0.034], 8033, 0.02),
        ([0.02] * 4 + [0.15], 65_536, 0.034),
    ],
)
def test_a_frame_far_from_the_expected_rate_is_corrected_all_the_same(rates, last, hint):
    sizes = [65_536] * (len(rates) - 1) + [last]
    errors = np.concatenate([bernoulli(n, q, i) for i, (n, q) in enumerate(zip(sizes, rates, strict=True))])
    outcome = correct(Cascade(), errors, hint=hint)
    assert_sound(outcome)
    assert outcome.bob.suspect_frames == ()
    limit = sum(n * (-q * math.log2(q) - (1 - q) * math.log2(1 - q)) for n, q in zip(sizes, rates, strict=True))
    assert outcome.parities < 1.5 * limit


def test_larger_keys_run_batch_after_batch():
    method = Cascade(frame_bits=32)  # 1,024 frames a batch
    outcome = correct(method, bernoulli(3 * 32 * 1024 + 77, 0.05, 2), hint=0.05)
    assert_booked(outcome)
    wrong = set(outcome.wrong_frames())
    assert len(wrong - set(outcome.bob.suspect_frames)) <= 12  # 3,075 frames at 1e-3 each: 3, and five sigma
    assert outcome.bob.n_frames == 3 * 1024 + 3
    assert outcome.bob.rounds <= 4 * MAX_ROUNDS


def test_parities_that_follow_are_not_sent():
    """Alice's parities are linearly independent but for one or two: what follows from others is not paid for."""
    n = 400
    for seed in range(4):
        outcome = correct(Cascade(), bernoulli(n, 0.06, seed), hint=0.06, seed=seed)
        assert not outcome.wrong_frames()
        rank = rank_of_questions(outcome, n)
        assert rank <= outcome.parities <= rank + 2


def rank_of_questions(outcome, n):
    """GF(2) rank of the sets Alice disclosed parities of, found by flipping each bit of her key in turn.

    Questions depend on the error pattern and coins only, so they stay the same, and bit i is in a set if its parity
    changes.
    """
    key = outcome.key.to_array()
    columns = []
    for i in range(n):
        flipped = key.copy()
        flipped[i] ^= 1
        columns.append(replay(flipped, outcome))
    basis = {}
    for column in columns:
        value = column ^ replay(key, outcome)
        while value and (top := value.bit_length()) in basis:
            value ^= basis[top]
        if value:
            basis[top] = value
    return len(basis)


def replay(key, outcome):
    """All parities of ``key`` for the questions of a run, as one number."""
    from qkdpp.reconciliation.cascade_batch import new_batch

    start = outcome.transcript[0][1]
    batch = new_batch(
        Bits.from_array(key),
        0,
        key.size,
        frame_bits=1 << 16,
        seed=start.seed,
        number=0,
        hint=start.qber_ppm / 1e6,
        corrects=False,
    )
    value, shift = 0, 0
    for _, message in outcome.transcript:
        if isinstance(message, CascadeFlags):
            parities = batch.ask()
            value |= int.from_bytes(parities.to_bytes(), "little") << shift
            shift += len(parities)
            batch.tell(Bits.from_bytes(message.flags, message.n_flags))
    return value


def test_flags_are_a_function_of_the_error_pattern():
    """Another key with the same errors and coins gives the same flags: condition (iv) of security.md A5.3."""
    errors = bernoulli(40_000, 0.03, 1)
    one = correct(Cascade(), errors, hint=0.03, seed=7)
    key = Bits.from_array(np.random.default_rng(99).integers(0, 2, errors.size, dtype=np.uint8))
    _, _, transcript = run_pair(
        Cascade().alice(key, qber_hint=0.03, entropy=Coins(7), ledger=Ledger()),
        Cascade().bob(key ^ Bits.from_array(errors), qber_hint=0.03, entropy=Coins(), ledger=Ledger()),
    )
    flags = [m.flags for _, m in transcript if isinstance(m, CascadeFlags)]
    assert flags == [m.flags for _, m in one.transcript if isinstance(m, CascadeFlags)]
    parities = [m.parities for _, m in transcript if isinstance(m, CascadeParities)]
    assert parities != [m.parities for _, m in one.transcript if isinstance(m, CascadeParities)]


@pytest.mark.parametrize(("qber", "limit"), [(0.01, 1.05), (0.02, 1.052), (0.03, 1.056), (0.05, 1.058)])
def test_efficiency(qber, limit):
    """16 frames with a hint that is 10 % off; the mean of f over frames varies by 0.002 (one sigma)."""
    n = 16 << 16
    found = []
    for seed, off in enumerate((0.9, 1.1)):
        outcome = correct(Cascade(), bernoulli(n, qber, seed), hint=qber * off, seed=seed)
        assert not outcome.wrong_frames()
        found.append(efficiency(outcome.parities, n, int(outcome.errors.sum())))
    assert np.mean(found) < limit


@pytest.mark.parametrize(("n", "weight"), [(1 << 12, 41), (1 << 12, 200), (1 << 13, 8)])
def test_the_leak_is_no_less_than_what_errors_of_known_weight_need(n, weight):
    """Mean over 1,000 runs: at least log2 of the number of patterns."""
    runs = 1000
    leaks = []
    for seed in range(runs):
        outcome = correct(Cascade(frame_bits=n), exact(n, weight, seed), hint=weight / n, seed=seed)
        leaks.append(outcome.parities)
    least = (math.lgamma(n + 1) - math.lgamma(weight + 1) - math.lgamma(n - weight + 1)) / math.log(2)
    assert np.mean(leaks) > least


@pytest.mark.slow
def test_full_frames_at_the_published_error_rates():
    """1,000 frames of 2**16 bits a rate: f, bound of patterns, frames given up or wrong, rounds."""
    n = 1 << 16
    for qber, limit in ((0.01, 1.042), (0.02, 1.046), (0.03, 1.05), (0.05, 1.053), (0.11, 1.07)):
        weight = round(qber * n)
        errors = np.concatenate([exact(n, weight, seed) for seed in range(1000)])
        outcome = correct(Cascade(), errors, hint=qber)
        entropy = -(qber * math.log2(qber) + (1 - qber) * math.log2(1 - qber))
        leak = outcome.parities / 1000
        least = (math.lgamma(n + 1) - math.lgamma(weight + 1) - math.lgamma(n - weight + 1)) / math.log(2)
        assert least < leak < limit * n * entropy
        assert len(set(outcome.wrong_frames())) <= 1 + 4  # 1e-3, and more than three sigma
        assert outcome.bob.rounds <= 100


@pytest.mark.parametrize(("qber", "limit"), [(0.01, 1.04), (0.02, 1.05), (0.03, 1.05), (0.05, 1.05)])
def test_efficiency_over_millions_of_bits_when_the_rate_is_known_to_a_tenth(qber, limit):
    """1,024 frames, half with each wrong rate; f varies by 0.0001 to 0.0002 (one sigma).

    Frames that fail count with their leak, not with their bits.
    """
    frame, right, errors, parities, wrong = 1 << 16, 0, 0, 0, 0
    for seed, off in enumerate((0.9, 1.1, 0.9, 1.1)):
        outcome = correct(Cascade(), bernoulli(256 * frame, qber, seed), hint=qber * off, seed=seed)
        kept = np.delete(outcome.errors.reshape(-1, frame), outcome.wrong_frames(), axis=0)
        right, errors = right + kept.size, errors + int(kept.sum())
        parities, wrong = parities + outcome.parities, wrong + 256 - len(kept)
        assert outcome.bob.rounds <= 100
    assert wrong <= 1 + 4  # 1e-3, and more than three sigma
    assert efficiency(parities, right, errors) <= limit


def test_by_name():
    assert by_name("cascade").corrector == "bob"
