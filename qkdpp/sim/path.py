"""The way of the light: loss and propagation time, constant (fibre) or along a satellite pass."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qkdpp.core import channel
from qkdpp.scenarios import scenario
from qkdpp.scenarios.orbit import Orbit
from qkdpp.sim.clock import FS_PER_S, Femtoseconds

LIGHT_KM_S = 299_792.458
FIBRE_FS_PER_KM = 4_900_000_000
"""Propagation time in fibre of group index 1.469."""

Floats = NDArray[np.float64]


class Path(Protocol):
    """Times are int64 fs of true time; emission times may lie before 0."""

    def transmittance(self, emission_fs: Femtoseconds) -> Floats:
        """Share of the light that arrives."""
        ...

    def best_transmittance(self, first_fs: int, last_fs: int) -> float:
        """The largest transmittance between two emission times."""
        ...

    def arrival_fs(self, emission_fs: Femtoseconds) -> Femtoseconds:
        """When light emitted then arrives."""
        ...

    def emission_fs(self, arrival_fs: Femtoseconds) -> Femtoseconds:
        """When light that arrives then was emitted (to 1 fs)."""
        ...


class FixedPath:
    """A fibre: constant loss and delay."""

    def __init__(self, loss_db: float, length_km: float) -> None:
        self.share = channel.transmittance(loss_db)
        self.delay_fs = round(length_km * FIBRE_FS_PER_KM)

    def transmittance(self, emission_fs: Femtoseconds) -> Floats:
        """See :class:`Path`."""
        return np.full(emission_fs.size, self.share)

    def best_transmittance(self, first_fs: int, last_fs: int) -> float:
        """See :class:`Path`."""
        return self.share

    def arrival_fs(self, emission_fs: Femtoseconds) -> Femtoseconds:
        """See :class:`Path`."""
        return emission_fs + self.delay_fs

    def emission_fs(self, arrival_fs: Femtoseconds) -> Femtoseconds:
        """See :class:`Path`."""
        return arrival_fs - self.delay_fs


class PassPath:
    """Downlink from a circular orbit, ground station fixed: range, Doppler and loss follow from geometry."""

    def __init__(self, loss_db: float, plan: scenario.SatellitePass, duration_s: float) -> None:
        self.orbit = Orbit(plan)
        self.middle_fs = round(duration_s / 2 * FS_PER_S)
        self.closest = channel.transmittance(loss_db)

    def _seconds(self, fs: Femtoseconds) -> Floats:
        return (fs - self.middle_fs) / FS_PER_S

    def transmittance(self, emission_fs: Femtoseconds) -> Floats:
        """See :class:`Path`."""
        return self.closest * self.orbit.relative_transmittance(self._seconds(emission_fs))

    def best_transmittance(self, first_fs: int, last_fs: int) -> float:
        """See :class:`Path`: one maximum, at the closest approach."""
        nearest = np.array([min(max(self.middle_fs, first_fs), last_fs)], dtype=np.int64)
        return float(self.transmittance(nearest)[0])

    def _delay_fs(self, emission_fs: Femtoseconds) -> Femtoseconds:
        delay = self.orbit.range_km(self._seconds(emission_fs)) / LIGHT_KM_S * FS_PER_S
        return np.asarray(np.rint(delay).astype(np.int64))

    def arrival_fs(self, emission_fs: Femtoseconds) -> Femtoseconds:
        """See :class:`Path`."""
        return emission_fs + self._delay_fs(emission_fs)

    def emission_fs(self, arrival_fs: Femtoseconds) -> Femtoseconds:
        """See :class:`Path`: the delay changes by less than 3e-5 of the time, so three rounds reach 1 fs."""
        emission = arrival_fs
        for _ in range(3):
            emission = arrival_fs - self._delay_fs(emission)
        return emission


def build(plan: scenario.Channel, duration_s: float) -> Path:
    """The path of a prepare-and-measure link."""
    if plan.satellite is not None:
        return PassPath(plan.loss_db, plan.satellite, duration_s)
    fibre_db = channel.fibre_loss_db(plan.length_km, plan.attenuation_db_per_km)
    return FixedPath(plan.loss_db + fibre_db, plan.length_km)
