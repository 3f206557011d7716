"""A recording of detections, whatever instrument wrote it, as sorted chunks of time tags.

Opening reads headers only. :meth:`Recording.chunks` reads the files block by
block with bounded memory and may be called again; each pass leaves its
:class:`ReadStats`. Times stay int64 in native ticks throughout.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.tags import AS_PER_S, TimeTags, concatenate
from qkdpp.kernels.tags import count_labels, relabel
from qkdpp.sources.batches import CHUNK_TAGS, Batch, Metadata, Opened, Options, ReadStats, Request, Tally
from qkdpp.sources.detect import detect_format
from qkdpp.sources.formats import format_named, function_of
from qkdpp.sources.order import merged, ordered, within

MAX_CHANNELS = 255
_UNKNOWN = 255
_INDEXED_FIRST, _INDEXED_AT_ONCE = 1 << 12, 1 << 20
_TABLE_SPAN = 1 << 16
_NO_TAGS = Batch(ticks=np.empty(0, dtype=np.int64), ids=np.empty(0, dtype=np.int64))


class _Channels:
    """Dense index of channel ids in the order of their first appearance; shared by all passes of a recording."""

    def __init__(self, name: str) -> None:
        self.ids: tuple[int, ...] = ()
        self._name = name
        self._low = 0
        self._table = np.empty(0, dtype=np.uint8)

    def index(self, ids: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Index of every id, uint8[n]; new ids are added, FormatError beyond 255 of them."""
        if not ids.size:
            return np.empty(0, dtype=np.uint8)
        low, high = (0, 255) if ids.dtype == np.uint8 else (int(ids.min()), int(ids.max()))
        if high - low >= _TABLE_SPAN:
            return self._index_sparse(ids)
        if low < self._low or high >= self._low + self._table.size:
            self._build(min(low, self._low), max(high, self._low + self._table.size - 1))
        dense, largest = self._looked_up(ids)
        if largest == _UNKNOWN:
            self._add(self._new(ids, dense))
            return self.index(ids)
        return dense

    def index_at_once(self, ids: NDArray[np.integer]) -> NDArray[np.uint8]:
        """The same, into the memory of ``ids`` where its type allows it."""
        if ids.dtype != np.uint8 or any(not 0 <= channel <= _UNKNOWN for channel in self.ids):
            return self.index(ids)
        channel = ids.view(np.uint8)
        table = self._bijection()
        start, size = 0, _INDEXED_FIRST
        while start < ids.size:
            part = channel[start : start + size]
            start, size = start + size, min(4 * size, _INDEXED_AT_ONCE)
            if relabel(part, table) >= len(self.ids):
                relabel(part, np.argsort(table).astype(np.uint8))
                part[:] = self.index(part)
                table = self._bijection()
        return channel

    def _bijection(self) -> NDArray[np.uint8]:
        """Indices of the ids 0 to 255, those without one behind them: nothing is lost by looking up."""
        order = [*self.ids, *(channel for channel in range(_UNKNOWN + 1) if channel not in self.ids)]
        table = np.empty(_UNKNOWN + 1, dtype=np.uint8)
        table[order] = np.arange(_UNKNOWN + 1)
        return table

    def _new(self, ids: NDArray[np.integer], dense: NDArray[np.uint8]) -> NDArray[np.integer]:
        """Ids without an index, in the order of their first appearance."""
        if ids.dtype == np.uint8:
            occurring = np.flatnonzero(count_labels(ids.astype(np.uint8, copy=False)))
            new = occurring[self._table[occurring - self._low] == _UNKNOWN]
            first = np.array([int(np.argmax(ids == channel)) for channel in new.tolist()])
        else:
            new, first = np.unique(ids[dense == _UNKNOWN], return_index=True)
        by_place: NDArray[np.integer] = new[np.argsort(first)]
        return by_place

    def _looked_up(self, ids: NDArray[np.integer]) -> tuple[NDArray[np.uint8], int]:
        """Indices and the largest of them."""
        if ids.dtype == np.uint8 and self._low == 0:
            dense = ids.astype(np.uint8)
            return dense, relabel(dense, self._table[:256])
        mapped: NDArray[np.uint8] = self._table[ids.astype(np.int64) - self._low]
        return mapped, int(mapped.max())

    def _build(self, low: int, high: int) -> None:
        self._low = low
        self._table = np.full(high - low + 1, _UNKNOWN, dtype=np.uint8)
        for i, channel in enumerate(self.ids):
            if low <= channel <= high:
                self._table[channel - low] = i

    def _add(self, new: NDArray[np.integer]) -> None:
        if len(self.ids) + new.size > MAX_CHANNELS:
            raise FormatError(f"{self._name}: more than {MAX_CHANNELS} channels; is the format right?")
        self.ids += tuple(int(channel) for channel in new)
        self._build(self._low, self._low + self._table.size - 1)

    def _index_sparse(self, ids: NDArray[np.integer]) -> NDArray[np.uint8]:
        distinct, inverse = np.unique(ids, return_inverse=True)
        new = np.array([channel for channel in distinct if int(channel) not in self.ids], dtype=distinct.dtype)
        self._add(new)
        dense = np.array([self.ids.index(int(channel)) for channel in distinct], dtype=np.uint8)
        mapped: NDArray[np.uint8] = dense[inverse]
        return mapped


class Recording:
    """An opened recording (see :func:`open_recording`).

    Attributes:
        format: short name of the format.
        paths: its files.
        tick_as: attoseconds per tick.
        metadata: what the header says.
        stats: what the last pass found (before the first pass: what the header shows).
    """

    def __init__(self, name: str, paths: tuple[Path, ...], opened: Opened, *, strict: bool) -> None:
        self.format = name
        self.paths = paths
        self.tick_as = opened.tick_as
        self.metadata: Metadata = opened.metadata
        self._opened = opened
        self._strict = strict
        self._channels = _Channels(str(paths[0]))
        self.stats: ReadStats = self._tally().freeze()

    def __repr__(self) -> str:
        return f"Recording({self.format}, {[str(path) for path in self.paths]}, tick_as={self.tick_as})"

    @property
    def channel_ids(self) -> tuple[int, ...]:
        """The instrument's channel numbers seen so far, in the order of the dense index."""
        return self._channels.ids

    def chunks(self, *, from_s: float | None = None, to_s: float | None = None) -> Generator[TimeTags, None, None]:
        """Tags in time order, at most 2^20 per chunk; at least one chunk, which may be empty.

        Args:
            from_s: start, seconds after the first tag of the recording.
            to_s: end (exclusive), seconds after the first tag.

        Raises:
            FormatError: the file is not what it claims to be.
        """
        start, stop = self._ticks("from", from_s), self._ticks("to", to_s)
        tally = self._tally()
        try:
            batches = self._batches(tally)
            if start is not None or stop is not None:
                batches = within(batches, start, stop)
            is_empty = True
            for batch in batches:
                for tags in self._pieces(batch):
                    tally.tags += len(tags)
                    tally.lost_intervals += len(tags.lost)
                    is_empty = False
                    yield tags
            if is_empty:
                yield from self._pieces(_NO_TAGS)
        finally:
            self.stats = tally.freeze()

    def read(self) -> TimeTags:
        """All tags in memory, in time order; at once where the format and the file allow it.

        Raises:
            FormatError: the file is not what it claims to be.
        """
        batch = None
        if self._opened.whole is not None:
            tally = self._tally()
            try:
                batch = self._opened.whole(tally)
            finally:
                self.stats = tally.freeze()
        if batch is None:
            return concatenate(list(self.chunks()))
        self.stats = replace(self.stats, tags=int(batch.ticks.size))
        channel = self._channels.index_at_once(batch.ids)
        return TimeTags(ticks=batch.ticks, channel=channel, channel_ids=self.channel_ids, tick_as=self.tick_as)

    def probe(self) -> None:
        """Decodes the first chunk of a headerless kind; FormatError if its times are not plausible."""
        before = self.stats
        chunks = self.chunks()
        next(chunks, None)
        chunks.close()
        self.stats = before

    def _tally(self) -> Tally:
        tally = Tally(strict=self._strict)
        for warning in self._opened.warnings:
            tally.incomplete(warning)
        return tally

    def _ticks(self, name: str, seconds: float | None) -> int | None:
        if seconds is None:
            return None
        if not 0 <= seconds < float("inf"):
            raise InputError(f"{self.paths[0]}: {name} = {seconds} s; give seconds from the first tag, 0 or more")
        return round(Fraction(seconds) * AS_PER_S / self.tick_as)

    def _batches(self, tally: Tally) -> Iterator[Batch]:
        check = str(self.paths[0]) if self._opened.headerless else None
        return merged([ordered(stream(tally), self.tick_as, tally, check=check) for stream in self._opened.streams])

    def _pieces(self, batch: Batch) -> Iterator[TimeTags]:
        channel = self._channels.index(batch.ids)
        for start in range(0, max(1, batch.ticks.size), CHUNK_TAGS):
            yield TimeTags(
                ticks=batch.ticks[start : start + CHUNK_TAGS],
                channel=channel[start : start + CHUNK_TAGS],
                channel_ids=self.channel_ids,
                tick_as=self.tick_as,
                lost=batch.lost if start == 0 else (),
            )


def open_recording(
    paths: Path | str | Sequence[Path | str],
    *,
    format: str | None = None,
    tick_as: int | None = None,
    options: Options | None = None,
    strict: bool = False,
) -> Recording:
    """Opens a recording.

    Args:
        paths: one file, or the parts of one recording in order, or one file per input (``id900-*``).
        format: short name of the format; None detects it by content. Headerless kinds must be declared.
        tick_as: attoseconds per tick, for formats that do not state it.
        options: options of the format by name, see ``docs/formats/``.
        strict: an incomplete file is an error instead of a warning.

    Raises:
        InputError: no such file, unknown format or option, tick length missing.
        FormatError: the file is not what it claims to be, or cannot be told apart.
    """
    many = (paths,) if isinstance(paths, str | Path) else tuple(paths)
    files = tuple(Path(path) for path in many)
    if not files:
        raise InputError("no recording given")
    row = format_named(format if format is not None else detect_format(files[0]))
    unknown = sorted(set(options or {}) - set(row.options))
    if unknown:
        known = ", ".join(row.options) or "none"
        raise InputError(f"{files[0]}: format {row.name} has no option {unknown[0]!r}; known: {known}")
    if tick_as is not None and not 0 < tick_as <= AS_PER_S:
        raise InputError(f"{files[0]}: tick_as = {tick_as}; give attoseconds per tick, from 1 to {AS_PER_S}")
    opened: Opened = function_of(row.reader)(Request(paths=files, tick_as=tick_as, options=options or {}))
    recording = Recording(row.name, files, opened, strict=strict)
    if opened.headerless:
        recording.probe()
    return recording


def read_all(recording: Recording, from_s: float | None = None, to_s: float | None = None) -> TimeTags:
    """The whole recording (or an interval of it) in memory; empty if it holds no tag."""
    if from_s is None and to_s is None:
        return recording.read()
    return concatenate(list(recording.chunks(from_s=from_s, to_s=to_s)))
