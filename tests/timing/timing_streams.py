"""Small synthetic recordings for the timing tests: what a receiver's tagger would write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.tags import AS_PER_PS, TimeTags

DETECTORS = {1: 0, 2: 1, 3: 2, 4: 3}
SYNC = 9


Gaps = tuple[tuple[int, int], ...]
Pulses = NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """The recording and what nobody but the test knows: pulse and state of every signal tag."""

    tags: TimeTags
    pulse: NDArray[np.int64]
    state: NDArray[np.uint8]


def merge(parts: list[tuple[int, NDArray[np.int64]]], tick_as: int, lost: Gaps = ()) -> TimeTags:
    """Streams of single channels as one sorted recording."""
    ids = tuple(channel for channel, _ in parts)
    ticks = np.concatenate([t for _, t in parts])
    channel = np.concatenate([np.full(t.size, i, dtype=np.uint8) for i, (_, t) in enumerate(parts)])
    order = np.argsort(ticks, kind="stable")
    return TimeTags(ticks=ticks[order], channel=channel[order], channel_ids=ids, tick_as=tick_as, lost=tuple(lost))


def arrival_ticks(
    pulse: Pulses, period_as: int, tick_as: int, *, rate: float = 0.0, drift: float = 0.0
) -> NDArray[np.float64]:
    """Local time of pulses relative to pulse zero, for a clock with ``dt_local = (1 + rate + drift t) dt``."""
    t = pulse.astype(np.float64) * (period_as / 1e18)
    return np.asarray((t * (1 + rate) + 0.5 * drift * t * t) * (1e18 / tick_as), dtype=np.float64)


def pulsed(
    rng: np.random.Generator,
    *,
    n_pulses: int,
    detections: int,
    darks: int = 0,
    period_as: int = 1_600_000_000,
    tick_as: int = 1_000_000,
    start_tick: int = 10**12,
    rate: float = 0.0,
    drift: float = 0.0,
    jitter_ps: float = 80.0,
    delays_ps: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
    states: Callable[[Pulses], NDArray[np.uint8]] | None = None,
    qber: float = 0.01,
    sync_period: int = 0,
    sync_jitter_ps: float = 30.0,
    lost: Gaps = (),
) -> Truth:
    """Detections of random pulses on four detectors, random basis choice; channels 1 to 4, sync on channel 9."""
    pulse = np.sort(rng.choice(n_pulses, size=detections, replace=False)).astype(np.int64)
    state = rng.integers(0, 4, detections).astype(np.uint8) if states is None else states(pulse)
    measured = rng.integers(0, 2, detections)
    bit = np.where(
        measured == state >> 1, (state & 1) ^ (rng.random(detections) < qber), rng.integers(0, 2, detections)
    )
    detector = (measured << 1 | bit).astype(np.uint8)
    ps = AS_PER_PS / tick_as
    exact = arrival_ticks(pulse, period_as, tick_as, rate=rate, drift=drift) + rng.normal(0, jitter_ps * ps, detections)
    exact += np.asarray(delays_ps)[detector] * ps
    ticks = start_tick + np.rint(exact).astype(np.int64)
    end = int(arrival_ticks(np.array([n_pulses]), period_as, tick_as, rate=rate, drift=drift)[0])
    parts = []
    for channel, code in DETECTORS.items():
        dark = start_tick + rng.integers(0, end, darks // 4)
        parts.append((channel, np.concatenate([ticks[detector == code], dark])))
    if sync_period:
        number = np.arange(0, n_pulses, sync_period, dtype=np.int64)
        sync = arrival_ticks(number, period_as, tick_as, rate=rate, drift=drift) + rng.normal(
            0, sync_jitter_ps * ps, number.size
        )
        parts.append((SYNC, start_tick + np.rint(sync).astype(np.int64)))
    return Truth(tags=merge(parts, tick_as, lost), pulse=pulse, state=state)
