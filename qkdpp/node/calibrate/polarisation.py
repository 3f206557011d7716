"""Polarisation feedback: the receiver turns what arrives until each state reaches its own detector.

First the rectilinear basis, then the diagonal one. The sender sends one state
of the basis; the controller of that basis is moved until the right detector
counts a hundred times as much as the wrong one; then the other state must do
the same (Chen et al. 2021, Methods, Polarization feedback; 50 ms counts). A
basis that fails is recorded and repeated; after the last try the best one
stays. A feedback that cannot be ended puts the controllers back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.devices import PolarisationController
from qkdpp.node.calibrate.counting import Ask, Counting
from qkdpp.node.calibrate.restoring import restored
from qkdpp.node.calibrate.sensitivity import Sensitivity, sense

STATES = ("H", "V", "D", "A")
NAMES = ("rectilinear", "diagonal")


class PolarisationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``extinction``: counts of the right detector over those of the wrong one, dark counts taken off.

    ``first_step`` and ``last_step`` are shares of a retarder's range; ``tries`` is how often a basis may fail.
    """

    extinction: float = 100.0
    dwell_s: float = 0.05
    dark_dwell_s: float = 0.5
    first_step: float = 0.05
    last_step: float = 0.0005
    most_counts: int = 600
    tries: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BasisFeedback:
    """What happened in one try of one basis: 0 rectilinear, 1 diagonal.

    Attributes:
        extinctions: reached with the first and the second state of the basis.
        history: share of wrong counts after every count of the first state.
        values: retarders as left, by number.
        sensitivity: of the controller where it was left, if it was asked for and the try is good.
    """

    basis: int
    ok: bool
    extinctions: tuple[float, float]
    history: tuple[float, ...]
    values: dict[int, float]
    sensitivity: Sensitivity | None = None

    @property
    def before(self) -> float:
        """Extinction with the first state before anything was moved."""
        wrong = self.history[0]
        return (1.0 - wrong) / max(wrong, 1e-4)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolarisationFeedback:
    """All tries in order; ``dark_hz`` is what the four detectors count in the dark."""

    tries: tuple[BasisFeedback, ...]
    dark_hz: tuple[float, ...]

    def left(self, basis: int) -> BasisFeedback:
        """The try whose setting stayed: the one that is good, or else the best."""
        return max((one for one in self.tries if one.basis == basis), key=lambda one: (one.ok, min(one.extinctions)))

    @property
    def ok(self) -> bool:
        """Whether both bases ended well."""
        last = {one.basis: one.ok for one in self.tries}
        return last == {0: True, 1: True}


def feed_back(
    controllers: tuple[PolarisationController, PolarisationController],
    counting: Counting,
    ask: Ask,
    settings: PolarisationSettings,
    progress: Callable[[str], None] = lambda text: None,
    *,
    sensed: bool = False,
) -> PolarisationFeedback:
    """Aligns both bases; ``controllers`` are those in front of the rectilinear and the diagonal analyser.

    ``sensed``: the sensitivity of each controller is measured afterwards.
    """
    before = [_values(controller) for controller in controllers]

    def put(values: list[dict[int, float]]) -> None:
        for controller, one in zip(controllers, values, strict=True):
            _set(controller, one)

    tries: list[BasisFeedback] = []
    with restored("polarisation controllers", lambda: put(before)):
        ask.send("OFF")
        dark = counting.counts(settings.dark_dwell_s) / settings.dark_dwell_s
        for basis, controller in enumerate(controllers):
            for attempt in range(settings.tries):
                one = _align(
                    basis, controller, counting, ask, settings=settings, dark=dark, attempt=attempt, sensed=sensed
                )
                tries.append(one)
                progress(f"{NAMES[basis]}: extinction {one.extinctions[0]:.0f} and {one.extinctions[1]:.0f}")
                if one.ok:
                    break
            else:
                _set(controller, PolarisationFeedback(tries=tuple(tries), dark_hz=()).left(basis).values)
    return PolarisationFeedback(tries=tuple(tries), dark_hz=tuple(float(d) for d in dark))


def _values(controller: PolarisationController) -> dict[int, float]:
    return {number: controller.retarder(number) for number in controller.retarders}


def _set(controller: PolarisationController, values: dict[int, float]) -> None:
    for number, value in values.items():
        controller.set_retarder(number, value)


def extinction(right: float, wrong: float) -> float:
    """Ratio of two counts without dark counts; a wrong count below one counts as one."""
    return max(right, 0.0) / max(wrong, 1.0)


@dataclass(slots=True)
class _Search:
    """Counts while one state is being sent, and the best retarders so far."""

    counting: Counting
    dark: NDArray[np.float64]
    right: int
    dwell_s: float
    history: list[float]

    def count(self) -> tuple[float, float]:
        """Right and wrong counts, dark ones taken off."""
        counts = self.counting.counts(self.dwell_s) - self.dark * self.dwell_s
        return float(counts[self.right]), float(counts[self.right ^ 1])

    def wrong_share(self) -> float:
        """Share of wrong counts, of a basis without counts 1."""
        right, wrong = self.count()
        return max(wrong, 0.0) / (right + wrong) if right + wrong > 0 else 1.0

    def noted(self) -> float:
        """The same, and kept for the history."""
        self.history.append(self.wrong_share())
        return self.history[-1]


def _align(
    basis: int,
    controller: PolarisationController,
    counting: Counting,
    ask: Ask,
    *,
    settings: PolarisationSettings,
    dark: NDArray[np.float64],
    attempt: int,
    sensed: bool,
) -> BasisFeedback:
    first = 2 * basis
    search = _Search(counting, dark, first, settings.dwell_s, [])
    ask.send(STATES[first])
    if attempt:
        _scatter(controller, attempt)
    descend(controller, search.noted, settings)
    found = [extinction(*search.count())]
    ask.send(STATES[first + 1])
    search.right = first + 1
    found.append(extinction(*search.count()))
    ok = min(found) >= settings.extinction
    return BasisFeedback(
        basis=basis,
        ok=ok,
        extinctions=(found[0], found[1]),
        history=tuple(search.history),
        values=_values(controller),
        sensitivity=sense(controller, search.wrong_share) if ok and sensed else None,
    )


def _scatter(controller: PolarisationController, attempt: int) -> None:
    """Another starting point after a failure: quarters of the range, different ones each time."""
    for number, (low, high) in controller.retarders.items():
        controller.set_retarder(number, low + (high - low) * (0.25 + 0.5 * ((number + attempt) % 2)))


def descend(controller: PolarisationController, cost: Callable[[], float], settings: PolarisationSettings) -> float:
    """Moves one retarder after the other while ``cost`` falls, in steps that get smaller; the cost reached.

    Ends early when the cost is half of what the extinction asks for.
    """
    goal = 0.5 / (1.0 + settings.extinction)
    best, used = cost(), 1
    step = settings.first_step
    while step >= settings.last_step and best > goal and used < settings.most_counts:
        better = False
        for number, (low, high) in controller.retarders.items():
            for direction in (1.0, -1.0):
                here = controller.retarder(number)
                there = here + direction * step * (high - low)
                moved = 0
                while low <= there <= high and used < settings.most_counts:
                    controller.set_retarder(number, there)
                    now = cost()
                    used += 1
                    if now >= best:
                        controller.set_retarder(number, here)
                        break
                    best, here, moved, better = now, there, moved + 1, True
                    there = here + direction * step * (high - low)
                if moved:
                    break
        if not better:
            step /= 2.0
    return best
