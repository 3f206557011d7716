"""Is this a raw key at all? Bias, autocorrelation and repetition, with stated thresholds.

A raw key that repeats itself carries no fresh randomness whatever its error
rate: such input is refused. Bias and short correlations are normal in
hardware and cost key through the bounds, not through this check: they warn.
The statistics are functions of the key: they stay with the party that owns
it and are shown to its operator only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from qkdpp.core.bits import BitArray8, Bits

BIAS_WARN, BIAS_REFUSE = 0.02, 0.2
AUTOCORRELATION_WARN, AUTOCORRELATION_REFUSE = 0.03, 0.25
REPEATED_WARN, REPEATED_REFUSE = 1e-5, 0.1
"""Share of 64-bit windows that occur more than once; a random key has none."""
SIGMA = 6.0
"""A figure must also stand out of its statistical noise by this many standard deviations."""
MAX_BITS = 1 << 22
"""Longer keys are checked on their first bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Findings on one raw key.

    Attributes:
        bias: share of ones minus 1/2.
        autocorrelation: largest absolute autocorrelation of the +-1 sequence at a lag from 1 to half its length.
        lag: where it was found.
        repeated: share of the key's 64-bit windows that occur more than once.
        warnings, refusals: what the thresholds say; any refusal means that no key may be made of it.
    """

    bits: int
    bias: float
    autocorrelation: float
    lag: int
    repeated: float
    warnings: tuple[str, ...]
    refusals: tuple[str, ...]


def check(key: Bits) -> Health:
    """Examines a raw key (at least 256 bits; shorter ones pass unexamined)."""
    n = min(len(key), MAX_BITS)
    if n < 256:
        return Health(bits=n, bias=0.0, autocorrelation=0.0, lag=0, repeated=0.0, warnings=(), refusals=())
    bits = key.to_array()[:n]
    bias = float(bits.mean()) - 0.5
    signs = 1.0 - 2.0 * bits - float(np.mean(1.0 - 2.0 * bits))
    spectrum = scipy.fft.rfft(signs, scipy.fft.next_fast_len(2 * n, real=True))
    raw = scipy.fft.irfft(np.abs(spectrum) ** 2)[: n // 2 + 1]
    variance = max(float(np.var(signs)), 1e-12)
    lags = np.arange(1, n // 2 + 1)
    score = np.abs(raw[1:]) / (variance * np.sqrt(n - lags))
    best = int(np.argmax(score))
    value = float(raw[1 + best] / (variance * (n - lags[best])))
    warnings: list[str] = []
    refusals: list[str] = []
    out = (warnings, refusals)
    _judge("bias", bias, abs(bias) * 2 * np.sqrt(n), (BIAS_WARN, BIAS_REFUSE), out)
    name = f"autocorrelation at lag {lags[best]}"
    _judge(name, value, float(score[best]), (AUTOCORRELATION_WARN, AUTOCORRELATION_REFUSE), out)
    repeated = _repeated_windows(bits)
    _judge("share of repeated 64-bit windows", repeated, np.inf, (REPEATED_WARN, REPEATED_REFUSE), out)
    return Health(
        bits=n,
        bias=bias,
        autocorrelation=value,
        lag=int(lags[best]),
        repeated=repeated,
        warnings=tuple(warnings),
        refusals=tuple(refusals),
    )


def _repeated_windows(bits: BitArray8) -> float:
    windows = bits.astype(np.uint64)
    for width in (1, 2, 4, 8, 16, 32):
        windows = windows[:-width] | (windows[width:] << np.uint64(width))
    windows.sort()
    again = windows[1:] == windows[:-1]
    return float(again.sum()) / windows.size


def _judge(
    name: str, value: float, sigmas: float, limits: tuple[float, float], out: tuple[list[str], list[str]]
) -> None:
    """Adds a finding to the warnings or the refusals if it is above a limit and above its noise."""
    if sigmas < SIGMA or abs(value) < limits[0]:
        return
    grave = abs(value) >= limits[1]
    out[grave].append(f"{name} is {value:+.4f} (threshold {limits[grave]})")
