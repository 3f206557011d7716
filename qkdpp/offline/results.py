"""From the ends of both parties to the report (schema: ``docs/formats/report.md``).

This is the one place that sees both sides; it runs after the block has ended
and decides nothing about the keys.
"""

from __future__ import annotations

import itertools
import resource
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Aborted, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.tags import AS_PER_PS, AS_PER_S
from qkdpp.estimation import Claim, Declared, Evidence, accumulated, assess
from qkdpp.estimation.mismatch import untagged_share
from qkdpp.offline import balance
from qkdpp.offline.accounts import accounts, eps_auth_spent
from qkdpp.offline.drift import drift_fields, separate_fields
from qkdpp.offline.drive import Outcome
from qkdpp.offline.inputs import Inputs, Recorded
from qkdpp.offline.runfile import DETECTORS, RunFile
from qkdpp.offline.series import rates
from qkdpp.protocols import bb84
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.parameters import Source
from qkdpp.sifting.bb84 import Sifted
from qkdpp.sifting.bbm92 import SiftedPairs
from qkdpp.timing.detect import Detections
from qkdpp.timing.pair_values import Coincidences, Matched
from qkdpp.timing.pulsed import Recovered

Fields: TypeAlias = dict[str, Any]
Matrix: TypeAlias = NDArray[np.int64]
FORMAT = 1
SECONDS_PER_YEAR = 31_557_600
_ABSENT: Fields = {"claim": None, "sifted_bits": 0, "key_basis_bits": 0, "matrix": None, "counters": None} | {
    "qber": {"total": None, "by_basis": {"Z": None, "X": None}, "by_intensity": []},
    "announcement_bits_per_detection": None,
}
"""What a block that ended early leaves open."""


def report(run: RunFile, inputs: Inputs, outcome: Outcome, *, from_s: float | None, to_s: float | None) -> Fields:
    """The report of a block, as plain JSON values."""
    security = run.parameters.security
    eps_total = bb84.security(run.parameters).eps_total
    fields: Fields = {
        "format": FORMAT,
        "protocol": run.parameters.protocol,
        "run": {
            "name": run.folder.resolve().name if run.path.name == "run.toml" else run.path.stem,
            "from_s": from_s,
            "to_s": to_s,
            "duration_s": _duration_s(inputs),
        },
        "tags_read": _by_party(inputs, lambda recorded: len(recorded.tags)),
        "lost_tags": _by_party(inputs, _lost),
        "reading": _by_party(inputs, lambda recorded: list(recorded.warnings)),
        "eps_sec": security.eps_sec,
        "eps_cor": security.eps_cor,
        "eps_auth": security.eps_auth,
        "eps_total": eps_total,
        "eps_accumulated_year": _eps_year(eps_total, _duration_s(inputs), 1),
        "accumulated": {
            "blocks_per_year": _blocks_per_year(_duration_s(inputs)),
            "hops": security.hops,
            "eps_year": _eps_year(eps_total, _duration_s(inputs), security.hops),
        },
        "mismatch": _mismatch(run),
        "abort": balance.abort_fields(outcome.aborted),
        "stages": _stages(inputs, outcome.bob_log),
        "messages": _traffic(outcome),
        "health": {"alice": balance.health_fields(outcome.alice_log), "bob": balance.health_fields(outcome.bob_log)},
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "versions": balance.versions(),
    }
    if run.parameters.protocol == "bb84":
        fields |= _bb84(run, inputs, outcome)
    else:
        fields |= _bbm92(run, inputs, outcome)
    fields = _ABSENT | fields
    if fields["clock"] is None and outcome.aborted is not None:
        fields["clock"] = _no_clock(run, outcome.aborted)
    fields |= accounts(run, outcome, fields)
    return {name: balance.plain(value) for name, value in fields.items()}


def _no_clock(run: RunFile, aborted: Aborted) -> Fields | None:
    """Lock state of a block that never locked, with what the search found."""
    if aborted.reason is not AbortReason.NO_LOCK:
        return None
    found = {name: balance.plain(value) for name, value in aborted.evidence.items()}
    return {
        "method": run.parameters.timing.method,
        "time_s": [],
        "offset_s": [],
        "rate_ppm": [],
        "residual_rms_ps": None,
        "significance": found.get("significance"),
        "locked_share": 0.0,
        "notes": [f"{name.replace('_', ' ')}: {value}" for name, value in found.items()],
    }


def _duration_s(inputs: Inputs) -> float:
    return max(0.0, inputs.bob.tags.duration_s - inputs.from_s)


def _blocks_per_year(block_s: float) -> int | None:
    return round(SECONDS_PER_YEAR / block_s) if block_s > 0 else None


def _eps_year(eps_total: float, block_s: float, hops: int) -> float | None:
    """Failure of a year of blocks like this one, one after the other, on every hop: errors add."""
    blocks = _blocks_per_year(block_s)
    return None if blocks is None else accumulated(eps_total, blocks, hops)


def _mismatch(run: RunFile) -> Fields | None:
    """Declared detector efficiencies and the shares of detections that count after correction."""
    detectors = run.parameters.detectors
    if not (declared := detectors.efficiencies()):
        return None
    receivers = run.parameters.receivers()
    return {
        "efficiencies": {party: list(receiver.values) for party, receiver in declared.items()},
        "tolerance": detectors.tolerance,
        "corrected": bool(receivers),
        "untagged": {name: untagged_share(tuple(declared.values()), b) for b, name in enumerate("ZX")},
    }


def _by_party(inputs: Inputs, value: Any) -> Fields:  # noqa: ANN401 - any function of a recording
    return {"alice": None if inputs.alice is None else value(inputs.alice), "bob": value(inputs.bob)}


def _lost(recorded: Recorded) -> Fields:
    span = sum(end - start for start, end in recorded.tags.lost)
    return {
        "intervals": len(recorded.tags.lost),
        "seconds": span * recorded.tags.tick_as / AS_PER_S,
        "reported_by_instrument": recorded.stats.lost_tags_reported,
    }


def _stages(inputs: Inputs, log: BlockLog) -> list[Fields]:
    n = len(inputs.bob.tags)
    return [{"name": "tags", "seconds": 0.0, "count": n, "lost": 0}, *balance.stage_fields(log)]


def _traffic(outcome: Outcome) -> Fields:
    sides = [outcome.alice_endpoint.traffic("alice"), outcome.alice_endpoint.traffic("bob")]
    turns = [record.side for record in outcome.alice_endpoint.transcript]
    return {
        "count": sum(side.messages for side in sides),
        "bytes": sum(side.n_bytes for side in sides),
        "round_trips": sum(a != b for a, b in itertools.pairwise(turns)) // 2,
    }


# --- per protocol ---------------------------------------------------------------------------------------------------


def _bb84(run: RunFile, inputs: Inputs, outcome: Outcome) -> Fields:
    log = outcome.bob_log
    recovered, found, sifted = (log.facts.get(name) for name in ("recovered", "detections", "sifted"))
    fields: Fields = {"clock": None, "delays_ps": None, "detections": 0, "plots": {}}
    fields["drift"] = drift_fields(run.parameters, log)
    if isinstance(recovered, Recovered):
        fields["clock"] = recovered.report
        fields["delays_ps"] = {"alice": None, "bob": _delays(run, recovered, inputs.bob.tags.tick_as)}
    if isinstance(found, Detections):
        fields["detections"] = len(found)
        fields["counters"] = found.counters
        fields["plots"]["arrival"] = {
            "detectors": list(DETECTORS),
            "edge_ps": found.histogram_edges_ps,
            "counts": found.histogram,
            "gate_ps": run.parameters.timing.gate_ps,
        }
    theirs = outcome.alice_log.facts.get("sifted")
    if isinstance(sifted, Sifted) and isinstance(theirs, Sifted) and isinstance(found, Detections):
        fields |= _bb84_sifted(run, outcome, (theirs, sifted), found, whole=inputs.whole)
        fields["plots"]["series"] = _bb84_series(run, sifted, theirs, found)
        if fields["drift"] is not None:
            slots, _, _ = bb84.without_string(found, run.parameters)
            wrong = (theirs.key ^ sifted.key).to_array().astype(bool)
            fields["drift"] |= separate_fields(run.parameters, sifted, slots, wrong)
    return fields


def _delays(run: RunFile, recovered: Recovered, tick_as: int) -> Fields:
    names = {code: name for name, code in DETECTORS.items()}
    return {
        names[code]: recovered.delay_ticks[channel] * tick_as / AS_PER_PS
        for channel, code in run.bob.detectors("bob").items()
        if channel in recovered.delay_ticks
    }


def _bb84_series(run: RunFile, bob: Sifted, alice: Sifted, found: Detections) -> Fields | None:
    times = _announced_times(run, found)
    return rates(times, times[bob.key_index], (alice.key ^ bob.key).to_array().astype(bool))


def _bb84_sifted(
    run: RunFile, outcome: Outcome, sides: tuple[Sifted, Sifted], found: Detections, *, whole: bool
) -> Fields:
    alice, bob = sides
    cells = _key_cells(alice.key, bob.key)
    matrix = bob.disclosed.sum(axis=0) + cells
    wrong = (alice.key ^ bob.key).to_array().astype(bool)
    source = run.parameters.source
    by_intensity = (
        []
        if source is None
        else [
            {"intensity": mean, **_intensity(bob, wrong, k, source, whole=whole)}
            for k, mean in enumerate(source.intensities)
        ]
    )
    evidence = Evidence(
        matrix=matrix,
        bases=matrix.reshape(2, 2, 2, 2).sum(axis=(1, 3)),
        sent=bob.sent,
        detections=len(found),
        double_clicks=found.counters.double_same_basis,
        cross_basis_clicks=found.counters.double_cross_basis,
    )
    n, m = _rates(matrix)
    return {
        "sifted_bits": int(n.sum()),
        "key_basis_bits": len(bob.key),
        "qber": {**_qber(n, m), "by_intensity": by_intensity},
        "matrix": matrix,
        "sent": {"pulses": bob.n_pulses, "by_intensity_basis_bit": bob.sent},
        "mismatched_basis": {"n": int(matrix[:2, 2:].sum() + matrix[2:, :2].sum())},
        "announcement_bits_per_detection": bob.announcement_bits / bob.n_announced,
        "not_held": bob.not_held,
        "claim": _claim(run, outcome, evidence, whole=whole),
    }


def _announced_times(run: RunFile, found: Detections) -> NDArray[np.float32]:
    string = run.parameters.sync_string
    if string is None:
        return found.time_s
    times: NDArray[np.float32] = found.time_s[~string.build().mask(found.slots)]
    return times


def _intensity(sifted: Sifted, wrong: NDArray[np.bool_], k: int, source: Source, *, whole: bool) -> Fields:
    """Counts, error rates and gains at one intensity; no gains where only a part of the recording was used."""
    n, m = _rates(sifted.disclosed[k])
    n[0] += int(sifted.key_counts[k])
    m[0] += int(wrong[sifted.key_intensity == k].sum())
    fields: Fields = {"n_z": n[0], "qber_z": _ratio(m[0], n[0]), "n_x": n[1], "qber_x": _ratio(m[1], n[1])}
    p_bob = (source.p_z_bob, 1.0 - source.p_z_bob)
    for basis, name in enumerate("zx"):
        sent = int(sifted.sent[k, basis].sum()) if whole else 0
        fields[f"gain_{name}"] = _ratio(int(n[basis]), sent * p_bob[basis])
    return fields


def _bbm92(run: RunFile, inputs: Inputs, outcome: Outcome) -> Fields:
    matched, theirs = (log.facts.get("matched") for log in (outcome.bob_log, outcome.alice_log))
    fields: Fields = {"clock": None, "delays_ps": None, "detections": 0, "plots": {}}
    fields["drift"] = drift_fields(run.parameters, outcome.bob_log)
    if not isinstance(matched, Matched) or not isinstance(theirs, Matched) or inputs.alice is None:
        return fields
    fields["clock"] = matched.clock
    fields["detections"] = len(matched)
    fields["counters"] = {"alice": theirs.counters, "bob": matched.counters}
    fields["delays_ps"] = {
        "alice": _pair_delays(theirs, inputs.alice.tags.tick_as),
        "bob": _pair_delays(matched, inputs.bob.tags.tick_as),
    }
    if matched.coincidences is not None:
        fields["coincidences"] = {
            name: getattr(matched.coincidences, name)
            for name in ("accidentals", "calibration_pairs", "delay_residual_ps", "spread_ps")
        }
        fields["plots"]["pairs"] = _pair_plots(matched.coincidences, run.parameters.timing.gate_ps)
    bob, alice = (log.facts.get("sifted") for log in (outcome.bob_log, outcome.alice_log))
    if isinstance(bob, SiftedPairs) and isinstance(alice, SiftedPairs):
        fields |= _bbm92_sifted(run, outcome, (alice, bob), (theirs, matched), whole=inputs.whole)
        fields["plots"]["series"] = _pair_series(bob, alice, matched)
    return fields


def _pair_plots(found: Coincidences, gate_ps: float) -> Fields:
    return {
        "edge_ps": found.pair_histograms.edges_ps,
        "counts": found.pair_histograms.counts,
        "coincidence": {"edge_ps": found.edges_ps, "counts": found.counts},
        "window_ps": gate_ps,
    }


def _announcement(outcome: Outcome) -> int:
    """Bits on the wire that announce slots, matches and bases."""
    names = {"AnnouncedSlots", "MatchedSlots", "PairBases"}
    return 8 * sum(len(record.body) for record in outcome.alice_endpoint.transcript if record.name in names)


def _pair_delays(matched: Matched, tick_as: int) -> Fields:
    return {name: matched.delays_ticks[code] * tick_as / AS_PER_PS for name, code in DETECTORS.items()}


def _pair_series(bob: SiftedPairs, alice: SiftedPairs, matched: Matched) -> Fields | None:
    index = np.concatenate([bob.key_index, bob.test_index])
    wrong = np.concatenate([(alice.key ^ bob.key).to_array().astype(bool), bob.test_wrong])
    return rates(matched.time_s, matched.time_s[index], wrong)


def _bbm92_sifted(
    run: RunFile,
    outcome: Outcome,
    sides: tuple[SiftedPairs, SiftedPairs],
    receivers: tuple[Matched, Matched],
    *,
    whole: bool,
) -> Fields:
    alice, bob = sides
    n_matched = len(receivers[0])
    matrix = bob.disclosed + _key_cells(alice.key, bob.key)
    n, m = _rates(matrix)
    evidence = Evidence(
        matrix=matrix,
        bases=matrix.reshape(2, 2, 2, 2).sum(axis=(1, 3)),
        detections=n_matched,
        double_clicks=max(receiver.counters.double_same_basis for receiver in receivers),
        cross_basis_clicks=sum(receiver.counters.double_cross_basis for receiver in receivers),
    )
    return {
        "sifted_bits": int(n.sum()),
        "key_basis_bits": len(bob.key),
        "qber": {**_qber(n, m), "by_intensity": []},
        "matrix": matrix,
        "announcement_bits_per_detection": _announcement(outcome) / max(n_matched, 1),
        "claim": _claim(run, outcome, evidence, whole=whole),
    }


# --- shared ---------------------------------------------------------------------------------------------------------


def _key_cells(alice: Bits, bob: Bits) -> Matrix:
    """The ZZ corner of the matrix that the keyed detections fill, int64[4, 4]."""
    cells = np.zeros((4, 4), dtype=np.int64)
    pair = alice.to_array() * 2 + bob.to_array()
    cells[:2, :2] = np.bincount(pair, minlength=4).reshape(2, 2)
    return cells


def _rates(matrix: Matrix) -> tuple[Matrix, Matrix]:
    blocks = [matrix[2 * b : 2 * b + 2, 2 * b : 2 * b + 2] for b in (0, 1)]
    return (
        np.array([block.sum() for block in blocks], dtype=np.int64),
        np.array([block[0, 1] + block[1, 0] for block in blocks], dtype=np.int64),
    )


def _ratio(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole else None


def _qber(n: Matrix, m: Matrix) -> Fields:
    return {"total": _ratio(m.sum(), n.sum()), "by_basis": {"Z": _ratio(m[0], n[0]), "X": _ratio(m[1], n[1])}}


def _claim(run: RunFile, outcome: Outcome, evidence: Evidence, *, whole: bool) -> Claim:
    source = run.parameters.source
    return assess(
        Declared(
            protocol=run.parameters.protocol,
            test_mode=outcome.test_mode,
            phase_randomised=source is not None and source.phase_randomised,
            intensities_declared=source is not None and source.intensities_declared,
            receiver=source.receiver if source is not None else "passive",
            squashing_map=run.parameters.timing.squashing_map,
            double_click_rule=run.parameters.timing.double_click,
            blank_all=run.parameters.timing.dead_time_ns > 0,
            variable_length=run.parameters.security.profile == "V",
            efficiencies=run.parameters.detectors.efficiencies(),
            eps_auth=run.parameters.security.eps_auth,
            eps_auth_spent=eps_auth_spent(outcome),
            p_z_alice=None if source is None else source.p_z_alice,
            p_z_bob=None if source is None else source.p_z_bob,
            whole_recording=whole,
            pool="throw_away" if outcome.throw_away else "persistent",
        ),
        evidence,
    )
