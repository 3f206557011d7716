"""Ranges as they are typed: one number, FROM:TO:STEP in equal steps, or FROM:TO:COUNT in equal ratios; bisection."""

from __future__ import annotations

import math
from collections.abc import Callable

from qkdpp.core.errors import InputError

MAX_POINTS = 1000


def linear(text: str, name: str, *, low: float, high: float) -> tuple[float, ...]:
    """Values of ``FROM:TO:STEP`` (both ends included where the step meets them), or the one number given.

    Args:
        text: what was typed.
        name: the option, for messages.
        low: least value that makes sense.
        high: largest one.

    Raises:
        InputError: no such range, or values outside ``low`` to ``high``.
    """
    numbers = _numbers(text, name, "FROM:TO:STEP, for instance 0:40:1")
    if len(numbers) == 1:
        return (_inside(numbers[0], f"{name} {text}", low=low, high=high),)
    start, stop, step = numbers
    _rising(start, stop, f"{name} {text}", low=low, high=high)
    if step <= 0:
        raise InputError(f"{name} {text}: the step must be above 0")
    steps = (stop - start) / step + 1e-9
    if steps >= MAX_POINTS:
        raise InputError(f"{name} {text}: at most {MAX_POINTS} points, take a wider step")
    return tuple(min(start + i * step, stop) for i in range(math.floor(steps) + 1))


def logarithmic(text: str, name: str, *, low: float, high: float) -> tuple[float, ...]:
    """Values of ``FROM:TO:COUNT`` in equal ratios, both ends included, or the one number given.

    Raises:
        InputError: as :func:`linear`.
    """
    numbers = _numbers(text, name, "FROM:TO:COUNT (steps of equal ratio), for instance 1e8:1e12:9")
    if len(numbers) == 1:
        return (_inside(numbers[0], f"{name} {text}", low=low, high=high),)
    start, stop, count = numbers
    _rising(start, stop, f"{name} {text}", low=low, high=high)
    if not count.is_integer() or not 2 <= count <= MAX_POINTS:
        raise InputError(f"{name} {text}: the third number counts the points, 2 to {MAX_POINTS}")
    ratio = math.log(stop / start) / (count - 1)
    return (start, *(start * math.exp(i * ratio) for i in range(1, int(count) - 1)), stop)


def boundary(enough: Callable[[float], bool], low: float, high: float, precision: float) -> float:
    """Where a condition that fails at ``low`` begins to hold, at most ``precision`` times too high."""
    while high > precision * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _numbers(text: str, name: str, form: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) not in {1, 3} or not all(math.isfinite(number) for number in numbers):
        raise InputError(f"{name} {text}: write one number, or {form}")
    return numbers


def _rising(start: float, stop: float, typed: str, *, low: float, high: float) -> None:
    for end in (start, stop):
        _inside(end, typed, low=low, high=high)
    if not start < stop:
        raise InputError(f"{typed}: an empty range, TO must lie above FROM")


def _inside(value: float, typed: str, *, low: float, high: float) -> float:
    if not low <= value <= high:
        raise InputError(f"{typed}: {value:g} must lie between {low:g} and {high:g}")
    return value
