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
LAST_CLICK, LEADER_SLOT, FOUND, PIECE, GAP = range(5)


@njit(cache=True, nogil=True)
def _step(click: tuple[int, int], rules: Arrays, clock: Arrays, out: Arrays, state: NDArray[np.int64]) -> None:
    """Handles one click: corrected tick and channel index."""
    t, c = click
    code, part, gap_start, gap_end, dead_ticks, half_gate, offset, stop_tick = rules
    knot_ticks, knot_slot, knot_fraction, slots_per_tick, locked = clock
    slots, mask, leader, at, histogram, counters = out
    live = t - state[LAST_CLICK] >= dead_ticks
    state[LAST_CLICK] = t
    while state[GAP] < gap_end.size and gap_end[state[GAP]] <= t:
        state[GAP] += 1
    if state[GAP] < gap_end.size and gap_start[state[GAP]] <= t:
        counters[LOST] += 1
        return
    piece = state[PIECE]
    while piece + 1 < knot_ticks.size and knot_ticks[piece + 1] <= t:
        piece += 1
    state[PIECE] = piece
    if not locked[piece] or t < knot_ticks[0] or t >= stop_tick:
        counters[UNLOCKED] += 1
        return
    rate = slots_per_tick[piece]
    position = knot_fraction[piece] + ((t - knot_ticks[piece]) - part[c]) * rate
    raw = position - np.floor(position + 0.5)
    bins = histogram.shape[1]
    histogram[code[c], min(np.int64((raw + 0.5) * bins), bins - 1)] += 1
    position -= offset
    whole = np.floor(position + 0.5)
    slot = knot_slot[piece] + np.int64(whole)
    if slot < 0:
        counters[UNLOCKED] += 1
        return
    if abs(position - whole) > half_gate:
        counters[OUTSIDE] += 1
        return
    n = state[FOUND]
    if slot == state[LEADER_SLOT]:
        bit = np.uint8(1) << np.uint8(code[c])
        if mask[n - 1] & bit:
            counters[REPEATED] += 1
        mask[n - 1] |= bit
        return
    if not live or slot < state[LEADER_SLOT]:
        counters[BLANKED] += 1
        return
    slots[n] = slot
    mask[n] = np.uint8(1) << np.uint8(code[c])
    leader[n] = code[c]
    at[n] = t
    state[LEADER_SLOT] = slot
    state[FOUND] = n + 1


@njit(cache=True, nogil=True)
def _run(tags: Arrays, rules: Arrays, clock: Arrays, out: Arrays, buffer: Arrays) -> np.int64:
    """Sorts clicks by corrected time in a small buffer and handles them; returns their number, -1 if it overflows."""
    ticks, channel, whole = tags
    buffer_t, buffer_c = buffer
    code = rules[0]
    latest = whole.max()
    state = np.zeros(5, dtype=np.int64)
    state[LAST_CLICK] = NEVER
    state[LEADER_SLOT] = -1
    head = 0
    tail = 0
    for i in range(ticks.size):
        c = channel[i]
        if code[c] < 0:
            continue
        tick = ticks[i]
        while head < tail and buffer_t[head] <= tick - latest:
            _step((buffer_t[head], buffer_c[head]), rules, clock, out, state)
            head += 1
        if tail == buffer_t.size:
            if head == 0:
                return np.int64(-1)
            for j in range(head, tail):
                buffer_t[j - head] = buffer_t[j]
                buffer_c[j - head] = buffer_c[j]
            tail -= head
            head = 0
        t = tick - whole[c]
        j = tail
        while j > head and buffer_t[j - 1] > t:
            buffer_t[j] = buffer_t[j - 1]
            buffer_c[j] = buffer_c[j - 1]
            j -= 1
        buffer_t[j] = t
        buffer_c[j] = c
        tail += 1
    while head < tail:
        _step((buffer_t[head], buffer_c[head]), rules, clock, out, state)
        head += 1
    return np.int64(state[FOUND])


def clicks(ticks: NDArray[np.int64], channel: NDArray[np.uint8], rules: GateRules) -> Clicks:
    """Same arguments and same result as :func:`qkdpp.timing.gate_portable.clicks`."""
    n = int(ticks.size)
    clock = rules.clock
    size = 1 << 10
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
