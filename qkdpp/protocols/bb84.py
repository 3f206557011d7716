"""Decoy-state BB84: the order of the stages for Alice and for Bob.

    clock, gate -> sifting -> correction -> verification -> key length -> amplification

Alice is given her record of prepared states, Bob his detections; each keeps
notes in its own log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Bits
from qkdpp.core.errors import LocalProtocolError
from qkdpp.core.stage import Stage
from qkdpp.estimation import Counts, KeyLength, Security, key_length_bb84
from qkdpp.estimation.drift import SEGMENTS, Segments, segment_of
from qkdpp.protocols.conditions import charged, hear_clicks, judge_drift, tell_clicks
from qkdpp.protocols.distillation import LengthRule, Party, SiftedKey, distil, hello
from qkdpp.protocols.parameters import Parameters, Source
from qkdpp.sifting import bb84 as sifting
from qkdpp.sifting.bb84 import PreparedStates, Rules, Sifted
from qkdpp.timing.detect import Detections


def rules(parameters: Parameters) -> Rules:
    """What becomes key under these parameters."""
    source = _source(parameters)
    signal_only = parameters.security.key_from == "signal"
    return Rules(
        n_intensities=len(source.intensities),
        key_intensities=1 if signal_only else len(source.intensities),
        disclose_share=parameters.security.disclose_signal,
    )


def security(parameters: Parameters) -> Security:
    """The security section in the words of ``qkdpp.estimation``."""
    return parameters.security.estimation()


def alice(record: PreparedStates, party: Party) -> Stage[Bits]:
    """Alice's block: her secret key, or an abort."""
    party.log.start()
    party.log.facts["test_mode"] = record.test_mode
    yield from hello(party)
    sifted = yield from sifting.alice(record, rules(party.parameters), party.entropy)
    cross_basis = yield from hear_clicks()
    return (yield from _distil(sifted, charged(party, sifted.disclosed.sum(axis=0), cross_basis)))


def bob(detect: Callable[[], Detections], party: Party) -> Stage[Bits]:
    """Bob's block: ``detect`` recovers the clock and gates his tags."""
    party.log.start()
    yield from hello(party)
    found = detect()
    slots, basis, bit = without_string(found, party.parameters)
    party.log.mark("announced", int(slots.size), int(found.slots.size - slots.size))
    sifted = yield from sifting.bob(slots, basis, bit, rules(party.parameters))
    judge_drift(segments(sifted, slots), party)
    cross_basis = yield from tell_clicks(found.counters.double_cross_basis)
    return (yield from _distil(sifted, charged(party, sifted.disclosed.sum(axis=0), cross_basis)))


def by_segment(sifted: Sifted, slots: NDArray[np.int64]) -> NDArray[np.int64]:
    """Disclosed detections by equal segments of the block, int64[S, K, 4, 4]; Bob's side only."""
    if sifted.disclosed_index is None or sifted.disclosed_cell is None:
        raise LocalProtocolError("only Bob knows which disclosed detections were wrong")
    segment = segment_of(slots[sifted.disclosed_index], slots[0], slots[-1])
    shape = (SEGMENTS, *sifted.disclosed.shape)
    cells = sifted.disclosed.size
    flat = np.bincount(segment * cells + sifted.disclosed_cell, minlength=SEGMENTS * cells)
    return flat.astype(np.int64).reshape(shape)


def keyed_by_segment(sifted: Sifted, slots: NDArray[np.int64]) -> NDArray[np.int64]:
    """Key bits by equal segments of the block and intensity, int64[S, K]."""
    n_intensities = sifted.key_counts.size
    segment = segment_of(slots[sifted.key_index], slots[0], slots[-1])
    flat = np.bincount(segment * n_intensities + sifted.key_intensity, minlength=SEGMENTS * n_intensities)
    return flat.astype(np.int64).reshape(SEGMENTS, n_intensities)


def segments(sifted: Sifted, slots: NDArray[np.int64]) -> Segments:
    """What Bob may compare over time: the announced ``slots`` are the time axis."""
    n, wrong = matched_counts(by_segment(sifted, slots))
    return Segments(
        by_intensity=n.sum(axis=0) + keyed_by_segment(sifted, slots),
        tested=n[1].sum(axis=1),
        wrong=wrong[1].sum(axis=1),
    )


def without_string(
    found: Detections, parameters: Parameters
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8]]:
    """The detections outside the public synchronisation string."""
    if parameters.sync_string is None:
        return found.slots, found.basis, found.bit
    keep = ~parameters.sync_string.build().mask(found.slots)
    return found.slots[keep], found.basis[keep], found.bit[keep]


def _source(parameters: Parameters) -> Source:
    if parameters.source is None:
        raise ValueError("bb84 parameters have a source section")
    return parameters.source


def _distil(sifted: Sifted, party: Party) -> Stage[Bits]:
    log = party.log
    log.facts["sifted"] = sifted
    log.mark("sifted", len(sifted.key), sifted.n_announced - len(sifted.key))
    key = SiftedKey(
        key=sifted.key,
        classes=sifted.key_intensity,
        n_classes=sifted.key_counts.size,
        qber_hint=_hint(sifted.disclosed),
    )
    fell_back = bool(log.facts.get("rule_doubts"))
    return (yield from distil(key, length_rule(sifted, party.parameters, fell_back=fell_back), party))


def _hint(disclosed: NDArray[np.int64]) -> float:
    """Error rate of the disclosed detections of matching bases at signal intensity (all intensities if none)."""
    for counts in (disclosed[0], disclosed.sum(axis=0)):
        n, wrong = matched_counts(counts)
        if n.sum() > 0:
            return float(wrong.sum() / n.sum())
    return 0.05


def matched_counts(matrix: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(detections, errors) by basis from a state x detector matrix int64[..., 4, 4]."""
    blocks = [matrix[..., 2 * b : 2 * b + 2, 2 * b : 2 * b + 2] for b in (0, 1)]
    n = np.stack([block.sum(axis=(-2, -1)) for block in blocks])
    wrong = np.stack([block[..., 0, 1] + block[..., 1, 0] for block in blocks])
    return n, wrong


def counts(sifted: Sifted, key_errors: NDArray[np.int64], source: Source) -> Counts:
    """The block's counts for the key length: disclosed detections plus the key, whose errors correction counted."""
    n, wrong = matched_counts(sifted.disclosed)
    n[0] += sifted.key_counts
    wrong[0] += key_errors
    return Counts(
        intensities=tuple(source.intensities),
        p_intensity=tuple(source.p_intensity),
        n=n,
        m=wrong,
        matrix=sifted.disclosed,
        sent=sifted.sent,
    )


def length_rule(sifted: Sifted, parameters: Parameters, *, fell_back: bool) -> LengthRule:
    """The key length of this block as a function of its costs and of the errors that correction counted.

    Args:
        sifted: what sifting left.
        parameters: with the accounting rule that is charged.
        fell_back: the rule is not the declared one, because a condition failed; then there is no vacuum credit.
    """
    source, promised = _source(parameters), replace(security(parameters), vacuum_credit=not fell_back)

    def rule(leak: int, verification: int, dropped: int, errors: NDArray[np.int64]) -> KeyLength:
        return key_length_bb84(
            counts(sifted, errors, source),
            leak_bits=leak,
            verification_bits=verification,
            dropped_bits=dropped,
            security=promised,
            receivers=parameters.receivers(),
        )

    return rule
