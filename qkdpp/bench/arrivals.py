"""Time tags before the gate: 64-bit records, arrivals within the slot, slots of clicks, search for the offset.

Rows of the area ``tags``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qkdpp.bench.data import generator
from qkdpp.bench.tag_data import AREA, DELAY_TICKS, Pulsed, Recorded, pulsed, recorded
from qkdpp.bench.workload import Effort, Figures, Workload, power
from qkdpp.core.sync_string import SyncString
from qkdpp.sources import open_recording, read_all
from qkdpp.sources.sfifteen import TICK_AS
from qkdpp.timing import fold
from qkdpp.timing.gate_rules import GateRules
from qkdpp.timing.string_search import Clicks, Shift, find_shift

BINS = 160
GATE_SLOTS = 0.5
STRING = SyncString(seed=bytes(32), length=62_500, frame=625_000)
FRAMES, CLICK_PROBABILITY, QBER = 8, 1e-3, 0.02
REACH = {Effort.TINY: 1000, Effort.QUICK: 100_000, Effort.FULL: 625_000}
"""Shifts to either side."""


def workloads(effort: Effort, n: int) -> list[Workload]:
    """The rows, of ``n`` tags each but for the search."""
    tags = f"{power(n)} tags"
    bins = f"{tags}, {BINS} bins"
    return [
        _row("read 64-bit words", tags, n, lambda: recorded(n, "s15-a1", TICK_AS), _read),
        _row("gate histogram", bins, n, lambda: _folded(n), lambda d: fold.fold_channels(d[0].tags, d[1])),
        _row("slots of clicks", tags, n, lambda: _folded(n), lambda d: fold.slots_in_gate(d[0].tags, d[1])),
        _search(REACH[effort]),
    ]


def _row(kernel: str, size: str, n: int, prepare: Callable[[], Any], run: Callable[[Any], object]) -> Workload:
    return Workload(area=AREA, kernel=kernel, size=size, amount=n, unit="tag", tier="kernels", prepare=prepare, run=run)


def _read(data: Recorded) -> object:
    return read_all(open_recording(data.path, format="s15-a1"))


def _folded(n: int) -> tuple[Pulsed, GateRules]:
    data = pulsed(n)
    return data, fold.rules_of(data.tags, data.clock, DELAY_TICKS, bins=BINS, gate_slots=GATE_SLOTS)


def _search(reach: int) -> Workload:
    """Provisional pulse numbers that are off by a part of the reach, against the public string."""
    return Workload(
        area=AREA,
        kernel="offset search",
        size=f"{2 * reach + 1:,} shifts",
        amount=1,
        unit="call",
        tier="kernels",
        prepare=lambda: _clicks(reach // 3),
        run=lambda clicks: find_shift(clicks, STRING, guess=0, reach=reach),
        figures=_found,
    )


def _clicks(shift: int) -> Clicks:
    """Detections of all pulses, ``shift`` pulses early; those outside the string are random."""
    rng = generator(shift)
    pulses = np.flatnonzero(rng.random(FRAMES * STRING.frame) < CLICK_PROBABILITY)
    pulses = pulses[pulses >= shift]
    state = rng.integers(0, 4, pulses.size, dtype=np.uint8)
    members = STRING.members(pulses)
    state[members] = STRING.states(pulses[members])
    basis = rng.integers(0, 2, pulses.size, dtype=np.uint8)
    right = (basis == state >> 1) & (rng.random(pulses.size) >= QBER)
    bit = np.where(right, state & 1, rng.integers(0, 2, pulses.size)).astype(np.uint8)
    detector = basis << np.uint8(1) | bit
    return Clicks(slots=pulses - shift, detector=detector, channel=detector)


def _found(clicks: Clicks, shift: Shift | None) -> Figures:
    return {"clicks": float(clicks.slots.size), "significance": shift.significance if shift is not None else None}
