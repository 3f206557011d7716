"""Detectors of unequal efficiency: what the published correction leaves of the key.

Tagging (Gottesman, Lo, Luetkenhaus and Preskill 2004; Fung, Tamaki, Qi, Lo and
Ma 2009, Quantum Inf. Comput. 9, 131). A detection by a detector of efficiency
``eta`` counts as untagged with probability ``eta_min / eta``, decided by a coin
nobody tosses: the untagged ones are those of four detectors of efficiency
``eta_min``, alike for both bits and both bases, and the proofs hold for them.
Tagged bits belong to the adversary; all errors are charged to the untagged.

Assumes that efficiencies are declared from a calibration and stay within their
tolerance for every mode of light the adversary can send in; efficiencies that
she can tune one against the other (time-shift attack) are not covered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qkdpp.core.errors import ConfigError
from qkdpp.estimation.security import binary_entropy, error_penalty

SMALLEST_RATIO = 0.5
"""Weakest over strongest detector below which nothing is corrected: such a receiver wants repair, not a formula."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiencies:
    """Calibrated efficiencies of one receiver's detectors Z0, Z1, X0, X1; only their ratios matter.

    Attributes:
        values: four numbers above 0, at most 1.
        tolerance: how far each may be from its value, relative to it; at least 0, below 1/2.
    """

    values: tuple[float, float, float, float]
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        if len(self.values) != 4 or not all(0 < value <= 1 for value in self.values):
            raise ConfigError("detectors: efficiencies are four numbers above 0 and at most 1 (Z0, Z1, X0, X1)")
        if not 0 <= self.tolerance < 0.5:
            raise ConfigError("detectors.tolerance is relative: at least 0, below 0.5")

    def swapped(self) -> Efficiencies:
        """The same receiver with the roles of the bases exchanged."""
        z0, z1, x0, x1 = self.values
        return Efficiencies(values=(x0, x1, z0, z1), tolerance=self.tolerance)

    def untagged(self, basis: int) -> float:
        """Least probability that a detection in ``basis`` is untagged: weakest of all four over strongest there."""
        weakest = min(self.values) * (1 - self.tolerance)
        return weakest / (max(self.values[2 * basis : 2 * basis + 2]) * (1 + self.tolerance))

    def share_z(self, p_z: float) -> float:
        """Share of Z among detections if the basis is Z with probability ``p_z``."""
        z, x = p_z * sum(self.values[:2]), (1 - p_z) * sum(self.values[2:])
        return z / (z + x)

    def imbalance(self, basis: int) -> tuple[float, float]:
        """Range of ``(n0 - n1) / (n0 + n1)`` that the declared efficiencies explain."""
        zero, one = self.values[2 * basis : 2 * basis + 2]
        up, down = 1 + self.tolerance, 1 - self.tolerance
        ends = [(zero * a - one * b) / (zero * a + one * b) for a, b in ((down, up), (up, down))]
        return ends[0], ends[1]


def untagged_share(receivers: tuple[Efficiencies, ...], basis: int) -> float:
    """Least probability that a detection (of pairs: a coincidence) is untagged at all receivers; 1 without any."""
    return math.prod(receiver.untagged(basis) for receiver in receivers)


def untagged_average(eta0: float, eta1: float) -> float:
    """``D = 2 min / (eta0 + eta1)``: untagged share of detections that favour no bit (unlimited data)."""
    if not (min(eta0, eta1) > 0 and max(eta0, eta1) <= 1):
        raise ConfigError("efficiencies must be above 0 and at most 1")
    return 2 * min(eta0, eta1) / (eta0 + eta1)


def mismatched_rate(untagged: float, phase_error: float, error_rate: float, *, f_ec: float) -> float:
    """Secret bits per sifted single photon with a share ``untagged`` of them: ``D [1 - h(e/D)] - f h(e_b)``.

    Args:
        untagged: D, from :func:`untagged_average`; above 0, at most 1.
        phase_error: errors in the test basis among all detections.
        error_rate: errors in the key basis.
        f_ec: leak of error correction over its Shannon limit.

    Returns:
        At least 0.
    """
    if not 0 < untagged <= 1:
        raise ConfigError("the untagged share must be above 0 and at most 1")
    return max(0.0, untagged * (1 - error_penalty(phase_error / untagged)) - f_ec * binary_entropy(error_rate))
