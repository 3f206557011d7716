"""The public synchronisation string of prepare-and-measure links.

The first ``length`` pulses of every ``frame`` pulses are prepared in states
that follow from a public seed, at signal intensity. Bob finds his pulse numbers by correlating
with them; both sides cut them out of the key. Format page:
``docs/formats/prepared.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.entropy import expand_blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncString:
    """``length`` public pulses at the start of every ``frame`` pulses, states from ``seed`` (32 bytes)."""

    seed: bytes
    length: int
    frame: int

    def __post_init__(self) -> None:
        if not 0 < self.length <= self.frame:
            raise ValueError("the string is longer than its frame")

    def mask(self, pulses: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pulse numbers belong to the string (NumPy divides by one number faster than it finds the rest)."""
        return pulses - pulses // self.frame * self.frame < self.length

    def members(self, pulses: NDArray[np.int64]) -> NDArray[np.int64]:
        """Indices of the pulse numbers that belong to the string; ``pulses`` increase, 0 or more."""
        first, last = (int(pulses[at]) // self.frame for at in (0, -1)) if pulses.size else (0, 0)
        if 8 * (last - first + 1) > pulses.size:
            return np.flatnonzero(self.mask(pulses))
        starts = np.arange(first, last + 1, dtype=np.int64) * self.frame
        low, high = np.searchsorted(pulses, starts), np.searchsorted(pulses, starts + self.length)
        each = high - low
        return np.arange(each.sum(), dtype=np.int64) + np.repeat(high - np.cumsum(each), each)

    def states(self, pulses: NDArray[np.int64]) -> NDArray[np.uint8]:
        """State of each pulse number of the string: ``2 * basis + bit`` (basis 0 = Z, 1 = X), uniform, uint8."""
        return (expand_blocks(self.seed, "sync string", pulses)[:, 0] & 3).astype(np.uint8)
