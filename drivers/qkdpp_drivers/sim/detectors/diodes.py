"""Detectors that run without a world: an avalanche diode and a nanowire, each as a controller sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


def with_dead_time(rate_hz: float, dead_time_s: float) -> float:
    """Counted rate of a detector that is blind for a fixed time after each count: n / (1 + n tau)."""
    return rate_hz / (1.0 + rate_hz * dead_time_s)


@dataclass(kw_only=True)
class Diode:
    """Avalanche diode; bias in volts.

    The efficiency grows with the excess bias as ``1 - exp(-excess / scale_v)``, dark counts grow with the excess and
    double every 10 degrees. Light above ``blinding_hz`` blinds it.

    Attributes:
        light_hz: photons per second that arrive.
        breakdown_v: no counts below.
        dark_hz_per_v: dark rate per volt of excess bias at -20 degrees Celsius.
    """

    rng: np.random.Generator
    light_hz: float = 20_000.0
    breakdown_v: float = 150.0
    scale_v: float = 5.0
    dark_hz_per_v: float = 50.0
    blinding_hz: float = 1e9
    bias: float = 0.0
    temperature_c: float = 20.0
    enabled: bool = True
    gate_delay_ps: float = 0.0
    dead_time_s: float = 1e-6

    @property
    def bright(self) -> bool:
        """Whether light blinds it."""
        return self.light_hz > self.blinding_hz

    def rate_hz(self) -> float:
        """Mean counted rate."""
        excess_v = self.bias - self.breakdown_v
        if not self.enabled or excess_v <= 0 or self.bright:
            return 0.0
        dark_hz = self.dark_hz_per_v * excess_v * 2.0 ** ((self.temperature_c + 20.0) / 10.0)
        return with_dead_time(self.light_hz * -math.expm1(-excess_v / self.scale_v) + dark_hz, self.dead_time_s)

    def counts(self, dwell_s: float) -> int:
        """Poisson counts of one dwell."""
        return int(self.rng.poisson(self.rate_hz() * dwell_s))


@dataclass(frozen=True, kw_only=True)
class Wire:
    """What a bias in microampere makes of a superconducting nanowire.

    The efficiency follows a sigmoid of the bias, dark counts rise exponentially towards ``knee_ua``.

    Attributes:
        half_ua: bias of half the highest efficiency.
    """

    half_ua: float = 9.0
    width_ua: float = 1.0
    knee_ua: float = 18.0

    def efficiency(self, bias_ua: float) -> float:
        """Share of the photons that are detected."""
        return 1.0 / (1.0 + math.exp(-(bias_ua - self.half_ua) / self.width_ua))

    def dark_factor(self, bias_ua: float) -> float:
        """Dark rate over that at the knee."""
        return math.exp(2.0 * (bias_ua - self.knee_ua))


WIRE = Wire()


@dataclass(kw_only=True)
class Nanowire:
    """A nanowire in weak light; bias in microampere, critical current known to its controller.

    Attributes:
        light_hz: photons per second that arrive.
    """

    rng: np.random.Generator
    light_hz: float = 100_000.0
    bias: float = 0.0
    temperature_c: float = -270.6
    enabled: bool = True
    gate_delay_ps: float = 0.0
    dead_time_s: float = 50e-9
    bright: bool = False

    def rate_hz(self) -> float:
        """Mean counted rate."""
        if not self.enabled or self.bias <= 0:
            return 0.0
        detected_hz = self.light_hz * WIRE.efficiency(self.bias) + 100.0 * WIRE.dark_factor(self.bias)
        return with_dead_time(detected_hz, self.dead_time_s)

    def counts(self, dwell_s: float) -> int:
        """Poisson counts of one dwell."""
        return int(self.rng.poisson(self.rate_hz() * dwell_s))
