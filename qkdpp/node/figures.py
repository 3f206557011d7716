"""Figures of a block that has ended, as one party sees them: a row of the run folder, and what the monitors judge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Aborted
from qkdpp.core.tags import AS_PER_S
from qkdpp.node.monitors import BlockFigures
from qkdpp.node.rundir import utc_now
from qkdpp.node.sink import BlockEnd
from qkdpp.protocols.bb84 import matched_counts
from qkdpp.protocols.parameters import Parameters
from qkdpp.sifting.bb84 import Sifted
from qkdpp.timing.detect import Detections
from qkdpp.timing.pulsed import Recovered


def row_of(end: BlockEnd, parameters: Parameters) -> dict[str, Any]:
    """One row (columns of ``qkdpp.node.rundir``); what this party does not know is left out."""
    log = end.log
    row: dict[str, Any] = {
        "block": end.block,
        "epoch": log.facts.get("epoch"),
        "time": utc_now(),
        "tags": log.facts.get("tags"),
        "secret_bits": 0 if isinstance(end.result, Aborted) else len(end.result),
        "pool_bits": end.pool_bits,
        "abort": end.result.reason.value if isinstance(end.result, Aborted) else None,
        "messages": sum(traffic.messages for traffic in end.traffic.values()),
        "bytes": sum(traffic.n_bytes for traffic in end.traffic.values()),
        "stage_seconds": {mark.name: round(mark.seconds, 4) for mark in log.stages},
    }
    found, recovered = log.facts.get("detections"), log.facts.get("recovered")
    if isinstance(found, Detections):
        row["detections"] = len(found)
    if isinstance(recovered, Recovered):
        row["clock_residual_ps"] = round(recovered.report.residual_rms_ps, 2)
        row["clock_rate_ppm"] = round(recovered.report.line_rate_ppm, 6)
    sifted = log.facts.get("sifted")
    if isinstance(sifted, Sifted):
        row |= _sifted(sifted, end, parameters)
    return row


def _sifted(sifted: Sifted, end: BlockEnd, parameters: Parameters) -> dict[str, Any]:
    n, wrong = tested(sifted, end)
    row: dict[str, Any] = {
        "seconds": sifted.n_pulses * _period_as(parameters) / AS_PER_S,
        "sifted_bits": len(sifted.key),
        "qber": _ratio(int(wrong[0].sum()), int(n[0].sum())),
        "qber_z": _ratio(int(wrong[0, 0]), int(n[0, 0])),
        "qber_x": _ratio(int(wrong[0, 1]), int(n[0, 1])),
    }
    if end.log.costs is not None:
        leak = end.log.costs[0]
        row["leak_bits"] = leak
        qber = _ratio(int(end.log.costs[3].sum()), len(sifted.key))
        if qber:
            entropy = -qber * np.log2(qber) - (1 - qber) * np.log2(1 - qber)
            row["f_ec"] = round(float(leak / (len(sifted.key) * entropy)), 4)
    return row


def _period_as(parameters: Parameters) -> int:
    return 0 if parameters.source is None else parameters.source.pulse_period_as


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def tested(sifted: Sifted, end: BlockEnd) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Detections of equal bases and errors among them by intensity and basis, int64[K, 2]: disclosed ones and key."""
    n, wrong = matched_counts(sifted.disclosed)
    by_cell, errors = n.T.copy(), wrong.T.copy()
    if end.log.costs is not None:
        by_cell[:, 0] += sifted.key_counts
        errors[:, 0] += end.log.costs[3]
    return by_cell, errors


def figures_of(end: BlockEnd, parameters: Parameters) -> BlockFigures | None:
    """What the receiver's monitors judge; None of a block that has no detections."""
    found, sifted = end.log.facts.get("detections"), end.log.facts.get("sifted")
    if not isinstance(found, Detections) or not isinstance(sifted, Sifted):
        return None
    n, wrong = tested(sifted, end)
    counters = found.counters
    return BlockFigures(
        seconds=sifted.n_pulses * _period_as(parameters) / AS_PER_S,
        detections=np.bincount(found.basis << 1 | found.bit, minlength=4).astype(np.int64),
        efficiency=np.array(parameters.detectors.bob or [1.0] * 4),
        double_clicks=counters.double_same_basis + counters.double_cross_basis,
        slots=sifted.n_pulses,
        lost_share=counters.lost / max(counters.detector_tags, 1),
        tested=n,
        wrong=wrong,
        aborted=end.result.reason if isinstance(end.result, Aborted) else None,
    )
