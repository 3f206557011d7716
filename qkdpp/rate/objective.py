"""What an optimum is an optimum of: secret bits per second, below zero where there is no key.

The length before rounding and clipping, so that a search finds its way out of the region without a key. Nothing else
differs from ``qkdpp.rate.point``, which every reported rate comes from.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qkdpp.core.ledger import Rule
from qkdpp.estimation import Counts, Security, binary_entropy
from qkdpp.estimation.bb84 import length_value_bb84, unlimited_bits_bb84
from qkdpp.estimation.bbm92 import length_value_bbm92
from qkdpp.estimation.security import error_penalty
from qkdpp.rate.expected import Expected, expected
from qkdpp.rate.point import VERIFICATION_BITS
from qkdpp.scenarios.scenario import Scenario

UNLIMITED_DETECTIONS = 1e17
"""Stands for unlimited data: wrong detections of a weak decoy in a rare test basis must still be many."""
_NOTHING = -1e30


def rate_bps(plan: Scenario, block_s: float, security: Security, *, unlimited: bool = False) -> float:
    """Secret bits per second of blocks of ``block_s``, or with unlimited data; may be negative.

    Raises:
        ConfigError: intensities that the length formulas cannot take.
    """
    block = expected(plan, block_s)
    total = float(block.n.sum())
    if total <= 0:
        return _NOTHING
    if unlimited:
        block = block.scaled(UNLIMITED_DETECTIONS / total)
    both = plan.rate.both_bases
    chosen = replace(security, eps_sec=security.eps_sec / 2) if both and not unlimited else security
    keys = [_value(plan, block, chosen, basis, unlimited=unlimited) for basis in ((0, 1) if both else (0,))]
    positive = [key for key in keys if key > 0]
    return (sum(positive) if positive else max(keys)) / block.seconds


def _value(plan: Scenario, block: Expected, security: Security, basis: int, *, unlimited: bool) -> float:
    """Bits of the key of one basis, tested with the other one."""
    make = _bb84 if plan.protocol == "bb84" else _bbm92
    bits = make(plan, block, security, basis, unlimited=unlimited)
    return bits - _leak_bits(plan, block, security, basis) - (0 if unlimited else VERIFICATION_BITS)


def _leak_bits(plan: Scenario, block: Expected, security: Security, basis: int) -> float:
    first = 1 if plan.security.key_from == "signal" else None
    n, m = (float(table[basis, :first].sum()) for table in (block.n, block.m))
    if n <= 0:
        return 0.0
    parties = 2 if security.rule is Rule.BOTH else 1
    return parties * plan.rate.f_ec * (1 - security.disclosed_signal) * n * binary_entropy(min(m / n, 0.5))


def _bb84(plan: Scenario, block: Expected, security: Security, basis: int, *, unlimited: bool) -> float:
    assert plan.source is not None
    counts: Counts = block.counts(plan.source.intensities, plan.source.p_intensity)
    turned = counts.swapped() if basis else counts
    return unlimited_bits_bb84(turned, security) if unlimited else length_value_bb84(turned, security)


def _bbm92(plan: Scenario, block: Expected, security: Security, basis: int, *, unlimited: bool) -> float:
    n, m = (np.rint(table[:, 0]).astype(int).tolist() for table in (block.n, block.m))
    if unlimited:
        return float(n[basis] * (1 - error_penalty(m[1 - basis] / n[1 - basis] if n[1 - basis] else 1.0)))
    return length_value_bbm92(n[basis], n[1 - basis], m[1 - basis], security)
