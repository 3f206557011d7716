"""Is this a raw key at all? Bias, autocorrelation and repetition, with stated thresholds and power.

A raw key that repeats itself carries no fresh randomness whatever its error
rate: such input is refused. Bias and short correlations are normal in
hardware and cost key through the bounds, not through this check: they warn.
The statistics are functions of the key: they stay with the party that owns
it and are shown to its operator only.

What is found, and how surely, in a key of n bits:

- bias: all bits count.
- autocorrelation: a lag is searched for, then all bits count at that lag. Up to ``WHOLE_BITS`` every lag to n / 2 is
  searched bit by bit. In longer keys, lags below ``ROW_BITS / 2`` are searched in rows spread over the key, together
  2^16 to 2^18 bits: a correlation of 0.04 stands 7 deviations out. Longer lags, to n / 2, are searched in sums of
  64 bits and more, over all bits: a correlation r of bits is one of at least r / 2 of sums, and is found from
  r = 160 / sqrt(n) on (0.16 at 2^20 bits), from 2^24 bits on from r = 0.04.
- repetition: of the n - 63 windows of 64 bits those are compared that begin with a pattern, so that two copies show
  the same ones wherever they lie. In keys below 2^15 bits that is every window, from 2^22 bits on one in 256: a
  copied part of c bits, at any distance, then goes unseen with a probability of exp(-(c - 63) / 256).

A random key causes a finding with a probability below 1e-4. The cost is below 1 ns per bit in keys of 10^6 bits and
more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from qkdpp.core.bits import Bits, Words, window

BIAS_WARN, BIAS_REFUSE = 0.02, 0.2
AUTOCORRELATION_WARN, AUTOCORRELATION_REFUSE = 0.03, 0.25
REPEATED_WARN, REPEATED_REFUSE = 1e-5, 0.1
"""Share of the compared 64-bit windows that occurred before; a random key has none."""
SIGMA = 6.0
"""A figure must also stand out of its statistical noise by this many standard deviations."""
SEARCH_SIGMA = 5.0
"""Sums of words that stand out so far are looked at bit by bit."""
MIN_BITS = 256
"""Shorter keys pass unexamined."""
WHOLE_BITS = 1 << 18
"""Up to here every lag is searched bit by bit."""
ROW_BITS = 1 << 12
"""Length of the rows in which short lags of longer keys are searched."""
MIN_ROWS, MAX_ROWS = 16, 64
MAX_SUMS = 1 << 18
WORDS_AT_ONCE = 1 << 15
"""Of a key in which windows are looked for, as many as a cache holds several times."""
MAX_PATTERN = 8
"""Bits of the longest pattern that a compared window begins with: a one, then zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Findings on one raw key.

    Attributes:
        bias: share of ones minus 1/2.
        autocorrelation: that of the +-1 sequence at ``lag``, the one that stands out most.
        lag: from 1 to half the length.
        repeated: share of the compared 64-bit windows that occurred before.
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
    n = len(key)
    if n < MIN_BITS:
        return Health(bits=n, bias=0.0, autocorrelation=0.0, lag=0, repeated=0.0, warnings=(), refusals=())
    bias = key.count_ones() / n - 0.5
    found = {lag: _autocorrelation(key, lag, bias) for lag in _lags(key, bias)}
    lag = max(found, key=lambda lag: abs(found[lag]) * np.sqrt(n - lag))
    repeated = _repeated_windows(key)
    warnings: list[str] = []
    refusals: list[str] = []
    out = (warnings, refusals)
    _judge("bias", bias, abs(bias) * 2 * np.sqrt(n), (BIAS_WARN, BIAS_REFUSE), out)
    limits = (AUTOCORRELATION_WARN, AUTOCORRELATION_REFUSE)
    _judge(f"autocorrelation at lag {lag}", found[lag], abs(found[lag]) * np.sqrt(n - lag), limits, out)
    _judge("share of repeated 64-bit windows", repeated, np.inf, (REPEATED_WARN, REPEATED_REFUSE), out)
    return Health(
        bits=n,
        bias=bias,
        autocorrelation=found[lag],
        lag=lag,
        repeated=repeated,
        warnings=tuple(warnings),
        refusals=tuple(refusals),
    )


# --- autocorrelation ------------------------------------------------------------------------------------------------


def _lags(key: Bits, bias: float) -> list[int]:
    """Lags that stand out most, one or two of them."""
    if len(key) <= WHOLE_BITS:
        return [_best_lag(_signs(key, bias)[None, :], 1)[0]]
    rows = min(max(MIN_ROWS, len(key) // (64 * ROW_BITS)), MAX_ROWS)
    step, width = key.words.size // rows, ROW_BITS // 64
    spread = np.ascontiguousarray(key.words[: rows * step].reshape(rows, step)[:, :width])
    lags = [_best_lag(_signs(Bits(spread.ravel(), rows * ROW_BITS), bias).reshape(rows, ROW_BITS), 1)[0]]
    joined = -(-(len(key) >> 6) // MAX_SUMS)
    distance, score, value = _best_lag(_sums(key.words[: len(key) >> 6], joined), max(1, width // (2 * joined)))
    if score >= SEARCH_SIGMA and abs(value) >= AUTOCORRELATION_WARN / 2:
        lags.append(_refined(key, 64 * joined * distance, 64 * joined, bias))
    return lags


def _sums(words: Words, joined: int) -> NDArray[np.float32]:
    """Ones in every ``joined`` words less their mean nearby, so that a drift of the bias hides nothing; one row."""
    ones = np.bitwise_count(words)
    sums = np.zeros(len(ones) // joined & -64, dtype=np.float32)
    for k in range(joined):
        sums += ones[k::joined][: sums.size]
    rows = sums.reshape(-1, 64)
    rows -= rows.mean(axis=1, keepdims=True)
    return sums.reshape(1, -1)


def _signs(key: Bits, bias: float) -> NDArray[np.float32]:
    """The bits as -1 and +1 less their mean."""
    signs: NDArray[np.float32] = key.to_array().astype(np.float32)
    signs *= 2.0
    signs -= np.float32(1.0 + 2.0 * bias)
    return signs


def _best_lag(rows: NDArray[np.float32], first: int) -> tuple[int, float, float]:
    """Of the lags from ``first`` to half a row the one that stands out most; by how much; its autocorrelation."""
    n = rows.shape[1]
    lags = np.arange(first, n // 2 + 1)
    spectrum = scipy.fft.rfft(rows, scipy.fft.next_fast_len(n + n // 2, real=True), axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).sum(axis=0)
    raw = scipy.fft.irfft(power, scipy.fft.next_fast_len(n + n // 2, real=True))
    variance = max(float(raw[0]) / rows.size, 1e-12)
    pairs = len(rows) * (n - lags)
    score = np.abs(raw[lags]) / (variance * np.sqrt(pairs))
    best = int(np.argmax(score))
    return int(lags[best]), float(score[best]), float(raw[lags[best]] / (variance * pairs[best]))


def _refined(key: Bits, lag: int, width: int, bias: float) -> int:
    """The lag of bits within ``width`` of ``lag``, looked for in as many bits as the noise of a warning asks for."""
    stop = min(len(key), (lag + width + WHOLE_BITS) & ~63)
    part = Bits(key.words[: (stop + 63) >> 6], stop)
    near = range(max(lag - width, 1), min(lag + width, len(key) // 2) + 1)
    return max(near, key=lambda one: abs(_autocorrelation(part, one, bias)))


def _autocorrelation(key: Bits, lag: int, bias: float) -> float:
    """Autocorrelation of the +-1 sequence at one lag, all bits of the key."""
    pairs, mean = len(key) - lag, 2.0 * bias
    whole = pairs >> 6
    differ = int(np.bitwise_count(key.words[:whole] ^ window(key.words, lag, whole)).sum())
    rest = pairs & 63
    if rest:
        last = key.words[whole : whole + 1] ^ window(key.words, lag + 64 * whole, 1)
        differ += int(np.bitwise_count(last & np.uint64((1 << rest) - 1)).sum())
    return (1.0 - 2.0 * differ / pairs - mean**2) / max(1.0 - mean**2, 1e-12)


# --- repetition -----------------------------------------------------------------------------------------------------


def _repeated_windows(key: Bits) -> float:
    """Share of the compared windows that are equal to an earlier one."""
    pattern = min(MAX_PATTERN, max(0, len(key).bit_length() - 15))
    parts = [
        _windows(key.words[first : first + WORDS_AT_ONCE + 1], len(key) - 63 - 64 * first, pattern)
        for first in range(0, key.words.size, WORDS_AT_ONCE)
    ]
    windows = np.concatenate(parts)
    windows.sort()
    return float(np.count_nonzero(windows[1:] == windows[:-1])) / max(windows.size, 1)


def _windows(words: Words, starts: int, pattern: int) -> Words:
    """The 64-bit windows that begin with the pattern, in no order, those before bit ``starts`` of the part's words."""
    starts = max(0, min(starts, 64 * WORDS_AT_ONCE))
    marks = words.copy() if pattern else np.full(words.size, ~np.uint64(0))
    if pattern > 1:
        marks &= ~_any_of(window(words, 1, words.size), pattern - 1)
    marks[(starts + 63) >> 6 :] = 0
    if starts & 63:
        marks[starts >> 6] &= np.uint64((1 << (starts & 63)) - 1)
    following = np.append(words[1:], np.uint64(0))
    one, out = np.uint64(1), [words[:0]]
    while (at := np.flatnonzero(marks)).size:
        marks, words, following = marks[at], words[at], following[at]
        lowest = marks & (~marks + one)
        shift = np.bitwise_count(lowest - one).astype(np.uint64)
        out.append((words >> shift) | ((following << one) << (np.uint64(63) - shift)))
        marks ^= lowest
    return np.concatenate(out)


def _any_of(words: Words, span: int) -> Words:
    """A one wherever one of the ``span`` bits from there on is."""
    done = 1
    while done < span:
        step = min(done, span - done)
        words = words | window(words, step, words.size)
        done += step
    return words


def _judge(
    name: str, value: float, sigmas: float, limits: tuple[float, float], out: tuple[list[str], list[str]]
) -> None:
    """Adds a finding to the warnings or the refusals if it is above a limit and above its noise."""
    if sigmas < SIGMA or abs(value) < limits[0]:
        return
    grave = abs(value) >= limits[1]
    out[grave].append(f"{name} is {value:+.4f} (threshold {limits[grave]})")
