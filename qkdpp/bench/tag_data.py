"""What the rows of the area ``tags`` are run on."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qkdpp.bench.data import generator, sorted_ticks
from qkdpp.core.tags import AS_PER_PS, TimeTags
from qkdpp.sources import write_recording
from qkdpp.timing.clock import Clock

AREA = "tags"
MEAN_GAP_PS = 1_000_000
"""A million tags a second: an overflow record comes every 33 tags."""
PERIOD_PS = 1600
JITTER_PS = 50.0
DELAY_TICKS = {0: 0.0, 1: 25.5, 2: -40.25, 3: 10.0}
NOISE = 0.1
"""Share of clicks that lie anywhere in the period."""


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Recorded:
    """A recording in a folder that goes away with this value."""

    path: Path


def recorded(n: int, format: str = "ptu", tick_as: int = AS_PER_PS) -> Recorded:
    """Four channels without correlations."""
    rng = generator(n)
    tags = TimeTags(
        ticks=sorted_ticks(n, MEAN_GAP_PS * AS_PER_PS // tick_as, rng),
        channel=rng.integers(0, 4, n, dtype=np.uint8),
        channel_ids=(1, 2, 3, 4),
        tick_as=tick_as,
    )
    folder = tempfile.mkdtemp()
    file = Recorded(path=Path(folder) / "tags")
    weakref.finalize(file, shutil.rmtree, folder)
    write_recording(file.path, [tags], format=format)
    return file


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pulsed:
    """Tags of four detectors behind a pulsed source, and the clock."""

    tags: TimeTags
    clock: Clock


def pulsed(n: int) -> Pulsed:
    """Clicks about the middle of slots, some anywhere."""
    rng = generator(n)
    slots = sorted_ticks(n, MEAN_GAP_PS // PERIOD_PS, rng)
    within = np.where(rng.random(n) < NOISE, rng.uniform(0, PERIOD_PS, n), rng.normal(0, JITTER_PS, n))
    ticks = np.sort(slots * PERIOD_PS + within.astype(np.int64))
    tags = TimeTags(
        ticks=ticks, channel=rng.integers(0, 4, n, dtype=np.uint8), channel_ids=(0, 1, 2, 3), tick_as=AS_PER_PS
    )
    knots = np.arange(0, int(ticks[-1]) + 1, 10**10, dtype=np.int64)
    clock = Clock(
        knot_ticks=knots,
        knot_slot=knots // PERIOD_PS,
        knot_fraction=np.zeros(knots.size),
        slots_per_tick=np.full(knots.size, 1 / PERIOD_PS),
        locked=np.ones(knots.size, dtype=np.bool_),
        stop_tick=int(ticks[-1]) + 1,
    )
    return Pulsed(tags=tags, clock=clock)
