"""Arrivals under a clock, each for itself: folded on the slot, and numbered by slot.

Unlike the gate nothing here knows of dead time, gaps of the recording or double
clicks; what lies outside the locked pieces of the clock is left out. Results
are whole numbers and the same with every tier; the NumPy form below is the
definition of ``csrc/fold.c``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.tags import TimeTags
from qkdpp.kernels import compiled_tags
from qkdpp.kernels.backend import backend
from qkdpp.timing.clock import Clock
from qkdpp.timing.gate_compiled import described
from qkdpp.timing.gate_rules import GateRules

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

AT_ONCE = 1 << 20
"""Tags that the NumPy form handles together."""


def rules_of(
    tags: TimeTags, clock: Clock, delay_ticks: Mapping[int, float], *, bins: int = 1, gate_slots: float = 1.0
) -> GateRules:
    """Rules for the instrument channels that have a delay; ``gate_slots``: full width of the gate."""
    code, delay = np.full(256, -1, dtype=np.int8), np.zeros(256, dtype=np.float64)
    for index, channel_id in enumerate(tags.channel_ids):
        if channel_id in delay_ticks:
            code[index], delay[index] = 0, delay_ticks[channel_id]
    whole = np.rint(delay)
    none = np.empty(0, dtype=np.int64)
    return GateRules(
        clock=clock,
        code=code,
        whole_ticks=whole.astype(np.int64),
        part_ticks=delay - whole,
        gap_start=none,
        gap_end=none,
        dead_ticks=0,
        half_gate_slots=gate_slots / 2,
        offset_slots=0.0,
        bins=bins,
    )


def fold_channels(tags: TimeTags, rules: GateRules) -> Ints:
    """Arrivals within the slot by channel index, int64[channels, bins]."""
    rows = np.arange(256, dtype=np.int64)
    return _fold(tags, rules, rows, len(tags.channel_ids), (0, 0))


def fold_slices(tags: TimeTags, rules: GateRules, start: int, length: int, n: int) -> Ints:
    """Arrivals of all channels by slices of time, int64[n, bins]: slice k begins at tick ``start + k * length``."""
    return _fold(tags, rules, np.zeros(256, dtype=np.int64), n, (start, length))


def _fold(tags: TimeTags, rules: GateRules, rows: Ints, n_rows: int, slices: tuple[int, int]) -> Ints:
    counts = np.zeros((n_rows, rules.bins), dtype=np.int64)
    if backend() == "c":
        ticks, channel = np.ascontiguousarray(tags.ticks), np.ascontiguousarray(tags.channel)
        compiled_tags.fold(counts, ticks, channel, *described(rules), rows, slices)
        return counts
    for time, channel, position, _ in _placed(tags, rules):
        raw = position - np.floor(position + 0.5)
        at = np.minimum(((raw + 0.5) * rules.bins).astype(np.int64), rules.bins - 1)
        row = rows[channel] + ((time - slices[0]) // slices[1] if slices[1] else 0)
        counts += np.bincount(row * rules.bins + at, minlength=counts.size).reshape(counts.shape)
    return counts


def slots_in_gate(tags: TimeTags, rules: GateRules) -> tuple[Ints, Bytes]:
    """Slots (int64[n]) and channel indices (uint8[n]) of the clicks inside the gate, in the order of the tags."""
    if backend() == "c":
        ticks, channel = np.ascontiguousarray(tags.ticks), np.ascontiguousarray(tags.channel)
        return compiled_tags.slots(ticks, channel, *described(rules))
    found = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint8))]
    for _, channel, position, knot_slot in _placed(tags, rules):
        shifted = position - rules.offset_slots
        whole = np.floor(shifted + 0.5)
        inside = np.abs(shifted - whole) <= rules.half_gate_slots
        found.append((knot_slot[inside] + whole[inside].astype(np.int64), channel[inside]))
    return np.concatenate([slots for slots, _ in found]), np.concatenate([channel for _, channel in found])


def _placed(tags: TimeTags, rules: GateRules) -> Iterator[tuple[Ints, Bytes, NDArray[np.float64], Ints]]:
    """Corrected times, channels, positions and the slots these count from, of clicks while the clock is locked."""
    clock = rules.clock
    for start in range(0, len(tags), AT_ONCE):
        channel = tags.channel[start : start + AT_ONCE]
        used = rules.code[channel] >= 0
        channel = channel[used]
        time = tags.ticks[start : start + AT_ONCE][used] - rules.whole_ticks[channel]
        locked = clock.is_locked(time)
        time, channel = time[locked], channel[locked]
        i = clock.piece(time)
        since = (time - clock.knot_ticks[i]) - rules.part_ticks[channel]
        yield time, channel, clock.knot_fraction[i] + since * clock.slots_per_tick[i], clock.knot_slot[i]
