"""Arrivals under a clock: every tier against the definition in NumPy, bit for bit, with canaries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arena import Arena, by_numpy
from test_gate import LENGTHS, example, struct

from qkdpp.core.tags import TimeTags
from qkdpp.kernels import available
from qkdpp.timing import fold
from qkdpp.timing.gate_rules import GateRules

if "c" not in available():
    pytest.skip("the compiled kernels are not built here", allow_module_level=True)


def tags_and_rules(seed: int, n: int) -> tuple[TimeTags, GateRules]:
    rng = np.random.default_rng(seed)
    origin = int(rng.choice([0, -(10**6), 2 * 10**17]))
    ticks, channel, rules = example(seed, n, mean_ticks=float(rng.choice([0.3, 8.0, 1000.0])), origin=origin)
    return TimeTags(ticks=ticks, channel=channel, channel_ids=tuple(range(6)), tick_as=1), rules


def sliced(tags: TimeTags, rules: GateRules) -> np.ndarray[Any, Any]:
    start = int(rules.clock.knot_ticks[0])
    length = max(1, (rules.clock.stop_tick - start) // 7)
    return fold.fold_slices(tags, rules, start - 3, length, (rules.clock.stop_tick - start + 3) // length + 1)


@pytest.mark.parametrize("seed", range(30))
def test_arrivals_are_their_definition(kernels: Any, seed: int) -> None:
    tags, rules = tags_and_rules(seed, LENGTHS[seed % len(LENGTHS)])
    np.testing.assert_array_equal(fold.fold_channels(tags, rules), by_numpy(fold.fold_channels, tags, rules))
    np.testing.assert_array_equal(sliced(tags, rules), by_numpy(sliced, tags, rules))
    for mine, theirs in zip(fold.slots_in_gate(tags, rules), by_numpy(fold.slots_in_gate, tags, rules), strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def test_arrivals_are_written_nowhere_else(kernels: Any, arena: Arena) -> None:
    for seed, n in enumerate(LENGTHS):
        tags, rules = tags_and_rules(seed, n)
        at = arena.array("int64_t", tags.ticks), arena.array("uint8_t", tags.channel), n, struct(arena, rules)
        rows = arena.array("int64_t", np.arange(256))
        counts = arena.array("int64_t", np.zeros(6 * rules.bins, "i8"))
        assert kernels.lib.qk_fold(counts, 6, *at, rows, 0, 0) == kernels.lib.QK_OK
        expected = by_numpy(fold.fold_channels, tags, rules)
        np.testing.assert_array_equal(arena.read(counts, "i8", expected.size), expected.ravel())
        slots, labels = arena.array("int64_t", np.zeros(n, "i8")), arena.array("uint8_t", np.zeros(n, "u1"))
        found = arena.array("uint64_t", np.zeros(1, "u8"))
        assert kernels.lib.qk_slots(slots, labels, found, *at) == kernels.lib.QK_OK
        slot, label = by_numpy(fold.slots_in_gate, tags, rules)
        assert arena.read(found, "u8", 1)[0] == slot.size
        np.testing.assert_array_equal(arena.read(slots, "i8", slot.size), slot)
        np.testing.assert_array_equal(arena.read(labels, "u1", slot.size), label)


def test_a_table_that_is_too_small_is_refused(kernels: Any, arena: Arena) -> None:
    _, rules = tags_and_rules(3, 64)
    none, fine = kernels.ffi.NULL, arena.array("int64_t", np.arange(256))
    rules_at = struct(arena, rules)
    first = int(rules.clock.knot_ticks[0])
    length = rules.clock.stop_tick - first
    for rows, n_rows, start, slices in (
        (fine, 4, 0, 0),
        (arena.array("int64_t", np.full(256, -1)), 9, 0, 0),
        (fine, 0, 0, 0),
        (fine, 5, first - 1, length),
        (fine, 1 << 40, first + 1, length),
    ):
        status = kernels.lib.qk_fold(none, n_rows, none, none, 0, rules_at, rows, start, slices)
        assert status == kernels.lib.QK_BAD_SIZE
    assert kernels.lib.qk_fold(none, 6, none, none, 0, rules_at, fine, first - 1, length) == kernels.lib.QK_OK
    for field in ("n_knots", "bins"):
        bad = struct(arena, rules)
        setattr(bad, field, 0)
        assert kernels.lib.qk_fold(none, 9, none, none, 0, bad, fine, 0, 0) == kernels.lib.QK_BAD_SIZE
        assert kernels.lib.qk_slots(none, none, none, none, none, 0, bad) == kernels.lib.QK_BAD_SIZE
