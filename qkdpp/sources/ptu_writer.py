"""Writes PicoQuant PTU files: T2, record type 00010207 (MultiHarp and generic).

Channel 0 becomes a sync event, 1 to 64 a photon on input field ``channel - 1``,
101 to 104 a marker. The tick is kept as the file's global resolution. Lost
intervals have no place in the format; they set the flag "events dropped".
Format page: ``docs/formats/picoquant.md``.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import InputError
from qkdpp.core.tags import AS_PER_S, TimeTags
from qkdpp.sources import ptu_header as tag
from qkdpp.sources.batches import Metadata
from qkdpp.sources.picoquant import EVENTS_DROPPED
from qkdpp.sources.picoquant_records import MARKER_ID
from qkdpp.sources.writing import new_file, same_stream

_TIME_BITS = 25
_MAX_COUNT = (1 << _TIME_BITS) - 1
_OVERFLOW = 0xFE000000
_SPECIAL = 0x80000000
AS_PER_MS = 10**15
_RECORD_TYPE = 0x00010207
_UNIX_EPOCH_DAYS = 25569.0
"""1970-01-01 in days since 1899-12-30: the creation time unless the metadata state one."""


def write_ptu(path: Path, chunks: Iterable[TimeTags], metadata: Metadata) -> int:
    """Writes sorted chunks; returns the number of tags. InputError names a tag the format cannot hold."""
    n_tags = n_records = 0
    tick_as = end = overflow = 0
    lost = False
    with new_file(path) as file:
        fields: dict[str, int] = {}
        for tags in same_stream(path, chunks):
            if not fields:
                tick_as = tags.tick_as
                fields = _write_header(file, tick_as, metadata)
            words, overflow = _words(path, tags, overflow)
            file.write(words.tobytes())
            n_tags, n_records, lost = n_tags + len(tags), n_records + words.size, lost or bool(tags.lost)
            end = int(tags.ticks[-1]) if len(tags) else end
        if not fields:
            raise InputError(f"{path}: no chunk to write, so the tick length is unknown")
        duration_ms = min(end * tick_as // AS_PER_MS, (1 << 31) - 1)
        for name, value in (
            ("TTResult_NumberOfRecords", n_records),
            ("MeasDesc_AcquisitionTime", duration_ms),
            ("TTResult_MDescWarningFlags", EVENTS_DROPPED if lost else 0),
        ):
            file.seek(fields[name])
            file.write(struct.pack("<q", value))
    return n_tags


def _write_header(file: BinaryIO, tick_as: int, metadata: Metadata) -> dict[str, int]:
    """Writes the tag list; returns the offset of every 8-byte value."""
    unit_s = tick_as / AS_PER_S
    created = metadata.get("File_CreatingTime", _UNIX_EPOCH_DAYS)
    created = float(created) if isinstance(created, int | float) else _UNIX_EPOCH_DAYS
    rows: list[tuple[str, int, int, bytes]] = [
        _text("File_GUID", str(metadata.get("File_GUID", "{" + str(uuid.uuid4()).upper() + "}"))),
        _text("CreatorSW_Name", "qkdpp"),
        _text("CreatorSW_Version", "1.0"),
        _text("CreatorSW_ContentVersion", "1.0"),
        ("File_CreatingTime", -1, tag.DATETIME, struct.pack("<d", created)),
        _text("HW_Type", "generic"),
        _text("File_Comment", str(metadata.get("File_Comment", ""))),
        _whole("Measurement_Mode", 2),
        _whole("Measurement_SubMode", 0),
        _whole("TTResultFormat_TTTRRecType", _RECORD_TYPE),
        _whole("TTResultFormat_BitsPerRecord", 32),
        _whole("HW_InpChannels", 64),
        _whole("MeasDesc_AcquisitionTime", 0),
        _whole("HW_Markers", 4),
        _whole("HWSync_Divider", 1),
        ("MeasDesc_Resolution", -1, tag.FLOAT, struct.pack("<d", unit_s)),
        ("MeasDesc_GlobalResolution", -1, tag.FLOAT, struct.pack("<d", unit_s)),
        _whole("TTResult_SyncRate", 0),
        _whole("TTResult_MDescWarningFlags", 0),
        _whole("TTResult_NumberOfRecords", 0),
        ("Header_End", -1, tag.EMPTY, bytes(8)),
    ]
    file.write(tag.MAGIC + b"1.0.00\0\0")
    offsets = {}
    for name, index, kind, value in rows:
        offsets[name] = file.tell() + 40
        file.write(struct.pack("<32siI", name.encode(), index, kind))
        file.write(value if kind != tag.ANSI else struct.pack("<q", len(value)) + value)
    return offsets


def _whole(name: str, value: int) -> tuple[str, int, int, bytes]:
    return name, -1, tag.INT, struct.pack("<q", value)


def _text(name: str, text: str) -> tuple[str, int, int, bytes]:
    data = text.encode("latin-1", "replace") + b"\0"
    return name, -1, tag.ANSI, data + bytes(-len(data) % 8)


def _head(path: Path, channel: int) -> int:
    """The top seven bits of a record of this channel."""
    if channel == 0:
        return _SPECIAL
    if 1 <= channel <= 64:
        return (channel - 1) << _TIME_BITS
    if MARKER_ID < channel <= MARKER_ID + 4:
        return _SPECIAL | 1 << (channel - MARKER_ID - 1) << _TIME_BITS
    raise InputError(f"{path}: channel {channel} does not fit PTU (0 sync, 1 to 64 inputs, 101 to 104 markers)")


def _words(path: Path, tags: TimeTags, overflow: int) -> tuple[NDArray[np.uint32], int]:
    """Records of one chunk; ``overflow`` is the count of 2^25 ticks already written."""
    if not len(tags):
        return np.empty(0, dtype="<u4"), overflow
    if int(tags.ticks[0]) < 0:
        raise InputError(f"{path}: tag at tick {int(tags.ticks[0])}: PTU holds no negative times")
    used = set(np.unique(tags.channel).tolist())
    table = [_head(path, channel) if i in used else 0 for i, channel in enumerate(tags.channel_ids)]
    heads = np.array(table, dtype=np.uint32)
    words = (heads[tags.channel] | (tags.ticks & _MAX_COUNT).astype(np.uint32)).astype("<u4")
    wraps = tags.ticks >> _TIME_BITS
    at = np.flatnonzero(np.diff(wraps, prepend=np.int64(overflow)))
    missing = np.diff(wraps[at], prepend=np.int64(overflow))
    records = (missing + _MAX_COUNT - 1) // _MAX_COUNT
    before = np.repeat(at, records)
    counts = np.full(before.size, _MAX_COUNT, dtype=np.int64)
    counts[np.cumsum(records) - 1] = missing - (records - 1) * _MAX_COUNT
    return np.insert(words, before, (counts | _OVERFLOW).astype(words.dtype)), int(wraps[-1])
