"""The binary stream of the TDC1: 32-bit words without frame, checksum or sequence number.

A word holds 27 bits of time in 2 ns, a marker bit, and the state of four
inputs. Markers come every half wrap, with or without light, and are the only
proof that nothing went wrong: the words from one marker to the next are sound if
no step exceeds half a wrap and the steps add up to half a wrap. So words are
held back until the next marker (at most 134 ms) and delivered or dropped with it.

- Times that cannot be, in words that make sense as they stand: ``discontinuity`` (words were lost or spoilt).
- Words that make sense again only 1 to 3 bytes further on: ``byte_slip``.
- The instrument's time falling behind the host's by whole wraps: ``wrap_ambiguous``.

After a fault the stream is taken up again where markers in a row are in their
places and no step is wrong. A lost interval runs from the last sound marker to there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp_drivers.taggers.pending import Interval

SPAN = 1 << 27
HALF = SPAN // 2
SLACK = 1 << 10
PROOF_WORDS, PROOF_MARKERS = 64, 4
MARKER, PATTERN = 0x10, 0x0F
TICK_S = 2e-9
WRAP_S = SPAN * TICK_S
LAG_WINDOW_S = 1.0
CLOCK_DRIFT = 2e-4
"""Relative rate between the instrument (better than 50 ppm) and a computer's clock, at most."""
LAG_LIMIT_S = WRAP_S - 0.068
"""The least lag of a window may grow by the 50 ms of a busy host, not by a wrap; half a wrap is the age of a marker."""

Words = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """Words that have proved sound.

    Attributes:
        ticks: int64[n], in 2 ns, non-decreasing over all calls.
        pattern: uint8[n], states of the inputs; markers are left out.
        flags: what happened.
        lost: intervals in ticks.
    """

    ticks: NDArray[np.int64]
    pattern: NDArray[np.uint8]
    flags: tuple[str, ...]
    lost: tuple[Interval, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """Words with the steps between them.

    Attributes:
        words: uint32[n].
        steps: int64[n], ticks from word to word modulo the wrap.
        markers: numbers of the markers that are in their places.
        wrong: number of the first word that cannot be; n if there is none.
    """

    words: Words
    steps: NDArray[np.int64]
    markers: NDArray[np.intp]
    wrong: int

    @property
    def proves_alignment(self) -> bool:
        """Whether words shifted by some bytes could not look like this: random steps are wrong every other time."""
        return self.markers.size >= 2 and (self.wrong >= PROOF_WORDS or self.markers.size >= PROOF_MARKERS)


class Tdc1Stream:
    """Decodes a stream piece by piece; ticks count from the instrument's zero and go on over wraps.

    Attributes:
        newest_tick: time of the newest word, delivered or held back.
    """

    def __init__(self) -> None:
        self.newest_tick = 0
        self._bytes = bytearray()
        self._tick: int | None = None  # of the last accepted word
        self._time = 0  # its 27 bits
        self._has_marker = False  # the last accepted word is a marker
        self._sound_tick = 0  # up to here all is proved
        self._base: int | None = None  # tick that the first word shall have (after a restart)
        self._adrift = False  # the alignment of the words is not known
        self._dropped = 0  # bytes since the alignment was last known
        self._flags: dict[str, None] = {}
        self._lost: list[Interval] = []
        self._lag = LagWatch()

    def feed(self, data: bytes) -> None:
        """Takes bytes as they come."""
        self._bytes += data

    def restart(self, tick: int) -> None:
        """The stream ends here and another one follows; its first word gets ``tick`` or later.

        What came after the last look at both clocks is lost: nobody can tell any more whether wraps were missing.
        """
        self._bytes.clear()
        self._base = max(tick, self.newest_tick + 1)
        self._tick, self._has_marker, self._adrift = None, False, False
        self._sound_tick = min(self._sound_tick, self._lag.sound_tick)
        self._broken("restart", self._base)

    def tick_at(self, host_s: float) -> int:
        """What the instrument's clock shows at a time of the host, from what it showed before."""
        return max(0, round((host_s - self._lag.floor_s(host_s - self.newest_tick * TICK_S)) / TICK_S))

    def take(self, *, end_tick: int | None = None) -> Decoded:
        """What has been proved.

        Args:
            end_tick: the stream is over, at about this tick by the host's clock: the words after the last marker are
                delivered too if nothing speaks against them, else lost.
        """
        ticks: list[NDArray[np.int64]] = []
        patterns: list[NDArray[np.uint8]] = []
        while len(self._bytes) >= 4 and (not self._adrift or self._aligned()):
            first_step = None if self._tick is None else self._time
            judged = self._judged(0, first_step, has_marker=self._has_marker)
            n = len(judged.words)
            proved = int(judged.markers[-1]) + 1 if judged.markers.size else 0
            if end_tick is not None and judged.wrong == n and len(self._bytes) % 4 == 0:
                proved = n
            self._accept(judged, proved, ticks, patterns)
            if judged.wrong == n:
                self.newest_tick = (self._tick or 0) + int(judged.steps[proved:].sum())
                break
            self._drop(4 * (judged.wrong - proved))
        if end_tick is not None and self._bytes:
            flag = "byte_slip" if (self._dropped + len(self._bytes)) % 4 else "discontinuity"
            self._bytes.clear()
            self.newest_tick = max(self.newest_tick, self._sound_tick + HALF, end_tick)
            self._broken(flag, self.newest_tick)
        return self._decoded(ticks, patterns)

    def compare_clocks(self, host_s: float) -> None:
        """Looks for missing wraps; call it when new words came and the host has no more."""
        if self._adrift or self._tick is None:
            return
        missing = self._lag.missing_wraps(host_s, self.newest_tick * TICK_S)
        if missing:
            self._tick += missing * SPAN
            self.newest_tick += missing * SPAN
            self._sound_tick = min(self._lag.sound_tick, self._sound_tick)
            self._broken("wrap_ambiguous", self._tick)

    def _judged(self, at: int, time_before: int | None, *, has_marker: bool) -> Judged:
        """The words from byte ``at`` on.

        Args:
            at: first byte.
            time_before: time of the word before them, None if there is none.
            has_marker: whether that word is a marker.
        """
        n = (len(self._bytes) - at) // 4
        words = np.frombuffer(bytes(self._bytes[at : at + 4 * n]), dtype="<u4")
        time = (words >> np.uint32(5)).astype(np.int64)
        steps = np.diff(time, prepend=time[:1] if time_before is None else np.int64(time_before))
        steps &= SPAN - 1
        elapsed = np.cumsum(steps)
        markers = np.flatnonzero(words & np.uint32(MARKER))
        apart = np.diff(elapsed[markers], prepend=0)
        misplaced = np.abs(apart - HALF) > SLACK
        if not has_marker and misplaced.size:
            misplaced[0] = apart[0] > HALF + SLACK
        good = int(np.argmax(misplaced)) if misplaced.any() else int(markers.size)
        since = int(elapsed[markers[good - 1]]) if good else 0
        wrong = int(np.searchsorted(elapsed, since + HALF + SLACK, side="right"))
        if good < markers.size:
            wrong = min(wrong, int(markers[good]))
        backward = np.flatnonzero(steps[:wrong] > HALF + SLACK)
        if backward.size:
            wrong = int(backward[0])
        return Judged(words=words, steps=steps, markers=markers[:good][markers[:good] < wrong], wrong=wrong)

    def _accept(
        self, judged: Judged, n: int, ticks: list[NDArray[np.int64]], patterns: list[NDArray[np.uint8]]
    ) -> None:
        """Takes the first ``n`` words over."""
        if not n:
            return
        words = judged.words[:n]
        if self._tick is None:
            self._tick = int(words[0]) >> 5 if self._base is None else self._base
        found = self._tick + np.cumsum(judged.steps[:n])
        low = words.astype(np.uint8)
        is_event = (low & MARKER) == 0
        empty = is_event & ((low & PATTERN) == 0)
        if empty.any():
            self._flags["invalid"] = None
            is_event &= ~empty
        ticks.append(found[is_event])
        patterns.append(low[is_event] & np.uint8(PATTERN))
        self._tick, self._time = int(found[-1]), int(words[-1]) >> 5
        self._has_marker, self._sound_tick = bool(low[-1] & MARKER), self._tick
        del self._bytes[: 4 * n]

    def _drop(self, n_bytes: int) -> None:
        if not self._adrift:
            self._adrift, self._dropped = True, 0
        self._dropped += n_bytes
        del self._bytes[:n_bytes]

    def _aligned(self) -> bool:
        """Looks for words that prove themselves by two markers in their places; False while more are needed."""
        while len(self._bytes) >= 4 + 3:
            judged = [self._judged(shift, None, has_marker=False) for shift in range(4)]
            proved = [shift for shift, each in enumerate(judged) if each.proves_alignment]
            if proved:
                self._take_up(proved[0] + 4)  # the first word may have lost a part
                return True
            if any(each.wrong == len(each.words) for each in judged):
                return False
            self._drop(max(shift + 4 * each.wrong for shift, each in enumerate(judged)))
        return False

    def _take_up(self, at: int) -> None:
        self._drop(at)
        self._adrift = False
        time = int.from_bytes(self._bytes[:4], "little") >> 5
        if self._tick is not None:
            self._tick += (time - self._time) & (SPAN - 1)
            self._time, self._has_marker = time, False
        self._broken("byte_slip" if self._dropped % 4 else "discontinuity", time if self._tick is None else self._tick)

    def _broken(self, flag: str, tick: int) -> None:
        """Nothing is sure from the last proof up to ``tick``."""
        self._flags[flag] = None
        self._lost.append((self._sound_tick, max(tick, self._sound_tick)))
        self._sound_tick = max(tick, self._sound_tick)

    def _decoded(self, ticks: list[NDArray[np.int64]], patterns: list[NDArray[np.uint8]]) -> Decoded:
        decoded = Decoded(
            ticks=np.concatenate([np.empty(0, np.int64), *ticks]),
            pattern=np.concatenate([np.empty(0, np.uint8), *patterns]),
            flags=tuple(self._flags),
            lost=tuple(self._lost),
        )
        self._flags, self._lost = {}, []
        return decoded


class LagWatch:
    """How far the instrument's time is behind the host's, as the least lag of each window of a second.

    The floor falls at once and rises no faster than two clocks can drift apart: a reading without delay is the rule.

    Attributes:
        sound_tick: newest tick of the last reading that no wrap was missing from.
    """

    def __init__(self) -> None:
        self.sound_tick = 0
        self._floor_s: float | None = None
        self._least_s = float("inf")
        self._until_s: float | None = None

    def floor_s(self, otherwise: float) -> float:
        """The lag of a word without delay."""
        return min(otherwise if self._floor_s is None else self._floor_s, self._least_s)

    def missing_wraps(self, host_s: float, instrument_s: float) -> int:
        """Wraps that the instrument must have made unseen."""
        lag = host_s - instrument_s
        if lag <= self._limit_s():
            self.sound_tick = round(instrument_s / TICK_S)
        self._least_s = min(self._least_s, lag)
        if self._until_s is None:
            self._until_s = host_s + LAG_WINDOW_S
        if host_s < self._until_s:
            return 0
        least, self._least_s, self._until_s = self._least_s, float("inf"), host_s + LAG_WINDOW_S
        if self._floor_s is not None and least > self._limit_s():
            return round((least - self._floor_s) / WRAP_S)
        highest = least if self._floor_s is None else self._floor_s + CLOCK_DRIFT * LAG_WINDOW_S
        self._floor_s = min(least, highest)
        return 0

    def _limit_s(self) -> float:
        return self.floor_s(float("inf")) + LAG_LIMIT_S


def input_edges(
    ticks: NDArray[np.int64], pattern: NDArray[np.uint8], pulse_ticks: int, before: tuple[int, int]
) -> NDArray[np.uint8]:
    """Patterns without the inputs whose pulse was still high from the word before.

    A word is written when an edge comes at any input, and shows all inputs that are high then. An input that was high
    less than a pulse ago counts as an edge only where the word would otherwise be without one.

    Args:
        ticks: int64[n].
        pattern: uint8[n].
        pulse_ticks: length of the pulses at the inputs.
        before: tick and pattern of the word before the first.
    """
    old_ticks = np.concatenate([[before[0]], ticks[:-1]])
    old = np.concatenate([np.array([before[1]], np.uint8), pattern[:-1]])
    new = np.where(ticks - old_ticks < pulse_ticks, pattern & ~old, pattern)
    return np.where(new == 0, pattern, new).astype(np.uint8)


def expand(ticks: NDArray[np.int64], pattern: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """One tag per input of each pattern: ticks int64[m], input uint8[m] from 0, in time order."""
    if not (pattern & (pattern - np.uint8(1))).any():
        return ticks, np.bitwise_count(pattern - np.uint8(1)).astype(np.uint8)
    rows, inputs = np.nonzero((pattern[:, None] >> np.arange(4, dtype=np.uint8)) & np.uint8(1))
    return ticks[rows], inputs.astype(np.uint8)
