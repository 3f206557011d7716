"""Becker & Hickl ``.spc`` FIFO files (SPC-130/134/140/144/150/154/830).

32-bit words behind one header word that states the macro clock. ``ticks`` is
the macro time in clock periods; with the option ``nanotime_as`` (attoseconds
per ADC step) it is ``floor(macro * clock / step) + nanotime`` in ADC steps.
Photons keep their routing number as channel (option ``invert`` for set-ups
that invert it); marker ``m`` is channel ``100 + m``. A GAP flag marks the time
since the record before as lost. Format page: ``docs/formats/spc.md``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError, InputError
from qkdpp.sources.batches import Batch, Metadata, Opened, Request, Tally
from qkdpp.sources.blocks import open_file, record_blocks, whole_records
from qkdpp.sources.detect import refuse_known
from qkdpp.sources.integers import scaled

CLOCK_UNIT_AS = 10**8
"""The header states the macro clock in 0.1 ns."""
MAX_CLOCK_AS = 10**14
"""Slowest macro clock believed: 100 us."""
MACRO_BITS = 12
MARKER_ID = 100
_INVALID, _OVERFLOW, _GAP, _MARK = (np.uint32(1 << bit) for bit in (31, 30, 29, 28))


def open_spc(request: Request) -> Opened:
    """Opens .spc files (parts of one recording in order)."""
    clocks = {_macro_clock_as(path) for path in request.paths}
    if len(clocks) != 1:
        raise FormatError(f"{request.paths[0]}: the parts have different macro clocks")
    clock_as = clocks.pop()
    step_as = request.whole("nanotime_as")
    if step_as is not None and not 0 < step_as <= clock_as:
        raise InputError(f"{request.paths[0]}: nanotime_as = {step_as}; give attoseconds, at most {clock_as}")
    invert = request.flag("invert", False)
    tick_as = request.fixed_tick(step_as or clock_as)

    def stream(tally: Tally) -> Iterator[Batch]:
        for path in request.paths:
            decoder = _Decoder(path, clock_as, step_as, invert=invert)
            for words in record_blocks(path, np.dtype("<u4"), tally, offset=4):
                yield decoder.decode(words)

    metadata: Metadata = {"macro_clock_as": clock_as}
    return Opened(tick_as=tick_as, metadata=metadata, streams=(stream,), headerless=True)


def _macro_clock_as(path: Path) -> int:
    whole_records(path, 4)
    refuse_known(path)
    with open_file(path) as file:
        head = file.read(4)
    if len(head) < 4:
        raise FormatError(f"{path}: no header word")
    word = struct.unpack("<I", head)[0]
    clock_as = int(word & 0xFFFFFF) * CLOCK_UNIT_AS
    if not word >> 31 or not 0 < clock_as <= MAX_CLOCK_AS:
        raise FormatError(f"{path}: the first word {word:#010x} is no .spc header (bit 31 set, macro clock to 100 us)")
    return clock_as


class _Decoder:
    """Decodes blocks of one file; carries the macro time overflow and the last time."""

    def __init__(self, path: Path, clock_as: int, step_as: int | None, *, invert: bool) -> None:
        self._path = path
        self._clock_as = clock_as
        self._step_as = step_as
        self._invert = invert
        self._overflows = 0
        self._last: int | None = None

    def decode(self, words: NDArray[np.uint32]) -> Batch:
        """Photons and markers of one block, in file order."""
        invalid, overflow, mark = (words & flag != 0 for flag in (_INVALID, _OVERFLOW, _MARK))
        pure = invalid & overflow & ~mark
        counts = np.where(pure, words & np.uint32(0xFFFFFFF), overflow).astype(np.int64)
        total = np.cumsum(counts) + self._overflows
        self._overflows = int(total[-1])
        if self._overflows >= 1 << 48:
            raise FormatError(f"{self._path}: overflow records add up to a time beyond reason")
        macro = (total << MACRO_BITS) + (words & np.uint32(0xFFF)).astype(np.int64)
        nanotime = 4095 - ((words >> np.uint32(16)) & np.uint32(0xFFF)).astype(np.int64)
        times = self._ticks(macro, np.where(invalid, 0, nanotime))
        routing = ((words >> np.uint32(12)) & np.uint32(15)).astype(np.int64)
        if self._invert:
            routing = np.where(mark, routing, 15 - routing)
        tags = ~invalid | mark
        lost = self._gaps(words, times)
        return Batch(ticks=times[tags], ids=np.where(invalid & mark, routing + MARKER_ID, routing)[tags], lost=lost)

    def _ticks(self, macro: NDArray[np.int64], nanotime: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._step_as is None:
            return macro
        try:
            return scaled(macro, self._clock_as, self._step_as) + nanotime
        except OverflowError:
            raise FormatError(f"{self._path}: times do not fit 63 bits of {self._step_as} as") from None

    def _gaps(self, words: NDArray[np.uint32], times: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
        """Lost intervals: from the record before to the record that carries the flag."""
        before = np.concatenate([times[:1] if self._last is None else [self._last], times[:-1]])
        self._last = int(times[-1])
        at = np.flatnonzero(words & _GAP != 0)
        return tuple((min(a, b), b) for a, b in zip(before[at].tolist(), times[at].tolist(), strict=True))
