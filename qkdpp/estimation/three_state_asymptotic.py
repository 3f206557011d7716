"""Three-state BB84 with unlimited data: yields and secret bits per pulse from gains known exactly.

Assumes what :mod:`qkdpp.estimation.three_state` assumes. Guarantees a single-photon yield from below and a phase error
rate from above for every channel with these gains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.estimation.interpolation import slope_bounds, slopes
from qkdpp.estimation.security import binary_entropy, error_penalty
from qkdpp.estimation.three_state_groups import groups
from qkdpp.estimation.virtual_states import ThreeStates


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreeStateYields:
    """Single-photon yield of the key basis (lower bound) and phase error rate (upper bound)."""

    y1: float
    phase_error: float


def three_state_yields(
    intensities: tuple[float, ...], gain: NDArray[np.float64], states: ThreeStates
) -> ThreeStateYields:
    """Bounds from gains known exactly.

    Args:
        intensities: mean photon numbers, K >= 3.
        gain: float64[K, 3, 4], probability of outcome o (Z0, Z1, X0, X1) when label k and state s are sent and Bob
            measures in the basis of o.
        states: what is sent.

    Raises:
        ConfigError: fewer than three intensities.
    """
    through = slopes(intensities, (1 / len(intensities),) * len(intensities))
    scaled = np.exp(np.array(intensities))[:, None, None] * gain
    shares = np.array(states.probability[:2]) / states.keyed
    y1 = max(slope_bounds(through, scaled[:, :2, :2].sum(axis=2) @ shares)[0], 0.0)
    wrong = 0.0
    for group in groups(states, (0.5, 0.5)):
        chances = np.array([states.probability[s] / states.keyed * scaled[:, s, 2 + o] for s, o in group.cells])
        lower, upper = slope_bounds(through, chances.sum(axis=0))
        wrong += group.factor * max(upper if group.raises else lower, 0.0)
    return ThreeStateYields(y1=y1, phase_error=min(max(wrong / y1, 0.0), 1.0) if y1 > 0 else 1.0)


def three_state_rate(
    intensities: tuple[float, ...], gain: NDArray[np.float64], states: ThreeStates, *, f_ec: float
) -> float:
    """Secret bits per sifted pulse of the brightest intensity with unlimited data; at least 0.

    To be multiplied as :func:`qkdpp.estimation.asymptotic.asymptotic_rate`. Arguments and errors as of
    :func:`three_state_yields`; ``f_ec`` is the leak of error correction over its Shannon limit.
    """
    yields = three_state_yields(intensities, gain, states)
    brightest = int(np.argmax(intensities))
    mu, shares = intensities[brightest], np.array(states.probability[:2]) / states.keyed
    signal = shares[:, None] * gain[brightest, :2, :2]
    total = float(signal.sum())
    if total <= 0:
        return 0.0
    error_rate = float(signal[0, 1] + signal[1, 0]) / total
    singles = mu * math.exp(-mu) * yields.y1
    return max(0.0, singles * (1 - error_penalty(yields.phase_error)) - f_ec * total * binary_entropy(error_rate))
