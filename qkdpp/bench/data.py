"""Data of the benchmarks, from fixed seeds: nothing here is secret or shared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Bits, Words, n_words


def generator(seed: int) -> np.random.Generator:
    """The source of all data of a workload."""
    return np.random.default_rng(seed)


def random_bits(n: int, rng: np.random.Generator) -> Bits:
    """``n`` uniform bits."""
    words = rng.integers(0, 1 << 64, n_words(n), dtype=np.uint64, endpoint=False).astype("<u8", copy=False)
    if n & 63:
        words[-1] &= np.uint64((1 << (n & 63)) - 1)
    return Bits(words, n)


def random_words(n: int, rng: np.random.Generator) -> Words:
    """``n`` uniform bits as words."""
    return random_bits(n, rng).words


def error_pattern(n: int, rate: float, rng: np.random.Generator) -> Bits:
    """``n`` bits, each set with probability ``rate``, independently."""
    part = 1 << 24
    flags = [(rng.random(min(part, n - at), dtype=np.float32) < rate).astype(np.uint8) for at in range(0, n, part)]
    return Bits.from_array(np.concatenate(flags))


def sorted_ticks(n: int, mean_gap: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``n`` rising ticks whose gaps are uniform between 1 and twice the mean."""
    return np.cumsum(rng.integers(1, 2 * mean_gap, n)).astype(np.int64)
