"""A scenario with what was asked on top of it: loss or length of fibre, block, security parameters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import msgspec

from qkdpp.core.errors import ConfigError
from qkdpp.core.ledger import Rule
from qkdpp.estimation import Security
from qkdpp.estimation.claims import correction
from qkdpp.estimation.security import Profile
from qkdpp.rate.expected import channel_loss_db, expected, with_loss
from qkdpp.rate.point import (
    Point,
    asymptotic_bps,
    block_seconds,
    evaluate,
    pulses_hz,
    security_of,
    unequal_receivers,
)
from qkdpp.scenarios.scenario import Scenario
from qkdpp.scenarios.scenario_file import check

Variable: TypeAlias = Literal["loss_db", "distance_km", "block_pulses", "block_s"]
IN_BLOCKS: tuple[Variable, ...] = ("block_pulses", "block_s")
"""The variables that change the block and leave the loss."""
ATTENUATION_DB_PER_KM = 0.2
"""Fibre at 1550 nm, where a scenario says nothing of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be computed; None leaves it to the scenario.

    Attributes:
        variable: what runs.
        values: its values, rising.
        loss_db: loss of the channel, where something else runs.
        distance_km: the same as a length of fibre.
        block_s: duration of a block, where something else runs.
        block_pulses: the same in pulses sent (pairs made).
        attenuation_db_per_km: of the fibre, for distances.
        f_ec: leak of error correction over its Shannon limit.
        eps_sec: secrecy of a block.
        profile: length formula.
        rule: accounting rule.
    """

    variable: Variable = "loss_db"
    values: tuple[float, ...]
    loss_db: float | None = None
    distance_km: float | None = None
    block_s: float | None = None
    block_pulses: float | None = None
    attenuation_db_per_km: float | None = None
    f_ec: float | None = None
    eps_sec: float | None = None
    profile: Profile | None = None
    rule: Rule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fibre:
    """How a length of fibre becomes the loss of a scenario's channel."""

    fixed_db: float
    attenuation_db_per_km: float

    @classmethod
    def of(cls, plan: Scenario) -> Fibre:
        """What the scenario says; a loss without a length of fibre beside it is that of the fibre."""
        way = plan.channel
        separate = way.length_km > 0 and way.attenuation_db_per_km > 0 and plan.protocol == "bb84"
        return cls(
            fixed_db=way.loss_db if separate else 0.0,
            attenuation_db_per_km=way.attenuation_db_per_km or ATTENUATION_DB_PER_KM,
        )

    def loss_db(self, distance_km: float) -> float:
        """Loss of the channel with so much fibre."""
        return self.fixed_db + distance_km * self.attenuation_db_per_km

    def distance_km(self, loss_db: float) -> float:
        """The length that gives this loss."""
        return (loss_db - self.fixed_db) / self.attenuation_db_per_km


@dataclass(slots=True, kw_only=True)
class Link:
    """A scenario with all overrides; evaluates each point once."""

    plan: Scenario
    security: Security
    block_s: float
    loss_db: float
    known: dict[tuple[float, float], Point] = field(default_factory=dict)

    def at(self, loss_db: float, block_s: float | None = None) -> Point:
        """The point at this loss, with the link's own block unless another is given."""
        key = (loss_db, self.block_s if block_s is None else block_s)
        if key not in self.known:
            self.known[key] = evaluate(with_loss(self.plan, loss_db), block_s=key[1], security=self.security)
        return self.known[key]

    def asymptotic_bps(self, loss_db: float) -> float:
        """Rate with unlimited data at this loss, and nothing else."""
        if (loss_db, self.block_s) in self.known:
            return self.known[loss_db, self.block_s].asymptotic_bps
        plan = with_loss(self.plan, loss_db)
        return asymptotic_bps(plan, expected(plan, self.block_s), self.security)

    def secret_bits_by_rule(self) -> dict[str, int]:
        """Key of the link's own block under either accounting rule of error correction."""
        plan = with_loss(self.plan, self.loss_db)
        securities = (replace(self.security, rule=rule) for rule in Rule)
        return {str(s.rule): evaluate(plan, block_s=self.block_s, security=s).secret_bits for s in securities}


def link(plan: Scenario, asked: Asked) -> Link:
    """The scenario with all overrides.

    Raises:
        ConfigError: an override out of range.
    """
    if asked.f_ec is not None:
        plan = msgspec.structs.replace(plan, rate=msgspec.structs.replace(plan.rate, f_ec=asked.f_ec))
        check(plan)
    if asked.attenuation_db_per_km is not None:
        plan = _with_attenuation(plan, asked.attenuation_db_per_km)
    security = security_of(plan)
    if asked.eps_sec is not None:
        security = replace(security, eps_sec=asked.eps_sec)
    if asked.profile is not None:
        security = replace(security, profile=asked.profile)
    if asked.rule is not None:
        security = replace(security, rule=asked.rule)
    block_s = block_seconds(plan) if asked.block_s is None else asked.block_s
    if asked.block_pulses is not None:
        block_s = asked.block_pulses / pulses_hz(plan)
    loss_db = channel_loss_db(plan) if asked.loss_db is None else asked.loss_db
    if asked.distance_km is not None:
        loss_db = Fibre.of(plan).loss_db(asked.distance_km)
    return Link(plan=plan, security=security, block_s=block_s, loss_db=loss_db)


def _with_attenuation(plan: Scenario, attenuation_db_per_km: float) -> Scenario:
    """Another fibre. A loss that contains the fibre stays what it is: only distances mean something else."""
    way = plan.channel
    if way.attenuation_db_per_km == 0:
        way = msgspec.structs.replace(way, length_km=0.0)
    way = msgspec.structs.replace(way, attenuation_db_per_km=attenuation_db_per_km)
    return msgspec.structs.replace(plan, channel=way)


def notes(plan: Scenario, asked: Asked) -> tuple[str, ...]:
    """What a reader of the rates must know.

    Raises:
        ConfigError: a distance where there is no fibre.
    """
    found = []
    uses_fibre = asked.variable == "distance_km" or asked.distance_km is not None
    if plan.channel.satellite is not None:
        if uses_fibre:
            raise ConfigError("a satellite pass has no length of fibre: use --loss, the loss at the closest approach")
        found.append(
            "satellite: the loss is that at the closest approach, "
            f"rates are means over the pass of {plan.duration_s:g} s"
        )
    if plan.protocol == "bbm92":
        found.append(f"pairs: {'the fibre' if uses_fibre else 'the loss'} is added to each of the two arms")
    if uses_fibre:
        found += _fibre_notes(plan, asked)
    if plan.bob.receiver.kind == "passive":
        found.append(
            "passive receiver: a block with clicks in both bases is charged by both, "
            "unless its run file cites a squashing map"
        )
    receivers = unequal_receivers(plan)
    if receivers and not correction(receivers):
        found.append(
            "detectors too unequal for a correction: rates are as if they were equal, "
            "a block is charged by both and its claim is an estimate"
        )
    return tuple(found)


def _fibre_notes(plan: Scenario, asked: Asked) -> list[str]:
    way, given = plan.channel, asked.attenuation_db_per_km
    taken = given or way.attenuation_db_per_km or ATTENUATION_DB_PER_KM
    if plan.protocol == "bb84" and way.length_km > 0 and way.attenuation_db_per_km > 0:
        beside = f", beside a fixed loss of {way.loss_db:g} dB" if way.loss_db else ""
        return [f"fibre of {taken:g} dB/km{beside}"]
    said = "" if way.loss_db == 0 else f"; the scenario's {way.loss_db:g} dB count as fibre"
    return [f"fibre of {taken:g} dB/km{'' if given or way.attenuation_db_per_km else ' (assumed)'}{said}"]
