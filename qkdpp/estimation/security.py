"""Security parameters of a block and the shape of the answer.

Everything in :class:`Security` is fixed before the block and compared by both
parties; nothing in it may depend on the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from qkdpp.core.errors import ConfigError
from qkdpp.core.ledger import Rule

Profile = Literal["V", "L", "T"]
"""V: variable length (the default). L: as published, fixed length. T: fixed length, tighter bounds."""
Concentration = Literal["kl", "chernoff", "hoeffding", "kato"]
"""``kato`` needs no independence but a prediction of the counts; the others hold for independent labels."""
KeyFrom = Literal["all", "signal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How profile V divides ``eps_sec``: ``eps_sec = 2 kappa + eps_PA``, statements together at most ``kappa^2``.

    Part of the public parameters: chosen before the block, from predictions or earlier blocks
    (:func:`qkdpp.estimation.split.optimised_split`), never from the counts of the block it is used for.

    Attributes:
        smoothing: ``kappa / eps_sec``, above 0 and below 1/2; privacy amplification gets the rest.
        weights: share of ``kappa^2`` by name of a statement, relative to the others; 1 where nothing is said.
    """

    smoothing: float = 0.25
    weights: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not 0 < self.smoothing < 0.5:
            raise ConfigError("security.split.smoothing is a share of eps_sec: above 0, below 1/2")
        wrong = [name for name, weight in self.weights.items() if not 0 < weight < math.inf]
        if wrong:
            raise ConfigError(f"security.split.weights.{wrong[0]} must be a finite number above 0")

    def kappa(self, eps_sec: float) -> float:
        """The smoothing parameter."""
        return self.smoothing * eps_sec

    def amplification_bits(self, eps_sec: float) -> float:
        """``2 log2(1 / (2 eps_PA))``, the cost of privacy amplification."""
        return 2 * math.log2(1 / (2 * (1 - 2 * self.smoothing) * eps_sec))

    def shares(self, statements: Iterable[str], eps_sec: float) -> dict[str, float]:
        """Failure probability of every statement; ConfigError if a weight names none of them or one is left nothing."""
        names = tuple(statements)
        unknown = sorted(self.weights.keys() - set(names))
        if unknown:
            raise ConfigError(
                f"security.split.weights: no statement is called {unknown[0]!r}; there are {', '.join(names)}"
            )
        weights = {name: self.weights.get(name, 1.0) for name in names}
        total = sum(weights.values())
        shares = {name: self.kappa(eps_sec) ** 2 * (weight / total) for name, weight in weights.items()}
        if poor := [name for name, share in shares.items() if not share > 0]:
            raise ConfigError(f"security.split leaves {poor[0]!r} no failure probability; use less extreme numbers")
        return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """What is promised, and how it is proved.

    Attributes:
        eps_sec: secrecy of a block (trace distance).
        eps_cor: correctness: probability that the two keys differ although they verified, all tags together.
        eps_auth: forgery of any tag of the block.
        profile: which length formula (``docs/security.md``).
        rule: how two-way error correction is charged.
        key_from: keep key bits of every intensity, or of the brightest (the signal) only.
        disclosed_signal: probability with which a detection that could be keyed is disclosed instead (paper practice:
            a tenth of the signal detections).
        concentration: inequality for counts under profile V; L always takes Hoeffding's, T always ``kl``.
        split: how profile V divides ``eps_sec``; L and T keep the published division.
        vacuum_credit: whether a published vacuum term may be added. Not where ``rule`` replaced ``public_errors``
            because a condition failed: a failure never lengthens a term.
    """

    eps_sec: float = 1e-10
    eps_cor: float = 1e-15
    eps_auth: float = 1e-12
    profile: Profile = "V"
    rule: Rule = Rule.PUBLIC_ERRORS
    key_from: KeyFrom = "all"
    disclosed_signal: float = 0.0
    concentration: Concentration = "kl"
    split: Split = Split()
    vacuum_credit: bool = True

    def __post_init__(self) -> None:
        for name in ("eps_sec", "eps_cor", "eps_auth"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"security.{name} must lie between 0 and 1")
        choices = (
            ("profile", self.profile, ("V", "L", "T")),
            ("key_from", self.key_from, ("all", "signal")),
            ("concentration", self.concentration, ("kl", "chernoff", "hoeffding", "kato")),
        )
        for name, value, allowed in choices:
            if value not in allowed:
                raise ConfigError(f"security.{name} = {value!r}: choose one of {', '.join(allowed)}")
        if not isinstance(self.rule, Rule):
            raise ConfigError("security.rule must be public_errors or both")
        if self.profile != "V" and self.split != Split():
            raise ConfigError("security.split: only profile V has a split to choose, L and T keep the published one")
        if not 0 <= self.disclosed_signal < 1:
            raise ConfigError("security.disclosed_signal is a share: at least 0, below 1")

    @property
    def eps_total(self) -> float:
        """Distance of a block from an ideal one: secrecy, correctness and authentication add."""
        return self.eps_sec + self.eps_cor + self.eps_auth


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One registered statistical statement: it fails with probability at most ``eps``."""

    name: str
    inequality: str
    eps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLength:
    """How long the key of a block may be, and why.

    Attributes:
        secret_bits: whole bits, never negative.
        value: the sum of ``terms`` before rounding down; may be negative.
        single_photon_bits: lower bound on keyed bits from single photons (BBM92: all key-basis bits).
        vacuum_bits: credit for vacuum detections (profiles L and T under rule ``both`` only).
        phase_error_upper: upper bound on the phase error rate of the keyed single photons.
        terms: what adds up to ``value``, in bits.
        bounds: every statistical statement used, with its share of the failure probability.
        eps_sec: secrecy of this length.
        eps_cor: correctness the caller's verification must provide.
        formula: name and source.
        secret_bits_asymptotic: length for the same proportions and unlimited data.
        detections_needed: if no key: detections with equal bases, in the same proportions and at the same leak
            per detection, from which on there would be one; None if there is a key or no number suffices.
        profile: length formula used.
        rule: accounting rule the leak was charged under.
        notes: what a reader of the figure must know.
    """

    secret_bits: int
    value: float
    single_photon_bits: int
    vacuum_bits: float
    phase_error_upper: float
    terms: Mapping[str, float]
    bounds: tuple[Bound, ...]
    eps_sec: float
    eps_cor: float
    formula: str
    secret_bits_asymptotic: int
    detections_needed: int | None
    profile: str
    rule: Rule
    notes: tuple[str, ...] = ()


def binary_entropy(x: float) -> float:
    """Entropy of a bit with probability ``x``, in bits."""
    if not 0 <= x <= 1:
        raise ValueError(f"not a probability: {x}")
    return 0.0 if x in (0, 1) else -x * math.log2(x) - (1 - x) * math.log1p(-x) / math.log(2)


def error_penalty(upper: float) -> float:
    """Entropy for an UPPER bound on an error rate: never decreases above 1/2."""
    return binary_entropy(min(max(upper, 0.0), 0.5))


def accumulated(eps_per_block: float, blocks: int, hops: int = 1) -> float:
    """Failure of all keys together: errors add over blocks and over the hops of a relay chain, at most 1."""
    return min(1.0, eps_per_block * blocks * hops)
