"""Toeplitz hash: the definition, an independent product of polynomials, linear checks, faults; every tier."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toeplitz_oracles import AWKWARD, RNG, as_integer, by_decimals, by_matrix, one_bit, random_bits, small_cases

from qkdpp.core.bits import Bits
from qkdpp.core.errors import KernelError
from qkdpp.kernels import toeplitz, toeplitz_hash

pytestmark = pytest.mark.usefixtures("tier")
in_floats = pytest.mark.parametrize("tier", ["numpy"], indirect=True)


def hashed(key: Bits, seed: Bits, out_bits: int) -> Bits:
    return Bits(toeplitz_hash(key.words, key.n, seed.words, out_bits), out_bits)


def check_small_cases(count: int) -> None:
    for key, seed, out, expected in small_cases(count, False):
        assert as_integer(hashed(key, seed, out)) == expected


def check_length(n: int) -> None:
    for out in {1, (n + 1) // 2, n - 1, n} - {0}:
        key, seed = random_bits(n), random_bits(n + out - 1)
        result = hashed(key, seed, out)
        assert result.to_array().tolist() == by_matrix(key, seed, out)
        assert result.equals(Bits.from_array(result.to_array())), "padding is zero"


def test_definition_on_random_small_cases() -> None:
    check_small_cases(10_000)


@pytest.mark.parametrize("n", AWKWARD)
def test_definition_at_awkward_lengths(n: int) -> None:
    check_length(n)


@in_floats
@pytest.mark.parametrize("block", [64, 128])
def test_definition_in_small_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transforms in floats with small blocks and little memory, so that small cases go through many of both."""
    monkeypatch.setattr(toeplitz, "BLOCK_BITS", block)
    monkeypatch.setattr(toeplitz, "MIN_MEMORY", 16 * block * 6)
    check_small_cases(300)
    for n in AWKWARD:
        check_length(n)


def test_definition_printed_in_the_note() -> None:
    page = (Path(__file__).parents[2] / "docs" / "notes" / "toeplitz.md").read_text()
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    key, seed = random_bits(90), random_bits(90 + 39)
    printed = names["by_definition"](key.to_array().tolist(), seed.to_array().tolist(), 40)
    assert hashed(key, seed, 40).to_array().tolist() == printed


def test_exhaustive_small_world() -> None:
    """Every key and every seed of 4 to 2 bits; each non-zero difference collides for a quarter of the seeds."""
    n, out = 4, 2
    zero = Bits.from_array(np.zeros(n, dtype=np.uint8))
    collisions = dict.fromkeys(range(1, 2**n), 0)
    for seed_value in range(2 ** (n + out - 1)):
        seed = Bits(np.array([seed_value], dtype="<u8"), n + out - 1)
        for value in range(2**n):
            key = Bits(np.array([value], dtype="<u8"), n)
            result = hashed(key, seed, out)
            assert result.to_array().tolist() == by_matrix(key, seed, out)
            if value:
                collisions[value] += result.equals(hashed(zero, seed, out))
    assert set(collisions.values()) == {2 ** (n + out - 1) // 2**out}


@pytest.mark.parametrize(("n", "out"), [(5000, 2500), (8193, 8192), (16_384, 16_384), (30_001, 7), (131_071, 65_500)])
def test_independent_product_of_polynomials(n: int, out: int) -> None:
    key, seed = random_bits(n), random_bits(n + out - 1)
    assert hashed(key, seed, out).equals(by_decimals(key, seed, out))


def test_lengths_around_every_power_of_two() -> None:
    """Transforms of all sizes up to 2^14 points, filled to the brim and just started, against the sums in floats."""
    for n in [edge + step for edge in (4096, 8192, 16_384, 32_768, 65_536, 131_072) for step in (-1, 0, 1, 65)]:
        for out in (n // 2, n - int(RNG.integers(0, 70))):
            key, seed = random_bits(n), random_bits(n + out - 1)
            assert np.array_equal(hashed(key, seed, out).words, toeplitz._by_floats(key.words, n, seed.words, out))


def test_all_ones_have_the_largest_sums() -> None:
    n = 1 << 20
    ones, seed = Bits.from_array(np.ones(n, dtype=np.uint8)), Bits.from_array(np.ones(2 * n - 1, dtype=np.uint8))
    assert hashed(ones, seed, n).count_ones() == 0, "n ones at every position, and n is even"
    odd = Bits.from_array(np.arange(n) < n - 1)
    assert hashed(odd, seed, n).count_ones() == n


@pytest.mark.parametrize(("n", "out"), [(10_007, 5_003), (300_001, 300_001), (1_400_001, 700_003)])
def test_linear_checks(n: int, out: int) -> None:
    a, b, seed = random_bits(n), random_bits(n), random_bits(n + out - 1)
    assert hashed(a ^ b, seed, out).equals(hashed(a, seed, out) ^ hashed(b, seed, out))
    for j in {0, 1, (1 << 19) - 1, 1 << 19, 1_048_575, n // 2, n - 1} & set(range(n)):
        assert hashed(one_bit(n, j), seed, out).equals(seed.slice(n - 1 - j, n - 1 - j + out))


def test_inputs_are_left_alone() -> None:
    key, seed = random_bits(777), random_bits(777 + 99)
    before = key.words.tobytes(), seed.words.tobytes()
    hashed(key, seed, 100)
    assert (key.words.tobytes(), seed.words.tobytes()) == before


@pytest.mark.parametrize(("n", "out"), [(0, 0), (10, 0), (10, 11), ((1 << 28) + 1, 5), (10, -1)])
def test_sizes_out_of_range(n: int, out: int) -> None:
    with pytest.raises(KernelError, match="1 <= out <= n"):
        toeplitz_hash(np.zeros(1, dtype="<u8"), n, np.zeros(1, dtype="<u8"), out)


def test_wrong_arrays() -> None:
    key, seed = random_bits(70), random_bits(70 + 9)
    for bad_key in (key.words[:1], key.words.astype(np.int64), key.words | np.uint64(1 << 63)):
        with pytest.raises(KernelError, match="key"):
            toeplitz_hash(bad_key, 70, seed.words, 10)
    with pytest.raises(KernelError, match="seed"):
        toeplitz_hash(key.words, 70, np.zeros(3, dtype="<u8"), 10)


@in_floats
def test_an_inaccurate_transform_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    key, seed = random_bits(4000), random_bits(4000 + 1999)
    exact = np.fft.irfft
    monkeypatch.setattr(np.fft, "irfft", lambda x, n: exact(x, n) + 0.3)
    with pytest.raises(KernelError, match="not accurate"):
        hashed(key, seed, 2000)
    monkeypatch.setattr(np.fft, "irfft", lambda x, n: exact(x, n) + 1.0)
    with pytest.raises(KernelError, match="disagrees with its definition"):
        hashed(key, seed, 2000)
