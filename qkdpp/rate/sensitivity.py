"""What each parameter costs when it is off: one moved, the others held, the block as long as before.

The source is taken to be set to the moved value and declared so; a source that differs from what it declares is a
matter of security, not of rate. Intensities, rates and gates move by a share of themselves; a probability by a share
of its rarer side, the other probabilities of the same choice making room in proportion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qkdpp.core.errors import ConfigError
from qkdpp.rate.optimise import Task
from qkdpp.rate.parameters import UNITS, Values, probabilities

MARKS = (-0.1, 0.1)
"""The deviations of the table."""
DEVIATIONS = tuple(round(0.05 * i, 2) for i in range(-6, 7))
"""The deviations of the curves, from -30 % to +30 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One parameter that is off.

    Attributes:
        name: the parameter.
        varied: what the deviation is a share of: the parameter, or ``1 - `` it where that is the rarer side.
        value: of ``varied`` at the optimum.
        deviations: relative changes of ``varied``.
        lost: share of the rate that is lost at each; 1 where no key is left.
    """

    name: str
    varied: str
    value: float
    deviations: tuple[float, ...]
    lost: tuple[float, ...]

    def at(self, deviation: float) -> float:
        """Share of the rate lost at one of the deviations."""
        return self.lost[self.deviations.index(deviation)]


def sensitivity(
    asked: Task, best: Values, names: Sequence[str], deviations: tuple[float, ...] = DEVIATIONS
) -> tuple[Cost, ...]:
    """Costs of moving each of ``names`` away from ``best``; nothing where ``best`` gives no key."""
    still = asked.steady()
    reference = still.rate(best)
    if reference <= 0:
        return ()
    result = []
    for name in names:
        rare = name not in UNITS and best[name] > 0.5
        lost = tuple(1 - _rate(still, moved(best, name, deviation)) / reference for deviation in deviations)
        result.append(
            Cost(
                name=name,
                varied=f"1 - {name}" if rare else name,
                value=1 - best[name] if rare else best[name],
                deviations=deviations,
                lost=lost,
            )
        )
    return tuple(result)


def moved(values: Values, name: str, deviation: float) -> Values:
    """All parameters with one of them off by ``deviation``."""
    value = values[name]
    if name in UNITS:
        return {**values, name: value * (1 + deviation)}
    target = value * (1 + deviation) if value <= 0.5 else 1 - (1 - value) * (1 + deviation)
    result = {**values, name: target}
    others = [other for other in probabilities(values) if other != name]
    if name in probabilities(values):
        result |= {other: values[other] * (1 - target) / (1 - value) for other in others}
    return result


def _rate(asked: Task, values: Values) -> float:
    try:
        return max(asked.rate(values), 0.0)
    except ConfigError:  # intensities too close to each other for any key
        return 0.0
