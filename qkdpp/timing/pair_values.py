"""Parameters and results of the timing of entangled pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.timing.clock import ClockReport
from qkdpp.timing.pair_delays import PairHistograms
from qkdpp.timing.pair_search import MOST_EFFORT

CENTRES = (0.5, 0.25, 0.75, 0.125, 0.875)
"""Middles of the segments that may be asked for, as shares of Alice's recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairParams:
    """How coincidences are found; both parties must use the same.

    Attributes:
        detector_of_channel: detector code (``basis << 1 | bit``) of every own instrument channel that is a detector.
        gate_ps: full width of the coincidence window, and window of the local rule for multiple clicks.
        slot_ps: width of an announced slot, rounded to whole ticks of Alice.
        offset_hint_s: Bob's clock minus Alice's at the start of Alice's recording.
        offset_range_s: the hint may be wrong by so much, either way.
        max_rate: largest relative rate of the two clocks.
        delay_range_ns: delays of one party's detectors differ by no more than this.
        calibration_share: share of Alice's recording in one public segment.
        calibration_tags: a segment has about this many of Alice's tags at most.
        max_segments: segments that Bob may ask for.
        search_effort: bins times rates that one width of bins of a search everywhere may have.
    """

    detector_of_channel: Mapping[int, int]
    gate_ps: float = 1000.0
    slot_ps: float = 150.0
    offset_hint_s: float = 0.0
    offset_range_s: float = 1.0
    max_rate: float = 2.0**-13
    delay_range_ns: float = 50.0
    calibration_share: float = 0.04
    calibration_tags: int = 40_000
    max_segments: int = len(CENTRES)
    search_effort: int = MOST_EFFORT


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an earlier lock says of Bob's clock: tick zero of both recordings is the same moment, nearly.

    Attributes:
        reach_s: by which tick zero may be wrong, either way, until the end of the recording.
        rate: by which Bob's clock runs fast; ``max_change``: it may be wrong by so much, either way.
    """

    reach_s: float
    rate: float
    max_change: float


class PairCounters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one party's tags went.

    ``detector_tags = public + repeated + further_clicks + unlocked + unmatched + matched``.

    Attributes:
        tags_by_channel: tags of every instrument channel.
        detector_tags: tags of detectors outside lost intervals.
        public: in the public segments, cut out.
        repeated: further clicks of the same detector in one event.
        further_clicks: further detectors in one event.
        double_same_basis, double_cross_basis: events with several detectors, assigned at random.
        unlocked: events while the clock was not locked (known to Bob only; 0 at Alice's).
        unmatched: events without a partner.
        matched: events with a partner.
    """

    tags_by_channel: dict[int, int]
    detector_tags: int
    public: int
    repeated: int
    further_clicks: int
    double_same_basis: int
    double_cross_basis: int
    unlocked: int
    unmatched: int
    matched: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coincidences:
    """What only Bob can see: histograms and what they say.

    Attributes:
        pair_histograms: sixteen difference histograms of the public segment, before delay correction.
        edges_ps, counts: differences of all clicks outside the segment, after correction.
        accidentals: estimated accidental coincidences among the matched ones.
        calibration_pairs: coincidences given up with the public segment.
        delay_residual_ps: rms of the sixteen peaks about the additive delays.
        spread_ps: rms of the coincidence peak.
    """

    pair_histograms: PairHistograms
    edges_ps: NDArray[np.float64]
    counts: NDArray[np.int64]
    accidentals: float
    calibration_pairs: float
    delay_residual_ps: float
    spread_ps: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matched:
    """One party's share of the coincidences, in the common order.

    Attributes:
        detector: uint8[n], ``basis << 1 | bit``; secret.
        time_s: float32[n], own time since the first tag, for plots only.
        counters: where the tags went.
        clock: Bob's clock against Alice's.
        delays_ticks: own delays by detector code, in own ticks.
        coincidences: Bob's histograms; None at Alice's.
    """

    detector: NDArray[np.uint8]
    time_s: NDArray[np.float32]
    counters: PairCounters
    clock: ClockReport
    delays_ticks: tuple[float, ...]
    coincidences: Coincidences | None

    def __len__(self) -> int:
        return int(self.detector.size)

    def __repr__(self) -> str:
        return f"Matched(n={len(self)})"
