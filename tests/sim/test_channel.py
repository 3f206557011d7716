"""The closed forms against photon-by-photon sums and known limits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkdpp.core import channel


def enumerate_gain(
    mu: float, eta: float, e_d: float, darks: tuple[float, float], efficiency: tuple[float, float]
) -> tuple[float, float, float]:
    """Gain, error gain and double clicks by summing over photon numbers, routes and losses (independent oracle)."""
    gain = error = double = 0.0
    for bit in (0, 1):
        for n in range(40):
            weight = math.exp(-mu) * mu**n / math.factorial(n) / 2
            # each photon: right detector, wrong detector, or lost
            right, wrong = eta * (1 - e_d) * efficiency[bit], eta * e_d * efficiency[1 - bit]
            no_right, no_wrong = (1 - right) ** n, (1 - wrong) ** n
            none = (1 - right - wrong) ** n
            d_right, d_wrong = darks[bit], darks[1 - bit]
            silent = none * (1 - d_right) * (1 - d_wrong)
            only_right = no_wrong * (1 - d_wrong) - silent
            only_wrong = no_right * (1 - d_right) - silent
            both = 1 - silent - only_right - only_wrong
            gain += weight * (1 - silent)
            error += weight * (only_wrong + both / 2)
            double += weight * both
    return gain, error, double


@given(
    mu=st.floats(0, 1.5),
    eta=st.floats(1e-4, 1.0),
    e_d=st.floats(0, 0.5),
    dark=st.tuples(st.floats(0, 0.01), st.floats(0, 0.01)),
    ratio=st.floats(0.5, 1.0),
)
def test_two_detectors_agree_with_a_sum_over_photons(
    mu: float, eta: float, e_d: float, dark: tuple[float, float], ratio: float
) -> None:
    model = channel.TwoDetectors(transmittance=eta, misalignment=e_d, dark=dark, efficiency=(1.0, ratio))
    gains = model.gains([mu])
    expected = enumerate_gain(mu, eta, e_d, dark, (1.0, ratio))
    assert (gains.gain[0], gains.error_gain[0], gains.double_gain[0]) == pytest.approx(expected, rel=1e-9, abs=1e-14)


def test_the_simple_form_is_the_first_order_of_the_exact_one() -> None:
    eta, e_d, dark = 1e-4, 0.012, 1e-7
    simple = channel.simple_gains([0.6, 0.2, 0.0], transmittance=eta, background=2 * dark, misalignment=e_d)
    exact = channel.TwoDetectors(transmittance=eta, misalignment=e_d, dark=(dark, dark)).gains([0.6, 0.2, 0.0])
    np.testing.assert_allclose(exact.gain, simple.gain, rtol=2e-6)
    np.testing.assert_allclose(exact.error_gain, simple.error_gain, rtol=1e-3)
    assert exact.error_rate[2] == pytest.approx(0.5)


def test_gobby_yuan_shields_at_fifty_kilometres() -> None:
    """GYS numbers (Y0 1.7e-6, e_d 3.3 %, eta_Bob 4.5 %, 0.21 dB/km), worked by hand for 50 km and mu 0.48."""
    eta = 0.045 * channel.transmittance(channel.fibre_loss_db(50.0, 0.21))
    assert eta == pytest.approx(0.045 * 10**-1.05)
    gains = channel.simple_gains([0.48], transmittance=eta, background=1.7e-6, misalignment=0.033)
    assert gains.gain[0] == pytest.approx(1.7e-6 + 1 - math.exp(-eta * 0.48))
    assert gains.error_rate[0] == pytest.approx(0.0333, abs=1e-3)


def test_after_pulses_add_half_wrong_clicks_in_proportion_to_the_mean_gain() -> None:
    gains = channel.TwoDetectors(transmittance=0.01).gains([0.5, 0.1])
    more = gains.with_after_pulses(0.02, [0.9, 0.1])
    mean = 0.9 * gains.gain[0] + 0.1 * gains.gain[1]
    np.testing.assert_allclose(more.gain - gains.gain, 0.02 * mean)
    np.testing.assert_allclose(more.error_gain - gains.error_gain, 0.01 * mean)


def test_live_share_by_incident_and_by_recorded_rate_agree() -> None:
    incident, dead_s = 2.0e5, 1.0e-6
    share = channel.live_share(incident, dead_s)
    assert share == pytest.approx(1 / 1.2)
    assert channel.live_share_recorded(incident * share, dead_s) == pytest.approx(share)


def test_dead_share_scales_single_clicks() -> None:
    whole = channel.TwoDetectors(transmittance=1e-3).gains([0.5])
    half = channel.TwoDetectors(transmittance=1e-3, live=(0.5, 0.5)).gains([0.5])
    assert half.gain[0] == pytest.approx(whole.gain[0] / 2)


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(0.0, 0.01), (45.0, 0.5), (90.0, 0.99), (5.0, 0.01 + 0.98 * math.sin(math.radians(5)) ** 2)],
)
def test_rotation_mixes_the_two_detectors(degrees: float, expected: float) -> None:
    assert channel.rotated_misalignment(0.01, math.radians(degrees)) == pytest.approx(expected)


def test_gate_acceptance_is_the_normal_law() -> None:
    assert channel.gate_acceptance(2.0, 1.0) == pytest.approx(0.682689492)
    assert channel.gate_acceptance(1e-9, 0.0) == 1.0


def test_dark_counts_per_gate() -> None:
    assert channel.dark_per_gate(1000.0, 1e-9) == pytest.approx(1e-6)
    assert channel.dark_per_gate(1e12, 1.0) == 1.0
