"""What the estimation of three-state BB84 is told about a block: counts by intensity, state and outcome.

Assumes states, labels and bases drawn independently of each other with the declared probabilities. Guarantees that
the counts are non-negative integers of the right shape; what they show of those probabilities is compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import ConfigError, InputError
from qkdpp.estimation.claims import SIGMAS
from qkdpp.estimation.counts import P_SUM_TOLERANCE
from qkdpp.estimation.virtual_states import ThreeStates

BASIS_TOLERANCE = 0.05
"""How far Bob's share of a basis may be off, relative to the declared probability of the rarer one."""
_SIGMAS = 6.5
"""Standard errors allowed for besides: exceeded by chance with probability below 1e-10."""
_STATES = ("Z0", "Z1", "X0")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ThreeStateCounts:
    """Detections of one block.

    Attributes:
        intensities: mean photon number of each label, K >= 3 values.
        p_intensity: probability of each label, the same for every state.
        states: what is sent, and how often.
        p_bob: probability that Bob measures Z, and X.
        n: int64[K, 3, 4], detections by label, state sent (Z0, Z1, X0) and outcome (Z0, Z1, X0, X1). Those outside the
            key must all be known; inside it only the sums over Bob's outcome and Alice's bit are looked at.
        sent: int64[K, 3], pulses sent by label and state, or None. Without it nothing shows whether states were sent as
            often as declared, on which the phase error rests.

    Raises:
        ConfigError: probabilities that no source or receiver can have.
        InputError: counts of the wrong kind.
    """

    intensities: tuple[float, ...]
    p_intensity: tuple[float, ...]
    states: ThreeStates
    p_bob: tuple[float, float]
    n: NDArray[np.int64]
    sent: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        k = len(self.intensities)
        if len(self.p_intensity) != k or not all(0 < p <= 1 for p in self.p_intensity):
            raise ConfigError("p_intensity: one probability above 0 for every intensity")
        if abs(sum(self.p_intensity) - 1) > P_SUM_TOLERANCE:
            raise ConfigError("p_intensity: probabilities must add up to 1")
        if len(self.p_bob) != 2 or not all(0 < p < 1 for p in self.p_bob) or abs(sum(self.p_bob) - 1) > P_SUM_TOLERANCE:
            raise ConfigError("p_bob: probabilities of Bob's bases Z and X, both above 0, sum 1")
        for name, table, shape in (("n", self.n, (k, 3, 4)), ("sent", self.sent, (k, 3))):
            if table is None and name == "sent":
                continue
            if not isinstance(table, np.ndarray) or table.dtype != np.int64 or table.shape != shape:
                raise InputError(f"counts: {name} must be an int64 array of shape {shape}")
            if bool(np.any(table < 0)):
                raise InputError(f"counts: {name} holds negative numbers")

    @property
    def detections(self) -> int:
        """All detections, whatever was sent and measured."""
        return int(self.n.sum())

    @property
    def keyed(self) -> NDArray[np.int64]:
        """Detections of the key by label, int64[K]."""
        return np.asarray(self.n[:, :2, :2].sum(axis=(1, 2)))

    def scaled(self, factor: float) -> ThreeStateCounts:
        """The same proportions with ``factor`` times as many detections (rounded), without the pulses sent."""
        return replace(self, n=np.rint(self.n * factor).astype(np.int64), sent=None)

    def contradictions(self) -> tuple[str, ...]:
        """What does not fit the declared probabilities: Bob's bases, and states and labels as far as ``sent`` is known.

        The length rests on detections that are *there*: counts lost on their way here would pass for a channel without
        phase errors, and so would a state that is sent more often than declared. Detection probability independent of
        the basis is an assumption; a gross violation shows here too.
        """
        return (*self._bases(), *self._sent())

    def _bases(self) -> Iterator[str]:
        for s, name in enumerate(_STATES):
            total, in_x, p = int(self.n[:, s].sum()), int(self.n[:, s, 2:].sum()), self.p_bob[1]
            allowed = BASIS_TOLERANCE * min(self.p_bob) * total + _SIGMAS * math.sqrt(max(total * p * (1 - p), 1.0))
            if abs(in_x - p * total) > allowed:
                yield f"Bob's bases for state {name}: {in_x} of {total} in X, declared {p:g}"

    def _sent(self) -> Iterator[str]:
        if self.sent is None:
            return
        total = int(self.sent.sum())
        for k, of_label in enumerate(self.p_intensity):
            for s, name in enumerate(_STATES):
                sent, detected, p = int(self.sent[k, s]), int(self.n[k, s].sum()), of_label * self.states.probability[s]
                allowed = self.states.tolerance * p * total + SIGMAS * math.sqrt(max(total * p * (1 - p), 1.0))
                if abs(sent - p * total) > allowed:
                    yield f"state {name} of intensity {k}: {sent} of {total} pulses sent, declared {p:g}"
                if detected > sent:
                    yield f"state {name} of intensity {k}: {detected} detections of {sent} pulses sent"
