"""Byte vectors of PicoQuant .ht2 / .ht3 and the refusal of broken .pt2, from formats.md 1.3.

Absolute times of .ht3 are not asserted: the description does not say which field gives the sync period.
"""

from __future__ import annotations

from pathlib import Path
from struct import pack, pack_into

import pytest

from qkdpp.core.errors import InputError
from qkdpp.core.tags import TimeTags
from qkdpp.sources import open_recording, read_all


def ht_header(
    version: str,
    mode: int,
    resolution_ps: float,
    *,
    n_records: int,
    n_inputs: int = 4,
    image_words: int = 0,
    announced_inputs: int | None = None,
    announced_image_words: int | None = None,
) -> bytes:
    fixed = bytearray(696)
    pack_into("16s6s18s12s18s2s", fixed, 0, b"HydraHarp", version.encode(), b"bench", b"1", b"", b"\r\n")
    pack_into("<6i", fixed, 328, 1, 32, 0, mode, 0, 0)
    pack_into("<d", fixed, 352, resolution_ps)
    pack_into("<2i", fixed, 360, 0, 1000)
    pack_into("16s", fixed, 536, b"HydraHarp 400")
    pack_into("<dQ", fixed, 648, 1.0, (1 << n_inputs) - 1)
    pack_into("<i", fixed, 664, n_inputs if announced_inputs is None else announced_inputs)
    pack_into("<i", fixed, 680, 1)
    image_size = image_words if announced_image_words is None else announced_image_words
    tail = bytes(16 * n_inputs) + bytes(4 * n_inputs) + pack("<4iq", 10_000_000, 1000, 0, image_size, n_records)
    return bytes(fixed) + tail + b"\xff" * (4 * image_words)


def words(*values: int) -> bytes:
    return pack(f"<{len(values)}I", *values)


def t2(channel: int, time: int, special: int = 0) -> int:
    return special << 31 | channel << 25 | time


def t3(channel: int, dtime: int, nsync: int, special: int = 0) -> int:
    return special << 31 | channel << 25 | dtime << 10 | nsync


def write(tmp_path: Path, content: bytes, name: str) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def events(tags: TimeTags) -> list[tuple[int, int]]:
    indices = tags.channel.tolist()
    return [(tick, tags.channel_ids[i]) for tick, i in zip(tags.ticks.tolist(), indices, strict=True)]


T2_BODY = words(
    t2(0, 7),
    t2(0, 9, special=1),  # sync
    t2(63, 0, special=1),  # overflow
    t2(3, 8),
    t2(63, 2, special=1),  # overflow: one in 1.0, two in 2.0
    t2(1, 9, special=1),  # marker line 1
    t2(1, 12),
)


def test_data_of_four_channels_start_at_800() -> None:
    assert len(ht_header("2.0", 2, 1.0, n_records=0)) == 800


def test_ht2_version_1_ticks_of_half_a_picosecond(tmp_path: Path) -> None:
    recording = open_recording(write(tmp_path, ht_header("1.0", 2, 0.5, n_records=7) + T2_BODY, "a.ht2"))
    tags = read_all(recording)
    wrap = 33_552_000
    assert recording.format == "ht2"
    assert recording.tick_as == tags.tick_as == 500_000
    assert events(tags) == [(7, 1), (9, 0), (wrap + 8, 4), (2 * wrap + 9, 101), (2 * wrap + 12, 2)]


def test_ht2_version_2(tmp_path: Path) -> None:
    recording = open_recording(write(tmp_path, ht_header("2.0", 2, 1.0, n_records=7) + T2_BODY, "a.ht2"))
    tags = read_all(recording)
    wrap = 33_554_432
    assert tags.tick_as == 1_000_000
    assert events(tags) == [(7, 1), (9, 0), (wrap + 8, 4), (3 * wrap + 9, 101), (3 * wrap + 12, 2)]


@pytest.mark.parametrize(("n_inputs", "image_words"), [(1, 0), (2, 3), (8, 1)])
def test_ht2_data_start_depends_on_inputs_and_image_header(tmp_path: Path, n_inputs: int, image_words: int) -> None:
    head = ht_header("2.0", 2, 1.0, n_records=2, n_inputs=n_inputs, image_words=image_words)
    tags = read_all(open_recording(write(tmp_path, head + words(t2(0, 5), t2(0, 6)), "a.ht2")))
    assert events(tags) == [(5, 1), (6, 1)]


@pytest.mark.parametrize(("version", "second_overflow"), [("1.0", 1024), ("2.0", 3072)])
def test_ht3_order_and_channels(tmp_path: Path, version: str, second_overflow: int) -> None:
    body = words(t3(0, 3, 1), t3(63, 0, 1, special=1), t3(2, 9, 0, special=1), t3(63, 0, 3, special=1), t3(5, 0, 2))
    recording = open_recording(write(tmp_path, ht_header(version, 3, 16.0, n_records=5) + body, "a.ht3"))
    tags = read_all(recording)
    assert recording.format == "ht3"
    assert [channel for _, channel in events(tags)] == [1, 102, 6]
    first, marker, last = tags.ticks.tolist()
    # equal sync periods: 1023 from the first photon to the marker, then second_overflow + 2 to the last photon
    assert (last - marker) / (marker - first) == pytest.approx((second_overflow + 2) / 1023, rel=1e-2)


def test_header_count_larger_than_the_file_and_last_record_cut(tmp_path: Path) -> None:
    content = ht_header("1.0", 2, 0.5, n_records=4000) + T2_BODY[:8] + b"\x01\x02"
    path = write(tmp_path, content, "a.ht2")
    recording = open_recording(path)
    assert events(read_all(recording)) == [(7, 1), (9, 0)]
    assert recording.stats.truncated_bytes == 2
    assert recording.stats.warnings
    with pytest.raises(InputError):
        read_all(open_recording(path, strict=True))


def test_header_only(tmp_path: Path) -> None:
    for mode, name in ((2, "a.ht2"), (3, "a.ht3")):
        recording = open_recording(write(tmp_path, ht_header("2.0", mode, 1.0, n_records=0), name))
        assert len(read_all(recording)) == 0


def test_content_decides_and_not_the_extension(tmp_path: Path) -> None:
    head = ht_header("2.0", 2, 1.0, n_records=1)
    path = write(tmp_path, head + words(t2(0, 5)), "a.ptu")
    assert open_recording(path).format == "ht2"


@pytest.mark.parametrize("keep", [24, 340, 696, 780])
def test_cut_header_is_refused(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path, ht_header("2.0", 2, 1.0, n_records=0)[:keep], "a.ht2")
    with pytest.raises(InputError):
        read_all(open_recording(path))


@pytest.mark.parametrize("count", [2**31 - 1, 10**6, -1])
def test_hostile_counts_are_refused(tmp_path: Path, count: int) -> None:
    for head in (
        ht_header("2.0", 2, 1.0, n_records=1, announced_inputs=count),
        ht_header("2.0", 2, 1.0, n_records=1, announced_image_words=count),
    ):
        path = write(tmp_path, head + words(t2(0, 5)), "a.ht2")
        with pytest.raises(InputError):
            read_all(open_recording(path))


@pytest.mark.parametrize("keep", [22, 328, 400])
def test_cut_picoharp_header_is_refused(tmp_path: Path, keep: int) -> None:
    content = (b"PicoHarp 300".ljust(16, b"\0") + b"2.0").ljust(400, b"\0")
    path = write(tmp_path, content[:keep], "a.pt2")
    with pytest.raises(InputError):
        read_all(open_recording(path))
