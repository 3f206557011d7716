"""The modified Toeplitz hash (I | T): the definition, universality, faults; every tier."""

import numpy as np
import pytest
from toeplitz_oracles import AWKWARD, as_integer, modified_by_matrix, random_bits, small_cases

from qkdpp.core.bits import Bits
from qkdpp.core.errors import KernelError
from qkdpp.kernels import modified_seed_bits, toeplitz_hash_modified

pytestmark = pytest.mark.usefixtures("tier")


def hashed(key: Bits, seed: Bits, out_bits: int) -> Bits:
    return Bits(toeplitz_hash_modified(key.words, key.n, seed.words, out_bits), out_bits)


def test_definition_on_random_small_cases() -> None:
    for key, seed, out, expected in small_cases(10_000, True):
        assert as_integer(hashed(key, seed, out)) == expected


@pytest.mark.parametrize("n", AWKWARD)
def test_definition_at_awkward_lengths(n: int) -> None:
    for out in {1, 63, 64, 65, (n + 1) // 2, n - 1, n} & set(range(1, n + 1)):
        key, seed = random_bits(n), random_bits(modified_seed_bits(n, out))
        result = hashed(key, seed, out)
        assert result.to_array().tolist() == modified_by_matrix(key, seed, out)
        assert result.equals(Bits.from_array(result.to_array())), "padding is zero"


@pytest.mark.parametrize(("n", "out"), [(5, 2), (5, 4), (6, 3), (4, 4)])
def test_universal_2_in_an_exhaustive_small_world(n: int, out: int) -> None:
    """No difference of two keys collides for more than 2^-out of the seeds."""
    length = modified_seed_bits(n, out)
    seeds = [Bits(np.array([s], dtype="<u8")[:length], length) for s in range(2**length)]
    for difference in range(1, 2**n):
        key = Bits(np.array([difference], dtype="<u8"), n)
        collisions = sum(hashed(key, seed, out).count_ones() == 0 for seed in seeds)
        meets_toeplitz_part = difference >> out != 0
        assert collisions == (len(seeds) >> out if meets_toeplitz_part else 0)


def test_no_compression_is_the_identity() -> None:
    key = random_bits(100)
    result = hashed(key, Bits.zeros(0), 100)
    assert result.equals(key)
    assert not np.shares_memory(result.words, key.words)


def test_inputs_are_left_alone() -> None:
    key, seed = random_bits(777), random_bits(776)
    before = key.words.tobytes(), seed.words.tobytes()
    hashed(key, seed, 100)
    assert (key.words.tobytes(), seed.words.tobytes()) == before


@pytest.mark.parametrize(("n", "out"), [(0, 0), (10, 0), (10, 11), ((1 << 28) + 1, 5), (10, -1)])
def test_sizes_out_of_range(n: int, out: int) -> None:
    with pytest.raises(KernelError, match="1 <= out <= n"):
        toeplitz_hash_modified(np.zeros(1, dtype="<u8"), n, np.zeros(1, dtype="<u8"), out)


def test_wrong_arrays() -> None:
    key = random_bits(70)
    with pytest.raises(KernelError, match="key"):
        toeplitz_hash_modified(key.words | np.uint64(1 << 63), 70, random_bits(69).words, 10)
    with pytest.raises(KernelError, match="seed"):
        toeplitz_hash_modified(key.words, 70, random_bits(70 + 9 + 64).words, 10)
    with pytest.raises(KernelError, match="seed: 0 bits"):
        toeplitz_hash_modified(key.words, 70, random_bits(69).words, 70)
