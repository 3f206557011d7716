"""The robust line through one window of sync pulses.

Pulses are numbered by the line of the window before. Those farther from the
line than five times its spread (from the median) are left out and the rest is
fitted by least squares, up to three times. The compiled kernel takes sums in
the order in which NumPy takes them; the NumPy form below is its definition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.kernels import compiled_tags
from qkdpp.kernels.backend import backend

MIN_SYNCS = 8
"""Fewer sync pulses in a window make no line."""
MIN_TOLERANCE_TICKS = 2.0

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """``time(k) = tick + offset + (k - number) * period``; statistics of the window it was fitted to."""

    tick: int
    number: int
    offset: float
    period: float
    kept: int = 0
    variance: float = 0.0
    bend: float = 0.0

    def time(self, number: int) -> int:
        """Tick nearest to sync pulse ``number``."""
        return self.tick + round(self.offset + (number - self.number) * self.period)

    def residue(self, number: int, tick: int) -> float:
        """How much later than sync pulse ``number`` a tick is, in ticks."""
        return (tick - self.tick) - self.offset - (number - self.number) * self.period


def fit_line(ticks: Ints, near: Line, number: int) -> Line | None:
    """The robust least-squares line through ``ticks``, numbered by the line ``near``; None without enough pulses."""
    if backend() != "c" or ticks.size > compiled_tags.MOST_ON_LINE:
        return _by_numpy(ticks, near, number)
    tick = near.time(number)
    found = compiled_tags.fit_line(np.ascontiguousarray(ticks), tick, near.period, MIN_TOLERANCE_TICKS)
    if found.kept == 0:
        return None
    return Line(
        tick=tick,
        number=number,
        offset=found.offset,
        period=near.period + found.slope,
        kept=found.kept,
        variance=found.variance,
        bend=found.bend,
    )


def _by_numpy(ticks: Ints, near: Line, number: int) -> Line | None:
    """The definition of ``csrc/line.c``."""
    if ticks.size < MIN_SYNCS:
        return None
    tick = near.time(number)
    x = (ticks - tick).astype(np.float64)
    k = np.rint(x / near.period)
    residual = x - k * near.period
    offset, slope = _median(residual), 0.0
    before: NDArray[np.bool_] | None = None
    for _ in range(3):
        off = np.abs(residual - offset - slope * k)
        spread = 1.4826 * _median(off)
        keep = off <= max(5 * spread, MIN_TOLERANCE_TICKS)
        if before is not None and np.array_equal(before, keep):
            break
        before = keep
        kept_k, kept = k[keep], residual[keep]
        if kept.size < MIN_SYNCS:
            return None
        centre, mean = float(kept_k.mean()), float(kept.mean())
        moment = float(((kept_k - centre) ** 2).sum())
        if moment == 0:
            return None
        slope = float(((kept_k - centre) * (kept - mean)).sum()) / moment
        offset = mean - slope * centre
    off = kept - offset - slope * kept_k
    variance = float((off**2).sum()) / (off.size - 2)
    return Line(
        tick=tick,
        number=number,
        offset=offset,
        period=near.period + slope,
        kept=off.size,
        variance=variance,
        bend=_bend(kept_k, off, variance),
    )


def _median(x: Floats) -> float:
    """The median; what np.median gives, without its preparations."""
    middle = x.size // 2
    low = middle - 1 + (x.size & 1)
    ordered = np.partition(x, (low, middle))
    return float((ordered[low] + ordered[middle]) / 2)


def _bend(k: Floats, off: Floats, variance: float) -> float:
    """Mean square of the quadratic part of the residuals, less what jitter alone would give (ticks squared)."""
    y = 2 * (k - k.mean()) / float(np.ptp(k))
    legendre = 1.5 * y * y - 0.5
    legendre -= legendre.mean()
    norm = float((legendre**2).sum())
    if norm == 0:
        return 0.0
    coefficient = float((legendre * off).sum()) / norm
    return (coefficient * coefficient * norm - variance) / off.size
