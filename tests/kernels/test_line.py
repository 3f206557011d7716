"""The robust line through sync pulses: the kernel against its definition in NumPy, bit for bit, with canaries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arena import Arena, by_numpy

from qkdpp.kernels import available
from qkdpp.timing.sync_line import MIN_TOLERANCE_TICKS, Line, fit_line

if "c" not in available():
    pytest.skip("the compiled kernels are not built here", allow_module_level=True)

LENGTHS = (0, 1, 7, 8, 9, 63, 64, 65, 127, 128, 129, 1023, 1024, 1535, 1536)
PERIODS = (100.0, 10_000.37, 1e7 / 3)


def pulses(seed: int, n: int) -> tuple[np.ndarray[Any, Any], Line]:
    """``n`` sorted pulses, some missing, some at random, with a rate error of 1e-6 and jitter."""
    rng = np.random.default_rng(seed)
    period, jitter = PERIODS[seed % 3], float(rng.choice([0.0, 0.1, 30.0]))
    number = np.sort(rng.choice(np.arange(-n - 5, n + 5), n, replace=False))
    off = rng.normal(0.0, jitter, n) + (rng.random(n) < 0.05) * rng.uniform(-period / 2, period / 2, n)
    tick = int(rng.choice([0, 10**15, -(10**17)]))
    ticks = np.sort(tick + np.rint(number * period * (1 + 1e-6) + off).astype(np.int64))
    return ticks, Line(tick=tick, number=5, offset=float(rng.uniform(-1, 1)), period=period)


@pytest.mark.parametrize("n", LENGTHS)
def test_line_is_its_definition(kernels: Any, n: int) -> None:
    for seed in range(12):
        ticks, near = pulses(seed, n)
        assert fit_line(ticks, near, 5) == by_numpy(fit_line, ticks, near, 5)


def test_equal_pulses_are_no_line(kernels: Any) -> None:
    ticks = np.full(100, 7, dtype=np.int64)
    near = Line(tick=0, number=0, offset=0.0, period=100.0)
    assert fit_line(ticks, near, 0) is None
    assert by_numpy(fit_line, ticks, near, 0) is None


def test_line_is_written_nowhere_else(kernels: Any, arena: Arena) -> None:
    for seed, n in enumerate(LENGTHS):
        ticks, near = pulses(seed, n)
        line = arena.array("int64_t", np.zeros(5, dtype=np.int64))
        at = kernels.ffi.cast("struct qk_line *", line)
        expected = by_numpy(fit_line, ticks, near, 5)
        given = arena.array("int64_t", ticks), n, near.time(5), near.period, MIN_TOLERANCE_TICKS
        assert kernels.lib.qk_line_fit(at, *given) == kernels.lib.QK_OK
        found = arena.read(line, "i8", 5)
        assert found[4] == (0 if expected is None else expected.kept)
        if expected is not None:
            offset, slope, variance, bend = found[:4].view(np.float64)
            assert (offset, near.period + slope) == (expected.offset, expected.period)
            assert (variance, bend) == (expected.variance, expected.bend)


def test_too_many_pulses_are_refused(kernels: Any) -> None:
    null = kernels.ffi.NULL
    assert kernels.lib.qk_line_fit(null, null, 1537, 0, 1.0, 2.0) == kernels.lib.QK_NO_ROOM
