"""What instruments set and read in the world; every number has its unit in its name."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qkdpp_drivers.sim.world.polarisation import Controller

GATE_FWHM_PS = 180.0
"""Effective width of a sine-wave gate (Chen et al. 2021, Methods)."""
MONITOR_DARK_A = 2e-7
BLINDING_A = 8e-5


@dataclass(slots=True, kw_only=True)
class DetectorKnobs:
    """One detector.

    Attributes:
        bias_efficiency, bias_dark: what its present bias makes of the nominal efficiency and dark rate (factors).
        gate_delay_ps: delay of its gate; light is detected where gate and light meet.
        gate_optimum_ps: gate delay at which they meet.
        enabled: whether it detects at all.
        current_a: what a meter in its bias line shows.
    """

    gate_period_ps: float = 0.0
    gate_optimum_ps: float = 0.0
    bias_efficiency: float = 1.0
    bias_dark: float = 1.0
    gate_delay_ps: float = 0.0
    enabled: bool = True
    current_a: float = MONITOR_DARK_A

    def efficiency_factor(self, shift_ps: float = 0.0) -> float:
        """Efficiency over the nominal one for light that comes ``shift_ps`` late."""
        return self.bias_efficiency * self._gate(shift_ps) if self.enabled else 0.0

    def dark_factor(self) -> float:
        """Dark rate over the nominal one."""
        return self.bias_dark if self.enabled else 0.0

    def _gate(self, shift_ps: float) -> float:
        if not self.gate_period_ps:
            return 1.0
        off = self.gate_delay_ps - self.gate_optimum_ps - shift_ps
        off -= self.gate_period_ps * round(off / self.gate_period_ps)
        return float(np.exp(-4.0 * np.log(2.0) * (off / GATE_FWHM_PS) ** 2))


@dataclass(slots=True, kw_only=True)
class Eve:
    """The eavesdropper; several can act at once, but ``splitting`` and ``blinding`` replace the ordinary light.

    Attributes:
        intercept: share of the pulses that are measured in a random basis and sent on as found.
        splitting: photon-number splitting: of several photons one is kept and the rest sent on without loss, single
            photons are blocked as far as the gain of the signal allows.
        blinding: bright light blinds all detectors, and they click where Eve's bases and theirs agree.
        shift_ps: pulses are delayed by so much; ``shift_share``: of which share.
    """

    intercept: float = 0.0
    splitting: bool = False
    blinding: bool = False
    shift_ps: float = 0.0
    shift_share: float = 0.0


@dataclass(slots=True, kw_only=True)
class Knobs:
    """All that can be set: four detectors, a polarisation controller per basis, an attenuator, a switch, and Eve.

    ``fibre_connected``: nobody has cut it; ``switched_through``: a switch between fibre and receiver connects them.
    """

    detectors: tuple[DetectorKnobs, ...] = field(default_factory=lambda: tuple(DetectorKnobs() for _ in range(4)))
    controllers: tuple[Controller, Controller] = field(default_factory=lambda: (Controller(), Controller()))
    attenuation_db: float = 0.0
    fibre_connected: bool = True
    switched_through: bool = True
    laser_on: bool = True
    eve: Eve = field(default_factory=Eve)

    def light_factor(self) -> float:
        """Share of the light that passes attenuator and switch."""
        passes = self.laser_on and self.fibre_connected and self.switched_through
        return float(10.0 ** (-self.attenuation_db / 10.0)) if passes else 0.0
