"""One detector of a pulsed world as its controller sees it: an avalanche diode whose bias is set in volts."""

from __future__ import annotations

from qkdpp_drivers.sim.simulated import Clock
from qkdpp_drivers.sim.world.pulsed import PulsedWorld

BREAKDOWN_V = 150.0
"""No counts below."""
NOMINAL_V = 160.0
"""The detector is then what the scenario says."""
DEAD_RATIO = 0.8
"""Where the world's bias curve begins (:class:`qkdpp_drivers.sim.world.knobs.DetectorKnobs`)."""


class WorldDiode:
    """A :class:`qkdpp_drivers.sim.ports.DetectorPort`.

    Args:
        world: where it is.
        detector: 0 to 3 for Z0, Z1, X0, X1.
        clock: of the laboratory.
    """

    def __init__(self, world: PulsedWorld, detector: int, clock: Clock) -> None:
        self._world, self._detector, self._clock = world, detector, clock
        self._knobs = world.knobs.detectors[detector]
        self._bias_v = NOMINAL_V
        self.temperature_c = 20.0
        self.gate_delay_ps = 0.0
        self.dead_time_s = 0.0

    @property
    def bias(self) -> float:
        """In volts."""
        return self._bias_v

    @bias.setter
    def bias(self, value: float) -> None:
        self._bias_v = value
        excess = max(0.0, value - BREAKDOWN_V) / (NOMINAL_V - BREAKDOWN_V)
        self._knobs.bias_ratio = DEAD_RATIO + (1.0 - DEAD_RATIO) * excess

    @property
    def enabled(self) -> bool:
        """Whether it detects at all."""
        return self._knobs.enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self._knobs.enabled = value and self._bias_v > BREAKDOWN_V

    def counts(self, dwell_s: float) -> int:
        """Clicks within the last ``dwell_s`` seconds."""
        self._world.advance(self._clock())
        return int(self._world.counts(dwell_s)[self._detector])
