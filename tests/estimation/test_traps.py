"""The traps of ``security.md`` A7 that concern BB84 and BBM92, by number; 8 to 10 are about continuous variables.

Further tests of the same traps: 1 and 2 ``test_bb84.test_amplification_is_charged_once_and_in_bits``; 3
``test_monte_carlo.test_planted_upper_bounds_are_caught``; 4
``test_phase_error.test_printed_gamma_is_blind_at_zero_errors``; 5 and 6 ``test_decoy``; 12
``test_decoy.test_intensities_without_a_proof_are_refused``.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
from estimation_oracles import counts, length
from scipy import stats

from qkdpp.core.abort import Abort
from qkdpp.core.errors import ConfigError
from qkdpp.core.ledger import Rule
from qkdpp.estimation import Security, binary_entropy, decoy_yields, key_length_bb84, key_length_bbm92

BLOCK = counts([2_000_000, 150_000, 200], [200_000, 15_000, 20], [20_000, 1_600, 100], [2_000, 160, 10])
PRIVACY = {"V": 2 * math.log2(1e10), "L": 6 * math.log2(21e10), "T": 6 * math.log2(21e10)}
"""Bits of privacy amplification at eps_sec = 1e-10: 66.4 and 225.7."""


def pairs(errors: int, security: Security, form: str = "tight", leak: int = 0):
    return key_length_bbm92(
        50_000, 10_000, errors, leak_bits=leak, verification_bits=0, dropped_bits=0, security=security, form=form
    )


@pytest.mark.parametrize("profile", "VLT")
def test_trap_1_privacy_amplification_is_subtracted_once(profile):
    """What is left of the single photons and phase errors is the published constant: neither none of it nor twice."""
    found = length(BLOCK, Security(profile=profile))
    rest = found.single_photon_bits * (1 - binary_entropy(found.phase_error_upper)) - found.value
    assert rest == pytest.approx(PRIVACY[profile], abs=1e-3)


@pytest.mark.parametrize("form", ["tight", "printed"])
def test_trap_1_entangled_pairs(form):
    found = pairs(100, Security(eps_sec=1e-10), form)
    rest = 50_000 * (1 - binary_entropy(found.phase_error_upper)) - found.value
    assert rest == pytest.approx(PRIVACY["V"], abs=1e-6)


@pytest.mark.parametrize("profile", "VLT")
def test_trap_2_a_thousandfold_smaller_eps_costs_bits_and_not_nats(profile):
    """The constant grows by 2 (V) or 6 times log2(1000) = 9.966; 6.908 would be the natural logarithm."""
    first, second = (length(BLOCK, Security(eps_sec=e, profile=profile)).terms for e in (1e-9, 1e-12))
    grown = first["privacy amplification"] - second["privacy amplification"]
    assert grown == pytest.approx((2 if profile == "V" else 6) * 9.9658, abs=1e-3)


def test_trap_2_entropy_is_in_bits():
    """h(11 %) is one half (Shor and Preskill's threshold); 0.3465 would be nats."""
    assert binary_entropy(0.1100279) == pytest.approx(0.5, abs=1e-6)
    assert pairs(5_000, Security()).terms["phase errors"] == -50_000


def test_trap_2_the_deviation_is_in_nats():
    """Hoeffding: sqrt(n ln(21/eps) / 2) of the basis total moves s_1 by a known amount; log2 would move it 1.2 times.

    No vacuum detections are certain here, so s_1 rests on N_2^-, N_3^+ and N_1^+ alone.
    """
    found = length(BLOCK, Security(profile="L"))
    mu, p, n = BLOCK.intensities, BLOCK.p_intensity, BLOCK.n[0]
    deviation = math.sqrt(int(n.sum()) * math.log(21e10) / 2)
    tau = sum(q * math.exp(-v) * v for v, q in zip(mu, p, strict=True))
    scaled = [math.exp(v) / q * (c + s * deviation) for v, q, c, s in zip(mu, p, n.tolist(), (1, -1, 1), strict=True)]
    expected = tau * mu[0] * (scaled[1] - scaled[2] - (mu[1] / mu[0]) ** 2 * scaled[0]) / (mu[0] * mu[1] - mu[1] ** 2)
    assert found.single_photon_bits == math.floor(expected)


def test_trap_3_the_deviation_of_a_rare_label_comes_from_the_whole_basis():
    """More signal detections alone widen the deviation of the weak decoy: fewer single photons than with n_k."""
    found = length(BLOCK, Security(concentration="hoeffding")).single_photon_bits
    weak = math.sqrt(150_000 * -math.log((1e-10 / 4) ** 2 / 13) / 2)
    total = math.sqrt(2_150_200 * -math.log((1e-10 / 4) ** 2 / 13) / 2)
    tau = sum(q * math.exp(-v) * v for v, q in zip(BLOCK.intensities, BLOCK.p_intensity, strict=True))
    per_detection = tau * 0.5 / (0.5 * 0.1 - 0.01) * math.exp(0.1) / 0.25
    unlimited = length(replace(BLOCK, n=BLOCK.n * 10**6, m=BLOCK.m * 10**6), Security()).single_photon_bits / 1e6
    assert found < unlimited - per_detection * total < unlimited - per_detection * weak


@pytest.mark.parametrize("errors", [0, 1, 3, 10])
@pytest.mark.parametrize("profile", "VLT")
def test_trap_4_few_errors_do_not_make_few_phase_errors(profile, errors):
    """At the phase error rate allowed, so few test errors have at most the promised probability (exact tail)."""
    block = replace(BLOCK, m=np.array([[20_000, 1_600, 100], [0, errors, 0]], dtype=np.int64))
    security = Security(profile=profile)
    found = length(block, security)
    tested = length(block.swapped(), security).single_photon_bits
    keyed = found.single_photon_bits
    marked = math.ceil(errors + found.phase_error_upper * keyed)
    tail = (1e-10 / 4) ** 2 / 13 if profile == "V" else (1e-10 / 21) ** 2
    assert stats.hypergeom.logcdf(errors, tested + keyed, marked, tested) <= math.log(tail) + 1e-6
    assert found.phase_error_upper > (errors + 30) / tested


@pytest.mark.parametrize("profile", "VLT")
@pytest.mark.parametrize("empty", [(0,), (1,), (0, 1)])
def test_trap_5_no_vacuum_detections_are_normal(profile, empty):
    """n_3 = 0 in either basis or both: a finite length, and a key."""
    n, m = BLOCK.n.copy(), BLOCK.m.copy()
    n[list(empty), 2] = m[list(empty), 2] = 0
    found = length(replace(BLOCK, n=n, m=m), Security(profile=profile))
    assert math.isfinite(found.value)
    assert found.secret_bits > 10**5


def test_trap_5_an_intensity_that_is_never_sent_is_refused():
    """p_3 = 0 would divide by nothing; the message names the field."""
    with pytest.raises(ConfigError, match="p_intensity"):
        counts([90, 9, 0], [90, 9, 0], [0, 0, 0], [0, 0, 0], p=(0.7, 0.3, 0.0))


def test_trap_6_single_photon_errors_never_exceed_the_errors_seen():
    """Few errors, all at the weak decoy: scaled by e^mu / p they would be many times as many.

    With v_1 at the errors seen, the phase error rate is the exact bound for those: its tail is the promised one.
    """
    m = np.array([[20_000, 1_600, 100], [0, 12, 0]], dtype=np.int64)
    found = length(replace(BLOCK, m=m), Security())
    tested = length(replace(BLOCK, m=m).swapped(), Security()).single_photon_bits
    marked = math.ceil(12 + found.phase_error_upper * found.single_photon_bits)
    reached = stats.hypergeom.logcdf(12, tested + found.single_photon_bits, marked, tested)
    assert reached == pytest.approx(math.log((1e-10 / 4) ** 2 / 13), abs=0.2)


def test_trap_6_with_one_decoy():
    """Errors at the signal only, few: the same exact bound."""
    block = counts([2_000_000, 150_000], [200_000, 15_000], [20_000, 1_600], [12, 0], mu=(0.5, 0.1), p=(0.7, 0.3))
    found = length(block, Security())
    reverse = replace(block, m=np.array([[12, 0], [20_000, 1_600]], dtype=np.int64), n=block.n[::-1].copy())
    tested, keyed = length(reverse, Security()).single_photon_bits, found.single_photon_bits
    marked = math.ceil(12 + found.phase_error_upper * keyed)
    reached = stats.hypergeom.logcdf(12, tested + keyed, marked, tested)
    assert reached == pytest.approx(math.log((1e-10 / 4) ** 2 / 12), abs=0.2)


def test_trap_7_the_leak_is_what_was_sent():
    """No efficiency and no error rate enters the charge: key-basis errors do not move the length, the count does."""
    worse = replace(BLOCK, m=np.array([[200_000, 16_000, 100], [2_000, 160, 10]], dtype=np.int64))
    assert length(worse, Security(), leak=123_456).value == length(BLOCK, Security(), leak=123_456).value
    assert length(BLOCK, Security(), leak=123_457).value == length(BLOCK, Security(), leak=123_456).value - 1
    for function in (key_length_bb84, key_length_bbm92):
        assert {"leak_bits", "verification_bits", "dropped_bits"} <= inspect.signature(function).parameters.keys()
        assert not {"f_ec", "f", "efficiency"} & inspect.signature(function).parameters.keys()


def test_trap_7_a_signal_only_key_is_charged_for_all_that_was_corrected():
    """The leak is not scaled to the signal, nor to the share that stays undisclosed."""
    for security in (Security(key_from="signal"), Security(key_from="signal", disclosed_signal=0.1)):
        assert length(BLOCK, security, leak=1_000).terms["error correction"] == -1_000


def test_trap_11_frames_that_failed_are_charged_and_not_forgotten():
    """A frame that never verified gives no key: it stays in the counts and costs its full length besides its leak.

    (That an unverified block ends without a key is tested where blocks are run.)
    """
    plain = length(BLOCK, Security(), leak=200_000)
    failed = length(BLOCK, Security(), leak=200_000, dropped=65_536)
    assert failed.value == plain.value - 65_536
    assert failed.single_photon_bits == plain.single_photon_bits
    everything = int(BLOCK.n[0].sum())
    assert length(BLOCK, Security(), leak=0, dropped=everything).secret_bits == 0


@pytest.mark.parametrize("mu", [(0.5, 0.3, 0.2), (0.5, 0.4, 0.2), (0.3, 0.2, 0.1), (0.5, 0.4999, 0.0002)])
@pytest.mark.parametrize("profile", "VLT")
def test_trap_12_intensities_outside_the_proof_are_refused(mu, profile):
    """mu_1 <= mu_2 + mu_3, equality included: no length by any profile, and no asymptotic yields."""
    block = counts([9_000, 900, 90], [9_000, 900, 90], [90, 9, 9], [90, 9, 9], mu=mu)
    with pytest.raises(ConfigError, match="exceed the sum"):
        length(block, Security(profile=profile))
    with pytest.raises(ConfigError, match="exceed the sum"):
        decoy_yields(mu, (1e-3, 2e-4, 1e-6), (1e-5, 2e-6, 5e-7))


def test_trap_12_equal_intensities_are_refused():
    with pytest.raises(ConfigError, match="different"):
        counts([9_000, 900, 90], [9_000, 900, 90], [90, 9, 9], [90, 9, 9], mu=(0.2, 0.2, 0.0))


def test_trap_1_to_7_apply_under_either_accounting_rule():
    """The rule changes what is charged, by the caller, and the vacuum term: nothing else."""
    public, both = (length(BLOCK, Security(rule=rule), leak=5) for rule in (Rule.PUBLIC_ERRORS, Rule.BOTH))
    assert public.terms == both.terms


def test_counts_of_another_source_are_refused_and_not_bounded():
    """More weak-decoy detections than the signal allows would be single photons out of nothing."""
    with pytest.raises(Abort):
        length(counts([200_000, 150_000, 20], [20_000, 15_000, 2], [0, 0, 0], [0, 0, 0]), Security())
