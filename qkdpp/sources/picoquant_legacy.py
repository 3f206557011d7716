"""PicoQuant files older than PTU: .ht2/.ht3 (HydraHarp 400) and .pt2/.pt3 (PicoHarp 300).

Fixed binary headers; records as in PTU files, version 1.0 of HydraHarp with
its own wrap and 0.5 ps ticks in T2. In T3 the sync period follows from the
measured sync rate (a rounded count rate), so absolute times are approximate
and the pulse number is what counts. No real .pt2/.pt3 file was at hand. Format
page: ``docs/formats/picoquant.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qkdpp.core.errors import FormatError
from qkdpp.core.tags import AS_PER_PS, AS_PER_S
from qkdpp.sources.batches import Metadata, Opened, Request
from qkdpp.sources.blocks import HeaderReader, open_file, text_of
from qkdpp.sources.picoquant import TttrFile, opened_parts, seconds_as
from qkdpp.sources.picoquant_records import LAYOUTS

_HYDRA_CODES = {("1.0", 2): 0x00010204, ("1.0", 3): 0x00010304, ("2.0", 2): 0x01010204, ("2.0", 3): 0x01010304}
_PICO_CODES = {2: 0x00010203, 3: 0x00010303}
_PICOHARP_TICK_AS = 4 * AS_PER_PS
_MAX_INPUTS = 64
_MAX_BOARDS = 8


def open_hydraharp(request: Request) -> Opened:
    """Opens .ht2 and .ht3 files."""
    return opened_parts(request, [read_hydraharp(path) for path in request.paths])


def open_picoharp(request: Request) -> Opened:
    """Opens .pt2 and .pt3 files."""
    return opened_parts(request, [read_picoharp(path) for path in request.paths])


def read_hydraharp(path: Path) -> TttrFile:
    """Reads and checks the header of a .ht2 or .ht3 file."""
    with open_file(path) as file:
        reader = HeaderReader(file, path)
        metadata = _text_header(reader, path, "HydraHarp")
        mode = reader.unpack("6i", "the measurement mode")[3]
        resolution_ps, _, acquisition_ms = reader.unpack("dii", "the resolution")
        reader.raw(536 - 368, "the display settings")
        hardware, _ = reader.raw(16, "the hardware name"), reader.raw(96, "the hardware settings")
        base_ps, _, n_inputs, _, _, _, divider, *_ = reader.unpack("dQiiiiiiii", "the input settings")
        if not 0 <= n_inputs <= _MAX_INPUTS:
            raise FormatError(f"{path}: InpChansPresent = {n_inputs}")
        reader.raw(20 * n_inputs, "the input channels")
        sync_rate, _, _, image_words = reader.unpack("4i", "the sync rate")
        (announced,) = reader.unpack("q", "the number of records")
        reader.raw(4 * image_words, "the image header")
        offset = reader.position
    code = _HYDRA_CODES.get((str(metadata["FormatVersion"]), mode))
    if code is None:
        raise FormatError(f"{path}: HydraHarp file of version {metadata['FormatVersion']!r}, mode {mode}: unknown")
    metadata |= {
        "MeasurementMode": mode,
        "Resolution_ps": resolution_ps,
        "BaseResolution_ps": base_ps,
        "AcquisitionTime_ms": acquisition_ms,
        "HardwareIdent": text_of(hardware),
        "InpChansPresent": n_inputs,
        "SyncDivider": divider,
        "SyncRate_hz": sync_rate,
        "NumRecords": announced,
    }
    tick_as = seconds_as(path, "Resolution", resolution_ps * 1e-12)
    return _file(path, code, offset, tick_as=tick_as, sync_rate_hz=sync_rate, announced=announced, metadata=metadata)


def read_picoharp(path: Path) -> TttrFile:
    """Reads and checks the header of a .pt2 or .pt3 file."""
    with open_file(path) as file:
        reader = HeaderReader(file, path)
        metadata = _text_header(reader, path, "PicoHarp 300")
        settings = reader.unpack("10i", "the measurement mode")
        n_boards, mode, acquisition_ms = settings[3], settings[5], settings[9]
        reader.raw(536 - 368, "the display settings")
        if not 1 <= n_boards <= _MAX_BOARDS:
            raise FormatError(f"{path}: NumberOfBoards = {n_boards}")
        boards = [reader.unpack("16s8s6if26i", "a board") for _ in range(n_boards)]
        _, _, _, rate_0, rate_1, _, _, announced, image_words = reader.unpack("9i", "the TTTR header")
        reader.raw(4 * image_words, "the image header")
        offset = reader.position
    if metadata["FormatVersion"] != "2.0" or mode not in _PICO_CODES:
        raise FormatError(f"{path}: PicoHarp file of version {metadata['FormatVersion']!r}, mode {mode}: unknown")
    resolution_ns = float(f"{boards[0][8]:.6g}")  # the file holds 32 bits of a decimal fraction
    metadata |= {
        "MeasurementMode": mode,
        "Resolution_ps": resolution_ns * 1e3,
        "AcquisitionTime_ms": acquisition_ms,
        "HardwareIdent": text_of(boards[0][0]),
        "SyncDivider": boards[0][3],
        "SyncRate_hz": rate_0,
        "InputRate_hz": rate_1,
        "NumRecords": announced,
    }
    tick_as = _PICOHARP_TICK_AS if mode == 2 else seconds_as(path, "Resolution", resolution_ns * 1e-9)
    code = _PICO_CODES[mode]
    return _file(path, code, offset, tick_as=tick_as, sync_rate_hz=rate_0, announced=announced, metadata=metadata)


def _text_header(reader: HeaderReader, path: Path, ident: str) -> Metadata:
    """The first 328 bytes, which both families share."""
    fields: tuple[Any, ...] = reader.unpack("16s6s18s12s18s2s256s", "the text header")
    if text_of(fields[0]) != ident:
        raise FormatError(f"{path}: not a {ident} file")
    names = ("Ident", "FormatVersion", "CreatorName", "CreatorVersion", "FileTime", "CRLF", "Comment")
    return {name: text_of(field) for name, field in zip(names, fields, strict=True) if name != "CRLF"}


def _file(
    path: Path, code: int, offset: int, *, tick_as: int, sync_rate_hz: int, announced: int, metadata: Metadata
) -> TttrFile:
    layout = LAYOUTS[code]
    if layout.t3 and sync_rate_hz <= 0:
        raise FormatError(f"{path}: a T3 file with a sync rate of {sync_rate_hz} Hz has no pulse period")
    return TttrFile(
        path=path,
        layout=layout,
        data_offset=offset,
        tick_as=tick_as,
        period_as=round(AS_PER_S / sync_rate_hz) if layout.t3 else 0,
        announced=announced,
        metadata=metadata,
    )
