"""The start-up sequence of a receiver: which loops run on which instruments, and what they leave behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.devices import DelayGenerator, PolarisationController, TimeTagger
from qkdpp.core.errors import DeviceError
from qkdpp.core.tags import AS_PER_PS
from qkdpp.node.calibrate import plots
from qkdpp.node.calibrate.counting import Counting
from qkdpp.node.calibrate.delay_scan import DelayScan, scan_delays
from qkdpp.node.calibrate.polarisation import PolarisationFeedback, feed_back
from qkdpp.node.calibrate.sensitivity import Sensitivity
from qkdpp.node.calibrate.synchronisation import Synchronisation, synchronise
from qkdpp.node.config import ROLES, CalibrationSection, ReceiverSection
from qkdpp.node.delay_watch import DelayWatch
from qkdpp.node.last_calibration import CalibrationFile, LastCalibration
from qkdpp.node.monitors import Alarm, AlarmSettings, judge_darks, judge_delays
from qkdpp.node.tracking import Tracking
from qkdpp.timing.pulsed import PulsedParams

_log = logging.getLogger("qkdpp.node")

GOES_ON: Final = ("start", "link", "trouble with an instrument")
"""Reasons for a calibration that the last one serves if nothing has changed since."""

Result = DelayScan | PolarisationFeedback | Synchronisation


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The instruments of a receiver: tagger (started), gate delays by detector code, controllers by basis."""

    tagger: TimeTagger
    gate_delays: Mapping[int, tuple[DelayGenerator, str]]
    controllers: tuple[PolarisationController, PolarisationController] | None


def bench_of(section: ReceiverSection, devices: Mapping[str, Any]) -> Bench:
    """The instruments that a configuration names, from the connected devices."""
    delays = {}
    for detector, place in section.gate_delays.items():
        device, _, channel = place.partition(":")
        delays[ROLES[detector]] = (devices[device], channel)
    names = section.polarisation
    return Bench(
        tagger=devices[section.tagger],
        gate_delays=delays,
        controllers=(devices[names[0]], devices[names[1]]) if names else None,
    )


def readings(bench: Bench) -> dict[str, float]:
    """What the loops set, as the instruments say it is now."""
    found = {f"delay {detector}": device.delay_ps(channel) for detector, (device, channel) in bench.gate_delays.items()}
    for basis, controller in enumerate(bench.controllers or ()):
        found |= {_retarder(basis, number): controller.retarder(number) for number in controller.retarders}
    return found


def _retarder(basis: int, number: int) -> str:
    return f"retarder {basis}.{number}"


class _Gates:
    """Gate delays by detector code."""

    def __init__(self, bench: Bench) -> None:
        self._delays = bench.gate_delays

    def set_delay_ps(self, detector: int, delay_ps: float) -> float:
        device, channel = self._delays[detector]
        return device.set_delay_ps(channel, delay_ps)

    def delay_ps(self, detector: int) -> float:
        device, channel = self._delays[detector]
        return device.delay_ps(channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The sender, as the loops ask it."""

    ask: Callable[[str], int]

    def send(self, mode: str) -> None:
        self.ask(mode)


class Calibrator:
    """Runs the configured loops; results go to ``folder``, alarms to ``alarmed``, the newest of each to ``found``.

    Args:
        bench: instruments.
        section: which loops, with which settings.
        alarms: thresholds.
        timing: how the link is timed without a synchronisation calibration.
        now: seconds of a steady clock.
        folder: where results and figures go.
        kept: where the last calibration is kept for another start.
        alarmed: is told of alarms.
        progress: is told what happens.
        interrupted: whether somebody wants it to end early.
    """

    def __init__(
        self,
        bench: Bench,
        section: CalibrationSection,
        *,
        alarms: AlarmSettings,
        timing: PulsedParams,
        now: Callable[[], float],
        folder: Path,
        kept: CalibrationFile,
        alarmed: Callable[[list[Alarm]], None],
        progress: Callable[[str], None] = lambda text: None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._bench, self._section, self._alarms, self._timing = bench, section, alarms, timing
        self._now, self._folder, self._alarmed, self._progress = now, folder, alarmed, progress
        self._interrupted, self._kept = interrupted, kept
        self._done = 0
        self._delays_ps: NDArray[np.float64] | None = None
        self._watch: DelayWatch | None = None
        self._sensitivities: tuple[Sensitivity, Sensitivity] | None = None
        self.found: dict[str, Result] = {}

    def run(self, ask: Callable[[str], int], reason: str) -> PulsedParams:
        """All loops in order, or the last calibration; how the link is timed afterwards.

        DeviceError if a loop fails for good.
        """
        if reason in GOES_ON and (last := self._kept.load(self._asked_for, readings(self._bench))) is not None:
            _log.info("the last calibration holds (%s)", reason)
            self._delays_ps = None if last.delays_ps is None else np.array(last.delays_ps)
            self._sensitivities = last.sensitivities
            self._stand_best(last)
            return replace(self._timing, known_delay_ticks=last.known_delay_ticks)
        self._kept.discard()
        self._sensitivities = None
        counting = Counting(self._bench.tagger, self._timing.detector_of_channel, self._now, self._interrupted)
        steps = {"delay": self._delay, "polarisation": self._polarisation, "synchronisation": self._synchronisation}
        timing = self._timing
        for name in self._section.steps:
            self._progress(f"calibrating: {name} ({reason})")
            self._done += 1
            timing = steps[name](counting, _Asked(ask=ask), timing)
            _log.info("calibration %s (%s) has succeeded", name, reason)
        self._keep_for_another_start(timing)
        return timing

    def confirm(self) -> None:
        """A block has given a key: the calibration holds."""
        self._kept.confirm()

    def forget(self) -> None:
        """The calibration holds no longer, also not for another start."""
        self._kept.discard()

    @property
    def _asked_for(self) -> str:
        """Everything that the loops are told, as text."""
        timing = self._timing
        link = [timing.pulse_period_as, timing.sync_channel, timing.sync_period_pulses]
        channels = [dict(timing.detector_of_channel), dict(timing.known_delay_ticks)]
        return msgspec.json.encode([self._section, link, channels]).decode()

    def _keep_for_another_start(self, timing: PulsedParams) -> None:
        last = LastCalibration(
            asked=self._asked_for,
            readings=readings(self._bench),
            delays_ps=None if self._delays_ps is None else self._delays_ps.tolist(),
            known_delay_ticks=dict(timing.known_delay_ticks),
            sensitivities=self._sensitivities,
        )
        self._kept.save(last)

    def tracking(self) -> Tracking | None:
        """What follows the polarisation from here on; None if the newest calibration does not say how."""
        controllers = self._bench.controllers
        if controllers is None or self._sensitivities is None:
            return None

        return Tracking(
            controllers,
            self._sensitivities,
            self._section.tracking,
            moving=lambda which: self._kept.moving(_retarder(*one) for one in which),
            moved=self._follow,
        )

    def _follow(self, best: Mapping[tuple[int, int], float]) -> None:
        """Controllers have been moved; this is where they would stand best."""
        self._kept.follow(readings(self._bench), {_retarder(*one): value for one, value in best.items()})

    def _stand_best(self, last: LastCalibration) -> None:
        """Whoever was killed had no time to move the controllers back from what tracking was trying."""
        if not last.best:
            return
        self._kept.moving(last.best)
        best = {}
        for basis, controller in enumerate(self._bench.controllers or ()):
            for number in controller.retarders:
                if (name := _retarder(basis, number)) in last.best:
                    best[basis, number] = controller.set_retarder(number, last.best[name])
        self._follow(best)

    def watch(self) -> DelayWatch:
        """What sees delays move between scans: since the newest one, whatever else was calibrated meanwhile."""
        if self._watch is None:
            self._watch = DelayWatch(
                self._timing.detector_of_channel,
                pulse_period_as=self._timing.pulse_period_as,
                synchronous=self._timing.method == "sync",
                settings=self._alarms,
            )
        return self._watch

    def _delay(self, counting: Counting, ask: _Asked, timing: PulsedParams) -> PulsedParams:
        if set(self._bench.gate_delays) != {0, 1, 2, 3}:
            raise DeviceError("the delay scan needs receiver.gate_delays for Z0, Z1, X0 and X1")
        found = scan_delays(
            _Gates(self._bench),
            counting,
            ask,
            self._section.delay,
            lambda share: self._progress(f"scanning delays: {share:.0%}"),
        )
        self._watch = None
        self._keep("delay", found, lambda path: plots.plot_delay_scan(found, path))
        if not found.ok:
            raise DeviceError(
                f"the delay scan found no maximum for detector {_names(found.failed)}; is it switched on?"
            )
        if self._delays_ps is not None:
            period = self._section.delay.span_ps
            moved = found.centre_ps - self._delays_ps
            moved -= period * np.rint(moved / period)
            self._alarmed(judge_delays([0.0] * 4, moved.tolist(), self._alarms))
        self._delays_ps = found.centre_ps
        return timing

    def _polarisation(self, counting: Counting, ask: _Asked, timing: PulsedParams) -> PulsedParams:
        if self._bench.controllers is None:
            raise DeviceError("the polarisation feedback needs receiver.polarisation: two controllers")
        found = feed_back(
            self._bench.controllers,
            counting,
            ask,
            self._section.polarisation,
            self._progress,
            sensed=self._section.tracking.on,
        )
        self._keep("polarisation", found, lambda path: plots.plot_polarisation(found, path))
        first, second = (found.left(basis).sensitivity for basis in (0, 1))
        if first is not None and second is not None and first.usable and second.usable:
            self._sensitivities = first, second
        self._alarmed(judge_darks(found.dark_hz, self._alarms))
        if not found.ok:
            reached = min(min(one.extinctions) for one in found.tries)
            raise DeviceError(
                f"the polarisation feedback reached an extinction of {reached:.0f} only, "
                f"{self._section.polarisation.extinction:g} are asked for; look at the source and at the fibre"
            )
        return timing

    def _synchronisation(self, counting: Counting, ask: _Asked, timing: PulsedParams) -> PulsedParams:
        if timing.sync_channel is None:
            raise DeviceError('the synchronisation calibration needs a channel with the role "sync"')
        found = synchronise(
            counting,
            ask,
            sync_channel=timing.sync_channel,
            sync_period_ps=timing.sync_period_pulses * timing.pulse_period_as / AS_PER_PS,
            settings=self._section.synchronisation,
        )
        self._keep("synchronisation", found, lambda path: plots.plot_synchronisation(found, path))
        if not found.ok:
            raise DeviceError(f"the synchronisation calibration found no peak for detector {_names(found.failed)}")
        known = {channel: found.delay_ticks(detector) for channel, detector in timing.detector_of_channel.items()}
        return replace(timing, known_delay_ticks=known)

    def _keep(self, name: str, found: Result, plot: Callable[[Path], None]) -> None:
        """Result and figure, numbered in the order of time."""
        self.found[name] = found
        stem = f"{self._done:03d}-{name}"
        (self._folder / f"{stem}.json").write_bytes(msgspec.json.format(msgspec.json.encode(plain(found))))
        plot(self._folder / f"{stem}.svg")


def _names(detectors: tuple[int, ...]) -> str:
    return ", ".join(tuple(ROLES)[d] for d in detectors)


def plain(found: Result) -> dict[str, Any]:
    """A result for JSON; histograms are left to the figure."""
    fields = {name: getattr(found, name) for name in found.__dataclass_fields__}
    return {"ok": found.ok} | {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in fields.items()
        if name != "histogram"
    }
