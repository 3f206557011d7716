"""Simulated gains and error rates against the closed forms, one impairment at a time, within 4 sigma."""

import math
from typing import Any

import numpy as np
import pytest
from sim_links import Outcome, ideal

from qkdpp.core import channel
from qkdpp.scenarios.expected import expected_gains

SIGMAS = 4.0

IMPAIRMENTS: dict[str, dict[str, Any]] = {
    "none": {},
    "misalignment": {"channel": {"misalignment": 0.03}},
    "rotation": {"channel": {"rotation_rad": 0.2}},
    "loss": {"channel": {"loss_db": 30.0}},
    "fibre": {"channel": {"loss_db": 5.0, "length_km": 75.0}},
    "receiver loss": {"receiver": {"loss_db": 3.0}},
    "dark counts": {"channel": {"loss_db": 35.0}, "receiver": {"dark_rate_hz": 50e3}},
    "gated dark counts": {
        "channel": {"loss_db": 35.0},
        "receiver": {"dark_rate_hz": 50e3, "gate_rate_hz": 2e8, "gate_width_ps": 300.0},
    },
    "after-pulses": {
        "receiver": {"after_pulse": 0.02, "after_pulse_decay_ns": 300.0},
        "timing": {"gate_ps": 10_000.0},
    },
    "gated after-pulses": {
        "receiver": {"after_pulse": 0.02, "gate_rate_hz": 1e8, "gate_width_ps": 500.0, "dead_time_ns": 100.0}
    },
    "dead time": {"receiver": {"dead_time_ns": 5005.0}},
    "jitter": {"receiver": {"jitter_ps": 400.0}},
    "efficiency mismatch": {"receiver": {"efficiency": (0.5, 0.3)}, "channel": {"misalignment": 0.02}},
    "delays": {"receiver": {"delays_ps": (700.0, -900.0)}},
    "tagger tick": {"tagger": {"tick_as": 78_125_000}},
    "clock": {"clock": {"rate_ppm": 50.0, "drift_ppm_per_s": 1.0, "walk_ps_per_sqrt_s": 100.0}},
    "bright": {"channel": {"loss_db": 0.0, "misalignment": 0.1}, "duration_s": 0.003},
    "all": {
        "channel": {"misalignment": 0.02, "rotation_rad": 0.05},
        "receiver": {
            "dark_rate_hz": 20e3,
            "jitter_ps": 150.0,
            "efficiency": (0.6, 0.5),
            "dead_time_ns": 1005.0,
            "delays_ps": (300.0, -200.0),
        },
    },
}


def spread(receiver: dict[str, Any], kind: str) -> dict[str, Any]:
    """Numbers for all detectors from one, or from the pair of one basis."""
    n = 4 if kind == "passive" else 2
    result = dict(receiver)
    for name in ("dark_rate_hz", "efficiency", "delays_ps"):
        if name in result:
            given = result[name]
            result[name] = [given] * n if isinstance(given, float) else list(given) * (n // 2)
    return result


@pytest.mark.parametrize("kind", ["passive", "active"])
@pytest.mark.parametrize("name", list(IMPAIRMENTS))
def test_gains_and_errors_follow_the_closed_forms(name: str, kind: str) -> None:
    impairment = dict(IMPAIRMENTS[name])
    impairment["receiver"] = spread(impairment.get("receiver", {}), kind)
    plan = ideal(kind, **impairment)
    outcome = Outcome(plan, seed=sum(map(ord, name + kind)))
    share = (plan.bob.receiver.p_z, 1 - plan.bob.receiver.p_z) if kind == "active" else (1.0, 1.0)
    for basis, expected in enumerate(expected_gains(plan)):
        pulses = outcome.sent[:, basis].sum(axis=1) * share[basis]
        clicks, errors = outcome.clicks(basis)
        # clicks are binomial, errors a thinned binomial (double clicks count half: less noise, never more)
        sigma = np.sqrt(pulses * expected.gain) + 1
        assert (np.abs(clicks - pulses * expected.gain) < SIGMAS * sigma).all()
        assert (
            np.abs(errors - pulses * expected.error_gain) < SIGMAS * (np.sqrt(pulses * expected.error_gain) + 1)
        ).all()


def test_double_clicks_of_bright_pulses() -> None:
    plan = ideal("passive", channel={"loss_db": 0.0, "misalignment": 0.2}, duration_s=0.003)
    outcome = Outcome(plan, seed=3)
    table = outcome.run.outcome.gated.reshape(3, 2, 2, 4, 4)
    both = table[:, 0].sum(axis=2)[:, :, 3].sum(axis=1)
    expected = expected_gains(plan)[0].double_gain * outcome.sent[:, 0].sum(axis=1)
    assert (np.abs(both - expected) < SIGMAS * np.sqrt(expected + 1)).all()


def test_cross_basis_clicks_of_a_passive_receiver_are_independent() -> None:
    plan = ideal("passive", channel={"loss_db": 3.0}, duration_s=0.005)
    outcome = Outcome(plan, seed=4)
    table = outcome.run.outcome.gated.reshape(3, 2, 2, 4, 4).sum(axis=(1, 2))
    mean = np.array([0.6, 0.2, 0.0]) * channel.transmittance(3.0)
    either = -np.expm1(-mean * 0.6), -np.expm1(-mean * 0.4)
    expected = either[0] * either[1] * outcome.sent.sum(axis=(1, 2))
    both = table[:, 1:, 1:].sum(axis=(1, 2))
    # which detector of a basis clicks does not matter here: the light of an arm is Poissonian whatever its split
    assert (np.abs(both - expected) < SIGMAS * np.sqrt(expected + 1)).all()


def test_mismatched_bases_give_random_bits() -> None:
    outcome = Outcome(ideal("passive", channel={"misalignment": 0.01}), seed=5)
    table = outcome.run.outcome.gated.reshape(3, 2, 2, 4, 4)
    in_x = table[0, 0].sum(axis=2)  # signal, prepared in Z: bit sent, clicked set in X
    for sent_bit in (0, 1):
        n = in_x[sent_bit, 1] + in_x[sent_bit, 2]
        assert abs(in_x[sent_bit, 1] - n / 2) < SIGMAS * math.sqrt(n) / 2


def test_drift_of_the_polarisation_shows_in_the_error_rate() -> None:
    plan = ideal("active", duration_s=2.0, channel={"loss_db": 25.0, "rotation_rad_per_s": 0.2})
    clicks, errors = Outcome(plan, seed=6).clicks(0)
    t = np.linspace(0, 2.0, 2001)
    expected = np.mean([channel.rotated_misalignment(0.0, 0.2 * s) for s in t])
    n = clicks[0]
    assert abs(errors[0] / n - expected) < SIGMAS * math.sqrt(expected / n) + 1e-3 * expected


def test_blanking_costs_the_live_share_of_all_detectors() -> None:
    plan = ideal("passive", timing={"dead_time_ns": 2005.0})
    outcome = Outcome(plan, seed=7)
    gated, accepted = outcome.run.outcome.gated.sum(), outcome.run.outcome.accepted.sum()
    p = gated / outcome.run.header.n_pulses
    # a pulse counts if none of the 200 pulses before it clicked
    expected = gated * (1 - p) ** 200
    assert abs(accepted - expected) < SIGMAS * math.sqrt(gated * 0.25)


def test_sent_pulses_follow_the_declared_probabilities() -> None:
    outcome = Outcome(ideal("active"), seed=8)
    p = np.einsum("k,b,c->kbc", [0.5, 0.3, 0.2], [0.7, 0.3], [0.5, 0.5])
    n = outcome.run.header.n_pulses
    assert outcome.sent.sum() == n
    assert (np.abs(outcome.sent - n * p) < 4.5 * np.sqrt(n * p * (1 - p))).all()
