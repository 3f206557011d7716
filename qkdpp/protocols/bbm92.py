"""BBM92 (entangled pairs): the order of the stages for Alice and for Bob.

    clock, coincidences -> sifting -> correction -> verification -> key length -> amplification

Both parties are receivers; the coincidence stage replaces gating.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Bits
from qkdpp.core.stage import Stage
from qkdpp.core.tags import TimeTags
from qkdpp.estimation import KeyLength, key_length_bbm92
from qkdpp.estimation.drift import SEGMENTS, Segments, segment_of
from qkdpp.protocols.bb84 import security
from qkdpp.protocols.conditions import charged, hear_clicks, judge_drift, tell_clicks
from qkdpp.protocols.distillation import LengthRule, Party, SiftedKey, distil, hello
from qkdpp.protocols.parameters import Parameters
from qkdpp.sifting import bbm92 as sifting
from qkdpp.sifting.bbm92 import SiftedPairs
from qkdpp.timing import pairs as timing
from qkdpp.timing.blanking import blanked
from qkdpp.timing.pair_search import LIVE_EFFORT, MOST_EFFORT
from qkdpp.timing.pair_values import Expected, PairParams


def pair_params(parameters: Parameters, detectors: Mapping[int, int]) -> PairParams:
    """The timing section in the words of ``qkdpp.timing``."""
    section = parameters.timing
    return PairParams(
        detector_of_channel=detectors,
        offset_hint_s=section.offset_hint_s,
        offset_range_s=section.search_range_s,
        gate_ps=section.gate_ps,
    )


def alice(tags: TimeTags, detectors: Mapping[int, int], party: Party) -> Stage[Bits]:
    """Alice's block: ``detectors`` maps instrument channels to 2 basis + bit."""
    return (yield from _block(tags, detectors, party))


def bob(tags: TimeTags, detectors: Mapping[int, int], party: Party) -> Stage[Bits]:
    """Bob's block: ``detectors`` maps instrument channels to 2 basis + bit."""
    return (yield from _block(tags, detectors, party))


def live_bob(tags: TimeTags, detectors: Mapping[int, int], party: Party, known: Expected | None) -> Stage[Bits]:
    """The same on a live link: looks where he expects his clock (``known``), and elsewhere for a short time only."""
    return (yield from _block(tags, detectors, party, known, LIVE_EFFORT))


def _block(
    tags: TimeTags,
    detectors: Mapping[int, int],
    party: Party,
    known: Expected | None = None,
    search_effort: int = MOST_EFFORT,
) -> Stage[Bits]:
    log = party.log
    log.start()
    yield from hello(party)
    section = party.parameters.timing
    live = blanked(tags, detectors, dead_time_ns=section.dead_time_ns, window_ps=section.gate_ps)
    log.mark("blanked", len(live), len(tags) - len(live))
    params = replace(pair_params(party.parameters, detectors), search_effort=search_effort)
    if party.role == "alice":
        matched = yield from timing.alice(live, params, party.entropy)
    else:
        matched = yield from timing.bob(live, params, party.entropy, known)
    log.facts["matched"] = matched
    log.mark("gated", len(matched), len(live) - len(matched))
    sift = sifting.alice if party.role == "alice" else sifting.bob
    sifted = yield from sift(matched.detector)
    log.facts["sifted"] = sifted
    log.mark("sifted", len(sifted.key) + sifted.n_test, int(matched.detector.size) - len(sifted.key) - sifted.n_test)
    key = SiftedKey(
        key=sifted.key,
        classes=np.zeros(len(sifted.key), dtype=np.uint8),
        n_classes=1,
        qber_hint=sifted.test_errors / max(sifted.n_test, 1),
    )
    if party.role == "bob":
        judge_drift(segments(sifted, matched.time_s), party)
        cross_basis = yield from tell_clicks(matched.counters.double_cross_basis)
        cross_basis += yield from hear_clicks()
    else:
        cross_basis = yield from hear_clicks()
        cross_basis += yield from tell_clicks(matched.counters.double_cross_basis)
    party = charged(party, sifted.disclosed, cross_basis)
    return (yield from distil(key, length_rule(sifted, party.parameters), party))


def segments(sifted: SiftedPairs, time_s: NDArray[np.float32]) -> Segments:
    """Pairs of equal bases by equal segments of the block; ``time_s`` of every matched pair, at Bob's."""
    first, last = float(time_s.min()), float(time_s.max())
    tested = segment_of(time_s[sifted.test_index], first, last)
    keyed = np.bincount(segment_of(time_s[sifted.key_index], first, last), minlength=SEGMENTS)
    tests = np.bincount(tested, minlength=SEGMENTS)
    wrong = np.bincount(tested[sifted.test_wrong], minlength=SEGMENTS)
    return Segments(
        by_intensity=(keyed + tests).astype(np.int64)[:, None],
        tested=tests.astype(np.int64),
        wrong=wrong.astype(np.int64),
    )


def length_rule(sifted: SiftedPairs, parameters: Parameters) -> LengthRule:
    """The key length of this block as a function of its costs."""

    def rule(leak: int, verification: int, dropped: int, errors: NDArray[np.int64]) -> KeyLength:
        return key_length_bbm92(
            len(sifted.key),
            sifted.n_test,
            sifted.test_errors,
            leak_bits=leak,
            verification_bits=verification,
            dropped_bits=dropped,
            security=security(parameters),
            form="printed" if parameters.security.profile == "L" else "tight",
            receivers=() if parameters.security.profile == "L" else parameters.receivers(),
        )

    return rule
