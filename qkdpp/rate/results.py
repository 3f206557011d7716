"""Rates as ``qkdpp rate --json`` prints them (``docs/formats/simulated.md``); the suffix of a name is its unit."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from qkdpp.core.ledger import Rule
from qkdpp.rate.link import Fibre, Variable
from qkdpp.rate.point import VERIFICATION_BITS, Point
from qkdpp.rate.sweep import Curve
from qkdpp.report.words import number

FORMAT = 1


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parts."""


class RatePoint(_Row, frozen=True, kw_only=True):
    """One evaluation. ``distance_km`` only where distances were asked for; rates are per second of a block."""

    loss_db: float
    distance_km: float | None
    block_s: float
    block_pulses: float
    sifted_bps: float
    qber: float
    phase_error_upper: float
    leak_bits: int
    secret_bits: int
    secret_bps: float
    asymptotic_bps: float


class PublishedPoint(_Row, frozen=True, kw_only=True):
    """A figure from a publication."""

    loss_db: float
    secret_bps: float
    source: str


class BoundUsed(_Row, frozen=True, kw_only=True):
    """A statistical statement of the working point's length. ``key_basis`` tells two keys of a block apart."""

    key_basis: str
    name: str
    inequality: str
    eps: float


class Parameters(_Row, frozen=True, kw_only=True):
    """What the lengths were computed with, overrides contained."""

    f_ec: float
    profile: str
    rule: str
    eps_sec: float
    eps_cor: float
    eps_auth: float
    key_from: str
    disclosed_signal: float
    both_bases: bool
    hops: int


class ScenarioRates(_Row, frozen=True, kw_only=True):
    """One scenario. ``working_point`` is the scenario's own loss and block; a largest loss of ``null``: no key."""

    scenario: str
    title: str
    protocol: str
    formula: str
    assumptions: list[str]
    parameters: Parameters
    working_point: RatePoint
    secret_bits_by_rule: dict[str, int]
    no_key: str | None
    eps_block: float
    eps_year: float
    max_loss_db: float | None
    max_loss_asymptotic_db: float | None
    least_block_s: float | None
    points: list[RatePoint]
    published: list[PublishedPoint]
    bounds: list[BoundUsed]


class Rates(_Row, frozen=True, kw_only=True):
    """All scenarios of one call."""

    format: int
    variable: Variable
    scenarios: list[ScenarioRates]


def rates(curves: Sequence[Curve]) -> Rates:
    """Everything that was computed, of at least one curve."""
    return Rates(format=FORMAT, variable=curves[0].variable, scenarios=[_scenario(c) for c in curves])


def no_key(curve: Curve) -> str | None:
    """Why the working point gives no key, and what would; None if it gives one."""
    point = curve.working.point
    if point.secret_bits > 0:
        return None
    where = f"no key at {point.loss_db:g} dB from a block of {point.block_s:.4g} s"
    if curve.enough_s is not None:
        return f"{where}: too short, one of about {number(float(f'{curve.enough_s:.2g}'))} s gives a key"
    if point.asymptotic_bps > 0:
        return f"{where}, nor from any other that could be waited for"
    return f"{where}, nor with unlimited data: QBER {100 * point.qber:.2f} %"


COMMON = (
    "counts are taken for their expected values, those of a real block scatter around them",
    f"verification ({VERIFICATION_BITS} bits a key) is subtracted, authentication is not",
    "unlimited data: the same parameters, every count known exactly",
)
"""What holds for every scenario."""


def notes(curve: Curve) -> list[str]:
    """What is special about a scenario and its lengths."""
    of_lengths = dict.fromkeys(note for length in curve.working.point.lengths for note in length.notes)
    return [*curve.notes, *of_lengths]


def _scenario(curve: Curve) -> ScenarioRates:
    point, security, plan = curve.working.point, curve.security, curve.plan
    least_s = curve.least_block
    if least_s is not None and curve.variable == "block_pulses":
        least_s *= point.block_s / point.pulses
    return ScenarioRates(
        scenario=curve.name,
        title=plan.title,
        protocol=plan.protocol,
        formula=point.lengths[0].formula,
        assumptions=[_leak(curve), *COMMON, *notes(curve)],
        parameters=Parameters(
            f_ec=plan.rate.f_ec,
            profile=security.profile,
            rule=str(security.rule),
            eps_sec=security.eps_sec,
            eps_cor=security.eps_cor,
            eps_auth=security.eps_auth,
            key_from=security.key_from,
            disclosed_signal=security.disclosed_signal,
            both_bases=plan.rate.both_bases,
            hops=plan.rate.hops,
        ),
        working_point=_point(curve, point),
        secret_bits_by_rule=curve.secret_bits_by_rule,
        no_key=no_key(curve),
        eps_block=security.eps_total,
        eps_year=point.eps_year,
        max_loss_db=curve.max_loss_db,
        max_loss_asymptotic_db=curve.max_loss_asymptotic_db,
        least_block_s=least_s,
        points=[_point(curve, sample.point) for sample in curve.samples],
        published=[
            PublishedPoint(loss_db=p.loss_db, secret_bps=p.secret_bps, source=p.source) for p in plan.rate.published
        ],
        bounds=[
            BoundUsed(key_basis=basis, name=b.name, inequality=b.inequality, eps=b.eps)
            for basis, length in zip("ZX", point.lengths, strict=False)
            for b in length.bounds
        ],
    )


def _leak(curve: Curve) -> str:
    parties = "each party's parities" if curve.security.rule is Rule.BOTH else "the parities of one party"
    return f"error correction costs {curve.plan.rate.f_ec:g} times its Shannon limit for {parties}"


def _point(curve: Curve, point: Point) -> RatePoint:
    in_km = curve.variable == "distance_km"
    return RatePoint(
        loss_db=point.loss_db,
        distance_km=Fibre.of(curve.plan).distance_km(point.loss_db) if in_km else None,
        block_s=point.block_s,
        block_pulses=point.pulses,
        sifted_bps=point.sifted_bits / point.block_s,
        qber=point.qber,
        phase_error_upper=point.phase_error_upper,
        leak_bits=point.leak_bits,
        secret_bits=point.secret_bits,
        secret_bps=point.secret_bps,
        asymptotic_bps=point.asymptotic_bps,
    )
