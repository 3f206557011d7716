"""quTAG, quTAU and ID800/ID801 time taggers: binary with header, compressed, raw, and text.

The device's time base is not in the file, so the tick length has to be
declared (1 ps for quTAG, about 81 ps for quTAU and ID800/ID801). Times count
from power-up and pass 2^53; they are not sorted. Channel numbers are kept as
they are. Format page: ``docs/formats/qutag.md``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.tags import TimeTags
from qkdpp.sources.batches import Batch, Metadata, Opened, Request, Tally
from qkdpp.sources.blocks import file_size, open_file, record_blocks, whole_records
from qkdpp.sources.detect import refuse_known
from qkdpp.sources.sfifteen import Unroller
from qkdpp.sources.text import column_stream
from qkdpp.sources.writing import channels_within, new_file, same_stream

MAGIC = b"\x87\xb3\x91\xfa"
HEADER_BYTES = 40
_RECORD = np.dtype([("time", "<u8"), ("channel", "<u2")])
_PACKED = np.dtype(("u1", (5,)))
_TIME_BITS = 37


def open_qutag(request: Request) -> Opened:
    """Opens the binary kind: 40-byte header, then u64 time and u16 channel."""
    warnings = tuple(warning for path in request.paths for warning in _check_header(path))

    def stream(tally: Tally) -> Iterator[Batch]:
        for path in request.paths:
            yield from _tags(path, tally, HEADER_BYTES)

    return Opened(tick_as=request.declared_tick(), streams=(stream,), warnings=warnings, headerless=True)


def open_qutag_raw(request: Request) -> Opened:
    """Opens the raw kind: the same records without a header."""
    for path in request.paths:
        whole_records(path, _RECORD.itemsize)
        refuse_known(path)

    def stream(tally: Tally) -> Iterator[Batch]:
        for path in request.paths:
            yield from _tags(path, tally, 0)

    return Opened(tick_as=request.declared_tick(), streams=(stream,), headerless=True)


def open_qutag_compressed(request: Request) -> Opened:
    """Opens the compressed kind: header, then 40-bit records of 37 bits of time and 3 of channel.

    Which bits hold the channel is not published: option ``channel_bits`` says ``high`` (default) or ``low``.
    """
    high = request.text("channel_bits", "high", ("high", "low")) == "high"
    warnings = tuple(warning for path in request.paths for warning in _check_header(path))
    name = str(request.paths[0])

    def stream(tally: Tally) -> Iterator[Batch]:
        unroller = Unroller(1 << _TIME_BITS, name)
        for path in request.paths:
            for block in record_blocks(path, _PACKED, tally, offset=HEADER_BYTES):
                words = _forty_bits(block)
                time = words & np.int64((1 << _TIME_BITS) - 1) if high else words >> np.int64(3)
                ids = words >> np.int64(_TIME_BITS) if high else words & np.int64(7)
                yield Batch(ticks=unroller.unroll(time), ids=ids)

    return Opened(tick_as=request.declared_tick(), streams=(stream,), warnings=warnings, headerless=True)


def open_qutag_text(request: Request) -> Opened:
    """Opens the text kind: ``time, channel`` in decimal."""
    return Opened(tick_as=request.declared_tick(), streams=(column_stream(request, 0),), headerless=True)


def _check_header(path: Path) -> list[str]:
    """Refuses a file without the mark or shorter than its header; warns if the stated size differs."""
    with open_file(path) as file:
        head = file.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES or not head.startswith(MAGIC):
        raise FormatError(f"{path}: no quTAG header (40 bytes that start with 87 B3 91 FA)")
    stated, present = struct.unpack_from("<I", head, 4)[0], file_size(path)
    if stated == present & 0xFFFFFFFF:
        return []
    return [f"{path}: the header announces {stated} bytes, the file has {present}"]


def _tags(path: Path, tally: Tally, offset: int) -> Iterator[Batch]:
    for block in record_blocks(path, _RECORD, tally, offset=offset):
        if int(block["time"].max()) >> 63:
            raise FormatError(f"{path}: a time beyond 63 bits; is the declared format right?")
        yield Batch(ticks=block["time"].astype(np.int64), ids=block["channel"].astype(np.int64))


def _forty_bits(block: NDArray[np.uint8]) -> NDArray[np.int64]:
    words = np.zeros(block.shape[0], dtype=np.int64)
    for i in range(5):
        words |= block[:, i].astype(np.int64) << np.int64(8 * i)
    return words


def write_qutag(path: Path, chunks: Iterable[TimeTags], metadata: Metadata) -> int:
    """Writes the binary kind with native ticks; the tick length is not stored and must be declared on reading."""
    n_tags = 0
    with new_file(path) as file:
        file.write(bytes(HEADER_BYTES))
        for tags in same_stream(path, chunks):
            ids = channels_within(path, tags, 0, 0xFFFF)
            if len(tags) and int(tags.ticks[0]) < 0:
                raise InputError(f"{path}: tag at tick {int(tags.ticks[0])}: quTAG files hold no negative times")
            block = np.empty(len(tags), dtype=_RECORD)
            block["time"], block["channel"] = tags.ticks, ids
            file.write(block.tobytes())
            n_tags += len(tags)
        size = (HEADER_BYTES + n_tags * _RECORD.itemsize) & 0xFFFFFFFF
        file.seek(0)
        file.write(MAGIC + struct.pack("<III", size, 0x800, 0x73))
    return n_tags
