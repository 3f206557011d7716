"""PicoQuant recordings: PTU (every record type).

T2: ``ticks = overflow + time`` in units of the header's global resolution.
T3: ``ticks = floor(nsync * sync period / bin) + dtime`` in units of the dtime
bin, all in integer attoseconds. The sync period in the header is a rounded
mean, so T3 times drift against a clock; the pulse number itself is kept by
``picoquant_pulses.py``. Format page: ``docs/formats/picoquant.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError
from qkdpp.core.tags import AS_PER_S
from qkdpp.kernels.backend import Backend, backend
from qkdpp.sources.batches import Batch, Metadata, Opened, Request, Tally
from qkdpp.sources.blocks import borrowed_blocks, file_size, open_file
from qkdpp.sources.integers import scaled
from qkdpp.sources.picoquant_records import LAYOUTS, MOST_LINES, Decoded, Decoder, Layout
from qkdpp.sources.ptu_header import PtuHeader, read_ptu_header

EVENTS_DROPPED = 0x080
"""Bit of ``TTResult_MDescWarningFlags``: the instrument lost events during the recording."""
LARGE_RECORDS = 1 << 28
"""Records (1 GiB) from which on the second that Numba's import takes is won back."""
MOST_AT_ONCE = 1 << 31
"""Records that are decoded to one array; longer recordings are read in pieces."""
LARGE_PAGE = 1 << 21
"""Bytes added to large arrays, and never touched, so that their last tags lie in a large page too."""
_RECORD = np.dtype("<u4")


@dataclass(frozen=True, slots=True, kw_only=True)
class TttrFile:
    """One PicoQuant file behind its header.

    Attributes:
        path: the file.
        layout: its record family.
        data_offset: offset of the first record.
        tick_as: attoseconds per tick (T2: time unit; T3: dtime bin).
        period_as: T3: attoseconds per sync period.
        announced: records that the header announces.
        metadata: the header.
    """

    path: Path
    layout: Layout
    data_offset: int
    tick_as: int
    period_as: int
    announced: int
    metadata: Metadata


def open_ptu(request: Request) -> Opened:
    """Opens PTU files (parts of one recording in order)."""
    return opened_parts(request, [read_ptu(path) for path in request.paths])


def read_ptu(path: Path) -> TttrFile:
    """Reads and checks the header of a PTU file."""
    with open_file(path) as file:
        header = read_ptu_header(file, path)
    code = header.whole(path, "TTResultFormat_TTTRRecType")
    if code not in LAYOUTS:
        raise FormatError(f"{path}: record type {code:#010x} (TTResultFormat_TTTRRecType) is unknown")
    if header.whole(path, "TTResultFormat_BitsPerRecord", 32) != 32:
        raise FormatError(f"{path}: TTResultFormat_BitsPerRecord is not 32")
    layout = LAYOUTS[code]
    unit_as = _header_as(path, header, "MeasDesc_GlobalResolution")
    return TttrFile(
        path=path,
        layout=layout,
        data_offset=header.data_offset,
        tick_as=_header_as(path, header, "MeasDesc_Resolution") if layout.t3 else unit_as,
        period_as=unit_as if layout.t3 else 0,
        announced=header.whole(path, "TTResult_NumberOfRecords", 0),
        metadata=header.values,
    )


def _header_as(path: Path, header: PtuHeader, name: str) -> int:
    return seconds_as(path, name, header.number(path, name))


def seconds_as(path: Path, name: str, seconds: float) -> int:
    """A duration of the header as whole attoseconds; FormatError unless it is between 1 as and 1 s."""
    if not 0 < seconds <= 1 or not round(seconds * AS_PER_S):
        raise FormatError(f"{path}: {name} is {seconds} s, not a sensible time unit")
    return round(seconds * AS_PER_S)


def opened_parts(request: Request, parts: list[TttrFile]) -> Opened:
    """A recording of one or several files with equal tick and record family."""
    first = parts[0]
    for part in parts[1:]:
        if (part.tick_as, part.layout, part.period_as) != (first.tick_as, first.layout, first.period_as):
            raise FormatError(f"{part.path}: tick or record type differs from {first.path}; not parts of one recording")
    request.fixed_tick(first.tick_as)
    flags = [part.metadata.get("TTResult_MDescWarningFlags", 0) for part in parts]
    metadata = dict(first.metadata)
    if any(isinstance(flag, int) and flag & EVENTS_DROPPED for flag in flags):
        metadata["events_dropped"] = 1

    def warn(tally: Tally) -> None:
        if "events_dropped" in metadata:
            tally.warn(f"{first.path}: the instrument reports that events were dropped during the recording")
        if first.layout.t3 and metadata.get("HWSync_Divider", metadata.get("SyncDivider", 1)) not in (0, 1):
            tally.warn(f"{first.path}: a sync divider is set: pulse numbers may count divided pulses")

    def stream(tally: Tally) -> Iterator[Batch]:
        warn(tally)
        for part in parts:
            for tags in decoded_records(part, tally):
                ticks = tags.time if tags.dtime is None else _t3_ticks(part, tags)
                yield Batch(ticks=ticks, ids=tags.ids, in_order=tags.in_order, room=tags.room)

    def whole(tally: Tally) -> Batch | None:
        warn(tally)
        return whole_t2(parts, tally)

    return Opened(tick_as=first.tick_as, metadata=metadata, streams=(stream,), whole=None if first.layout.t3 else whole)


def decoded_records(part: TttrFile, tally: Tally) -> Iterator[Decoded]:
    """Tags of one file in file order, block by block; books what the header announces and the file lacks."""
    decoder = Decoder(part.layout, str(part.path), tier=_tier(_present(part, tally)))
    for words in borrowed_blocks(part.path, _RECORD, tally, offset=part.data_offset):
        yield decoder.decode(words)
    _book_invalid(part, decoder, tally)


def _present(part: TttrFile, tally: Tally) -> int:
    """Records that the file holds; books those that the header announces and the file lacks."""
    present = (file_size(part.path) - part.data_offset) // _RECORD.itemsize
    if part.announced != present:
        tally.incomplete(f"{part.path}: the header announces {part.announced} records, the file holds {present}")
    return present


def _book_invalid(part: TttrFile, decoder: Decoder, tally: Tally) -> None:
    if decoder.invalid:
        tally.warn(f"{part.path}: {decoder.invalid} records mean nothing in this record type and were skipped")


def _tier(n_records: int) -> Backend:
    """What decodes: Numba only if it is worth its import, because it is there already or the file is large."""
    chosen = backend()
    if chosen == "numba" and "numba" not in sys.modules and n_records < LARGE_RECORDS:
        return "numpy"
    return chosen


def whole_t2(parts: list[TttrFile], tally: Tally) -> Batch | None:
    """All T2 tags decoded to where they stay; None without the compiled kernel or if time ever goes back."""
    sizes = [_present(part, tally) for part in parts]
    if backend() != "c" or not 0 < sum(sizes) <= MOST_AT_ONCE:
        return None
    room = sum(sizes) + MOST_LINES
    time = np.empty(room + LARGE_PAGE // 8, dtype=np.int64)
    ids = np.empty(room + LARGE_PAGE, dtype=np.uint8)
    n = 0
    for part in parts:
        decoder = Decoder(part.layout, str(part.path), tier="c")
        for words in borrowed_blocks(part.path, _RECORD, tally, offset=part.data_offset):
            n_tags, n_read, in_order = decoder.decode_into(words, time[n:], ids[n:])
            if n_read < words.size or not in_order or (n and n_tags and time[n] < time[n - 1]):
                return None
            n += n_tags
        _book_invalid(part, decoder, tally)
    time.resize(n, refcheck=False)
    ids.resize(n, refcheck=False)
    return Batch(ticks=time, ids=ids)


def _t3_ticks(part: TttrFile, tags: Decoded) -> NDArray[np.int64]:
    assert tags.dtime is not None
    try:
        return scaled(tags.time, part.period_as, part.tick_as) + tags.dtime
    except OverflowError:
        raise FormatError(f"{part.path}: T3 times do not fit 63 bits of {part.tick_as} as") from None
