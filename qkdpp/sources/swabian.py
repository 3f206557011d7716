"""Swabian Time Tagger: dump files, and ``.ttbin`` through the vendor's optional library.

Both carry the same events: type (0 tag, 1 error, 2 and 3 begin and end of an
overflow, 4 missed events), channel (negative = falling edge), time in ps.
Between begin and end of an overflow, and before an error or missed-events
record outside one, events were lost: such intervals are marked, nothing is
glued over. Format page: ``docs/formats/swabian.md``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.tags import AS_PER_PS, TimeTags
from qkdpp.sources.batches import BATCH_RECORDS, Batch, Metadata, Opened, Request, Tally
from qkdpp.sources.blocks import file_size, record_blocks, whole_records
from qkdpp.sources.detect import refuse_known
from qkdpp.sources.writing import channels_within, fixed_ticks, new_file, same_stream

EVENT = np.dtype([("type", "u1"), ("pad", "u1"), ("missed", "<u2"), ("channel", "<i4"), ("time", "<i8")])
TAG, ERROR, OVERFLOW_BEGIN, OVERFLOW_END, MISSED = range(5)


class _Events:
    """Splits events into tags and lost intervals; remembers an overflow that is still open."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._overflow_from: int | None = None
        self._last: int | None = None

    def batch(
        self, kind: NDArray[Any], missed: NDArray[Any], channel: NDArray[Any], time: NDArray[Any], tally: Tally
    ) -> Batch:
        """One block of events."""
        if kind.size and int(kind.max()) > MISSED:
            raise FormatError(f"{self._name}: event type {int(kind.max())} is unknown; is the declared format right?")
        lost: list[tuple[int, int]] = []
        for at in np.flatnonzero(kind != TAG).tolist():
            now = int(time[at])
            before = int(time[at - 1]) if at else (now if self._last is None else self._last)
            tally.lost_tags_reported += int(missed[at]) if kind[at] == MISSED else 0
            if kind[at] == OVERFLOW_BEGIN:
                self._overflow_from = now if self._overflow_from is None else self._overflow_from
            elif kind[at] == OVERFLOW_END:
                lost.append((min(before, now) if self._overflow_from is None else self._overflow_from, now))
                self._overflow_from = None
            elif self._overflow_from is None:
                lost.append((min(before, now), now))
        if kind.size:
            self._last = int(time[-1])
        tags = kind == TAG
        return Batch(ticks=time[tags].astype(np.int64), ids=channel[tags].astype(np.int64), lost=tuple(lost))

    def open_overflow(self) -> Batch:
        """The interval of an overflow that the recording does not end."""
        none = np.empty(0, dtype=np.int64)
        if self._overflow_from is None or self._last is None:
            return Batch(ticks=none, ids=none)
        return Batch(ticks=none, ids=none, lost=((self._overflow_from, self._last),))


def open_dump(request: Request) -> Opened:
    """Opens a dump: headerless records of 16 bytes."""
    for path in request.paths:
        whole_records(path, EVENT.itemsize)
        refuse_known(path)

    def stream(tally: Tally) -> Iterator[Batch]:
        events = _Events(str(request.paths[0]))
        for path in request.paths:
            for block in record_blocks(path, EVENT, tally):
                yield events.batch(block["type"], block["missed"], block["channel"], block["time"], tally)
        yield events.open_overflow()

    return Opened(tick_as=request.fixed_tick(AS_PER_PS), streams=(stream,), headerless=True)


def open_ttbin(request: Request) -> Opened:
    """Opens ``.ttbin`` with the vendor's library (extra ``swabian``); numbered parts are found by the library."""
    for path in request.paths:
        file_size(path)
    try:
        library = importlib.import_module("Swabian.TimeTagger")
    except ImportError:
        raise InputError(
            f"{request.paths[0]}: .ttbin needs the vendor's library: pip install 'qkdpp[swabian]'; "
            "or write the recording with its Dump measurement and declare format swabian-dump"
        ) from None

    def stream(tally: Tally) -> Iterator[Batch]:
        for path in request.paths:
            events = _Events(str(path))
            for columns in _buffers(library, path):
                tally.records += columns[0].size
                yield events.batch(*columns, tally)
            yield events.open_overflow()

    return Opened(tick_as=request.fixed_tick(AS_PER_PS), streams=(stream,))


def _buffers(library: Any, path: Path) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]]:  # noqa: ANN401 - optional library
    """Event types, missed events, channels and times; FormatError if the library finds no event at all."""
    try:
        reader = library.FileReader(str(path))
    except (RuntimeError, ValueError, OSError) as error:
        raise FormatError(f"{path}: the Time Tagger library cannot read it ({error})") from error
    n_events = 0
    while reader.hasData():
        buffer = reader.getData(BATCH_RECORDS)
        times = np.asarray(buffer.getTimestamps(), dtype=np.int64)
        if not times.size:
            break
        n_events += times.size
        kinds, missed = np.asarray(buffer.getEventTypes()), np.asarray(buffer.getMissedEvents())
        channels = np.asarray(buffer.getChannels())
        if not kinds.shape == missed.shape == channels.shape == times.shape:
            raise FormatError(f"{path}: the Time Tagger library returned columns of different lengths")
        yield kinds, missed, channels, times
    if not n_events:
        raise FormatError(f"{path}: the Time Tagger library found no event; is it a .ttbin file?")


def write_dump(path: Path, chunks: Iterable[TimeTags], metadata: Metadata) -> int:
    """Writes a dump, times rounded to 1 ps, lost intervals as overflows; metadata is not stored."""
    n_tags = 0
    with new_file(path) as file:
        for tags in same_stream(path, chunks):
            times = fixed_ticks(path, tags, AS_PER_PS, 1 << 62)
            ids = channels_within(path, tags, -(1 << 31), (1 << 31) - 1)
            file.write(_with_overflows(tags, times, ids).tobytes())
            n_tags += len(tags)
    return n_tags


def _with_overflows(tags: TimeTags, times: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.void]:
    """Events of one chunk in time order; every lost interval becomes a begin and an end."""
    marks = [
        (edge * tags.tick_as // AS_PER_PS, kind) for gap in tags.lost for edge, kind in zip(gap, (2, 3), strict=True)
    ]
    events = np.zeros(times.size + len(marks), dtype=EVENT)
    events["time"] = np.concatenate([times, np.array([time for time, _ in marks], dtype=np.int64)])
    events["channel"][: times.size] = ids
    events["type"][times.size :] = [kind for _, kind in marks]
    order = np.argsort(events["time"], kind="stable")
    return events[order]
