"""Sources, channels and lengths that the tests of three states share."""

from __future__ import annotations

import numpy as np
import three_state_oracle as oracle

from qkdpp.estimation.security import KeyLength, Security
from qkdpp.estimation.three_state import key_length_three_state
from qkdpp.estimation.three_state_counts import ThreeStateCounts
from qkdpp.estimation.virtual_states import ThreeStates

IDEAL = ThreeStates(probability=(0.45, 0.45, 0.1))
BALANCED = ThreeStates(probability=(0.3, 0.3, 0.4))
FLAWED = ThreeStates(probability=(0.5, 0.4, 0.1), angle_rad=(0.03, 3.05, 1.5))
MU, P = (0.5, 0.2, 0.1, 0.0), (0.4, 0.2, 0.25, 0.15)

CHANNELS = {
    "ideal": oracle.depolarising(0),
    "depolarising": oracle.depolarising(0.06),
    "rotated": oracle.rotation(0.3),
    "rotated back": oracle.rotation(-0.3),
    "damped": oracle.damping(0.2),
    "blocked": oracle.polarising_loss(0.3),
    "everything": oracle.chain(
        oracle.rotation(0.2), oracle.damping(0.1), oracle.polarising_loss(0.5), oracle.depolarising(0.05)
    ),
}


def length(counts, predicted: ThreeStateCounts | None, leak: int = 0, foresee: bool = True, **security) -> KeyLength:
    return key_length_three_state(
        counts,
        predicted=predicted,
        leak_bits=leak,
        verification_bits=0,
        dropped_bits=0,
        security=Security(**security),
        foresee=foresee,
    )


def expected(pulses: float, channel: oracle.Kraus = CHANNELS["depolarising"], states: ThreeStates = BALANCED):
    gain = oracle.gains(MU, 1e-2, channel, states, dark=1e-7)
    return oracle.expected_counts(pulses, gain, MU, P, states, (0.5, 0.5))


def empty() -> np.ndarray:
    return np.zeros((4, 3, 4), dtype=np.int64)
