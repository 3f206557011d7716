"""What a count of odd blocks tells about the error rate, the same on every host.

A block of k bits with independent errors of rate q holds an odd number of them
with probability ``(1 - (1 - 2q)**k) / 2``; for small q the number is Poissonian
with mean m = qk and the probability is ``(1 - exp(-2m)) / 2``. Both parties
steer by these numbers, so they must agree to the last bit: only additions,
multiplications, divisions and square roots are used, which IEEE 754 rounds
correctly everywhere.
"""

from __future__ import annotations

import math
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", float, NDArray[np.float64])
_ROOTS: Final = 8


def odd_share(rate: float, length: int) -> float:
    """Probability that ``length`` bits, a power of two, hold an odd number of errors of rate ``rate``."""
    if length & (length - 1):
        raise ValueError("length must be a power of two")
    agree = 1.0 - 2.0 * rate
    while length > 1:
        agree *= agree
        length >>= 1
    return (1.0 - agree) / 2.0


def mean_errors(share: F) -> F:
    """Mean number of errors of blocks of which ``share`` (0 to below 1/2) are odd: ``-ln(1 - 2 share) / 2``.

    By ``ln y = 2**k ln(y**(1/2**k))`` and the first two terms of ``ln y = 2 artanh((y - 1) / (y + 1))``; accurate to
    1e-9 up to a share of 0.49.
    """
    root: Any = 1.0 - 2.0 * share
    for _ in range(_ROOTS):
        root = np.sqrt(root)
    t = (1.0 - root) / (1.0 + root)
    mean: F = float(1 << _ROOTS) * (t + t * t * t / 3.0)
    return mean


def efficiency(leak_bits: int, n: int, errors: int) -> float:
    """Efficiency f = leak / (n h(errors / n)): bits disclosed over the least number that could do.

    Without errors (or with nothing but errors) nothing needs to be disclosed: the result is then infinite if something
    was, and 1 if nothing was. Raises ValueError unless ``0 <= errors <= n`` and ``leak_bits >= 0``.
    """
    if not 0 <= errors <= n or leak_bits < 0:
        raise ValueError(f"{errors} errors in {n} bits with {leak_bits} bits disclosed")
    if errors in (0, n):
        return math.inf if leak_bits else 1.0
    q = errors / n
    entropy = -q * math.log2(q) - (1.0 - q) * math.log1p(-q) / math.log(2.0)
    return leak_bits / (n * entropy)
