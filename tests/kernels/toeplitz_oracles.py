"""Toeplitz hashes by other ways: explicit matrices, Python integers, products of decimal numbers."""

import decimal
from functools import cache

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Bits, n_words
from qkdpp.kernels import modified_seed_bits

RNG = np.random.default_rng(20)
AWKWARD = (1, 2, 7, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025)
Case = tuple[Bits, Bits, int, int]
"""Key, seed, output bits, the hash as an integer."""


def random_bits(n: int) -> Bits:
    words = RNG.integers(0, 1 << 64, n_words(n), dtype=np.uint64).astype("<u8")
    if n & 63:
        words[-1] &= np.uint64((1 << (n & 63)) - 1)
    return Bits(words, n)


def one_bit(n: int, position: int) -> Bits:
    words = np.zeros(n_words(n), dtype="<u8")
    words[position >> 6] = np.uint64(1 << (position & 63))
    return Bits(words, n)


def matrix(n_columns: int, seed: Bits, out_bits: int) -> NDArray[np.int64]:
    """Row i, column j: seed[i - j + n_columns - 1]."""
    index = np.arange(out_bits)[:, None] - np.arange(n_columns)[None, :] + n_columns - 1
    rows: NDArray[np.int64] = seed.to_array().astype(np.int64)[index]
    return rows


def by_matrix(key: Bits, seed: Bits, out_bits: int) -> list[int]:
    return [int(y) & 1 for y in matrix(key.n, seed, out_bits) @ key.to_array().astype(np.int64)]


def modified_by_matrix(key: Bits, seed: Bits, out_bits: int) -> list[int]:
    """(I | T) as it stands."""
    whole = np.hstack([np.eye(out_bits, dtype=np.int64), matrix(key.n - out_bits, seed, out_bits)])
    return [int(y) & 1 for y in whole @ key.to_array().astype(np.int64)]


def as_integer(bits: Bits) -> int:
    return int.from_bytes(bits.to_bytes(), "little")


def _by_integers(n: int, key: int, seed: int, out_bits: int) -> int:
    """Output bit i is the parity of seed >> i and the key backwards."""
    backwards = int(f"{key:0{n}b}"[::-1], 2) if n else 0
    return sum((((seed >> i) & backwards).bit_count() & 1) << i for i in range(out_bits))


@cache
def small_cases(count: int, modified: bool) -> tuple[Case, ...]:
    """Random keys of 1 to 300 bits and every output length, hashed by Python integers."""
    cases = []
    for _ in range(count):
        n = int(RNG.integers(1, 301))
        out = int(RNG.integers(1, n + 1))
        key = random_bits(n)
        seed = random_bits(modified_seed_bits(n, out) if modified else n + out - 1)
        x, s = as_integer(key), as_integer(seed)
        if modified:
            expected = (x & ((1 << out) - 1)) ^ _by_integers(n - out, x >> out, s, out)
        else:
            expected = _by_integers(n, x, s, out)
        cases.append((key, seed, out, expected))
    return tuple(cases)


def _as_decimal(bits: Bits, digits: int) -> decimal.Decimal:
    """Bit i at 10^(digits * i)."""
    places = np.full((bits.n, digits), ord("0"), dtype=np.uint8)
    places[:, -1] += bits.to_array()[::-1]
    return decimal.Decimal(str(places.data, "ascii"))


def by_decimals(key: Bits, seed: Bits, out_bits: int) -> Bits:
    """The product of the polynomials as one product of decimal numbers.

    The standard library multiplies these exactly, by transforms modulo primes. No coefficient exceeds n, so with
    enough digits each there are no carries, and the last digit of each has its parity.
    """
    digits = len(str(min(key.n, seed.n)))
    exact = decimal.Context(prec=decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)
    exact.traps[decimal.Inexact] = True
    product = exact.multiply(_as_decimal(key, digits), _as_decimal(seed, digits))
    text = np.frombuffer(str(product).encode("ascii"), dtype=np.uint8)
    parities = text[::-1][::digits][key.n - 1 : key.n - 1 + out_bits] & 1
    return Bits.from_array(np.pad(parities, (0, out_bits - parities.size)))
