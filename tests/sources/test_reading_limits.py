"""What a reader must survive: bounded memory, hostile headers, wrong declarations, parts and options."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from recording_samples import hydraharp, ptu, ptu_tag, record_words

from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.tags import TimeTags
from qkdpp.sources import open_recording, read_all, write_recording
from qkdpp.sources.batches import CHUNK_TAGS

MIB = 1 << 20
T2 = 0x00010207


def peak_bytes(path: Path, **kwargs: object) -> tuple[int, int]:
    """Most memory allocated while reading, and the tags read."""
    tracemalloc.start()
    try:
        recording = open_recording(path, **kwargs)  # type: ignore[arg-type]
        tags = 0
        for chunk in recording.chunks():
            assert len(chunk) <= CHUNK_TAGS
            tags += len(chunk)
        return tracemalloc.get_traced_memory()[1], tags
    finally:
        tracemalloc.stop()


def sparse(path: Path, head: bytes, size: int) -> Path:
    """A file of ``size`` bytes that takes no room: the head, then zeros."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)
    return path


@pytest.mark.parametrize(
    ("head", "kwargs", "record"),
    [
        (ptu(T2, b""), {}, 4),
        (ptu(0x00010307, b""), {}, 4),
        (ptu(0x00010203, b""), {}, 4),
        (b"", {"format": "qutag-raw", "tick_as": 10**6}, 10),
        (b"", {"format": "swabian-dump"}, 16),
        (b"", {"format": "id900-bin", "options": {"index": False}}, 8),
        (struct.pack("<I", 1 << 31 | 500), {"format": "spc"}, 4),
    ],
)
def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, head: bytes, kwargs: dict[str, object], record: int
) -> None:
    # All tags at one time: the worst case for the look-back, which must not hold them all.
    n = 160 * MIB // 16
    peak, tags = peak_bytes(sparse(tmp_path / "run.dat", head, n * record), **kwargs)
    assert tags == n
    assert peak < 80 * MIB


@pytest.mark.parametrize("name", ["hdf5", "npz", "csv"])
def test_memory_of_containers_is_bounded(tmp_path: Path, name: str) -> None:
    block = np.arange(CHUNK_TAGS, dtype=np.int64) * 1000
    chunks = (
        TimeTags(
            ticks=block + i * CHUNK_TAGS * 1000, channel=np.zeros(CHUNK_TAGS, np.uint8), channel_ids=(1,), tick_as=10**6
        )
        for i in range(2 if name == "csv" else 8)
    )
    n = write_recording(tmp_path / "run.dat", chunks, format=name)
    peak, tags = peak_bytes(tmp_path / "run.dat")
    assert tags == n
    assert peak < 80 * MIB


HUGE = [2**31 - 1, 2**31, 2**62, 2**63 - 8, 2**63 - 1, -1, -8, -(2**63)]


@pytest.mark.parametrize("length", HUGE)
def test_payload_lengths_are_checked_before_anything_is_allocated(tmp_path: Path, length: int) -> None:
    path = tmp_path / "run.ptu"
    path.write_bytes(ptu(T2, record_words(T2), extra=ptu_tag("Note", 0x4001FFFF, struct.pack("<q", length))))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="Note"):
            open_recording(path)
        assert tracemalloc.get_traced_memory()[1] < 40 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [10**9, 2**62, 2**63 - 1, -1])
def test_announced_records_are_not_believed(tmp_path: Path, count: int) -> None:
    for name, content in (
        ("run.ptu", ptu(T2, record_words(T2), n_records=count)),
        ("run.ht2", hydraharp(b"2.0", 2, record_words(T2), n_records=count)),
    ):
        (tmp_path / name).write_bytes(content)
        recording = open_recording(tmp_path / name)
        assert len(read_all(recording)) == 48
        assert any("announces" in warning for warning in recording.stats.warnings)


def test_columns_that_announce_more_than_they_store_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        for name, kind in (("ticks", "<i8"), ("channel", "u1")):
            file.create_dataset(name, (10**12,), kind, chunks=(1 << 16,))
        file["tick_as"] = 10**6
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "run.npz", "w") as archive:
        for name in ("time", "channel"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(80))
    for path in (tmp_path / "run.h5", tmp_path / "run.npz"):
        with pytest.raises(FormatError, match="more than the file stores"):
            read_all(open_recording(path, tick_as=10**6))


def test_nothing_outside_a_container_is_followed(tmp_path: Path) -> None:
    write_recording(tmp_path / "other.h5", [tags_at([1, 2, 3])], format="hdf5")
    (tmp_path / "raw.bin").write_bytes(bytes(24))
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["ticks"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "ticks")
        file["channel"] = np.zeros(3, dtype=np.uint8)
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("ticks", (3,), "<i8", external=[(str(tmp_path / "raw.bin"), 0, 24)])
        file["channel"] = np.zeros(3, dtype=np.uint8)
    for name in ("link.h5", "external.h5"):
        with pytest.raises(FormatError):
            read_all(open_recording(tmp_path / name, tick_as=10**6))


def tags_at(ticks: list[int], channel: int = 1) -> TimeTags:
    n = len(ticks)
    return TimeTags(
        ticks=np.array(ticks, dtype=np.int64), channel=np.zeros(n, np.uint8), channel_ids=(channel,), tick_as=10**6
    )


def test_text_of_variable_length_is_never_read(tmp_path: Path) -> None:
    # A damaged heap of such texts keeps the HDF5 library in an endless loop, a damaged type crashes it.
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file["time"], file["channel"] = np.arange(3), np.zeros(3, dtype=np.uint16)
        file.attrs["tick_as"] = 500_000
        file.attrs["meta"] = '{"instrument": "tagger"}'
    content = bytearray(path.read_bytes())
    free = content.index(b"GCOL") + 16 + 16 + 24  # behind the one text of 24 bytes
    content[free : free + 16] = struct.pack("<HHIQ", 7, 0, 0, 0)  # an object of no length, then free space of none
    path.write_bytes(content)
    recording = open_recording(path)
    assert len(read_all(recording)) == 3
    assert "variable length" in str(recording.metadata["meta"])


def test_parts_are_one_recording(tmp_path: Path) -> None:
    for i, ticks in enumerate(([1, 2, 3], [4, 5])):
        write_recording(tmp_path / f"{i}.ptu", [tags_at(ticks, channel=i + 1)], format="ptu")
    recording = open_recording([tmp_path / "0.ptu", tmp_path / "1.ptu"])
    tags = read_all(recording)
    assert tags.ticks.tolist() == [1, 2, 3, 4, 5]
    assert [tags.channel_ids[c] for c in tags.channel] == [1, 1, 1, 2, 2]


@pytest.mark.parametrize("name", ["ptu", "hdf5", "npz", "csv", "qutag"])
def test_parts_that_overlap_in_time_are_refused(tmp_path: Path, name: str) -> None:
    paths = [tmp_path / "first", tmp_path / "second"]
    for path, start in zip(paths, (0, 5 * 10**9), strict=True):  # ticks of 1 ps: the parts overlap by 5 ms
        write_recording(path, [tags_at([start, start + 10**10])], format=name)
    with pytest.raises(FormatError, match="second: begins before"):
        read_all(open_recording(paths, format=name, tick_as=10**6))


def test_a_word_stream_goes_on_across_parts(tmp_path: Path) -> None:
    words = [(time % 2**54) << 10 | 1 for time in (2**54 - 5, 2**54 + 7, 2**54 + 9)]
    for i, word in enumerate(words):
        (tmp_path / f"{i}").write_bytes(struct.pack("<Q", word))
    tags = read_all(open_recording([tmp_path / str(i) for i in range(3)], format="s15-a1"))
    assert np.diff(tags.ticks).tolist() == [12, 2]


def test_every_pass_gives_the_same_tags(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    words = (np.arange(5000, dtype=np.uint64) << np.uint64(20)) | rng.integers(1, 16, 5000).astype(np.uint64)
    (tmp_path / "run").write_bytes(words.astype("<u8").tobytes())
    recording = open_recording(tmp_path / "run", format="s15-a1")
    first, second = read_all(recording), read_all(recording)
    np.testing.assert_array_equal(first.channel, second.channel)
    assert first.channel_ids == second.channel_ids
    other = read_all(open_recording(tmp_path / "run", format="s15-a1"))
    assert not np.array_equal(np.array(first.channel_ids)[first.channel], np.array(other.channel_ids)[other.channel])


def test_multi_bit_patterns_are_assigned_evenly_among_their_inputs(tmp_path: Path) -> None:
    n = 30_000
    words = (np.arange(n, dtype=np.uint64) << np.uint64(20)) | np.uint64(0b1011)
    (tmp_path / "run").write_bytes(words.astype("<u8").tobytes())
    tags = read_all(open_recording(tmp_path / "run", format="s15-a1"))
    counts = {channel: tags.of_channel(channel).size for channel in (1, 2, 4)}
    assert sum(counts.values()) == n
    sigma = (n * (1 / 3) * (2 / 3)) ** 0.5
    assert all(abs(count - n / 3) < 5 * sigma for count in counts.values())


def test_more_channels_than_a_tagger_has_are_refused(tmp_path: Path) -> None:
    content = b"".join(struct.pack("<QH", i, i) for i in range(300))
    (tmp_path / "run").write_bytes(content)
    with pytest.raises(FormatError, match="channels"):
        read_all(open_recording(tmp_path / "run", format="qutag-raw", tick_as=10**6))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"format": "nonsense"}, "unknown format"),
        ({"format": "text2"}, "declare tick_as"),
        ({"format": "text2", "tick_as": 0}, "tick_as"),
        ({"format": "text2", "tick_as": 1, "options": {"colums": "time,channel"}}, "no option"),
        ({"format": "text2", "tick_as": 1, "options": {"columns": "time"}}, "allowed are"),
        ({"format": "s15-a1", "tick_as": 7}, "the format's tick"),
        ({"format": "id900-bin"}, "declare option index"),
        ({"format": "id900-text", "options": {"index": True}}, "ref_period_ps"),
    ],
)
def test_wrong_requests_are_named(tmp_path: Path, kwargs: dict[str, object], message: str) -> None:
    (tmp_path / "run").write_bytes(b"1 2\n3 4\n1 5\n2 6\n")
    with pytest.raises(InputError, match=message):
        open_recording(tmp_path / "run", **kwargs)  # type: ignore[arg-type]


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(InputError, match=path.name):
            open_recording(path)
    with pytest.raises(InputError, match="no recording"):
        open_recording([])


def test_a_known_file_declared_as_headerless_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.bin").write_bytes(ptu(T2, record_words(T2)) + bytes(4))
    for name in ("s15-a1", "tdc1", "swabian-dump"):
        size = {"s15-a1": 8, "tdc1": 4, "swabian-dump": 16}[name]
        content = ptu(T2, record_words(T2))
        (tmp_path / "run.bin").write_bytes(content[: len(content) // size * size])
        with pytest.raises(FormatError, match="format ptu"):
            open_recording(tmp_path / "run.bin", format=name)
