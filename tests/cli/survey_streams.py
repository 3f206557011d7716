"""Streams of a pair source and of regular pulses, made for the tests from the stated physics only."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.tags import TimeTags

TICK_AS = 1_000_000
"""1 ps."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """A pair source of four states at two receivers; channels and delays by Z0, Z1, X0, X1."""

    duration_s: float = 0.05
    pairs_per_s: float = 2e5
    dark_per_s: float = 2e4
    jitter_ps: float = 150.0
    error: float = 0.03
    alice: tuple[int, ...] = (0, 1, 2, 3)
    bob: tuple[int, ...] = (4, 5, 6, 7)
    alice_delay_ps: tuple[float, ...] = (0.0, 3000.0, -2000.0, 500.0)
    bob_delay_ps: tuple[float, ...] = (7000.0, 1000.0, 4000.0, -1500.0)
    flipped: bool = False
    """Bob's bits are the opposite of Alice's."""
    z_share: float = 0.7
    seed: int = 1
    start_ps: int = field(default=10**17)

    def streams(self) -> tuple[TimeTags, TimeTags]:
        """Alice's and Bob's tags on one clock."""
        rng = np.random.default_rng(self.seed)
        n = rng.poisson(self.pairs_per_s * self.duration_s)
        when = rng.random(n) * self.duration_s * 1e12
        a_basis, b_basis = (rng.random((2, n)) > self.z_share).astype(int)
        a_bit = rng.integers(0, 2, n)
        b_bit = np.where(a_basis == b_basis, a_bit ^ (rng.random(n) < self.error), rng.integers(0, 2, n))
        b_bit ^= self.flipped
        return (
            self._party(rng, when, 2 * a_basis + a_bit, (self.alice, self.alice_delay_ps)),
            self._party(rng, when, 2 * b_basis + b_bit, (self.bob, self.bob_delay_ps)),
        )

    def _party(
        self,
        rng: np.random.Generator,
        when: NDArray[np.float64],
        state: NDArray[np.int64],
        optics: tuple[tuple[int, ...], tuple[float, ...]],
    ) -> TimeTags:
        channels, delays_ps = optics
        dark = rng.poisson(self.dark_per_s * self.duration_s)
        state = np.concatenate([state, rng.integers(0, 4, dark)])
        time = np.concatenate([when, rng.random(dark) * self.duration_s * 1e12])
        time = time + np.array(delays_ps)[state] + rng.normal(0.0, self.jitter_ps, time.size)
        return tags(np.rint(time).astype(np.int64) + self.start_ps, np.array(channels)[state])


def tags(ticks: NDArray[np.int64], channel: NDArray[np.integer], tick_as: int = TICK_AS) -> TimeTags:
    """Tags of instrument channels, sorted."""
    order = np.argsort(ticks, kind="stable")
    ids, dense = np.unique(channel, return_inverse=True)
    return TimeTags(
        ticks=ticks[order],
        channel=dense[order].astype(np.uint8),
        channel_ids=tuple(int(c) for c in ids),
        tick_as=tick_as,
    )


def together(*streams: TimeTags) -> TimeTags:
    """Several streams of one clock as one recording."""
    ids = [np.array(s.channel_ids)[s.channel] for s in streams]
    return tags(np.concatenate([s.ticks for s in streams]), np.concatenate(ids))


def regular(
    period_ps: float, duration_s: float, *, channel: int, jitter_ps: float, missing: float = 0.0, seed: int = 5
) -> TimeTags:
    """Pulses at a fixed period with Gaussian jitter, a share of them missing."""
    rng = np.random.default_rng(seed)
    n = int(duration_s * 1e12 / period_ps)
    kept = np.flatnonzero(rng.random(n) >= missing)
    time = kept * period_ps + rng.normal(0.0, jitter_ps, kept.size)
    return tags(np.rint(time).astype(np.int64) + 10**17, np.full(kept.size, channel))


def poisson(rate_hz: float, duration_s: float, *, channel: int, seed: int = 6, dead_ps: float = 0.0) -> TimeTags:
    """A random stream; a dead time makes it a saturating detector."""
    rng = np.random.default_rng(seed)
    steps = rng.exponential(1e12 / rate_hz, int(1.3 * rate_hz * duration_s) + 10) + dead_ps
    time = np.cumsum(steps)
    time = time[time < duration_s * 1e12]
    return tags(np.rint(time).astype(np.int64) + 10**17, np.full(time.size, channel))


def on_clock(stream: TimeTags, offset_s: float, rate: float) -> TimeTags:
    """The same events on a clock that reads later by ``offset_s`` at the first tag and runs faster by ``rate``."""
    since = (stream.ticks - stream.ticks[0]).astype(np.float64)
    ticks = stream.ticks[0] + np.rint(since * (1 + rate)).astype(np.int64) + round(offset_s * 1e12)
    return TimeTags(ticks=ticks, channel=stream.channel, channel_ids=stream.channel_ids, tick_as=stream.tick_as)
