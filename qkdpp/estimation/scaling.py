"""How much data would have been enough."""

from __future__ import annotations

import math
from collections.abc import Callable

_LARGEST = 1e12
"""Detections beyond which a link is said to give no key at all."""
_PRECISION = 1.01


def detections_needed(length_at: Callable[[float], float], detections: int, unlimited: float) -> int | None:
    """Detections from which on a block of the same proportions would give a key, to about one per cent.

    Args:
        length_at: length in bits when all counts and the leak are multiplied by a factor.
        detections: detections of the block at hand.
        unlimited: length for the same proportions and unlimited data.

    Returns:
        A number of detections, or None if no number up to 1e12 suffices.
    """
    if detections <= 0 or unlimited <= 0:
        return None
    low, high = 1.0, 2.0
    while length_at(high) < 1:
        low, high = high, 2 * high
        if high * detections > _LARGEST:
            return None
    while high / low > _PRECISION:
        middle = math.sqrt(low * high)
        if length_at(middle) < 1:
            low = middle
        else:
            high = middle
    return math.ceil(high * detections)
