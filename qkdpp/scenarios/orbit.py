"""Geometry of a satellite pass: range and transmittance of a downlink from a circular orbit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkdpp.scenarios.scenario import SatellitePass

EARTH_RADIUS_KM = 6371.0
EARTH_GM_KM3_S2 = 398_600.4

Floats = NDArray[np.float64]


class Orbit:
    """A circular orbit over a ground station that stands still; times are seconds from the closest approach."""

    def __init__(self, plan: SatellitePass) -> None:
        self.radius_km = EARTH_RADIUS_KM + plan.altitude_km
        self.rate = float(np.sqrt(EARTH_GM_KM3_S2 / self.radius_km**3))
        self.squares = EARTH_RADIUS_KM**2 + self.radius_km**2
        self.cos_closest = (self.squares - plan.closest_km**2) / (2 * EARTH_RADIUS_KM * self.radius_km)
        self.zenith = plan.zenith_transmission
        self.reference = float(self._light(np.zeros(1))[0])

    def range_km(self, t: Floats) -> Floats:
        """Distance from station to satellite."""
        cosine = self.cos_closest * np.cos(self.rate * t)
        return np.asarray(np.sqrt(self.squares - 2 * EARTH_RADIUS_KM * self.radius_km * cosine))

    def _light(self, t: Floats) -> Floats:
        distance = self.range_km(t)
        up = (self.radius_km**2 - EARTH_RADIUS_KM**2 - distance**2) / (2 * EARTH_RADIUS_KM * distance)
        air_mass = 1.0 / np.maximum(up, 0.05)
        return np.asarray(self.zenith**air_mass / distance**2)

    def relative_transmittance(self, t: Floats) -> Floats:
        """Transmittance as a share of that at the closest approach: inverse square of the range, and air mass."""
        return self._light(t) / self.reference
