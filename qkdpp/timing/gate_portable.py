"""From raw tags to clicks in slots: the rules, in NumPy.

Every click of every detector, valid or not, blanks all detectors for the dead
time, so that what is kept was seen while all of them were live. In order of
delay-corrected time a click

1. is lost if it lies in a gap of the recording or within the dead time after it;
2. is unlocked if the clock is not locked there or pulse zero had not come;
3. is outside if it is further than half a gate from the middle of its slot;
4. joins the detection before it if that one has the same slot (several detectors: a double click);
5. is blanked if any detector clicked less than the dead time before;
6. otherwise makes a detection.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qkdpp.timing.gate_rules import BLANKED, LOST, NEVER, OUTSIDE, REPEATED, UNLOCKED, Clicks, GateRules


def clicks(ticks: NDArray[np.int64], channel: NDArray[np.uint8], rules: GateRules) -> Clicks:
    """Applies the rules to tags sorted by raw tick (int64[n], uint8[n] channel indices)."""
    used = rules.code[channel] >= 0
    channel = channel[used]
    corrected = ticks[used] - rules.whole_ticks[channel]
    order = np.argsort(corrected, kind="stable")
    t, channel = corrected[order], channel[order]
    code = rules.code[channel].astype(np.uint8)
    live = np.diff(t, prepend=np.int64(NEVER)) >= rules.dead_ticks
    slot, residual, histogram, usable, counters = _place(t, channel, code, rules)
    inside = usable & (np.abs(residual) <= rules.half_gate_slots)
    counters[OUTSIDE] = int((usable & ~inside).sum())

    slot_in, live_in, code_in, t_in = slot[inside], live[inside], code[inside], t[inside]
    leads, group = _lead(slot_in, live_in)
    joins = (group >= 0) & ~leads
    joins[joins] = slot_in[joins] == slot_in[leads][group[joins]]
    counters[BLANKED] = int((~leads & ~joins).sum())
    mask = np.zeros(int(leads.sum()), dtype=np.uint8)
    member = leads | joins
    bit = (np.uint8(1) << code_in).astype(np.uint8)
    np.bitwise_or.at(mask, group[member], bit[member])
    counters[REPEATED] = int(member.sum()) - int(np.bitwise_count(mask).sum())
    return Clicks(
        slots=slot_in[leads],
        mask=mask,
        leader=code_in[leads],
        at_tick=t_in[leads],
        histogram=histogram,
        counters=counters,
    )


def _place(
    t: NDArray[np.int64], channel: NDArray[np.uint8], code: NDArray[np.uint8], rules: GateRules
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Slot, distance from the gate, arrival histogram, whether usable, and the counters of what is not."""
    clock, counters = rules.clock, np.zeros(5, dtype=np.int64)
    gap = np.searchsorted(rules.gap_start, t, side="right") - 1
    lost = (gap >= 0) & (t < np.append(rules.gap_end, NEVER)[gap])
    usable = clock.is_locked(t) & ~lost
    i = clock.piece(t)
    position = (
        clock.knot_fraction[i] + ((t - clock.knot_ticks[i]) - rules.part_ticks[channel]) * clock.slots_per_tick[i]
    )
    raw = position - np.floor(position + 0.5)
    bin_of = np.minimum(((raw + 0.5) * rules.bins).astype(np.int64), rules.bins - 1)
    histogram = np.zeros((4, rules.bins), dtype=np.int64)
    np.add.at(histogram, (code[usable], bin_of[usable]), 1)
    position -= rules.offset_slots
    whole = np.floor(position + 0.5)
    slot = clock.knot_slot[i] + whole.astype(np.int64)
    usable &= slot >= 0
    counters[LOST] = int(lost.sum())
    counters[UNLOCKED] = int((~lost & ~usable).sum())
    return slot, position - whole, histogram, usable, counters


def _lead(slot: NDArray[np.int64], live: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which clicks make a detection (live, in a later slot than any detection before) and each one's last detection."""
    candidate = np.where(live, slot, np.int64(-1))
    highest = np.maximum.accumulate(np.concatenate([[np.int64(-1)], candidate]))[:-1]
    leads: NDArray[np.bool_] = live & (slot > highest)
    return leads, np.cumsum(leads) - 1
