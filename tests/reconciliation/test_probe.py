"""The probe of the error rate: right where it speaks, silent where the guess is good, and fully booked."""

import numpy as np
import pytest

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import expand
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.ledger import Disclosure, Ledger
from qkdpp.core.stage import run_pair
from qkdpp.reconciliation import probe


def keys(n: int, qber: float, seed: int) -> tuple[Bits, Bits]:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 2, n, dtype=np.uint8)
    return Bits.from_array(a), Bits.from_array(a ^ (rng.random(n) < qber))


class Fixed:
    """Bytes from a public stream: the same blocks in every run of the test."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def bytes(self, n: int) -> bytes:
        return expand(self.seed.to_bytes(32, "big"), "probe test", n)


def run(n: int, qber: float, guess: float, seed: int = 1):
    a, b = keys(n, qber, seed)
    ledgers = Ledger(), Ledger()
    alice = probe.alice(a, guess, entropy=Fixed(seed), ledger=ledgers[0])
    rate_a, rate_b, _ = run_pair(alice, probe.bob(b, guess, ledger=ledgers[1]))
    return rate_a, rate_b, ledgers


def test_a_good_guess_stays():
    kept = sum(run(20_000, 0.02, 0.02, seed)[0] == 0.02 for seed in range(200))
    assert kept >= 195  # three standard deviations: 0.3 % expected to change


@pytest.mark.parametrize(("true", "guess"), [(0.05, 0.01), (0.005, 0.06), (0.08, 0.01), (0.03, 0.004)])
def test_a_guess_wrong_several_times_over_is_replaced(true, guess):
    found = [run(20_000, true, guess, seed)[0] for seed in range(100)]
    assert all(f != guess for f in found)
    assert abs(np.median(found) / true - 1) < 0.25
    assert np.mean(np.abs(np.array(found) / true - 1) < 0.8) > 0.95


def test_both_sides_agree_and_book_the_same():
    a, b, ledgers = run(20_000, 0.05, 0.01)
    assert a == b
    assert ledgers[0].entries == ledgers[1].entries
    assert ledgers[0].total(side="alice", what=Disclosure.PARITY) == probe.BLOCKS
    assert ledgers[0].total(side="bob", what=Disclosure.PATTERN) == probe.BLOCKS


def test_unrelated_keys_are_reported_as_hopeless_and_short_ones_not_probed():
    found = [run(20_000, 0.5, 0.02, seed)[0] for seed in range(50)]
    assert min(found) > 0.03  # half of the blocks differ, give or take four standard deviations
    assert np.median(found) >= 0.09
    a, b, ledgers = run(probe.MIN_KEY_BITS - 1, 0.3, 0.02)
    assert a == b == 0.02
    assert not ledgers[0].entries


def test_parities_are_those_of_disjoint_blocks():
    """Setting one bit flips at most one parity, and the bits that flip none are those outside the blocks."""
    n = probe.MIN_KEY_BITS
    seed = bytes(range(32))
    flipped = []
    for i in range(n):
        bit = np.zeros(n, dtype=np.uint8)
        bit[i] = 1
        flipped.append(probe.block_parities(Bits.from_array(bit), seed).count_ones())
    assert set(flipped) <= {0, 1}
    assert sum(flipped) == probe.BLOCKS * probe.BLOCK_BITS


def test_a_malformed_message_is_refused():
    key, _ = keys(20_000, 0.0, 1)
    for wrong in (
        probe.ProbeParities(seed=b"short", n_parities=probe.BLOCKS, parities=bytes(16)),
        probe.ProbeParities(seed=bytes(32), n_parities=3, parities=b"\0"),
        probe.ProbeParities(seed=bytes(32), n_parities=probe.BLOCKS, parities=bytes(15)),
    ):
        bob = probe.bob(key, 0.02, ledger=Ledger())
        bob.send(None)
        with pytest.raises(RemoteProtocolError):
            bob.send(wrong)
