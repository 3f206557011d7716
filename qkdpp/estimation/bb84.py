"""Finite-size key length of decoy-state BB84.

Assumes what ``docs/security.md`` lists (phase randomisation, detection
probability independent of the basis, random labels). Any number of intensities
from two up; the closed forms use the two or three of :func:`choose_levels`.

Profile V (default): variable length, after Tupkary et al. 2024; L: Lim et al.
2014, Eq. (1), and Rusca et al. 2018, as published; T: L with tighter bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from qkdpp.core.errors import ConfigError, InputError
from qkdpp.core.ledger import Rule
from qkdpp.estimation.assemble import Costs, assembled
from qkdpp.estimation.concentration import binomial_lower
from qkdpp.estimation.counts import Counts
from qkdpp.estimation.decoy import (
    Levels,
    Photons,
    choose_levels,
    errors_upper,
    photons_one_decoy,
    photons_two_decoys,
)
from qkdpp.estimation.mismatch import Efficiencies, untagged_share
from qkdpp.estimation.phase_error import gamma_as_printed, phase_error_upper
from qkdpp.estimation.plausible import refuse_contradictions
from qkdpp.estimation.registry import Bounded, Foreseen, Observed, Registry
from qkdpp.estimation.security import Concentration, KeyLength, Security, error_penalty

_INEQUALITY = {
    "kl": "relative entropy (Hoeffding 1963, Thm 1)",
    "chernoff": "Chernoff",
    "hoeffding": "Hoeffding",
    "kato": "Kato 2020, tuned to predicted counts",
}
_PHASE = "phase errors"
_KEYED = "keyed single photons"
_UNTAGGED = ("untagged single photons Z", "untagged single photons X")


@dataclass(frozen=True, slots=True, kw_only=True)
class VacuumCredit:
    """Key bits of vacuum detections, which Eve cannot know - unless the error pattern is public.

    Under ``public_errors`` she knows W: a detection she supplied herself plus W gives her the bit. The only way to
    make a credit is :meth:`under`, and its rule is typed.
    """

    bits: float

    @staticmethod
    def under(rule: Literal[Rule.BOTH], bits: float) -> VacuumCredit:
        """A credit of ``bits``; ValueError for any rule but ``both``."""
        if rule is not Rule.BOTH:
            raise ValueError("no vacuum credit where the error pattern counts as public")
        return VacuumCredit(bits=bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Method:
    """A profile with everything that follows from parameters alone."""

    levels: Levels
    keyed_share: float
    untagged: tuple[float, float]
    concentration: Concentration
    divisor: int
    security: Security

    @property
    def one_decoy(self) -> bool:
        return len(self.levels.index) == 2

    def statements(self) -> dict[str, str]:
        """Every statistical statement this length rests on, in the order of use."""
        names = []
        ranks = ("1 upper", "2 lower") if self.one_decoy else ("1 upper", "2 lower", "2 upper", "3 lower", "3 upper")
        for basis in "ZX":
            names += [f"n_{basis}{r}" for r in ranks]
            if self.one_decoy:
                names += [f"m_{basis}1 upper", f"m_{basis}2 upper"]
        names += ["m_X2 lower"] if self.one_decoy else ["m_X2 upper", "m_X3 lower"]
        plan = dict.fromkeys(names, _INEQUALITY[self.concentration])
        if self.one_decoy:
            plan |= {f"vacuum errors {basis}": "Hoeffding, Binomial(s_0, 1/2)" for basis in "ZX"}
        if self.keyed_share < 1:
            plan[_KEYED] = "relative entropy, binomial"
        plan |= {name: "relative entropy, binomial" for name, q in zip(_UNTAGGED, self.untagged, strict=True) if q < 1}
        tail = "" if self.security.profile == "V" else ", tail at the square of this"
        plan[_PHASE] = f"hypergeometric, exact{tail}"
        return plan

    def registry(self) -> Registry:
        """All statements with their failure probabilities; ConfigError if the split names one that does not exist."""
        statements, security = self.statements(), self.security
        if security.profile == "V":
            return Registry.split(statements, security)
        return Registry(statements, lambda _: security.eps_sec / self.divisor)

    def amplification_bits(self) -> float:
        """Cost of privacy amplification (V), chain rules included (L and T)."""
        if self.security.profile == "V":
            return self.security.split.amplification_bits(self.security.eps_sec)
        return 6 * math.log2(self.divisor / self.security.eps_sec)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimate:
    """Photon statistics of a block under one way of bounding."""

    singles: int
    vacuum: float
    phi: float
    contradictions: tuple[str, ...]
    key: Photons
    test: Photons


def _method(
    intensities: tuple[float, ...],
    p_intensity: tuple[float, ...],
    security: Security,
    receivers: tuple[Efficiencies, ...],
) -> _Method:
    levels = choose_levels(intensities, p_intensity)
    share = 1 - security.disclosed_signal
    if security.key_from == "signal":
        share *= levels.share_of_single_photons(0)
    untagged = (untagged_share(receivers, 0), untagged_share(receivers, 1))
    more = (share < 1) + sum(q < 1 for q in untagged)
    fixed: dict[str, Concentration] = {"L": "hoeffding", "T": "kl"}
    return _Method(
        levels=levels,
        keyed_share=share,
        untagged=untagged,
        concentration=fixed.get(security.profile, security.concentration),
        divisor=(19 if len(levels.index) == 2 else 21) + more,
        security=security,
    )


def _photons(method: _Method, counts: Counts, basis: int, by: Observed) -> Photons:
    n, m, name = counts.n[basis], counts.m[basis], "ZX"[basis]
    if method.one_decoy:
        return photons_one_decoy(method.levels, name, n, m, by, as_printed=method.security.profile == "L")
    return photons_two_decoys(method.levels, name, n, by)


def _phase_error(method: _Method, errors: int, tested: int, keyed: int, eps: float) -> float:
    """Upper bound on the phase error rate; the printed expansion of profile L is never allowed below the exact one."""
    if method.security.profile == "V":
        return phase_error_upper(errors, tested, keyed, eps)
    exact = phase_error_upper(errors, tested, keyed, eps**2)
    return exact if method.security.profile == "T" else max(exact, gamma_as_printed(errors, tested, keyed, eps))


def _foreseen(method: _Method, counts: Counts, predicted: Counts | None) -> Foreseen | None:
    """Shares of the predicted counts by name of a statement; None unless the inequality asks for them."""
    if method.concentration != "kato":
        return None
    if predicted is None:
        raise ConfigError('concentration "kato" is tuned to predicted counts: give them as predicted=, or use "kl"')
    if (predicted.intensities, predicted.p_intensity) != (counts.intensities, counts.p_intensity):
        raise ConfigError("predicted counts are for other intensities or probabilities than the block's")
    foreseen = Foreseen()
    for basis in (0, 1):
        _photons(method, predicted, basis, foreseen)
    errors_upper(method.levels, "X", predicted.m[1], foreseen)
    return foreseen


def _estimate(method: _Method, counts: Counts, registry: Registry, predicted: Counts | None = None) -> _Estimate:
    by = Bounded(registry, method.concentration, _foreseen(method, counts, predicted))
    key, test = _photons(method, counts, 0, by), _photons(method, counts, 1, by)
    errors, wrong = errors_upper(method.levels, "X", counts.m[1], by)
    singles, tested = math.floor(key.single_lower), math.floor(test.single_lower)
    if method.keyed_share < 1:
        singles = binomial_lower(singles, method.keyed_share, registry.eps(_KEYED))
    if method.untagged[0] < 1:
        singles = binomial_lower(singles, method.untagged[0], registry.eps(_UNTAGGED[0]))
    if method.untagged[1] < 1:
        tested = binomial_lower(tested, method.untagged[1], registry.eps(_UNTAGGED[1]))
    phi = _phase_error(method, math.ceil(errors), tested, singles, registry.eps(_PHASE))
    return _Estimate(
        singles=singles,
        vacuum=key.vacuum_lower,
        phi=phi,
        contradictions=key.contradictions + test.contradictions + wrong,
        key=key,
        test=test,
    )


def _terms(method: _Method, estimate: _Estimate) -> dict[str, float]:
    """The terms that do not depend on correction and verification."""
    terms = {
        "single photons": float(estimate.singles),
        "phase errors": -estimate.singles * error_penalty(estimate.phi),
        "privacy amplification": -method.amplification_bits(),
    }
    vacuum = _credit(method, estimate.vacuum)
    return terms if vacuum is None else terms | {"vacuum": vacuum.bits}


def _credit(method: _Method, vacuum_lower: float) -> VacuumCredit | None:
    """The published vacuum term, where profile, keyed detections and accounting rule allow one."""
    security, rule = method.security, method.security.rule
    if security.profile == "V" or method.keyed_share < 1 or min(method.untagged) < 1 or not security.vacuum_credit:
        return None
    if rule is not Rule.BOTH:
        return None
    return VacuumCredit.under(rule, vacuum_lower)


def _unlimited(method: _Method, counts: Counts) -> float:
    """Single photons less phase errors (and vacuum credit) with every count taken for its mean."""
    by = Observed()
    key, test = _photons(method, counts, 0, by), _photons(method, counts, 1, by)
    errors, _ = errors_upper(method.levels, "X", counts.m[1], by)
    tested = test.single_lower * method.untagged[1]
    phi = min(errors / tested, 1.0) if tested > 0 else 1.0
    vacuum = _credit(method, key.vacuum_lower)
    return key.single_lower * method.keyed_share * method.untagged[0] * (1 - error_penalty(phi)) + (
        vacuum.bits if vacuum else 0.0
    )


def _notes(method: _Method) -> tuple[str, ...]:
    security, notes = method.security, []
    if security.profile != "V":
        notes.append("a fixed-length formula: acceptance and length must be fixed before the block")
        if security.rule is Rule.PUBLIC_ERRORS:
            notes.append("vacuum term dropped: the error pattern counts as known to Eve")
        elif not security.vacuum_credit:
            notes.append("vacuum term dropped: a condition of public_errors failed")
        elif method.keyed_share < 1 or min(method.untagged) < 1:
            notes.append("vacuum term dropped: not all key-basis detections are keyed, or some are tagged")
    if security.profile == "L" and security.concentration != "hoeffding":
        notes.append("profile L takes Hoeffding's inequality, as published")
    if method.keyed_share < 1:
        notes.append(f"{method.keyed_share:.4f} of the single photons are keyed, the rest is disclosed")
    if min(method.untagged) < 1:
        z, x = method.untagged
        notes.append(f"corrected for unequal detectors: at least {z:.4f} of the keyed, {x:.4f} of the tested untagged")
    return tuple(notes)


def _formula(method: _Method) -> str:
    source = "Rusca et al. 2018" if method.one_decoy else "Lim et al. 2014"
    states = "one decoy" if method.one_decoy else "two decoys"
    how = {
        "V": f"photon numbers after {source}, variable length after Tupkary et al. 2024",
        "L": f"{source}, as published",
        "T": f"{source}, with relative-entropy and exact hypergeometric bounds",
    }
    return f"decoy BB84, {states}: {how[method.security.profile]}"


def statements_bb84(
    intensities: tuple[float, ...],
    p_intensity: tuple[float, ...],
    security: Security,
    *,
    receivers: tuple[Efficiencies, ...] = (),
) -> dict[str, str]:
    """Name and inequality of every statement that a length will rest on, from the public parameters alone.

    Raises:
        ConfigError: intensities the closed forms cannot take, or a weight of the split that names no statement.
    """
    method = _method(intensities, p_intensity, security, receivers)
    method.registry()
    return method.statements()


def length_value_bb84(counts: Counts, security: Security, *, receivers: tuple[Efficiencies, ...] = ()) -> float:
    """Bits (may be negative) before correction and verification are charged: for predictions and searches."""
    method = _method(counts.intensities, counts.p_intensity, security, receivers)
    return sum(_terms(method, _estimate(method, counts, method.registry(), counts)).values())


def unlimited_bits_bb84(counts: Counts, security: Security, *, receivers: tuple[Efficiencies, ...] = ()) -> float:
    """Bits before correction and verification are charged if every count were its mean (unlimited data)."""
    return _unlimited(_method(counts.intensities, counts.p_intensity, security, receivers), counts)


def key_length_bb84(
    counts: Counts,
    *,
    leak_bits: int,
    verification_bits: int,
    dropped_bits: int,
    security: Security,
    receivers: tuple[Efficiencies, ...] = (),
    predicted: Counts | None = None,
    foresee: bool = True,
) -> KeyLength:
    """Length of the key of a block in which basis Z is keyed and basis X is disclosed.

    Args:
        counts: detections and errors of all frames of the block, dropped ones included. With one decoy the errors
            of both bases must be known, with two only those of basis X.
        leak_bits: charge for error correction under ``security.rule``.
        verification_bits: bits of all verification tags and outcomes (in place of the published log2(2/eps_cor)).
        dropped_bits: key bits of frames that were given up.
        security: parameters fixed before the block.
        receivers: declared efficiencies of Bob's detectors, if the length shall be corrected for them.
        predicted: counts expected before the block, from a model or earlier blocks, errors included; only
            ``concentration="kato"`` looks at them, and any prediction is valid.
        foresee: without a key, also find ``detections_needed``, which takes ten times as long as the length.

    Raises:
        ConfigError: intensities the closed forms cannot take, a split of statements that do not exist.
        InputError: negative costs, or error counts that are still unknown.
        Abort: counts that no source of the declared intensities gives (``implausible_counts``).
    """
    costs = Costs(
        leak_bits=leak_bits,
        verification_bits=verification_bits,
        dropped_bits=dropped_bits,
        keyed=int(counts.n[0].sum()),
    )
    method = _method(counts.intensities, counts.p_intensity, security, receivers)
    z_known, x_known = counts.errors_known
    if not x_known or (method.one_decoy and not z_known):
        raise InputError("counts: the key length needs the error counts m of the test basis (one decoy: of both)")
    registry = method.registry()
    estimate = _estimate(method, counts, registry, predicted)
    refuse_contradictions(counts, method.levels, estimate.contradictions, estimate.key, estimate.test)

    def at_scale(factor: float) -> float:
        return sum(_terms(method, _estimate(method, counts.scaled(factor), method.registry(), predicted)).values())

    return assembled(
        _terms(method, estimate),
        costs,
        unlimited=_unlimited(method, counts),
        at_scale=at_scale,
        detections=counts.detections,
        foresee=foresee,
        phase_error_upper=estimate.phi,
        bounds=registry.bounds(),
        security=security,
        profile=security.profile,
        formula=_formula(method),
        notes=_notes(method),
    )
