"""Unlimited data: the published limit of vacuum + weak decoy BB84 on the GYS link."""

from __future__ import annotations

import math

import pytest

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.channel import simple_gains, transmittance
from qkdpp.core.errors import ConfigError
from qkdpp.estimation.asymptotic import Yields, asymptotic_rate, decoy_yields

BACKGROUND, MISALIGNMENT, RECEIVER, F_EC, SIGNAL = 1.7e-6, 0.033, 0.045, 1.22, 0.48
"""The experiment of Gobby, Yuan and Shields 2004 as used by Ma, Qi, Zhao and Lo 2005; 0.21 dB/km."""


def gains(mu, km):
    eta = RECEIVER * transmittance(0.21 * km)
    return simple_gains(mu, transmittance=eta, background=BACKGROUND, misalignment=MISALIGNMENT)


def vacuum_weak(km: float, weak: float) -> float:
    mu = (SIGNAL, weak, 0.0)
    g = gains(mu, km)
    yields = decoy_yields(mu, tuple(g.gain), tuple(g.error_gain))
    return asymptotic_rate(SIGNAL, float(g.gain[0]), float(g.error_rate[0]), yields, f_ec=F_EC)


def all_decoys(km: float) -> float:
    """Yields known exactly: infinitely many decoys."""
    eta = RECEIVER * transmittance(0.21 * km)
    g = gains((SIGNAL,), km)
    y1 = BACKGROUND + eta
    exact = Yields(y0=BACKGROUND, y1=y1, e1=(BACKGROUND / 2 + MISALIGNMENT * eta) / y1)
    return asymptotic_rate(SIGNAL, float(g.gain[0]), float(g.error_rate[0]), exact, f_ec=F_EC)


def limit_km(rate) -> float:
    near, far = 100.0, 160.0
    while far - near > 1e-3:
        middle = (near + far) / 2
        near, far = (middle, far) if rate(middle) > 0 else (near, middle)
    return near


def test_limit_of_142_km_with_all_decoys():
    """The paper's 142 km; the decimals here and below are quoted from memory, hence the tolerance."""
    assert limit_km(all_decoys) == pytest.approx(142.05, abs=0.1)


def test_limit_of_140_and_a_half_km_with_vacuum_and_a_weak_decoy():
    assert limit_km(lambda km: vacuum_weak(km, 0.05)) == pytest.approx(140.55, abs=0.1)


def test_weaker_decoys_approach_all_decoys_from_below():
    rates = [vacuum_weak(100.0, weak) for weak in (0.2, 0.1, 0.05, 0.01, 0.001)]
    assert rates == sorted(rates)
    assert 0.99 * all_decoys(100.0) < rates[-1] <= all_decoys(100.0)


def test_beyond_the_limit_the_rate_is_zero():
    assert vacuum_weak(160.0, 0.05) == 0.0


@pytest.mark.parametrize("transmission", [1e-1, 1e-3, 1e-5])
def test_yields_bound_the_truth(transmission):
    mu = (0.5, 0.1, 0.01)
    click = -math.expm1(-transmission)  # of one photon's worth of light; the true single-photon yield is above it
    g = simple_gains(mu, transmittance=transmission, background=1e-6, misalignment=0.02)
    found = decoy_yields(mu, tuple(g.gain), tuple(g.error_gain))
    assert found.y0 <= 1e-6 + 1e-15
    assert found.y1 <= transmission + 1e-6
    assert found.y1 > 0.9 * click
    assert found.e1 >= (0.5e-6 + 0.02 * transmission) / (transmission + 1e-6) - 1e-12


@pytest.mark.parametrize("mu", [(0.3, 0.2, 0.1), (0.5, 0.1, 0.1), (0.5, 0.0, 0.1), (0.5, 0.1, -0.1)])
def test_intensities_without_a_bound_are_refused(mu):
    with pytest.raises(ConfigError):
        decoy_yields(mu, (1e-3, 1e-4, 1e-5), (1e-5, 1e-6, 1e-6))


def test_no_single_photons_no_rate():
    silent = decoy_yields((0.5, 0.1, 0.0), (0.3, 1e-6, 1e-6), (1e-3, 5e-7, 5e-7))
    assert (silent.y1, silent.e1) == (0.0, 1.0)
    assert asymptotic_rate(0.5, 0.3, 0.003, silent, f_ec=1.1) == 0.0


@pytest.mark.parametrize(
    ("gain", "error_gain", "says"),
    [
        ((2e-3, 1e-4, 2e-4), (1e-5, 1e-6, 1e-6), "photon yield below zero"),
        ((4e-4, 3e-4, 1e-6), (1e-5, 1e-6, 5e-7), "multi-photon yield below zero"),
        ((2e-3, 4e-4, 2e-6), (1e-5, 1e-7, 2e-6), "photon error yield below zero"),
        ((2e-3, 4e-4, 2e-6), (1e-5, 5e-4, 1e-6), "outside"),
        ((1.5, 0.5, 1e-6), (1e-2, 1e-3, 1e-7), "outside"),
        ((0.9, 0.15, 0.0), (1e-2, 1e-3, 0.0), "above one"),
    ],
)
def test_gains_that_no_channel_gives_are_refused(gain, error_gain, says):
    with pytest.raises(Abort) as caught:
        decoy_yields((0.5, 0.1, 0.0), gain, error_gain)
    assert caught.value.aborted.reason is AbortReason.IMPLAUSIBLE_COUNTS
    assert says in caught.value.aborted.evidence["contradictions"][0]
