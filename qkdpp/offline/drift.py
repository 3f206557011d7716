"""How steady the conditions of a block were, for the report (``docs/formats/report.md``, ``drift``)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkdpp.estimation import Counts
from qkdpp.estimation.bb84 import unlimited_bits_bb84
from qkdpp.estimation.drift import FALSE_ALARM, SEGMENTS, Segments, chi_squares, drifted, segment_of
from qkdpp.protocols import bb84
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.parameters import Parameters
from qkdpp.sifting.bb84 import Sifted


def drift_fields(parameters: Parameters, log: BlockLog) -> dict[str, Any] | None:
    """The declared rule, the counts by segment and what tests of homogeneity say; ``log`` is Bob's."""
    segments = log.facts.get("segments")
    if not isinstance(segments, Segments):
        return None
    return {
        "rule": parameters.security.drift,
        "segments": {
            "detections": segments.detections,
            "by_intensity": segments.by_intensity,
            "tested": segments.tested,
            "wrong": segments.wrong,
        },
        "chi_square": chi_squares(segments),
        "false_alarm": FALSE_ALARM,
        "drifted": drifted(segments),
    }


def separate_fields(
    parameters: Parameters, sifted: Sifted, slots: NDArray[np.int64], wrong: NDArray[np.bool_]
) -> dict[str, Any]:
    """What the block would give with unlimited data, its segments merged or each with bounds of its own.

    Before correction is charged; ``wrong`` are the errors of the key bits, which only a report sees by segment.
    """
    source, security, receivers = parameters.source, bb84.security(parameters), parameters.receivers()
    if source is None:
        return {}
    n, m = bb84.matched_counts(bb84.by_segment(sifted, slots))
    n[0] += bb84.keyed_by_segment(sifted, slots)
    k = len(source.intensities)
    segment = segment_of(slots[sifted.key_index[wrong]], slots[0], slots[-1])
    errors = np.bincount(segment * k + sifted.key_intensity[wrong], minlength=SEGMENTS * k)
    m[0] += errors.astype(np.int64).reshape(SEGMENTS, k)

    def bits(n_part: NDArray[np.int64], m_part: NDArray[np.int64]) -> float:
        counts = Counts(
            intensities=tuple(source.intensities), p_intensity=tuple(source.p_intensity), n=n_part, m=m_part
        )
        return unlimited_bits_bb84(counts, security, receivers=receivers)

    return {
        "unlimited_bits_merged": bits(n.sum(axis=1), m.sum(axis=1)),
        "unlimited_bits_separate": sum(bits(n[:, s], m[:, s]) for s in range(SEGMENTS)),
    }
