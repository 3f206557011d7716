"""How long a block should be.

A longer block always gives more bits per second, and later. So the answer is a curve with parameters searched anew for
each block, beside the limit of unlimited data with parameters of its own; and, with the parameters of one block held,
the shortest blocks that reach given shares of what these parameters give with unlimited data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from qkdpp.rate.optimise import Optimum, Task, optimise
from qkdpp.rate.parameters import Values, with_values
from qkdpp.rate.point import pulses_hz
from qkdpp.rate.ranges import boundary

SHARES = (0.5, 0.8, 0.9, 0.95)
"""Shares that are looked for."""
MULTIPLES = (0.0625, 0.25, 1.0, 4.0, 16.0)
"""Blocks of the curve, relative to the one asked for."""
_SHORTEST_S, _LONGEST_S = 1e-3, 1e9
_PRECISION = 1.01


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPoint:
    """The rate at one size of block.

    Attributes:
        block_s: duration.
        pulses: pulses sent (pairs made) in it.
        secret_bps: with parameters chosen for this block.
        values: those parameters.
    """

    block_s: float
    pulses: float
    secret_bps: float
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A share of the unlimited rate of fixed parameters, and the shortest block that reaches it (None: none does)."""

    share: float
    block_s: float | None
    pulses: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Rate against size of block.

    Attributes:
        points: in the order of their size, parameters searched anew for each.
        limit_bps: rate with unlimited data, parameters searched for that.
        held_bps: rate with unlimited data and the parameters of the block asked for.
        reached: shares of ``held_bps``, these parameters held.
    """

    points: tuple[BlockPoint, ...]
    limit_bps: float
    held_bps: float
    reached: tuple[Reached, ...]


def block_sizes(asked: Task, best: Optimum) -> Blocks:
    """Rates at :data:`MULTIPLES` of the block, and what it takes to reach :data:`SHARES`.

    Args:
        asked: a task with finite blocks.
        best: its optimum, with a key.
    """
    found = {1.0: best}
    for factor in (*(f for f in reversed(MULTIPLES) if f < 1), *(f for f in MULTIPLES if f > 1)):
        neighbour = found[min(found, key=lambda f: abs(math.log(f / factor)))]
        there = replace(asked, block_s=asked.block_s * factor)
        found[factor] = optimise(there, starts=[neighbour.after], near=neighbour.after_bps > 0)
    endless = replace(asked, unlimited=True)
    held = max(endless.rate(best.after), 0.0)
    speed = pulses_hz(with_values(asked.plan, best.after))
    still = asked.steady()
    blocks = [_shortest(still, best.after, share * held) for share in SHARES]
    return Blocks(
        points=tuple(_point(asked, factor, found[factor]) for factor in MULTIPLES),
        limit_bps=optimise(endless, starts=[best.after]).after_bps,
        held_bps=held,
        reached=tuple(
            Reached(share=share, block_s=block, pulses=None if block is None else block * speed)
            for share, block in zip(SHARES, blocks, strict=True)
        ),
    )


def _point(asked: Task, factor: float, best: Optimum) -> BlockPoint:
    block_s = asked.block_s * factor
    pulses = block_s * pulses_hz(with_values(asked.plan, best.after))
    return BlockPoint(block_s=block_s, pulses=pulses, secret_bps=best.after_bps, values=best.after)


def _shortest(asked: Task, values: Values, wanted_bps: float) -> float | None:
    """Shortest block that gives a rate with these parameters, to a hundredth; None beyond 1e9 s."""
    low = high = asked.block_s
    while low > _SHORTEST_S and asked.rate(values, low) >= wanted_bps:
        low /= 4
    while high < _LONGEST_S and asked.rate(values, high) < wanted_bps:
        high *= 4
    if high >= _LONGEST_S:
        return None
    return boundary(lambda block_s: asked.rate(values, block_s) >= wanted_bps, low, high, _PRECISION)
