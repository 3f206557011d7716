"""Real recordings against their reference rows and the facts of the format specification (sections 1 and 2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.tags import TimeTags
from qkdpp.sources import ReadStats, open_recording, read_all
from qkdpp.sources.picoquant_pulses import t3_records

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.recordings,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real recordings (../shared/data) are not here"),
]
PICOQUANT, S15 = DATA / "libpicoquant", DATA / "s15_events"
KWIAT = DATA / "kwiat_spdc" / "Alice1_Bob1_with_delays.txt"


def reference_rows(name: str) -> np.ndarray:
    return np.loadtxt(PICOQUANT / f"{name}.data", delimiter=",", dtype=np.int64)


def reference_channels(tags: TimeTags, sync: int) -> np.ndarray:
    """Channels as the reference counts them: inputs from 0, the sync input after the last."""
    ids = np.array([sync if channel == 0 else channel - 1 for channel in tags.channel_ids])
    return ids[tags.channel]


@pytest.mark.parametrize(("name", "rows", "tick_as"), [("v10.ht2", 19, 500_000), ("v20.ht2", 25, 1_000_000)])
def test_t2_files_equal_every_reference_row(name: str, rows: int, tick_as: int) -> None:
    recording = open_recording(PICOQUANT / name)
    tags = read_all(recording)
    expected = reference_rows(name)
    assert expected.shape[0] == len(tags) == rows
    assert recording.tick_as == tick_as
    np.testing.assert_array_equal(tags.ticks * tick_as // 10**6, expected[:, 1])
    np.testing.assert_array_equal(reference_channels(tags, 4), expected[:, 0])


@pytest.mark.parametrize(("name", "rows", "bin_as"), [("v10.ht3", 32, 4_000_000), ("v20.ht3", 100, 16_000_000)])
def test_t3_files_equal_every_reference_row(name: str, rows: int, bin_as: int) -> None:
    expected = reference_rows(name)
    records = next(iter(t3_records(PICOQUANT / name)))
    assert expected.shape[0] == rows
    assert records.dtime_as == bin_as
    np.testing.assert_array_equal(records.ids[:rows] - 1, expected[:, 0])
    np.testing.assert_array_equal(records.nsync[:rows], expected[:, 1])
    np.testing.assert_array_equal(records.dtime[:rows].astype(np.int64) * bin_as // 10**6, expected[:, 2])


def test_t3_times_follow_from_pulse_number_and_dtime() -> None:
    path = PICOQUANT / "v20.ht3"
    records = list(t3_records(path))
    tags = read_all(open_recording(path))
    nsync, dtime = (np.concatenate([getattr(r, name) for r in records]) for name in ("nsync", "dtime"))
    exact_as = [int(n) * records[0].period_as + int(d) * records[0].dtime_as for n, d in zip(nsync, dtime, strict=True)]
    assert [int(t) for t in tags.ticks] == [time // tags.tick_as for time in exact_as]


def test_ptu_equals_its_reference_rows_with_the_right_wrap() -> None:
    # The reference rows of this version-2 file use the wrap of version 1 (33552000 instead of 33554432).
    expected = reference_rows("v30_t2.ptu")[:, 1]
    ticks = read_all(open_recording(PICOQUANT / "v30_t2.ptu")).ticks[:100]
    overflows, rest = expected // 33_552_000, expected % 33_552_000
    assert expected.size == 100
    np.testing.assert_array_equal(ticks, overflows * 33_554_432 + rest)


def test_ptu_equals_two_independent_decoders() -> None:
    ptufile = pytest.importorskip("ptufile")
    reader = pytest.importorskip("phconvert.pqreader")
    path = PICOQUANT / "v30_t2.ptu"
    ticks = read_all(open_recording(path)).ticks
    with ptufile.PtuFile(str(path)) as file:
        records = file.decode_records()
    np.testing.assert_array_equal(ticks, records["time"][records["channel"] >= 0].astype(np.int64))
    np.testing.assert_array_equal(ticks, reader.load_ptu(str(path))[0])


@pytest.mark.parametrize("name", ["v10.ht2", "v20.ht2", "v10.ht3"])
def test_counts_beyond_the_file_warn_and_are_an_error_when_strict(name: str) -> None:
    recording = open_recording(PICOQUANT / name)
    read_all(recording)
    assert any("announces" in warning for warning in recording.stats.warnings)
    with pytest.raises(FormatError, match="announces"):
        read_all(open_recording(PICOQUANT / name, strict=True))


def s15(name: str, **kwargs: object) -> tuple[TimeTags, ReadStats]:
    recording = open_recording(S15 / name, **kwargs)  # type: ignore[arg-type]
    return read_all(recording), recording.stats


def test_three_encodings_decode_to_the_same_events() -> None:
    a0, stats = s15("timestamp7_c14_rollover.Aa0f.ts")
    a1x, stats_a1x = s15("timestamp7_c14_rollover.Aa1fX.ts", format="s15-a1x")
    a2, stats_a2 = s15("timestamp7_c14_rollover.Aa2f.ts")
    for other in (a1x, a2):
        np.testing.assert_array_equal(a0.ticks, other.ticks)
        np.testing.assert_array_equal(a0.channel, other.channel)
        assert a0.channel_ids == other.channel_ids == (1, 4)
    assert stats == stats_a1x == stats_a2
    assert (stats.records, stats.dummies, stats.tags) == (1000, 138, 862)


def test_backward_steps_of_the_card_are_counted_and_sorted() -> None:
    tags, stats = s15("timestamp7_c14_rollover.Aa2f.ts")
    assert stats.backward_steps == 4
    assert 96e-6 < stats.worst_backward_ticks * tags.tick_as / 1e18 < 97e-6
    assert np.all(np.diff(tags.ticks) >= 0)
    assert stats.late_tags == 0


def test_multi_bit_patterns_follow_the_declared_rule() -> None:
    name = "timestamp7_c1234.Aa1.ts"
    random, stats = s15(name, format="s15-a1")
    dropped, _ = s15(name, format="s15-a1", options={"patterns": "drop"})
    kept, _ = s15(name, format="s15-a1", options={"patterns": "keep"})
    assert stats.multi_bit_patterns == 12  # 0.6 % of 2,000 events
    assert (len(random), len(dropped), len(kept)) == (2000, 1988, 2000)
    assert set(random.channel_ids) == set(dropped.channel_ids) == {1, 2, 3, 4}
    counts = {channel: kept.of_channel(channel).size for channel in kept.channel_ids if channel > 100}
    assert counts == {103: 2, 105: 2, 106: 3, 109: 3, 110: 2}


def test_a_wrong_encoding_is_refused() -> None:
    for name, wrong in (("timestamp7_c1234.Aa1.ts", "s15-a1x"), ("timestamp7_c14_rollover.Aa1fX.ts", "s15-a1")):
        for declared in (wrong, "tdc1", "spc", "swabian-dump"):
            with pytest.raises(FormatError):
                open_recording(S15 / name, format=declared)


def test_kwiat_counts() -> None:
    tags = read_all(open_recording(KWIAT, format="text2", tick_as=78_125_000))
    alice = sum(tags.of_channel(channel).size for channel in range(4))
    bob = sum(tags.of_channel(channel).size for channel in range(4, 8))
    assert (alice, bob) == (113_170, 160_248)
    assert tags.duration_s == pytest.approx(98.36e-3, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("kwiat_spdc/Alice1_Bob1_with_delays.txt", "declare tick_as"),
        ("eqkd_linz/icons_Key_Alice_v2.txt", "qkdpp reconcile"),
        ("decoy_csv/parsed_qkd_data_partial_1000.csv", "table of whole numbers"),
        ("s15_events/timestamp7_c1234.Aa1.ts", "must be declared"),
        ("libpicoquant/v10.ht2.header", "table of whole numbers"),
        ("libpicoquant/v10.ht2.data", "declare format"),
    ],
)
def test_what_cannot_be_told_is_refused_with_a_remedy(name: str, remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        open_recording(DATA / name)
