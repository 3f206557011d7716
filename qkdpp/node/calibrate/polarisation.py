"""Polarisation feedback: the receiver turns what arrives until each state reaches its own detector.

First the rectilinear basis, then the diagonal one. The sender sends one state
of the basis; the controller of that basis is moved until the right detector
counts a hundred times as much as the wrong one; then the other state must do
the same (Chen et al. 2021, Methods, Polarization feedback; 50 ms counts). A
basis that fails is recorded and repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.devices import PolarisationController
from qkdpp.node.calibrate.counting import Ask, Counting

STATES = ("H", "V", "D", "A")


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
    """

    basis: int
    ok: bool
    extinctions: tuple[float, float]
    history: tuple[float, ...]
    values: dict[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolarisationFeedback:
    """All tries in order; ``dark_hz`` is what the four detectors count in the dark."""

    tries: tuple[BasisFeedback, ...]
    dark_hz: tuple[float, ...]

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
) -> PolarisationFeedback:
    """Aligns both bases; ``controllers`` are those in front of the rectilinear and the diagonal analyser."""
    ask.send("OFF")
    dark = counting.counts(settings.dark_dwell_s) / settings.dark_dwell_s
    tries: list[BasisFeedback] = []
    for basis, controller in enumerate(controllers):
        for attempt in range(settings.tries):
            one = _align(basis, controller, counting, ask, settings=settings, dark=dark, attempt=attempt)
            tries.append(one)
            progress(f"basis {basis}: extinction {one.extinctions[0]:.0f} and {one.extinctions[1]:.0f}")
            if one.ok:
                break
    return PolarisationFeedback(tries=tuple(tries), dark_hz=tuple(float(d) for d in dark))


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
        share = max(wrong, 0.0) / (right + wrong) if right + wrong > 0 else 1.0
        self.history.append(share)
        return share


def _align(
    basis: int,
    controller: PolarisationController,
    counting: Counting,
    ask: Ask,
    *,
    settings: PolarisationSettings,
    dark: NDArray[np.float64],
    attempt: int,
) -> BasisFeedback:
    first = 2 * basis
    search = _Search(counting, dark, first, settings.dwell_s, [])
    ask.send(STATES[first])
    if attempt:
        _scatter(controller, attempt)
    descend(controller, search.wrong_share, settings)
    found = [extinction(*search.count())]
    ask.send(STATES[first + 1])
    search.right = first + 1
    found.append(extinction(*search.count()))
    return BasisFeedback(
        basis=basis,
        ok=min(found) >= settings.extinction,
        extinctions=(found[0], found[1]),
        history=tuple(search.history),
        values={number: controller.retarder(number) for number in controller.retarders},
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
