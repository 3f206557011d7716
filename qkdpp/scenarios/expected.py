"""What the closed forms of ``qkdpp.core.channel`` expect of a prepare-and-measure scenario.

Assumes that detections of different pulses are independent but for dead time, which enters as a live share, and
after-pulses, which enter in first order. ``share`` is the transmittance of the channel; what changes along a run
(satellite pass, turning polarisation) is taken at a series of moments (:func:`moments`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qkdpp.core import channel
from qkdpp.core.channel import Gains, TwoDetectors
from qkdpp.scenarios import scenario
from qkdpp.scenarios.orbit import Orbit

STEPS = 101
"""Points in time at which a run whose channel changes is evaluated."""


def moments(plan: scenario.Scenario) -> list[tuple[float, float]]:
    """Transmittance and rotation in rad of the channel at equal steps of the run (one step if nothing changes)."""
    way = plan.channel
    fibre_db = channel.fibre_loss_db(way.length_km, way.attenuation_db_per_km)
    best = channel.transmittance(way.loss_db + fibre_db)
    if way.satellite is None and not way.rotation_rad_per_s:
        return [(best, way.rotation_rad)]
    times = (np.arange(STEPS) + 0.5) / STEPS * plan.duration_s
    middle = plan.duration_s / 2
    shares = np.ones(STEPS) if way.satellite is None else Orbit(way.satellite).relative_transmittance(times - middle)
    return [
        (best * float(share), way.rotation_rad + way.rotation_rad_per_s * float(t))
        for share, t in zip(shares, times, strict=True)
    ]


def expected_gains(plan: scenario.Scenario) -> tuple[Gains, Gains]:
    """Gains of bases Z and X over a fibre for pulses prepared in that basis, with the run's gate and without blanking.

    Active receiver: given that Bob measures in that basis. Passive: clicks in that basis, whatever the other basis
    does. Taken at the start of the run.
    """
    share, rotation_rad = moments(plan)[0]
    live = [channel.live_share(r, plan.bob.receiver.dead_time_ns * 1e-9) for r in incident_rates(plan, share)]
    pair = _bases(plan, share, rotation_rad, live)
    return _with_after_pulses(plan, [basis.gains(_source(plan).intensities) for basis in pair])


def announced_gains(plan: scenario.Scenario, share: float, rotation_rad: float) -> tuple[Gains, Gains]:
    """Probabilities that Bob announces a detection in basis Z, X for a pulse that Alice prepared in that basis.

    Bob's basis choice, the blanking of all detectors after a click (``timing.dead_time_ns``) and the loss of pulses
    that click in both bases of a passive receiver are contained.
    """
    receiver = plan.bob.receiver
    rates = incident_rates(plan, share)
    if plan.timing.dead_time_ns:
        live = [1.0] * receiver.n_detectors
        kept = channel.all_live_share(rates, receiver.dead_time_ns * 1e-9, plan.timing.dead_time_ns * 1e-9)
    else:
        live = [channel.live_share(r, receiver.dead_time_ns * 1e-9) for r in rates]
        kept = 1.0
    pair = _bases(plan, share, rotation_rad, live)
    z, x = _with_after_pulses(plan, [basis.gains(_source(plan).intensities) for basis in pair])
    if receiver.kind == "active":
        return _times(z, kept * receiver.p_z), _times(x, kept * (1 - receiver.p_z))
    return _times(z, kept * _silence(plan, pair[1])), _times(x, kept * _silence(plan, pair[0]))


def _times(gains: Gains, factor: float | NDArray[np.float64]) -> Gains:
    return replace(
        gains,
        gain=gains.gain * factor,
        error_gain=gains.error_gain * factor,
        double_gain=gains.double_gain * factor,
    )


def _silence(plan: scenario.Scenario, other: TwoDetectors) -> NDArray[np.float64]:
    """Probability, by intensity, that neither detector of the other basis clicks: its light splits evenly."""
    mean = other.transmittance * np.asarray(_source(plan).intensities, dtype=np.float64) / 2
    return np.asarray((1 - other.click_probability(0, mean)) * (1 - other.click_probability(1, mean)))


def _source(plan: scenario.Scenario) -> scenario.PulseSource:
    assert plan.source is not None
    return plan.source


def _with_after_pulses(plan: scenario.Scenario, gains: list[Gains]) -> tuple[Gains, Gains]:
    receiver, source = plan.bob.receiver, _source(plan)
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
    source, receiver = _source(plan), plan.bob.receiver
    if receiver.gate_rate_hz:
        inside = min(1.0, plan.timing.gate_ps / receiver.gate_width_ps)
        return inside * 1e18 / source.pulse_period_as / receiver.gate_rate_hz
    return min(1.0, plan.timing.gate_ps * 1e6 / source.pulse_period_as)


def _bases(plan: scenario.Scenario, share: float, rotation_rad: float, live: list[float] | None) -> list[TwoDetectors]:
    receiver = plan.bob.receiver
    pulse_s = _source(plan).pulse_period_as * 1e-18
    result = []
    for basis, part in enumerate((receiver.p_z, 1 - receiver.p_z)):
        at = slice(0, 2) if receiver.kind == "active" else slice(2 * basis, 2 * basis + 2)
        efficiency, dark_hz = receiver.efficiency[at], receiver.dark_rate_hz[at]
        best = max(*efficiency, 1e-300)
        dark = [channel.dark_per_gate(rate, pulse_s * _in_pulse_gate(plan)) for rate in dark_hz]
        split = 1.0 if receiver.kind == "active" else part
        result.append(
            TwoDetectors(
                transmittance=share * channel.transmittance(receiver.loss_db) * split * best * _accepted(plan),
                misalignment=channel.rotated_misalignment(plan.channel.misalignment, rotation_rad),
                dark=(dark[0], dark[1]),
                efficiency=(efficiency[0] / best, efficiency[1] / best),
                live=(1.0, 1.0) if live is None else (live[at][0], live[at][1]),
            )
        )
    return result


def incident_rates(plan: scenario.Scenario, share: float) -> list[float]:
    """Rate in Hz at which each physical detector would click without dead time: light of all pulses, dark counts."""
    source, receiver = _source(plan), plan.bob.receiver
    intensities = np.array(source.intensities)
    weight = (receiver.p_z, 1 - receiver.p_z) if receiver.kind == "active" else (1.0, 1.0)
    rate = np.array(receiver.dark_rate_hz, dtype=np.float64)
    for basis, model in enumerate(_bases(plan, share, 0.0, live=None)):
        for bit in (0, 1):
            # light of all pulses splits evenly over the two bits
            mean = intensities * model.transmittance / _accepted(plan) * model.efficiency[bit] / 2
            clicks = float(np.dot(source.p_intensity, -np.expm1(-mean)))
            detector = bit if receiver.kind == "active" else 2 * basis + bit
            rate[detector] += weight[basis] * clicks * 1e18 / source.pulse_period_as
    return [float(r) for r in rate]
