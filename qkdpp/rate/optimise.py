"""Best parameters of a link: for a block of finite length, for unlimited data, for one loss or a range of them.

A simplex search (Nelder and Mead) from the scenario's own parameters and from standard ones, in the coordinates of
``qkdpp.rate.parameters``. Where no start gives a key, the search begins at longer blocks and shortens them step by
step. Deterministic. The result is rounded as one would set it, and is never worse than the scenario's own parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core import channel
from qkdpp.core.errors import ConfigError
from qkdpp.estimation import Security
from qkdpp.rate.expected import channel_loss_db, with_loss
from qkdpp.rate.parameters import Space, Values, at_limit, probabilities, rounded, values_of, with_values
from qkdpp.rate.point import block_seconds, rate_bps, security_of
from qkdpp.scenarios.expected import moments
from qkdpp.scenarios.scenario import Scenario

Floats = NDArray[np.float64]
Score = Callable[[Values], float]

LONGEST = 100.0
"""Where no start gives a key, blocks up to this many times as long are tried to find a way in."""
_SHORTER = 1.7
"""Ratio of neighbouring blocks on the way back: the optimum of one should give a key at the next."""
_STARTS_BB84 = (
    {"mu_signal": 0.5, "mu_decoy": 0.15, "p_signal": 0.7, "p_decoy": 0.2, "p_weakest": 0.1, "p_z": 0.9},
    {"mu_signal": 0.45, "mu_decoy": 0.2, "p_signal": 0.35, "p_decoy": 0.45, "p_weakest": 0.2, "p_z": 0.7},
    {"mu_signal": 0.5, "mu_decoy": 0.02, "p_signal": 0.98, "p_decoy": 0.01, "p_weakest": 0.01, "p_z": 0.98},
)
_STARTS_PAIRS = ({"p_z": 0.9}, {"p_z": 0.7}, {"p_z": 0.98})
_COARSE, _FINE, _NEAR = (0.4, 1e-3, 3e-2), (0.1, 2e-5, 3e-3), (0.25, 2e-4, 2e-2)
"""First step of a search, and relative change of the rate and change of the coordinates at which it ends."""
_EVALUATIONS = 1200
_CLIMBS, _ENOUGH = 5, 2e-4
"""A search starts again from its end while that raises the rate by this share, so many times at most."""
_FAINT = 1e-6
"""Rates below this share of the reference count as none when logarithms are averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is asked.

    Attributes:
        plan: the scenario.
        block_s: duration of a block.
        fixed: parameters to hold (:func:`qkdpp.rate.parameters.fixed_names`).
        unlimited: optimum for unlimited data instead of blocks.
    """

    plan: Scenario
    block_s: float
    fixed: frozenset[str] = frozenset()
    unlimited: bool = False

    @property
    def security(self) -> Security:
        """The scenario's security parameters."""
        return security_of(self.plan)

    def rate(self, values: Values, block_s: float | None = None) -> float:
        """Secret bits per second with these parameters; negative without a key."""
        seconds = self.block_s if block_s is None else block_s
        return rate_bps(with_values(self.plan, values), seconds, self.security, unlimited=self.unlimited)

    def steady(self) -> Task:
        """The same over :func:`steady`."""
        return replace(self, plan=steady(self.plan))

    def at_loss(self, loss_db: float) -> Task:
        """The same over a channel of this loss."""
        return replace(self, plan=with_loss(self.plan, loss_db))


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """Parameters before and after, with the secret bits per second of both (0: no key).

    Attributes:
        loss_db: loss of the channel.
        before: the scenario's own parameters.
        after: the best ones found, rounded.
        before_bps: rate with the scenario's own.
        after_bps: rate with the best.
        at_limit: parameters at the edge of what was searched: further is better still.
    """

    loss_db: float
    before: Values
    after: Values
    before_bps: float
    after_bps: float
    at_limit: tuple[str, ...]

    @property
    def gain(self) -> float | None:
        """Relative gain; None where the scenario's own parameters give no key."""
        return self.after_bps / self.before_bps - 1 if self.before_bps > 0 else None


def task(
    plan: Scenario, *, block_s: float | None = None, fixed: frozenset[str] = frozenset(), unlimited: bool = False
) -> Task:
    """A task at the scenario's own block unless another is given.

    Raises:
        ConfigError: a block that is no duration, or intensities that cannot be searched.
    """
    seconds = block_seconds(plan) if block_s is None else block_s
    if not 0 < seconds <= 1e12:
        raise ConfigError(f"block: {seconds:g} s is no duration between 0 and 1e12 s")
    values_of(plan)
    return Task(plan=plan, block_s=seconds, fixed=fixed, unlimited=unlimited)


def optimise(asked: Task, *, starts: Sequence[Values] = (), near: bool = False) -> Optimum:
    """Best parameters at the scenario's loss.

    Args:
        asked: what is to be optimised.
        starts: further parameters to start from, e.g. the optimum at a loss nearby.
        near: one of them is close to the optimum: one climb, which takes its rate to a few parts in ten thousand.
    """
    space = Space(asked.plan, asked.fixed)
    candidates = [space.base, *starts, *_standard(space)]
    still = asked.steady()
    found = _nearby(space, still.rate, candidates) if near else _search(space, still.rate, candidates)
    if still.rate(found) <= 0 and not asked.unlimited:
        found = _from_longer_blocks(still, space, candidates)
    after = rounded(found) if asked.rate(rounded(found)) > max(asked.rate(space.base), 0.0) else space.base
    return Optimum(
        loss_db=channel_loss_db(asked.plan),
        before=space.base,
        after=after,
        before_bps=max(asked.rate(space.base), 0.0),
        after_bps=max(asked.rate(after), 0.0),
        at_limit=at_limit(space, after) if after is not space.base else (),
    )


def over_losses(asked: Task, losses_db: Sequence[float]) -> list[Optimum]:
    """An optimum for every loss, each found with the help of the one before."""
    found: list[Optimum] = []
    for loss in losses_db:
        starts = [o.after for o in found[-1:] if o.after_bps > 0]
        found.append(optimise(asked.at_loss(loss), starts=starts, near=bool(starts)))
    return found


def compromise(asked: Task, optima: Sequence[Optimum]) -> Values | None:
    """One set of parameters for all losses at which there can be a key: best mean logarithm of the rate.

    Args:
        asked: the task that ``optima`` come from.
        optima: from :func:`over_losses`.

    Returns:
        The parameters, or None where no loss gives a key.
    """
    alive = [o for o in optima if o.after_bps > 0]
    if not alive:
        return None
    tasks = [(asked.at_loss(o.loss_db).steady(), o.after_bps) for o in alive]

    def score(values: Values) -> float:
        return math.fsum(_log_share(t.rate(values) / best) for t, best in tasks) / len(tasks)

    space = Space(asked.plan, asked.fixed)
    starts = [space.base, alive[len(alive) // 2].after, alive[-1].after]
    return max((rounded(_nearby(space, score, starts)), *starts), key=score)


def steady(plan: Scenario) -> Scenario:
    """The scenario with a channel that does not change: mean transmittance and mean misalignment of the run.

    What is searched instead of a satellite pass or a turning polarisation, which take a hundred times as long; counts
    differ by second-order terms (dead time, double clicks). Reported rates are those of the run itself.
    """
    way = plan.channel
    if plan.protocol != "bb84" or (way.satellite is None and not way.rotation_rad_per_s):
        return plan
    shares, rotations = (np.array(column) for column in zip(*moments(plan), strict=True))
    errors = [channel.rotated_misalignment(way.misalignment, float(r)) for r in rotations]
    mean = float(np.average(errors, weights=shares))
    calm = msgspec.structs.replace(
        way,
        loss_db=-10 * math.log10(float(shares.mean())),
        attenuation_db_per_km=0.0,
        misalignment=mean,
        rotation_rad=0.0,
        rotation_rad_per_s=0.0,
        satellite=None,
    )
    return msgspec.structs.replace(plan, channel=calm)


def _log_share(share: float) -> float:
    return math.log(share) if share > _FAINT else math.log(_FAINT) + min(share - _FAINT, 0.0)


def _standard(space: Space) -> list[Values]:
    """Usual parameters where they are free, the scenario's own where they are held."""
    pairs = not probabilities(space.base)
    result = []
    for start in _STARTS_PAIRS if pairs else _STARTS_BB84:
        usual = {**space.base, **start, "p_z_alice": start["p_z"], "p_z_bob": start["p_z"]}
        if "p_weakest" not in space.base and not pairs:
            usual["p_decoy"] = 1 - usual["p_signal"]
        result.append(space.values(space.coordinates({name: usual[name] for name in space.base})))
    return result


def _search(space: Space, score: Score, starts: Sequence[Values]) -> Values:
    """The best point found from the two best starts, and from the better end until that no longer helps."""

    def at(x: Floats) -> float:
        return score(space.values(x))

    ranked = sorted((space.coordinates(s) for s in starts), key=lambda x: -at(x))
    best = max((_climb(space, score, x, _COARSE) for x in ranked[:2]), key=at)
    for _ in range(_CLIMBS):
        reached = at(best)
        best = _climb(space, score, best, _FINE)
        if at(best) - reached <= _ENOUGH * abs(reached):
            break
    return space.values(best)


def _nearby(space: Space, score: Score, starts: Sequence[Values]) -> Values:
    """The best point found close to the best start."""
    best = max((space.coordinates(s) for s in starts), key=lambda x: score(space.values(x)))
    return space.values(_climb(space, score, best, _NEAR))


def _climb(space: Space, score: Score, start: Floats, how: tuple[float, float, float]) -> Floats:
    from scipy.optimize import minimize  # noqa: PLC0415 - costs half a second

    step, precision, nearness = how
    scale = abs(score(space.values(start))) or 1.0
    simplex = np.vstack([start, start + step * np.diag(np.where(start > 0, -1.0, 1.0))])

    def loss(x: Floats) -> float:
        return -score(space.values(x)) / scale

    result = minimize(
        loss,
        start,
        method="Nelder-Mead",
        options={
            "initial_simplex": simplex,
            "adaptive": start.size > 2,
            "maxfev": _EVALUATIONS,
            "xatol": nearness,
            "fatol": precision,
        },
    )
    return np.asarray(result.x, dtype=np.float64)


def _from_longer_blocks(asked: Task, space: Space, starts: Sequence[Values]) -> Values:
    """Best parameters for a block that gives no key at any start: by way of longer blocks that do."""
    if max(map(replace(asked, unlimited=True).rate, starts)) <= 0:
        return space.base
    factor, found = 1.0, space.base
    while factor < LONGEST:
        factor *= 10
        found = _nearby(space, _at_block(asked, factor), starts)
        if asked.rate(found, asked.block_s * factor) > 0:
            break
    else:
        return space.base
    while factor > 1 and asked.rate(found, asked.block_s * factor) > 0:
        factor = max(1.0, factor / _SHORTER)
        found = _nearby(space, _at_block(asked, factor), [found])
    return found


def _at_block(asked: Task, factor: float) -> Score:
    return lambda values: asked.rate(values, asked.block_s * factor)
