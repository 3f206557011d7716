"""Byte vectors of S-Fifteen / CQT timestamp words and of TDC1, assembled by hand from formats.md 1.7.

The description gives one pattern bit per input but no channel number, so an input k may be called k, k + 1 or 2**k,
as long as the same rule holds for the whole file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from struct import pack

import pytest

from qkdpp.core.errors import InputError
from qkdpp.core.tags import TimeTags
from qkdpp.sources import open_recording, read_all

TICK_AS = 3_906_250  # 1/256 ns
TDC1_TICK_AS = 2 * 10**9  # 2 ns
DUMMY = 1

NAMINGS: tuple[Callable[[int], int], ...] = (lambda k: k, lambda k: k + 1, lambda k: 1 << k)


def word(time: int, pattern: int, flags: int = 0) -> int:
    return time << 10 | flags << 4 | pattern


def a1(words: Sequence[int]) -> bytes:
    return pack(f"<{len(words)}Q", *words)


def a1x(words: Sequence[int]) -> bytes:
    return b"".join(pack("<2I", w >> 32, w & 0xFFFFFFFF) for w in words)


def a0(words: Sequence[int]) -> bytes:
    return "".join(f"{w & 0xFFFFFFFF:08x}\n{w >> 32:08x}\n" for w in words).encode()


def a2(words: Sequence[int]) -> bytes:
    return "".join(f"{w:016x}\n" for w in words).encode()


ENCODINGS: dict[str, Callable[[Sequence[int]], bytes]] = {"s15-a0": a0, "s15-a1": a1, "s15-a1x": a1x, "s15-a2": a2}


def write(tmp_path: Path, content: bytes, name: str = "run.dat") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def events(tags: TimeTags) -> list[tuple[int, int]]:
    indices = tags.channel.tolist()
    return [(tick, tags.channel_ids[i]) for tick, i in zip(tags.ticks.tolist(), indices, strict=True)]


def assert_inputs(tags: TimeTags, expected: Sequence[tuple[int, int]]) -> None:
    """Compares with (tick, input k) under one of the three namings of the inputs."""
    found = events(tags)
    assert [tick for tick, _ in found] == [tick for tick, _ in expected]
    assert any(found == [(tick, naming(k)) for tick, k in expected] for naming in NAMINGS), found


WORDS = [
    word(3, 0b0001, flags=0b110000),  # bits 9 and 8 set
    word(4, 0b0010, flags=0b110010),  # bit 5 set
    word(2**25, 0b0000, flags=DUMMY),
    word(2**25 + 9, 0b0100),
    word(2**26, 0b0001, flags=0b110000 | DUMMY),  # a dummy whatever its pattern says
    word(2**26 + 1, 0b1000, flags=0b111110),
    word(2**54 - 3, 0b0001, flags=0b110000),  # the last ticks before the wrap
    word(2**54 - 1, 0b1000),
]
EXPECTED = [(3, 0), (4, 1), (2**25 + 9, 2), (2**26 + 1, 3), (2**54 - 3, 0), (2**54 - 1, 3)]


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_encoding_gives_the_same_events(tmp_path: Path, name: str) -> None:
    recording = open_recording(write(tmp_path, ENCODINGS[name](WORDS)), format=name, tick_as=TICK_AS)
    tags = read_all(recording)
    assert recording.format == name
    assert tags.tick_as == TICK_AS
    assert_inputs(tags, EXPECTED)
    assert recording.stats.tags == 6
    assert recording.stats.dummies == 2
    assert recording.stats.backward_steps == 0


def test_known_bytes_of_one_word() -> None:
    # time 1, flags 0, input 0: bit 10 and bit 0
    assert word(1, 1) == 0x401
    assert a1([0x401]) == b"\x01\x04\0\0\0\0\0\0"
    assert a1x([0x401]) == b"\0\0\0\0\x01\x04\0\0"
    assert a0([0x401]) == b"00000401\n00000000\n"
    assert a2([0x401]) == b"0000000000000401\n"


def test_time_goes_on_over_the_wrap_of_54_bits(tmp_path: Path) -> None:
    words = [word(2**54 - 2**30, 1), word(2**54 - 1, 2), word(5, 4), word(2**30, 8)]
    tags = read_all(open_recording(write(tmp_path, a1(words)), format="s15-a1", tick_as=TICK_AS))
    assert (tags.ticks - tags.ticks[0]).tolist() == [0, 2**30 - 1, 2**30 + 5, 2**31]


@pytest.mark.parametrize("name", ["s15-a0", "s15-a2"])
def test_text_with_other_line_ends_and_capitals(tmp_path: Path, name: str) -> None:
    text = ENCODINGS[name](WORDS).upper().replace(b"\n", b"\r\n")
    assert_inputs(read_all(open_recording(write(tmp_path, text), format=name, tick_as=TICK_AS)), EXPECTED)


@pytest.mark.parametrize("name", ENCODINGS)
def test_empty_and_one_event(tmp_path: Path, name: str) -> None:
    empty = read_all(open_recording(write(tmp_path, b"", "empty"), format=name, tick_as=TICK_AS))
    assert len(empty) == 0
    one = write(tmp_path, ENCODINGS[name]([word(77, 0b0010)]), "one")
    assert_inputs(read_all(open_recording(one, format=name, tick_as=TICK_AS)), [(77, 1)])


def test_only_dummies(tmp_path: Path) -> None:
    words = [word(i * 2**25, 0, flags=DUMMY) for i in range(1, 6)]
    recording = open_recording(write(tmp_path, a1(words)), format="s15-a1", tick_as=TICK_AS)
    assert len(read_all(recording)) == 0
    assert recording.stats.dummies == 5


def test_coincidence_patterns_are_never_a_single_new_input(tmp_path: Path) -> None:
    words = [word(10, 0b0001), word(20, 0b0011), word(30, 0b0010)]
    found = events(read_all(open_recording(write(tmp_path, a1(words)), format="s15-a1", tick_as=TICK_AS)))
    singles = [(tick, channel) for tick, channel in found if tick != 20]
    assert any(singles == [(10, naming(0)), (30, naming(1))] for naming in NAMINGS)


def test_backward_steps_are_counted_and_never_fatal(tmp_path: Path) -> None:
    times = [i * 10**6 for i in range(2_000)]
    for late in (500, 1_500):
        times[late] -= 2**24  # 65.5 us
    words = [word(t, 0b0001) for t in times]
    recording = open_recording(write(tmp_path, a1(words)), format="s15-a1", tick_as=TICK_AS)
    ticks = read_all(recording).ticks.tolist()
    assert ticks == sorted(ticks)
    assert set(ticks) <= set(times)
    assert recording.stats.backward_steps == 2
    assert recording.stats.worst_backward_ticks == 2**24 - 10**6


def test_text_that_is_not_hexadecimal_is_refused(tmp_path: Path) -> None:
    for name, text in (("s15-a2", b"00000000000004x1\n"), ("s15-a0", b"00000401\n0000000z\n")):
        with pytest.raises(InputError):
            read_all(open_recording(write(tmp_path, text), format=name, tick_as=TICK_AS))


# --- TDC1 ---


def tdc1(*records: tuple[int, int, int]) -> bytes:
    """Records (time, non-event, pattern) as u32: 31..5 time, 4 non-event, 3..0 pattern."""
    return b"".join(pack("<I", time << 5 | rollover << 4 | pattern) for time, rollover, pattern in records)


def test_tdc1_wraps(tmp_path: Path) -> None:
    content = tdc1(
        (5, 0, 0b0001),
        (2**27 - 1, 0, 0b0010),
        (0, 1, 0b0000),  # rollover: time has gone down, so one wrap
        (3, 0, 0b0100),
        (2, 0, 0b1000),  # down again: a second wrap
        (90, 0, 0b0001),
    )
    recording = open_recording(write(tmp_path, content), format="tdc1", tick_as=TDC1_TICK_AS)
    tags = read_all(recording)
    assert tags.tick_as == TDC1_TICK_AS
    expected = [(5, 0), (2**27 - 1, 1), (2**27 + 3, 2), (2**28 + 2, 3), (2**28 + 90, 0)]
    assert_inputs(tags, expected)
    assert recording.stats.tags == 5


def test_tdc1_long_run_of_wraps(tmp_path: Path) -> None:
    n = 50_000
    content = tdc1(*[(10, 0, 1), (2**27 - 5, 0, 2)] * n)
    tags = read_all(open_recording(write(tmp_path, content), format="tdc1", tick_as=TDC1_TICK_AS))
    expected = [(wrap * 2**27 + t, k) for wrap in range(n) for t, k in ((10, 0), (2**27 - 5, 1))]
    assert_inputs(tags, expected)


def test_tdc1_empty_and_one_event(tmp_path: Path) -> None:
    assert len(read_all(open_recording(write(tmp_path, b"", "e"), format="tdc1", tick_as=TDC1_TICK_AS))) == 0
    one = write(tmp_path, tdc1((7, 0, 0b1000)), "one")
    assert_inputs(read_all(open_recording(one, format="tdc1", tick_as=TDC1_TICK_AS)), [(7, 3)])
