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

    Words are sorted with their positions in the lower halves: NumPy sorts 64-bit numbers with vectors.
    """
    words = np.frombuffer(expand(seed, label, 4 * n), dtype="<u4").astype(np.uint64)
    words <<= np.uint64(32)
    words |= np.arange(n, dtype=np.uint64)
    words.sort()
    order: NDArray[np.int32] = words.astype(np.int32)
    return order
