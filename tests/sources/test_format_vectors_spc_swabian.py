"""Byte vectors of Becker & Hickl .spc and of the Swabian dump, assembled by hand from formats.md 1.9 and 1.4.

A routing number r may be called r or r + 1; whether markers of .spc come out as tags is left open.
"""

from __future__ import annotations

from pathlib import Path
from struct import pack

import pytest

from qkdpp.core.errors import InputError
from qkdpp.core.tags import TimeTags
from qkdpp.sources import open_recording, read_all

PS = 10**6


def write(tmp_path: Path, content: bytes, name: str) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def events(tags: TimeTags) -> list[tuple[int, int]]:
    indices = tags.channel.tolist()
    return [(tick, tags.channel_ids[i]) for tick, i in zip(tags.ticks.tolist(), indices, strict=True)]


def covers(tags: TimeTags, start: int, end: int) -> bool:
    """Whether one lost interval reaches from start to end, to one tick at either side."""
    return any(s <= start + 1 and e >= end - 1 for s, e in tags.lost)


def touches(tags: TimeTags, tick: int) -> bool:
    return any(s <= tick <= e for s, e in tags.lost)


# --- Becker & Hickl ---

CLOCK = 500  # 50 ns, in 0.1 ns
CLOCK_AS = 500 * 10**8


def spc_first(*, markers: bool = False) -> bytes:
    return pack("<I", 1 << 31 | markers << 25 | CLOCK)


def photon(macro: int, routing: int, adc: int = 0, *, mtov: bool = False, gap: bool = False) -> bytes:
    return pack("<I", mtov << 30 | gap << 29 | adc << 16 | routing << 12 | macro)


def marker(macro: int, number: int) -> bytes:
    return pack("<I", 1 << 31 | 1 << 28 | number << 12 | macro)


def spc_overflow(count: int) -> bytes:
    return pack("<I", 1 << 31 | 1 << 30 | count)


def assert_routing(found: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    assert [tick for tick, _ in found] == [tick for tick, _ in expected]
    assert any(found == [(tick, r + shift) for tick, r in expected] for shift in (0, 1)), found


def test_spc_macro_time_and_overflows(tmp_path: Path) -> None:
    content = spc_first() + b"".join(
        [
            photon(0, 0, adc=4095),
            photon(4095, 15, adc=0),
            photon(1, 2, adc=7, mtov=True),
            spc_overflow(1),
            photon(2, 1),
            spc_overflow(2**28 - 1),
            photon(3, 0, mtov=True),
        ]
    )
    recording = open_recording(write(tmp_path, content, "run.spc"), format="spc")
    tags = read_all(recording)
    assert recording.format == "spc"
    assert tags.tick_as == CLOCK_AS
    far = (2 + 2**28 - 1 + 1) * 4096 + 3
    assert_routing(events(tags), [(0, 0), (4095, 15), (4096 + 1, 2), (2 * 4096 + 2, 1), (far, 0)])
    assert tags.lost == ()


def test_spc_marker_is_not_a_photon(tmp_path: Path) -> None:
    content = spc_first(markers=True) + photon(100, 2) + marker(500, 2) + photon(900, 2)
    tags = read_all(open_recording(write(tmp_path, content, "run.spc"), format="spc"))
    found = events(tags)
    photons = [e for e in found if e[0] != 500]
    assert_routing(photons, [(100, 2), (900, 2)])
    assert all(channel != photons[0][1] for tick, channel in found if tick == 500)


def test_spc_gap_is_a_lost_interval(tmp_path: Path) -> None:
    content = spc_first() + photon(10, 0) + photon(100, 1) + photon(900, 1, gap=True) + photon(2000, 0)
    tags = read_all(open_recording(write(tmp_path, content, "run.spc"), format="spc"))
    assert_routing(events(tags), [(10, 0), (100, 1), (900, 1), (2000, 0)])
    assert covers(tags, 100, 900)
    assert not touches(tags, 10)
    assert not touches(tags, 2000)


def test_spc_header_only_and_one_event(tmp_path: Path) -> None:
    assert len(read_all(open_recording(write(tmp_path, spc_first(), "empty.spc"), format="spc"))) == 0
    one = write(tmp_path, spc_first() + photon(12, 3), "one.spc")
    assert_routing(events(read_all(open_recording(one, format="spc"))), [(12, 3)])


def test_spc_first_word_must_carry_bit_31(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_all(open_recording(write(tmp_path, pack("<I", CLOCK) + photon(12, 3), "odd.spc"), format="spc"))


def test_spc_clock_of_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_all(open_recording(write(tmp_path, pack("<I", 1 << 31) + photon(12, 3), "odd.spc"), format="spc"))


# --- Swabian dump ---

TAG, ERROR, OVERFLOW_BEGIN, OVERFLOW_END, MISSED = range(5)


def dump(time: int, channel: int, kind: int = TAG, missed: int = 0, padding: int = 0) -> bytes:
    return pack("<BBHiq", kind, padding, missed, channel, time)


def read_dump(tmp_path: Path, *records: bytes) -> TimeTags:
    path = write(tmp_path, b"".join(records), "run.dump")
    return read_all(open_recording(path, format="swabian-dump", tick_as=PS))


def test_dump_record_layout() -> None:
    record = dump(1, -2, MISSED, 3)
    assert record == b"\x04\0\x03\0\xfe\xff\xff\xff\x01\0\0\0\0\0\0\0"


def test_dump_channels_negative_and_above_255(tmp_path: Path) -> None:
    tags = read_dump(
        tmp_path,
        dump(0, 1),
        dump(5, -1, padding=0xFF),  # falling edge of input 1
        dump(7, 300),
        dump(SINCE_1970_PS, 18),
        dump(SINCE_1970_PS + 1, -18),
    )
    assert tags.tick_as == PS
    assert events(tags) == [(0, 1), (5, -1), (7, 300), (SINCE_1970_PS, 18), (SINCE_1970_PS + 1, -18)]
    assert tags.lost == ()


SINCE_1970_PS = 1_700_000_000_000_000_001  # above 2^53


def test_dump_overflow_is_a_lost_interval(tmp_path: Path) -> None:
    tags = read_dump(
        tmp_path,
        dump(100, 1),
        dump(900, 1),
        dump(1_000, 0, OVERFLOW_BEGIN),
        dump(5_000, 0, OVERFLOW_END),
        dump(6_000, 2),
        dump(9_000, 2),
    )
    assert events(tags) == [(100, 1), (900, 1), (6_000, 2), (9_000, 2)]
    assert covers(tags, 1_000, 5_000)
    assert not touches(tags, 100)
    assert not touches(tags, 9_000)


def test_dump_missed_events_are_flagged(tmp_path: Path) -> None:
    tags = read_dump(
        tmp_path,
        dump(100, 1),
        dump(900, 1),
        dump(1_000, 0, OVERFLOW_BEGIN),
        dump(3_000, 1, MISSED, missed=41),
        dump(5_000, 0, OVERFLOW_END),
        dump(9_000, 2),
        dump(20_000, 1, MISSED, missed=1),
        dump(30_000, 2),
    )
    assert events(tags) == [(100, 1), (900, 1), (9_000, 2), (30_000, 2)]
    assert covers(tags, 1_000, 5_000)
    assert touches(tags, 20_000)


def test_dump_errors_are_not_tags(tmp_path: Path) -> None:
    assert events(read_dump(tmp_path, dump(100, 1), dump(200, 1, ERROR), dump(300, 1))) == [(100, 1), (300, 1)]


def test_dump_empty_and_one_event(tmp_path: Path) -> None:
    assert len(read_dump(tmp_path)) == 0
    assert events(read_dump(tmp_path, dump(5, -3))) == [(5, -3)]


def test_dump_only_of_an_overflow(tmp_path: Path) -> None:
    tags = read_dump(tmp_path, dump(1_000, 0, OVERFLOW_BEGIN), dump(5_000, 0, OVERFLOW_END))
    assert len(tags) == 0
    assert covers(tags, 1_000, 5_000)


def test_dump_slice_in_seconds(tmp_path: Path) -> None:
    records = [dump(second * 10**12, second + 1) for second in range(4)]
    path = write(tmp_path, b"".join(records), "run.dump")
    recording = open_recording(path, format="swabian-dump", tick_as=PS)
    found = [e for chunk in recording.chunks(from_s=0.5, to_s=2.5) for e in events(chunk)]
    assert found == [(10**12, 2), (2 * 10**12, 3)]
