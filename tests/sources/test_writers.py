"""Writers: what is written reads back, elsewhere too; what does not fit is named; nothing is overwritten."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkdpp.core.errors import InputError
from qkdpp.core.tags import TimeTags
from qkdpp.sources import open_recording, read_all, write_recording

NATIVE = {"ptu": (0, 64), "qutag": (0, 65535), "csv": (-70_000, 70_000), "hdf5": (-70_000, 70_000), "npz": (-7, 300)}
FIXED = {"s15-a1": (3_906_250, (1, 4)), "swabian-dump": (1_000_000, (-300, 300))}


def tags_of(ticks: list[int], ids: list[int], tick_as: int = 10**6, lost: tuple[tuple[int, int], ...] = ()) -> TimeTags:
    channel_ids = tuple(dict.fromkeys(ids))
    index = [channel_ids.index(channel) for channel in ids]
    return TimeTags(
        ticks=np.array(ticks, dtype=np.int64),
        channel=np.array(index, dtype=np.uint8),
        channel_ids=channel_ids,
        tick_as=tick_as,
        lost=lost,
    )


def events(tags: TimeTags) -> list[tuple[int, int]]:
    return [(int(t), tags.channel_ids[c]) for t, c in zip(tags.ticks, tags.channel, strict=True)]


def round_trip(name: str, chunks: list[TimeTags]) -> TimeTags:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.dat"
        assert write_recording(path, chunks, format=name) == sum(len(chunk) for chunk in chunks)
        declared = {"qutag": chunks[0].tick_as}.get(name)
        return read_all(open_recording(path, format=name, tick_as=declared))


@pytest.mark.parametrize("name", NATIVE)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_native_ticks_read_back_exactly(name: str, data: st.DataObject) -> None:
    low, high = NATIVE[name]
    ticks = sorted(data.draw(st.lists(st.integers(0, 2**55), max_size=30)))
    ids = data.draw(st.lists(st.integers(low, high), min_size=len(ticks), max_size=len(ticks)))
    cut = data.draw(st.integers(0, len(ticks)))
    tick_as = data.draw(st.sampled_from([500_000, 10**6, 78_125_000, 82_300_000]))
    chunks = [tags_of(ticks[:cut], ids[:cut], tick_as), tags_of(ticks[cut:], ids[cut:], tick_as)]
    if name in ("hdf5", "npz"):  # chunks of one stream: the index only grows
        whole = tags_of(ticks, ids, tick_as)
        chunks = [
            TimeTags(ticks=whole.ticks[a:b], channel=whole.channel[a:b], channel_ids=whole.channel_ids, tick_as=tick_as)
            for a, b in ((0, cut), (cut, len(ticks)))
        ]
    tags = round_trip(name, chunks)
    assert tags.tick_as == tick_as
    assert events(tags) == list(zip(ticks, ids, strict=True))


@pytest.mark.parametrize("name", FIXED)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_fixed_ticks_are_rounded_to_nearest(name: str, data: st.DataObject) -> None:
    tick_as, (low, high) = FIXED[name]
    source_as = data.draw(st.sampled_from([500_000, 10**6, 3_906_250, 78_125_000]))
    ticks = sorted(data.draw(st.lists(st.integers(0, 2**48), max_size=30)))
    ids = data.draw(st.lists(st.integers(low, high), min_size=len(ticks), max_size=len(ticks)))
    tags = round_trip(name, [tags_of(ticks, ids, source_as)])
    assert [channel for _, channel in sorted(events(tags))] == [c for _, c in sorted(events(tags))]
    assert tags.tick_as == tick_as
    errors = [abs(Fraction(t * source_as, tick_as) - int(w)) for t, w in zip(ticks, tags.ticks, strict=True)]
    assert all(error <= Fraction(1, 2) for error in errors)
    assert sorted(channel for _, channel in events(tags)) == sorted(ids)


@pytest.mark.parametrize("name", ["hdf5", "npz", "swabian-dump"])
def test_lost_intervals_read_back(name: str) -> None:
    lost = ((100, 200), (500, 900))
    tags = round_trip(name, [tags_of([0, 50, 300, 1000], [1, 2, 1, 2], lost=lost)])
    assert tags.lost == lost
    assert tags.ticks.tolist() == [0, 50, 300, 1000]


@pytest.mark.parametrize("name", ["hdf5", "npz", "csv"])
def test_metadata_reads_back(name: str, tmp_path: Path) -> None:
    metadata: dict[str, str | int | float] = {"instrument": "tagger", "start": "2026-01-01T00:00:00Z", "count": 3}
    write_recording(tmp_path / "run", [tags_of([1], [1])], format=name, metadata=metadata)
    found = open_recording(tmp_path / "run").metadata
    assert {key: str(found[key]) for key in metadata} == {key: str(value) for key, value in metadata.items()}


@pytest.mark.parametrize("name", [*NATIVE, *FIXED])
def test_an_empty_chunk_makes_an_empty_recording(name: str) -> None:
    assert len(round_trip(name, [tags_of([], [])])) == 0


def written_ptu(tmp_path: Path, gap: int) -> tuple[Path, np.ndarray, np.ndarray]:
    """A PTU file of inputs and marker lines with many overflows and one gap, and its ticks and channel ids."""
    rng = np.random.default_rng(5)
    ticks = np.cumsum(np.concatenate([rng.integers(0, 2**28, 500), [gap], rng.integers(0, 2**24, 500)]))
    ids = rng.choice([1, 2, 5, 63, 101, 103], ticks.size)
    write_recording(tmp_path / "run.ptu", [tags_of(ticks.tolist(), ids.tolist(), 5 * 10**6)], format="ptu")
    return tmp_path / "run.ptu", ticks, ids


def test_written_ptu_in_ptufile(tmp_path: Path) -> None:
    ptufile = pytest.importorskip("ptufile")
    # ptufile 2026.2.6 multiplies the count of an overflow record in 32 bits: gaps stay below 128 overflows here.
    path, ticks, ids = written_ptu(tmp_path, gap=2**31)
    with ptufile.PtuFile(str(path)) as file:
        records = file.decode_records()
        assert file.global_resolution == pytest.approx(5e-12)
    is_photon, is_marker = records["channel"] >= 0, records["marker"] > 0
    np.testing.assert_array_equal(records["time"][is_photon | is_marker], ticks.astype(np.uint64))
    np.testing.assert_array_equal(records["channel"][is_photon], ids[ids < 100] - 1)
    np.testing.assert_array_equal(records["marker"][is_marker], 1 << (ids[ids > 100] - 101))


def test_written_ptu_in_phconvert(tmp_path: Path) -> None:
    reader = pytest.importorskip("phconvert.pqreader")
    # The gap needs more than one overflow record: each counts at most 2^25 - 1.
    path, ticks, ids = written_ptu(tmp_path, gap=2**51)
    times, detectors, *_ = reader.load_ptu(str(path))
    np.testing.assert_array_equal(times, ticks)
    np.testing.assert_array_equal(detectors[ids < 100], ids[ids < 100] - 1)


@pytest.mark.parametrize(
    ("name", "ticks", "ids", "named"),
    [
        ("ptu", [5], [65], "channel 65"),
        ("ptu", [5], [-1], "channel -1"),
        ("ptu", [5], [105], "channel 105"),
        ("ptu", [-5], [1], "tick -5"),
        ("s15-a1", [5], [5], "channel 5"),
        ("s15-a1", [5], [0], "channel 0"),
        ("s15-a1", [-5], [1], "tick -5"),
        ("s15-a1", [2**57], [1], "tick 144115188075855872"),
        ("qutag", [5], [70_000], "channel 70000"),
        ("qutag", [5], [-1], "channel -1"),
        ("qutag", [-5], [1], "tick -5"),
        ("swabian-dump", [-5], [1], "tick -5"),
        ("swabian-dump", [2**62], [1], "tick 4611686018427387904"),
    ],
)
def test_a_tag_that_does_not_fit_is_named_and_no_file_is_left(
    tmp_path: Path, name: str, ticks: list[int], ids: list[int], named: str
) -> None:
    path = tmp_path / "run.dat"
    with pytest.raises(InputError, match=named):
        write_recording(
            path, [tags_of([0], [1]), tags_of(ticks, ids)] if ticks[0] > 0 else [tags_of(ticks, ids)], format=name
        )
    assert not path.exists()


@pytest.mark.parametrize("name", [*NATIVE, *FIXED])
def test_an_existing_file_is_never_touched(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run.dat"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="exists already"):
        write_recording(path, [tags_of([1], [1])], format=name)
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("name", [*NATIVE, *FIXED])
def test_unsorted_or_mixed_chunks_are_refused(tmp_path: Path, name: str) -> None:
    for chunks in (
        [tags_of([5, 4], [1, 1])],
        [tags_of([5], [1]), tags_of([4], [1])],
        [tags_of([5], [1]), tags_of([6], [1], tick_as=500_000)],
    ):
        with pytest.raises(InputError):
            write_recording(tmp_path / "run.dat", chunks, format=name)
        assert not (tmp_path / "run.dat").exists()


def test_formats_that_are_only_read_are_refused(tmp_path: Path) -> None:
    for name in ("ht3", "spc", "nonsense"):
        with pytest.raises(InputError, match=name):
            write_recording(tmp_path / "run.dat", [tags_of([1], [1])], format=name)


def test_channels_that_appear_late_come_behind_those_before(tmp_path: Path) -> None:
    """Whole recordings and pieces give the same indices, in the order of first appearance."""
    n = 600_000
    ids = np.full(n, 4, dtype=np.uint8)
    ids[7::2] = 3
    ids[300_000::5], ids[-1] = 1, 2
    present = (1, 2, 3, 4)
    tags = TimeTags(
        ticks=np.arange(n, dtype=np.int64) * 10_000, channel=ids - np.uint8(1), channel_ids=present, tick_as=10**6
    )
    path = tmp_path / "late.ptu"
    write_recording(path, [tags], format="ptu")
    found = open_recording(path).read()
    assert found.channel_ids == (4, 3, 1, 2)
    assert np.array_equal(np.array(found.channel_ids)[found.channel], ids)
    pieces = list(open_recording(path).chunks())
    assert np.array_equal(np.concatenate([piece.channel for piece in pieces]), found.channel)
