"""Rates and QBER against time, binned for a report."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_POINTS = 120
MIN_BITS_PER_POINT = 200


def rates(
    detection_s: NDArray[np.float32], sifted_s: NDArray[np.float32], wrong: NDArray[np.bool_]
) -> dict[str, Any] | None:
    """Detections and sifted bits per second and QBER in equal time bins; None without data.

    Args:
        detection_s: times of all detections.
        sifted_s: times of the sifted bits, in any order.
        wrong: bool of the same shape, whether the two parties' bits differ.
    """
    if not detection_s.size or not sifted_s.size:
        return None
    end = float(detection_s.max())
    n = int(np.clip(sifted_s.size // MIN_BITS_PER_POINT, 1, MAX_POINTS))
    edges = np.linspace(0.0, max(end, 1e-9) * (1 + 1e-6), n + 1)
    width = edges[1] - edges[0]
    detected = np.histogram(detection_s, edges)[0]
    sifted = np.histogram(sifted_s, edges)[0]
    errors = np.histogram(sifted_s[wrong], edges)[0]
    return {
        "time_s": (edges[:-1] + edges[1:]) / 2,
        "detections_per_s": detected / width,
        "sifted_per_s": sifted / width,
        "qber": [float(e) / float(s) if s else None for e, s in zip(errors, sifted, strict=True)],
    }
