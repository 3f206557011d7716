"""Sifting against brute force: what becomes key, what is disclosed, what is counted."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkdpp.core.abort import Abort
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.stage import run_pair
from qkdpp.sifting import bb84

K = 3


class Record:
    """Prepared states by slot, some slots missing."""

    sync_string = None

    def __init__(self, codes: dict[int, int], n_pulses: int) -> None:
        self.codes, self.n_pulses = codes, n_pulses

    def lookup(self, slots):
        return np.array([self.codes.get(int(s), 255) for s in slots], dtype=np.uint8)

    def totals(self):
        return np.full((K, 2, 2), 1000, dtype=np.int64)


def block(seed: int, n: int, missing: float = 0.1):
    rng = np.random.default_rng(seed)
    slots = np.sort(rng.choice(10 * n, n, replace=False)).astype(np.int64)
    codes = {
        int(s): int(rng.choice(K, p=[0.7, 0.2, 0.1])) << 2 | int(rng.integers(4))
        for s in slots
        if rng.random() > missing
    }
    basis, bit = rng.integers(0, 2, n, dtype=np.uint8), rng.integers(0, 2, n, dtype=np.uint8)
    return slots, codes, basis, bit


def run(seed, n, *, key_intensities=K, share=0.0, missing=0.1):
    slots, codes, basis, bit = block(seed, n, missing)
    rules = bb84.Rules(n_intensities=K, key_intensities=key_intensities, disclose_share=share)
    a, b, transcript = run_pair(
        bb84.alice(Record(codes, 10 * n), rules, OsEntropy()), bb84.bob(slots, basis, bit, rules)
    )
    return slots, codes, basis, bit, a, b, transcript


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 400), st.sampled_from([1, K]))
def test_key_and_counts_equal_brute_force(seed, n, key_intensities):
    slots, codes, basis, bit, a, b, _ = run(seed, n, key_intensities=key_intensities)
    key_a, key_b, where, counts = [], [], [], np.zeros((K, 4, 4), dtype=int)
    for i, s in enumerate(slots.tolist()):
        if s not in codes:
            continue
        intensity, a_basis, a_bit = codes[s] >> 2, codes[s] >> 1 & 1, codes[s] & 1
        if a_basis == basis[i] == 0 and intensity < key_intensities:
            key_a.append(a_bit)
            key_b.append(int(bit[i]))
            where.append(i)
        else:
            counts[intensity, 2 * a_basis + a_bit, 2 * basis[i] + bit[i]] += 1
    assert a.key.to_array().tolist() == key_a
    assert b.key.to_array().tolist() == key_b
    assert a.key_index.tolist() == b.key_index.tolist() == where
    assert a.disclosed.tolist() == b.disclosed.tolist() == counts.tolist()
    assert a.not_held == b.not_held == n - len([s for s in slots.tolist() if s in codes])


def test_the_disclosed_share_is_random_and_no_longer_key():
    *_, a, b, _ = run(3, 4000, key_intensities=1, share=0.25, missing=0.0)
    *_, whole, _, _ = run(3, 4000, key_intensities=1, share=0.0, missing=0.0)
    n, p = len(whole.key), 0.25
    disclosed = n - len(a.key)
    assert abs(disclosed - n * p) < 5 * np.sqrt(n * p * (1 - p))
    assert len(a.key) == len(b.key)
    assert a.disclosed.sum() + len(a.key) == whole.disclosed.sum() + n
    *_, again, _, _ = run(3, 4000, key_intensities=1, share=0.25, missing=0.0)
    assert again.key_index.tolist() != a.key_index.tolist()


def test_no_message_carries_a_key_bit():
    """Complementing every key bit of both parties changes no message."""
    slots, codes, basis, bit = block(5, 300)
    rules = bb84.Rules(n_intensities=K, key_intensities=K, disclose_share=0.0)
    *_, first = run_pair(bb84.alice(Record(codes, 3000), rules, OsEntropy()), bb84.bob(slots, basis, bit, rules))
    flipped = {s: c ^ 1 if (c >> 1 & 1) == 0 and basis[list(slots).index(s)] == 0 else c for s, c in codes.items()}
    both_z = np.array([(codes.get(int(s), 255) >> 1 & 1) == 0 and b == 0 for s, b in zip(slots, basis, strict=True)])
    *_, second = run_pair(
        bb84.alice(Record(flipped, 3000), rules, OsEntropy()), bb84.bob(slots, basis, bit ^ both_z, rules)
    )
    assert flipped != codes
    assert first == second


def test_nothing_detected_is_an_abort():
    rules = bb84.Rules(n_intensities=K, key_intensities=K, disclose_share=0.0)
    empty = np.empty(0, dtype=np.int64)
    with pytest.raises(Abort):
        run_pair(bb84.alice(Record({}, 10), rules, OsEntropy()), bb84.bob(empty, empty, empty, rules))
    with pytest.raises(Abort):
        run(1, 20, missing=1.1)


@pytest.mark.parametrize("field", ["n", "held", "bases", "intensities", "sampled", "n_disclosed", "bits", "sent"])
def test_a_malformed_answer_is_a_protocol_error(field):
    import msgspec

    slots, codes, basis, bit = block(7, 200)
    rules = bb84.Rules(n_intensities=K, key_intensities=K, disclose_share=0.0)
    *_, transcript = run_pair(bb84.alice(Record(codes, 2000), rules, OsEntropy()), bb84.bob(slots, basis, bit, rules))
    good = next(m for _, m in transcript if isinstance(m, bb84.Preparation))
    value = getattr(good, field)
    wrong = {int: lambda: value + 1, bytes: lambda: value[:-1] + os.urandom(9), list: lambda: value[:-1]}[type(value)]()
    bob = bb84.bob(slots, basis, bit, rules)
    for _ in range(4):
        effect = bob.send(None)
    assert effect.expected is bb84.Preparation
    with pytest.raises(RemoteProtocolError):
        bob.send(msgspec.structs.replace(good, **{field: wrong}))


def test_bobs_counts_must_fit_what_alice_disclosed():
    slots, codes, basis, bit = block(9, 200)
    rules = bb84.Rules(n_intensities=K, key_intensities=K, disclose_share=0.0)
    *_, transcript = run_pair(bb84.alice(Record(codes, 2000), rules, OsEntropy()), bb84.bob(slots, basis, bit, rules))
    messages = {type(m): m for _, m in transcript}
    counts = messages[bb84.TestResult].counts
    moved = list(counts)
    i = next(i for i, c in enumerate(counts) if c)
    moved[i] -= 1
    moved[(i + 4) % len(counts)] += 1
    for lie in (counts[:-1], [c + 1 for c in counts], [-1, *counts[1:]], moved):
        alice = bb84.alice(Record(codes, 2000), rules, OsEntropy())
        alice.send(None)
        alice.send(messages[bb84.ClickMap])
        alice.send(messages[bb84.Bases])
        alice.send(None)
        alice.send(None)
        with pytest.raises(RemoteProtocolError):
            alice.send(bb84.TestResult(counts=lie))


def test_alice_refuses_slots_of_the_public_string():
    from qkdpp.core.sync_string import SyncString

    slots, codes, basis, bit = block(11, 200)
    record = Record(codes, 2000)
    record.sync_string = SyncString(seed=bytes(32), length=100, frame=1000)
    rules = bb84.Rules(n_intensities=K, key_intensities=K, disclose_share=0.0)
    with pytest.raises(RemoteProtocolError, match="string"):
        run_pair(bb84.alice(record, rules, OsEntropy()), bb84.bob(slots, basis, bit, rules))


def test_a_receiver_that_clicks_in_every_slot_may_say_so():
    n = 5000
    rng = np.random.default_rng(1)
    codes = {s: int(rng.integers(4)) for s in range(n)}
    rules = bb84.Rules(n_intensities=K, key_intensities=K, disclose_share=0.0)
    basis, bit = rng.integers(0, 2, n, dtype=np.uint8), rng.integers(0, 2, n, dtype=np.uint8)
    slots = np.arange(n, dtype=np.int64)
    a, b, _ = run_pair(bb84.alice(Record(codes, n), rules, OsEntropy()), bb84.bob(slots, basis, bit, rules))
    assert len(a.key) == len(b.key) > 0


def test_counts_beyond_64_bits_are_the_peers_fault():
    slots, codes, basis, bit = block(9, 200)
    rules = bb84.Rules(n_intensities=K, key_intensities=K, disclose_share=0.0)
    *_, transcript = run_pair(bb84.alice(Record(codes, 2000), rules, OsEntropy()), bb84.bob(slots, basis, bit, rules))
    messages = {type(m): m for _, m in transcript}
    alice = bb84.alice(Record(codes, 2000), rules, OsEntropy())
    alice.send(None)
    for item in (messages[bb84.ClickMap], messages[bb84.Bases], None, None):
        alice.send(item)
    with pytest.raises(RemoteProtocolError):
        alice.send(bb84.TestResult(counts=[2**64 - 1] * (16 * K)))
