"""ID Quantique ID900/ID1000: one file per input, times since the last reference event.

Binary: u64 time, or u64 time and u64 index (option ``index``, must be declared); text: ``time``
or ``time;index`` per line. Times are picoseconds; with an index the absolute
time is ``index * ref_period_ps + time``. The input is the number in ``_C<n>``
of the file name, else option ``channel``, else the file's place in the list.
The files are merged by time. Format page: ``docs/formats/id900.md``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.tags import AS_PER_PS
from qkdpp.sources.batches import Batch, Opened, Request, Stream, Tally
from qkdpp.sources.blocks import open_file, record_blocks, whole_records
from qkdpp.sources.detect import refuse_known
from qkdpp.sources.integers import INT64_MAX
from qkdpp.sources.number_text import number_rows
from qkdpp.sources.text import skip_comments

Columns = Callable[[Path, Tally], Iterator[tuple[NDArray[Any], NDArray[Any] | None]]]


def open_bin(request: Request) -> Opened:
    """Opens binary files; option ``byte_order`` (``little`` by default, or ``big``)."""
    order = "<" if request.text("byte_order", "little", ("little", "big")) == "little" else ">"
    if "index" not in request.options:
        raise InputError(f"{request.paths[0]}: declare option index (true or false): the file does not show it")
    indexed = request.flag("index", False)
    dtype = np.dtype([("time", f"{order}u8")] + [("index", f"{order}u8")] * indexed)
    for path in request.paths:
        whole_records(path, dtype.itemsize)
        refuse_known(path)

    def columns(path: Path, tally: Tally) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
        for block in record_blocks(path, dtype, tally):
            yield block["time"], block["index"] if indexed else None

    return _opened(request, columns, indexed)


def open_text(request: Request) -> Opened:
    """Opens text files."""
    indexed = request.flag("index", False)

    def columns(path: Path, tally: Tally) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
        with open_file(path) as file:
            line = skip_comments(file)
            for rows in number_rows(file, path, 2 if indexed else 1, tally, line=line):
                if rows.min() < 0:
                    raise FormatError(f"{path}: negative time or index")
                yield rows[:, 0], rows[:, 1] if indexed else None

    return _opened(request, columns, indexed)


def _opened(request: Request, columns: Columns, indexed: bool) -> Opened:
    tick_as = request.fixed_tick(AS_PER_PS)
    period_ps = request.whole("ref_period_ps")
    if indexed and (period_ps is None or period_ps <= 0):
        raise InputError(f"{request.paths[0]}: with option index, give ref_period_ps (picoseconds between references)")
    if len(request.paths) > 1 and "channel" in request.options:
        raise InputError(f"{request.paths[0]}: option channel is for a single file")
    streams = tuple(
        _stream(path, _channel(request, place), columns, period_ps or 0) for place, path in enumerate(request.paths)
    )
    return Opened(tick_as=tick_as, streams=streams, headerless=True)


def _channel(request: Request, place: int) -> int:
    given = request.whole("channel")
    if given is not None:
        return given
    named = re.search(r"_C([0-9]{1,4})(?![0-9])", request.paths[place].stem)
    return int(named[1]) if named else place + 1


def _stream(path: Path, channel: int, columns: Columns, period_ps: int) -> Stream:
    def stream(tally: Tally) -> Iterator[Batch]:
        for time, index in columns(path, tally):
            latest = int(time.max()) + (0 if index is None else int(index.max()) * period_ps)
            if latest > INT64_MAX:
                raise FormatError(f"{path}: a time beyond 63 bits; check byte order, index and ref_period_ps")
            ticks = time.astype(np.int64)
            if index is not None:
                ticks += index.astype(np.int64) * np.int64(period_ps)
            yield Batch(ticks=ticks, ids=np.full(ticks.size, channel, dtype=np.int64))

    return stream
