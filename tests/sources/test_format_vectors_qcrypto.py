"""Byte vectors of qcrypto epoch files, assembled by hand from formats.md 1.8.

Times of type 1 are compared modulo one epoch (2^32 * 125 ps) and as differences: the description leaves open how a
reader places an epoch on its own axis. Inputs may be called k, k + 1 or 2**k. Types 3 and 7 carry no times: entry i is
the tag at tick i, and its value is the channel id.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from struct import pack

import pytest

from qkdpp.core.errors import InputError
from qkdpp.core.tags import TimeTags
from qkdpp.sources import open_recording, read_all

EPOCH = 0x12A3B  # below 2^17, so the card's 17-bit epoch equals it
EPOCH_UNITS = 2**32  # of 125 ps
UNIT_AS = 125_000_000


def card_word(epoch: int, units: int, pattern: int) -> int:
    """A 64-bit word of 1.7 from an epoch and 125 ps units within it: 49 bits of time in 63..15."""
    return ((epoch & 0x1FFFF) << 32 | units) << 15 | pattern


def raw_pairs(words: Sequence[int]) -> bytes:
    return b"".join(pack("<2I", w >> 32, w & 0xFFFFFFFF) for w in words)


def raw_file(words: Sequence[int], *, tag: int = 1, epoch: int = EPOCH, length: int | None = None) -> bytes:
    n = len(words) if length is None else length
    return pack("<5I", tag, epoch, n, 49, 4) + raw_pairs(words) + bytes(8)


def packed_words(bits: str) -> bytes:
    """Bits from the most significant bit of each little-endian word, padded with 0."""
    padded = bits.ljust(-(-len(bits) // 32) * 32, "0")
    return b"".join(pack("<I", int(padded[i : i + 32], 2)) for i in range(0, len(padded), 32))


def write(tmp_path: Path, content: bytes, epoch: int = EPOCH) -> Path:
    path = tmp_path / f"{epoch:x}"
    path.write_bytes(content)
    return path


def events(tags: TimeTags) -> list[tuple[int, int]]:
    indices = tags.channel.tolist()
    return [(tick, tags.channel_ids[i]) for tick, i in zip(tags.ticks.tolist(), indices, strict=True)]


IN_EPOCH = [(0, 0), (1, 1), (70_000, 2), (2**31, 3), (2**32 - 1, 0)]
WORDS = [card_word(EPOCH, units, 1 << k) for units, k in IN_EPOCH]


def assert_raw(tags: TimeTags, expected: Sequence[tuple[int, int]]) -> None:
    found = events(tags)
    times_as = [tick * tags.tick_as for tick, _ in found]
    assert [t % (EPOCH_UNITS * UNIT_AS) for t in times_as] == [units * UNIT_AS for units, _ in expected]
    assert [t - times_as[0] for t in times_as] == [(units - expected[0][0]) * UNIT_AS for units, _ in expected]
    channels = [channel for _, channel in found]
    inputs = [k for _, k in expected]
    assert channels in (inputs, [k + 1 for k in inputs], [1 << k for k in inputs])


@pytest.mark.parametrize("tag", [0x001, 0x101])
def test_raw_epoch_is_found_by_its_name(tmp_path: Path, tag: int) -> None:
    recording = open_recording(write(tmp_path, raw_file(WORDS, tag=tag)))
    tags = read_all(recording)
    assert recording.format == "qcrypto"
    assert_raw(tags, IN_EPOCH)


def test_raw_epoch_of_unknown_length_ends_at_the_terminator(tmp_path: Path) -> None:
    assert_raw(read_all(open_recording(write(tmp_path, raw_file(WORDS, length=0)))), IN_EPOCH)


def test_raw_epoch_without_events(tmp_path: Path) -> None:
    assert len(read_all(open_recording(write(tmp_path, raw_file([]))))) == 0


def test_raw_epoch_of_one_event(tmp_path: Path) -> None:
    assert_raw(read_all(open_recording(write(tmp_path, raw_file(WORDS[2:3])))), IN_EPOCH[2:3])


@pytest.mark.parametrize("first", [EPOCH, 0x1FFFF, 0x0B4DFFFF])
def test_raw_epochs_follow_each_other(tmp_path: Path, first: int) -> None:
    """Also where the card's 17 bits roll over."""
    paths = []
    for epoch in (first, first + 1):
        words = [card_word(epoch, units, 1) for units in (5, 2**32 - 7)]
        paths.append(write(tmp_path, raw_file(words, tag=0x101, epoch=epoch), epoch))
    tags = read_all(open_recording(paths))
    times = [(tick - int(tags.ticks[0])) * tags.tick_as for tick in tags.ticks.tolist()]
    assert times == [units * UNIT_AS for units in (0, 2**32 - 12, 2**32, 2**33 - 12)]


@pytest.mark.parametrize("length", [2**31 - 1, 2**32 - 1])
def test_raw_epoch_that_announces_too_much(tmp_path: Path, length: int) -> None:
    path = write(tmp_path, raw_file(WORDS, length=length))
    try:
        tags = read_all(open_recording(path))
    except InputError:
        return
    assert_raw(tags, IN_EPOCH)


def test_a_name_that_is_not_the_epoch_is_not_taken_for_qcrypto(tmp_path: Path) -> None:
    path = tmp_path / "12a3c"
    path.write_bytes(raw_file(WORDS))
    with pytest.raises(InputError):
        read_all(open_recording(path))


def values_file(values: Sequence[int], bits: int, *, tag: int = 3) -> bytes:
    stream = "".join(f"{value:0{bits}b}" for value in values)
    return pack("<4I", tag, EPOCH, len(values), bits) + packed_words(stream)


@pytest.mark.parametrize("tag", [0x003, 0x103])
@pytest.mark.parametrize(
    ("bits", "values"),
    [
        (1, [1, 0, 0, 1, 1]),
        (1, [0, 1] * 31 + [1, 1, 1]),
        (2, [3, 0, 2, 1]),
        (4, [1, 2, 4, 8, 0, 1, 8, 8, 2]),
        (8, [0x12, 0x84, 0x00, 0xF1, 0x48]),  # service: Alice's pattern in the high nibble
    ],
)
def test_values(tmp_path: Path, tag: int, bits: int, values: list[int]) -> None:
    recording = open_recording(write(tmp_path, values_file(values, bits, tag=tag)))
    tags = read_all(recording)
    assert recording.format == "qcrypto"
    assert events(tags) == list(enumerate(values))


def test_known_bytes_of_values(tmp_path: Path) -> None:
    content = bytes.fromhex("03000000 3b2a0100 09000000 04000000 88018412 00000020")
    assert content == values_file([1, 2, 8, 4, 0, 1, 8, 8, 2], 4)
    tags = read_all(open_recording(write(tmp_path, content)))
    assert events(tags) == list(enumerate([1, 2, 8, 4, 0, 1, 8, 8, 2]))


def key_file(bits: str, *, tag: int = 7, n_bits: int | None = None) -> bytes:
    return pack("<4I", tag, EPOCH, 3, len(bits) if n_bits is None else n_bits) + packed_words(bits)


@pytest.mark.parametrize("tag", [0x007, 0x107])
@pytest.mark.parametrize("bits", ["1", "0" * 31 + "1", "1" + "0" * 31 + "01", "10" * 50])
def test_key_bits(tmp_path: Path, tag: int, bits: str) -> None:
    tags = read_all(open_recording(write(tmp_path, key_file(bits, tag=tag))))
    assert events(tags) == [(i, int(bit)) for i, bit in enumerate(bits)]


def test_known_bytes_of_a_key(tmp_path: Path) -> None:
    content = bytes.fromhex("07000000 3b2a0100 01000000 24000000 010000a0 00000050")
    tags = read_all(open_recording(write(tmp_path, content)))
    ones = [tick for tick, value in events(tags) if value == 1]
    assert len(tags) == 36
    assert ones == [0, 2, 31, 33, 35]


@pytest.mark.parametrize("content", [values_file([], 4), key_file("")])
def test_values_and_key_without_entries(tmp_path: Path, content: bytes) -> None:
    assert len(read_all(open_recording(write(tmp_path, content)))) == 0


@pytest.mark.parametrize("announced", [65, 2**31 - 1, 2**32 - 1])
def test_key_that_announces_too_much(tmp_path: Path, announced: int) -> None:
    path = write(tmp_path, key_file("1" * 64, n_bits=announced))
    recording = open_recording(path)
    try:
        tags = read_all(recording)
    except InputError:
        return
    assert events(tags) == [(i, 1) for i in range(64)]
    assert recording.stats.warnings


@pytest.mark.parametrize("bits", [0, 33, 2**31, 2**32 - 1])
def test_values_of_nonsense_width_are_refused(tmp_path: Path, bits: int) -> None:
    content = pack("<4I", 3, EPOCH, 4, bits) + bytes(64)
    with pytest.raises(InputError):
        read_all(open_recording(write(tmp_path, content)))


@pytest.mark.parametrize("tag", [1, 3, 7])
def test_cut_header_is_refused(tmp_path: Path, tag: int) -> None:
    path = write(tmp_path, pack("<3I", tag, EPOCH, 5))
    with pytest.raises(InputError):
        read_all(open_recording(path, format="qcrypto"))


def test_tag_and_epoch_bytes() -> None:
    head = raw_file([], tag=0x101)
    assert head[:8] == b"\x01\x01\0\0\x3b\x2a\x01\0"
    assert packed_words("1" + "0" * 31 + "01") == b"\0\0\0\x80\0\0\0\x40"
