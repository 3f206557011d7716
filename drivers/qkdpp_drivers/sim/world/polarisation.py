"""Polarisation on the Poincare sphere: a fibre that wanders and controllers that undo it.

States are unit vectors ``(s1, s2, s3)``; H, V, D, A are +-s1 and +-s2 (codes 0 to 3). Fibre and controllers are
rotations of the sphere (no loss that depends on polarisation). A controller is four squeezers at 0, 45, 0 and 45
degrees whose phase is proportional to a voltage (``spec/devices``: OZ Optics EPC), and behind them three paddles of
fibre, a quarter, half and quarter wave each, that are turned (Thorlabs MPC320). Together the paddles do nothing at 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STATES: Floats = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])
"""Stokes vectors of the codes 0 to 3."""
SQUEEZER_DEG = (0.0, 45.0, 0.0, 45.0)
V_PI_MV = 1450.0
"""Voltage for a retardance of pi."""
PADDLE_RAD = (0.5 * np.pi, np.pi, 0.5 * np.pi)
"""Retardance of each paddle."""


def rotation(axis: Floats, angle_rad: float) -> Floats:
    """3 x 3 rotation about ``axis`` (any length but zero)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle_rad) * cross + (1.0 - np.cos(angle_rad)) * (cross @ cross))


def retarder(axis_deg: float, phase_rad: float) -> Floats:
    """A linear retarder whose slow axis lies at ``axis_deg`` in the laboratory."""
    double = np.deg2rad(2.0 * axis_deg)
    return rotation(np.array([np.cos(double), np.sin(double), 0.0]), phase_rad)


class Controller:
    """Four squeezers and three paddles; an instrument sets ``voltages_mv`` (1 to 4) or ``paddles_deg`` (1 to 3)."""

    def __init__(self) -> None:
        self.voltages_mv = dict.fromkeys(range(1, 5), 0.0)
        self.paddles_deg = dict.fromkeys(range(1, 4), 0.0)

    def rotation(self) -> Floats:
        """The present rotation."""
        total = np.eye(3)
        for number, axis_deg in enumerate(SQUEEZER_DEG, start=1):
            total = retarder(axis_deg, np.pi * self.voltages_mv[number] / V_PI_MV) @ total
        for number, phase_rad in enumerate(PADDLE_RAD, start=1):
            total = retarder(self.paddles_deg[number], phase_rad) @ total
        return total


class Fibre:
    """Birefringence that wanders: a random rotation at the start, then small ones.

    Args:
        wander_rad_per_sqrt_s: standard deviation of each component of the rotation after a second.
        rng: this object's own generator.
    """

    def __init__(self, wander_rad_per_sqrt_s: float, rng: np.random.Generator) -> None:
        self.wander = wander_rad_per_sqrt_s
        self.rng = rng
        self.rotation = self._random()

    def _random(self) -> Floats:
        return rotation(self.rng.normal(size=3), float(self.rng.uniform(0.0, np.pi)))

    def advance(self, seconds: float) -> None:
        """Lets it wander for some time."""
        step = self.rng.normal(size=3) * self.wander * np.sqrt(seconds)
        angle = float(np.linalg.norm(step))
        if angle > 0.0:
            self.rotation = rotation(step, angle) @ self.rotation

    def jump(self) -> None:
        """Somebody touched the fibre: by 45 to 135 degrees about any axis, which no feedback overlooks."""
        angle_rad = float(self.rng.uniform(0.25 * np.pi, 0.75 * np.pi))
        self.rotation = rotation(self.rng.normal(size=3), angle_rad) @ self.rotation


def shares(arriving: Floats, analyser: Floats, contrast: float) -> Floats:
    """Share of the light in each detector of a basis, [states, detectors], from states [s, 3] and axes [d, 3]."""
    return np.asarray(0.5 * (1.0 + contrast * arriving @ analyser.T))
