"""Three-state BB84: key length from mismatched counts, against coherent attacks.

Alice sends Z0, Z1 or X0, Bob measures Z or X; the key is made of Z states measured in Z. Phase errors are inferred from
what Bob finds in X: not only of X0, but of Z0 and Z1 as well (rejected data; Tamaki et al. 2014, Phys. Rev. A 90,
052314; for three states with decoys Boaron et al. 2018, Phys. Rev. Lett. 121, 190502, and Rusca et al. 2018, Phys.
Rev. A 98, 052336). Steps, in ``docs/notes/three-state.md`` at length:

1. single-photon detections of each kind from the counts by intensity (:mod:`qkdpp.estimation.interpolation`);
2. sums of their conditional probabilities by Kato's inequality, over all detections in their order
   (:mod:`qkdpp.estimation.kato`);
3. the sum of conditional probabilities of phase errors, linear in those (:mod:`qkdpp.estimation.virtual_states`);
4. the number of phase errors, by Kato's inequality again.

Assumes phase-randomised pulses, labels and states drawn independently of each other with the declared probabilities,
Bob's bases with theirs, detection probability independent of the basis, single photons in the declared qubit states.
Guarantees that the length is computed from registered statements only, profile V.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qkdpp.core.errors import ConfigError
from qkdpp.estimation.assemble import Costs, assembled, refuse
from qkdpp.estimation.interpolation import (
    Slopes,
    singles_lower,
    singles_upper,
    slopes,
    statements,
)
from qkdpp.estimation.kato import KatoPlan, mean_lower, mean_upper, observed_upper, plan, plan_for_mean
from qkdpp.estimation.registry import Bounded, Observed, Registry
from qkdpp.estimation.security import KeyLength, Security, error_penalty
from qkdpp.estimation.three_state_counts import ThreeStateCounts
from qkdpp.estimation.three_state_groups import ROUNDING, Group, groups

_PHASE = "phase errors"
_KEY = "Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Method:
    """Everything that follows from parameters alone."""

    through: Slopes
    groups: tuple[Group, ...]
    security: Security

    def statements(self) -> dict[str, str]:
        names = list(statements(self.through, _KEY, upper=False))
        for group in self.groups:
            names += statements(self.through, group.name, upper=group.raises)
        listed = dict.fromkeys(names, "relative entropy (Hoeffding 1963, Thm 1)")
        return listed | {self.kato_name(g): "Kato 2020" for g in self.groups} | {_PHASE: "Kato 2020"}

    def kato_name(self, group: Group) -> str:
        return f"chances of {group.name}"

    def registry(self) -> Registry:
        return Registry.split(self.statements(), self.security)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Singles:
    """Bounds on single-photon detections: of the key from below, of every group on the side that counts."""

    key: float
    groups: tuple[float, ...]
    contradictions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plans:
    groups: tuple[KatoPlan, ...]
    phase: KatoPlan


def _method(counts: ThreeStateCounts, security: Security) -> _Method:
    if security.profile != "V" or security.concentration != "kl":
        raise ConfigError("security: the three-state length is for profile V with concentration kl")
    if security.key_from != "all" or security.disclosed_signal > 0:
        raise ConfigError("security: the three-state length keys detections of every intensity and discloses none")
    return _Method(
        through=slopes(counts.intensities, counts.p_intensity),
        groups=groups(counts.states, counts.p_bob),
        security=security,
    )


def _singles(method: _Method, counts: ThreeStateCounts, by: Observed) -> _Singles:
    through, found, values = method.through, [], []
    key = singles_lower(through, _KEY, counts.keyed, by)
    for group in method.groups:
        n = group.counts(counts.n)
        value = (singles_upper if group.raises else singles_lower)(through, group.name, n, by)
        if value < 0:
            found.append(f"single-photon yield below zero in {group.name}")
        if value > int(n.sum()):
            found.append(f"more single-photon detections than detections in {group.name}")
        values.append(min(max(value, 0.0), float(n.sum())))
    total = int(counts.keyed.sum())
    if key > total:
        found.append("more single-photon detections than detections in the key")
    return _Singles(key=min(key, float(total)), groups=tuple(values), contradictions=tuple(found))


def _chances(method: _Method, plans: tuple[KatoPlan, ...], singles: _Singles) -> float:
    """Upper bound on the sum of conditional probabilities of phase errors, at least 0.

    Kinds exclude each other, so what rounding their factors leaves out is at most :data:`ROUNDING` per detection.
    """
    total = ROUNDING * max(1.0, *(abs(group.factor) for group in method.groups)) * plans[0].n
    for group, rule, found in zip(method.groups, plans, singles.groups, strict=True):
        x = min(found, rule.n)  # rounded predictions may add up to more than all detections
        total += group.factor * (mean_upper(rule, x) if group.raises else mean_lower(rule, x))
    return max(total, 0.0)


def _plans(method: _Method, detections: int, predicted: ThreeStateCounts | None, registry: Registry) -> _Plans:
    """Kato's parameters from the prediction, the parameters and the number of detections, never from outcomes."""
    eps = [registry.eps(method.kato_name(group)) for group in method.groups]
    if predicted is None or predicted.detections == 0:
        return _Plans(
            groups=tuple(plan(detections, None, e) for e in eps), phase=plan(detections, None, registry.eps(_PHASE))
        )
    expected = _singles(method, predicted.scaled(detections / predicted.detections), Bounded(registry, "kl"))
    groups = tuple(plan(detections, x, e) for x, e in zip(expected.groups, eps, strict=True))
    return _Plans(
        groups=groups, phase=plan_for_mean(detections, _chances(method, groups, expected), registry.eps(_PHASE))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimate:
    keyed: int
    phi: float
    contradictions: tuple[str, ...]

    def terms(self, method: _Method) -> dict[str, float]:
        """The terms that do not depend on correction and verification."""
        return {
            "single photons": float(self.keyed),
            "phase errors": -self.keyed * error_penalty(self.phi),
            "privacy amplification": -method.security.split.amplification_bits(method.security.eps_sec),
        }


def _estimate(
    method: _Method, counts: ThreeStateCounts, predicted: ThreeStateCounts | None, registry: Registry
) -> _Estimate:
    detections = max(counts.detections, 1)
    singles = _singles(method, counts, Bounded(registry, "kl"))
    plans = _plans(method, detections, predicted, registry)
    chances = min(_chances(method, plans.groups, singles), float(detections))
    errors, keyed = observed_upper(plans.phase, chances), math.floor(singles.key)
    return _Estimate(
        keyed=keyed, phi=min(errors / keyed, 1.0) if keyed > 0 else 1.0, contradictions=singles.contradictions
    )


def _unlimited(method: _Method, counts: ThreeStateCounts) -> float:
    """Single photons less phase errors with every count taken for its mean."""
    singles = _singles(method, counts, Observed())
    errors = sum(group.factor * x for group, x in zip(method.groups, singles.groups, strict=True))
    phi = min(max(errors, 0.0) / singles.key, 1.0) if singles.key > 0 else 1.0
    return singles.key * (1 - error_penalty(phi))


def key_length_three_state(
    counts: ThreeStateCounts,
    *,
    predicted: ThreeStateCounts | None,
    leak_bits: int,
    verification_bits: int,
    dropped_bits: int,
    security: Security,
    foresee: bool = True,
) -> KeyLength:
    """Length of the key of a block of three-state BB84, secure against coherent attacks.

    Args:
        counts: detections of all frames of the block, dropped ones included.
        predicted: counts expected of such a block, of any size, from a model or from earlier blocks and part of the
            public parameters: NEVER the counts of the block itself. Without one (None) the length is still valid, but
            rests on Azuma's deviation.
        leak_bits: charge for error correction under ``security.rule``.
        verification_bits: bits of all verification tags and outcomes.
        dropped_bits: key bits of frames that were given up.
        security: parameters fixed before the block; profile V.
        foresee: without a key, also find ``detections_needed``, which takes longer than the length.

    Raises:
        ConfigError: parameters that this length does not cover, fewer than three intensities, a prediction for others.
        InputError: negative costs.
        Abort: counts that no source of the declared states and intensities gives, or no receiver with the declared
            bases (``implausible_counts``).
    """
    costs = Costs(
        leak_bits=leak_bits,
        verification_bits=verification_bits,
        dropped_bits=dropped_bits,
        keyed=int(counts.keyed.sum()),
    )
    if predicted is not None and _source(predicted) != _source(counts):
        raise ConfigError("predicted: counts of another source or receiver")
    method = _method(counts, security)
    registry = method.registry()
    estimate = _estimate(method, counts, predicted, registry)
    refuse(counts.contradictions() + estimate.contradictions, counts.intensities, counts.n)

    def at_scale(factor: float) -> float:
        return sum(_estimate(method, counts.scaled(factor), predicted, method.registry()).terms(method).values())

    matching = int(counts.keyed.sum()) + int(counts.n[:, 2, 2:].sum())
    return assembled(
        estimate.terms(method),
        costs,
        unlimited=_unlimited(method, counts),
        at_scale=at_scale,
        detections=matching,
        foresee=foresee,
        phase_error_upper=estimate.phi,
        bounds=registry.bounds(),
        security=security,
        profile="V",
        formula="three-state BB84 with decoys: mismatched counts after Tamaki et al. 2014, dependence after Kato 2020",
        notes=() if predicted is not None else ("no counts were predicted: Azuma's deviation was used",),
    )


def _source(counts: ThreeStateCounts) -> tuple[object, ...]:
    return counts.intensities, counts.p_intensity, counts.states, counts.p_bob
