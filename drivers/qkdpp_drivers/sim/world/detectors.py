"""One detector of a pulsed world as its controller sees it: what a bias makes of its efficiency and dark counts."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

from qkdpp_drivers.sim.detectors.diodes import WIRE
from qkdpp_drivers.sim.simulated import Clock
from qkdpp_drivers.sim.world.pulsed import PulsedWorld

BREAKDOWN_V, NOMINAL_V = 150.0, 160.0
CRITICAL_UA, NOMINAL_UA = 20.0, 18.0


class WorldDetector(ABC):
    """A :class:`qkdpp_drivers.sim.ports.DetectorPort`; at the bias ``NOMINAL`` it is what the scenario says.

    Args:
        world: where it is.
        detector: 0 to 3 for Z0, Z1, X0, X1.
        clock: of the laboratory.
    """

    NOMINAL: ClassVar[float]

    def __init__(self, world: PulsedWorld, detector: int, clock: Clock) -> None:
        self._world, self._detector, self._clock = world, detector, clock
        self._knobs = world.knobs.detectors[detector]
        self._bias = self.NOMINAL
        self.temperature_c = 20.0
        self.gate_delay_ps = 0.0
        self.dead_time_s = 0.0

    @abstractmethod
    def factors(self, bias: float) -> tuple[float, float]:
        """Efficiency and dark rate at this bias over those at the nominal one."""

    @property
    def bias(self) -> float:
        """In the unit of ``NOMINAL``."""
        return self._bias

    @bias.setter
    def bias(self, value: float) -> None:
        self._bias = value
        self._knobs.bias_efficiency, self._knobs.bias_dark = self.factors(value)

    @property
    def enabled(self) -> bool:
        """Whether it detects at all."""
        return self._knobs.enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self._knobs.enabled = value

    @property
    def bright(self) -> bool:
        """Whether somebody blinds the receiver."""
        return self._world.knobs.eve.blinding

    def counts(self, dwell_s: float) -> int:
        """Clicks within the last ``dwell_s`` seconds."""
        self._world.advance(self._clock())
        return int(self._world.counts(dwell_s)[self._detector])


class WorldDiode(WorldDetector):
    """An avalanche diode, bias in volts: nothing below breakdown, then an efficiency that grows with the excess.

    Dark counts grow by e for every 2.5 V.
    """

    NOMINAL = NOMINAL_V

    def factors(self, bias: float) -> tuple[float, float]:
        """See the base class."""
        excess = (bias - BREAKDOWN_V) / (NOMINAL_V - BREAKDOWN_V)
        return (min(excess, 1.5), math.exp(4.0 * (excess - 1.0))) if excess > 0.0 else (0.0, 0.0)


class WorldNanowire(WorldDetector):
    """A superconducting nanowire, bias in microampere; its controller knows the critical current and latches it."""

    NOMINAL = NOMINAL_UA

    def factors(self, bias: float) -> tuple[float, float]:
        """See the base class."""
        if bias <= 0.0:
            return 0.0, 0.0
        return (
            WIRE.efficiency(bias) / WIRE.efficiency(NOMINAL_UA),
            WIRE.dark_factor(bias) / WIRE.dark_factor(NOMINAL_UA),
        )
