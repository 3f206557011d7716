"""Recordings of more than a million records: state that must be carried from one chunk to the next (formats.md 1.14).

The bytes follow the record layouts of formats.md section 1; expected ticks come from the way the records were chosen.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from struct import pack

import numpy as np
import pytest
from numpy.typing import NDArray

from qkdpp.core.tags import TimeTags, concatenate
from qkdpp.sources import Recording, open_recording, read_all

PS = 10**6
N = 1_200_000
I64 = NDArray[np.int64]


def write(tmp_path: Path, content: bytes, name: str = "run.bin") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def u32(values: I64) -> bytes:
    return values.astype("<u4").tobytes()


def ids(tags: TimeTags) -> I64:
    return np.array(tags.channel_ids, dtype=np.int64)[tags.channel]


def chunks_of(recording: Recording) -> TimeTags:
    """All chunks as one record; more than one chunk, growing id tuples and sorted times are part of the contract."""
    chunks = list(recording.chunks())
    assert len(chunks) > 1
    for earlier, later in pairwise(chunks):
        assert later.channel_ids[: len(earlier.channel_ids)] == earlier.channel_ids
    tags = concatenate(chunks)
    assert np.all(np.diff(tags.ticks) >= 0)
    return tags


def ptu_header(record_type: int, n_records: int, global_s: float) -> bytes:
    def tag(ident: str, kind: int, value: bytes) -> bytes:
        return ident.encode().ljust(32, b"\0") + pack("<iI", -1, kind) + value

    return (
        b"PQTTTR\0\0"
        + b"1.0.00\0\0"
        + tag("Measurement_Mode", 0x10000008, pack("<q", 2))
        + tag("TTResultFormat_TTTRRecType", 0x10000008, pack("<q", record_type))
        + tag("TTResultFormat_BitsPerRecord", 0x10000008, pack("<q", 32))
        + tag("MeasDesc_GlobalResolution", 0x20000008, pack("<d", global_s))
        + tag("MeasDesc_Resolution", 0x20000008, pack("<d", global_s))
        + tag("TTResult_NumberOfRecords", 0x10000008, pack("<q", n_records))
        + tag("Header_End", 0xFFFF0008, bytes(8))
    )


@pytest.mark.parametrize(
    ("record_type", "wrap", "overflow", "channel_shift", "tick_s"),
    [
        (0x01010204, 33_554_432, 1 << 31 | 63 << 25 | 1, 25, 1e-12),
        (0x00010204, 33_552_000, 1 << 31 | 63 << 25 | 9, 25, 1e-12),
        (0x00010203, 210_698_240, 15 << 28, 28, 4e-12),
    ],
)
def test_ptu_overflows(
    tmp_path: Path, record_type: int, wrap: int, overflow: int, channel_shift: int, tick_s: float
) -> None:
    step = np.arange(N // 2, dtype=np.int64)
    records = np.empty(N, dtype=np.int64)
    records[0::2] = overflow
    records[1::2] = (step % 4) << channel_shift | step
    path = write(tmp_path, ptu_header(record_type, N, tick_s) + u32(records))
    tags = chunks_of(open_recording(path))
    assert np.array_equal(tags.ticks, (step + 1) * wrap + step)
    assert np.array_equal(ids(tags), step % 4 + 1)


def test_spc_overflows_and_a_gap_far_in(tmp_path: Path) -> None:
    step = np.arange(N, dtype=np.int64)
    gap = 524_288
    records = (step % 2) << 12 | 5 | 1 << 30  # MTOV on every photon
    records[gap] |= 1 << 29
    recording = open_recording(write(tmp_path, pack("<I", 1 << 31 | 500) + u32(records)), format="spc")
    tags = chunks_of(recording)
    assert np.array_equal(tags.ticks, (step + 1) * 4096 + 5)
    assert len(tags.lost) == 1
    assert tags.lost[0][0] <= gap * 4096 + 6
    assert tags.lost[0][1] >= (gap + 1) * 4096 + 4


def test_tdc1_wraps(tmp_path: Path) -> None:
    step = np.arange(N, dtype=np.int64)
    ticks = step * 60_000_007  # about two events a wrap
    records = (ticks % 2**27) << 5 | 1 << step % 4
    tags = chunks_of(open_recording(write(tmp_path, u32(records)), format="tdc1", tick_as=2 * 10**9))
    assert np.array_equal(tags.ticks, ticks)
    assert np.array_equal(tags.channel[:4], tags.channel[-4:])


@pytest.mark.parametrize("name", ["s15-a0", "s15-a1", "s15-a1x", "s15-a2"])
def test_s_fifteen_dummies(tmp_path: Path, name: str) -> None:
    n = N if name.startswith("s15-a1") else 200_000
    step = np.arange(n, dtype=np.int64)
    is_dummy = step % 10 == 9
    words = (step * 1_000_003).astype("<u8") << 10 | is_dummy.astype("<u8") << 4 | (~is_dummy).astype("<u8")
    if name == "s15-a1":
        content = words.tobytes()
    elif name == "s15-a1x":
        content = np.stack([words >> 32, words & 0xFFFFFFFF], axis=1).astype("<u4").tobytes()
    elif name == "s15-a0":
        content = "".join(f"{w & 0xFFFFFFFF:08x}\n{w >> 32:08x}\n" for w in words.tolist()).encode()
    else:
        content = "".join(f"{w:016x}\n" for w in words.tolist()).encode()
    recording = open_recording(write(tmp_path, content), format=name, tick_as=3_906_250)
    tags = read_all(recording)
    assert np.array_equal(tags.ticks, (step * 1_000_003)[~is_dummy])
    assert recording.stats.dummies == n // 10


def test_qutag_tags_late_across_a_chunk_border(tmp_path: Path) -> None:
    times = 260_000_000_000_000_003 + np.arange(N, dtype=np.int64) * 10_000
    late = [2**k for k in range(10, 21)]  # wherever a border of a power of two may lie
    disordered = times.copy()
    disordered[late] -= 85_900
    records = np.zeros(N, dtype=[("time", "<u8"), ("channel", "<u2")])
    records["time"] = disordered
    records["channel"] = 1 + np.arange(N) % 3
    recording = open_recording(write(tmp_path, records.tobytes()), format="qutag-raw", tick_as=PS)
    tags = chunks_of(recording)
    order = np.argsort(disordered, kind="stable")
    assert np.array_equal(tags.ticks, disordered[order])
    assert np.array_equal(ids(tags), records["channel"][order])
    assert recording.stats.backward_steps == len(late)
    assert recording.stats.worst_backward_ticks == 75_900


def test_dump_overflow_that_begins_and_ends_far_apart(tmp_path: Path) -> None:
    dump = np.zeros(
        N,
        dtype=[("type", "u1"), ("padding", "u1"), ("missed", "<u2"), ("channel", "<i4"), ("time", "<i8")],
    )
    times = np.arange(N, dtype=np.int64) * 1_000
    dump["time"] = times
    dump["channel"] = np.where(np.arange(N) < N // 2, 1, -1)
    dump["type"][100_000] = 2
    dump["type"][100_001:1_000_000] = 4
    dump["missed"][100_001:1_000_000] = 1
    dump["type"][1_000_000] = 3
    tags = chunks_of(open_recording(write(tmp_path, dump.tobytes()), format="swabian-dump", tick_as=PS))
    kept = dump["type"] == 0
    assert np.array_equal(tags.ticks, times[kept])
    assert np.array_equal(ids(tags), dump["channel"][kept])
    assert any(start <= 100_000_001 and end >= 999_999_999 for start, end in tags.lost)
    assert all(start > 99_999_000 and end < 1_000_001_000 for start, end in tags.lost)


def test_id900_inputs_of_unequal_rates(tmp_path: Path) -> None:
    by_input = {
        1: np.arange(N, dtype=np.int64) * 1_000,
        2: np.arange(50_000, dtype=np.int64) * 24_000 + 7,
        3: np.array([3, N * 1_000 + 1], dtype=np.int64),
    }
    paths = [write(tmp_path, t.astype("<u8").tobytes(), f"timestamps_C{k}.bin") for k, t in by_input.items()]
    tags = chunks_of(open_recording(paths, format="id900-bin", tick_as=PS, options={"index": False}))
    times = np.concatenate(list(by_input.values()))
    order = np.argsort(times, kind="stable")
    assert np.array_equal(tags.ticks, times[order])
    assert np.array_equal(ids(tags), np.repeat([1, 2, 3], [t.size for t in by_input.values()])[order])


@pytest.mark.parametrize("name", ["csv", "text2", "qutag-text"])
def test_text_lines_are_not_cut_between_chunks(tmp_path: Path, name: str) -> None:
    n = 300_000
    ticks = np.cumsum(10 ** (np.arange(n, dtype=np.int64) % 9))  # lines of many lengths
    rows = {"csv": "{0},{1}\n", "text2": "{1} {0}\n", "qutag-text": "{0}, {1}\n"}[name]
    head = "# tick_as=1000000\ntime,channel\n" if name == "csv" else ""
    text = head + "".join(rows.format(tick, i % 5) for i, tick in enumerate(ticks.tolist()))
    tags = read_all(open_recording(write(tmp_path, text.encode(), "run.txt"), format=name, tick_as=PS))
    assert np.array_equal(tags.ticks, ticks)
    assert np.array_equal(ids(tags), np.arange(n) % 5)
