"""Values that papers and the specification print, to their printed digits.

Which are quoted how: the Lim et al. 2014 figures were read in the paper's text
(its curves print no numbers); those of Ma et al. 2005 are quoted from memory,
and each is checked with a formula of its own besides; those marked A2, A5, A6
are figures of the specification.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from estimation_oracles import length

from qkdpp.core.channel import simple_gains, transmittance
from qkdpp.core.ledger import Rule
from qkdpp.estimation import (
    Counts,
    Security,
    Yields,
    accumulated,
    asymptotic_rate,
    binary_entropy,
    decoy_yields,
    key_length_bbm92,
)

# --- Ma, Qi, Zhao and Lo 2005, on the link of Gobby, Yuan and Shields -------------------------------------------------

Y0, MISALIGNED, RECEIVER = 1.7e-6, 0.033, 0.045


def all_decoys(km: float, mu: float, f_ec: float) -> float:
    """Rate with yields known exactly, for 0.21 dB/km."""
    eta = RECEIVER * transmittance(0.21 * km)
    gains = simple_gains((mu,), transmittance=eta, background=Y0, misalignment=MISALIGNED)
    exact = Yields(y0=Y0, y1=Y0 + eta, e1=(Y0 / 2 + MISALIGNED * eta) / (Y0 + eta))
    return asymptotic_rate(mu, float(gains.gain[0]), float(gains.error_rate[0]), exact, f_ec=f_ec)


def vacuum_and_weak(km: float, weak: float) -> float:
    mu = (0.48, weak, 0.0)
    gains = simple_gains(mu, transmittance=RECEIVER * transmittance(0.21 * km), background=Y0, misalignment=MISALIGNED)
    yields = decoy_yields(mu, tuple(gains.gain), tuple(gains.error_gain))
    return asymptotic_rate(0.48, float(gains.gain[0]), float(gains.error_rate[0]), yields, f_ec=1.22)


def last_km(rate) -> float:
    near, far = 50.0, 200.0
    while far - near > 1e-6:
        middle = (near + far) / 2
        near, far = (middle, far) if rate(middle) > 0 else (near, middle)
    return near


def test_the_curve_of_142_km():
    """All decoys: 142 km at mu = 0.48 and f = 1.22, to the printed kilometre, and no further with a better mu."""
    assert round(last_km(lambda km: all_decoys(km, 0.48, 1.22))) == 142
    assert round(last_km(lambda km: max(all_decoys(km, mu / 100, 1.22) for mu in range(30, 70)))) == 142


def test_vacuum_and_a_weak_decoy_end_at_140_and_a_half_km():
    """Printed 140.55 km (from memory); ours 140.62: the paper's exact yield model is not known to that digit."""
    assert last_km(lambda km: vacuum_and_weak(km, 0.05)) == pytest.approx(140.55, abs=0.08)


@pytest.mark.parametrize(("f_ec", "printed"), [(1.22, 0.48), (1.0, 0.54)])
def test_optimal_signal_intensity(f_ec, printed):
    """0.48 (f = 1.22) and 0.54 (f = 1), where ``(1 - mu) exp(-mu) = f h(e_d) / (1 - h(e_d))``, Eq. (12)."""
    steps = [0.30 + j / 1000 for j in range(401)]
    assert round(max(steps, key=lambda mu: all_decoys(60.0, mu, f_ec)), 2) == printed
    h = binary_entropy(MISALIGNED)
    assert round(min(steps, key=lambda mu: abs((1 - mu) * math.exp(-mu) - f_ec * h / (1 - h))), 2) == printed


# --- Lim, Curty, Walenta, Xu and Zbinden 2014 -------------------------------------------------------------------------


def lim_rate(n_x: float, km: float, q, p1, p2, mu1, mu2) -> float:
    """Secret bits per pulse of a block of ``n_x`` key-basis detections, Sec. IV.

    eta_Bob 10 %, p_dc 6e-7, p_ap 4e-2, 0.2 dB/km, mu_3 = 2e-4, e_mis 5e-3, f_EC 1.16, eps_cor 1e-15 and eps_sec =
    1e-15 per secret bit. The printed e_k has eta_ch in its exponent; with it the error would be ten times e_mis, so
    eta_sys is meant.
    """
    mu, p = (mu1, mu2, 2e-4), (p1, p2, 1 - p1 - p2)
    click = 1 - (1 - 2 * 6e-7) * np.exp(-0.1 * transmittance(0.2 * km) * np.array(mu))
    wrong = 6e-7 + 5e-3 * (1 - np.exp(-0.1 * transmittance(0.2 * km) * np.array(mu))) + 4e-2 * click / 2
    pulses = n_x / (q**2 * float(np.dot(p, 1.04 * click)))
    sent = pulses * np.array([[q**2], [(1 - q) ** 2]]) * np.array(p)
    n, m = (np.rint(sent * v).astype(np.int64) for v in (1.04 * click, wrong))
    block = Counts(intensities=mu, p_intensity=p, n=n, m=m)
    leak = round(1.16 * n_x * binary_entropy(m[0].sum() / n[0].sum()))
    bits = n_x / 10
    for _ in range(5):
        security = Security(eps_sec=1e-15 * max(bits, 1.0), profile="L", rule=Rule.BOTH)
        bits = length(block, security, leak=leak, verification=51).value
    return bits / pulses


def test_a_hundred_times_the_block_at_100_km_gives_1_75_times_the_key():
    """ "About 1.75" in print for 1e9 against 1e7 detections; ours 1.70, each at its own optimum (searched for once)."""
    large = lim_rate(1e9, 100.0, 0.93861, 0.7618, 0.17671, 0.44755, 0.17122)
    small = lim_rate(1e7, 100.0, 0.87429, 0.49958, 0.35744, 0.39292, 0.18973)
    assert large / small == pytest.approx(1.75, rel=0.035)
    assert 1e-5 < small < large < 1e-4  # where Fig. 1 draws them


def test_a_block_of_ten_thousand_reaches_beyond_120_km():
    """In print up to 135 km; ours has a key at 120 km and none at 135, its optimum ending at 129 km.

    What differs is the detection model (after-pulses make two per cent of errors; with half of them it is 135 km).
    """
    optimum = (0.25707, 0.04194, 0.52072, 0.49009, 0.10339)
    assert 5e-8 < lim_rate(1e4, 120.0, *optimum) < 1e-7
    assert lim_rate(1e4, 135.0, *optimum) < 0


def test_terms_of_equation_one():
    """``6 log2(21/eps)`` and the 21 itself: 2 (2 a1 + a2 + a3) + nu + 10 e1 + 2 e2, all equal, Eq. (B4)."""
    block = Counts(
        intensities=(0.5, 0.1, 2e-4),
        p_intensity=(0.6, 0.3, 0.1),
        n=np.array([[10**7, 10**6, 10**3], [10**6, 10**5, 10**2]]),
        m=np.array([[10**5, 10**4, 500], [10**4, 10**3, 50]]),
    )
    found = length(block, Security(eps_sec=1e-9, profile="L"))
    counted = [b for b in found.bounds if b.name.startswith("n_")], [b for b in found.bounds if b.name.startswith("m_")]
    assert [len(v) for v in counted] == [10, 2]
    assert 2 * (2 + 1 + 1) + 1 + len(counted[0]) + len(counted[1]) == 21
    assert [b.eps * 21 for b in found.bounds] == pytest.approx([1e-9] * 13)
    assert found.terms["privacy amplification"] == pytest.approx(-6 * math.log2(21e9))


# --- Rusca, Boaron, Gruenenfelder, Martin and Zbinden 2018 ------------------------------------------------------------

RUSCA = [
    (1e6, 20.0, 0.8473, (0.5008, 0.2331), (0.4384, 0.5616), 0.816, (0.5016, 0.2104, 0.0), (0.4999, 0.3177, 0.1824)),
    (1e7, 20.0, 0.9096, (0.5001, 0.2134), (0.6815, 0.3185), 0.8933, (0.5002, 0.2183, 0.0), (0.6024, 0.2682, 0.1294)),
    (1e7, 40.0, 0.9095, (0.5002, 0.2125), (0.6821, 0.3179), 0.8912, (0.5001, 0.2161, 0.0), (0.6106, 0.2641, 0.1253)),
    (1e8, 40.0, 0.9411, (0.4996, 0.1571), (0.8334, 0.1666), 0.9291, (0.4981, 0.1889, 0.0), (0.7604, 0.154, 0.0856)),
]
"""Key-basis detections, loss in dB, and the optimum (basis bias, intensities, probabilities) of one and of two decoys,
searched for once; 2e-8 background, 1 % misalignment, f = 1.16, eps_sec 1e-9: our numbers, their kind of link."""


def rusca_rate(n_z: float, loss_db: float, q: float, mu, p) -> float:
    """Secret bits per pulse with profile L."""
    gains = simple_gains(mu, transmittance=transmittance(loss_db), background=2e-8, misalignment=0.01)
    pulses = n_z / (q**2 * float(np.dot(p, gains.gain)))
    sent = pulses * np.array([[q**2], [(1 - q) ** 2]]) * np.array(p)
    n, m = (np.rint(sent * v).astype(np.int64) for v in (gains.gain, gains.error_gain))
    leak = round(1.16 * n_z * binary_entropy(m[0].sum() / n[0].sum()))
    block = Counts(intensities=mu, p_intensity=p, n=n, m=m)
    security = Security(eps_sec=1e-9, profile="L", rule=Rule.BOTH)
    return length(block, security, leak=leak, verification=51).value / pulses


@pytest.mark.parametrize(("n_z", "loss_db", "q1", "mu1", "p1", "q2", "mu2", "p2"), RUSCA)
def test_one_decoy_beats_two_up_to_1e8_detections(n_z, loss_db, q1, mu1, p1, q2, mu2, p2):
    """The paper's abstract, in the published formulas of both; the lead shrinks with the block."""
    lead = rusca_rate(n_z, loss_db, q1, mu1, p1) / rusca_rate(n_z, loss_db, q2, mu2, p2)
    assert lead == pytest.approx({1e6: 1.25, 1e7: 1.16, 1e8: 1.10}[n_z], abs=0.01)


# --- figures of the specification -------------------------------------------------------------------------------------

N = 10**12


def fraction(error: float, leak_per_shannon: float) -> float:
    """Secret share of sifted bits with unlimited data, pairs of equal error in both bases."""
    found = key_length_bbm92(
        N,
        N,
        round(error * N),
        leak_bits=round(leak_per_shannon * N * binary_entropy(error)),
        verification_bits=0,
        dropped_bits=0,
        security=Security(),
    )
    return found.secret_bits_asymptotic / N


@pytest.mark.parametrize(
    ("error", "public", "both"),
    [(0.01, 0.835, 0.751), (0.02, 0.711, 0.564), (0.03, 0.603, 0.401), (0.05, 0.416, 0.118)],
)
def test_key_fraction_of_both_rules(error, public, both):
    """A5.3, at f = 1.04: one side's parities, or both."""
    assert round(fraction(error, 1.04), 3) == public
    assert round(fraction(error, 2.08), 3) == both


@pytest.mark.parametrize(("leak_per_shannon", "threshold"), [(1.04, 0.107), (2.08, 0.059), (1.0, 0.110)])
def test_thresholds_of_both_rules(leak_per_shannon, threshold):
    """A5.3: 10.7 and 5.9 per cent; at the Shannon limit the 11.0 per cent of Shor and Preskill 2000."""
    assert fraction(threshold - 0.0005, leak_per_shannon) > 0
    assert fraction(threshold + 0.0005, leak_per_shannon) == 0


def test_ten_years_of_blocks():
    """A0: a block every 10 s for ten years at 1e-9 each (3.2e7 blocks): three per cent accumulated."""
    blocks = round(10 * 365.25 * 86_400 / 10)
    assert f"{blocks:.1e}" == "3.2e+07"
    assert round(accumulated(1e-9, blocks), 2) == 0.03
