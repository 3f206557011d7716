"""PicoQuant TTTR records: 32-bit words to times, channels and pulse numbers.

Channel ids: photon with channel field ``c`` is ``c + 1`` (as the vendor's
software prints), the sync input is 0, marker line ``k`` (1 to 4) is ``100 + k``;
a record with several marker lines gives one tag per line. Layouts and wrap
constants: ``docs/formats/picoquant.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError
from qkdpp.kernels.backend import Backend
from qkdpp.kernels.compiled_tags import HYDRAHARP_1, HYDRAHARP_2, PICOHARP, decode_t2

Words = NDArray[np.uint32]
MARKER_ID = 100
MOST_LINES = 4
"""Marker lines, and so the most tags that one record gives."""
ROOM = 1 << 12
"""Places in front of decoded tags, for those that were held back until it was certain that none comes before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Bit fields of one record family.

    Attributes:
        t3: whether a photon carries (dtime, nsync) instead of one time.
        picoharp: PicoHarp 300 words (channel in the top four bits, 15 = special) instead of HydraHarp words.
        wrap: ticks (T2) or pulses (T3) per counted overflow.
        counted: whether an overflow record carries its own count (0 means 1).
    """

    t3: bool
    picoharp: bool
    wrap: int
    counted: bool


LAYOUTS: dict[int, Layout] = {
    0x00010203: Layout(t3=False, picoharp=True, wrap=210698240, counted=False),
    0x00010303: Layout(t3=True, picoharp=True, wrap=65536, counted=False),
    0x00010204: Layout(t3=False, picoharp=False, wrap=33552000, counted=False),
    0x00010304: Layout(t3=True, picoharp=False, wrap=1024, counted=False),
    0x01010204: Layout(t3=False, picoharp=False, wrap=33554432, counted=True),
    0x01010304: Layout(t3=True, picoharp=False, wrap=1024, counted=True),
    0x00010205: Layout(t3=False, picoharp=False, wrap=33554432, counted=True),
    0x00010305: Layout(t3=True, picoharp=False, wrap=1024, counted=True),
    0x00010206: Layout(t3=False, picoharp=False, wrap=33554432, counted=True),
    0x00010306: Layout(t3=True, picoharp=False, wrap=1024, counted=True),
    0x00010207: Layout(t3=False, picoharp=False, wrap=33554432, counted=True),
    0x00010307: Layout(t3=True, picoharp=False, wrap=1024, counted=True),
}
"""Record type code of a PTU header to layout: PicoHarp 300, HydraHarp v1, v2, TimeHarp 260 N, P, MultiHarp/generic."""


class Decoded(NamedTuple):
    """Tags of one block of records.

    ``time`` is int64: ticks in T2, the pulse number nsync in T3; ``dtime`` (int32) is present in T3 only; ``in_order``
    and ``room`` as in :class:`qkdpp.sources.batches.Batch`.
    """

    time: NDArray[np.int64]
    dtime: NDArray[np.int32] | None
    ids: NDArray[np.uint8]
    in_order: bool = False
    room: int = 0


class _Fields(NamedTuple):
    """Raw fields; ``special`` holds the positions of records that are not photons, the rest belongs to those."""

    time: NDArray[np.int64]
    dtime: NDArray[np.int32] | None
    ids: NDArray[np.uint8]
    special: NDArray[np.intp]
    overflows: NDArray[np.int64]
    markers: NDArray[np.uint8]
    is_sync: NDArray[np.bool_]


class Decoder:
    """Decodes blocks of one record stream; carries the overflow count from block to block.

    ``tier`` says what decodes the layouts it knows: the compiled kernel T2, the Numba loop T2 of the HydraHarp family;
    everything else is NumPy's, which is the definition.
    """

    def __init__(self, layout: Layout, name: str, *, tier: Backend = "numpy") -> None:
        self._layout = layout
        self._tier = "numpy" if layout.t3 or (tier == "numba" and layout.picoharp) else tier
        self._family = PICOHARP if layout.picoharp else HYDRAHARP_2 if layout.counted else HYDRAHARP_1
        self._name = name
        self._overflows = 0
        self.invalid = 0
        """Records that mean nothing in this layout (skipped)."""

    def decode(self, words: Words) -> Decoded:
        """Photons, sync events and markers of a block of records, in file order."""
        if self._tier == "c":
            return self._decode_compiled(words)
        found = self._decode_numba(words) if self._tier == "numba" else None
        return self._decode(words) if found is None else found

    def decode_into(self, words: Words, time: NDArray[np.int64], ids: NDArray[np.uint8]) -> tuple[int, int, bool]:
        """The same by the compiled kernel into arrays that are there, as far as they reach (T2 only).

        Returns:
            Tags written, words read, and whether no tag is earlier than the one written before it.
        """
        layout = self._layout
        done = decode_t2(words, self._overflows, layout.wrap, self._family, time, ids)
        self._overflows = self._checked(done.overflows)
        self.invalid += done.meaningless
        return done.n_tags, done.n_read, not done.backward

    def _decode_compiled(self, words: Words) -> Decoded:
        """The same by the compiled kernel; marker records may fill the arrays before the words end."""
        parts = [Decoded(np.empty(0, dtype=np.int64), None, np.empty(0, dtype=np.uint8))]
        while words.size:
            time = np.empty(ROOM + words.size + MOST_LINES, dtype=np.int64)
            ids = np.empty(time.size, dtype=np.uint8)
            n_tags, n_read, in_order = self.decode_into(words, time[ROOM:], ids[ROOM:])
            parts.append(Decoded(time[ROOM:][:n_tags], None, ids[ROOM:][:n_tags], in_order, ROOM))
            words = words[n_read:]
        if len(parts) == 2:
            return parts[1]
        times, all_ids = [part.time for part in parts], [part.ids for part in parts]
        return Decoded(np.concatenate(times), None, np.concatenate(all_ids))

    def _decode_numba(self, words: Words) -> Decoded | None:
        """The same by the Numba loop, or None for a block that it leaves to NumPy."""
        from qkdpp.sources.picoquant_fast import UNUSUAL, decode_t2  # noqa: PLC0415 - Numba takes a second to import

        layout = self._layout
        time, ids = np.empty(words.size, dtype=np.int64), np.empty(words.size, dtype=np.uint8)
        n, overflows = decode_t2(words, self._overflows, layout.wrap, layout.counted, time, ids)
        if n == UNUSUAL:
            return None
        self._overflows = self._checked(overflows)
        return Decoded(time[:n], None, ids[:n])

    def _checked(self, overflows: int) -> int:
        if (overflows + 2) * self._layout.wrap >= 1 << 62:
            raise FormatError(f"{self._name}: overflow records add up to a time beyond 63 bits")
        return overflows

    def _decode(self, words: Words) -> Decoded:
        fields = _picoharp_fields(words, self._layout) if self._layout.picoharp else _hydra_fields(words, self._layout)
        time, dtime, ids = fields.time, fields.dtime, fields.ids
        if self._overflows or fields.overflows.any():
            self._add_overflows(time, fields)
        if not fields.special.size:
            return Decoded(time, dtime, ids)
        ids[fields.special[fields.is_sync]] = 0
        repeats = _repeats(fields)
        self.invalid += int(np.count_nonzero((repeats == 0) & (fields.overflows == 0)))
        lines = _marker_lines(fields)
        ids[fields.special[fields.markers > 0]] = lines.first
        kept = np.ones(words.size, dtype=np.bool_)
        kept[fields.special[repeats == 0]] = False
        if lines.record.size:
            counts = kept.astype(np.int64)
            counts[fields.special] = repeats
            return _with_extra_markers(Decoded(time, dtime, ids), counts, lines)
        return Decoded(time[kept], None if dtime is None else dtime[kept], ids[kept])

    def _add_overflows(self, time: NDArray[np.int64], fields: _Fields) -> None:
        """Adds the running overflow to every time, in place."""
        wrap = self._layout.wrap
        at = fields.special[fields.overflows > 0]
        running = np.cumsum(fields.overflows[fields.overflows > 0], dtype=np.int64)
        total = self._checked(self._overflows + (int(running[-1]) if running.size else 0))
        base = (np.concatenate([[0], running]) + self._overflows) * np.int64(wrap)
        edges = np.concatenate([[0], at, [time.size]])
        time += np.repeat(base, np.diff(edges))
        self._overflows = total


class _Lines(NamedTuple):
    """Marker lines: the first line's id per marker record, then (record position, id) of every further line."""

    first: NDArray[np.uint8]
    record: NDArray[np.intp]
    ids: NDArray[np.uint8]


def _hydra_fields(words: Words, layout: Layout) -> _Fields:
    special: NDArray[np.intp] = np.flatnonzero(words.view(np.int32) < 0)
    ids = ((words >> np.uint32(25)) & np.uint32(0x3F)).astype(np.uint8)
    if layout.t3:
        time = (words & np.uint32(0x3FF)).astype(np.int64)
        dtime = ((words >> np.uint32(10)) & np.uint32(0x7FFF)).astype(np.int32)
    else:
        time, dtime = (words & np.uint32(0x1FFFFFF)).astype(np.int64), None
    field = ids[special]
    ids += np.uint8(1)
    is_overflow = field == 63
    counts = np.maximum(time[special], 1) if layout.counted else np.ones(special.size, dtype=np.int64)
    markers = np.where((field >= 1) & (field <= 15), field, np.uint8(0))
    if dtime is not None:
        dtime[special] = 0
    is_sync = (field == 0) & np.bool_(not layout.t3)
    return _Fields(time, dtime, ids, special, np.where(is_overflow, counts, 0), markers, is_sync)


def _picoharp_fields(words: Words, layout: Layout) -> _Fields:
    ids = (words >> np.uint32(28)).astype(np.uint8)
    special: NDArray[np.intp] = np.flatnonzero(ids == 15)
    ids += np.uint8(1)
    if layout.t3:
        time = (words & np.uint32(0xFFFF)).astype(np.int64)
        dtime = ((words >> np.uint32(16)) & np.uint32(0xFFF)).astype(np.int32)
        bits = dtime[special]
        dtime[special] = 0
    else:
        time, dtime = (words & np.uint32(0xFFFFFFF)).astype(np.int64), None
        bits = (time[special] & 0xF).astype(np.int32)
        time[special] &= ~np.int64(0xF)
    markers = (bits & 0xF).astype(np.uint8)
    overflows = (bits == 0).astype(np.int64)
    return _Fields(time, dtime, ids, special, overflows, markers, np.zeros(special.size, dtype=np.bool_))


def _repeats(fields: _Fields) -> NDArray[np.int64]:
    """Tags that each special record gives: one for a sync event, one per marker line, none for an overflow."""
    return np.bitwise_count(fields.markers).astype(np.int64) + fields.is_sync


def _marker_lines(fields: _Fields) -> _Lines:
    positions = fields.special[fields.markers > 0]
    bits = fields.markers[fields.markers > 0]
    on = ((bits[:, None] >> np.arange(MOST_LINES, dtype=np.uint8)) & 1).astype(np.bool_)
    record, line = np.nonzero(on)
    first = np.ones(record.size, dtype=np.bool_)
    first[1:] = record[1:] != record[:-1]
    ids = (line + MARKER_ID + 1).astype(np.uint8)
    return _Lines(ids[first], positions[record[~first]], ids[~first])


def _with_extra_markers(tags: Decoded, counts: NDArray[np.int64], lines: _Lines) -> Decoded:
    """Repeats each record ``counts`` times and gives the repetitions of a marker record their own line."""
    ids = np.repeat(tags.ids, counts)
    starts = np.cumsum(counts) - counts
    order = np.concatenate([[0], np.cumsum(lines.record[1:] != lines.record[:-1])]).astype(np.int64)
    rank = np.arange(lines.record.size) - np.searchsorted(order, order, side="left") + 1
    ids[starts[lines.record] + rank] = lines.ids
    dtime = None if tags.dtime is None else np.repeat(tags.dtime, counts)
    return Decoded(np.repeat(tags.time, counts), dtime, ids)
