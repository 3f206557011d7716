"""Blocks through detectors of unequal efficiency, against an adversary who knows them; the truth is drawn beside.

A photon that reaches Bob meets one number u, and a detector of efficiency eta clicks if u < eta; the click is untagged
if u is below the weakest efficiency of all. The adversary sees photon numbers: she acts on single photons by a qubit
channel made for the detectors, forwards a copy of every pair and blocks the rest, which leaves the decoy bounds no
slack. Phase errors of keyed untagged photons come from an entangled pair (``three_state_oracle``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import three_state_oracle as oracle
from estimation_oracles import too_many

from qkdpp.estimation import Counts, Efficiencies, KeyLength, Security, Split, ThreeStates, key_length_bb84

BLOCKS, PULSES = 10_000, 400_000_000
MU, P, P_X = (0.5, 0.15, 0.0), (0.4, 0.4, 0.2), 0.5
PASSED = 0.02
IDEAL = ThreeStates(probability=(0.25, 0.25, 0.5))
HADAMARD = (oracle.PAULI["X"] + oracle.PAULI["Z"]) / math.sqrt(2)


@dataclass(frozen=True)
class Attack:
    """A channel for single photons, and the detectors (Z0, Z1, X0, X1) it was made for."""

    channel: oracle.Kraus
    eta: tuple[float, float, float, float]


ATTACKS = {
    "all light to the strong detector": Attack([np.outer([1, 0], bra) for bra in np.eye(2)], (1.0, 0.6, 1.0, 0.6)),
    "most light to the strong detector": Attack(oracle.polarising_loss(0.4), (1.0, 0.6, 1.0, 0.6)),
    "errors to the weak detector": Attack(
        [HADAMARD @ k @ HADAMARD for k in oracle.damping(0.12)], (0.6, 0.6, 0.6, 1.0)
    ),
}


@dataclass(frozen=True)
class Truth:
    """Counts int64[BLOCKS, 2, K] and, for every block, untagged keyed single photons and their phase errors."""

    n: np.ndarray
    m: np.ndarray
    untagged: np.ndarray
    wrong: np.ndarray


def outcomes(channel: oracle.Kraus) -> np.ndarray:
    """Probability of Bob's bit b given Alice's bit a, both in the same basis: float64[basis, a, b]."""
    table = np.empty((2, 2, 2))
    for basis in (0, 1):
        for a in (0, 1):
            rho = sum(k @ oracle.OUTCOMES[2 * basis + a] @ k.conj().T for k in channel)
            table[basis, a] = [np.trace(oracle.OUTCOMES[2 * basis + b] @ rho).real for b in (0, 1)]
    return np.clip(table, 0, None)


@cache
def play(name: str) -> Truth:
    attack, rng = ATTACKS[name], np.random.default_rng(61)
    eta = np.array(attack.eta).reshape(2, 1, 2)
    matching = np.array([(1 - P_X) ** 2, P_X**2])[:, None, None] / 2
    cells = []
    for photons, channel in ((1, attack.channel), (2, [oracle.IDENTITY])):
        sent = np.array([p * math.exp(-v) * v**photons / photons for v, p in zip(MU, P, strict=True)])
        cells.append(PASSED * sent[:, None, None, None] * matching * outcomes(channel) * eta)
    table = np.stack(cells)  # photons, label, basis, a, b
    drawn = rng.multinomial(PULSES, np.append(table.ravel(), 1 - table.sum()), size=BLOCKS)[:, :-1]
    drawn = drawn.reshape(BLOCKS, *table.shape)
    by_detector = drawn[:, 0, :, 0].sum(axis=(1, 2))  # keyed single photons, int64[BLOCKS, b]
    untagged = rng.binomial(by_detector, min(attack.eta) / np.array(attack.eta[:2])).sum(axis=1)
    wrong = rng.binomial(untagged, oracle.true_phase_error(attack.channel, IDEAL))
    n = drawn.sum(axis=(1, 4, 5)).transpose(0, 2, 1)
    m = (drawn[..., 0, 1] + drawn[..., 1, 0]).sum(axis=1).transpose(0, 2, 1)
    return Truth(n=np.ascontiguousarray(n), m=np.ascontiguousarray(m), untagged=untagged, wrong=wrong)


SETTINGS = {0.1: {"eps_sec": 0.64, "split": Split(smoothing=math.sqrt(0.1) / 0.64)}, 0.01: {"eps_sec": 0.4}}
"""Together the statements of profile V fail with probability kappa^2."""


def length(truth: Truth, block: int, eps: float, *receivers: Efficiencies) -> KeyLength:
    counts = Counts(intensities=MU, p_intensity=P, n=truth.n[block], m=truth.m[block])
    found = key_length_bb84(
        counts,
        leak_bits=0,
        verification_bits=0,
        dropped_bits=0,
        security=Security(**SETTINGS[eps]),
        receivers=receivers,
        foresee=False,
    )
    assert sum(b.eps for b in found.bounds) == pytest.approx(eps)
    return found


def failures(name: str, eps: float, blocks: int, *receivers: Efficiencies) -> tuple[int, int]:
    """Blocks with fewer untagged single photons than claimed, and with more phase errors among them."""
    truth, few, many = play(name), 0, 0
    for block in range(blocks):
        found = length(truth, block, eps, *receivers)
        few += found.single_photon_bits > truth.untagged[block]
        many += truth.wrong[block] > found.phase_error_upper * truth.untagged[block]
    return few, many


SLOW = [("all light to the strong detector", 0.1), ("most light to the strong detector", 0.01)]
SLOW += [("errors to the weak detector", 0.1)]


@pytest.mark.parametrize(
    ("name", "eps"),
    [
        pytest.param(name, eps, marks=[pytest.mark.slow] if (name, eps) in SLOW else [])
        for name in ATTACKS
        for eps in SETTINGS
    ],
)
def test_corrected_lengths_hold(name, eps):
    few, many = failures(name, eps, BLOCKS, Efficiencies(values=ATTACKS[name].eta, tolerance=0.0))
    assert not too_many(few, BLOCKS, eps), few
    assert not too_many(many, BLOCKS, eps), many


@pytest.mark.parametrize("name", list(ATTACKS)[1:])
def test_corrected_lengths_are_no_claim_of_nothing(name):
    found = length(play(name), 0, 0.01, Efficiencies(values=ATTACKS[name].eta, tolerance=0.0))
    assert found.value > 0.15 * play(name).untagged[0]


def test_all_light_to_the_strong_detector_leaves_as_few_untagged_as_claimed():
    """The worst case of the correction is met: its share is no more careful than it must be, and nothing is secret."""
    name = "all light to the strong detector"
    found = length(play(name), 0, 0.01, Efficiencies(values=ATTACKS[name].eta, tolerance=0.0))
    assert found.single_photon_bits > 0.95 * play(name).untagged[0]
    assert found.phase_error_upper >= 0.5


@pytest.mark.parametrize("eps", [0.1, 0.01])
def test_the_same_lengths_uncorrected_are_caught(eps):
    """Errors that meet the weak detector are seen too rarely: the phase error rate is above its bound."""
    assert too_many(failures("errors to the weak detector", eps, 200)[1], 200, eps)
    assert too_many(failures("all light to the strong detector", eps, 200)[0], 200, eps)
