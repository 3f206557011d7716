"""Qubit channels by density matrices, gains and drawn blocks of three-state BB84: the truth its tests measure against.

Nothing here uses the package's formulas: phase errors come from an entangled pair of which one half is sent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qkdpp.estimation.three_state_counts import ThreeStateCounts
from qkdpp.estimation.virtual_states import ThreeStates

Kraus = Sequence[np.ndarray]

IDENTITY = np.eye(2)
PAULI = {
    "X": np.array([[0, 1], [1, 0]], dtype=complex),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.array([[1, 0], [0, -1]], dtype=complex),
}
PLUS, MINUS = np.array([1, 1]) / math.sqrt(2), np.array([1, -1]) / math.sqrt(2)
OUTCOMES = [np.outer(v, v) for v in (np.array([1, 0]), np.array([0, 1]), PLUS, MINUS)]


def depolarising(q: float) -> Kraus:
    """Error rate ``q / 2`` in every basis."""
    return [math.sqrt(1 - 3 * q / 4) * IDENTITY] + [math.sqrt(q) / 2 * p for p in PAULI.values()]


def rotation(angle_rad: float) -> Kraus:
    """About Y by ``angle_rad`` on the Bloch sphere."""
    return [math.cos(angle_rad / 2) * IDENTITY - 1j * math.sin(angle_rad / 2) * PAULI["Y"]]


def intercept_resend_z() -> Kraus:
    return OUTCOMES[:2]


def resend_x0() -> Kraus:
    return [np.outer(PLUS, bra) for bra in IDENTITY]


def damping(gamma: float) -> Kraus:
    return [np.diag([1, math.sqrt(1 - gamma)]), np.array([[0, math.sqrt(gamma)], [0, 0]])]


def polarising_loss(transmission: float) -> Kraus:
    """Lets Z0 pass and Z1 with the given probability: an adversary who blocks what she does not like."""
    return [np.diag([1, math.sqrt(transmission)])]


def chain(*channels: Kraus) -> Kraus:
    result: Kraus = [IDENTITY]
    for channel in channels:
        result = [b @ a for a in result for b in channel]
    return result


def ket(angle_rad: float) -> np.ndarray:
    return np.array([math.cos(angle_rad / 2), math.sin(angle_rad / 2)])


def yields(channel: Kraus, states: ThreeStates) -> np.ndarray:
    """``Y(o | s)``, float64[3, 4]."""
    table = np.empty((3, 4))
    for s, angle in enumerate(states.angle_rad):
        rho = sum(k @ np.outer(ket(angle), ket(angle)) @ k.conj().T for k in channel)
        table[s] = [np.trace(e @ rho).real for e in OUTCOMES]
    return np.clip(table, 0, None)


def true_phase_error(channel: Kraus, states: ThreeStates) -> float:
    """Alice keeps one qubit of the pair that prepares Z0 or Z1, both halves are measured in X."""
    p0, p1 = (p / (states.probability[0] + states.probability[1]) for p in states.probability[:2])
    zero, one = (ket(a) for a in states.angle_rad[:2])
    pair = math.sqrt(p0) * np.kron([1, 0], zero) + math.sqrt(p1) * np.kron([0, 1], one)
    rho = np.zeros((4, 4), dtype=complex)
    for k in channel:
        sent = np.kron(IDENTITY, k) @ pair
        rho += np.outer(sent, sent.conj())
    wrong = np.kron(OUTCOMES[2], OUTCOMES[3]) + np.kron(OUTCOMES[3], OUTCOMES[2])
    return float((np.trace(wrong @ rho) / np.trace(rho)).real)


def gains(mu: Sequence[float], transmittance: float, channel: Kraus, states: ThreeStates, dark: float = 0.0):
    """Threshold detectors behind the channel, double clicks assigned at random: float64[K, 3, 4]."""
    mean = transmittance * np.array(mu)[:, None, None] * yields(channel, states)
    click = 1 - (1 - dark) * np.exp(-mean)
    other = click[:, :, [1, 0, 3, 2]]
    return click * (1 - other) + click * other / 2


def expected_counts(
    pulses: float,
    gain: np.ndarray,
    mu: Sequence[float],
    p: Sequence[float],
    states: ThreeStates,
    p_bob: Sequence[float],
) -> ThreeStateCounts:
    weight = np.array(p)[:, None, None] * np.array(states.probability)[None, :, None] * np.repeat(p_bob, 2)
    return ThreeStateCounts(
        intensities=tuple(mu),
        p_intensity=tuple(p),
        states=states,
        p_bob=p_bob,
        n=np.rint(pulses * weight * gain).astype(np.int64),
    )


def draw_blocks(rng, blocks, pulses, parts, transmittance, mu, p, states, p_bob):
    """Blocks sent in several parts through a channel each, photon number by photon number.

    Multi-photon pulses are split by the adversary, who forwards a perfect copy more often than a single photon.

    Returns:
        counts int64[blocks, K, 3, 4], keyed single photons int64[blocks] and phase errors among them int64[blocks].
    """
    k, numbers = len(mu), range(9)
    poisson = np.array([[math.exp(-m) * m**n / math.factorial(n) for n in numbers] for m in mu])
    labels_states = np.array(p)[:, None] * np.array(states.probability)
    counts = np.zeros((blocks, k, 3, 4), dtype=np.int64)
    singles, errors = np.zeros(blocks, dtype=np.int64), np.zeros(blocks, dtype=np.int64)
    perfect = yields([IDENTITY], states)
    for channel in parts:
        by_number = [np.full((3, 4), 1e-6)]
        by_number += [transmittance * yields(channel, states)]
        by_number += [min(1.0, 3 * n * transmittance) * perfect for n in numbers[2:]]
        table = np.stack(by_number)[:, None] * poisson.T[:, :, None, None] * labels_states[:, :, None]
        table = table * np.repeat(p_bob, 2)
        flat = np.append(table.ravel(), 1 - table.sum())
        drawn = rng.multinomial(pulses // len(parts), flat, size=blocks)[:, :-1].reshape(blocks, *table.shape)
        counts += drawn.sum(axis=1)
        keyed = drawn[:, 1, :, :2, :2].sum(axis=(1, 2, 3))
        singles += keyed
        errors += rng.binomial(keyed, true_phase_error(channel, states))
    return counts, singles, errors
