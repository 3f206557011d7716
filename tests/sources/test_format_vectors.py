"""Vectors of the neutral containers, detection by content and refusals, from formats.md 1.1 and 1.12 to 1.14."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from struct import pack

import h5py
import numpy as np
import pytest

from qkdpp.core.errors import InputError
from qkdpp.core.tags import TimeTags
from qkdpp.sources import open_recording, read_all

PS = 10**6
KWIAT_TICK_AS = 78_125_000
LARGE = 260_000_000_000_000_003  # above 2^53


def write(tmp_path: Path, content: bytes | str, name: str) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def events(tags: TimeTags) -> list[tuple[int, int]]:
    indices = tags.channel.tolist()
    return [(tick, tags.channel_ids[i]) for tick, i in zip(tags.ticks.tolist(), indices, strict=True)]


# --- csv ---

CSV_EVENTS = [(-4, 1), (0, -2), (5, 300), (LARGE, 1), (LARGE + 1, 2)]


def csv_text(header: str = "time,channel", flags: str = "", comment: str = "# tick_as=81000000\n") -> str:
    return comment + header + "\n" + "".join(f"{t},{c}{flags}\n" for t, c in CSV_EVENTS)


def test_csv_with_its_own_tick(tmp_path: Path) -> None:
    recording = open_recording(write(tmp_path, csv_text(), "run.csv"))
    tags = read_all(recording)
    assert recording.format == "csv"
    assert tags.tick_as == 81_000_000
    assert events(tags) == CSV_EVENTS


def test_csv_with_flags_and_crlf(tmp_path: Path) -> None:
    text = csv_text("time,channel,flags", ",1").replace("\n", "\r\n")
    assert events(read_all(open_recording(write(tmp_path, text, "run.csv")))) == CSV_EVENTS


def test_csv_is_detected_whatever_its_extension(tmp_path: Path) -> None:
    assert open_recording(write(tmp_path, csv_text(), "run.ptu")).format == "csv"


def test_csv_without_unit_needs_a_declared_tick(tmp_path: Path) -> None:
    path = write(tmp_path, csv_text(comment=""), "run.csv")
    assert read_all(open_recording(path, format="csv", tick_as=PS)).tick_as == PS
    with pytest.raises(InputError):
        read_all(open_recording(path, format="csv"))


def test_csv_header_only_and_one_event(tmp_path: Path) -> None:
    head = "# tick_as=1000000\ntime,channel\n"
    assert len(read_all(open_recording(write(tmp_path, head, "empty.csv")))) == 0
    assert events(read_all(open_recording(write(tmp_path, head + "12,3\n", "one.csv")))) == [(12, 3)]


@pytest.mark.parametrize(
    "row", ["1.5,2", "1e3,2", "abc,2", "7", "7,", "7,2.0", "9223372036854775808,1", "-9223372036854775809,1"]
)
def test_csv_rows_that_are_not_two_int64_are_refused(tmp_path: Path, row: str) -> None:
    text = f"# tick_as=1000000\ntime,channel\n0,1\n{row}\n"
    with pytest.raises(InputError):
        read_all(open_recording(write(tmp_path, text, "run.csv"), format="csv"))


def test_csv_without_header_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_all(open_recording(write(tmp_path, "# tick_as=1000000\n0,1\n5,1\n", "run.csv"), format="csv"))


# --- two-column text ---


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_text_of_channel_and_tag(tmp_path: Path, separator: str) -> None:
    expected = [(5, 3), (9, 0), (10, 7), (LARGE, 4), (LARGE + 2, 0)]
    text = "".join(f"{channel}{separator}{tick}\n" for tick, channel in expected)
    tags = read_all(open_recording(write(tmp_path, text, "run.txt"), format="text2", tick_as=KWIAT_TICK_AS))
    assert tags.tick_as == KWIAT_TICK_AS
    assert events(tags) == expected


def test_text_empty_and_one_event(tmp_path: Path) -> None:
    empty = open_recording(write(tmp_path, "", "empty.txt"), format="text2", tick_as=PS)
    assert len(read_all(empty)) == 0
    one = open_recording(write(tmp_path, "6 44\n", "one.txt"), format="text2", tick_as=PS)
    assert events(read_all(one)) == [(44, 6)]


@pytest.mark.parametrize("row", ["1 2.5", "x 2", "1", "1 9223372036854775808"])
def test_text_rows_that_are_not_two_integers_are_refused(tmp_path: Path, row: str) -> None:
    with pytest.raises(InputError):
        read_all(open_recording(write(tmp_path, f"1 1\n{row}\n", "run.txt"), format="text2", tick_as=PS))


# --- npz and HDF5 ---


ARRAY_EVENTS = [(0, 1), (5, 300), (LARGE, 1), (LARGE + 1, 2)]
TIME = np.array([t for t, _ in ARRAY_EVENTS], dtype=np.int64)
CHANNEL = np.array([c for _, c in ARRAY_EVENTS], dtype=np.uint16)


def write_npz(tmp_path: Path, **arrays: np.ndarray) -> Path:
    path = tmp_path / "run.npz"
    np.savez(path, **arrays)
    return path


def test_npz(tmp_path: Path) -> None:
    meta = np.array(json.dumps({"tick_as": 82_300_000}))
    recording = open_recording(write_npz(tmp_path, time=TIME, channel=CHANNEL, meta=meta))
    tags = read_all(recording)
    assert recording.format == "npz"
    assert tags.tick_as == 82_300_000
    assert events(tags) == ARRAY_EVENTS


def test_npz_with_flags_and_without_events(tmp_path: Path) -> None:
    meta = np.array(json.dumps({"tick_as": PS}))
    flags = np.zeros(4, dtype=np.uint8)
    assert events(read_all(open_recording(write_npz(tmp_path, time=TIME, channel=CHANNEL, flags=flags, meta=meta))))
    tags = read_all(open_recording(write_npz(tmp_path, time=TIME[:0], channel=CHANNEL[:0], meta=meta)))
    assert len(tags) == 0


@pytest.mark.parametrize(
    "arrays",
    [
        {"time": TIME.astype(np.float64), "channel": CHANNEL},
        {"time": TIME, "channel": CHANNEL[:-1]},
        {"time": TIME.reshape(2, 2), "channel": CHANNEL.reshape(2, 2)},
        {"time": TIME},
        {"channel": CHANNEL},
        {"time": TIME.astype(object), "channel": CHANNEL},
    ],
)
def test_npz_of_wrong_columns_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    meta = np.array(json.dumps({"tick_as": PS}))
    with pytest.raises(InputError):
        read_all(open_recording(write_npz(tmp_path, **arrays, meta=meta)))


@pytest.mark.parametrize("meta", ["{", "[]", '{"tick_as": -1}', '{"tick_as": 0}', '{"tick_as": 1.5}', "{}"])
def test_npz_of_wrong_meta_is_refused(tmp_path: Path, meta: str) -> None:
    path = write_npz(tmp_path, time=TIME, channel=CHANNEL, meta=np.array(meta))
    with pytest.raises(InputError):
        read_all(open_recording(path))


def test_npz_with_a_pickled_meta_is_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path, time=TIME, channel=CHANNEL, meta=np.array({"tick_as": PS}, dtype=object))
    with pytest.raises(InputError):
        read_all(open_recording(path))


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(9223372036854775807,)", "(-4,)"])
def test_npz_that_announces_too_much_is_refused(tmp_path: Path, shape: str) -> None:
    path = write_npz(tmp_path, channel=CHANNEL, meta=np.array(json.dumps({"tick_as": PS})))
    head = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("time.npy", b"\x93NUMPY\x01\0" + pack("<H", len(head)) + head.encode() + TIME.tobytes())
    with pytest.raises(InputError):
        read_all(open_recording(path))


def test_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("time", data=TIME, chunks=(2,))
        file.create_dataset("channel", data=CHANNEL, chunks=(2,))
        file.attrs["tick_as"] = 500_000
    recording = open_recording(path)
    tags = read_all(recording)
    assert recording.format == "hdf5"
    assert tags.tick_as == 500_000
    assert events(tags) == ARRAY_EVENTS


def test_hdf5_without_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file.attrs["tick_as"] = 500_000
    with pytest.raises(InputError):
        read_all(open_recording(path))


# --- detection and refusals ---


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_all(open_recording(tmp_path / "absent.ptu"))


def test_headerless_bytes_must_be_declared(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_all(open_recording(write(tmp_path, pack("<4Q", 1, 2, 3, 4), "run.bin")))


def test_an_unknown_format_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_all(open_recording(write(tmp_path, b"\0" * 16, "run.bin"), format="nonsense", tick_as=PS))


@pytest.mark.parametrize("tick_as", [0, -1])
def test_a_tick_that_is_not_positive_is_refused(tmp_path: Path, tick_as: int) -> None:
    path = write(tmp_path, pack("<QH", 5, 1), "run.bin")
    with pytest.raises(InputError):
        read_all(open_recording(path, format="qutag-raw", tick_as=tick_as))


@pytest.mark.parametrize("name", ["ptu", "ht2", "ht3", "pt2", "qutag", "npz", "hdf5"])
def test_a_declared_kind_without_its_magic_is_refused(tmp_path: Path, name: str) -> None:
    for content in (b"", b"\x07" * 4096):
        with pytest.raises(InputError):
            read_all(open_recording(write(tmp_path, content, "run.bin"), format=name, tick_as=PS))


HEADERLESS_TICKS = {"qutag-raw": PS, "s15-a1": 3_906_250, "s15-a1x": 3_906_250, "swabian-dump": PS}


@pytest.mark.parametrize("name", HEADERLESS_TICKS)
def test_random_bytes_fail_the_sanity_check_of_a_headerless_kind(tmp_path: Path, name: str) -> None:
    content = np.random.default_rng(20261121).integers(0, 256, 80_000, dtype=np.uint8).tobytes()
    with pytest.raises(InputError):
        read_all(open_recording(write(tmp_path, content, "run.bin"), format=name, tick_as=HEADERLESS_TICKS[name]))


def test_random_records_fail_the_sanity_check_of_spc(tmp_path: Path) -> None:
    photons = np.random.default_rng(20261121).integers(0, 2**28, 20_000, dtype=np.uint32)
    content = pack("<I", 1 << 31 | 500) + photons.astype("<u4").tobytes()
    with pytest.raises(InputError):
        read_all(open_recording(write(tmp_path, content, "run.spc"), format="spc"))


EVEN_STEPS = np.arange(2_000, dtype=np.uint64) * 1_000_003 + 5
CARD_WORDS = EVEN_STEPS << 10 | 1
QUTAG_RECORDS = b"".join(pack("<QH", t, 1 + t % 3) for t in EVEN_STEPS.tolist())
INDEXED = b"".join(pack("<2Q", t % 10**8, t // 10**8) for t in EVEN_STEPS.tolist())


@pytest.mark.parametrize(
    ("content", "declared", "tick_as", "options"),
    [
        (CARD_WORDS.astype("<u8").tobytes(), "s15-a1x", 3_906_250, None),
        (b"".join(pack("<2I", w >> 32, w & 0xFFFFFFFF) for w in CARD_WORDS.tolist()), "s15-a1", 3_906_250, None),
        (QUTAG_RECORDS, "s15-a1", 3_906_250, None),
        (QUTAG_RECORDS, "swabian-dump", PS, None),
        (QUTAG_RECORDS, "id900-bin", PS, {"index": False}),
        (CARD_WORDS.astype("<u8").tobytes(), "qutag-raw", PS, None),
        (INDEXED, "id900-bin", PS, {"index": False}),
    ],
)
def test_a_headerless_kind_declared_as_another_is_refused(
    tmp_path: Path, content: bytes, declared: str, tick_as: int, options: dict[str, bool] | None
) -> None:
    path = write(tmp_path, content, "timestamps_C1.bin")
    with pytest.raises(InputError):
        read_all(open_recording(path, format=declared, tick_as=tick_as, options=options))


def test_two_recordings_with_different_ticks_stand_side_by_side(tmp_path: Path) -> None:
    one = read_all(open_recording(write(tmp_path, "1 10\n", "a.txt"), format="text2", tick_as=KWIAT_TICK_AS))
    two = read_all(open_recording(write(tmp_path, "1 10\n", "b.txt"), format="text2", tick_as=500_000))
    assert (one.tick_as, two.tick_as) == (KWIAT_TICK_AS, 500_000)
