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
from qkdpp.kernels import loops
from qkdpp.sources.batches import Batch, Metadata, Opened, Request, Tally
from qkdpp.sources.blocks import file_size, open_file, record_blocks
from qkdpp.sources.integers import scaled
from qkdpp.sources.picoquant_records import LAYOUTS, Decoded, Decoder, Layout
from qkdpp.sources.ptu_header import PtuHeader, read_ptu_header

EVENTS_DROPPED = 0x080
"""Bit of ``TTResult_MDescWarningFlags``: the instrument lost events during the recording."""
LARGE_RECORDS = 1 << 28
"""Records (1 GiB) from which on the second that Numba's import takes is won back."""
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

    def stream(tally: Tally) -> Iterator[Batch]:
        if "events_dropped" in metadata:
            tally.warn(f"{first.path}: the instrument reports that events were dropped during the recording")
        if first.layout.t3 and metadata.get("HWSync_Divider", metadata.get("SyncDivider", 1)) not in (0, 1):
            tally.warn(f"{first.path}: a sync divider is set: pulse numbers may count divided pulses")
        for part in parts:
            for tags in decoded_records(part, tally):
                yield Batch(ticks=tags.time if tags.dtime is None else _t3_ticks(part, tags), ids=tags.ids)

    return Opened(tick_as=first.tick_as, metadata=metadata, streams=(stream,))


def decoded_records(part: TttrFile, tally: Tally) -> Iterator[Decoded]:
    """Tags of one file in file order, block by block; books what the header announces and the file lacks."""
    present = (file_size(part.path) - part.data_offset) // _RECORD.itemsize
    if part.announced != present:
        tally.incomplete(f"{part.path}: the header announces {part.announced} records, the file holds {present}")
    decoder = Decoder(part.layout, str(part.path), fast=_numba_pays(present))
    for words in record_blocks(part.path, _RECORD, tally, offset=part.data_offset):
        yield decoder.decode(words)
    if decoder.invalid:
        tally.warn(f"{part.path}: {decoder.invalid} records mean nothing in this record type and were skipped")


def _numba_pays(n_records: int) -> bool:
    """Whether the Numba loop is worth its import: it is there already, or the file is large."""
    return ("numba" in sys.modules or n_records >= LARGE_RECORDS) and loops() == "numba"


def _t3_ticks(part: TttrFile, tags: Decoded) -> NDArray[np.int64]:
    assert tags.dtime is not None
    try:
        return scaled(tags.time, part.period_as, part.tick_as) + tags.dtime
    except OverflowError:
        raise FormatError(f"{part.path}: T3 times do not fit 63 bits of {part.tick_as} as") from None
