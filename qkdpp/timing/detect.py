"""Detections of a prepare-and-measure receiver: gate, blanking, double clicks.

Takes tags, a clock and per-channel delays that are frozen for the block; yields
one detection per slot. Can be run again with another gate or offset without
touching the clock. Double clicks are assigned at random from the entropy given
(squashing); the rule ``first`` keeps the earlier click instead and forfeits a
composable claim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.entropy import Entropy, random_bits
from qkdpp.core.tags import AS_PER_PS, AS_PER_S, TimeTags
from qkdpp.kernels.backend import backend
from qkdpp.kernels.tags import count_labels, relabel
from qkdpp.timing.clock import Clock
from qkdpp.timing.gate_rules import BLANKED, LOST, OUTSIDE, REPEATED, UNLOCKED, Clicks, GateRules

DoubleClickRule = Literal["random", "first"]
HISTOGRAM_BINS = 256
_DOUBLE = 255
_CODE = np.full(256, _DOUBLE, dtype=np.uint8)
"""Detector code by the mask of the detectors that clicked."""
_CODE[[0, 1, 2, 4, 8]] = 0, 0, 1, 2, 3


class DetectionCounters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where every tag of a detector went: the parts add up to ``detector_tags``.

    ``detector_tags = lost + unlocked + outside_gate + blanked + repeated + detections + further_clicks``.

    Attributes:
        tags_by_channel: tags of every instrument channel, detectors or not.
        detector_tags: tags of channels that are detectors.
        lost: in a gap of the recording or in the dead time after it.
        unlocked: while the clock was not locked, or before pulse zero.
        outside_gate: too far from the middle of their slot.
        blanked: less than the dead time after a click of any detector.
        repeated: second tag of the same detector in the same slot.
        further_clicks: clicks beyond the first in double clicks.
        double_same_basis: slots in which both detectors of one basis clicked, and no other.
        double_cross_basis: slots in which detectors of both bases clicked.
        detections: slots with a detection.
    """

    tags_by_channel: dict[int, int]
    detector_tags: int
    lost: int
    unlocked: int
    outside_gate: int
    blanked: int
    repeated: int
    further_clicks: int
    double_same_basis: int
    double_cross_basis: int
    detections: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Detections:
    """One detection per slot.

    Attributes:
        slots: int64[n], pulse numbers, strictly increasing.
        basis: uint8[n], 0 = Z, 1 = X.
        bit: uint8[n]; secret.
        time_s: float32[n], coarse time since the first tag, for plots only: it never leaves the party.
        counters: where the tags went.
        histogram_edges_ps: float64[b + 1], arrival within the slot, zero is the peak of every detector.
        histogram: int64[4, b], arrivals by detector code while locked, inside the gate or not.
        double_click_rule: ``random`` or ``first``.
    """

    slots: NDArray[np.int64]
    basis: NDArray[np.uint8]
    bit: NDArray[np.uint8]
    time_s: NDArray[np.float32]
    counters: DetectionCounters
    histogram_edges_ps: NDArray[np.float64]
    histogram: NDArray[np.int64]
    double_click_rule: DoubleClickRule

    def __len__(self) -> int:
        return int(self.slots.size)

    def __repr__(self) -> str:
        return f"Detections(n={len(self)})"


def detect(
    tags: TimeTags,
    clock: Clock,
    delay_ticks: Mapping[int, float],
    detector_of_channel: Mapping[int, int],
    *,
    pulse_period_as: int,
    gate_ps: float,
    dead_time_ns: float,
    entropy: Entropy,
    gate_offset_ps: float = 0.0,
    double_clicks: DoubleClickRule = "random",
) -> Detections:
    """Turns raw tags into detections.

    Args:
        tags: all tags of the receiver.
        clock: from ticks to pulse numbers.
        delay_ticks: delay of every detector channel, subtracted from its tags.
        detector_of_channel: detector code (``basis << 1 | bit``) of every instrument channel that is a detector.
        pulse_period_as: pulse period (attoseconds).
        gate_ps: full width of the gate; a pulse period or more means no gate.
        dead_time_ns: blanking of all detectors after any click.
        entropy: source of the random assignments.
        gate_offset_ps: middle of the gate relative to the peak of the detectors.
        double_clicks: ``random`` (squashing) or ``first``.
    """
    rules = gate_rules(
        tags,
        clock,
        delay_ticks,
        detector_of_channel,
        pulse_period_as=pulse_period_as,
        gate_ps=gate_ps,
        dead_time_ns=dead_time_ns,
        gate_offset_ps=gate_offset_ps,
    )
    found = fastest_gate()(tags.ticks, tags.channel, rules)
    code = found.leader if double_clicks == "first" else assign_double_clicks(found.mask, entropy)
    period_ps = pulse_period_as / AS_PER_PS
    first_tick = int(tags.ticks[0]) if len(tags) else 0
    return Detections(
        slots=found.slots,
        basis=code >> np.uint8(1),
        bit=code & np.uint8(1),
        time_s=_seconds(found.at_tick - first_tick, tags.tick_as),
        counters=_count(tags, found, rules),
        histogram_edges_ps=np.linspace(-period_ps / 2, period_ps / 2, rules.bins + 1),
        histogram=found.histogram,
        double_click_rule=double_clicks,
    )


def _seconds(ticks: NDArray[np.int64], tick_as: int) -> NDArray[np.float32]:
    seconds = np.empty(ticks.size, dtype=np.float32)
    np.multiply(ticks, tick_as / AS_PER_S, out=seconds, casting="same_kind")
    return seconds


def gate_rules(
    tags: TimeTags,
    clock: Clock,
    delay_ticks: Mapping[int, float],
    detector_of_channel: Mapping[int, int],
    *,
    pulse_period_as: int,
    gate_ps: float,
    dead_time_ns: float,
    gate_offset_ps: float = 0.0,
) -> GateRules:
    """The rules of a gating pass in the units of the kernel; arguments as for :func:`detect`."""
    code = np.full(256, -1, dtype=np.int8)
    delay = np.zeros(256, dtype=np.float64)
    for index, channel_id in enumerate(tags.channel_ids):
        if channel_id in detector_of_channel:
            code[index] = detector_of_channel[channel_id]
            delay[index] = delay_ticks.get(channel_id, 0.0)
    whole = np.rint(delay)
    dead_ticks = round(dead_time_ns * 1000 * AS_PER_PS / tags.tick_as)
    gap_start, gap_end = _gaps(tags.lost, int(whole.min()), int(whole.max()), dead_ticks)
    return GateRules(
        clock=clock,
        code=code,
        whole_ticks=whole.astype(np.int64),
        part_ticks=delay - whole,
        gap_start=gap_start,
        gap_end=gap_end,
        dead_ticks=dead_ticks,
        half_gate_slots=gate_ps * AS_PER_PS / pulse_period_as / 2,
        offset_slots=gate_offset_ps * AS_PER_PS / pulse_period_as,
        bins=HISTOGRAM_BINS,
    )


def _gaps(
    lost: tuple[tuple[int, int], ...], earliest: int, latest: int, dead_ticks: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lost intervals in corrected ticks, widened by the delays and the dead time, sorted and merged."""
    merged: list[list[int]] = []
    for start, end in sorted((start - latest, end - earliest + dead_ticks) for start, end in lost):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    table = np.array(merged, dtype=np.int64).reshape(-1, 2)
    return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])


def assign_double_clicks(mask: NDArray[np.uint8], entropy: Entropy) -> NDArray[np.uint8]:
    """Detector code of every slot: several clicks in one basis get a random bit, in both bases a random basis and bit.

    ``mask`` (uint8[n]) has bit ``d`` set if detector ``d`` clicked; two fresh bits are drawn for every double click.
    """
    code = mask.copy()
    double = np.flatnonzero(code == _DOUBLE) if relabel(code, _CODE) == _DOUBLE else np.empty(0, dtype=np.int64)
    bits = random_bits(entropy, 2 * double.size).to_array().reshape(-1, 2)
    in_z, in_x = (mask[double] & 0b0011) > 0, (mask[double] & 0b1100) > 0
    basis = np.where(in_z & in_x, bits[:, 0], in_x.astype(np.uint8))
    code[double] = basis << 1 | bits[:, 1]
    return code


def _count(tags: TimeTags, found: Clicks, rules: GateRules) -> DetectionCounters:
    by_index = count_labels(tags.channel)
    by_mask = count_labels(found.mask)[:16]
    clicks = np.bitwise_count(np.arange(16))
    same = int(by_mask[0b0011] + by_mask[0b1100])
    return DetectionCounters(
        tags_by_channel={channel_id: int(by_index[i]) for i, channel_id in enumerate(tags.channel_ids)},
        detector_tags=int(by_index[rules.code >= 0].sum()),
        lost=int(found.counters[LOST]),
        unlocked=int(found.counters[UNLOCKED]),
        outside_gate=int(found.counters[OUTSIDE]),
        blanked=int(found.counters[BLANKED]),
        repeated=int(found.counters[REPEATED]),
        further_clicks=int((by_mask * clicks).sum()) - int(found.mask.size),
        double_same_basis=same,
        double_cross_basis=int(by_mask[clicks > 1].sum()) - same,
        detections=int(found.slots.size),
    )


def fastest_gate() -> Callable[[NDArray[np.int64], NDArray[np.uint8], GateRules], Clicks]:
    """The gate pass of the tier in use: ticks, channels and rules to clicks."""
    tier = backend()
    if tier == "c":
        from qkdpp.timing.gate_compiled import clicks  # noqa: PLC0415
    elif tier == "numba":
        from qkdpp.timing.gate_kernel import clicks  # noqa: PLC0415 - Numba is slow to import
    else:
        from qkdpp.timing.gate_portable import clicks  # noqa: PLC0415
    return clicks
