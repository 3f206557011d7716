"""The key rate of a scenario at one loss and one size of block: for finite and for unlimited data.

The lengths are those of ``qkdpp.estimation``, on expected counts. The leak of error correction is ``f_ec n h(E)`` for
the parities of one party; rule ``both`` charges those of both, so twice that. :func:`rate_bps` is the same rate for a
search: below zero where there is no key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qkdpp.core.errors import ConfigError
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
from qkdpp.estimation.bbm92 import Form
from qkdpp.estimation.claims import correction
from qkdpp.estimation.mismatch import Efficiencies, untagged_share
from qkdpp.estimation.security import error_penalty
from qkdpp.rate.expected import Expected, channel_loss_db, expected
from qkdpp.scenarios.scenario import Scenario

UNLIMITED_DETECTIONS = 1e17
"""Stands for unlimited data: even wrong detections of a weak decoy in a rare test basis are then many."""
VERIFICATION_BITS = 129
"""One tag and its outcome."""
SECONDS_PER_YEAR = 365.25 * 86400
_NOTHING = -1e30
"""Rate of a search where nothing is detected."""


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


def unequal_receivers(plan: Scenario) -> tuple[Efficiencies, ...]:
    """Receivers whose detectors are unequal, with efficiencies as a run of the scenario declares them."""
    receivers = [party.receiver for party in (plan.alice, plan.bob) if party is not None]
    return tuple(
        Efficiencies(values=(r.efficiency * 2)[:4], tolerance=0.0)  # type: ignore[arg-type]
        for r in receivers
        if len(set(r.efficiency)) > 1
    )


def block_seconds(plan: Scenario) -> float:
    """Duration of a block: ``rate.block_s``, or the whole run."""
    return plan.rate.block_s or plan.duration_s


def pulses_hz(plan: Scenario) -> float:
    """Pulses sent (pairs made) per second, the public string left out."""
    return expected(plan, 1.0).pulses


def evaluate(plan: Scenario, *, block_s: float | None = None, security: Security | None = None) -> Point:
    """Key rate of a scenario as it stands; change loss or source in the scenario first.

    Raises:
        ConfigError: intensities that the length formulas cannot take.
    """
    block = expected(plan, block_seconds(plan) if block_s is None else block_s)
    chosen = security_of(plan) if security is None else security
    leaks = _leaks(plan, block, chosen)
    lengths = _lengths(plan, block, leaks, chosen)
    secret = sum(length.secret_bits for length in lengths)
    keyed = _keyed(plan, block, chosen)
    bits = sum(n for n, _ in keyed)
    return Point(
        loss_db=channel_loss_db(plan),
        block_s=block.seconds,
        pulses=block.pulses,
        sifted_bits=bits,
        qber=sum(m for _, m in keyed) / bits if bits else 0.5,
        leak_bits=sum(leaks),
        secret_bits=secret,
        secret_bps=secret / block.seconds,
        asymptotic_bps=asymptotic_bps(plan, block, chosen),
        phase_error_upper=max(length.phase_error_upper for length in lengths),
        eps_year=accumulated(chosen.eps_total, math.ceil(SECONDS_PER_YEAR / block.seconds), plan.rate.hops),
        lengths=lengths,
    )


def rate_bps(plan: Scenario, block_s: float, security: Security, *, unlimited: bool = False) -> float:
    """Secret bits per second of blocks of ``block_s``, or with unlimited data, before rounding and clipping.

    Negative where there is no key, so that a search finds its way out.

    Raises:
        ConfigError: intensities that the length formulas cannot take.
    """
    block = expected(plan, block_s)
    if not block.n.any():
        return _NOTHING
    if unlimited:
        keys = _unlimited_bps(plan, block, security)
    else:
        lengths = _lengths(plan, block, _leaks(plan, block, security), security)
        keys = [length.value / block.seconds for length in lengths]
    return sum(key for key in keys if key > 0) or max(keys)


def asymptotic_bps(plan: Scenario, block: Expected, security: Security) -> float:
    """Secret bits per second in the limit of unlimited data."""
    return sum(max(key, 0.0) for key in _unlimited_bps(plan, block, security)) if block.n.any() else 0.0


def _unlimited_bps(plan: Scenario, block: Expected, security: Security) -> list[float]:
    """Rate with unlimited data of each keyed basis; negative where there is no key."""
    large = block.scaled(UNLIMITED_DETECTIONS / float(block.n.sum()))
    unlimited = _unlimited_bb84 if plan.protocol == "bb84" else _unlimited_bbm92
    leaks = _leaks(plan, large, security)
    return [(unlimited(plan, large, basis, security) - leak) / large.seconds for basis, leak in enumerate(leaks)]


def _unlimited_bb84(plan: Scenario, block: Expected, basis: int, security: Security) -> float:
    assert plan.source is not None
    counts = block.counts(plan.source.intensities, plan.source.p_intensity)
    receivers = correction(unequal_receivers(plan))
    if basis == 1:
        counts, receivers = counts.swapped(), tuple(receiver.swapped() for receiver in receivers)
    return unlimited_bits_bb84(counts, security, receivers=receivers)


def _unlimited_bbm92(plan: Scenario, block: Expected, basis: int, security: Security) -> float:
    receivers = correction(unequal_receivers(plan))
    keyed, tested = (float(block.n[b, 0]) * untagged_share(receivers, b) for b in (basis, 1 - basis))
    return keyed * (1 - error_penalty(float(block.m[1 - basis, 0]) / tested if tested else 0.5))


def _keyed(plan: Scenario, block: Expected, security: Security) -> list[tuple[float, float]]:
    """Bits that correction gets and their errors, of each keyed basis."""
    first = 1 if security.key_from == "signal" else None
    share = 1 - security.disclosed_signal
    return [
        (share * float(block.n[basis, :first].sum()), share * float(block.m[basis, :first].sum()))
        for basis in ((0, 1) if plan.rate.both_bases else (0,))
    ]


def _leaks(plan: Scenario, block: Expected, security: Security) -> list[int]:
    """Charge for error correction, of each keyed basis."""
    f_ec = plan.rate.f_ec * (2 if security.rule is Rule.BOTH else 1)
    keyed = _keyed(plan, block, security)
    return [math.ceil(f_ec * bits * binary_entropy(min(errors / bits, 0.5))) if bits else 0 for bits, errors in keyed]


def _lengths(plan: Scenario, block: Expected, leaks: list[int], security: Security) -> tuple[KeyLength, ...]:
    """Lengths of the keys, one for each keyed basis."""
    make = _bb84 if plan.protocol == "bb84" else _bbm92
    return make(plan, block, leaks, security)


def _bb84(plan: Scenario, block: Expected, leaks: list[int], security: Security) -> tuple[KeyLength, ...]:
    assert plan.source is not None
    counts = block.counts(plan.source.intensities, plan.source.p_intensity)
    receivers = correction(unequal_receivers(plan))
    if plan.rate.both_bases:
        return key_lengths_bb84_both(
            counts,
            leak_bits=(leaks[0], leaks[1]),
            verification_bits=(VERIFICATION_BITS, VERIFICATION_BITS),
            dropped_bits=(0, 0),
            security=security,
            receivers=receivers,
            foresee=False,
        )
    length = key_length_bb84(
        counts,
        leak_bits=leaks[0],
        verification_bits=VERIFICATION_BITS,
        dropped_bits=0,
        security=security,
        receivers=receivers,
        foresee=False,
    )
    return (length,)


def _bbm92(plan: Scenario, block: Expected, leaks: list[int], security: Security) -> tuple[KeyLength, ...]:
    if security.profile == "T":
        raise ConfigError('profile "T" is a formula of bb84; bbm92 has "V" and "L"')
    form: Form = "printed" if security.profile == "L" else "tight"
    n, m = (np.rint(table[:, 0]).astype(int).tolist() for table in (block.n, block.m))
    receivers = correction(unequal_receivers(plan))
    if plan.rate.both_bases:
        return key_lengths_bbm92_both(
            (n[0], n[1]),
            (m[0], m[1]),
            leak_bits=(leaks[0], leaks[1]),
            verification_bits=(VERIFICATION_BITS, VERIFICATION_BITS),
            dropped_bits=(0, 0),
            security=security,
            form=form,
            receivers=receivers,
            foresee=False,
        )
    length = key_length_bbm92(
        n[0],
        n[1],
        m[1],
        leak_bits=leaks[0],
        verification_bits=VERIFICATION_BITS,
        dropped_bits=0,
        security=security,
        form=form,
        receivers=receivers,
        foresee=False,
    )
    return (length,)
