"""Exact integer conversion of times between tick lengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INT64_MAX = (1 << 63) - 1


def scaled(values: NDArray[np.int64], numerator: int, denominator: int, *, nearest: bool = False) -> NDArray[np.int64]:
    """``values * numerator / denominator``, rounded down or to the nearest (halves up), exactly.

    Raises:
        OverflowError: a result does not fit int64.
    """
    if numerator == denominator or not values.size:
        return values
    whole, part = divmod(numerator, denominator)
    shift = denominator // 2 if nearest else 0
    top = max(abs(int(values.min())), abs(int(values.max())))
    if top * (whole + 1) > INT64_MAX:
        extremes = [(int(v) * numerator + shift) // denominator for v in (values.min(), values.max())]
        if not all(abs(extreme) <= INT64_MAX for extreme in extremes):
            raise OverflowError("time does not fit 63 bits")
    if top * part + shift <= INT64_MAX:
        return values * np.int64(whole) + (values * np.int64(part) + np.int64(shift)) // np.int64(denominator)
    return _scaled_from_base(values, numerator, denominator, shift)


def _scaled_from_base(values: NDArray[np.int64], numerator: int, denominator: int, shift: int) -> NDArray[np.int64]:
    """The same for large values: int64 arithmetic relative to the smallest value, Python integers where that fails."""
    base = int(values.min())
    whole, part = divmod(numerator, denominator)
    quotient, rest = divmod(base * numerator + shift, denominator)
    spread = int(values.max()) - base
    if spread * (whole + 1) <= INT64_MAX and spread * part + rest <= INT64_MAX:
        relative = values - np.int64(base)
        fine = (relative * np.int64(part) + np.int64(rest)) // np.int64(denominator)
        return relative * np.int64(whole) + fine + np.int64(quotient)
    exact = [(int(v) * numerator + shift) // denominator for v in values]
    return np.array(exact, dtype=np.int64)
