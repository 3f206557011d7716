"""Weak pulses through the present world: polarisation, gates, attenuator, eavesdropper."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from qkdpp.scenarios import scenario
from qkdpp.sim.clock import Femtoseconds
from qkdpp.sim.path import Path
from qkdpp.sim.pulses import PulseLink
from qkdpp.sim.receiver import Cause, Events, events
from qkdpp.sources.prepared_states import Codes, PreparedHeader, Slots
from qkdpp_drivers.sim.world.knobs import Knobs
from qkdpp_drivers.sim.world.polarisation import STATES, Fibre, shares

Floats = NDArray[np.float64]
BRIGHT = 100.0
"""Photons in a pulse of the synchronisation calibration, over those of a signal pulse."""
ALIGN = 10.0
"""The same for the constant states of the polarisation feedback."""
NONE = events(np.empty(0, dtype=np.int64), 0, Cause.PHOTON)


class Mode(IntEnum):
    """What the transmitter sends; the first four are constant states."""

    H = 0
    V = 1
    D = 2
    A = 3
    RANDOM = 4
    SYNC = 5
    OFF = 6


class WorldLight(PulseLink):
    """Light of one run of the transmitter; states follow ``mode``.

    Args:
        plan, header, path, rng: as for :class:`qkdpp.sim.pulses.PulseLink`; passive receivers only.
        knobs, fibre: the present world, looked at slice by slice.
        sparse: pulses from one to the next in mode ``SYNC``.
    """

    def __init__(
        self,
        plan: scenario.Scenario,
        header: PreparedHeader,
        path: Path,
        *,
        knobs: Knobs,
        fibre: Fibre,
        mode: Mode,
        sparse: int,
        state_seed: bytes,
        rng: np.random.Generator,
    ) -> None:
        super().__init__(plan, header, path, state_seed=state_seed, basis_seed=bytes(32), rng=rng)
        if self.receiver.kind != "passive":
            raise ValueError("the live world has passive receivers only")
        self.knobs, self.fibre, self.mode, self.sparse = knobs, fibre, mode, sparse
        self.base_pulse = 0
        self.p_intensity = np.array(header.p_intensity)
        self.contrast = 1.0 - 2.0 * self.channel.misalignment
        if mode < Mode.RANDOM:
            self.intensities = self.intensities * ALIGN

    def emission_fs(self, slots: Slots) -> Femtoseconds:
        """When pulses leave, since pulse ``base_pulse`` did."""
        return super().emission_fs(slots - self.base_pulse)

    def states(self, slots: Slots) -> Codes:
        """State codes of pulses of this run."""
        if self.mode is Mode.RANDOM:
            return super().states(slots)
        return np.full(slots.size, self.mode if self.mode < Mode.RANDOM else Mode.H, dtype=np.uint8)

    def arriving(self, shift_ps: float = 0.0) -> Floats:
        """Share of a pulse's photons that each detector detects, [state, detector]."""
        split = (self.receiver.p_z, 1.0 - self.receiver.p_z)
        found = []
        for basis, controller in enumerate(self.knobs.controllers):
            axes = STATES[2 * basis : 2 * basis + 2]
            turned = STATES @ (controller.rotation() @ self.fibre.rotation).T
            found.append(split[basis] * shares(turned, axes, self.contrast))
        factor = np.array([d.efficiency_factor(shift_ps) for d in self.knobs.detectors])
        return np.asarray(np.hstack(found) * (self.efficiency * factor * self.knobs.light_factor()))

    def seen(self, first: int, stop: int) -> Events:
        """Light that detectors would detect from pulses ``first`` to ``stop``, times as of :meth:`emission_fs`."""
        if self.mode is Mode.OFF or stop <= first:
            return NONE
        if self.mode is Mode.SYNC:
            return self._sparse(first, stop)
        eve = self.knobs.eve
        if eve.splitting or eve.blinding:
            return self._replaced(first, stop)
        return self._ordinary(first, stop)

    def _sparse(self, first: int, stop: int) -> Events:
        pulses = np.arange(-(-first // self.sparse) * self.sparse, stop, self.sparse, dtype=np.int64)
        sent = self.emission_fs(pulses)
        means = (BRIGHT * self.intensities[0] * self.path.transmittance(sent))[:, None] * self.arriving().mean(axis=0)
        pulse, detector = np.nonzero(self.rng.random(means.shape) < -np.expm1(-means))
        return events(self.path.arrival_fs(sent)[pulse], detector, Cause.PHOTON, pulses[pulse])

    def _ordinary(self, first: int, stop: int) -> Events:
        eve = self.knobs.eve
        usual, late = self.arriving(), self.arriving(eve.shift_ps)
        best = self.path.best_transmittance(*(int(t) for t in self.emission_fs(np.array([first, stop - 1]))))
        most = max(float(usual.sum(axis=1).max()), float(late.sum(axis=1).max()))
        largest = float(-np.expm1(-self.intensities.max() * best * most * (1 + 1e-9)))
        pulses = self._candidates(first, stop, largest)
        n = pulses.slots.size
        sent = self.emission_fs(pulses.slots)
        state = self._intercepted((pulses.codes & 3).astype(np.int64))
        shifted = self.rng.random(n) < eve.shift_share
        photons = self.intensities[pulses.codes >> 2] * self.path.transmittance(sent)
        means = photons[:, None] * np.where(shifted[:, None], late[state], usual[state])
        kept = self.rng.random(n) * largest < -np.expm1(-means.sum(axis=1))
        pulse, detector = np.nonzero(self._which(means[kept]))
        arrival = self.path.arrival_fs(sent) + shifted * round(eve.shift_ps * 1e3)
        return events(arrival[kept][pulse], detector, Cause.PHOTON, pulses.slots[kept][pulse])

    def _intercepted(self, state: NDArray[np.int64]) -> NDArray[np.int64]:
        """States after intercept-resend of a share of the pulses."""
        attacked = self.rng.random(state.size) < self.knobs.eve.intercept
        return np.where(attacked, self._measured(state), state)

    def _measured(self, state: NDArray[np.int64]) -> NDArray[np.int64]:
        """What Eve finds, measuring in a basis of her own."""
        basis = self.rng.integers(0, 2, state.size)
        bit = np.where(basis == state >> 1, state & 1, self.rng.integers(0, 2, state.size))
        return basis << 1 | bit

    def _replaced(self, first: int, stop: int) -> Events:
        """Photon-number splitting, or faked states for blinded detectors."""
        eve, table = self.knobs.eve, self.arriving()
        ends = self.emission_fs(np.array([first, stop - 1]))
        share = self.path.best_transmittance(int(ends[0]), int(ends[1]))
        detected = float(table.sum(axis=1).mean())
        if eve.blinding:
            click = -np.expm1(-self.intensities * share * detected)
        else:
            click = splitting_gains(self.intensities, self.p_intensity, share * detected, detected)
        largest = float(click.max())
        pulses = self._candidates(first, stop, largest)
        kept = self.rng.random(pulses.slots.size) * largest < click[pulses.codes >> 2]
        slots, state = pulses.slots[kept], (pulses.codes[kept] & 3).astype(np.int64)
        if eve.blinding:
            detector = self._measured(state)
        else:
            weight = np.cumsum(table / np.maximum(table.sum(axis=1, keepdims=True), 1e-300), axis=1)
            detector = (self.rng.random(slots.size)[:, None] > weight[state]).sum(axis=1).clip(0, 3)
        arrival: Femtoseconds = self.path.arrival_fs(self.emission_fs(slots))
        return events(arrival, detector, Cause.PHOTON, slots)


def splitting_gains(intensities: Floats, p_intensity: Floats, share: float, detected: float) -> Floats:
    """Click probability by intensity when pulses of several photons go on without loss, less one photon.

    The mean gain stays that of the ordinary link: on a lossy one several photons are enough, and no single photon is
    sent on; on a better one single photons make up the rest.

    Args:
        intensities: mean photon numbers, float64[k].
        p_intensity: their probabilities.
        share: click probability of a photon over the ordinary link.
        detected: the same of a photon that arrives without loss, below 1.
    """
    usual = float(p_intensity @ -np.expm1(-intensities * share))
    vacuum, single = np.exp(-intensities), intensities * np.exp(-intensities)
    missed = (np.exp(-intensities * detected) - vacuum) / (1.0 - detected) - single
    several = np.maximum(1.0 - vacuum - single - missed, 0.0)
    most = float(p_intensity @ several)
    if most >= usual:
        return np.asarray(several * (usual / most))
    forwarded = min((usual - most) / float(p_intensity @ single), detected)
    return np.asarray(several + forwarded * single)
