"""What three emitted qubit states say about two that are never sent: the loss-tolerant argument.

Tamaki, Curty, Kato, Lo and Azuma 2014 (Phys. Rev. A 90, 052314), written for pure states in the X-Z plane of the
Bloch sphere. Alice's key rounds are equivalent to half of a state
``sqrt(p_0) |0>|Z0> + sqrt(p_1) |1>|Z1>``; measured in X, her half leaves Bob's in one of two virtual states. Their
density matrices are combinations of those of the three states sent, for the latter span all real symmetric 2x2
matrices. Whatever the channel does is linear in the density matrix, hence so is the phase error probability.

Assumes that single photons are prepared in the declared states, pulse by pulse. Guarantees factors F with

    phase errors per round = sum over states s and outcomes o of F[s, o] p_s Y(x_o | s),

``Y(x_o | s)`` being the probability of outcome ``x_o`` when s is sent and Bob measures X. Written out with the Bloch
vectors r_s = (1, x, z) and half the sum S and difference D of the angles of Z0 and Z1, the virtual states are

    p_Z v_j = (p_0 r_0 + p_1 r_1) / 2 +- sqrt(p_0 p_1) (cos D, sin S, cos S),

so F is 1/2 for Z0 and Z1, +- the solution c of ``sum_s c_s r_s = (cos D, sin S, cos S)`` times ``sqrt(p_0 p_1) / p_s``.
Every entry is monotone in one ratio of probabilities: its largest value over a box of them lies at an end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import ConfigError
from qkdpp.estimation.counts import P_SUM_TOLERANCE

_INDEPENDENT = 1e-3
"""Smallest determinant of the three states, in Bloch coordinates; 2 for ideal ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreeStates:
    """The three states Z0, Z1, X0 and how often each is sent.

    Attributes:
        probability: of Z0, Z1 and X0, each above 0, sum 1, the same for every intensity.
        angle_rad: angle of each on the Bloch sphere from Z0's ideal direction towards X0's.
        tolerance: how far each probability may be from its value, relative to it, in every single pulse; at least 0,
            below 1/2. The phase error is bounded for the worst of them.
    """

    probability: tuple[float, float, float]
    angle_rad: tuple[float, float, float] = (0.0, math.pi, math.pi / 2)
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if len(self.probability) != 3 or not all(0 < p < 1 for p in self.probability):
            raise ConfigError("p_state: each of the three states needs a probability between 0 and 1")
        if abs(sum(self.probability) - 1) > P_SUM_TOLERANCE:
            raise ConfigError("p_state: the three probabilities must add up to 1")
        if not 0 <= self.tolerance < 0.5:
            raise ConfigError("p_state: the tolerance is relative, at least 0 and below 0.5")
        if len(self.angle_rad) != 3 or not all(math.isfinite(angle) for angle in self.angle_rad):
            raise ConfigError("angle_rad: three finite angles, one for each state")
        if abs(float(np.linalg.det(self._matrix()))) < _INDEPENDENT:
            raise ConfigError("angle_rad: three different states are needed, no two of them nearly the same")

    @property
    def keyed(self) -> float:
        """Probability of a state of the key basis."""
        return self.probability[0] + self.probability[1]

    def _matrix(self) -> NDArray[np.float64]:
        """Columns ``(1, x, z)`` of the three states."""
        angle = np.array(self.angle_rad)
        return np.stack([np.ones(3), np.sin(angle), np.cos(angle)])

    def phase_error_factors(self) -> NDArray[np.float64]:
        """``F[s, o]``, float64[3, 2]: the largest that the tolerance of the probabilities allows."""
        total, difference = (sum(self.angle_rad[:2]) / 2, (self.angle_rad[0] - self.angle_rad[1]) / 2)
        mixed = np.array([math.cos(difference), math.sin(total), math.cos(total)])
        if mixed[1] < 0:  # the virtual bit 0 is the one nearer to X0
            mixed = -mixed
        p0, p1, p2 = self.probability
        ratio = np.array([math.sqrt(p1 / p0), math.sqrt(p0 / p1), math.sqrt(p0 * p1) / p2])
        most = (1 + self.tolerance) / (1 - self.tolerance)
        reach = np.sqrt([most, most, most**2])
        share = np.linalg.solve(self._matrix(), mixed) * ratio
        signed = np.stack([-share, share], axis=1)  # outcome x_0 is wrong for the virtual bit 1, x_1 for 0
        larger = np.where(signed > 0, signed * reach[:, None], signed / reach[:, None])
        return np.asarray(larger + np.array([0.5, 0.5, 0.0])[:, None])


def phase_error_rate(yields: NDArray[np.float64], states: ThreeStates) -> float:
    """Phase error rate of the key of single photons whose yields are known exactly.

    Args:
        yields: float64[3, 4], ``Y(o | s)``: probability of outcome o (Z0, Z1, X0, X1) when s is sent and Bob measures
            in the basis of o.
        states: what is sent.

    Returns:
        A rate from 0 to 1; 1 where nothing is detected.
    """
    sent = np.array(states.probability) / states.keyed
    wrong = float((states.phase_error_factors() * sent[:, None] * yields[:, 2:]).sum())
    shares = sent[:2]
    detected = float(shares @ yields[:2, :2].sum(axis=1))
    return min(max(wrong / detected, 0.0), 1.0) if detected > 0 else 1.0
