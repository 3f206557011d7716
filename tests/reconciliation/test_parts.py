"""Kernels on bits, permutations, estimates and small rules, each against plain NumPy or a formula."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import expand
from qkdpp.core.errors import ConfigError
from qkdpp.kernels import available, parity
from qkdpp.reconciliation import Cascade, Hamming, by_name, efficiency
from qkdpp.reconciliation.odd_blocks import mean_errors, odd_share
from qkdpp.reconciliation.result import from_hint
from qkdpp.reconciliation.shuffle import shuffle

LENGTHS = (1, 7, 63, 64, 65, 127, 128, 129, 1023, 131071)


def bits(n, seed=0, density=0.5):
    return (np.random.default_rng(seed).random(n) < density).astype(np.uint8)


@pytest.mark.parametrize("n", LENGTHS)
def test_parities_and_searches(n):
    rng = np.random.default_rng(n)
    for density in (0.5, 0.003):
        a = bits(n, 1, density)
        a[0] = 1
        words = Bits.from_array(a).words
        mask = bits(n, 2)
        masks = np.concatenate([np.zeros(3, dtype=np.uint64), Bits.from_array(mask).words])
        for _ in range(100):
            lo, hi = sorted(int(x) for x in rng.choice(n + 1, 2, replace=False))
            assert parity.range_parity(words, lo, hi) == a[lo:hi].sum() % 2
            assert parity.masked_parity(words, 0, masks, 192, lo, hi) == (a & mask)[lo:hi].sum() % 2
            assert parity.any_left(masks, 192, words, 0, lo, hi) == (mask & ~a & 1)[lo:hi].any()
            assert parity.last_one(words, hi - 1) == np.flatnonzero(a[:hi])[-1]
            after = np.flatnonzero(a[lo:hi])
            assert parity.next_one(words, lo, hi) == (lo + after[0] if after.size else hi)
            assert parity.get_bit(words, lo) == a[lo]
        assert parity.next_one(words, n, n) == n


@pytest.mark.parametrize("n", LENGTHS)
def test_permute_and_scatter(n):
    a = bits(n + 10, 3)
    order = np.random.default_rng(4).permutation(n).astype(np.int32)
    out = np.full(2 + -(-n // 64), 0xFFFFFFFFFFFFFFFF, dtype=np.uint64)
    parity.permute(Bits.from_array(a).words, 10, order, out, 64)
    assert out[0] == out[-1] == 0xFFFFFFFFFFFFFFFF
    assert Bits(out[1:-1].copy(), n).to_array().tolist() == a[10:][order].tolist()
    back = np.zeros(2 + -(-n // 64), dtype=np.uint64)
    parity.scatter(out, 64, order, back, 70)
    assert np.unpackbits(back.view(np.uint8), bitorder="little")[70 : 70 + n].tolist() == a[10:].tolist()


@given(word=st.integers(1, (1 << 64) - 1))
def test_words(word):
    x = np.uint64(word)
    assert parity.lowest_one(x) == (word & -word).bit_length() - 1
    assert parity.highest_one(x) == word.bit_length() - 1
    assert parity.word_parity(x) == word.bit_count() % 2


@pytest.mark.parametrize("n", [0, 1, 2, 1000, 70_000])
def test_shuffle_sorts_32_bit_words(n):
    seed = bytes(range(32))
    words = np.frombuffer(expand(seed, "some label", 4 * n), dtype="<u4")
    assert shuffle(seed, "some label", n).tolist() == sorted(range(n), key=lambda i: (int(words[i]), i))


@given(rate=st.floats(1e-6, 0.5), exponent=st.integers(0, 16))
def test_odd_share(rate, exponent):
    length = 1 << exponent
    assert odd_share(rate, length) == pytest.approx((1 - (1 - 2 * rate) ** length) / 2, rel=1e-9)


def test_odd_share_by_counting():
    """Sum of the binomial distribution over odd numbers."""
    assert odd_share(0.1, 8) == pytest.approx(sum(math.comb(8, k) * 0.1**k * 0.9 ** (8 - k) for k in (1, 3, 5, 7)))
    with pytest.raises(ValueError, match="power of two"):
        odd_share(0.1, 12)


@given(share=st.floats(1e-6, 0.49))
def test_mean_errors(share):
    assert mean_errors(share) == pytest.approx(-math.log(1 - 2 * share) / 2, rel=1e-9)


def test_efficiency():
    assert efficiency(50_000, 100_000, 11_000) == pytest.approx(1.00017, abs=2e-5)  # h(0.11) = 0.499916
    assert efficiency(0, 100, 0) == 1.0
    assert efficiency(3, 100, 0) == math.inf
    assert efficiency(0, 100, 100) == 1.0
    assert efficiency(0, 0, 0) == 1.0
    assert efficiency(50, 100, 50) == pytest.approx(0.5)
    for wrong in ((1, 10, 11), (-1, 10, 1), (1, 10, -1)):
        with pytest.raises(ValueError, match="errors in"):
            efficiency(*wrong)


def test_hints():
    assert [from_hint(x) for x in (0.0, -1.0, 1e-9, 0.02, 0.5, 0.9)] == [1, 1, 1, 20_000, 500_000, 500_000]
    for wrong in (math.nan, math.inf):
        with pytest.raises(ValueError, match="number"):
            from_hint(wrong)


def test_names():
    with pytest.raises(ConfigError, match="ldpc"):
        by_name("ldpc")
    for method in (Cascade, Hamming):
        with pytest.raises(ValueError, match="frame"):
            method(frame_bits=0)


def test_importing_compiles_nothing():
    code = "import sys, qkdpp.reconciliation; sys.exit('numba' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["cascade", "hamming"])
def test_every_tier_sends_the_same_messages(name):
    """Each in a process of its own."""
    code = f"""
import hashlib, sys
sys.path.insert(0, {str(__import__("pathlib").Path(__file__).parent)!r})
from pairs import bernoulli, correct
from qkdpp.core.stage import encode
from qkdpp.reconciliation import by_name
outcome = correct(by_name({name!r}), bernoulli(5000, 0.03, 1), hint=0.03)
print(hashlib.sha256(b"".join(encode(m) for _, m in outcome.transcript)).hexdigest())
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env={"QKDPP_BACKEND": backend},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for backend in available()
    }
    assert len(outputs) == 1
