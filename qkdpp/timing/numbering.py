"""True pulse numbers for a clock that counts pulses from an arbitrary one.

The public synchronisation string says which pulse is which, separately for
every run of certain counting; runs that it cannot number are unlocked, and so
are stretches in which the string is not recognised although it should be (a
slip of the clock). Without a string only the first run counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.sync_string import SyncString
from qkdpp.core.tags import AS_PER_S, TimeTags
from qkdpp.kernels.tags import count_labels, relabel, sort
from qkdpp.timing.clock import Clock
from qkdpp.timing.fold import rules_of, slots_in_gate
from qkdpp.timing.string_search import Clicks, Shift, find_shift, stretches, whole_slots

Ints = NDArray[np.int64]

GROUP_CLICKS = 400
"""Clicks on string pulses in a stretch that is checked; 14 standard deviations are expected of a clean one."""
STRETCH_SIGNIFICANCE = 4.0
MAX_TRIES = 3
"""Runs without a hint of their own that are tried before giving up."""
SLIP_REACH = 64
GAP_ACCELERATION_PER_S = 1e-6
"""Change of the relative rate in a second that a gap between two runs may hide."""
MAX_BRIDGE = 1e7
"""Pulses; a longer gap is not bridged further."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Numbered:
    """A clock with true pulse numbers, delays with whole slots resolved, and the evidence.

    Attributes:
        clock: unlocked where the numbers are not certain.
        delay_ticks: by instrument channel.
        first: evidence of the run that was searched first; None without a string.
        runs: runs that were numbered, and all.
        unconfirmed: stretches that were unlocked because the string was not recognised.
    """

    clock: Clock
    delay_ticks: dict[int, float]
    first: Shift | None
    runs: tuple[int, int]
    unconfirmed: int


def first_run_only(clock: Clock, run: Ints, delay_ticks: Mapping[int, float]) -> Numbered:
    """Without a string: what follows a break in the count is unlocked."""
    first = int(run[run >= 0][0])
    return Numbered(
        clock=replace(clock, locked=clock.locked & (run == first)),
        delay_ticks=dict(delay_ticks),
        first=None,
        runs=(1, int(np.unique(run[run >= 0]).size)),
        unconfirmed=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guess:
    """Pulse ``pulse`` came at tick ``tick``, give or take ``reach`` pulses."""

    tick: int
    pulse: int
    reach: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counted:
    """What is to be numbered.

    Attributes:
        tags: the recording.
        clock: counts from an arbitrary pulse in every run.
        run: int64[pieces], run of every piece, -1 where it is unlocked.
        detector_of_channel: detector code by instrument channel.
        string: the public string.
        gate: full width (slots) of what counts as a click.
    """

    tags: TimeTags
    clock: Clock
    run: Ints
    detector_of_channel: Mapping[int, int]
    string: SyncString
    gate: float

    def clicks(self, clock: Clock, delay_ticks: Mapping[int, float]) -> Clicks:
        """Clicks of all detectors near the middle of their slot while ``clock`` is locked, by slot."""
        slots, channel = sort(*slots_in_gate(self.tags, rules_of(self.tags, clock, delay_ticks, gate_slots=self.gate)))
        detector = channel.copy()
        relabel(detector, self._detectors())
        return Clicks(slots=slots, detector=detector, channel=channel)

    def _detectors(self) -> NDArray[np.uint8]:
        """Detector code by channel index, uint8[256]."""
        table = np.zeros(256, dtype=np.uint8)
        for index, channel_id in enumerate(self.tags.channel_ids):
            table[index] = self.detector_of_channel.get(channel_id, 0)
        return table

    def of_run(self, run: int) -> Clock:
        """The clock, locked in one run only."""
        return replace(self.clock, locked=self.clock.locked & (self.run == run))

    def ends(self, run: int) -> tuple[int, int]:
        """First and last piece of a run."""
        at = np.flatnonzero(self.run == run)
        return int(at[0]), int(at[-1])

    def length(self, run: int) -> int:
        """Ticks in locked pieces of a run."""
        edges = np.append(self.clock.knot_ticks, self.clock.stop_tick)
        return int(np.diff(edges)[self.run == run].sum())

    def shift(self, run: int, guess: Guess) -> int:
        """What a guess says must be added to the slots of a run, by the clock's rate at the end nearest to it."""
        piece = min(self.ends(run), key=lambda i: abs(int(self.clock.knot_ticks[i]) - guess.tick))
        away = (int(self.clock.knot_ticks[piece]) - guess.tick) * float(self.clock.slots_per_tick[piece])
        return guess.pulse + round(away) - int(self.clock.knot_slot[piece])

    def bridge(self, known: int, other: int, shift: int) -> Guess:
        """Where one run must go on from another whose shift is known."""
        piece = self.ends(known)[1] if known < other else self.ends(known)[0]
        near = self.ends(other)[0] if known < other else self.ends(other)[1]
        tick_s = self.tags.tick_as / AS_PER_S
        gap_s = abs(int(self.clock.knot_ticks[near]) - int(self.clock.knot_ticks[piece])) * tick_s
        hidden = GAP_ACCELERATION_PER_S * gap_s**2 * float(self.clock.slots_per_tick[piece]) / tick_s
        return Guess(
            tick=int(self.clock.knot_ticks[piece]),
            pulse=int(self.clock.knot_slot[piece]) + shift,
            reach=SLIP_REACH + round(min(hidden, MAX_BRIDGE)),
        )


def number(counted: Counted, delay_ticks: Mapping[int, float], guesses: list[Guess]) -> Numbered:
    """Finds the true pulse numbers of every run.

    Args:
        counted: clock and clicks.
        delay_ticks: delays by instrument channel, to within whole slots.
        guesses: where the search begins; the first that leads to a confirmed peak is taken.

    Raises:
        Abort: NO_LOCK if none of the longest runs can be numbered.
    """
    runs = sorted(np.unique(counted.run[counted.run >= 0]).tolist())
    delays = dict(delay_ticks)
    for run in sorted(runs, key=counted.length, reverse=True)[:MAX_TRIES]:
        clicks = counted.clicks(counted.of_run(run), delays)
        evidence = _first_found(counted, clicks, run, guesses)
        if evidence is not None:
            break
    if evidence is None:
        reaches = [guess.reach for guess in guesses]
        raise Abort(AbortReason.NO_LOCK, string="not recognised", runs=len(runs), reach_pulses=reaches)
    _resolve_whole_slots(counted, delays, clicks, evidence.shift)
    shifts = {run: evidence.shift}
    for other in sorted(runs, key=lambda r: abs(r - run)):
        if other not in shifts:
            near = min(shifts, key=lambda r: abs(r - other))
            guess = counted.bridge(near, other, shifts[near])
            found = _first_found(counted, counted.clicks(counted.of_run(other), delays), other, [guess])
            if found is not None:
                shifts[other] = found.shift
    clock, unconfirmed = _unlock_unconfirmed(counted, _apply(counted, shifts), delays)
    return Numbered(
        clock=clock, delay_ticks=delays, first=evidence, runs=(len(shifts), len(runs)), unconfirmed=unconfirmed
    )


def _first_found(counted: Counted, clicks: Clicks, run: int, guesses: list[Guess]) -> Shift | None:
    """The first guess that leads to a peak: of all channels, or of the busiest alone if whole slots part them."""
    for guess in guesses:
        shift = counted.shift(run, guess)
        found = find_shift(clicks, counted.string, guess=shift, reach=guess.reach)
        if found is None and clicks.slots.size:
            busiest = int(np.argmax(count_labels(clicks.channel)))
            alone = clicks.at(np.flatnonzero(clicks.channel == busiest))
            found = find_shift(alone, counted.string, guess=shift, reach=guess.reach)
        if found is not None:
            return found
    return None


def _resolve_whole_slots(counted: Counted, delays: dict[int, float], clicks: Clicks, shift: int) -> None:
    """Puts whole slots by which single channels are off into their delays."""
    moved = Clicks(slots=clicks.slots + shift, detector=clicks.detector, channel=clicks.channel)
    rate = float(np.median(counted.clock.slots_per_tick))
    for index, slots in whole_slots(moved, counted.string).items():
        delays[counted.tags.channel_ids[index]] -= slots / rate


def _apply(counted: Counted, shifts: Mapping[int, int]) -> Clock:
    """The clock with every numbered run shifted, the others unlocked."""
    add = np.array([shifts.get(r, 0) for r in counted.run.tolist()], dtype=np.int64)
    known = np.array([r in shifts for r in counted.run.tolist()], dtype=np.bool_)
    return replace(counted.clock, knot_slot=counted.clock.knot_slot + add, locked=counted.clock.locked & known)


def _unlock_unconfirmed(counted: Counted, clock: Clock, delays: Mapping[int, float]) -> tuple[Clock, int]:
    """Unlocks stretches in which the string is not recognised, and those beside them."""
    groups = stretches(counted.clicks(clock, delays), counted.string, GROUP_CLICKS)
    last = np.append(clock.knot_slot[1:], clock.slots(np.array([clock.stop_tick]))[0])
    wrong = [i for i, (_, _, found) in enumerate(groups) if found < STRETCH_SIGNIFICANCE]
    locked = clock.locked.copy()
    for i in wrong:
        # the stretch beside it may contain the slip; what no stretch covers goes with its neighbour
        if i > 1:
            locked &= (last <= groups[i - 1][0]) | (clock.knot_slot >= groups[i][1])
        else:
            locked &= clock.knot_slot >= groups[i][1]
        if i + 2 < len(groups):
            locked &= (last <= groups[i][0]) | (clock.knot_slot >= groups[i + 1][1])
        else:
            locked &= last <= groups[i][0]
    return replace(clock, locked=locked), len(wrong)
