"""What parameter estimation is told about a block: integer counts by basis and intensity.

Assumes phase-randomised pulses whose intensity label is drawn with the same
probabilities in both bases. Guarantees that the counts are non-negative
integers that fit each other; whether they fit the *physics* is checked where
the key length is computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import ConfigError, InputError

UNKNOWN = -1
"""An error count that is not known yet (key basis, before error correction)."""

P_SUM_TOLERANCE = 1e-9
"""How far the declared intensity probabilities may be from a sum of 1 (rounding of decimal fractions)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counts:
    """Detections of one block of a decoy-state BB84 link.

    Attributes:
        intensities: mean photon number of each intensity label, K values >= 0, in the order of the record.
        p_intensity: probability of each label, K values > 0, sum 1.
        n: int64[2, K], detections with both parties in basis b (0 = Z, 1 = X) and label k; every frame of the
            block, dropped and disclosed ones included.
        m: int64[2, K], bit errors among them; :data:`UNKNOWN` (-1) where not known yet.
        matrix: int64[K, 4, 4], disclosed detections by intensity, prepared state and detector (codes
            ``basis << 1 | bit``), those in different bases included, or None.
        sent: int64[K, 2, 2], pulses sent by intensity, basis and bit, or None.

    Raises:
        ConfigError: intensities or probabilities that no source can have.
        InputError: counts that contradict each other.
    """

    intensities: tuple[float, ...]
    p_intensity: tuple[float, ...]
    n: NDArray[np.int64]
    m: NDArray[np.int64]
    matrix: NDArray[np.int64] | None = None
    sent: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        self._check_source()
        k = len(self.intensities)
        shapes = {"n": (2, k), "m": (2, k), "matrix": (k, 4, 4), "sent": (k, 2, 2)}
        for name, shape in shapes.items():
            _check_array(name, getattr(self, name), shape)
        if bool(np.any(self.m > self.n)):
            raise InputError("counts: more errors (m) than detections (n) in some basis and intensity")
        if self.matrix is not None:
            blocks = np.stack([self.matrix[:, 2 * b : 2 * b + 2, 2 * b : 2 * b + 2].sum(axis=(1, 2)) for b in (0, 1)])
            if bool(np.any(blocks > self.n)):
                raise InputError("counts: matrix holds more detections with equal bases than n")

    def _check_source(self) -> None:
        mu, p = self.intensities, self.p_intensity
        if len(mu) != len(p) or not mu:
            raise ConfigError("intensities and p_intensity need the same number of values, at least one")
        if not all(np.isfinite(v) and v >= 0 for v in mu) or len(set(mu)) != len(mu):
            raise ConfigError("intensities: mean photon numbers must be finite, not negative and all different")
        if not all(0 < v <= 1 for v in p) or abs(sum(p) - 1) > P_SUM_TOLERANCE:
            raise ConfigError("p_intensity: probabilities must be above 0 and add up to 1")

    def __add__(self, other: Counts) -> Counts:
        if (self.intensities, self.p_intensity) != (other.intensities, other.p_intensity):
            raise InputError("counts: only blocks sent with equal intensities and probabilities can be merged")
        unknown = (self.m == UNKNOWN) | (other.m == UNKNOWN)
        return replace(
            self,
            n=self.n + other.n,
            m=np.where(unknown, UNKNOWN, self.m + other.m).astype(np.int64),
            matrix=_add(self.matrix, other.matrix),
            sent=_add(self.sent, other.sent),
        )

    @property
    def detections(self) -> int:
        """Detections with equal bases, both bases together."""
        return int(self.n.sum())

    @property
    def errors_known(self) -> tuple[bool, bool]:
        """Whether every error count of basis Z, and of basis X, is known."""
        return bool(np.all(self.m[0] >= 0)), bool(np.all(self.m[1] >= 0))

    def swapped(self) -> Counts:
        """The same block with the roles of the two bases exchanged (X keyed, Z tested)."""
        matrix = None if self.matrix is None else self.matrix[:, [2, 3, 0, 1]][:, :, [2, 3, 0, 1]]
        return replace(
            self,
            n=self.n[::-1].copy(),
            m=self.m[::-1].copy(),
            matrix=matrix,
            sent=None if self.sent is None else self.sent[:, ::-1].copy(),
        )

    def scaled(self, factor: float) -> Counts:
        """The same proportions with ``factor`` times as many detections (rounded), without the optional tables."""
        n = np.rint(self.n * factor).astype(np.int64)
        m = np.where(self.m < 0, self.m, np.minimum(np.rint(self.m * factor), n)).astype(np.int64)
        return replace(self, n=n, m=m, matrix=None, sent=None)


def _check_array(name: str, value: Any, shape: tuple[int, ...]) -> None:  # noqa: ANN401 - any array field
    if value is None and name not in ("n", "m"):
        return
    if not isinstance(value, np.ndarray) or value.dtype != np.int64 or value.shape != shape:
        raise InputError(f"counts: {name} must be an int64 array of shape {shape}")
    lowest = UNKNOWN if name == "m" else 0
    if bool(np.any(value < lowest)):
        raise InputError(f"counts: {name} holds negative numbers")


def _add(first: NDArray[np.int64] | None, second: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    return None if first is None or second is None else first + second
