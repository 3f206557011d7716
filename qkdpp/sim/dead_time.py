"""Dead time and after-pulsing of one channel: a sequential loop, compiled where Numba is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkdpp.kernels.backend import loops
from qkdpp.sim.clock import Femtoseconds

NEVER = -(1 << 62)
FAR = 1 << 62
"""Later than anything in a run."""
MAX_PENDING = 256
"""After-pulses that may wait at once on one detector."""


def _loop(  # noqa: PLR0917 - compiled: plain arrays and numbers only
    times: NDArray[np.int64],
    ready: int,
    last: int,
    dead: int,
    p_after: float,
    chance: NDArray[np.float64],
    waits: NDArray[np.int64],
    gate: int,
    phase: int,
    scatter: NDArray[np.int64],
    pending: NDArray[np.int64],
    n_pending: int,
    out_time: NDArray[np.int64],
    out_index: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Clicks before ``ready``; returns their number, the time of the last one and the number of pending after-pulses.

    ``times`` are sorted. An event closer than ``dead`` to the last click is lost (non-paralysable). Click ``c`` causes
    an after-pulse with probability ``p_after``, ``dead + waits[c]`` later; with gates (period ``gate``, one centred on
    ``phase``) it moves up to the next gate, ``scatter[c]`` off its centre. ``out_index`` is the place in ``times``, or
    -1 for an after-pulse; -2 in the number of pending ones says that there were too many.
    """
    n_out = 0
    i = 0
    while True:
        soonest = -1
        for j in range(n_pending):
            if soonest < 0 or pending[j] < pending[soonest]:
                soonest = j
        primary = times[i] if i < times.size else FAR
        after = pending[soonest] if soonest >= 0 else FAR
        now = min(primary, after)
        if now >= ready:
            return n_out, last, n_pending
        if after < primary:
            index = -1
            n_pending -= 1
            pending[soonest] = pending[n_pending]
        else:
            index = i
            i += 1
        if now - last < dead:
            continue
        last = now
        if p_after > 0.0 and chance[n_out] < p_after:
            if n_pending == pending.size:
                return n_out, last, -2
            due = now + dead + waits[n_out]
            if gate > 0:
                due = phase + -((phase - due) // gate) * gate + scatter[n_out]
            pending[n_pending] = due
            n_pending += 1
        out_time[n_out] = now
        out_index[n_out] = index
        n_out += 1


@cache
def _compiled() -> Callable[..., tuple[int, int, int]]:
    if loops() != "numba":
        return _loop
    from numba import njit  # noqa: PLC0415 - heavy

    compiled: Any = njit(cache=True, nogil=True)(_loop)
    return compiled  # type: ignore[no-any-return]


@dataclass(slots=True, kw_only=True)
class DeadTime:
    """One detector (or tagger input) and its state between slices of time.

    Attributes:
        dead_fs: dead time after each click.
        after_pulse: mean number of after-pulses a click causes directly (below 0.3).
        decay_fs: mean wait of an after-pulse beyond the dead time.
        gate_fs: distance of the gates, 0 for a free-running detector; ``phase_fs``: centre of one gate.
        gate_width_fs: full width of a gate.
    """

    dead_fs: int
    after_pulse: float = 0.0
    decay_fs: float = 0.0
    gate_fs: int = 0
    phase_fs: int = 0
    gate_width_fs: float = 0.0
    last: int = NEVER
    pending: NDArray[np.int64] = field(default_factory=lambda: np.zeros(MAX_PENDING, dtype=np.int64))
    n_pending: int = 0

    def rebase(self, fs: int) -> None:
        """Counts time from ``fs`` later on."""
        self.last = max(NEVER, self.last - fs)
        self.pending[: self.n_pending] -= fs
        if self.gate_fs:
            self.phase_fs = (self.phase_fs - fs) % self.gate_fs

    def click(
        self, times: Femtoseconds, ready: int, rng: np.random.Generator
    ) -> tuple[Femtoseconds, NDArray[np.int64]]:
        """Clicks from sorted events before ``ready``: their times and their places in ``times`` (-1: after-pulse)."""
        room = 2 * times.size + 2 * MAX_PENDING if self.after_pulse else times.size
        chance = rng.random(room) if self.after_pulse else np.empty(0)
        waits = (rng.exponential(self.decay_fs, chance.size)).astype(np.int64)
        scatter = ((rng.random(chance.size) - 0.5) * self.gate_width_fs).astype(np.int64)
        out_time, out_index = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
        n, self.last, self.n_pending = _compiled()(
            times,
            ready,
            self.last,
            self.dead_fs,
            self.after_pulse,
            chance,
            waits,
            self.gate_fs,
            self.phase_fs,
            scatter,
            self.pending,
            self.n_pending,
            out_time,
            out_index,
        )
        if self.n_pending < 0:
            raise OverflowError(f"more than {MAX_PENDING} after-pulses wait on one detector")
        return out_time[:n], out_index[:n]
