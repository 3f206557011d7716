"""Figures of a block that has ended, as one party sees them: a row of the run folder, and what the monitors judge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Aborted
from qkdpp.core.ledger import Side
from qkdpp.core.tags import AS_PER_PS, AS_PER_S
from qkdpp.node.monitors import BlockFigures
from qkdpp.node.rundir import utc_now
from qkdpp.node.sink import BlockEnd
from qkdpp.protocols.bb84 import matched_counts, without_string
from qkdpp.protocols.parameters import Parameters
from qkdpp.sifting.bb84 import Sifted, tally
from qkdpp.sifting.bbm92 import SiftedPairs
from qkdpp.timing.detect import Detections
from qkdpp.timing.pair_values import Matched
from qkdpp.timing.pulsed import Recovered


def row_of(end: BlockEnd, parameters: Parameters) -> dict[str, Any]:
    """One row (columns of ``qkdpp.node.rundir``); what this party does not know is left out."""
    log = end.log
    row: dict[str, Any] = {
        "block": end.block,
        "epoch": log.facts.get("epoch"),
        "time": utc_now(),
        "tags": log.facts.get("tags"),
        "seconds": log.facts.get("seconds"),
        "lost_share": log.facts.get("lost_share"),
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
        row["seconds"] = sifted.n_pulses * _period_as(parameters) / AS_PER_S
    if isinstance(sifted, Sifted | SiftedPairs):
        row |= _sifted(sifted, end)
    return row


def _sifted(sifted: Sifted | SiftedPairs, end: BlockEnd) -> dict[str, Any]:
    n, wrong = tested(sifted, end)
    row: dict[str, Any] = {
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


def tested(sifted: Sifted | SiftedPairs, end: BlockEnd) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Detections of equal bases and errors among them by intensity and basis, int64[K, 2]: disclosed ones and key.

    Pairs: one row, the key where correction has counted its errors, and the disclosed basis X.
    """
    if isinstance(sifted, SiftedPairs):
        keyed = (0, 0) if end.log.costs is None else (len(sifted.key), int(end.log.costs[3].sum()))
        return (
            np.array([[keyed[0], sifted.n_test]], dtype=np.int64),
            np.array([[keyed[1], sifted.test_errors]], dtype=np.int64),
        )
    n, wrong = matched_counts(sifted.disclosed)
    by_cell, errors = n.T.copy(), wrong.T.copy()
    if end.log.costs is not None:
        by_cell[:, 0] += sifted.key_counts
        errors[:, 0] += end.log.costs[3]
    return by_cell, errors


def errors_since(
    found: Detections, sifted: Sifted, parameters: Parameters, first_slot: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Disclosed detections of equal bases and errors among them by basis, int64[2], from a slot of the block on.

    Intensities without light are left out.
    """
    source = parameters.source
    if source is None or sifted.disclosed_index is None or sifted.disclosed_cell is None:
        return np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
    slots, _, _ = without_string(found, parameters)
    cells = sifted.disclosed_cell[slots[sifted.disclosed_index] >= first_slot]
    counts = tally(cells, len(source.intensities))[np.array(source.intensities) > 0.0]
    return matched_counts(counts.sum(axis=0))


def figures_of(end: BlockEnd, parameters: Parameters, role: Side) -> BlockFigures | None:
    """What the monitors of a receiver judge; None of a block that has no detections."""
    facts = end.log.facts
    found, matched, seconds = facts.get("detections"), facts.get("matched"), facts.get("seconds")
    if not isinstance(seconds, float):
        return None
    efficiency = np.array((parameters.detectors.alice if role == "alice" else parameters.detectors.bob) or [1.0] * 4)
    if isinstance(found, Detections):
        return _pulsed(found, end, parameters, efficiency, seconds)
    clicks = facts.get("clicks")
    if isinstance(matched, Matched) and isinstance(clicks, np.ndarray):
        return _pairs(matched, clicks, end, parameters, efficiency=efficiency, seconds=seconds)
    return None


def _pulsed(
    found: Detections, end: BlockEnd, parameters: Parameters, efficiency: NDArray[np.float64], seconds: float
) -> BlockFigures:
    clicks = np.bincount(found.basis << 1 | found.bit, minlength=4).astype(np.int64)
    background = background_of(found)
    cells, wrong, noise = _no_cells()
    sifted, source = end.log.facts.get("sifted"), parameters.source
    period_as = _period_as(parameters)
    if isinstance(sifted, Sifted) and source is not None:
        cells, wrong = tested(sifted, end)
        in_gate = background * min(1.0, parameters.timing.gate_ps * AS_PER_PS / period_as)
        p_basis = np.array([source.p_z_alice, 1.0 - source.p_z_alice])
        noise = np.outer(source.p_intensity, p_basis * in_gate.reshape(2, 2).sum(axis=1))
    lost_share, live_s = _live(end, seconds)
    p = clicks * period_as / AS_PER_S / live_s
    return BlockFigures(
        seconds=seconds,
        detections=clicks,
        efficiency=efficiency,
        double_clicks=found.counters.double_same_basis + found.counters.double_cross_basis,
        doubles_due=float((p.sum() ** 2 - (p**2).sum()) / 2 * live_s * AS_PER_S / period_as),
        lost_share=lost_share,
        tested=cells,
        wrong=wrong,
        noise=noise,
        dark_hz=tuple((background / live_s).tolist()),
    )


def _live(end: BlockEnd, seconds: float) -> tuple[float, float]:
    """Share of a block's time of which tags were lost, and the rest of it in seconds."""
    lost_share = float(end.log.facts.get("lost_share", 0.0))  # type: ignore[arg-type]
    return lost_share, seconds * max(1.0 - lost_share, 1e-9)


def background_of(found: Detections) -> NDArray[np.float64]:
    """Clicks of each detector that come at any time, float64[4]: twice those in the half of a slot far from pulses."""
    centres = (found.histogram_edges_ps[1:] + found.histogram_edges_ps[:-1]) / 2
    far = np.abs(centres) >= found.histogram_edges_ps[-1] / 2
    return np.asarray(found.histogram[:, far].sum(axis=1) * (far.size / far.sum()))


def _pairs(
    matched: Matched,
    clicks: NDArray[np.int64],
    end: BlockEnd,
    parameters: Parameters,
    *,
    efficiency: NDArray[np.float64],
    seconds: float,
) -> BlockFigures:
    """Detections are all clicks, with a partner or not. Double clicks due: two of them within a window."""
    cells, wrong, noise = _no_cells()
    sifted, counters = end.log.facts.get("sifted"), matched.counters
    if isinstance(sifted, SiftedPairs):
        cells, wrong = tested(sifted, end)
        noise = np.zeros(cells.shape)
    window_s = parameters.timing.gate_ps * AS_PER_PS / AS_PER_S
    lost_share, live_s = _live(end, seconds)
    return BlockFigures(
        seconds=seconds,
        detections=clicks,
        efficiency=efficiency,
        double_clicks=counters.double_same_basis + counters.double_cross_basis,
        doubles_due=counters.detector_tags**2 * window_s / live_s,
        lost_share=lost_share,
        tested=cells,
        wrong=wrong,
        noise=noise,
    )


def _no_cells() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    return np.zeros((1, 2), dtype=np.int64), np.zeros((1, 2), dtype=np.int64), np.zeros((1, 2))
