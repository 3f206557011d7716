"""How far a key length may be claimed: the preconditions of the proofs, declared or checked on the data.

A proof holds for devices that meet its assumptions. Some can only be declared
(phase randomisation), some leave traces in the counts (unequal detectors).
Every precondition is listed with what was found; one that fails lowers the
claim to ``estimate`` or ``none``. Thresholds: table in ``docs/security.md``.
The checks need disclosed detections only; the keyed ones may be added by who holds both keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qkdpp.estimation.mismatch import SMALLEST_RATIO, Efficiencies, untagged_share

Level = Literal["composable", "estimate", "none"]
Kind = Literal["declared", "checked"]

SIGMAS = 4.892
"""Standard errors beyond which a deviation is no accident: two-sided probability 1e-6 (chi-square 23.9, 1 degree)."""
EFFICIENCY_TOLERANCE = 0.02
"""Allowed ``|n0 - n1| / (n0 + n1)`` of the two bits of a basis: efficiencies within about 4 per cent."""
BIT_TOLERANCE = 0.005
"""Allowed distance of the share of prepared ones from 1/2."""
BASIS_TOLERANCE = 0.05
"""Allowed distance of a basis share from its declared probability, as a share of the rarer basis' probability."""
DOUBLE_CLICK_SHARE = 0.05
"""Allowed double clicks per detection where no model says how many to expect."""
DOUBLE_CLICK_EXCESS = 5.0
"""Allowed ratio of double clicks to the number expected."""
SQUASHING = ("double_click_rule", "cross_basis_clicks", "equal_bits", "efficiency_mismatch")
"""Preconditions (by the start of their names) on which condition (ii) of ``public_errors`` rests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What the operator states about devices and set-up; nothing here follows from data.

    Attributes:
        protocol: which set of preconditions applies.
        test_mode: the states came from a pattern or a pseudo-random generator.
        phase_randomised: pulses carry independent random phases (BB84).
        intensities_declared: the mean photon numbers hold pulse by pulse, whatever came before (BB84).
        receiver: how the basis is chosen at a receiver: ``active`` modulator or ``passive`` beam splitter.
        squashing_map: reference for the treatment of clicks in both bases, if one is claimed.
        double_click_rule: ``random`` bit, or ``first`` click.
        blank_all: after any click all detectors are blanked for a declared dead time, never a single one.
        whole_recording: the block is what was fixed beforehand, not a span chosen afterwards.
        variable_length: the length formula may be evaluated on observed counts (profile V).
        eps_auth: bound promised for forgery of any tag; eps_auth_spent: what the tags of the block add up to.
        p_z_alice: probability of the Z basis at Alice; None if not declared.
        p_z_bob: the same at Bob.
        efficiencies: calibrated detector efficiencies by party, where the key length is corrected for them.
        pool: authentication key from a ``persistent`` pool or a ``throw_away`` one.
        randomness: ``os`` (a computational assumption) or a ``device``.
    """

    protocol: Literal["bb84", "bbm92"]
    test_mode: bool = False
    phase_randomised: bool = False
    intensities_declared: bool = False
    receiver: Literal["active", "passive"] = "passive"
    squashing_map: str = ""
    double_click_rule: Literal["random", "first"] = "random"
    blank_all: bool = True
    whole_recording: bool = True
    variable_length: bool = True
    eps_auth: float = 1.0
    eps_auth_spent: float = 0.0
    p_z_alice: float | None = None
    p_z_bob: float | None = None
    efficiencies: Mapping[str, Efficiencies] = field(default_factory=dict)
    pool: Literal["persistent", "throw_away"] = "persistent"
    randomness: Literal["os", "device"] = "os"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What the block itself shows; public numbers only.

    Attributes:
        matrix: int64[4, 4], detections (at least the disclosed ones) by Alice's state (BBM92: detector) and Bob's
            detector, codes ``basis << 1 | bit``; intensities added up.
        bases: int64[2, 2], all announced detections by Alice's and Bob's basis, keyed ones included.
        sent: int64[K, 2, 2], pulses sent by intensity, basis and bit; None for BBM92.
        detections: detections behind the next two numbers.
        double_clicks: clicks of both detectors of a basis.
        cross_basis_clicks: clicks in both bases at once.
        double_clicks_expected: what a channel model predicts, if there is one.
    """

    matrix: NDArray[np.int64]
    bases: NDArray[np.int64]
    sent: NDArray[np.int64] | None = None
    detections: int = 0
    double_clicks: int = 0
    cross_basis_clicks: int = 0
    double_clicks_expected: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Precondition:
    """One assumption of a proof, and what became of it.

    Attributes:
        name: short, stable name.
        kind: stated by the operator, or checked on data.
        passed: whether it holds.
        lowers_to: the highest claim left if it does not.
        value: the number found, if it is one.
        threshold: what it was compared with.
        explanation: one sentence.
        corrected: where a violation was paid for by a published correction: the share of detections that still counts.
    """

    name: str
    kind: Kind
    passed: bool
    lowers_to: Level = "estimate"
    value: float | None = None
    threshold: float | None = None
    explanation: str = ""
    corrected: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The claim that may be made, the preconditions that failed and those that hold."""

    level: Level
    failed: tuple[Precondition, ...]
    passed: tuple[Precondition, ...]


def assess(declared: Declared, evidence: Evidence) -> Claim:
    """Lists and judges every precondition of the protocol's proof."""
    found = (
        *_statements(declared),
        *_receiver(declared, evidence),
        *_mismatch(declared),
        *_balance(declared, evidence),
        *_choices(declared, evidence),
    )
    failed = tuple(p for p in found if not p.passed)
    level: Level = "composable"
    if failed:
        level = "none" if any(p.lowers_to == "none" for p in failed) else "estimate"
    return Claim(level=level, failed=failed, passed=tuple(p for p in found if p.passed))


def squashing_doubts(declared: Declared, evidence: Evidence) -> tuple[str, ...]:
    """Names of failed preconditions that condition (ii) of ``public_errors`` rests on, as far as ``evidence`` shows.

    For the two parties during a block: with evidence both hold they come to the same answer. A check without data
    is no doubt here; the claim judges it afterwards.
    """
    found = (*_receiver(declared, evidence), *_mismatch(declared), *_balance(declared, evidence))
    unknown = {p.name for p in found if p.kind == "checked" and p.value is None}
    return tuple(p.name for p in found if not p.passed and p.name.startswith(SQUASHING) and p.name not in unknown)


def _statements(declared: Declared) -> Iterator[Precondition]:
    yield Precondition(
        name="random_states",
        kind="declared",
        passed=not declared.test_mode,
        lowers_to="none",
        explanation="states come from a random source, not from a pattern or a seed",
    )
    if declared.protocol == "bb84":
        yield Precondition(
            name="phase_randomised",
            kind="declared",
            passed=declared.phase_randomised,
            explanation="pulses carry independent random phases, so a photon number is sent",
        )
        yield Precondition(
            name="intensities_declared",
            kind="declared",
            passed=declared.intensities_declared,
            explanation="mean photon numbers are calibrated and do not depend on earlier pulses",
        )
    pool = (
        "kept on disk" if declared.pool == "persistent" else "made for this run: this run shows, it does not agree keys"
    )
    yield Precondition(
        name="authentication_pool", kind="declared", passed=True, explanation=f"authentication key is {pool}"
    )
    yield Precondition(
        name="span_fixed_beforehand",
        kind="declared",
        passed=declared.whole_recording,
        explanation="the block is the whole recording; a span chosen afterwards (--from, --to) selects by its data",
    )
    yield Precondition(
        name="variable_length",
        kind="declared",
        passed=declared.variable_length,
        explanation="the length formula holds for lengths computed from the counts; profile V alone does",
    )
    yield Precondition(
        name="authentication",
        kind="checked",
        passed=declared.eps_auth_spent <= declared.eps_auth,
        lowers_to="none",
        value=declared.eps_auth_spent,
        threshold=declared.eps_auth,
        explanation="the tags of the block can be forged with no more than the promised probability",
    )
    source = "operating system (a computational assumption)" if declared.randomness == "os" else "a device"
    yield Precondition(
        name="randomness", kind="declared", passed=True, explanation=f"local random choices come from {source}"
    )


def _receiver(declared: Declared, evidence: Evidence) -> Iterator[Precondition]:
    yield Precondition(
        name="double_click_rule",
        kind="declared",
        passed=declared.double_click_rule == "random",
        explanation="a double click becomes a random bit; keeping the first click is not covered by squashing",
    )
    yield Precondition(
        name="blanking",
        kind="declared",
        passed=declared.blank_all,
        explanation="after a click all detectors are blanked for a declared dead time (timing.dead_time_ns)",
    )
    covered = evidence.cross_basis_clicks == 0 or declared.receiver == "active" or bool(declared.squashing_map)
    yield Precondition(
        name="cross_basis_clicks",
        kind="checked",
        passed=covered,
        value=float(evidence.cross_basis_clicks),
        threshold=0.0,
        explanation=declared.squashing_map
        or "clicks in both bases at once need a cited squashing map (timing.squashing_map)",
    )
    yield _double_clicks(evidence)


def _double_clicks(evidence: Evidence) -> Precondition:
    if evidence.double_clicks_expected is not None:
        mean = DOUBLE_CLICK_EXCESS * evidence.double_clicks_expected
    else:
        mean = DOUBLE_CLICK_SHARE * evidence.detections
    threshold = mean + SIGMAS * math.sqrt(mean) + SIGMAS**2
    return Precondition(
        name="double_clicks",
        kind="checked",
        passed=evidence.double_clicks <= threshold,
        value=float(evidence.double_clicks),
        threshold=threshold,
        explanation="double clicks are as rare as the channel explains",
    )


def correction(receivers: tuple[Efficiencies, ...]) -> tuple[Efficiencies, ...]:
    """The receivers a key length is to be corrected for: none if the mismatch is beyond what is corrected."""
    shares = [untagged_share(receivers, basis) for basis in (0, 1)]
    return receivers if min(shares) >= SMALLEST_RATIO else ()


def _mismatch(declared: Declared) -> Iterator[Precondition]:
    """Whether detectors are calibrated; if so, corrected for, or too unequal for it."""
    needed = {"bob"} if declared.protocol == "bb84" else {"alice", "bob"}
    yield Precondition(
        name="detectors_calibrated",
        kind="declared",
        passed=needed <= declared.efficiencies.keys(),
        explanation="detector efficiencies are declared ([detectors]): equal counts alone leave a mismatch of some "
        "per cent that no length accounts for",
    )
    if not declared.efficiencies:
        return
    receivers = tuple(declared.efficiencies.values())
    z, x = (untagged_share(receivers, basis) for basis in (0, 1))
    passed = bool(correction(receivers))
    parties = " and ".join(declared.efficiencies)
    yield Precondition(
        name="efficiency_mismatch",
        kind="declared",
        passed=passed,
        value=min(z, x),
        threshold=SMALLEST_RATIO,
        explanation=f"detectors of {parties} are as equal as a correction needs; of the keyed at least {z:.4f} count, "
        f"of the tested {x:.4f}",
        corrected=min(z, x) if passed else None,
    )


def _balance(declared: Declared, evidence: Evidence) -> Iterator[Precondition]:
    """Both bits of a basis as often as equal detectors (and lasers), or declared unequal ones, explain."""
    trusted = declared.efficiencies if correction(tuple(declared.efficiencies.values())) else {}
    for party, other, axis in (("alice", "bob", 1), ("bob", "alice", 0)):
        counts = evidence.matrix.sum(axis=axis)
        for basis, name in enumerate("zx"):
            zero, one = (int(v) for v in counts[2 * basis : 2 * basis + 2])
            total = zero + one
            low, high = _explained(trusted.get(party), trusted.get(other), basis)
            centre = (low + high) / 2
            value = abs((zero - one) / total - centre) if total else None
            threshold = (high - low) / 2 + (SIGMAS / math.sqrt(total) if total else 0.0)
            how = "as often as the declared efficiencies explain" if trusted else "equally often"
            yield Precondition(
                name=f"equal_bits_{party}_{name}",
                kind="checked",
                passed=value is not None and value <= threshold,
                value=value,
                threshold=threshold,
                explanation=f"{party}'s two bits of basis {name.upper()} are detected {how} ({zero} and {one})",
            )


def _explained(own: Efficiencies | None, other: Efficiencies | None, basis: int) -> tuple[float, float]:
    """Range of a party's ``(n0 - n1) / (n0 + n1)``: its own detectors, and where bases and bits agree also the peer's.

    Ratios of efficiencies multiply, so imbalances add like velocities; detections of unequal bases or bits show less of
    the peer's.
    """
    low, high = own.imbalance(basis) if own else (-EFFICIENCY_TOLERANCE, EFFICIENCY_TOLERANCE)
    if other is None:
        return low, high
    further = other.imbalance(basis)
    both = [(a + b) / (1 + a * b) for a, b in zip((low, high), further, strict=True)]
    return min(low, both[0]), max(high, both[1])


def _choices(declared: Declared, evidence: Evidence) -> Iterator[Precondition]:
    """Basis and bit choices as often as declared."""
    if evidence.sent is not None:
        by_state = evidence.sent.sum(axis=0)
        for basis, name in enumerate("zx"):
            yield _share(
                f"prepared_bits_{name}", int(by_state[basis, 1]), int(by_state[basis].sum()), 0.5, BIT_TOLERANCE
            )
        alice = by_state.sum(axis=1)
    else:
        alice = evidence.bases.sum(axis=1)
    for name, p_z, counts in (
        ("alice", declared.p_z_alice, alice),
        ("bob", declared.p_z_bob, evidence.bases.sum(axis=0)),
    ):
        if p_z is not None:
            if name in declared.efficiencies:
                p_z = declared.efficiencies[name].share_z(p_z)  # noqa: PLW2901 - as detected
            slack = BASIS_TOLERANCE * min(p_z, 1 - p_z)
            yield _share(f"basis_choice_{name}", int(counts[0]), int(counts.sum()), p_z, slack)


def _share(name: str, hits: int, total: int, p: float, tolerance: float) -> Precondition:
    """Whether ``hits`` of ``total`` agree with probability ``p``: a chi-square test with a tolerance."""
    value = abs(hits / total - p) if total else None
    threshold = tolerance + (SIGMAS * math.sqrt(p * (1 - p) / total) if total else 0.0)
    return Precondition(
        name=name,
        kind="checked",
        passed=value is not None and value <= threshold,
        value=value,
        threshold=threshold,
        explanation=f"{hits} of {total}, declared probability {p:g}",
    )
