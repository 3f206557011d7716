"""Public permutations for error correction, from a disclosed seed and fast.

The order that sorts n 32-bit words of the public stream, ties by position. Ties
(n * n / 2**33 pairs in the mean) leave two neighbours of the key in order, which
does not matter where a permutation only has to spread errors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.entropy import expand


def shuffle(seed: bytes, label: str, n: int) -> NDArray[np.int32]:
    """A permutation of ``range(n)`` from a disclosed 32-byte seed, the same on every host.

    Sorted by the low and then by the high half of the words, both times stably: 16-bit keys are sorted by counting.
    """
    halves = np.frombuffer(expand(seed, label, 4 * n), dtype="<u2").reshape(n, 2)
    by_low = np.argsort(halves[:, 0], kind="stable")
    by_both: NDArray[np.int32] = by_low[np.argsort(halves[by_low, 1], kind="stable")].astype(np.int32)
    return by_both
