"""Byte vectors of quTAG and ID900 files, assembled by hand from formats.md 1.5 and 1.6.

Compressed quTAG records: which bits hold the channel is not stated, so only what every layout agrees on is asserted.
"""

from __future__ import annotations

from pathlib import Path
from struct import pack

import pytest

from qkdpp.core.errors import InputError
from qkdpp.core.tags import TimeTags
from qkdpp.sources import open_recording, read_all

PS = 10**6
SINCE_POWER_UP = 260_000_000_000_000_003  # above 2^53, where float64 would round


def write(tmp_path: Path, content: bytes, name: str) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def events(tags: TimeTags) -> list[tuple[int, int]]:
    indices = tags.channel.tolist()
    return [(tick, tags.channel_ids[i]) for tick, i in zip(tags.ticks.tolist(), indices, strict=True)]


# --- quTAG ---


def qutag_records(*tags: tuple[int, int]) -> bytes:
    return b"".join(pack("<QH", time, channel) for time, channel in tags)


def qutag_file(body: bytes) -> bytes:
    size = 40 + len(body)
    return b"\x87\xb3\x91\xfa" + pack("<3I", size, 0x800, 0x73) + bytes(8) + bytes(range(16)) + body


QUTAG_EVENTS = [(SINCE_POWER_UP, 1), (SINCE_POWER_UP + 1, 5), (SINCE_POWER_UP + 3, 2), (SINCE_POWER_UP + 85_900, 1)]


def test_qutag_binary_above_two_to_the_53(tmp_path: Path) -> None:
    path = write(tmp_path, qutag_file(qutag_records(*QUTAG_EVENTS)), "run.bin")
    recording = open_recording(path, tick_as=PS)
    tags = read_all(recording)
    assert recording.format == "qutag"
    assert tags.tick_as == PS
    assert str(tags.ticks.dtype) == "int64"
    assert events(tags) == QUTAG_EVENTS
    assert recording.stats.backward_steps == 0


def test_qutag_binary_unsorted(tmp_path: Path) -> None:
    disordered = [QUTAG_EVENTS[3], *QUTAG_EVENTS[:3], (SINCE_POWER_UP + 90_000, 2)]
    path = write(tmp_path, qutag_file(qutag_records(*disordered)), "run.bin")
    recording = open_recording(path, tick_as=PS)
    assert events(read_all(recording)) == [*QUTAG_EVENTS, (SINCE_POWER_UP + 90_000, 2)]
    assert recording.stats.backward_steps == 1
    assert recording.stats.worst_backward_ticks == 85_900


def test_qutag_equal_times_keep_their_order(tmp_path: Path) -> None:
    tags = [(50, 2), (50, 1), (50, 5), (40, 3), (60, 1)]
    path = write(tmp_path, qutag_file(qutag_records(*tags)), "run.bin")
    assert events(read_all(open_recording(path, tick_as=PS))) == [(40, 3), (50, 2), (50, 1), (50, 5), (60, 1)]


def test_qutag_tick_must_be_declared(tmp_path: Path) -> None:
    path = write(tmp_path, qutag_file(qutag_records(*QUTAG_EVENTS)), "run.bin")
    with pytest.raises(InputError):
        read_all(open_recording(path))


def test_qutag_raw_with_an_81_ps_tick(tmp_path: Path) -> None:
    path = write(tmp_path, qutag_records(*QUTAG_EVENTS), "run.bin")
    recording = open_recording(path, format="qutag-raw", tick_as=81 * PS)
    tags = read_all(recording)
    assert recording.format == "qutag-raw"
    assert tags.tick_as == 81 * PS
    assert events(tags) == QUTAG_EVENTS


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_qutag_text(tmp_path: Path, line_end: str) -> None:
    text = line_end.join(f"{time}, {channel}" for time, channel in QUTAG_EVENTS) + line_end
    path = write(tmp_path, text.encode(), "run.txt")
    tags = read_all(open_recording(path, format="qutag-text", tick_as=PS))
    assert events(tags) == QUTAG_EVENTS


def test_qutag_compressed_all_zero_record(tmp_path: Path) -> None:
    path = write(tmp_path, qutag_file(bytes(5)), "run.bin")
    tags = read_all(open_recording(path, format="qutag-compressed", tick_as=PS))
    assert events(tags) == [(0, 0)]


@pytest.mark.parametrize("name", ["qutag", "qutag-compressed"])
def test_qutag_header_only(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, qutag_file(b""), "run.bin")
    assert len(read_all(open_recording(path, format=name, tick_as=PS))) == 0


def test_qutag_one_event(tmp_path: Path) -> None:
    path = write(tmp_path, qutag_file(qutag_records((9, 2))), "run.bin")
    assert events(read_all(open_recording(path, tick_as=PS))) == [(9, 2)]


def test_qutag_cut_record(tmp_path: Path) -> None:
    path = write(tmp_path, qutag_file(qutag_records(*QUTAG_EVENTS)) + b"\x01\x02\x03", "run.bin")
    recording = open_recording(path, tick_as=PS)
    assert events(read_all(recording)) == QUTAG_EVENTS
    assert recording.stats.truncated_bytes == 3
    with pytest.raises(InputError):
        read_all(open_recording(path, tick_as=PS, strict=True))


@pytest.mark.parametrize("keep", [4, 8, 39])
def test_qutag_cut_header_is_refused(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path, qutag_file(b"")[:keep], "run.bin")
    with pytest.raises(InputError):
        read_all(open_recording(path, tick_as=PS))


# --- ID900 ---

REF_PERIOD_PS = 10**12
INDEXED = [(5, 0), (999_999_999_999, 0), (0, 1), (17, 3), (4, 400_000)]
INDEXED_TICKS = [5, 999_999_999_999, 10**12, 3 * 10**12 + 17, 400_000 * 10**12 + 4]
WITHOUT_INDEX = [0, 5, 17, 12_345_678_901_234, 400_000_000_000_000_001]
WITH_INDEX = {"index": True, "ref_period_ps": REF_PERIOD_PS}


def test_id900_binary_without_index(tmp_path: Path) -> None:
    path = write(tmp_path, pack("<5Q", *WITHOUT_INDEX), "timestamps_C1.bin")
    recording = open_recording(path, format="id900-bin", tick_as=PS, options={"index": False})
    tags = read_all(recording)
    assert recording.format == "id900-bin"
    assert tags.tick_as == PS
    assert events(tags) == [(time, 1) for time in WITHOUT_INDEX]


def test_id900_binary_with_index(tmp_path: Path) -> None:
    content = b"".join(pack("<2Q", time, index) for time, index in INDEXED)
    path = write(tmp_path, content, "timestamps_C2.bin")
    tags = read_all(open_recording(path, format="id900-bin", tick_as=PS, options=WITH_INDEX))
    assert events(tags) == [(tick, 2) for tick in INDEXED_TICKS]


def test_id900_text_without_index(tmp_path: Path) -> None:
    path = write(tmp_path, "".join(f"{t}\n" for t in WITHOUT_INDEX).encode(), "timestamps_C3.txt")
    tags = read_all(open_recording(path, format="id900-text", tick_as=PS, options={"index": False}))
    assert events(tags) == [(time, 3) for time in WITHOUT_INDEX]


def test_id900_text_with_index(tmp_path: Path) -> None:
    text = "".join(f"{time};{index}\n" for time, index in INDEXED)
    path = write(tmp_path, text.encode(), "timestamps_C1.txt")
    tags = read_all(open_recording(path, format="id900-text", tick_as=PS, options=WITH_INDEX))
    assert events(tags) == [(tick, 1) for tick in INDEXED_TICKS]


def test_id900_inputs_are_merged_by_time(tmp_path: Path) -> None:
    by_input = {1: [10, 400, 401, 9_000], 2: [5, 11, 402, 8_999], 4: [7]}
    paths = [
        write(tmp_path, pack(f"<{len(times)}Q", *times), f"timestamps_C{number}.bin")
        for number, times in by_input.items()
    ]
    tags = read_all(open_recording(paths, format="id900-bin", tick_as=PS, options={"index": False}))
    assert events(tags) == sorted((time, number) for number, times in by_input.items() for time in times)


@pytest.mark.parametrize(("name", "suffix"), [("id900-bin", "bin"), ("id900-text", "txt")])
def test_id900_without_events(tmp_path: Path, name: str, suffix: str) -> None:
    path = write(tmp_path, b"", f"timestamps_C1.{suffix}")
    assert len(read_all(open_recording(path, format=name, tick_as=PS, options={"index": False}))) == 0


def test_id900_shape_must_be_declared(tmp_path: Path) -> None:
    path = write(tmp_path, pack("<4Q", 5, 0, 6, 0), "timestamps_C1.bin")
    with pytest.raises(InputError):
        read_all(open_recording(path, format="id900-bin", tick_as=PS))
