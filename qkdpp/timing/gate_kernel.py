"""From raw tags to clicks in slots, in one pass (Numba).

The rules are those of :mod:`qkdpp.timing.gate_portable`, which is the
specification; this is the fast form. Imported only when it is called.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from qkdpp.timing.gate_rules import BLANKED, LOST, NEVER, OUTSIDE, REPEATED, UNLOCKED, Clicks, GateRules

Arrays: TypeAlias = tuple[Any, ...]
"""Arrays and numbers of different types: inside a kernel Numba infers them."""


@njit(cache=True, nogil=True)
def _batch(batch: Arrays, rules: Arrays, clock: Arrays, out: Arrays, state: NDArray[np.int64]) -> None:
    """Handles a batch of clicks in order of corrected time; what the next batch must know is kept in ``state``."""
    batch_t, batch_c, size = batch
    code, part, gap_start, gap_end, dead_ticks, half_gate, offset, stop_tick = rules
    knot_ticks, knot_slot, knot_fraction, slots_per_tick, locked = clock
    slots, mask, leader, at, histogram, counters = out
    last_click, leader_slot, n, piece, gap = state[0], state[1], state[2], state[3], state[4]
    bins = histogram.shape[1]
    for i in range(size):
        t = batch_t[i]
        c = batch_c[i]
        live = t - last_click >= dead_ticks
        last_click = t
        while gap < gap_end.size and gap_end[gap] <= t:
            gap += 1
        if gap < gap_end.size and gap_start[gap] <= t:
            counters[LOST] += 1
            continue
        while piece + 1 < knot_ticks.size and knot_ticks[piece + 1] <= t:
            piece += 1
        if not locked[piece] or t < knot_ticks[0] or t >= stop_tick:
            counters[UNLOCKED] += 1
            continue
        position = knot_fraction[piece] + ((t - knot_ticks[piece]) - part[c]) * slots_per_tick[piece]
        raw = position - np.floor(position + 0.5)
        histogram[code[c], min(np.int64((raw + 0.5) * bins), bins - 1)] += 1
        position -= offset
        whole = np.floor(position + 0.5)
        slot = knot_slot[piece] + np.int64(whole)
        bit = np.uint8(1 << code[c])
        if slot < 0:
            counters[UNLOCKED] += 1
        elif abs(position - whole) > half_gate:
            counters[OUTSIDE] += 1
        elif slot == leader_slot:
            if mask[n - 1] & bit:
                counters[REPEATED] += 1
            mask[n - 1] |= bit
        elif not live or slot < leader_slot:
            counters[BLANKED] += 1
        else:
            slots[n] = slot
            mask[n] = bit
            leader[n] = code[c]
            at[n] = t
            leader_slot = slot
            n += 1
    state[0], state[1], state[2], state[3], state[4] = last_click, leader_slot, n, piece, gap


@njit(cache=True, nogil=True)
def _run(tags: Arrays, rules: Arrays, clock: Arrays, out: Arrays, buffer: Arrays) -> np.int64:
    """Sorts clicks by corrected time in a small buffer and handles them; returns their number, -1 if it overflows."""
    ticks, channel, whole = tags
    buffer_t, buffer_c = buffer
    code = rules[0]
    latest = whole.max()
    state = np.zeros(5, dtype=np.int64)
    state[0] = NEVER
    state[1] = -1
    held = 0
    for i in range(ticks.size):
        c = channel[i]
        if code[c] < 0:
            continue
        if held == buffer_t.size:
            ready = np.searchsorted(buffer_t, ticks[i] - latest, side="right")
            if ready == 0:
                return np.int64(-1)
            _batch((buffer_t, buffer_c, ready), rules, clock, out, state)
            for j in range(ready, held):
                buffer_t[j - ready] = buffer_t[j]
                buffer_c[j - ready] = buffer_c[j]
            held -= ready
        t = ticks[i] - whole[c]
        j = held
        while j > 0 and buffer_t[j - 1] > t:
            buffer_t[j] = buffer_t[j - 1]
            buffer_c[j] = buffer_c[j - 1]
            j -= 1
        buffer_t[j] = t
        buffer_c[j] = c
        held += 1
    _batch((buffer_t, buffer_c, held), rules, clock, out, state)
    return np.int64(state[2])


def clicks(ticks: NDArray[np.int64], channel: NDArray[np.uint8], rules: GateRules) -> Clicks:
    """Same arguments and same result as :func:`qkdpp.timing.gate_portable.clicks`."""
    n = int(ticks.size)
    clock = rules.clock
    size = 1 << 12
    while True:
        out = (
            np.empty(n, dtype=np.int64),
            np.empty(n, dtype=np.uint8),
            np.empty(n, dtype=np.uint8),
            np.empty(n, dtype=np.int64),
            np.zeros((4, rules.bins), dtype=np.int64),
            np.zeros(5, dtype=np.int64),
        )
        found = int(
            _run(
                (ticks, channel, rules.whole_ticks),
                (
                    rules.code,
                    rules.part_ticks,
                    rules.gap_start,
                    rules.gap_end,
                    np.int64(rules.dead_ticks),
                    float(rules.half_gate_slots),
                    float(rules.offset_slots),
                    np.int64(clock.stop_tick),
                ),
                (clock.knot_ticks, clock.knot_slot, clock.knot_fraction, clock.slots_per_tick, clock.locked),
                out,
                (np.empty(size, dtype=np.int64), np.empty(size, dtype=np.uint8)),
            )
        )
        if found >= 0:
            break
        size *= 8
    slots, mask, leader, at, histogram, counters = out
    return Clicks(
        slots=slots[:found].copy(),
        mask=mask[:found].copy(),
        leader=leader[:found].copy(),
        at_tick=at[:found].copy(),
        histogram=histogram,
        counters=counters,
    )
