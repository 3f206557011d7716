"""The fused gate of every tier against its definition in NumPy, bit for bit, with canaries and at awkward addresses."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from arena import Arena
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qkdpp.core.errors import KernelError
from qkdpp.kernels import available
from qkdpp.kernels.compiled_tags import GateTables
from qkdpp.timing import gate_compiled, gate_portable
from qkdpp.timing.clock import Clock
from qkdpp.timing.gate_rules import Clicks, GateRules

if "c" not in available():
    pytest.skip("the compiled kernels are not built here", allow_module_level=True)

FIELDS = ("slots", "mask", "leader", "at_tick", "histogram", "counters")
LENGTHS = (0, 1, 7, 8, 9, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1023, 1024, 2047, 2048, 2049, 131_071)


def increasing(rng: np.random.Generator, n: int, low: int, high: int) -> np.ndarray[Any, Any]:
    return np.unique(rng.integers(low, high, n)).astype(np.int64)


def example(seed: int, n: int, *, mean_ticks: float, origin: int = 0) -> tuple[Any, Any, GateRules]:
    """Tags and rules in which every rule is met: pieces, locks, gaps, delays, double clicks, dead time, ties."""
    rng = np.random.default_rng(seed)
    span = max(10, round(n * mean_ticks))
    ticks = np.sort(rng.integers(0, span, n)).astype(np.int64) + origin
    channel = rng.integers(0, 6, n, dtype=np.uint8)
    delay = rng.choice([0.0, rng.uniform(-1, 1), rng.uniform(-40, 40), rng.uniform(-600, 600)]) * rng.random(256)
    code = np.full(256, -1, dtype=np.int8)
    code[:5] = [0, 1, 2, 3, 1]
    knots = increasing(rng, int(rng.integers(1, 12)), -50, span) + origin
    edges = increasing(rng, 2 * int(rng.integers(0, 5)), -20, span) + origin
    edges = edges[: edges.size & ~1]
    k = knots.size
    rules = GateRules(
        clock=Clock(
            knot_ticks=knots,
            knot_slot=rng.integers(-3, 40, k) + np.arange(k) * int(rng.integers(0, 200)),
            knot_fraction=rng.uniform(-0.5, 0.5, k),
            slots_per_tick=rng.uniform(0.5, 1.5, k) * rng.choice([0.01, 0.1, 1.0]),
            locked=rng.random(k) < 0.8,
            stop_tick=int(knots[-1]) + int(rng.integers(0, span)),
        ),
        code=code,
        whole_ticks=np.rint(delay).astype(np.int64),
        part_ticks=delay - np.rint(delay),
        gap_start=np.ascontiguousarray(edges[::2]),
        gap_end=np.ascontiguousarray(edges[1::2]),
        dead_ticks=int(rng.choice([0, 1, 3, 20])),
        half_gate_slots=float(rng.choice([0.05, 0.3, 0.5])),
        offset_slots=float(rng.uniform(-0.2, 0.2)),
        bins=int(rng.choice([1, 16, 256])),
    )
    return ticks, channel, rules


def assert_same(mine: Clicks, theirs: Clicks) -> None:
    for name in FIELDS:
        a, b = getattr(mine, name), getattr(theirs, name)
        assert a.dtype == b.dtype, name
        np.testing.assert_array_equal(a, b, err_msg=name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.sampled_from(LENGTHS[:-4]),
    mean_ticks=st.sampled_from([0.3, 2.0, 30.0, 1000.0]),
    origin=st.sampled_from([0, -(10**6), 2 * 10**17]),
    held=st.sampled_from([1, 16, 2048]),
)
def test_gate_is_its_definition(kernels: Any, seed: int, n: int, mean_ticks: float, origin: int, held: int) -> None:
    ticks, channel, rules = example(seed, n, mean_ticks=mean_ticks, origin=origin)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate_compiled, "HELD", held)
        assert_same(gate_compiled.clicks(ticks, channel, rules), gate_portable.clicks(ticks, channel, rules))


def test_numba_gate_is_its_definition(keep_tier: None) -> None:
    if "numba" not in available():
        pytest.skip("Numba is not here")
    from qkdpp.timing import gate_kernel

    for seed in range(40):
        ticks, channel, rules = example(seed, LENGTHS[seed % len(LENGTHS)], mean_ticks=3.0)
        assert_same(gate_kernel.clicks(ticks, channel, rules), gate_portable.clicks(ticks, channel, rules))


def test_gate_writes_nowhere_else(kernels: Any, arena: Arena) -> None:
    for seed, n in enumerate(LENGTHS):
        ticks, channel, rules = example(seed, n, mean_ticks=8.0)
        expected = gate_portable.clicks(ticks, channel, rules)
        out = [
            arena.array(kind, np.zeros(size, dtype=dtype))
            for kind, size, dtype in (
                ("uint64_t", 1, "u8"),
                ("int64_t", n, "i8"),
                ("uint8_t", n, "u1"),
                ("uint8_t", n, "u1"),
                ("int64_t", n, "i8"),
                ("int64_t", 4 * rules.bins, "i8"),
                ("int64_t", 5, "i8"),
            )
        ]
        held = 4096
        scratch = arena.array("int64_t", np.zeros(held, "i8")), arena.array("uint8_t", np.zeros(held, "u1"))
        tags = arena.array("int64_t", ticks), arena.array("uint8_t", channel)
        status = kernels.lib.qk_gate(*out, *tags, n, struct(arena, rules), *scratch, held)
        assert status == kernels.lib.QK_OK
        found = int(arena.read(out[0], "u8", 1)[0])
        assert found == expected.slots.size
        sizes = (found, found, found, found, 4 * rules.bins, 5)
        for pointer, name, size in zip(out[1:], FIELDS, sizes, strict=True):
            want = getattr(expected, name)
            np.testing.assert_array_equal(arena.read(pointer, want.dtype.str, size), want.ravel(), err_msg=name)


def struct(arena: Arena, rules: GateRules) -> Any:
    """The rules as the kernel takes them, every table in the arena."""
    clock = rules.clock
    tables: dict[str, tuple[str, NDArray[Any]]] = {
        "code": ("int8_t", rules.code),
        "whole_ticks": ("int64_t", rules.whole_ticks),
        "part_ticks": ("double", rules.part_ticks),
        "gap_start": ("int64_t", rules.gap_start),
        "gap_end": ("int64_t", rules.gap_end),
        "knot_ticks": ("int64_t", clock.knot_ticks),
        "knot_slot": ("int64_t", clock.knot_slot),
        "knot_fraction": ("double", clock.knot_fraction),
        "slots_per_tick": ("double", clock.slots_per_tick),
        "locked": ("uint8_t", clock.locked),
    }
    assert tuple(tables) == GateTables._fields
    fields: dict[str, Any] = {name: arena.array(kind, table) for name, (kind, table) in tables.items()}
    fields |= {"n_gaps": rules.gap_start.size, "n_knots": clock.knot_ticks.size, "stop_tick": clock.stop_tick}
    fields |= {"dead_ticks": rules.dead_ticks, "half_gate": rules.half_gate_slots, "offset": rules.offset_slots}
    return arena.ffi.new("struct qk_gate_rules *", fields | {"bins": rules.bins})


def test_arrays_that_do_not_belong_together_are_refused(kernels: Any) -> None:
    ticks, channel, rules = example(1, 10, mean_ticks=5.0)
    short = dataclasses.replace(rules, code=rules.code[:5])
    for arguments in ((ticks, channel[1:], rules), (ticks, channel, short)):
        with pytest.raises(KernelError, match="lengths differ"):
            gate_compiled.clicks(*arguments)


def test_rules_that_do_harm_are_refused(kernels: Any, arena: Arena) -> None:
    _, _, rules = example(1, 10, mean_ticks=5.0)
    none, scratch = kernels.ffi.NULL, (arena.array("int64_t", np.zeros(4, "i8")), arena.array("uint8_t", np.zeros(4)))
    for field, value in (("n_knots", 0), ("bins", 0)):
        bad = struct(arena, rules)
        setattr(bad, field, value)
        assert kernels.lib.qk_gate(*[none] * 9, 0, bad, *scratch, 4) == kernels.lib.QK_BAD_SIZE
    bad = struct(arena, rules)
    code = rules.code.copy()
    code[9] = 4
    bad.code = arena.array("int8_t", code)
    assert kernels.lib.qk_gate(*[none] * 9, 0, bad, *scratch, 4) == kernels.lib.QK_BAD_SIZE
