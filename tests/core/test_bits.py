"""Packed bits: bit i is (words[i >> 6] >> (i & 63)) & 1, by the definition alone."""

import numpy as np
import pytest

from qkdpp.core.bits import Bits

AWKWARD = [0, 1, 7, 8, 63, 64, 65, 127, 128, 129, 1023, 1024]


def random_array(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, n, dtype=np.uint8)


@pytest.mark.parametrize("n", AWKWARD)
def test_bit_i_stands_where_the_definition_says(n):
    array = random_array(n)
    bits = Bits.from_array(array)
    assert [(int(bits.words[i >> 6]) >> (i & 63)) & 1 for i in range(n)] == array.tolist()
    assert bits.words.size == -(-n // 64)
    if n % 64:
        assert int(bits.words[-1]) >> (n % 64) == 0


@pytest.mark.parametrize("n", AWKWARD)
def test_bytes_are_least_significant_bit_first(n):
    array = random_array(n, 2)
    data = Bits.from_array(array).to_bytes()
    assert len(data) == -(-n // 8)
    assert int.from_bytes(data, "little") == sum(int(b) << i for i, b in enumerate(array))
    assert Bits.from_bytes(data, n).to_array().tolist() == array.tolist()


def test_wrong_length_and_dirty_padding_are_refused():
    with pytest.raises(ValueError, match="need 2 bytes"):
        Bits.from_bytes(b"\0", 9)
    with pytest.raises(ValueError, match="padding"):
        Bits.from_bytes(b"\0\x02", 9)


def test_representation_shows_no_bits():
    assert repr(Bits.from_array(random_array(100))) == "Bits(n=100)"


@pytest.mark.parametrize("n", AWKWARD)
def test_operations_agree_with_arrays(n):
    a, b = random_array(n, 3), random_array(n, 4)
    x, y = Bits.from_array(a), Bits.from_array(b)
    assert (x ^ y).to_array().tolist() == (a ^ b).tolist()
    assert x.count_ones() == int(a.sum())
    assert Bits.concat([x, y]).to_array().tolist() == a.tolist() + b.tolist()
    assert x.slice(n // 3, n // 2).to_array().tolist() == a[n // 3 : n // 2].tolist()
    assert x.equals(Bits.from_array(a))
    assert x.equals(y) == (a.tolist() == b.tolist())


def test_xor_of_unequal_lengths_is_refused():
    with pytest.raises(ValueError, match="lengths differ"):
        _ = Bits.zeros(3) ^ Bits.zeros(4)


@pytest.mark.parametrize("start", [0, 1, 63, 64, 65, 200, 511, 512])
def test_every_slice_from_a_bit_is_that_of_the_array(start):
    array = random_array(512, 5)
    bits = Bits.from_array(array)
    for stop in (start, *(s for s in AWKWARD if start < s <= 512), 512):
        part = bits.slice(start, stop)
        assert part.equals(Bits.from_array(array[start:stop]))
        assert part.words.base is not bits.words


def test_a_slice_beyond_the_end_is_refused():
    for start, stop in ((0, 101), (5, 4), (-1, 5)):
        with pytest.raises(ValueError, match="in 100"):
            Bits.zeros(100).slice(start, stop)


def test_parts_of_all_lengths_follow_one_another():
    parts = [random_array(n, n) for n in (3, 0, 64, 61, 1, 63, 128, 200, 65)]
    assert Bits.concat([Bits.from_array(p) for p in parts]).equals(Bits.from_array(np.concatenate(parts)))
    assert len(Bits.concat([])) == 0
