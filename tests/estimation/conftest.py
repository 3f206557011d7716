"""Counts of a link in closed form, so that every test knows the truth it measures against."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qkdpp.core.channel import simple_gains
from qkdpp.estimation import Counts

sys.path.insert(0, str(Path(__file__).parent))

SATELLITE = {"intensities": (0.5, 0.08, 0.0), "p_intensity": (0.72, 0.18, 0.10)}


@pytest.fixture(scope="session")
def link() -> Callable[..., Counts]:
    """Expected counts of ``pulses`` sent over a link of the given transmittance, rounded to integers."""

    def make(
        pulses: float,
        *,
        transmittance: float = 4e-3,
        background: float = 2e-6,
        misalignment: float = 0.0045,
        p_z: tuple[float, float] = (0.889, 0.9),
        intensities: tuple[float, ...] = SATELLITE["intensities"],
        p_intensity: tuple[float, ...] = SATELLITE["p_intensity"],
    ) -> Counts:
        gains = simple_gains(intensities, transmittance=transmittance, background=background, misalignment=misalignment)
        share = np.array([p_z[0] * p_z[1], (1 - p_z[0]) * (1 - p_z[1])])
        weight = pulses * share[:, None] * np.array(p_intensity)
        n = np.rint(weight * gains.gain).astype(np.int64)
        m = np.minimum(np.rint(weight * gains.error_gain).astype(np.int64), n)
        return Counts(intensities=intensities, p_intensity=p_intensity, n=n, m=m)

    return make
