"""Key rates of a scenario against the loss of its channel, the length of its fibre, or the size of its blocks.

Everything comes from :func:`qkdpp.rate.point.evaluate`. The scenario's own working point is always evaluated, and
so are the largest losses at which there is a key (it may also end towards small losses, by dead time).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from qkdpp.core.errors import ConfigError
from qkdpp.estimation import Security
from qkdpp.rate.link import IN_BLOCKS, Asked, Fibre, Link, Variable, link, notes
from qkdpp.rate.point import Point, pulses_hz
from qkdpp.rate.ranges import boundary
from qkdpp.scenarios.scenario import Published, Scenario

_LEAST_STEPS, _MOST_STEPS = 10, 40
MAX_LOSS_DB = 100.0
"""No key is looked for beyond: there the closed forms run out of digits."""
LOSS_PRECISION_DB = 0.01
BLOCK_PRECISION = 1.01
_SCAN_DB = tuple(5.0 * i for i in range(21))
_STEP_DB = 1.0
_LONGEST_S = 1e12
_STEEP = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 1.5, 2.2, 3.0)
"""Distances from an end at which a curve is drawn: dB, or relative sizes of blocks."""

Progress: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The key rate at one value ``x`` of the variable."""

    x: float
    point: Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A published figure at the value ``x`` of the variable."""

    x: float
    published: Published


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One scenario.

    Attributes:
        name: of the scenario.
        plan: the scenario, overrides contained.
        security: parameters of the lengths.
        variable: what runs.
        samples: the points asked for.
        near_end: further points, close to where the key ends, for drawing.
        working: the scenario's own working point.
        secret_bits_by_rule: key of a block at the working point under either accounting rule.
        max_loss_db: largest loss at which a block of the working point's duration gives a key; None if none does.
        max_loss_asymptotic_db: the same with unlimited data.
        least_block: the smallest block that gives a key, if that lies within the range of blocks asked for.
        enough_s: if the working point gives no key for want of data: how long a block would give one.
        marks: published points.
        notes: what a reader must know.
    """

    name: str
    plan: Scenario
    security: Security
    variable: Variable
    samples: tuple[Sample, ...]
    near_end: tuple[Sample, ...]
    working: Sample
    secret_bits_by_rule: dict[str, int]
    max_loss_db: float | None
    max_loss_asymptotic_db: float | None
    least_block: float | None
    enough_s: float | None
    marks: tuple[Mark, ...]
    notes: tuple[str, ...]

    def all_samples(self) -> list[Sample]:
        """Every point evaluated, rising."""
        return sorted({s.x: s for s in (*self.near_end, *self.samples)}.values(), key=lambda s: s.x)

    def x_of_loss(self, loss_db: float) -> float:
        """Where a loss stands on the axis (losses and distances)."""
        return loss_db if self.variable == "loss_db" else Fibre.of(self.plan).distance_km(loss_db)


def usual_losses(plans: Sequence[Scenario]) -> tuple[float, ...]:
    """The range that the scenarios name, all together, in steps of 1 dB (long ones in 40 steps)."""
    low = min(plan.rate.loss_db[0] for plan in plans)
    high = max(plan.rate.loss_db[1] for plan in plans)
    steps = min(max(math.ceil(high - low), _LEAST_STEPS), _MOST_STEPS)
    return tuple(low + (high - low) * i / steps for i in range(steps + 1))


def curve(
    name: str, plan: Scenario, asked: Asked, *, for_drawing: bool = False, progress: Progress = lambda _: None
) -> Curve:
    """Evaluates one scenario.

    Args:
        name: of the scenario, for messages and legends.
        plan: the scenario.
        asked: variable, range and overrides.
        for_drawing: more points where the curves fall steeply (``Curve.near_end``).
        progress: told what is being done.

    Raises:
        InputError: a range or an override that this scenario cannot take.
    """
    try:
        return _curve(name, plan, asked, for_drawing, progress)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def _curve(name: str, plan: Scenario, asked: Asked, for_drawing: bool, progress: Progress) -> Curve:
    said = notes(plan, asked)
    own = link(plan, asked)
    place = _placing(own, asked.variable)
    samples = []
    for x in asked.values:
        progress(f"{name}: {_AXIS_WORDS[asked.variable].format(x)}")
        samples.append(Sample(x=x, point=place(x)))
    progress(f"{name}: largest loss with a key")
    losses = [s.point.loss_db for s in samples] + [own.loss_db]
    ends = [
        _largest_loss(losses, lambda loss_db: own.at(loss_db).secret_bps > 0),
        _largest_loss(losses, lambda loss_db: own.asymptotic_bps(loss_db) > 0),
    ]
    least = _least_block(samples, place) if asked.variable in IN_BLOCKS else None
    if for_drawing:
        _refine(own, place, asked.variable, [least] if asked.variable in IN_BLOCKS else ends)
    working = own.at(own.loss_db)
    return Curve(
        name=name,
        plan=own.plan,
        security=own.security,
        variable=asked.variable,
        samples=tuple(samples),
        near_end=tuple(_between_samples(own, asked.variable, samples)),
        working=Sample(x=_x(own, asked.variable, working), point=working),
        secret_bits_by_rule=own.secret_bits_by_rule(),
        max_loss_db=ends[0],
        max_loss_asymptotic_db=ends[1],
        least_block=least,
        enough_s=_enough_s(own),
        marks=tuple(_marks(own, asked.variable)),
        notes=said,
    )


_AXIS_WORDS: dict[Variable, str] = {
    "loss_db": "{:g} dB",
    "distance_km": "{:g} km",
    "block_pulses": "blocks of {:.3g} pulses",
    "block_s": "blocks of {:.3g} s",
}


def _placing(own: Link, variable: Variable) -> Callable[[float], Point]:
    """The point at a value of the variable."""
    if variable == "loss_db":
        return own.at
    if variable == "distance_km":
        fibre = Fibre.of(own.plan)
        return lambda x: own.at(fibre.loss_db(x))
    per_s = pulses_hz(own.plan) if variable == "block_pulses" else 1.0
    return lambda x: own.at(own.loss_db, x / per_s)


def _x(own: Link, variable: Variable, point: Point) -> float:
    """Where a point stands on the axis."""
    if variable == "loss_db":
        return point.loss_db
    if variable == "distance_km":
        return Fibre.of(own.plan).distance_km(point.loss_db)
    return point.pulses if variable == "block_pulses" else point.block_s


def _largest_loss(losses: Iterable[float], keyed: Callable[[float], bool]) -> float | None:
    """Largest loss with a key, from one of ``losses`` or of a scan; ``MAX_LOSS_DB`` if there is no end before."""
    good = [loss for loss in losses if keyed(loss)] or [loss for loss in _SCAN_DB if keyed(loss)]
    if not good:
        return None
    low, step = max(good), _STEP_DB
    while keyed(high := min(low + step, MAX_LOSS_DB)):
        low, step = high, 2 * step
        if low >= MAX_LOSS_DB:
            return MAX_LOSS_DB
    while high - low > LOSS_PRECISION_DB:
        middle = (low + high) / 2
        low, high = (middle, high) if keyed(middle) else (low, middle)
    return low


def _least_block(samples: list[Sample], place: Callable[[float], Point]) -> float | None:
    """The block from which on there is a key, if the range begins without one."""
    for before, after in pairwise(samples):
        if before.point.secret_bps == 0 < after.point.secret_bps:
            return boundary(lambda x: place(x).secret_bps > 0, before.x, after.x, BLOCK_PRECISION)
    return None


def _enough_s(own: Link) -> float | None:
    """A block with a key at the working point, at most 10 % longer than needed; None if no longer one is needed."""
    own_point = own.at(own.loss_db)
    if own_point.secret_bits > 0 or own_point.asymptotic_bps <= 0:
        return None
    low, high = own.block_s, 2 * own.block_s
    while own.at(own.loss_db, high).secret_bits == 0:
        low, high = high, 2 * high
        if high > _LONGEST_S:
            return None
    return boundary(lambda block_s: own.at(own.loss_db, block_s).secret_bits > 0, low, high, 1.1)


def _refine(own: Link, place: Callable[[float], Point], variable: Variable, ends: Iterable[float | None]) -> None:
    """Evaluates points on the steep side of each end."""
    for end in ends:
        if end is not None and variable in IN_BLOCKS:
            for factor in _STEEP:
                place(end * (1 + factor))
        elif end is not None:
            for step_db in _STEEP:
                own.at(max(end - step_db, 0.0))


def _between_samples(own: Link, variable: Variable, samples: list[Sample]) -> list[Sample]:
    """Points that were evaluated to find an end, if they lie within the range asked for."""
    low, high = samples[0].x, samples[-1].x
    at_own_block = variable not in IN_BLOCKS
    asked = {sample.x for sample in samples}
    found = []
    for (loss_db, block_s), point in own.known.items():
        if (block_s != own.block_s) if at_own_block else (loss_db != own.loss_db):
            continue
        x = _x(own, variable, point)
        if low < x < high and x not in asked:
            found.append(Sample(x=x, point=point))
    return found


def _marks(own: Link, variable: Variable) -> list[Mark]:
    """Published points; they are given against loss, so none where blocks run."""
    if variable in IN_BLOCKS:
        return []
    fibre = Fibre.of(own.plan)
    return [
        Mark(x=p.loss_db if variable == "loss_db" else fibre.distance_km(p.loss_db), published=p)
        for p in own.plan.rate.published
    ]
