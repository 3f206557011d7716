"""What a simulated instrument sees of its world, and defaults that let it run alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PS_PER_S = 10**12

Edges = tuple[NDArray[np.int64], NDArray[np.uint8]]
"""``times_ps`` int64[n], non-decreasing, on the clock of the instrument; ``inputs`` uint8[n], 0 for its first input."""


class EdgeSource(Protocol):
    """Electrical edges at the inputs of a tagger."""

    def edges(self, until_s: float) -> Edges:
        """Edges since the call before and before ``until_s`` (the first call: since 0)."""


class DetectorPort(Protocol):
    """A detector as its controller sees it: attributes that the controller sets, counts that it reads."""

    bias: float
    """In the unit of the controller (V or uA)."""
    temperature_c: float
    enabled: bool
    gate_delay_ps: float
    dead_time_s: float

    @property
    def bright(self) -> bool:
        """Whether so much light falls on it that a superconducting detector latches."""

    def counts(self, dwell_s: float) -> int:
        """Counts within the last ``dwell_s`` seconds."""


class Knob(Protocol):
    """One number that an instrument sets and the world reads (or the other way round), in the unit it states."""

    value: float


class NoEdges:
    """Dark inputs."""

    def edges(self, until_s: float) -> Edges:
        """Nothing."""
        return np.empty(0, np.int64), np.empty(0, np.uint8)


class PoissonEdges:
    """Independent Poisson edges at every input.

    Args:
        rates_hz: mean rate of each input.
        rng: source of the simulated chance.
    """

    def __init__(self, rates_hz: tuple[float, ...], rng: np.random.Generator) -> None:
        self.rates_hz, self.rng = rates_hz, rng
        self._from_ps = 0

    def edges(self, until_s: float) -> Edges:
        """See :class:`EdgeSource`."""
        until_ps = round(until_s * PS_PER_S)
        span_ps = max(0, until_ps - self._from_ps)
        counts = self.rng.poisson(np.asarray(self.rates_hz) * (span_ps / PS_PER_S))
        times = self.rng.integers(0, max(span_ps, 1), size=int(counts.sum())) + self._from_ps
        inputs = np.repeat(np.arange(len(self.rates_hz), dtype=np.uint8), counts)
        order = np.argsort(times, kind="stable")
        self._from_ps = max(self._from_ps, until_ps)
        return times[order], inputs[order]


class GivenEdges:
    """Edges known beforehand.

    Args:
        times_ps: int64[n], sorted.
        inputs: uint8[n].
    """

    def __init__(self, times_ps: NDArray[np.int64], inputs: NDArray[np.uint8]) -> None:
        self.times_ps = np.asarray(times_ps, dtype=np.int64)
        self.inputs = np.asarray(inputs, dtype=np.uint8)
        self._next = 0

    def edges(self, until_s: float) -> Edges:
        """See :class:`EdgeSource`."""
        end = int(np.searchsorted(self.times_ps, round(until_s * PS_PER_S), side="left"))
        part = slice(self._next, max(end, self._next))
        self._next = part.stop
        return self.times_ps[part], self.inputs[part]


@dataclass
class FixedDetector:
    """A detector that counts Poisson events at ``rate_hz`` while enabled, whatever its bias."""

    rng: np.random.Generator
    rate_hz: float = 1000.0
    bias: float = 0.0
    temperature_c: float = 20.0
    enabled: bool = True
    gate_delay_ps: float = 0.0
    dead_time_s: float = 0.0
    bright: bool = False

    def counts(self, dwell_s: float) -> int:
        """Counts of one dwell."""
        return int(self.rng.poisson(self.rate_hz * dwell_s)) if self.enabled else 0


@dataclass
class FixedKnob:
    """A number that only its instrument changes."""

    value: float = 0.0
