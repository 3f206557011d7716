"""The division of ``eps_sec`` that suits a link: from expected counts, to be fixed before the first block."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np

from qkdpp.estimation import Split, optimised_split, optimised_split_bbm92
from qkdpp.estimation.claims import correction
from qkdpp.rate.expected import expected
from qkdpp.rate.optimise import Task
from qkdpp.rate.parameters import Values, with_values
from qkdpp.rate.point import rate_bps, unequal_receivers


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitGain:
    """A division for ``[security.split]`` of a run.

    Attributes:
        smoothing: ``kappa / eps_sec``.
        weights: relative share of each statement.
        secret_bps: rate with it.
        gain: relative to the equal division.
    """

    smoothing: float
    weights: dict[str, float]
    secret_bps: float
    gain: float

    def toml(self) -> list[str]:
        """Lines of a run file."""
        lines = ["[security.split]", f"smoothing = {self.smoothing:g}"]
        if self.weights:
            lines += ["", "[security.split.weights]"]
        return lines + [f"{json.dumps(name)} = {weight:g}" for name, weight in self.weights.items()]


def predicted_split(asked: Task, values: Values) -> SplitGain | None:
    """The best division for a link with these parameters; None without a key, or if the profile has none to choose."""
    plan, security = with_values(asked.plan, values), asked.security
    plain = asked.rate(values)
    if security.profile != "V" or asked.unlimited or plain <= 0:
        return None
    block = expected(plan, asked.block_s)
    one = replace(security, eps_sec=security.eps_sec / 2) if plan.rate.both_bases else security
    if plan.source is not None:
        counts = block.counts(plan.source.intensities, plan.source.p_intensity)
        split = optimised_split(counts, one, receivers=correction(unequal_receivers(plan)))
    else:
        n, m = (np.rint(table[:, 0]).astype(int).tolist() for table in (block.n, block.m))
        split = optimised_split_bbm92(n[0], n[1], m[1], one)
    better = rate_bps(plan, asked.block_s, replace(security, split=split))
    if better <= plain:
        split, better = Split(), plain
    return SplitGain(smoothing=split.smoothing, weights=dict(split.weights), secret_bps=better, gain=better / plain - 1)
