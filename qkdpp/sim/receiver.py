"""One party's detectors, electronics and tagger: light in, time tags out, slice by slice.

Order of events: delay and jitter of the detector, dark counts, dead time and after-pulses per detector, electrical
echoes, dead time per tagger input, lost intervals, the party's clock, ticks. Events that may still be overtaken
wait for the next slice, so that the tags leave sorted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.tags import TimeTags
from qkdpp.scenarios import scenario
from qkdpp.sim.clock import FS_PER_S, Femtoseconds, LocalClock, ticks
from qkdpp.sim.dead_time import FAR, DeadTime

CUT_SIGMAS = 8.0
"""Jitter is cut there (probability 1e-15), which bounds how far an event can be overtaken."""
SYNC = 4
"""Code of the sync channel behind the four detectors' codes."""
NO_ORIGIN = -1


class Cause(IntEnum):
    """What made a tag."""

    PHOTON = 0
    DARK = 1
    AFTER_PULSE = 2
    ECHO = 3
    SYNC = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Events:
    """Events at one stage, columns of equal length.

    ``time_fs``: true time; ``code``: physical detector, later ``basis << 1 | bit`` (4: sync); ``cause``: see
    :class:`Cause`; ``origin``: number of the pulse or pair, -1 for none.
    """

    time_fs: Femtoseconds
    code: NDArray[np.uint8]
    cause: NDArray[np.uint8]
    origin: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.time_fs.size)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Events:
        """Rows by position or mask."""
        return Events(
            time_fs=self.time_fs[index], code=self.code[index], cause=self.cause[index], origin=self.origin[index]
        )

    def sorted(self) -> Events:
        """The same events in time order."""
        return self.take(np.argsort(self.time_fs, kind="stable"))


def events(
    time_fs: Femtoseconds,
    code: NDArray[np.integer] | int,
    cause: Cause,
    origin: NDArray[np.int64] | int = NO_ORIGIN,
) -> Events:
    """Events of one cause."""
    n = time_fs.size
    return Events(
        time_fs=time_fs,
        code=np.array(np.broadcast_to(code, (n,)), dtype=np.uint8),
        cause=np.full(n, cause, dtype=np.uint8),
        origin=np.array(np.broadcast_to(origin, (n,)), dtype=np.int64),
    )


def join(parts: list[Events]) -> Events:
    """All events of ``parts``, in that order."""
    return Events(
        time_fs=np.concatenate([p.time_fs for p in parts]),
        code=np.concatenate([p.code for p in parts]),
        cause=np.concatenate([p.cause for p in parts]),
        origin=np.concatenate([p.origin for p in parts]),
    )


NONE = events(np.empty(0, dtype=np.int64), 0, Cause.PHOTON)
Label = Callable[[Femtoseconds, NDArray[np.uint8]], NDArray[np.uint8]]
"""Codes ``basis << 1 | bit`` of clicks from their true times and physical detectors."""


@dataclass(slots=True)
class Losses:
    """Events that did not become tags."""

    detector_dead_time: int = 0
    tagger_dead_time: int = 0
    gaps: int = 0


@dataclass(slots=True)
class Waiting:
    """Events that later ones may still precede."""

    held: Events = field(default_factory=lambda: NONE)

    def release(self, new: list[Events], ready: int) -> Events:
        """All events before ``ready`` in time order; keeps the others."""
        everything = join([self.held, *new]).sorted()
        cut = int(np.searchsorted(everything.time_fs, ready))
        self.held = everything.take(np.arange(cut, len(everything)))
        return everything.take(np.arange(cut))


class ReceiverChain:
    """From light at one party's detectors to its tags.

    Args:
        party: the plan; ``sync_jitter_ps``: jitter of the sync channel, if any.
        label: gives clicks their codes; None where the physical detector is the code (passive receivers).
        gate_phase_fs: arrival time of one pulse, for gated detectors.
        start_fs, stop_fs: true time of recording.
        rng: the chain's own generator.
    """

    def __init__(
        self,
        party: scenario.Party,
        *,
        label: Label | None,
        gate_phase_fs: int,
        sync_jitter_ps: float,
        start_fs: int,
        stop_fs: int,
        rng: np.random.Generator,
    ) -> None:
        receiver = self.receiver = party.receiver
        self.tagger = party.tagger
        self.label = label
        self.rng = rng
        self.n = receiver.n_detectors
        self.delay_fs = np.rint(np.array(receiver.delays_ps or [0.0] * self.n) * 1e3).astype(np.int64)
        self.jitter_fs = receiver.jitter_ps * 1e3
        self.sync_jitter_fs = sync_jitter_ps * 1e3
        spread = CUT_SIGMAS * max(self.jitter_fs, self.sync_jitter_fs)
        self.margin_fs = int(spread + max(0, -int(self.delay_fs.min())) + receiver.gate_width_ps * 1e3) + 1
        self.gate_fs = round(FS_PER_S / receiver.gate_rate_hz) if receiver.gate_rate_hz else 0
        self.phase_fs = self.delay_fs + gate_phase_fs
        self.detectors = [self._detector(d) for d in range(self.n)]
        self.inputs = [DeadTime(dead_fs=round(self.tagger.dead_time_ns * 1e6)) for _ in range(SYNC + 1)]
        self.clock = LocalClock(party.clock, stop_fs / FS_PER_S, rng)
        self.stop_fs = stop_fs
        self.gaps = self._draw_gaps(start_fs, stop_fs)
        self.dark_done = start_fs
        self.arriving, self.electrical = Waiting(), Waiting()
        self.losses = Losses()
        self.gaps_reported = 0

    def rebase(self, seconds: int) -> None:
        """Counts true time from ``seconds`` later on: femtoseconds fill int64 after 9,223 s, and a chain may run on."""
        fs = seconds * FS_PER_S
        for waiting in (self.arriving, self.electrical):
            waiting.held.time_fs[:] -= fs
        for unit in (*self.detectors, *self.inputs):
            unit.rebase(fs)
        if self.gate_fs:
            self.phase_fs = (self.phase_fs - fs) % self.gate_fs
        self.dark_done -= fs
        self.clock.rebase(seconds)
        over = int(np.searchsorted(self.gaps[:, 1], self.dark_done + fs - FS_PER_S))
        further = self._draw_gaps(self.stop_fs - fs, self.stop_fs)
        self.gaps = np.concatenate([self.gaps[over:] - fs, further])
        self.gaps_reported -= over

    def _detector(self, d: int) -> DeadTime:
        return DeadTime(
            dead_fs=round(self.receiver.dead_time_ns * 1e6),
            after_pulse=self.receiver.after_pulse,
            decay_fs=self.receiver.after_pulse_decay_ns * 1e6,
            gate_fs=self.gate_fs,
            phase_fs=int(self.phase_fs[d]),
            gate_width_fs=self.receiver.gate_width_ps * 1e3,
        )

    def _draw_gaps(self, start_fs: int, stop_fs: int) -> NDArray[np.int64]:
        """Lost intervals, int64[n, 2] of true time, not overlapping."""
        length = round(self.tagger.gap_ms * 1e-3 * FS_PER_S)
        n = self.rng.poisson(self.tagger.gaps_per_s * (stop_fs - start_fs) / FS_PER_S)
        begin = np.sort(self.rng.integers(start_fs, stop_fs, n))
        apart = np.diff(begin, prepend=start_fs - length) >= length
        return np.stack([begin[apart], begin[apart] + length], axis=1)

    def push(self, light: Events, sync_fs: Femtoseconds, until_fs: int, *, last: bool) -> tuple[TimeTags, Events]:
        """Adds light and sync pulses that arrive before ``until_fs``; returns finished tags and what they are.

        ``light`` has physical detectors as codes and arrival times without detector delay; later calls bring only
        later arrivals. With ``last`` everything is finished.
        """
        ready = FAR if last else until_fs - self.margin_fs
        arriving = self.arriving.release([self._detected(light), *self._darks(until_fs)], ready)
        clicks = self._clicks(arriving, ready if not last else until_fs)
        new = [clicks, *self._echoes(clicks)]
        if sync_fs.size:
            new.append(events(sync_fs + self._jitter(sync_fs.size, self.sync_jitter_fs), SYNC, Cause.SYNC))
        done = self._without_gaps(self._tagged(self.electrical.release(new, ready), ready))
        tick = ticks(self.clock.read(done.time_fs), self.tagger.tick_as, self.clock.base_s)
        tags = TimeTags(
            ticks=tick,
            channel=done.code,
            channel_ids=(*self.tagger.channels, self.tagger.sync_channel),
            tick_as=self.tagger.tick_as,
            lost=self._lost(until_fs, last),
        )
        return tags, done

    def _jitter(self, n: int, sigma_fs: float) -> NDArray[np.int64]:
        if not sigma_fs:
            return np.zeros(n, dtype=np.int64)
        off = self.rng.normal(size=n).clip(-CUT_SIGMAS, CUT_SIGMAS) * sigma_fs
        return np.rint(off).astype(np.int64)

    def _detected(self, light: Events) -> Events:
        time = light.time_fs + self.delay_fs[light.code] + self._jitter(len(light), self.jitter_fs)
        return Events(time_fs=time, code=light.code, cause=light.cause, origin=light.origin)

    def _darks(self, until_fs: int) -> list[Events]:
        """Dark counts of all detectors from where the last slice ended."""
        span = until_fs - self.dark_done
        parts = []
        for d, rate in enumerate(self.receiver.dark_rate_hz):
            time = self.dark_done + self.rng.integers(0, max(span, 1), self.rng.poisson(rate * span / FS_PER_S))
            if self.gate_fs:
                phase = int(self.phase_fs[d])
                scatter = (self.rng.random(time.size) - 0.5) * self.receiver.gate_width_ps * 1e3
                time = phase + (time - phase) // self.gate_fs * self.gate_fs + scatter.astype(np.int64)
            parts.append(events(time, d, Cause.DARK))
        self.dark_done = until_fs
        return parts

    def _clicks(self, arriving: Events, ready: int) -> Events:
        """Dead time and after-pulses, detector by detector; then codes."""
        parts = []
        for d, detector in enumerate(self.detectors):
            mine = arriving.take(arriving.code == d)
            time, index = detector.click(mine.time_fs, ready, self.rng)
            primary = index >= 0
            self.losses.detector_dead_time += len(mine) - int(primary.sum())
            clicked = events(time, d, Cause.AFTER_PULSE)
            clicked.cause[primary] = mine.cause[index[primary]]
            clicked.origin[primary] = mine.origin[index[primary]]
            parts.append(clicked)
        clicks = join(parts)
        if self.label is None:
            return clicks
        code = self.label(clicks.time_fs, clicks.code)
        return Events(time_fs=clicks.time_fs, code=code, cause=clicks.cause, origin=clicks.origin)

    def _echoes(self, clicks: Events) -> list[Events]:
        parts = []
        for echo in self.receiver.echoes:
            code = scenario.ROLES.index(echo.role)
            hit = clicks.time_fs[(clicks.code == code)]
            hit = hit[self.rng.random(hit.size) < echo.probability]
            delay = echo.delay_ns * 1e6 + self.rng.normal(size=hit.size) * echo.spread_ps * 1e3
            parts.append(events(hit + np.maximum(delay, 1.0).astype(np.int64), code, Cause.ECHO))
        return parts

    def _tagged(self, electrical: Events, ready: int) -> Events:
        """Dead time of the tagger's inputs."""
        if not self.tagger.dead_time_ns:
            return electrical
        keep = []
        for code, unit in enumerate(self.inputs):
            place = np.flatnonzero(electrical.code == code)
            _, index = unit.click(electrical.time_fs[place], ready, self.rng)
            keep.append(place[index])
        kept = np.sort(np.concatenate(keep))
        self.losses.tagger_dead_time += len(electrical) - kept.size
        return electrical.take(kept)

    def _without_gaps(self, tagged: Events) -> Events:
        if not self.gaps.size:
            return tagged
        nearest = np.searchsorted(self.gaps[:, 0], tagged.time_fs, side="right") - 1
        inside = (nearest >= 0) & (tagged.time_fs < self.gaps[nearest, 1])
        self.losses.gaps += int(inside.sum())
        return tagged.take(~inside)

    def _lost(self, until_fs: int, last: bool) -> tuple[tuple[int, int], ...]:
        """Lost intervals that begin before ``until_fs`` and were not yet reported, in ticks."""
        reported = self.gaps.shape[0] if last else int(np.searchsorted(self.gaps[:, 0], until_fs))
        now, self.gaps_reported = self.gaps[self.gaps_reported : reported], reported
        local = ticks(self.clock.read(now.reshape(-1)), self.tagger.tick_as, self.clock.base_s).reshape(-1, 2)
        return tuple((int(a), int(b)) for a, b in local)
