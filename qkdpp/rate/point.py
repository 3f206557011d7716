"""The key rate of a scenario at one loss and one size of block: for finite and for unlimited data.

The lengths are those of ``qkdpp.estimation``, on expected counts. The leak of error correction is ``f_ec n h(E)`` for
the parities of one party; rule ``both`` charges those of both, so twice that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qkdpp.core.ledger import Rule
from qkdpp.estimation import (
    KeyLength,
    Security,
    accumulated,
    binary_entropy,
    key_length_bb84,
    key_length_bbm92,
    key_lengths_bb84_both,
    key_lengths_bbm92_both,
)
from qkdpp.estimation.bb84 import unlimited_bits_bb84
from qkdpp.rate.expected import Expected, channel_loss_db, expected
from qkdpp.scenarios.scenario import Scenario

UNLIMITED_DETECTIONS = 1e17
"""Counts are scaled up to this for the limit of unlimited data: rounding to whole numbers no longer shows."""
VERIFICATION_BITS = 129
"""One tag and its outcome."""
SECONDS_PER_YEAR = 365.25 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One evaluation.

    Attributes:
        loss_db: loss of the channel.
        block_s: duration of a block.
        pulses: pulses (pairs) of a block.
        sifted_bits: bits of a block that correction gets.
        qber: error rate among them.
        leak_bits: charge for error correction.
        secret_bits: length of the key of a block.
        secret_bps: the same per second.
        asymptotic_bps: secret bits per second with unlimited data.
        phase_error_upper: bound on the phase error rate (of two keyed bases the larger one).
        eps_year: failure probability accumulated over a year of blocks and the hops of the chain.
        lengths: the length with its terms and bounds (two, if both bases are keyed).
    """

    loss_db: float
    block_s: float
    pulses: float
    sifted_bits: float
    qber: float
    leak_bits: int
    secret_bits: int
    secret_bps: float
    asymptotic_bps: float
    phase_error_upper: float
    eps_year: float
    lengths: tuple[KeyLength, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keyed:
    """Bits that correction gets, by basis (X: 0 unless both are keyed), and their errors."""

    bits: tuple[float, float]
    errors: tuple[float, float]


def security_of(plan: Scenario) -> Security:
    """The scenario's section ``security`` in the words of ``qkdpp.estimation``."""
    section = plan.security
    return Security(
        eps_sec=section.eps_sec,
        eps_cor=section.eps_cor,
        eps_auth=section.eps_auth,
        profile=section.profile,
        rule=Rule(section.rule),
        key_from=section.key_from,
        disclosed_signal=section.disclose_signal,
    )


def block_seconds(plan: Scenario) -> float:
    """Duration of a block: ``rate.block_s``, or the whole run."""
    return plan.rate.block_s or plan.duration_s


def evaluate(plan: Scenario, *, block_s: float | None = None, security: Security | None = None) -> Point:
    """Key rate of a scenario as it stands; change loss or source in the scenario first.

    Raises:
        ConfigError: intensities that the length formulas cannot take.
    """
    block = expected(plan, block_seconds(plan) if block_s is None else block_s)
    chosen = security_of(plan) if security is None else security
    lengths, leak = _lengths(plan, block, chosen)
    secret = sum(length.secret_bits for length in lengths)
    keyed = _keyed(plan, block)
    bits = sum(keyed.bits)
    return Point(
        loss_db=channel_loss_db(plan),
        block_s=block.seconds,
        pulses=block.pulses,
        sifted_bits=bits,
        qber=sum(keyed.errors) / bits if bits else 0.5,
        leak_bits=leak,
        secret_bits=secret,
        secret_bps=secret / block.seconds,
        asymptotic_bps=asymptotic_bps(plan, block, chosen),
        phase_error_upper=max(length.phase_error_upper for length in lengths),
        eps_year=accumulated(chosen.eps_total, math.ceil(SECONDS_PER_YEAR / block.seconds), plan.rate.hops),
        lengths=lengths,
    )


def asymptotic_bps(plan: Scenario, block: Expected, security: Security) -> float:
    """Secret bits per second in the limit of unlimited data."""
    total = float(block.n.sum())
    if total <= 0:
        return 0.0
    large = block.scaled(UNLIMITED_DETECTIONS / total)
    bases = (0, 1) if plan.rate.both_bases else (0,)
    unlimited = _unlimited_bb84 if plan.protocol == "bb84" else _unlimited_bbm92
    gained = (unlimited(plan, large, basis, security) for basis in bases)
    return (
        sum(max(0.0, g - leak) for g, leak in zip(gained, _leaks(plan, large, security), strict=False)) / large.seconds
    )


def _unlimited_bb84(plan: Scenario, block: Expected, basis: int, security: Security) -> float:
    assert plan.source is not None
    counts = block.counts(plan.source.intensities, plan.source.p_intensity)
    return unlimited_bits_bb84(counts if basis == 0 else counts.swapped(), security)


def _unlimited_bbm92(plan: Scenario, block: Expected, basis: int, security: Security) -> float:
    tested = float(block.n[1 - basis, 0])
    rate = float(block.m[1 - basis, 0]) / tested if tested else 0.5
    return float(block.n[basis, 0]) * (1 - binary_entropy(min(rate, 0.5)))


def _keyed(plan: Scenario, block: Expected) -> _Keyed:
    first = 1 if plan.security.key_from == "signal" else block.n.shape[1]
    share = 1 - plan.security.disclose_signal
    n, m = (share * table[:, :first].sum(axis=1) for table in (block.n, block.m))
    x = 1.0 if plan.rate.both_bases else 0.0
    return _Keyed(bits=(float(n[0]), x * float(n[1])), errors=(float(m[0]), x * float(m[1])))


def _leak(bits: float, errors: float, plan: Scenario, security: Security) -> int:
    if bits <= 0:
        return 0
    parties = 2 if security.rule is Rule.BOTH else 1
    return math.ceil(parties * plan.rate.f_ec * bits * binary_entropy(min(errors / bits, 0.5)))


def _leaks(plan: Scenario, block: Expected, security: Security) -> tuple[int, int]:
    keyed = _keyed(plan, block)
    z, x = (_leak(b, e, plan, security) for b, e in zip(keyed.bits, keyed.errors, strict=True))
    return z, x


def _lengths(plan: Scenario, block: Expected, security: Security) -> tuple[tuple[KeyLength, ...], int]:
    leaks = _leaks(plan, block, security)
    make = _bb84 if plan.protocol == "bb84" else _bbm92
    return make(plan, block, leaks, security), sum(leaks)


def _bb84(plan: Scenario, block: Expected, leaks: tuple[int, int], security: Security) -> tuple[KeyLength, ...]:
    assert plan.source is not None
    counts = block.counts(plan.source.intensities, plan.source.p_intensity)
    if plan.rate.both_bases:
        return key_lengths_bb84_both(
            counts,
            leak_bits=leaks,
            verification_bits=(VERIFICATION_BITS, VERIFICATION_BITS),
            dropped_bits=(0, 0),
            security=security,
        )
    length = key_length_bb84(
        counts, leak_bits=leaks[0], verification_bits=VERIFICATION_BITS, dropped_bits=0, security=security
    )
    return (length,)


def _bbm92(plan: Scenario, block: Expected, leaks: tuple[int, int], security: Security) -> tuple[KeyLength, ...]:
    n, m = (np.rint(table[:, 0]).astype(int).tolist() for table in (block.n, block.m))
    if plan.rate.both_bases:
        return key_lengths_bbm92_both(
            (n[0], n[1]),
            (m[0], m[1]),
            leak_bits=leaks,
            verification_bits=(VERIFICATION_BITS, VERIFICATION_BITS),
            dropped_bits=(0, 0),
            security=security,
        )
    length = key_length_bbm92(
        n[0],
        n[1],
        m[1],
        leak_bits=leaks[0],
        verification_bits=VERIFICATION_BITS,
        dropped_bits=0,
        security=security,
    )
    return (length,)
