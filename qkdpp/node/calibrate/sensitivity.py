"""How strongly each retarder of a polarisation controller acts, measured where the controller stands.

Near its least value the share of wrong counts is a parabola of the retarders' moves ``u`` (shares of their ranges):
``e(u) = e0 + u' H u`` to second order, whatever the retarders are. ``H`` follows from second differences of counts
while one state is being sent. It is what a tracker needs to turn an error rate into moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qkdpp.core.devices import PolarisationController

REACH = 0.02
"""Moves of the measurement, shares of a range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """``curvature`` (symmetric) of the share of wrong counts around ``values`` of ``retarders``, in shares of range.

    A retarder too close to its limit to be measured is not among them.
    """

    retarders: tuple[int, ...]
    values: tuple[float, ...]
    curvature: tuple[tuple[float, ...], ...]

    @property
    def usable(self) -> bool:
        """Whether two angles can be followed with it."""
        return len(self.retarders) > 1 and float(np.linalg.eigvalsh(np.array(self.curvature))[-1]) > 0.0


def sense(controller: PolarisationController, wrong_share: Callable[[], float]) -> Sensitivity:
    """Measures it, two counts for each retarder and for every pair of them, and puts everything back."""
    ranges = controller.retarders
    here = {number: controller.retarder(number) for number in ranges}
    move = {number: REACH * (high - low) for number, (low, high) in ranges.items()}
    free = [n for n, (low, high) in ranges.items() if low + move[n] <= here[n] <= high - move[n]]

    def counted(*moves: tuple[int, float]) -> float:
        for number, sign in moves:
            controller.set_retarder(number, here[number] + sign * move[number])
        share = wrong_share()
        for number, _ in moves:
            controller.set_retarder(number, here[number])
        return share

    middle = counted()

    def at(*moves: tuple[int, float]) -> float:
        """A quarter of the square of the angle: ``e - e0 = (1 - cos) / 2`` of it, also where it is not small."""
        more = counted(*moves) - middle
        return float(np.arcsin(np.sqrt(more)) ** 2) if 0.0 < more < 1.0 else more

    def both_ways(*numbers: int) -> float:
        return (at(*((n, 1.0) for n in numbers)) + at(*((n, -1.0) for n in numbers))) / 2

    alone = [both_ways(n) for n in free]
    curvature = np.diag(alone)
    for i, first in enumerate(free):
        for j, second in enumerate(free[:i]):
            curvature[i, j] = curvature[j, i] = (both_ways(first, second) - alone[i] - alone[j]) / 2
    return Sensitivity(
        retarders=tuple(free),
        values=tuple(here[n] for n in free),
        curvature=tuple(tuple(float(x) for x in row) for row in curvature / REACH**2),
    )
