"""Small valid files of every format, assembled by hand, as a stock for mutation."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from qkdpp.core.tags import TimeTags
from qkdpp.sources import write_recording

N = 40
TIMES = np.arange(N, dtype=np.int64) * 1_000_003 + 17


def ptu_tag(ident: str, kind: int, value: bytes, index: int = -1) -> bytes:
    return struct.pack("<32siI", ident.encode(), index, kind) + value


def ptu(code: int, words: bytes, *, n_records: int | None = None, extra: bytes = b"") -> bytes:
    """A PTU file with the tags that a reader needs (T2 tick 1 ps; T3 bin 16 ps at a sync of 25 ns)."""
    t3 = (code >> 8) & 0xFF == 3
    head = b"PQTTTR\0\0" + b"1.0.00\0\0" + extra
    head += ptu_tag("TTResultFormat_TTTRRecType", 0x10000008, struct.pack("<q", code))
    head += ptu_tag("TTResultFormat_BitsPerRecord", 0x10000008, struct.pack("<q", 32))
    head += ptu_tag("MeasDesc_GlobalResolution", 0x20000008, struct.pack("<d", 25e-9 if t3 else 1e-12))
    head += ptu_tag("MeasDesc_Resolution", 0x20000008, struct.pack("<d", 16e-12 if t3 else 1e-12))
    count = len(words) // 4 if n_records is None else n_records
    head += ptu_tag("TTResult_NumberOfRecords", 0x10000008, struct.pack("<q", count))
    return head + ptu_tag("Header_End", 0xFFFF0008, bytes(8)) + words


def record_words(code: int) -> bytes:
    """Photons, overflows, markers and sync events of one record family."""
    special = {0x3: 15 << 28}.get(code & 0xFF, 1 << 31 | 63 << 25)
    words = []
    for i in range(N):
        words.append((i % 3 + 1) << (28 if code & 0xFF == 3 else 25) | (i * 20 % 1000))
        if i % 7 == 3:
            words.append(special if code & 0xFF == 3 else special | 2)
        if i % 11 == 5:
            words.append(special | 3 if code & 0xFF == 3 else 1 << 31 | 3 << 25 | 30)
    return struct.pack(f"<{len(words)}I", *words)


def hydraharp(version: bytes, mode: int, words: bytes, *, n_records: int | None = None) -> bytes:
    """A .ht2 or .ht3 file with two inputs."""
    head = bytearray(696)
    head[0:9], head[16 : 16 + len(version)] = b"HydraHarp", version
    struct.pack_into("<6i", head, 328, 0, 32, 0, mode, 0, 0)
    struct.pack_into("<d", head, 352, 16.0 if mode == 3 else 1.0)
    struct.pack_into("<d", head, 648, 1.0)
    struct.pack_into("<i", head, 664, 2)
    struct.pack_into("<i", head, 680, 1)
    count = len(words) // 4 if n_records is None else n_records
    return bytes(head) + bytes(40) + struct.pack("<4iq", 40_000_000, 0, 0, 0, count) + words


def picoharp(mode: int, words: bytes) -> bytes:
    """A .pt2 or .pt3 file with one board."""
    head = bytearray(536)
    head[0:12], head[16:19] = b"PicoHarp 300", b"2.0"
    struct.pack_into("<10i", head, 328, 0, 32, 1, 1, 0, mode, 0, 0, 0, 1000)
    board = struct.pack("<16s8s6if26i", b"PicoHarp 300", b"2.0", 1, 1, 0, 0, 0, 0, 0.032, *[0] * 26)
    return bytes(head) + board + struct.pack("<9i", 0, 0, 0, 40_000_000, 100, 0, 0, len(words) // 4, 0) + words


def s15_words() -> list[int]:
    return [int(t) << 10 | (0x10 if i % 5 == 4 else 0) << 0 | 1 << i % 4 for i, t in enumerate(TIMES)]


def written(folder: Path, name: str) -> bytes:
    """What our own writer makes of the sample tags."""
    tags = TimeTags(
        ticks=TIMES,
        channel=(np.arange(N) % 4).astype(np.uint8),
        channel_ids=(1, 2, 3, 4),
        tick_as=10**6,
        lost=((1_000, 2_000),),
    )
    path = folder / f"{name}.sample"
    write_recording(path, [tags], format=name, metadata={"comment": "sample"})
    content = path.read_bytes()
    path.unlink()
    return content


def foreign_hdf5(folder: Path) -> bytes:
    """HDF5 as somebody else writes it: ``time``, channel numbers, texts of variable length in attributes."""
    path = folder / "foreign.sample"
    with h5py.File(path, "w") as file:
        file["time"], file["channel"] = TIMES, (np.arange(N) % 4).astype(np.uint16)
        file.attrs["meta"], file.attrs["instrument"] = np.bytes_('{"tick_as": 1000000}'), "a tagger"
    return path.read_bytes()


def photon_hdf5(folder: Path) -> bytes:
    """A minimal Photon-HDF5 file of one spot."""
    path = folder / "photon.sample"
    with h5py.File(path, "w") as file:
        file.attrs["format_name"] = "Photon-HDF5"
        group = file.create_group("photon_data")
        group["timestamps"], group["detectors"] = TIMES, (np.arange(N) % 2).astype(np.uint8)
        group["timestamps_specs/timestamps_unit"] = 12.5e-9
    return path.read_bytes()


PTU_CODES = (
    0x00010203, 0x00010303, 0x00010204, 0x00010304, 0x01010204, 0x01010304,
    0x00010205, 0x00010305, 0x00010206, 0x00010306, 0x00010207, 0x00010307,
)  # fmt: skip


def samples(folder: Path) -> list[tuple[str, dict[str, object], bytes]]:
    """(format, further arguments of open_recording, content) of every readable kind."""
    words = s15_words()
    tick: dict[str, object] = {"tick_as": 10**6}
    plain = "".join(f"{i % 4} {t}\n" for i, t in enumerate(TIMES)).encode()
    swapped = "".join(f"{t}, {i % 4}\n" for i, t in enumerate(TIMES)).encode()
    single = "".join(f"{t}\n" for t in TIMES).encode()
    indexed = "".join(f"{t};{i}\n" for i, t in enumerate(TIMES)).encode()
    pairs = b"".join(struct.pack("<II", w >> 32, w & 0xFFFFFFFF) for w in words)
    compressed = b"".join((t | (i % 4) << 37).to_bytes(5, "little") for i, t in enumerate(TIMES.tolist()))
    event = b"".join(struct.pack("<BBHiq", i % 5 if i % 9 == 8 else 0, 0, 1, i % 4 + 1, t) for i, t in enumerate(TIMES))
    raw_tags = b"".join(struct.pack("<QH", t, i % 3) for i, t in enumerate(TIMES))
    header = struct.pack("<IIII", 0xFA91B387, 40 + len(raw_tags), 0x800, 0x73) + bytes(24)
    spc = struct.pack("<I", 1 << 31 | 500) + struct.pack(f"<{N}I", *[i % 4 << 12 | i * 90 % 4096 for i in range(N)])
    with_index: dict[str, object] = {"options": {"index": True, "ref_period_ps": 10**12}}
    rows: list[tuple[str, dict[str, object], bytes]] = [
        (
            "ptu",
            {},
            ptu(code, record_words(code), extra=ptu_tag("Note", 0x4001FFFF, struct.pack("<q", 8) + b"abc\0\0\0\0\0")),
        )
        for code in PTU_CODES
    ]
    rows += [
        (f"ht{mode}", {}, hydraharp(v, mode, record_words(0x00010204))) for v in (b"1.0", b"2.0") for mode in (2, 3)
    ]
    rows += [(f"pt{mode}", {}, picoharp(mode, record_words(0x00010203))) for mode in (2, 3)]
    rows += [
        ("qutag", tick, header + raw_tags),
        ("qutag-raw", tick, raw_tags),
        ("qutag-compressed", tick, header + compressed),
        ("qutag-text", tick, swapped),
        ("id900-bin", {"options": {"index": False}}, struct.pack(f"<{N}Q", *TIMES)),
        ("id900-bin", with_index, b"".join(struct.pack("<QQ", 7, i) for i in range(N))),
        ("id900-text", {}, single),
        ("id900-text", with_index, indexed),
        ("s15-a0", {}, "".join(f"{w & 0xFFFFFFFF:08x}\n{w >> 32:08x}\n" for w in words).encode()),
        ("s15-a1", {"options": {"patterns": "keep"}}, struct.pack(f"<{N}Q", *words)),
        ("s15-a1x", {}, pairs),
        ("s15-a2", {"options": {"patterns": "drop"}}, "".join(f"{w:016x}\n" for w in words).encode()),
        ("tdc1", {}, struct.pack(f"<{N}I", *[(i * 9_000_000 % (1 << 27)) << 5 | 1 << i % 4 for i in range(N)])),
        ("qcrypto", {}, struct.pack("<5I", 1, 0, N, 49, 4) + pairs + bytes(8)),
        ("qcrypto", {}, struct.pack("<4I", 3, 5, 30, 2) + bytes(range(8))),
        ("qcrypto", {}, struct.pack("<4I", 7, 5, 1, 60) + bytes(range(8))),
        ("spc", {"options": {"nanotime_as": 12_000_000}}, spc),
        ("swabian-dump", {}, event),
        ("text2", tick, plain),
    ]  # fmt: skip
    rows += [("hdf5", {}, foreign_hdf5(folder)), ("photon-hdf5", {}, photon_hdf5(folder))]
    rows += [(name, {}, written(folder, name)) for name in ("csv", "hdf5", "npz", "ptu")]
    return rows


Mutation = Callable[[np.random.Generator, bytearray], bytearray]
EXTREMES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 8, 2**63 - 1, 2**63, 2**64 - 1)


def mutated(rng: np.random.Generator, content: bytes) -> bytes:
    """One random damage: bytes, extreme integers, cut, doubled or removed pieces, noise."""
    data = bytearray(content)
    kind = int(rng.integers(0, 7))
    if not data or kind == 6:
        return rng.bytes(int(rng.integers(0, 200)))
    at = int(rng.integers(0, len(data)))
    if kind == 0:
        for position in rng.integers(0, len(data), int(rng.integers(1, 8))):
            data[position] = int(rng.integers(0, 256))
    elif kind == 1:
        width = 4 if rng.integers(0, 2) else 8
        at -= at % 4
        data[at : at + width] = (EXTREMES[int(rng.integers(0, len(EXTREMES)))] % (1 << 8 * width)).to_bytes(
            width, "little"
        )
    elif kind == 2:
        del data[at:]
    elif kind == 3:
        del data[at : at + int(rng.integers(1, 60))]
    elif kind == 4:
        data[at:at] = data[: int(rng.integers(1, 60))]
    else:
        data += rng.bytes(int(rng.integers(1, 60)))
    return bytes(data)
