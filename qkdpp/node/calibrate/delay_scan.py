"""Delay scan: the gate of every detector is moved to where the light is.

All detectors step their gate delays at the same time while the sender sends
random states; each keeps the delay of its maximum (Chen et al. 2021, Methods,
Delay scanning: steps of 12.5 ps, 100 ms each).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.node.calibrate.counting import Ask, Counting
from qkdpp.node.calibrate.restoring import restored

SIGNIFICANCE = 5.0
"""A maximum stands so many standard deviations above the median of its scan."""


class Delays(Protocol):
    """Gate delays by detector code."""

    def set_delay_ps(self, detector: int, delay_ps: float) -> float:
        """Sets one and returns what was really set."""
        ...

    def delay_ps(self, detector: int) -> float:
        """The present one."""
        ...


class DelayScanSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``span_ps`` is scanned from ``start_ps`` on: at least a gate period."""

    start_ps: float = 0.0
    span_ps: float = 800.0
    step_ps: float = 12.5
    dwell_s: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DelayScan:
    """What a scan found.

    Attributes:
        before_ps: float64[4], delays before the scan.
        delay_ps: float64[4, n], delays as set, by detector.
        counts: int64[4, n].
        best_ps: float64[4], delay of the maximum; what is set when the scan ends.
        failed: detectors without a maximum.
    """

    before_ps: tuple[float, ...]
    delay_ps: NDArray[np.float64]
    counts: NDArray[np.int64]
    best_ps: tuple[float, ...]
    failed: tuple[int, ...]

    @property
    def centre_ps(self) -> NDArray[np.float64]:
        """Middle of each maximum, float64[4], finer than a step: phase of the first harmonic over the span."""
        n = self.delay_ps.shape[1]
        first = self.delay_ps[:, 0]
        span = (self.delay_ps[:, -1] - first) * n / (n - 1)
        turns = np.exp(2j * np.pi * (self.delay_ps - first[:, None]) / span[:, None])
        phase = np.angle((self.counts * turns).sum(axis=1))
        return np.asarray(first + phase % (2 * np.pi) / (2 * np.pi) * span)

    @property
    def ok(self) -> bool:
        """Whether every detector has its maximum."""
        return not self.failed


def scan_delays(
    delays: Delays,
    counting: Counting,
    ask: Ask,
    settings: DelayScanSettings,
    progress: Callable[[float], None] = lambda share: None,
) -> DelayScan:
    """Scans, and leaves every detector at its maximum (a failed one where its largest count was).

    If the scan cannot be ended, all delays are put back.
    """
    n = round(settings.span_ps / settings.step_ps)
    delay, counts = np.zeros((4, n)), np.zeros((4, n), dtype=np.int64)
    before = tuple(delays.delay_ps(detector) for detector in range(4))

    def put(where: Sequence[float]) -> list[float]:
        return [delays.set_delay_ps(detector, delay_ps) for detector, delay_ps in enumerate(where)]

    with restored("gate delays", lambda: put(before)):
        ask.send("RANDOM")
        for i in range(n):
            delay[:, i] = put([settings.start_ps + i * settings.step_ps] * 4)
            counts[:, i] = counting.counts(settings.dwell_s)
            progress((i + 1) / n)
        best = put([float(delay[d, i]) for d, i in enumerate(counts.argmax(axis=1))])
    return DelayScan(before_ps=before, delay_ps=delay, counts=counts, best_ps=tuple(best), failed=tuple(_flat(counts)))


def _flat(counts: NDArray[np.int64]) -> list[int]:
    """Detectors whose maximum does not stand out."""
    middle = np.median(counts, axis=1)
    return np.flatnonzero(counts.max(axis=1) - middle < SIGNIFICANCE * np.sqrt(middle + 1)).tolist()
