"""Byte vectors of PicoQuant PTU, assembled by hand from the format description (formats.md 1.2).

Nothing here was derived from the reader. Channel ids: photon input c (0-based) is id c + 1, a sync event is id 0,
marker line k is id 100 + k.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from struct import pack

import pytest

from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.tags import TimeTags, concatenate
from qkdpp.sources import open_recording, read_all

MAGIC = b"PQTTTR\0\0" + b"1.0.00\0\0"
INT8, FLOAT8 = 0x10000008, 0x20000008

PICOHARP_T2, PICOHARP_T3 = 0x00010203, 0x00010303
HYDRAHARP_V1_T2, HYDRAHARP_V1_T3 = 0x00010204, 0x00010304
V2_T2_TICKS_PS = {0x01010204: 1, 0x00010205: 250, 0x00010206: 25, 0x00010207: 5}
V2_T3 = (0x01010304, 0x00010305, 0x00010306, 0x00010307)
V1_WRAP, V2_WRAP, PICOHARP_WRAP = 33_552_000, 33_554_432, 210_698_240


def tag(ident: str, kind: int, value: bytes = bytes(8), payload: bytes = b"", idx: int = -1) -> bytes:
    return ident.encode().ljust(32, b"\0") + pack("<iI", idx, kind) + value + payload


def int_tag(ident: str, value: int) -> bytes:
    return tag(ident, INT8, pack("<q", value))


def float_tag(ident: str, value: float) -> bytes:
    return tag(ident, FLOAT8, pack("<d", value))


def header(record_type: int, n_records: int, global_s: float, resolution_s: float = 1e-12, extra: bytes = b"") -> bytes:
    mode = 3 if (record_type >> 8) & 0xF == 3 else 2
    return (
        MAGIC
        + int_tag("Measurement_Mode", mode)
        + int_tag("TTResultFormat_TTTRRecType", record_type)
        + int_tag("TTResultFormat_BitsPerRecord", 32)
        + int_tag("TTResult_SyncRate", 10_000_000)
        + float_tag("MeasDesc_GlobalResolution", global_s)
        + float_tag("MeasDesc_Resolution", resolution_s)
        + extra
        + int_tag("TTResult_NumberOfRecords", n_records)
        + tag("Header_End", 0xFFFF0008)
    )


def words(*values: int) -> bytes:
    return pack(f"<{len(values)}I", *values)


def ph_t2(channel: int, time: int) -> int:
    return channel << 28 | time


def ph_t3(channel: int, dtime: int, nsync: int) -> int:
    return channel << 28 | dtime << 16 | nsync


def hh_t2(channel: int, time: int, special: int = 0) -> int:
    return special << 31 | channel << 25 | time


def hh_t3(channel: int, dtime: int, nsync: int, special: int = 0) -> int:
    return special << 31 | channel << 25 | dtime << 10 | nsync


def overflow_t2(count: int) -> int:
    return hh_t2(63, count, special=1)


def overflow_t3(count: int) -> int:
    return hh_t3(63, 0, count, special=1)


def write(tmp_path: Path, content: bytes, name: str = "run.ptu") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def events(tags: TimeTags) -> list[tuple[int, int]]:
    indices = tags.channel.tolist()
    return [(tick, tags.channel_ids[i]) for tick, i in zip(tags.ticks.tolist(), indices, strict=True)]


def read_events(path: Path) -> list[tuple[int, int]]:
    tags = read_all(open_recording(path))
    assert str(tags.ticks.dtype) == "int64"
    return events(tags)


def read_strictly(path: Path) -> TimeTags:
    return read_all(open_recording(path, strict=True))


# --- T2 ---


@pytest.mark.parametrize("record_type", V2_T2_TICKS_PS)
def test_t2_of_the_v2_family(tmp_path: Path, record_type: int) -> None:
    tick_ps = V2_T2_TICKS_PS[record_type]
    body = words(
        hh_t2(0, 7),
        hh_t2(0, 10, special=1),  # sync event
        hh_t2(3, 33_554_431),
        overflow_t2(0),  # a count of 0 means 1
        hh_t2(62, 1),
        hh_t2(1, 100, special=1),  # marker line 1
        overflow_t2(3),
        hh_t2(8, 200, special=1),  # marker line 4
        hh_t2(1, 300),
        overflow_t2(33_554_431),
        hh_t2(0, 5),
    )
    path = write(tmp_path, header(record_type, 11, tick_ps * 1e-12) + body)
    recording = open_recording(path)
    tags = read_all(recording)
    assert recording.format == "ptu"
    assert recording.tick_as == tags.tick_as == tick_ps * 10**6
    far = (1 + 3 + 33_554_431) * V2_WRAP + 5
    assert events(tags) == [
        (7, 1),
        (10, 0),
        (33_554_431, 4),
        (V2_WRAP + 1, 63),
        (V2_WRAP + 100, 101),
        (4 * V2_WRAP + 200, 104),
        (4 * V2_WRAP + 300, 2),
        (far, 1),
    ]
    assert recording.stats.tags == 8
    assert recording.stats.backward_steps == 0


def test_t2_of_hydraharp_v1_counts_every_overflow_once(tmp_path: Path) -> None:
    body = words(
        hh_t2(0, 7),
        hh_t2(0, 11, special=1),
        overflow_t2(0),
        hh_t2(1, 8),
        overflow_t2(5),  # v1: always one, whatever the time field says
        hh_t2(2, 9, special=1),  # marker line 2
        overflow_t2(1),
        hh_t2(7, 33_551_999),
    )
    path = write(tmp_path, header(HYDRAHARP_V1_T2, 8, 1e-12) + body)
    assert read_events(path) == [
        (7, 1),
        (11, 0),
        (V1_WRAP + 8, 2),
        (2 * V1_WRAP + 9, 102),
        (3 * V1_WRAP + 33_551_999, 8),
    ]


def test_t2_of_picoharp(tmp_path: Path) -> None:
    body = words(
        ph_t2(0, 5),
        ph_t2(1, 210_698_239),
        ph_t2(15, 0),  # overflow
        ph_t2(0, 0x1001),
        ph_t2(15, 0x1002),  # marker line 2: its own bits cleared, so the time is 0x1000
        ph_t2(15, 0x2008),  # marker line 4
        ph_t2(15, 0x0120),  # bits 3..0 are zero: overflow
        ph_t2(4, 6),
    )
    path = write(tmp_path, header(PICOHARP_T2, 8, 4e-12) + body)
    recording = open_recording(path)
    tags = read_all(recording)
    assert tags.tick_as == 4_000_000
    assert events(tags) == [
        (5, 1),
        (210_698_239, 2),
        (PICOHARP_WRAP + 0x1000, 102),
        (PICOHARP_WRAP + 0x1001, 1),
        (PICOHARP_WRAP + 0x2000, 104),
        (2 * PICOHARP_WRAP + 6, 5),
    ]
    assert recording.stats.backward_steps == 1
    assert recording.stats.worst_backward_ticks == 1


def test_a_marker_word_with_two_lines_is_never_a_photon(tmp_path: Path) -> None:
    body = words(hh_t2(0, 7), hh_t2(3, 50, special=1), hh_t2(0, 90))
    found = read_events(write(tmp_path, header(0x01010204, 3, 1e-12) + body))
    assert [e for e in found if e[1] < 100] == [(7, 1), (90, 1)]
    assert {e for e in found if e[1] >= 100} <= {(50, 101), (50, 102), (50, 103)}


# --- T3 ---

SYNC_S, BIN_S = 1e-7, 16e-12
SYNC_AS, BIN_AS = 10**11, 16 * 10**6


def check_t3(path: Path, expected: list[tuple[int, int, int]]) -> None:
    """Compares with (nsync, dtime, id): time = nsync * sync period + dtime * bin, to one tick."""
    tags = read_all(open_recording(path))
    found = events(tags)
    assert tags.tick_as <= BIN_AS
    assert [channel for _, channel in found] == [channel for _, _, channel in expected]
    for (tick, _), (nsync, dtime, _) in zip(found, expected, strict=True):
        assert abs(tick - Fraction(nsync * SYNC_AS + dtime * BIN_AS, tags.tick_as)) <= 1


@pytest.mark.parametrize("record_type", V2_T3)
def test_t3_of_the_v2_family(tmp_path: Path, record_type: int) -> None:
    body = words(
        hh_t3(0, 3, 0),
        hh_t3(1, 6000, 1023),
        overflow_t3(0),  # a count of 0 means 1
        hh_t3(2, 0, 4),
        hh_t3(4, 0, 9, special=1),  # marker line 3
        overflow_t3(1023),
        hh_t3(0, 77, 5),
        overflow_t3(2),
        hh_t3(7, 1, 0),
    )
    path = write(tmp_path, header(record_type, 9, SYNC_S, BIN_S) + body)
    check_t3(
        path,
        [
            (0, 3, 1),
            (1023, 6000, 2),
            (1024 + 4, 0, 3),
            (1024 + 9, 0, 103),
            (1024 * 1024 + 5, 77, 1),
            (1026 * 1024, 1, 8),
        ],
    )


def test_t3_of_hydraharp_v1_counts_every_overflow_once(tmp_path: Path) -> None:
    body = words(hh_t3(0, 3, 1), overflow_t3(0), hh_t3(1, 40, 2), overflow_t3(7), hh_t3(2, 50, 3))
    path = write(tmp_path, header(HYDRAHARP_V1_T3, 5, SYNC_S, BIN_S) + body)
    check_t3(path, [(1, 3, 1), (1024 + 2, 40, 2), (2048 + 3, 50, 3)])


def test_t3_of_picoharp(tmp_path: Path) -> None:
    body = words(
        ph_t3(1, 4095, 65_535),
        ph_t3(15, 0, 0),  # overflow
        ph_t3(2, 10, 1),
        ph_t3(15, 1, 7),  # marker line 1
        ph_t3(15, 0, 0),
        ph_t3(1, 0, 9),
    )
    path = write(tmp_path, header(PICOHARP_T3, 6, SYNC_S, BIN_S) + body)
    check_t3(path, [(65_535, 4095, 2), (65_536 + 1, 10, 3), (65_536 + 7, 0, 101), (131_072 + 9, 0, 2)])


# --- header ---


def every_known_tag() -> bytes:
    text = "Träger".encode("utf-16-le").ljust(16, b"\0")
    return (
        tag("Some_Empty", 0xFFFF0008)
        + tag("Some_Bool", 0x00000008, pack("<q", 1))
        + tag("Some_Bits", 0x11000008, pack("<Q", 2**63))
        + tag("Some_Colour", 0x12000008, pack("<Q", 0xFF00FF))
        + tag("File_CreatingTime", 0x21000008, pack("<d", 45_000.5))
        + tag("Some_Floats", 0x2001FFFF, pack("<q", 16), pack("<2d", 0.25, -4.0))
        + tag("Some_Ints", 0x1001FFFF, pack("<q", 16), pack("<2q", -1, 2**40))
        + tag("CreatorSW_Name", 0x4001FFFF, pack("<q", 8), b"bench\0\0\0")
        + tag("Some_Wide", 0x4002FFFF, pack("<q", len(text)), text)
        + tag("Some_Blob", 0xFFFFFFFF, pack("<q", 48), b"Header_End".ljust(48, b"\0"))
        + tag("Some_Array", INT8, pack("<q", 3), idx=2)
    )


def test_every_tag_type_is_stepped_over_exactly(tmp_path: Path) -> None:
    path = write(tmp_path, header(0x00010207, 1, 1e-12, extra=every_known_tag()) + words(hh_t2(5, 42)))
    assert read_events(path) == [(42, 6)]


def test_unknown_idents_are_kept(tmp_path: Path) -> None:
    extra = int_tag("Lab_CupboardNumber", 17)
    path = write(tmp_path, header(0x00010207, 1, 1e-12, extra=extra) + words(hh_t2(5, 42)))
    recording = open_recording(path)
    assert "Lab_CupboardNumber" in repr(dict(recording.metadata))
    assert events(read_all(recording)) == [(42, 6)]


@pytest.mark.parametrize("kind", [0x00000009, 0x30000008, 0x5001FFFF])
def test_unknown_tag_type_is_refused(tmp_path: Path, kind: int) -> None:
    path = write(tmp_path, header(0x00010207, 1, 1e-12, extra=tag("Odd", kind)) + words(hh_t2(5, 42)))
    with pytest.raises(FormatError):
        read_all(open_recording(path))


@pytest.mark.parametrize("length", [2**63 - 1, 2**63 - 8, 10**9, -8])
@pytest.mark.parametrize("kind", [0x2001FFFF, 0x1001FFFF, 0x4001FFFF, 0x4002FFFF, 0xFFFFFFFF])
def test_payload_past_the_end_is_refused(tmp_path: Path, kind: int, length: int) -> None:
    extra = tag("Long", kind, pack("<q", length), b"12345678")
    path = write(tmp_path, header(0x00010207, 1, 1e-12, extra=extra) + words(hh_t2(5, 42)))
    with pytest.raises(InputError):
        read_all(open_recording(path))


@pytest.mark.parametrize("keep", [8, 16, 40, 64, 200])
def test_header_without_end_is_refused(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path, header(0x00010207, 1, 1e-12)[:keep])
    with pytest.raises(InputError):
        read_all(open_recording(path))


def test_unknown_record_type_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, header(0x00010299, 1, 1e-12) + words(hh_t2(5, 42)))
    with pytest.raises(InputError):
        read_all(open_recording(path))


@pytest.mark.parametrize("global_s", [0.0, -1e-12, float("nan"), float("inf"), 1e300])
def test_nonsense_resolution_is_refused(tmp_path: Path, global_s: float) -> None:
    path = write(tmp_path, header(0x00010207, 1, global_s) + words(hh_t2(5, 42)))
    with pytest.raises(InputError):
        read_all(open_recording(path))


@pytest.mark.parametrize("ident", ["TTResultFormat_TTTRRecType", "MeasDesc_GlobalResolution"])
def test_missing_tag_is_refused(tmp_path: Path, ident: str) -> None:
    head = header(0x00010207, 1, 1e-12).replace(ident.encode(), b"X" * len(ident))
    path = write(tmp_path, head + words(hh_t2(5, 42)))
    with pytest.raises(InputError):
        read_all(open_recording(path))


def test_dropped_events_flag_is_reported(tmp_path: Path) -> None:
    body = words(hh_t2(5, 42))
    counts = []
    for flags in (0, 0x080):
        extra = int_tag("TTResult_MDescWarningFlags", flags)
        recording = open_recording(write(tmp_path, header(0x00010207, 1, 1e-12, extra=extra) + body, f"{flags}.ptu"))
        assert events(read_all(recording)) == [(42, 6)]
        counts.append(len(recording.stats.warnings))
    assert counts[0] == 0
    assert counts[1] > 0


# --- what a reader must survive ---


@pytest.mark.parametrize("announced", [3, 10**9, 2**63 - 1])
def test_header_count_larger_than_the_file(tmp_path: Path, announced: int) -> None:
    path = write(tmp_path, header(0x00010207, announced, 1e-12) + words(hh_t2(0, 4), hh_t2(1, 6)))
    recording = open_recording(path)
    assert events(read_all(recording)) == [(4, 1), (6, 2)]
    assert recording.stats.warnings
    with pytest.raises(InputError):
        read_strictly(path)


@pytest.mark.parametrize("n_bytes", [1, 2, 3])
def test_last_record_cut(tmp_path: Path, n_bytes: int) -> None:
    body = words(hh_t2(0, 4), hh_t2(1, 6)) + words(hh_t2(2, 9))[:n_bytes]
    path = write(tmp_path, header(0x00010207, 3, 1e-12) + body)
    recording = open_recording(path)
    assert events(read_all(recording)) == [(4, 1), (6, 2)]
    assert recording.stats.truncated_bytes == n_bytes
    assert recording.stats.warnings
    with pytest.raises(InputError):
        read_strictly(path)


@pytest.mark.parametrize("record_type", [PICOHARP_T2, HYDRAHARP_V1_T2, 0x01010204, PICOHARP_T3, 0x00010307])
def test_header_only_and_overflows_only(tmp_path: Path, record_type: int) -> None:
    is_t3 = record_type in (PICOHARP_T3, 0x00010307)
    lone = {PICOHARP_T2: ph_t2(15, 0), PICOHARP_T3: ph_t3(15, 0, 0)}.get(record_type, overflow_t2(1))
    head = header(record_type, 0, SYNC_S if is_t3 else 4e-12, BIN_S)
    for name, body in (("empty.ptu", b""), ("overflow.ptu", words(lone))):
        recording = open_recording(write(tmp_path, head + body, name))
        assert len(read_all(recording)) == 0
        assert recording.stats.tags == 0


def test_content_decides_and_not_the_extension(tmp_path: Path) -> None:
    path = write(tmp_path, header(0x01010204, 1, 1e-12) + words(hh_t2(0, 4)), "night.timeres")
    assert open_recording(path).format == "ptu"
    assert read_events(path) == [(4, 1)]


def test_chunks_of_a_long_run_carry_the_overflow(tmp_path: Path) -> None:
    n = 200_000
    body = b"".join(words(overflow_t2(1), hh_t2(i % 4, i)) for i in range(n))
    path = write(tmp_path, header(0x01010204, 2 * n, 1e-12) + body)
    tags = concatenate(list(open_recording(path).chunks()))
    assert events(tags) == [((i + 1) * V2_WRAP + i, i % 4 + 1) for i in range(n)]
