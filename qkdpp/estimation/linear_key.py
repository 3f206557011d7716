"""Finite-size key length of decoy-state BB84 from all intensities at once, by linear programming.

Profile V (``docs/security.md``): the same structure and the same budget as
:func:`qkdpp.estimation.bb84.key_length_bb84`, with the photon numbers of
:mod:`qkdpp.estimation.linear` in place of the closed forms. It checks those, it
uses four and more intensities in full, and it takes intensities that are only
known as intervals. Relative-entropy bounds throughout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qkdpp.core.errors import ConfigError, InputError
from qkdpp.estimation.assemble import Costs, assembled
from qkdpp.estimation.concentration import binomial_lower
from qkdpp.estimation.counts import Counts
from qkdpp.estimation.decoy import Photons
from qkdpp.estimation.linear import Labels, all_labels, errors_upper_linear, linear_statements, photons_linear
from qkdpp.estimation.phase_error import phase_error_upper
from qkdpp.estimation.plausible import refuse_contradictions
from qkdpp.estimation.registry import Bounded, Observed, Registry
from qkdpp.estimation.security import KeyLength, Security, error_penalty

_PHASE = "phase errors"
_KEYED = "keyed single photons"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Method:
    """Everything that follows from parameters alone."""

    labels: Labels
    keyed_share: float
    security: Security

    @property
    def two_labels(self) -> bool:
        return len(self.labels.levels.index) == 2

    def statements(self) -> dict[str, str]:
        """Every statistical statement this length rests on."""
        plan = {
            name: "Hoeffding, Binomial(s_0, 1/2)" if name.startswith("vacuum") else "relative entropy (Hoeffding 1963)"
            for name in linear_statements(len(self.labels.levels.index))
        }
        if self.keyed_share < 1:
            plan[_KEYED] = "relative entropy, binomial"
        return plan | {_PHASE: "hypergeometric, exact"}

    def registry(self) -> Registry:
        """The statements, all of them together failing with probability at most kappa^2, divided as ``split`` says."""
        return Registry.split(self.statements(), self.security)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimate:
    """Photon statistics of a block under one way of bounding."""

    key: Photons
    test: Photons
    errors: float
    contradictions: tuple[str, ...]


def _method(counts: Counts, security: Security, mu_tolerance: float | tuple[float, ...]) -> _Method:
    if security.profile != "V" or security.concentration != "kl":
        raise ConfigError("security: the linear programme is for profile V with concentration kl")
    labels = all_labels(counts.intensities, counts.p_intensity, mu_tolerance=mu_tolerance)
    share = 1 - security.disclosed_signal
    if security.key_from == "signal":
        share *= float(labels.weights.low[0, 1])
    return _Method(labels=labels, keyed_share=share, security=security)


def _estimate(method: _Method, counts: Counts, by: Observed) -> _Estimate:
    errors_too = (counts.m[0], counts.m[1]) if method.two_labels else (None, None)
    key, test = (photons_linear(method.labels, "ZX"[b], counts.n[b], by, errors_too[b]) for b in (0, 1))
    errors, wrong = errors_upper_linear(method.labels, "X", counts.m[1], by)
    found = dict.fromkeys(key.contradictions + test.contradictions + wrong)
    return _Estimate(key=key, test=test, errors=errors, contradictions=tuple(found))


def _terms(method: _Method, counts: Counts, registry: Registry) -> tuple[dict[str, float], float, _Estimate]:
    """The terms that do not depend on correction and verification, the phase error bound, and what they rest on."""
    estimate = _estimate(method, counts, Bounded(registry, "kl"))
    singles = math.floor(estimate.key.single_lower)
    if method.keyed_share < 1:
        singles = binomial_lower(singles, method.keyed_share, registry.eps(_KEYED))
    tested = math.floor(estimate.test.single_lower)
    phi = phase_error_upper(math.ceil(estimate.errors), tested, singles, registry.eps(_PHASE))
    terms = {
        "single photons": float(singles),
        "phase errors": -singles * error_penalty(phi),
        "privacy amplification": -method.security.split.amplification_bits(method.security.eps_sec),
    }
    return terms, phi, estimate


def _unlimited(method: _Method, counts: Counts) -> float:
    """Single photons less phase errors with every count taken for its mean (or the nearest numbers that can be)."""
    estimate = _estimate(method, counts, Observed())
    tested = estimate.test.single_lower
    phi = min(estimate.errors / tested, 1.0) if tested > 0 else 1.0
    return estimate.key.single_lower * method.keyed_share * (1 - error_penalty(phi))


def key_length_linear(
    counts: Counts,
    *,
    leak_bits: int,
    verification_bits: int,
    dropped_bits: int,
    security: Security,
    mu_tolerance: float | tuple[float, ...] = 0.0,
) -> KeyLength:
    """Length of the key of a block in which basis Z is keyed and basis X is disclosed; two or more intensities.

    Args:
        counts: detections and errors of all frames of the block, dropped ones included. With two intensities the
            errors of both bases must be known, otherwise only those of basis X.
        leak_bits: charge for error correction under ``security.rule``.
        verification_bits: bits of all verification tags and outcomes.
        dropped_bits: key bits of frames that were given up.
        security: parameters fixed before the block; profile V, concentration ``kl``.
        mu_tolerance: relative half-width of the interval of each intensity, one for all or one for each, in the order
            of ``counts`` (:func:`qkdpp.estimation.linear.decoy_yields_linear`).

    Raises:
        ConfigError: another profile, intensities or tolerances that cannot be used, a split of statements that do not
            exist.
        InputError: negative costs, or error counts that are still unknown.
        Abort: counts that no channel gives at these intensities (``implausible_counts``), proven up to eps.
    """
    costs = Costs(
        leak_bits=leak_bits,
        verification_bits=verification_bits,
        dropped_bits=dropped_bits,
        keyed=int(counts.n[0].sum()),
    )
    method = _method(counts, security, mu_tolerance)
    z_known, x_known = counts.errors_known
    if not x_known or (method.two_labels and not z_known):
        raise InputError("counts: the key length needs the error counts m of the test basis (two labels: of both)")
    registry = method.registry()
    terms, phi, estimate = _terms(method, counts, registry)
    refuse_contradictions(counts, method.labels.levels, estimate.contradictions, estimate.key, estimate.test)

    def at_scale(factor: float) -> float:
        return sum(_terms(method, counts.scaled(factor), method.registry())[0].values())

    share = method.keyed_share
    return assembled(
        terms,
        costs,
        unlimited=_unlimited(method, counts),
        at_scale=at_scale,
        detections=counts.detections,
        phase_error_upper=phi,
        bounds=registry.bounds(),
        security=security,
        profile="V",
        formula=f"decoy BB84, {len(counts.intensities)} intensities: photon numbers by linear programming, "
        "variable length after Tupkary et al. 2024",
        notes=(f"{share:.4f} of the single photons are keyed, the rest is disclosed",) if share < 1 else (),
    )
