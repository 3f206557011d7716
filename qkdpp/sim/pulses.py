"""Weak coherent pulses at a receiver: which pulses reach which detectors.

Every pulse has its state from a seed addressed by pulse number (``qkdpp.sources.prepared_states``), so any pulse's
state can be looked up and none has to be stored. Pulses that may click are drawn by geometric gaps at the largest
click probability of a slice; each is then kept or not by its own probability. Coherent light splits into
independent Poisson numbers per detector, so photon statistics, double clicks and cross-basis clicks come out
right. The work grows with the clicks, not with the pulses sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core import channel
from qkdpp.core.entropy import expand_blocks
from qkdpp.scenarios import scenario
from qkdpp.sim.clock import FS_PER_S, Femtoseconds
from qkdpp.sim.path import Path
from qkdpp.sim.receiver import Cause, Events, events
from qkdpp.sources.prepared_states import Codes, PreparedHeader, Slots, seed_codes

SLICE_CANDIDATES = 1 << 17
"""Pulses looked at per slice, on average."""
SLICE_S = 0.5
"""Longest slice, so that drifts are followed."""
POLARISATION_RAD = np.deg2rad(np.array([0.0, 90.0, 45.0, 135.0]))
"""Linear polarisations of the codes 0 to 3 (H, V, D, A)."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Pulses that were looked at (int64[n], increasing) and their state codes (uint8[n])."""

    slots: Slots
    codes: Codes


class PulseLink:
    """Source and light path of a prepare-and-measure link.

    Args:
        plan: the scenario; ``header``: what Alice's record will say; ``path``: the way of the light.
        state_seed, basis_seed: 32 bytes each for Alice's states and for Bob's active basis choices.
        rng: this object's own generator.
    """

    def __init__(
        self,
        plan: scenario.Scenario,
        header: PreparedHeader,
        path: Path,
        *,
        state_seed: bytes,
        basis_seed: bytes,
        rng: np.random.Generator,
    ) -> None:
        self.receiver, self.channel = plan.bob.receiver, plan.channel
        self.header, self.path, self.rng = header, path, rng
        self.state_seed, self.basis_seed = state_seed, basis_seed
        self.intensities = np.array(header.intensities)
        self.efficiency = np.array(self.receiver.efficiency) * channel.transmittance(self.receiver.loss_db)
        delays_ps = self.receiver.delays_ps or [0.0] * self.receiver.n_detectors
        self.delay_fs = np.rint(np.array(delays_ps) * 1e3).astype(np.int64)
        self.n_candidates = 0

    # --- pulse numbers and times ------------------------------------------------------------------------------------

    def emission_fs(self, slots: Slots) -> Femtoseconds:
        """When pulses leave Alice."""
        whole, part = divmod(self.header.pulse_period_as, 1000)
        return np.asarray(slots * whole + slots * part // 1000)

    def nearest(self, time_fs: Femtoseconds, detector: NDArray[np.uint8]) -> tuple[Slots, NDArray[np.int64]]:
        """Pulse numbers (possibly outside the run) nearest to clicks, and how far the clicks lie from their centres.

        The detectors' delays are taken off; distances are in fs.
        """
        emission = self.path.emission_fs(time_fs - self.delay_fs[detector])
        slots = np.rint(emission * (1000.0 / self.header.pulse_period_as)).astype(np.int64)
        return slots, emission - self.emission_fs(slots)

    def slices(self) -> Iterator[tuple[int, int]]:
        """Runs of pulse numbers with about :data:`SLICE_CANDIDATES` candidates each."""
        longest = max(1, int(SLICE_S * 1e18 / self.header.pulse_period_as))
        first = 0
        while first < self.header.n_pulses:
            limit = min(self.header.n_pulses, first + longest)
            size = int(SLICE_CANDIDATES / max(self._largest(first, limit, self._shares(first, limit)), 1e-12)) + 1
            yield first, min(limit, first + size)
            first = min(limit, first + size)

    # --- states and bases -------------------------------------------------------------------------------------------

    def states(self, slots: Slots) -> Codes:
        """Alice's state codes."""
        return seed_codes(self.header, self.state_seed, slots)

    def bob_basis(self, slots: Slots) -> NDArray[np.uint8]:
        """Bob's active basis choice (0 = Z) at each pulse."""
        words = expand_blocks(self.basis_seed, "receiver basis", np.abs(slots))[:, 0]
        return ((words >> np.uint64(32)) >= np.uint64(round(self.receiver.p_z * 2**32))).astype(np.uint8)

    def label(self, time_fs: Femtoseconds, detector: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Codes of clicks of an active receiver: the basis set at that time, and the detector's bit."""
        return (self.bob_basis(self.nearest(time_fs, detector)[0]) << 1 | detector).astype(np.uint8)

    # --- light ------------------------------------------------------------------------------------------------------

    def _shares(self, first: int, stop: int) -> Floats:
        """Share of the arriving light that each detector detects, [Bob's basis (active), state, detector].

        A passive receiver has one row; a rotation of the polarisation is taken at the middle of the slice.
        """
        middle_s = float(self.emission_fs(np.array([(first + stop) // 2]))[0]) / FS_PER_S
        turned = self.channel.rotation_rad + self.channel.rotation_rad_per_s * middle_s
        angle = POLARISATION_RAD[:, None] - POLARISATION_RAD[None, :] + turned
        contrast = 1.0 - 2.0 * self.channel.misalignment
        to_code = 0.5 * (1.0 + contrast * np.cos(2.0 * angle))
        if self.receiver.kind == "active":
            return np.stack([to_code[:, :2] * self.efficiency, to_code[:, 2:] * self.efficiency])
        split = np.repeat([self.receiver.p_z, 1.0 - self.receiver.p_z], 2)
        return np.asarray((to_code * split * self.efficiency)[None])

    def _largest(self, first: int, stop: int, shares: Floats) -> float:
        """Largest click probability of any pulse of the slice."""
        ends = self.emission_fs(np.array([first, stop - 1]))
        best = self.path.best_transmittance(int(ends[0]), int(ends[1]))
        return float(-np.expm1(-self.intensities.max() * best * shares.sum(axis=2).max() * (1 + 1e-9)))

    def _candidates(self, first: int, stop: int, probability: float) -> Candidates:
        """Pulses of the slice, each taken with ``probability``."""
        parts = [np.empty(0, dtype=np.int64)]
        last = first - 1
        while probability > 0.0 and last < stop:
            n = int((stop - last) * probability * 1.01) + 100
            gaps = self.rng.geometric(probability, n)
            parts.append(last + np.cumsum(gaps))
            last = int(parts[-1][-1])
        slots = np.concatenate(parts)
        slots = slots[slots < stop]
        self.n_candidates += slots.size
        return Candidates(slots=slots, codes=self.states(slots))

    def light(self, first: int, stop: int) -> tuple[Events, Candidates]:
        """Light that detectors would detect from pulses ``first`` to ``stop``: arrival times and physical detectors."""
        shares = self._shares(first, stop)
        largest = self._largest(first, stop, shares)
        pulses = self._candidates(first, stop, largest)
        sent = self.emission_fs(pulses.slots)
        row = self.bob_basis(pulses.slots) if self.receiver.kind == "active" else 0
        light = (self.intensities[pulses.codes >> 2] * self.path.transmittance(sent))[:, None]
        means = light * shares[row, pulses.codes & 3]
        kept = self.rng.random(pulses.slots.size) * largest < -np.expm1(-means.sum(axis=1))
        clicks = self._which(means[kept])
        pulse, detector = np.nonzero(clicks)
        arrival = self.path.arrival_fs(sent[kept])[pulse]
        return events(arrival, detector, Cause.PHOTON, pulses.slots[kept][pulse]), pulses

    def _which(self, means: Floats) -> NDArray[np.bool_]:
        """Which detectors see light, bool[n, detectors], given that at least one does."""
        n, detectors = means.shape
        clicks = np.zeros((n, detectors), dtype=np.bool_)
        none_yet = np.ones(n, dtype=np.bool_)
        remaining = np.cumsum(means[:, ::-1], axis=1)[:, ::-1]
        for d in range(detectors):
            alone = -np.expm1(-means[:, d])
            some = np.where(none_yet, -np.expm1(-remaining[:, d]), 1.0)
            clicks[:, d] = self.rng.random(n) * some < alone
            none_yet &= ~clicks[:, d]
        return clicks

    def sync_fs(self, period_pulses: int, missing: float, first: int, stop: int) -> Femtoseconds:
        """Arrival times of the sync pulses sent with pulses ``first`` to ``stop``, some missing."""
        numbers = np.arange(-(-first // period_pulses) * period_pulses, stop, period_pulses, dtype=np.int64)
        seen = self.rng.random(numbers.size) >= missing
        return self.path.arrival_fs(self.emission_fs(numbers[seen]))
