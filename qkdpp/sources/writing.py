"""Writing recordings: never over an existing file, nothing half-written left behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import InputError
from qkdpp.core.tags import TimeTags
from qkdpp.sources.batches import Metadata
from qkdpp.sources.formats import FORMATS, format_named, function_of
from qkdpp.sources.integers import scaled


def write_recording(
    path: Path | str,
    chunks: Iterable[TimeTags],
    *,
    format: str,
    metadata: Metadata | None = None,
) -> int:
    """Writes sorted chunks of one stream as a new file; returns the number of tags.

    Formats that state their tick keep native ticks; the others fix it, and times are rounded to it (to nearest,
    in integers). A tag that the format cannot hold is an InputError that names it; then no file is left.
    """
    row = format_named(format)
    if row.writer is None:
        writable = ", ".join(name for name, other in FORMATS.items() if other.writer)
        raise InputError(f"{path}: format {format} can be read but not written; written are {writable}")
    written: int = function_of(row.writer)(Path(path), chunks, metadata or {})
    return written


@contextmanager
def new_path(path: Path) -> Iterator[Path]:
    """Claims a file name that does not exist yet; the file is removed again if writing fails."""
    try:
        path.open("xb").close()
    except FileExistsError:
        raise InputError(f"{path}: exists already; nothing is overwritten, choose another name") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({error})") from error
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """The new file, open for writing."""
    with new_path(path), path.open("r+b") as file:
        yield file


def same_stream(path: Path, chunks: Iterable[TimeTags]) -> Iterator[TimeTags]:
    """The chunks, checked to be one sorted stream with one tick length."""
    tick_as: int | None = None
    last: int | None = None
    for tags in chunks:
        if tick_as not in (None, tags.tick_as):
            raise InputError(f"{path}: chunks with different ticks ({tick_as} and {tags.tick_as} as)")
        tick_as = tags.tick_as
        if len(tags):
            first = int(tags.ticks[0])
            if np.any(tags.ticks[1:] < tags.ticks[:-1]) or (last is not None and first < last):
                raise InputError(f"{path}: the tags are not sorted by time (chunk from tick {first})")
            last = int(tags.ticks[-1])
        yield tags


def fixed_ticks(path: Path, tags: TimeTags, tick_as: int, limit: int) -> NDArray[np.int64]:
    """Times in the fixed tick of a format, rounded to nearest; InputError outside ``[0, limit)``."""
    try:
        ticks = scaled(tags.ticks, tags.tick_as, tick_as, nearest=True)
    except OverflowError:
        raise InputError(f"{path}: tag at tick {int(tags.ticks[-1])} is too late for ticks of {tick_as} as") from None
    if ticks.size and (int(ticks[0]) < 0 or int(ticks[-1]) >= limit):
        worst = int(tags.ticks[0] if int(ticks[0]) < 0 else tags.ticks[-1])
        raise InputError(f"{path}: tag at tick {worst} does not fit: the format holds 0 to {limit - 1} of {tick_as} as")
    return ticks


def channels_within(path: Path, tags: TimeTags, low: int, high: int) -> NDArray[np.int64]:
    """The channel id of every tag; InputError names one outside ``low`` to ``high``."""
    ids = np.array(tags.channel_ids, dtype=np.int64)
    used = ids[np.unique(tags.channel)]
    bad = used[(used < low) | (used > high)]
    if bad.size:
        raise InputError(f"{path}: channel {int(bad[0])} does not fit the format ({low} to {high})")
    return ids[tags.channel] if len(tags) else np.empty(0, dtype=np.int64)
