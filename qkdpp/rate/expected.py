"""Counts that a block of a scenario is expected to have: mean values, no randomness.

Decoy-state BB84 and entangled pairs; everything the closed forms of ``qkdpp.scenarios.expected`` contain. A satellite
pass is one block: the counts are summed along the pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core import channel
from qkdpp.estimation import Counts
from qkdpp.scenarios.expected import announced_gains, moments
from qkdpp.scenarios.scenario import Party, Scenario

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expected:
    """Mean counts of a block.

    Attributes:
        seconds: duration of the block.
        pulses: pulses sent outside the public synchronisation string (pairs: pairs made).
        n: float64[2, K], detections with equal bases by basis (Z, X) and intensity; K = 1 for pairs.
        m: float64[2, K], errors among them.
    """

    seconds: float
    pulses: float
    n: Floats
    m: Floats

    def scaled(self, factor: float) -> Expected:
        """A block ``factor`` times as long."""
        return Expected(
            seconds=self.seconds * factor, pulses=self.pulses * factor, n=self.n * factor, m=self.m * factor
        )

    def counts(self, intensities: tuple[float, ...], p_intensity: tuple[float, ...]) -> Counts:
        """The same as whole numbers, for a source of these intensities."""
        n = np.rint(self.n).astype(np.int64)
        m = np.minimum(np.rint(self.m).astype(np.int64), n)
        return Counts(intensities=intensities, p_intensity=p_intensity, n=n, m=m)


def with_loss(plan: Scenario, loss_db: float) -> Scenario:
    """The scenario over a channel of this loss (satellite: closest approach; pairs: added to what each arm has)."""
    way = msgspec.structs.replace(plan.channel, loss_db=loss_db, length_km=0.0)
    return msgspec.structs.replace(plan, channel=way)


def channel_loss_db(plan: Scenario) -> float:
    """Loss of the channel as the scenario has it (satellite: at the closest approach; pairs: without their arms')."""
    way = plan.channel
    if plan.protocol == "bbm92":
        return way.loss_db
    return way.loss_db + channel.fibre_loss_db(way.length_km, way.attenuation_db_per_km)


def expected(plan: Scenario, seconds: float) -> Expected:
    """Mean counts of a block of ``seconds``."""
    return _pulses(plan, seconds) if plan.protocol == "bb84" else _pairs(plan, seconds)


def _pulses(plan: Scenario, seconds: float) -> Expected:
    source, string = plan.source, plan.sync_string
    assert source is not None
    kept = 1.0 if string is None else 1.0 - string.length / string.frame
    pulses = seconds * 1e18 / source.pulse_period_as * kept
    weight = pulses * np.array([[source.p_z], [1.0 - source.p_z]]) * np.asarray(source.p_intensity)
    steps = moments(plan)
    gain, error = np.zeros_like(weight), np.zeros_like(weight)
    for share, rotation_rad in steps:
        pair = announced_gains(plan, share, rotation_rad)
        gain += np.stack([g.gain for g in pair])
        error += np.stack([g.error_gain for g in pair])
    return Expected(seconds=seconds, pulses=pulses, n=weight * gain / len(steps), m=weight * error / len(steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arm:
    """One receiver of a pair source: share of photons detected and rate of all clicks, by basis; live share."""

    share: tuple[float, float]
    rate_hz: tuple[float, float]
    live: float


def _arm(plan: Scenario, party: Party, pair_rate_hz: float) -> _Arm:
    receiver = party.receiver
    way = plan.channel
    loss_db = (
        way.loss_db
        + party.loss_db
        + channel.fibre_loss_db(party.length_km, way.attenuation_db_per_km)
        + receiver.loss_db
    )
    efficiency = np.asarray(receiver.efficiency).reshape(2, 2).mean(axis=1)
    share = channel.transmittance(loss_db) * np.array([receiver.p_z, 1 - receiver.p_z]) * efficiency
    dark = np.asarray(receiver.dark_rate_hz).reshape(2, 2).sum(axis=1)
    rate = (pair_rate_hz * share + dark) * (1 + receiver.after_pulse)
    return _Arm(
        share=(float(share[0]), float(share[1])),
        rate_hz=(float(rate[0]), float(rate[1])),
        live=channel.all_live_share(
            np.repeat(rate / 2, 2).tolist(), receiver.dead_time_ns * 1e-9, plan.timing.dead_time_ns * 1e-9
        ),
    )


def _pairs(plan: Scenario, seconds: float) -> Expected:
    """True coincidences, and accidental ones of random bits; one gate ``timing.gate_ps`` wide in full."""
    source = plan.pairs
    assert source is not None
    assert plan.alice is not None
    arms = [_arm(plan, party, source.pair_rate_hz) for party in (plan.alice, plan.bob)]
    jitter_ps = float(np.hypot(plan.alice.receiver.jitter_ps, plan.bob.receiver.jitter_ps))
    inside = channel.gate_acceptance(plan.timing.gate_ps, jitter_ps)
    live = arms[0].live * arms[1].live
    n, m = np.zeros((2, 1)), np.zeros((2, 1))
    for basis, visibility in enumerate((source.visibility_z, source.visibility_x)):
        true = source.pair_rate_hz * arms[0].share[basis] * arms[1].share[basis] * inside
        accidental = arms[0].rate_hz[basis] * arms[1].rate_hz[basis] * plan.timing.gate_ps * 1e-12
        n[basis] = live * seconds * (true + accidental)
        m[basis] = live * seconds * (true * (1 - visibility) / 2 + accidental / 2)
    return Expected(seconds=seconds, pulses=source.pair_rate_hz * seconds, n=n, m=m)
