"""What the closed forms of ``qkdpp.core.channel`` expect of a prepare-and-measure scenario over a fibre."""

from __future__ import annotations

import numpy as np

from qkdpp.core import channel
from qkdpp.core.channel import Gains, TwoDetectors
from qkdpp.sim import path, scenario


def expected_gains(plan: scenario.Scenario) -> tuple[Gains, Gains]:
    """Gains of bases Z and X for pulses prepared in that basis, with the run's gate and without its blanking.

    Active receiver: given that Bob measures in that basis. Passive: clicks in that basis, whatever the other basis
    does. First order in after-pulses; a rotation is taken at the start. Not for satellite passes, whose loss changes.
    """
    first = _two_detectors(plan, live=None)
    live = _live(plan, first)
    pair = _two_detectors(plan, live=live)
    source = plan.source
    assert source is not None
    gains = [basis.gains(source.intensities) for basis in pair]
    receiver = plan.bob.receiver
    if not receiver.after_pulse:
        return gains[0], gains[1]
    weight = [receiver.p_z, 1 - receiver.p_z] if receiver.kind == "active" else [1.0, 1.0]
    mean = [g.mean_gain(source.p_intensity) for g in gains]
    common = float(np.dot(weight, mean))
    result = []
    for g, own in zip(gains, mean, strict=True):
        clicks = common if receiver.kind == "active" else own
        # an after-pulse counts where it falls into the gate of a pulse; what clicks in a gate clicks outside it too
        counted = receiver.after_pulse * _in_pulse_gate(plan) * clicks / _accepted(plan)
        result.append(g.with_after_pulses(counted / own if own else 0.0, source.p_intensity))
    return result[0], result[1]


def _accepted(plan: scenario.Scenario) -> float:
    """Share of photon clicks inside the run's gate."""
    return channel.gate_acceptance(plan.timing.gate_ps, plan.bob.receiver.jitter_ps)


def _in_pulse_gate(plan: scenario.Scenario) -> float:
    """Share of clicks at random times that falls into the run's gate around a pulse."""
    source, receiver = plan.source, plan.bob.receiver
    assert source is not None
    if receiver.gate_rate_hz:
        inside = min(1.0, plan.timing.gate_ps / receiver.gate_width_ps)
        return inside * 1e18 / source.pulse_period_as / receiver.gate_rate_hz
    return min(1.0, plan.timing.gate_ps * 1e6 / source.pulse_period_as)


def _two_detectors(plan: scenario.Scenario, live: list[float] | None) -> list[TwoDetectors]:
    source, receiver = plan.source, plan.bob.receiver
    way = path.build(plan.channel, plan.duration_s)
    assert source is not None
    assert isinstance(way, path.FixedPath)
    pulse_s = source.pulse_period_as * 1e-18
    result = []
    for basis, share in enumerate((receiver.p_z, 1 - receiver.p_z)):
        at = slice(0, 2) if receiver.kind == "active" else slice(2 * basis, 2 * basis + 2)
        efficiency, dark_hz = receiver.efficiency[at], receiver.dark_rate_hz[at]
        best = max(*efficiency, 1e-300)
        dark = [channel.dark_per_gate(rate, pulse_s * _in_pulse_gate(plan)) for rate in dark_hz]
        split = 1.0 if receiver.kind == "active" else share
        result.append(
            TwoDetectors(
                transmittance=way.share * channel.transmittance(receiver.loss_db) * split * best * _accepted(plan),
                misalignment=channel.rotated_misalignment(plan.channel.misalignment, plan.channel.rotation_rad),
                dark=(dark[0], dark[1]),
                efficiency=(efficiency[0] / best, efficiency[1] / best),
                live=(1.0, 1.0) if live is None else (live[at][0], live[at][1]),
            )
        )
    return result


def _live(plan: scenario.Scenario, bases: list[TwoDetectors]) -> list[float]:
    """Live share of each physical detector from its incident rate (photons of all pulses, and dark counts)."""
    source, receiver = plan.source, plan.bob.receiver
    assert source is not None
    intensities = np.array(source.intensities)
    weight = (receiver.p_z, 1 - receiver.p_z) if receiver.kind == "active" else (1.0, 1.0)
    rate = np.array(receiver.dark_rate_hz, dtype=np.float64)
    for basis, model in enumerate(bases):
        for bit in (0, 1):
            # light of all pulses splits evenly over the two bits
            mean = intensities * model.transmittance / _accepted(plan) * model.efficiency[bit] / 2
            clicks = float(np.dot(source.p_intensity, -np.expm1(-mean)))
            detector = bit if receiver.kind == "active" else 2 * basis + bit
            rate[detector] += weight[basis] * clicks * 1e18 / source.pulse_period_as
    return [channel.live_share(r, receiver.dead_time_ns * 1e-9) for r in rate]
