"""Toeplitz hash at every size: what linearity and the shifts of the rows demand, and an independent product."""

from functools import cache

import numpy as np
import pytest
from toeplitz_oracles import by_decimals, one_bit, random_bits

from qkdpp.core.bits import Bits
from qkdpp.kernels import toeplitz_hash, toeplitz_hash_modified

LARGEST_IN_FLOATS = 18
"""log2 of the largest size checked where sums are made in floats: these take seconds beyond."""
RNG = np.random.default_rng(21)


def hashed(key: Bits, seed: Bits, out_bits: int) -> Bits:
    return Bits(toeplitz_hash(key.words, key.n, seed.words, out_bits), out_bits)


def modified(key: Bits, seed: Bits, out_bits: int) -> Bits:
    return Bits(toeplitz_hash_modified(key.words, key.n, seed.words, out_bits), out_bits)


def lengths(log2_bits: int) -> list[int]:
    """Around a power of two and around three quarters of it; a single one where they are long."""
    n = 1 << log2_bits
    if log2_bits > 20:
        return [n]
    near = [n - 1, n, 3 * n // 4, 3 * n // 4 + 1, int(RNG.integers(n // 2 + 1, n + 1))]
    return [m for m in near if m >= 1]


def check_bits(key: Bits, seed: Bits, result: Bits, count: int) -> None:
    """Some output bits as the definition has them: row i is the seed from i on, backwards."""
    backwards, row, bits = key.to_array()[::-1], seed.to_array(), result.to_array()
    for i in {0, result.n - 1, *RNG.integers(0, result.n, count).tolist()}:
        assert bits[i] == np.count_nonzero(row[i : i + key.n] & backwards) & 1


def check_linear(n: int, out: int) -> None:
    key, other = random_bits(n), random_bits(n)
    seed, other_seed = random_bits(n + out - 1), random_bits(n + out - 1)
    result = hashed(key, seed, out)
    assert hashed(key ^ other, seed, out).equals(result ^ hashed(other, seed, out))
    assert hashed(key, seed ^ other_seed, out).equals(result ^ hashed(key, other_seed, out))
    check_bits(key, seed, result, 6)
    j, p = int(RNG.integers(n)), int(RNG.integers(n + out - 1))
    assert hashed(one_bit(n, j), seed, out).equals(seed.slice(n - 1 - j, n - 1 - j + out)), "a column"
    i = np.arange(max(0, p - n + 1), min(out, p + 1))
    expected = np.zeros(out, dtype=np.uint8)
    expected[i] = key.to_array()[i + n - 1 - p]
    assert hashed(key, one_bit(n + out - 1, p), out).equals(Bits.from_array(expected)), "a diagonal"
    d = int(RNG.integers(out))
    assert hashed(key, seed.slice(d, seed.n), out - d).equals(result.slice(d, out)), "rows are shifts of each other"


def check_modified(n: int, out: int) -> None:
    """The first bits of the key are added to the hash of the others; a tall T is made of rows of flat ones."""
    key, seed = random_bits(n), random_bits(n - 1)
    k = n - out
    result = modified(key, seed, out)
    mixed = result ^ key.slice(0, out)
    check_bits(key.slice(out, n), seed, mixed, 6)
    if out <= k:
        assert mixed.equals(hashed(key.slice(out, n), seed, out))
    other = random_bits(n)
    assert modified(key ^ other, seed, out).equals(result ^ modified(other, seed, out))
    j = int(RNG.integers(n))
    column = one_bit(out, j) if j < out else seed.slice(n - 1 - j, n - 1 - j + out)
    assert modified(one_bit(n, j), seed, out).equals(column)


@pytest.mark.parametrize("log2_bits", range(25))
def test_every_size(tier: str, log2_bits: int) -> None:
    if log2_bits > LARGEST_IN_FLOATS and not tier.startswith("c-"):
        pytest.skip("takes long in floats; smaller sizes go through the same blocks")
    for n in lengths(log2_bits):
        check_linear(n, int(RNG.integers(1, n + 1)))
        if n > 1:
            check_modified(n, int(RNG.integers(1, n)))


@pytest.mark.parametrize("tail", [1, 40, 2040, 2048, 2049, 8192, 8193])
def test_more_rows_than_columns(tier: str, tail: int) -> None:
    """The modified form of little compression: T is tall."""
    check_modified(70_000 + tail, 70_000)


@cache
def independent(n: int) -> tuple[Bits, Bits, Bits]:
    key, seed = random_bits(n), random_bits(n + n // 2 - 1)
    return key, seed, by_decimals(key, seed, n // 2)


def check_independent(n: int) -> None:
    key, seed, expected = independent(n)
    assert hashed(key, seed, n // 2).equals(expected)
    longer = Bits.concat([expected, key])
    assert modified(longer, seed, n // 2).count_ones() == 0, "what the other way computed cancels"


def test_independent_product_of_a_million_bits(tier: str) -> None:
    check_independent(1 << 20)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_independent_product_of_64_million_bits(tier: str) -> None:
    check_independent(1 << 26)
