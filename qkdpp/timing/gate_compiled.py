"""From raw tags to clicks in slots, in one pass of the compiled kernel (``csrc/gate.c``).

The rules are those of :mod:`qkdpp.timing.gate_portable`, which is the
specification; the results are equal bit for bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkdpp.kernels.compiled_tags import GateNumbers, GateOutput, GateTables, gate
from qkdpp.timing.gate_rules import Clicks, GateRules

HELD = 1 << 11
"""Clicks that wait for earlier ones: more than enough unless delays are long; the buffer grows by 8 where it is not."""


def described(rules: GateRules) -> tuple[GateTables, GateNumbers]:
    """The rules as the kernels take them."""
    clock = rules.clock
    tables = GateTables(
        rules.code,
        rules.whole_ticks,
        rules.part_ticks,
        rules.gap_start,
        rules.gap_end,
        clock.knot_ticks,
        clock.knot_slot,
        clock.knot_fraction,
        clock.slots_per_tick,
        clock.locked,
    )
    numbers = GateNumbers(clock.stop_tick, rules.dead_ticks, rules.half_gate_slots, rules.offset_slots, rules.bins)
    return tables, numbers


def clicks(ticks: NDArray[np.int64], channel: NDArray[np.uint8], rules: GateRules) -> Clicks:
    """Same arguments and same result as :func:`qkdpp.timing.gate_portable.clicks`."""
    tables, numbers = described(rules)
    ticks, channel = np.ascontiguousarray(ticks), np.ascontiguousarray(channel)
    n, n_held = int(ticks.size), HELD
    while True:
        out = GateOutput(
            slots=np.empty(n, dtype=np.int64),
            mask=np.empty(n, dtype=np.uint8),
            leader=np.empty(n, dtype=np.uint8),
            at=np.empty(n, dtype=np.int64),
            histogram=np.zeros((4, rules.bins), dtype=np.int64),
            counters=np.zeros(5, dtype=np.int64),
        )
        found = gate(ticks, channel, tables, numbers, out, n_held)
        if found is not None:
            break
        n_held *= 8
    for array in out[:4]:
        array.resize(found, refcheck=False)
    return Clicks(
        slots=out.slots,
        mask=out.mask,
        leader=out.leader,
        at_tick=out.at,
        histogram=out.histogram,
        counters=out.counters,
    )
