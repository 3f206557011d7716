"""Polarisation tracking: the controllers follow the fibre while keys are made, from error rates that are public anyway.

Small misalignments ``m`` (two angles on the Poincare sphere, rad) and moves ``y`` of a controller add up, and a basis
then errs by ``e = e0 + |m + y|^2 / 4``. Which moves of the retarders make ``y`` is known from the calibration
(:mod:`qkdpp.node.calibrate.sensitivity`). A Kalman filter over ``(m, e0)``, with the fibre as a random walk, takes the
error rate of every stretch measured at one setting. The next setting undoes the ``m`` that is believed and adds a
small dither, in turn to either side of either axis: without it a parabola shows no direction. The dither is the one
that costs least in all: ``d^3 = sqrt(8 q r)`` for a walk of variance ``q`` between two measurements of variance ``r``.

No clock and no instrument in :class:`Tracker`; nothing here is secret, and no key is spent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.devices import PolarisationController
from qkdpp.node.calibrate.sensitivity import Sensitivity

_log = logging.getLogger("qkdpp.node")

LEAST_DITHER_RAD, MOST_DITHER_RAD = 0.02, 0.1
"""A dither of 0.1 rad adds 0.25 % to the error rate, one of 0.02 rad 0.01 %."""
MOST_RAD = 1.0
"""As far from the calibrated setting the sensitivity may be believed."""
RESOLUTION = 0.003
"""Counts are collected until the error rate is known to this standard deviation."""
FIRST_RAD, FLOOR = 0.15, 0.02
"""Standard deviations at the beginning: what calibration leaves of each angle, and the error rate without it."""
FLOOR_WALK_PER_SQRT_S = 3e-6
WEAKEST = 0.01
"""The weaker of the two axes acts at least this share of the stronger one; else it is hardly used."""
DIRECTIONS = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))


class TrackingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``on``: whether controllers follow at all. ``drift_rad_per_sqrt_s``: how fast the fibre is taken to wander."""

    on: bool = True
    drift_rad_per_sqrt_s: float = 0.005


class Tracker:
    """Follows one basis.

    Args:
        sensitivity: of the controller where it stands now.
        ranges: lowest and highest value by retarder.
        settings: see :class:`TrackingSettings`.
    """

    def __init__(
        self, sensitivity: Sensitivity, ranges: Mapping[int, tuple[float, float]], settings: TrackingSettings
    ) -> None:
        self._retarders, self._drift = sensitivity.retarders, settings.drift_rad_per_sqrt_s
        self._low, self._high = np.array([ranges[n] for n in self._retarders]).T
        self._centre = np.array(sensitivity.values)
        power, axes = np.linalg.eigh(np.array(sensitivity.curvature))
        power, axes = power[:-3:-1], axes[:, :-3:-1]
        self._per_rad = axes / (2 * np.sqrt(np.maximum(power, WEAKEST * power[0])))
        self._moved = np.zeros(2)
        self._state = np.zeros(3)
        self._spread = np.diag([FIRST_RAD**2, FIRST_RAD**2, FLOOR**2])
        self._n = self._wrong = self._steps = 0
        self._seconds = 0.0

    @property
    def turned_rad(self) -> float:
        """How far the fibre is believed to have turned this basis since the calibration."""
        return float(np.hypot(*self._state[:2]))

    def step(self, n: int, wrong: int, seconds: float) -> dict[int, float] | None:
        """The next setting of the retarders, or None: stay.

        Args:
            n: detections of equal bases while the controller stood as last said.
            wrong: errors among them.
            seconds: since the step before.
        """
        self._n, self._wrong, self._seconds = self._n + n, self._wrong + wrong, self._seconds + seconds
        noise = max(self._wrong, 1) / max(self._n, 1) ** 2
        if noise > RESOLUTION**2:
            return None
        walk = self._drift**2 * self._seconds
        self._learn(self._wrong / self._n, noise, walk)
        self._n = self._wrong = 0
        self._seconds = 0.0
        dither = np.clip((8 * walk * noise) ** (1 / 6), LEAST_DITHER_RAD, MOST_DITHER_RAD)
        self._steps += 1
        return self._move(-self._state[:2] + dither * np.array(DIRECTIONS[self._steps % 4]))

    def home(self) -> dict[int, float] | None:
        """The setting that is believed to be best."""
        return self._move(-self._state[:2])

    def best(self) -> dict[int, float]:
        """The same, staying where it is; where it began if that is out of reach."""
        return self._setting(-self._state[:2]) or self._setting(np.zeros(2)) or {}

    def _learn(self, rate: float, noise: float, walk: float) -> None:
        """One measurement: the filter, with the curvature's mean and variance taken into account."""
        self._spread += np.diag([walk, walk, FLOOR_WALK_PER_SQRT_S**2 * self._seconds])
        off, angles = self._state[:2] + self._moved, self._spread[:2, :2]
        slope = np.array([off[0] / 2, off[1] / 2, 1.0])
        expected = self._state[2] + (off @ off + np.trace(angles)) / 4
        variance = slope @ self._spread @ slope + noise + np.trace(angles @ angles) / 8
        gain = self._spread @ slope / variance
        self._state = self._state + gain * (rate - expected)
        self._spread = self._spread - np.outer(gain, slope @ self._spread)

    def _move(self, moved: NDArray[np.float64]) -> dict[int, float] | None:
        """Sets out; stays where the way is too far or ends."""
        values = self._setting(moved)
        if values is not None:
            self._moved = moved
        return values

    def _setting(self, moved: NDArray[np.float64]) -> dict[int, float] | None:
        values = self._centre + self._per_rad @ moved * (self._high - self._low)
        if np.hypot(*moved) > MOST_RAD or (values < self._low).any() or (values > self._high).any():
            return None
        return dict(zip(self._retarders, values.tolist(), strict=True))


class Tracking:
    """Both bases: trackers with their controllers, from where these stand. Calls of one thread at a time.

    Args:
        controllers: in front of the rectilinear and the diagonal analyser.
        sensitivities: theirs, of the newest calibration.
        settings: see :class:`TrackingSettings`.
        moving: is called before controllers are moved, with (basis, retarder) of each.
        moved: is called when they have been moved, with the setting that is believed to be best, by (basis, retarder).
    """

    def __init__(
        self,
        controllers: tuple[PolarisationController, PolarisationController],
        sensitivities: tuple[Sensitivity, Sensitivity],
        settings: TrackingSettings,
        moving: Callable[[list[tuple[int, int]]], None] = lambda which: None,
        moved: Callable[[dict[tuple[int, int], float]], None] = lambda best: None,
    ) -> None:
        self._controllers, self._moving, self._moved = controllers, moving, moved
        self._trackers = [
            Tracker(_from_here(one, controller), controller.retarders, settings)
            for one, controller in zip(sensitivities, controllers, strict=True)
        ]

    def step(self, n: NDArray[np.int64], wrong: NDArray[np.int64], seconds: float) -> bool:
        """Detections and errors by basis, int64[2] each, as for :class:`Tracker`; whether anything was moved."""
        steps = [tracker.step(int(n[b]), int(wrong[b]), seconds) for b, tracker in enumerate(self._trackers)]
        for basis, values in enumerate(steps):
            if values is not None:
                turned_rad = self._trackers[basis].turned_rad
                _log.info("basis %s follows the fibre, which has turned by %.3f rad", "ZX"[basis], turned_rad)
        return self._move(steps)

    def home(self) -> None:
        """Ends the dither."""
        self._move([tracker.home() for tracker in self._trackers])

    def _move(self, steps: Sequence[Mapping[int, float] | None]) -> bool:
        """Sets the retarders of both bases; whether there was anything to do."""
        which = [(basis, number) for basis, values in enumerate(steps) for number in values or ()]
        if not which:
            return False
        self._moving(which)
        for basis, number in which:
            self._controllers[basis].set_retarder(number, (steps[basis] or {})[number])
        best = {(b, n): value for b, tracker in enumerate(self._trackers) for n, value in tracker.best().items()}
        self._moved(best)
        return True


def _from_here(sensitivity: Sensitivity, controller: PolarisationController) -> Sensitivity:
    return replace(sensitivity, values=tuple(controller.retarder(number) for number in sensitivity.retarders))
