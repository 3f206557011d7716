"""Key lengths and key rates: how long an evaluation takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qkdpp.bench.workload import Effort, Workload
from qkdpp.estimation import Counts, KeyLength, Security, key_length_bb84, key_length_bbm92
from qkdpp.rate.expected import expected
from qkdpp.rate.point import block_seconds, evaluate, security_of
from qkdpp.scenarios.scenario_file import load

AREA = "estimation"
PULSED, PAIRS = "backbone-625mhz", "pair-lab"
LEAK_SHARE = 0.1
"""Leak of error correction over the bits of the key; its value does not change the work."""

Length = tuple[Counts, int, Security]
PairLength = tuple[int, int, int, int, Security]


def workloads(effort: Effort) -> list[Workload]:
    """The rows of this area, the same at every effort."""
    del effort
    return [
        _row("key_length_bb84", PULSED, _pulsed_counts, _bb84),
        _row("key_length_bbm92", PAIRS, _pair_counts, _bbm92),
        _row("rate point", PULSED, lambda: load(PULSED), evaluate),
        _row("rate point", PAIRS, lambda: load(PAIRS), evaluate),
    ]


def _row(kernel: str, scenario: str, prepare: Callable[[], Any], run: Callable[[Any], object]) -> Workload:
    return Workload(
        area=AREA, kernel=kernel, size=scenario, amount=1, unit="call", tier="numpy", prepare=prepare, run=run
    )


def _pulsed_counts() -> Length:
    plan = load(PULSED)
    assert plan.source is not None
    counts = expected(plan, block_seconds(plan)).counts(plan.source.intensities, plan.source.p_intensity)
    return counts, int(LEAK_SHARE * counts.n[0].sum()), security_of(plan)


def _bb84(data: Length) -> KeyLength:
    counts, leak, security = data
    return key_length_bb84(counts, leak_bits=leak, verification_bits=129, dropped_bits=0, security=security)


def _pair_counts() -> PairLength:
    plan = load(PAIRS)
    block = expected(plan, block_seconds(plan))
    n, errors = (np.rint(table[:, 0]).astype(int).tolist() for table in (block.n, block.m))
    return n[0], n[1], errors[1], int(LEAK_SHARE * n[0]), security_of(plan)


def _bbm92(data: PairLength) -> KeyLength:
    n_key, n_test, errors, leak, security = data
    return key_length_bbm92(
        n_key, n_test, errors, leak_bits=leak, verification_bits=129, dropped_bits=0, security=security
    )
