"""The Hamming procedure: a slow player with both keys, equal keys, booked bits, efficiency, suspect frames."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import Coins, assert_booked, bernoulli, correct, exact

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import expand
from qkdpp.core.ledger import Disclosure
from qkdpp.kernels.hamming import places
from qkdpp.reconciliation import Hamming, by_name, efficiency
from qkdpp.reconciliation.hamming import HammingAnswers, HammingSums


class Player:
    """One frame, from the rules of docs/notes/hamming.md, with lists of bits."""

    def __init__(self, alice, bob, rate):
        self.alice, self.bob, self.n, self.rate = alice.tolist(), bob.tolist(), len(alice), rate
        self.words = -(-self.n // 64)
        self.clean = self.rounds = self.disclosed = 0

    def width(self):
        longest = math.ceil(math.log2(self.words)) if self.n >= 256 else 0
        width = 0
        while width < longest and 2 ** (width + 1) * self.rate <= (0.55 if self.rounds else 0.56):
            width += 1
        return width, longest

    def over(self):
        return self.clean >= 3 or self.rounds >= 40 or (self.rounds > 0 and self.disclosed >= self.n)

    def blocks(self, order, width):
        """Each a list of its bits in the key, None where the frame has none."""
        groups = -(-self.words // 2**width)
        for g in range(groups):
            for c in range(64):
                bits = [(c - turn) % 64 * self.words + word for word, turn in order[g::groups]]
                yield [bit if bit < self.n else None for bit in bits]

    def play(self, order):
        width, longest = self.width()
        parts = list(self.blocks(order, width))
        sums = [parity(self.alice, part) for part in parts]
        flags = [s ^ parity(self.bob, part) for s, part in zip(sums, parts, strict=True)]
        theirs = []
        for part, flag in zip(parts, flags, strict=True):
            if flag:
                theirs.append(syndrome(self.bob, part))
                place = theirs[-1] ^ syndrome(self.alice, part)
                if place < len(part) and part[place] is not None:
                    self.alice[part[place]] ^= 1
        odd = sum(flags)
        self.disclosed += len(sums) + width * odd
        if width == 0:
            self.clean = 3
        else:
            self.clean = self.clean + 1 if odd == 0 and width == longest else 0
        share = min(odd / len(parts), 0.49)
        m = -math.log(1 - 2 * share) / 2
        left = m + share - 2 * m * math.exp(-m)
        self.rate = left * len(parts) / self.n if odd else self.rate / 8
        self.rounds += 1
        return sums, flags, [s >> j & 1 for j in range(width) for s in theirs]


def parity(key, part):
    return sum(key[bit] for bit in part if bit is not None) % 2


def syndrome(key, part):
    return xor(row for row, bit in enumerate(part) if bit is not None and key[bit])


def xor(values):
    total = 0
    for value in values:
        total ^= value
    return total


def order(seed, label, n):
    """Word and turn of every place."""
    coins = np.frombuffer(expand(seed, label, 4 * n), dtype="<u4").tolist()
    return [(word, coins[word] % 64) for word in sorted(range(n), key=lambda i: (coins[i], i))]


@pytest.mark.parametrize(
    ("n", "frame_bits"),
    [(1, 9), (2, 9), (63, 64), (100, 37), (255, 256), (256, 256), (257, 256), (1000, 400), (5000, 4096), (9000, 8999)],
)
@pytest.mark.parametrize("qber", [0.0, 0.02, 0.1, 0.4])
def test_a_slow_player_agrees(n, frame_bits, qber):
    errors = bernoulli(n, qber, n)
    outcome = correct(Hamming(frame_bits), errors, hint=0.03, seed=5)
    key, seed = outcome.key.to_array(), Coins(5).bytes(32)
    starts = range(0, n, frame_bits)
    players = [Player(key[s : s + frame_bits], (key ^ errors)[s : s + frame_bits], 0.03) for s in starts]
    sums = [m for _, m in outcome.transcript if isinstance(m, HammingSums)]
    answers = [m for _, m in outcome.transcript if isinstance(m, HammingAnswers)]
    for number, (question, answer) in enumerate(zip(sums, answers, strict=True)):
        played = [p.play(order(seed, f"hamming 0 round {number} {p.words}", p.words)) for p in players if not p.over()]
        for kind, count, data in (
            (0, "n_parities", "parities"),
            (1, "n_flags", "flags"),
            (2, "n_syndrome_bits", "syndromes"),
        ):
            message = question if kind == 0 else answer
            expected = [bit for sent in played for bit in sent[kind]]
            assert Bits.from_bytes(getattr(message, data), getattr(message, count)).to_array().tolist() == expected
    assert all(p.over() for p in players)
    assert outcome.alice.key.to_array().tolist() == [bit for p in players for bit in p.alice]
    assert outcome.alice.suspect_frames == tuple(f for f, p in enumerate(players) if p.clean < 3)


def assert_sound(outcome, undetected=0):
    assert_booked(outcome)
    assert len(set(outcome.wrong_frames()) - set(outcome.alice.suspect_frames)) <= undetected
    assert outcome.alice.suspect_frames == outcome.bob.suspect_frames
    assert outcome.alice.rounds == outcome.bob.rounds <= 40
    assert outcome.bob.key.equals(outcome.key ^ Bits.from_array(outcome.errors))
    assert outcome.alice.pattern.equals(outcome.alice.key ^ outcome.key)
    assert outcome.alice.corrected == outcome.alice.pattern.count_ones()
    assert outcome.bob.pattern is None


@settings(max_examples=50, deadline=None)
@given(
    n=st.one_of(st.integers(0, 600), st.integers(600, 200_000)),
    qber=st.floats(0.0, 0.15),
    off=st.floats(0.3, 3.0),
    seed=st.integers(0, 1 << 30),
)
def test_keys_are_equal_in_the_end(n, qber, off, seed):
    outcome = correct(Hamming(1 << 16), bernoulli(n, qber, seed), hint=max(qber, 0.001) * off, seed=seed)
    assert_sound(outcome, undetected=1)  # three clean rounds of 64 blocks miss a pair with probability 2**-18


@pytest.mark.parametrize("stripe", [slice(40_000, 40_500), slice(64, 192), slice(1, 4, 2), slice(0, None, 64)], ids=str)
def test_bursts_and_stripes_are_corrected(stripe):
    errors = bernoulli(1 << 17, 0.01, 1)
    errors[stripe] = 1
    assert_sound(correct(Hamming(), errors, hint=0.01))


@pytest.mark.parametrize("distance", [1, 63, 64, 65, 1023, 1024, 1025, 4096, 32_768])
def test_two_bits_rarely_share_a_block(distance):
    """In 64 blocks of 1,024 bits, of 2,000 orders: one in 64 at most (exactly 1024 - 1 over 65,536 - 1, or never)."""
    words, orders = 1024, 2000
    coins = np.random.default_rng(distance).integers(0, 1 << 32, (orders, words), dtype=np.uint32)
    one, other = 5000, 5000 + distance
    columns = []
    for row in coins:
        entries = places(row)
        turns = np.empty(words, dtype=np.int64)
        turns[entries >> 6] = entries & 63
        columns.append([(bit // words + turns[bit % words]) % 64 for bit in (one, other)])
    together = sum(a == b for a, b in columns)
    assert together == 0 if distance % words == 0 else abs(together - orders / 64) < 5 * math.sqrt(orders / 64)


def test_equal_keys_cost_little():
    outcome = correct(Hamming(), np.zeros(1 << 18, dtype=np.uint8), hint=0.01)
    assert_sound(outcome)
    assert outcome.alice.corrected == 0
    assert outcome.parities < 0.06 * (1 << 18)


def test_hopeless_keys_are_given_up():
    for qber in (0.3, 0.5):
        outcome = correct(Hamming(1 << 14), bernoulli(40_000, qber, 2), hint=0.05)
        assert_sound(outcome)
        assert outcome.alice.suspect_frames == (0, 1, 2)


def test_syndromes_are_booked_as_parities_of_bob():
    outcome = correct(Hamming(), bernoulli(30_000, 0.03, 3), hint=0.03)
    ledger = outcome.ledgers[0]
    assert ledger.total(side="bob", what=Disclosure.PARITY) > 0
    assert ledger.total(side="bob", what=Disclosure.PATTERN) == ledger.total(side="alice", what=Disclosure.PARITY)


def test_a_single_error_costs_one_syndrome():
    """Found in the first round, at the price of one syndrome."""
    outcome = correct(Hamming(), exact(1 << 15, 1, 4), hint=0.001)
    first = outcome.transcript[2][1]
    assert first.n_syndrome_bits == 9  # 0.51 errors a block at 0.001: blocks of 512
    assert not outcome.wrong_frames()


@pytest.mark.parametrize("qber", [0.01, 0.02, 0.03, 0.05])
def test_efficiency(qber):
    """Two blocks of 256 kbit with a hint 10 % off; goal 1.40, reached 1.27 to 1.37."""
    found = []
    for seed, off in enumerate((0.9, 1.1)):
        outcome = correct(Hamming(), bernoulli(1 << 18, qber, seed), hint=qber * off, seed=seed)
        assert not outcome.wrong_frames()
        found.append(efficiency(outcome.parities, 1 << 18, int(outcome.errors.sum())))
    assert 1.0 < np.mean(found) < 1.40


@pytest.mark.slow
@pytest.mark.parametrize("qber", [0.01, 0.02, 0.03, 0.05])
def test_nothing_is_left_in_a_thousand_blocks(qber):
    """1,024 blocks of 256 kbit, half with each wrong rate: no error before verification in 99.9 % of them."""
    n, wrong, parities, errors = 128 << 18, 0, 0, 0
    for seed, off in enumerate((0.9, 1.1) * 4):
        outcome = correct(Hamming(), bernoulli(n, qber, seed), hint=qber * off, seed=seed)
        wrong += len(set(outcome.wrong_frames()) | set(outcome.alice.suspect_frames))
        parities, errors = parities + outcome.parities, errors + int(outcome.errors.sum())
    assert wrong <= 1
    assert efficiency(parities, 8 * n, errors) <= 1.40


def test_the_leak_is_no_less_than_what_errors_of_known_weight_need():
    n, weight, runs = 4096, 41, 200
    leaks = [correct(Hamming(n), exact(n, weight, s), hint=0.01, seed=s).parities for s in range(runs)]
    assert np.mean(leaks) > (math.lgamma(n + 1) - math.lgamma(weight + 1) - math.lgamma(n - weight + 1)) / math.log(2)


def test_by_name():
    assert by_name("hamming").corrector == "alice"
