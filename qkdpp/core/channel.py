"""Detection model of weak coherent pulses: gains and error rates per intensity in closed form.

Shared by the simulator and by estimation. It assumes phase-randomised coherent light, threshold detectors
and a random bit for a double click of the same basis; it is pure and uses NumPy only. Formulas:
``docs/security.md`` (decoy-state model); Ma, Qi, Zhao, Lo, Phys. Rev. A 72, 012326 (2005).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def transmittance(loss_db: float) -> float:
    """Share of the light that is left after ``loss_db`` decibels."""
    return float(10.0 ** (-loss_db / 10.0))


def fibre_loss_db(length_km: float, attenuation_db_per_km: float) -> float:
    """Loss of a fibre in decibels."""
    return length_km * attenuation_db_per_km


def dark_per_gate(dark_rate_hz: float, gate_s: float) -> float:
    """Probability of at least one dark count of a free-running detector within one gate."""
    return -math.expm1(-dark_rate_hz * gate_s)


def gate_acceptance(gate_s: float, jitter_s: float) -> float:
    """Share of clicks inside a gate of full width ``gate_s`` around a Gaussian of standard deviation ``jitter_s``."""
    return 1.0 if jitter_s == 0.0 else math.erf(gate_s / (2.0 * math.sqrt(2.0) * jitter_s))


def rotated_misalignment(misalignment: float, rotation_rad: float) -> float:
    """Error probability of a photon when a linear polarisation is also rotated by ``rotation_rad``.

    ``misalignment`` is the error at no rotation (contrast ``1 - 2 misalignment``); the same in both linear bases.
    """
    return 0.5 * (1.0 - (1.0 - 2.0 * misalignment) * math.cos(2.0 * rotation_rad))


def live_share(incident_rate_hz: float, dead_time_s: float) -> float:
    """Share of time a non-paralysable detector is live, from the rate it would click without dead time.

    Put the rate of all detectors together if an event counts only while all of them are live.
    """
    return 1.0 / (1.0 + incident_rate_hz * dead_time_s)


def all_live_share(incident_rates_hz: Sequence[float], dead_time_s: float, blanking_s: float) -> float:
    """Share of time in which no detector clicked during the last ``blanking_s``, so that all of them are live.

    Each detector is non-paralysable with ``dead_time_s`` of its own; every recorded click blanks all detectors anew.
    Intervals between clicks of one detector are its dead time and an exponential: renewal theory gives the share
    exactly. A blanking shorter than the dead time is taken to be as long.
    """
    rest_s = max(blanking_s - dead_time_s, 0.0)
    return math.prod(math.exp(-r * rest_s) * live_share(r, dead_time_s) for r in incident_rates_hz)


def live_share_recorded(recorded_rate_hz: float, dead_time_s: float) -> float:
    """Share of time a non-paralysable detector is live, from the rate it recorded."""
    return 1.0 - recorded_rate_hz * dead_time_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gains:
    """Probabilities per pulse, one entry per intensity (float64[k]).

    Attributes:
        gain: a click in the basis (Q).
        error_gain: a click with the wrong bit after random assignment of double clicks (E Q).
        double_gain: both detectors click.
    """

    gain: Floats
    error_gain: Floats
    double_gain: Floats

    @property
    def error_rate(self) -> Floats:
        """Error rate per intensity (E); 1/2 where nothing clicks."""
        return np.divide(self.error_gain, self.gain, out=np.full_like(self.gain, 0.5), where=self.gain > 0)

    def mean_gain(self, p_intensity: Sequence[float]) -> float:
        """Gain averaged over the intensities as sent."""
        return float(np.dot(np.asarray(p_intensity, dtype=np.float64), self.gain))

    def with_after_pulses(self, after_pulse: float, p_intensity: Sequence[float]) -> Gains:
        """Adds after-pulses: each click causes ``after_pulse`` further clicks of random bit in other pulses' gates.

        First order in the click probability: ``Q += p Qbar``, ``E Q += p Qbar / 2``.
        """
        extra = after_pulse * self.mean_gain(p_intensity)
        return replace(self, gain=self.gain + extra, error_gain=self.error_gain + extra / 2)


def simple_gains(
    intensities: Sequence[float], *, transmittance: float, background: float, misalignment: float
) -> Gains:
    """The usual first-order model: ``Q = Y0 + 1 - exp(-eta mu)``, ``E Q = Y0 / 2 + e_d (1 - exp(-eta mu))``.

    ``background`` is Y0, the click probability of an empty pulse, all detectors of the basis together.
    """
    click = -np.expm1(-transmittance * np.asarray(intensities, dtype=np.float64))
    return Gains(
        gain=background + click,
        error_gain=background / 2 + misalignment * click,
        double_gain=np.zeros_like(click),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoDetectors:
    """The two threshold detectors of one basis; pairs are (detector of bit 0, detector of bit 1).

    Attributes:
        transmittance: share of the source's photons that a detector of relative efficiency 1 would detect in this
            basis. A passive receiver's splitting ratio is part of it.
        misalignment: probability that a photon of the right basis goes to the wrong detector.
        dark: dark click probability per gate.
        efficiency: relative efficiencies (mismatch).
        live: share of gates in which the detector is not dead.
    """

    transmittance: float
    misalignment: float = 0.0
    dark: tuple[float, float] = (0.0, 0.0)
    efficiency: tuple[float, float] = (1.0, 1.0)
    live: tuple[float, float] = (1.0, 1.0)

    def click_probability(self, detector: int, mean_photons: Floats) -> Floats:
        """Click probability of one detector that receives light of ``mean_photons`` (before its efficiency)."""
        dark = self.dark[detector]
        light = -np.expm1(-mean_photons * self.efficiency[detector])
        return np.asarray(self.live[detector] * (dark + (1.0 - dark) * light))

    def gains(self, intensities: Sequence[float]) -> Gains:
        """Gains for pulses prepared in this basis, averaged over the two bit values; exact for threshold detectors."""
        light = self.transmittance * np.asarray(intensities, dtype=np.float64)
        gain, error, double = np.zeros_like(light), np.zeros_like(light), np.zeros_like(light)
        for bit in (0, 1):
            right = self.click_probability(bit, light * (1.0 - self.misalignment))
            wrong = self.click_probability(1 - bit, light * self.misalignment)
            gain += (1.0 - (1.0 - right) * (1.0 - wrong)) / 2
            error += (wrong * (1.0 - right) + right * wrong / 2) / 2
            double += right * wrong / 2
        return Gains(gain=gain, error_gain=error, double_gain=double)
