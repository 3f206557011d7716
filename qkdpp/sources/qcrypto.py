"""Epoch files of the qcrypto stack: raw events (type 1), kept values (type 3), keys (type 7).

An epoch is 2^32 ticks of 125 ps. Raw events: ``ticks`` is the card's 49-bit
time, its 17-bit epoch extended by the header's (so it goes on past a wrap of
the card); 54-bit entries keep 1/256 ns. Types 3 and 7 hold no times: ``ticks``
is the position and the channel is the value, and ``metadata["timeless"]`` is
set; :func:`read_key` gives a key as bits. The peer's types 2 and 4 are named
and refused. Format page: ``docs/formats/qcrypto.md``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Bits
from qkdpp.core.errors import FormatError
from qkdpp.sources.batches import Batch, Metadata, Opened, Request, Tally
from qkdpp.sources.blocks import file_size, open_file, record_blocks
from qkdpp.sources.sfifteen import OLD_TICK_AS, TICK_AS, Patterns, joined

RAW, TIMES, VALUES, MATCHES, KEY = 1, 2, 3, 4, 7
UNIVERSAL = 0x100
_HEADER_WORDS = {RAW: 5, VALUES: 4, KEY: 4}
_PAIR = np.dtype([("high", "<u4"), ("low", "<u4")])
_WORD = np.dtype("<u4")
_CORRECTION = np.array([0, 0, 0, 1, 0, 0, 0, 0, -1, 0, 0, 0, -1, -1, 0, 0], dtype=np.int64) << 17


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochHeader:
    """Header of an epoch file: ``count`` events, entries or key bits; ``bits`` per entry (or epochs of a key)."""

    path: Path
    kind: int
    universal: bool
    epoch: int
    count: int
    bits: int

    @property
    def offset(self) -> int:
        """Bytes of the header."""
        return 4 * _HEADER_WORDS[self.kind]


def read_header(path: Path) -> EpochHeader:
    """Reads and checks the header of an epoch file."""
    with open_file(path) as file:
        head = file.read(20)
    tag, epoch = struct.unpack_from("<II", head) if len(head) >= 8 else (0, 0)
    kind = tag & ~UNIVERSAL
    if kind in (TIMES, MATCHES):
        what = "times and bases sent to the peer" if kind == TIMES else "a match reply"
        raise FormatError(f"{path}: qcrypto type {kind} holds {what}, not a recording; use types 1, 3 or 7")
    if kind not in _HEADER_WORDS or len(head) < 4 * _HEADER_WORDS[kind]:
        raise FormatError(f"{path}: no qcrypto epoch header (types 1, 3 and 7 can be read)")
    third, fourth = struct.unpack_from("<II", head, 8)
    count, bits = (fourth, third) if kind == KEY else (third, fourth)
    if kind == VALUES and not 1 <= bits <= 8:
        raise FormatError(f"{path}: {bits} bits per entry; type 3 files hold 1 to 8")
    if kind == RAW and not 32 < bits <= 54:
        raise FormatError(f"{path}: {bits} bits of time per entry; type 1 files hold 49 or 54")
    return EpochHeader(path=path, kind=kind, universal=bool(tag & UNIVERSAL), epoch=epoch, count=count, bits=bits)


def open_qcrypto(request: Request) -> Opened:
    """Opens epoch files of one type in the order of their epochs."""
    headers = [read_header(path) for path in request.paths]
    first = headers[0]
    if any((h.kind, h.bits, h.universal) != (first.kind, first.bits, first.universal) for h in headers):
        raise FormatError(f"{first.path}: the epoch files are of different types")
    metadata: Metadata = {"type": first.kind, "epoch": f"{first.epoch:x}", "universal": int(first.universal)}
    if first.kind == RAW:
        return _open_raw(request, headers, metadata)
    if first.kind == KEY:
        metadata |= {"epochs": sum(h.bits for h in headers), "bits": sum(h.count for h in headers)}

    def stream(tally: Tally) -> Iterator[Batch]:
        position = 0
        for header in headers:
            for values in _entries(header, tally):
                yield Batch(ticks=np.arange(position, position + values.size, dtype=np.int64), ids=values)
                position += values.size

    return Opened(tick_as=request.fixed_tick(1), metadata=metadata | {"timeless": 1}, streams=(stream,))


def _open_raw(request: Request, headers: list[EpochHeader], metadata: Metadata) -> Opened:
    stated = TICK_AS if headers[0].bits > 49 else OLD_TICK_AS
    tick_as = request.fixed_tick(*sorted((stated, TICK_AS, OLD_TICK_AS), key=lambda tick: tick != stated))
    patterns = Patterns(request)

    def stream(tally: Tally) -> Iterator[Batch]:
        position = 0
        for header in headers:
            for words in _raw_words(header, tally):
                kept, ids = patterns.channels(words, position, tally)
                position += words.size
                yield Batch(ticks=_times(words[kept], header, headers[0].epoch, tick_as), ids=ids)

    return Opened(tick_as=tick_as, metadata=metadata | {"patterns": patterns.rule}, streams=(stream,))


def _raw_words(header: EpochHeader, tally: Tally) -> Iterator[NDArray[np.uint64]]:
    """Event words up to the terminator; checks the count of the header."""
    n_events, terminated = 0, False
    for block in record_blocks(header.path, _PAIR, tally, offset=header.offset):
        words = joined(block)
        ends = np.flatnonzero(words == 0)
        terminated = bool(ends.size)
        words = words[: ends[0]] if terminated else words
        n_events += words.size
        yield words
        if terminated:
            break
    if not terminated:
        tally.incomplete(f"{header.path}: the terminator (two zero words) is missing")
    if header.count not in (0, n_events):
        tally.incomplete(f"{header.path}: the header announces {header.count} events, the file holds {n_events}")


def _times(words: NDArray[np.uint64], header: EpochHeader, first_epoch: int, tick_as: int) -> NDArray[np.int64]:
    """Times of raw events: the card's own count, its 17-bit epoch extended by the epoch of the header."""
    fine = 0 if tick_as == OLD_TICK_AS else 5
    time = (words >> np.uint64(15 - fine)).astype(np.int64)
    card = time >> np.int64(32 + fine)
    corner = ((header.epoch >> 15) & 3) + ((card >> 13) & 0xC)
    epoch = (header.epoch & 0xFFFE0000) + card + _CORRECTION[corner]
    origin = first_epoch & ~0x1FFFF
    relative: NDArray[np.int64] = (epoch - origin + (1 << 31)) % (1 << 32) - (1 << 31)
    if words.size and int(np.abs(relative).max()) >= 1 << (29 - fine):
        raise FormatError(f"{header.path}: its epoch {header.epoch:x} is too far from the first one {first_epoch:x}")
    ticks: NDArray[np.int64] = (relative << np.int64(32 + fine)) + (time & np.int64((1 << (32 + fine)) - 1))
    return ticks


def _entries(header: EpochHeader, tally: Tally) -> Iterator[NDArray[np.uint8]]:
    """Entries of a type 3 file, or the bits of a type 7 file, uint8."""
    width = header.bits if header.kind == VALUES else 1
    left = header.count
    present = max(0, file_size(header.path) - header.offset) // 4 * 32 // width
    if present < left:
        tally.incomplete(f"{header.path}: the header announces {left} entries, the file holds {present}")
    for block in record_blocks(header.path, _WORD, tally, offset=header.offset, n_records=width << 14):
        bits = ((block[:, None] >> np.arange(31, -1, -1, dtype=np.uint32)) & np.uint32(1)).astype(np.uint8).ravel()
        table = bits[: bits.size // width * width].reshape(-1, width)
        values = np.zeros(table.shape[0], dtype=np.uint8)
        for i in range(width):
            values = (values << np.uint8(1)) | table[:, i]
        yield values[:left]
        left = max(0, left - values.size)


def read_key(path: Path) -> Bits:
    """The bits of a type 7 key file; FormatError for other types or a file shorter than announced."""
    header = read_header(path)
    if header.kind != KEY:
        raise FormatError(f"{path}: qcrypto type {header.kind} is not a key file (type 7)")
    parts = list(_entries(header, Tally(strict=True)))
    return Bits.from_array(np.concatenate(parts)) if parts else Bits.zeros(0)
