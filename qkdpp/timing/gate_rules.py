"""What the gate needs and what it yields; shared by the portable and the fast form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.timing.clock import Clock

NEVER = -(1 << 61)
"""A tick before all ticks."""
LOST, UNLOCKED, OUTSIDE, BLANKED, REPEATED = range(5)
"""Rows of the counters: why a click made no detection of its own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GateRules:
    """Rules of one gating pass, ready for the kernel.

    Attributes:
        clock: from local ticks to slots.
        code: int8[256], detector code (0 to 3) by channel index, -1 where the channel is no detector.
        whole_ticks: int64[256], delay by channel index, whole ticks.
        part_ticks: float64[256], what the delay has beyond whole ticks.
        gap_start: int64[g], starts of intervals in which nothing counts, in corrected ticks, sorted and disjoint.
        gap_end: int64[g], their ends (exclusive).
        dead_ticks: a click counts only if no detector clicked in so many ticks before it.
        half_gate_slots: largest distance from the middle of the gate.
        offset_slots: middle of the gate.
        bins: bins of the arrival histogram over one slot.
    """

    clock: Clock
    code: NDArray[np.int8]
    whole_ticks: NDArray[np.int64]
    part_ticks: NDArray[np.float64]
    gap_start: NDArray[np.int64]
    gap_end: NDArray[np.int64]
    dead_ticks: int
    half_gate_slots: float
    offset_slots: float
    bins: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clicks:
    """Slots with at least one valid click.

    Attributes:
        slots: int64[n], strictly increasing.
        mask: uint8[n], bit ``d`` set if detector ``d`` clicked.
        leader: uint8[n], detector code of the first click.
        at_tick: int64[n], corrected tick of the first click.
        histogram: int64[4, bins], arrivals over the slot of all clicks while locked.
        counters: int64[5], clicks lost, unlocked, outside the gate, blanked, repeated on the same detector in one slot.
    """

    slots: NDArray[np.int64]
    mask: NDArray[np.uint8]
    leader: NDArray[np.uint8]
    at_tick: NDArray[np.int64]
    histogram: NDArray[np.int64]
    counters: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"Clicks(n={self.slots.size})"
