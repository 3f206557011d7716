"""What a survey finds in streams whose physics is known, and in the real recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from survey_streams import Pairs, on_clock, poisson, regular, tags, together

from qkdpp.core.errors import InputError
from qkdpp.core.tags import TimeTags
from qkdpp.offline import survey_peaks
from qkdpp.offline.survey import period, survey
from qkdpp.offline.survey_data import Survey
from qkdpp.offline.survey_map import split
from qkdpp.sources import write_recording

KWIAT = Path(__file__).parents[3] / "shared" / "data" / "kwiat_spdc" / "Alice1_Bob1_with_delays.txt"
KWIAT_TICK_AS = 78_125_000
ROLES = ("Z0", "Z1", "X0", "X1")


def surveyed(folder: Path, *streams: TimeTags) -> Survey:
    paths = [folder / f"{i}.h5" for i in range(len(streams))]
    for path, stream in zip(paths, streams, strict=True):
        write_recording(path, [stream], format="hdf5")
    return survey(paths)


# --- regular channels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.02])
@pytest.mark.parametrize(("period_ps", "jitter_ps"), [(1e7, 40.0), (1e10, 200.0), (12_500.3, 60.0)])
def test_regular_pulses_are_found(period_ps: float, jitter_ps: float, missing: float) -> None:
    duration_s = 2000 * period_ps * 1e-12
    stream = regular(period_ps, duration_s, channel=9, jitter_ps=jitter_ps, missing=missing)
    found = period(stream.ticks)
    assert found is not None
    assert found[0] == pytest.approx(period_ps, abs=5 * jitter_ps / 2000)
    assert found[1] == pytest.approx(jitter_ps, rel=0.15)
    assert found[2] == 1 + int(stream.ticks[-1] - stream.ticks[0] + period_ps / 2) // int(period_ps) - len(stream)


@pytest.mark.parametrize(
    "stream",
    [
        poisson(1e6, 0.01, channel=1),
        poisson(5e7, 1e-4, channel=1, dead_ps=50_000.0),
        regular(1e7, 5e-5, channel=1, jitter_ps=10.0),
        regular(1e7, 0.01, channel=1, jitter_ps=1e6),
        tags(np.full(100, 7, dtype=np.int64), np.zeros(100, dtype=np.int64)),
    ],
    ids=["random", "saturated detector", "five pulses", "too much jitter", "all at once"],
)
def test_what_is_not_regular(stream: TimeTags) -> None:
    assert period(stream.ticks) is None


# --- correlations ----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    ticks=st.lists(st.integers(0, 3000), min_size=0, max_size=60).map(sorted),
    channels=st.lists(st.integers(0, 3), min_size=60, max_size=60),
    tick_as=st.sampled_from([10**6, 78_125_000, 10**9]),
)
def test_delay_histograms_hold_every_pair_once(ticks: list[int], channels: list[int], tick_as: int) -> None:
    time, channel = np.array(ticks, dtype=np.int64), np.array(channels[: len(ticks)], dtype=np.int64)
    found = survey_peaks.delays(time, channel, 4, tick_as)
    window = round(survey_peaks.WINDOW_PS * 1e6 / tick_as)
    expected = np.zeros_like(found.counts)
    for i in range(len(ticks)):
        for j in range(len(ticks)):
            delay = ticks[j] - ticks[i]
            if channels[i] < channels[j] and abs(delay) <= window:
                nearest = (delay + found.bin_ticks // 2) // found.bin_ticks
                expected[channels[i], channels[j], nearest + found.half_bins] += 1
    np.testing.assert_array_equal(found.counts, expected)


def peak(first: int, second: int, coincidences: float) -> survey_peaks.Peak:
    return survey_peaks.Peak(
        first=first, second=second, delay=0.0, width=1.0, significance=coincidences, coincidences=coincidences
    )


def test_parties_are_what_clicks_across() -> None:
    across = [peak(a, b, 100.0) for a, b in ((0, 3), (1, 2), (2, 5), (3, 4), (0, 2))]
    assert split([*across, peak(0, 1, 20.0), peak(4, 5, 30.0)]) == ({0, 1, 4, 5}, {2, 3})
    assert split([]) == (set(), set())


def check_map(found: Survey, source: Pairs, *, delay_error_ps: float = 60.0) -> None:
    """The proposal has the source's channels, bases, bits and delays."""
    assert found.proposal is not None
    alice, bob = tuple(found.proposal.alice.values()), tuple(found.proposal.bob.values())
    want_bob = (1, 0, 3, 2) if source.flipped else (0, 1, 2, 3)
    flip = [0 if alice[2 * b] == source.alice[2 * b] else 1 for b in (0, 1)]
    order = [2 * (i // 2) + (i % 2 ^ flip[i // 2]) for i in range(4)]
    assert alice == tuple(source.alice[i] for i in order)
    assert bob == tuple(source.bob[want_bob[i]] for i in order)
    for side, channels, delays in (
        (found.proposal.alice_delays_ps, source.alice, source.alice_delay_ps),
        (found.proposal.bob_delays_ps, source.bob, source.bob_delay_ps),
    ):
        by_channel = dict(zip(channels, np.array(delays) - np.mean(delays), strict=True))
        chosen = found.proposal.alice if channels is source.alice else found.proposal.bob
        for role in ROLES:
            assert side[role] == pytest.approx(by_channel[chosen[role]], abs=delay_error_ps)
    assert found.proposal.qber_z == pytest.approx(source.error, abs=0.012)
    assert found.proposal.qber_x == pytest.approx(source.error, abs=0.03)


@pytest.mark.parametrize(
    "source",
    [
        Pairs(),
        Pairs(alice=(6, 0, 3, 4), bob=(1, 7, 2, 5), seed=2),
        Pairs(alice=(-3, 1, 300, 4), bob=(8, 12, -1, 5), flipped=True, seed=3),
    ],
    ids=["in order", "shuffled", "flipped bits, odd channels"],
)
def test_map_of_one_recording_with_both_parties(source: Pairs, tmp_path: Path) -> None:
    alice, bob = source.streams()
    found = surveyed(tmp_path, together(alice, bob))
    assert found.clock is None
    check_map(found, source)


def test_equal_bases_keep_the_order_of_the_channels(tmp_path: Path) -> None:
    found = surveyed(tmp_path, together(*Pairs(z_share=0.5, alice=(2, 3, 0, 1), bob=(6, 7, 4, 5)).streams()))
    assert found.proposal is not None
    assert list(found.proposal.alice.values()) == [0, 1, 2, 3]
    assert list(found.proposal.bob.values()) == [4, 5, 6, 7]


def test_peaks_carry_delay_width_and_coincidences(tmp_path: Path) -> None:
    source = Pairs(jitter_ps=200.0, duration_s=0.1, error=0.06)
    found = surveyed(tmp_path, together(*source.streams()))
    assert len(found.peaks) == 16
    for one in found.peaks:
        a, b = source.alice.index(one.first), source.bob.index(one.second)
        assert one.delay_ps == pytest.approx(source.bob_delay_ps[b] - source.alice_delay_ps[a], abs=80.0)
        assert not one.echo
    strongest = max(found.peaks, key=lambda p: p.coincidences)
    assert strongest.width_ps == pytest.approx(2.355 * 200.0 * 2**0.5, rel=0.15)
    expected = source.pairs_per_s * source.duration_s * source.z_share**2 * (1 - source.error) / 2
    assert strongest.coincidences == pytest.approx(expected, rel=0.1)


def test_two_recordings_are_put_on_one_clock(tmp_path: Path) -> None:
    source = Pairs(duration_s=0.1, alice=(1, 2, 3, 4), bob=(1, 2, 3, 4))
    alice, bob = source.streams()
    found = surveyed(tmp_path, alice, on_clock(bob, 0.2, 1e-5))
    assert found.clock is not None
    assert found.clock.offset_s == pytest.approx(0.2, abs=1e-7)
    assert found.clock.rate_ppm == pytest.approx(10.0, abs=0.02)
    check_map(found, source, delay_error_ps=120.0)
    assert all((p.first_recording, p.second_recording) == (0, 1) for p in found.peaks)


def test_unrelated_streams_show_nothing(tmp_path: Path) -> None:
    one, two = poisson(2e5, 0.1, channel=1, seed=1), poisson(2e5, 0.1, channel=2, seed=2)
    for found in (surveyed(tmp_path, together(one, two)), survey([tmp_path / "0.h5"])):
        assert (found.peaks, found.proposal) == ([], None)


def test_sync_channel_beside_detectors(tmp_path: Path) -> None:
    stream = together(poisson(1e5, 0.05, channel=1), regular(1e7, 0.05, channel=0, jitter_ps=50.0))
    found = surveyed(tmp_path, stream)
    sync, detector = found.recordings[0].channels
    assert (sync.channel, detector.channel) == (0, 1)
    assert sync.period_ps == pytest.approx(1e7, abs=1.0)
    assert detector.period_ps is None
    assert detector.rate_hz == pytest.approx(1e5, rel=0.05)
    assert found.peaks == []


# --- limits ----------------------------------------------------------------------------------------------------------


def test_only_the_beginning_is_read(tmp_path: Path) -> None:
    long = tags(np.arange(0, 12 * 10**12, 10**9, dtype=np.int64), np.zeros(12_000, dtype=np.int64))
    recording = surveyed(tmp_path, long).recordings[0]
    assert not recording.complete
    assert recording.tags == 5000
    (tmp_path / "short").mkdir()
    short = surveyed(tmp_path / "short", poisson(1e5, 0.05, channel=1)).recordings[0]
    assert short.complete


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    stream = poisson(1e5, 0.01, channel=1)
    with pytest.raises(InputError, match="one recording that holds both parties"):
        surveyed(tmp_path, stream, stream, stream)
    with pytest.raises(InputError, match=r"nowhere\.h5"):
        survey([tmp_path / "nowhere.h5"])
    empty = tags(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    write_recording(tmp_path / "empty.h5", [empty], format="hdf5")
    with pytest.raises(InputError, match="no tag"):
        survey([tmp_path / "empty.h5"])


# --- the real recording ----------------------------------------------------------------------------------------------


@pytest.mark.recordings
@pytest.mark.skipif(not KWIAT.exists(), reason="real recordings are not at ../shared/data")
def test_real_pairs() -> None:
    found = survey([KWIAT], format="text2", tick_as=KWIAT_TICK_AS)
    assert found.recordings[0].tags == 113_170 + 160_248
    assert found.recordings[0].duration_s == pytest.approx(0.09836, abs=1e-5)
    proposal = found.proposal
    assert proposal is not None
    assert proposal.alice == dict(zip(ROLES, (0, 1, 2, 3), strict=True))
    assert proposal.bob == dict(zip(ROLES, (4, 5, 6, 7), strict=True))
    ps = KWIAT_TICK_AS / 1e6
    published = {"alice": (-83.5, -4.2, 14.7, 70.7), "bob": (-85.3, -2.6, 17.0, 73.0)}
    for delays, ticks in ((proposal.alice_delays_ps, published["alice"]), (proposal.bob_delays_ps, published["bob"])):
        for role, tick in zip(ROLES, np.array(ticks) - np.mean(ticks), strict=True):
            assert delays[role] / ps == pytest.approx(tick, abs=1.3)
    counts = np.array(
        [[3793, 195, 1103, 605], [202, 3542, 908, 725], [781, 1078, 1139, 9], [1311, 958, 11, 676]]
    )  # window of 6 ticks either way, accidentals (about 20 a cell) included
    np.testing.assert_allclose(proposal.coincidences, counts, atol=40)
    assert proposal.qber_z == pytest.approx(0.0513, abs=0.006)
    assert proposal.qber_x == pytest.approx(0.0109, abs=0.004)
    echoes = {(p.first, p.second) for p in found.peaks if p.echo}
    assert echoes <= {(0, 4), (0, 5), (0, 6), (0, 7)}  # channel 0 is the one with echoes
