"""The clock: which slot of the peer does a local tick fall in?

A clock is piecewise linear. Every piece has its own reference (a local tick,
the slot number there and the fraction of a slot), so that no absolute time is
ever a float: ticks may pass 2.6e17 and slots 2**50 while positions inside a
piece keep a resolution better than a millionth of a slot. Pieces carry a lock
flag; what lies in an unlocked piece, before the first or after the stop, has
no slot number that may be used.

A slot is a pulse period of the sender (prepare and measure) or a stated number
of the peer's ticks (entangled pairs). Times of the two clocks are related by
``t_local = (1 + u) t_peer + d``.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.tags import AS_PER_S
from qkdpp.kernels.tags import count_backward

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SERIES_POINTS = 400
"""At most this many points of a clock go into a report."""


class ClockReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a report says about a clock; all of it is public.

    Attributes:
        method: ``sync``, ``string`` or ``pairs``.
        time_s: local times (seconds since the first tag) of the series.
        offset_s: local time minus the peer's time at those times (seconds).
        rate_ppm: relative rate ``u`` of the local clock at those times (1e-6).
        line_offset_s: ``d`` of the straight line through the series (at the peer's time zero).
        line_rate_ppm: ``u`` of that line (1e-6).
        residual_rms_ps: rms of the measured points (sync pulses or slices) about the clock.
        significance: of the weakest correlation the clock rests on, in standard deviations (0 where none was needed).
        locked_share: share of the recording's time that is locked.
        notes: plain sentences on what was found or decided.
    """

    method: str
    time_s: tuple[float, ...]
    offset_s: tuple[float, ...]
    rate_ppm: tuple[float, ...]
    line_offset_s: float
    line_rate_ppm: float
    residual_rms_ps: float
    significance: float
    locked_share: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clock:
    """Piecewise-linear map from local ticks to the peer's slots.

    Attributes:
        knot_ticks: int64[k], strictly increasing; piece ``i`` runs from knot ``i`` to the next (the last to the stop).
        knot_slot: int64[k], slot number at the knot.
        knot_fraction: float64[k], what the position at the knot has beyond ``knot_slot``, in slots, -0.5 to 0.5.
        slots_per_tick: float64[k], slope of the piece.
        locked: bool[k].
        stop_tick: end of the last piece (exclusive).
    """

    knot_ticks: Ints
    knot_slot: Ints
    knot_fraction: Floats
    slots_per_tick: Floats
    locked: Mask
    stop_tick: int

    def __post_init__(self) -> None:
        shape = self.knot_ticks.shape
        columns = (self.knot_slot, self.knot_fraction, self.slots_per_tick, self.locked)
        if self.knot_ticks.ndim != 1 or not self.knot_ticks.size or any(c.shape != shape for c in columns):
            raise ValueError("a clock needs at least one piece and columns of equal length")
        if np.any(np.diff(self.knot_ticks) <= 0) or self.stop_tick < int(self.knot_ticks[-1]):
            raise ValueError("the knots of a clock must increase")

    def piece(self, ticks: Ints) -> NDArray[np.intp]:
        """Index of the piece of every tick; what lies before the first knot belongs to the first piece."""
        if ticks.size > self.knot_ticks.size and not count_backward(ticks):
            edges = np.searchsorted(ticks, self.knot_ticks[1:])
            return np.repeat(np.arange(self.knot_ticks.size), np.diff(edges, prepend=0, append=ticks.size))
        return np.maximum(np.searchsorted(self.knot_ticks, ticks, side="right") - 1, 0)

    def slots(self, ticks: Ints) -> tuple[Ints, Floats]:
        """Slot numbers (int64[n]) and positions inside the slot (float64[n], slots, in [-0.5, 0.5)) of local ticks.

        Pieces are extended beyond the ends of the clock; use :meth:`is_locked` to know what may be used.
        """
        i = self.piece(ticks)
        position = self.knot_fraction[i] + (ticks - self.knot_ticks[i]) * self.slots_per_tick[i]
        whole = np.floor(position + 0.5)
        return self.knot_slot[i] + whole.astype(np.int64), position - whole

    def is_locked(self, ticks: Ints) -> Mask:
        """Whether ticks lie in a locked piece, not before the first knot and not after the stop."""
        inside: Mask = (ticks >= self.knot_ticks[0]) & (ticks < self.stop_tick)
        return inside & self.locked[self.piece(ticks)]

    def locked_share(self, first_tick: int, last_tick: int) -> float:
        """Share of the time from ``first_tick`` to ``last_tick`` that is locked (0 to 1)."""
        if last_tick <= first_tick:
            return 0.0
        edges = np.clip(np.append(self.knot_ticks, self.stop_tick), first_tick, last_tick)
        return float(np.diff(edges)[self.locked].sum() / (last_tick - first_tick))

    def describe(
        self,
        *,
        method: str,
        tick_as: int,
        slot_as: int,
        first_tick: int,
        last_tick: int,
        residual_rms_ps: float,
        significance: float,
        origin_as: int = 0,
        notes: tuple[str, ...] = (),
    ) -> ClockReport:
        """The clock as a report: series at no more than 400 locked knots.

        Args:
            method: name of the method.
            tick_as: attoseconds per local tick.
            slot_as: nominal attoseconds per slot, by the peer's clock.
            first_tick: local tick that counts as time zero of the series.
            last_tick: local tick of the last tag.
            residual_rms_ps: rms of the points the clock was fitted to.
            significance: of the weakest correlation the clock rests on.
            origin_as: the peer's time in the middle of slot zero.
            notes: sentences for the report.
        """
        at = np.flatnonzero(self.locked)
        at = at[:: max(1, -(-at.size // SERIES_POINTS))]
        offset_as = [
            int(self.knot_ticks[i]) * tick_as
            - int(self.knot_slot[i]) * slot_as
            - origin_as
            - round(float(self.knot_fraction[i]) * slot_as)
            for i in at
        ]
        offset_s = np.array([value / AS_PER_S for value in offset_as], dtype=np.float64)
        local_s = np.array([int(self.knot_ticks[i]) * tick_as / AS_PER_S for i in at], dtype=np.float64)
        rate = tick_as / (self.slots_per_tick[at] * slot_as) - 1.0
        line_rate, line_offset = straight_line(local_s - offset_s, offset_s)
        start_s = first_tick * tick_as / AS_PER_S
        return ClockReport(
            method=method,
            time_s=tuple((local_s - start_s).tolist()),
            offset_s=tuple(offset_s.tolist()),
            rate_ppm=tuple((rate * 1e6).tolist()),
            line_offset_s=line_offset,
            line_rate_ppm=line_rate * 1e6,
            residual_rms_ps=residual_rms_ps,
            significance=significance,
            locked_share=self.locked_share(first_tick, last_tick),
            notes=notes,
        )


def straight_line(x: Floats, y: Floats) -> tuple[float, float]:
    """Slope and value at zero of the least-squares line through the points (0 and 0 without points)."""
    if not x.size:
        return 0.0, 0.0
    centre = float(x.mean())
    spread = float(((x - centre) ** 2).sum())
    slope = float(((x - centre) * (y - y.mean())).sum()) / spread if spread > 0 else 0.0
    return slope, float(y.mean()) - slope * centre


def split_position(position: Floats) -> tuple[Ints, Floats]:
    """Positions in slots as whole slots and fractions in [-0.5, 0.5)."""
    whole = np.floor(position + 0.5)
    return whole.astype(np.int64), position - whole
