"""The real recording of entangled pairs: published numbers of the specification (sections 2.1 and 4.5)."""

import numpy as np
import pytest
from pair_streams import KWIAT_TICK_AS, converse, kwiat, sifted
from timing_streams import merge

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.entropy import OsEntropy
from qkdpp.timing.pair_events import SUB, linearise

pytestmark = pytest.mark.recordings


def test_delays_bits_and_errors_are_the_published_ones() -> None:
    tags_a, tags_b = kwiat()
    a, b, _ = converse(tags_a, tags_b)
    bits, qber = sifted(a, b)
    assert 9_000 <= bits <= 10_500
    assert 0.040 <= qber <= 0.048
    z = (a.detector < 2) & (b.detector < 2)
    x = (a.detector >= 2) & (b.detector >= 2)
    assert (a.detector[z] != b.detector[z]).mean() == pytest.approx(0.0513, abs=0.005)
    assert (a.detector[x] != b.detector[x]).mean() == pytest.approx(0.0109, abs=0.005)
    for tags, found, published in (
        (tags_a, a.delays_ticks, (-83.5, -4.2, 14.7, 70.7)),
        (tags_b, b.delays_ticks, (-85.3, -2.6, 17.0, 73.0)),
    ):
        # the published fit is of raw ticks; linearising moves the mean of every channel
        moved = [
            float((linearise(t, int(t[0]), KWIAT_TICK_AS, OsEntropy()) / SUB - (t - t[0])).mean())
            for t in (tags.of_channel(c) for c in tags.channel_ids)
        ]
        raw = np.array(found) - moved
        assert raw - raw.mean() == pytest.approx(np.array(published) - np.mean(published), abs=1.3)
    assert b.coincidences is not None
    assert b.coincidences.delay_residual_ps < 1.3 * 78.125
    assert b.coincidences.calibration_pairs < 0.05 * 17_036
    counts = b.coincidences.counts
    assert np.argmax(counts) in (counts.size // 2 - 1, counts.size // 2)


@pytest.mark.parametrize("rate", [0.0, 1e-6, 1e-5, 5e-5, -1e-4])
@pytest.mark.parametrize(
    ("offset_s", "params"), [(0.0, {}), (1.2345e-3, {}), (-0.4, {"offset_hint_s": -0.35, "offset_range_s": 0.1})]
)
def test_clock_is_found_whatever_its_offset_and_rate(rate: float, offset_s: float, params: dict[str, float]) -> None:
    straight = converse(*kwiat())[1].clock
    tags_a, tags_b = kwiat(rate=rate, offset_s=offset_s)
    a, b, _ = converse(tags_a, tags_b, **params)
    offset = round(offset_s * 1e18 / KWIAT_TICK_AS) * KWIAT_TICK_AS / 1e18
    assert abs(b.clock.line_offset_s - straight.line_offset_s - offset) < 0.2e-9
    assert abs(b.clock.line_rate_ppm * 1e-6 - rate) < 1e-9
    _, qber = sifted(a, b)
    assert abs(qber - 0.0436) < 0.002
    assert b.clock.locked_share > 0.99


def test_a_cut_file_with_a_bent_clock_gives_the_same_bits_in_the_time_left() -> None:
    a, b, _ = converse(*kwiat())
    late = a.time_s > 10e-3
    same = a.detector >> 1 == b.detector >> 1
    left, right, _ = converse(*kwiat(rate=1e-5, offset_s=0.2, cut_s=10e-3))
    bits, qber = sifted(left, right)
    assert bits == pytest.approx(int((same & late).sum()), rel=0.02)
    assert abs(qber - 0.0436) < 0.002


@pytest.mark.parametrize("wrong", ["poisson", "reversed"])
def test_streams_without_pairs_do_not_lock(wrong: str) -> None:
    a, b = kwiat()
    if wrong == "poisson":
        rng = np.random.default_rng(50)
        n = len(b) // 4
        ticks = [np.sort(rng.integers(int(b.ticks[0]), int(b.ticks[-1]), n)) for _ in range(4)]
        b = merge(list(zip((4, 5, 6, 7), ticks, strict=True)), KWIAT_TICK_AS)
    else:
        mirror = int(b.ticks[0]) + int(b.ticks[-1])
        b = merge([(c, mirror - b.of_channel(c)[::-1]) for c in (4, 5, 6, 7)], KWIAT_TICK_AS)
    with pytest.raises(Abort) as stop:
        converse(a, b, max_segments=2)
    assert stop.value.aborted.reason is AbortReason.NO_LOCK
