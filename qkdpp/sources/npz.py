"""Our npz container: the columns of ``hdf5.py`` as NumPy arrays in a zip file, without pickles.

Arrays ``ticks`` (int64[n]), ``channel`` (uint8[n], index into ``channel_ids``),
``channel_ids`` (int32), ``lost`` (int64[m, 2]), scalar ``tick_as`` and ``meta``
(JSON in a 0-d string array). Read as well: ``time`` instead of ``ticks``, and
channel numbers without ``channel_ids``, with the tick in ``meta``. The two long
columns are read in step, block by block. Format page: ``docs/formats/npz.md``.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.tags import AS_PER_S, TimeTags
from qkdpp.sources.batches import BATCH_RECORDS, Batch, Metadata, Opened, Request, Tally
from qkdpp.sources.blocks import file_size
from qkdpp.sources.metadata import parse_meta
from qkdpp.sources.writing import new_path, same_stream

MAX_SMALL = 1 << 24
_ERRORS = (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, NotImplementedError, zlib.error)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; anything wrong with it becomes a FormatError."""
    file_size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (*_ERRORS, zipfile.BadZipFile, SyntaxError) as error:
        raise FormatError(f"{path}: npz: {error}") from error


class _Column:
    """One array of the archive, read from its start in pieces."""

    def __init__(self, path: Path, file: IO[bytes], name: str) -> None:
        self._path, self._file, self._name = path, file, name
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise FormatError(f"{path}: {name}: npy version {version} is not supported")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        self.shape, _, self.dtype = read_header(file)
        if self.dtype.hasobject:
            raise FormatError(f"{path}: {name} holds pickled objects; they are never loaded")

    def take(self, n: int) -> NDArray[Any]:
        """The next ``n`` entries; FormatError if the file ends before."""
        wanted = n * self.dtype.itemsize
        data = self._file.read(wanted)
        if len(data) != wanted:
            raise FormatError(f"{self._path}: {self._name} announces {self.shape} entries, more than the file stores")
        return np.frombuffer(data, dtype=self.dtype)


def _column(path: Path, archive: zipfile.ZipFile, stack: ExitStack, name: str) -> _Column:
    if f"{name}.npy" not in archive.namelist():
        raise FormatError(f"{path}: no array {name!r}; a qkdpp recording has ticks, channel and tick_as")
    return _Column(path, stack.enter_context(archive.open(f"{name}.npy")), name)


def _whole_numbers(path: Path, archive: zipfile.ZipFile, stack: ExitStack, name: str) -> _Column:
    column = _column(path, archive, stack, name)
    unsafe = column.dtype.kind == "u" and column.dtype.itemsize == 8
    if column.dtype.kind not in "iu" or unsafe or len(column.shape) != 1 or column.shape[0] < 0:
        raise FormatError(f"{path}: {name} is {column.dtype}{column.shape}, not a column of whole numbers below 2^63")
    return column


def _small(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any] | None:
    """A small array (at most 16 MiB), or None if the archive has none of that name."""
    if f"{name}.npy" not in archive.namelist():
        return None
    with ExitStack() as stack:
        column = _column(path, archive, stack, name)
        count = int(np.prod(column.shape, dtype=object))
        if any(n < 0 for n in column.shape) or count * column.dtype.itemsize > MAX_SMALL:
            raise FormatError(f"{path}: {name} has the shape {column.shape}")
        return column.take(count).reshape(column.shape)


def open_npz(request: Request) -> Opened:
    """Opens npz containers (parts of one recording in order)."""
    ticks, metadata = [], Metadata()
    for path in request.paths:
        with _opened(path) as archive:
            meta = _small(path, archive, "meta")
            parsed = {} if meta is None else parse_meta(path, str(meta[()]) if meta.dtype.kind == "U" else None)
            metadata |= parsed
            ticks.append(_tick(request, path, archive, parsed))
    if len(set(ticks)) != 1:
        raise FormatError(f"{request.paths[0]}: the parts have different ticks")

    def stream(tally: Tally) -> Iterator[Batch]:
        for path in request.paths:
            tally.part = path
            with _opened(path) as archive:
                yield from _batches(path, archive, tally)

    return Opened(tick_as=ticks[0], metadata=metadata, streams=(stream,))


def _tick(request: Request, path: Path, archive: zipfile.ZipFile, meta: Metadata) -> int:
    stored = _small(path, archive, "tick_as")
    stated = meta.get("tick_as") if stored is None else stored.reshape(-1).tolist()[0] if stored.size == 1 else stored
    if stated is None:
        return request.declared_tick()
    if not isinstance(stated, int) or not 1 <= stated <= AS_PER_S:
        raise FormatError(f"{path}: tick_as = {stated!r} is not a number of attoseconds from 1 to {AS_PER_S}")
    return request.fixed_tick(stated)


def _batches(path: Path, archive: zipfile.ZipFile, tally: Tally) -> Iterator[Batch]:
    ids = _small(path, archive, "channel_ids")
    lost = _lost(path, archive)
    with ExitStack() as stack:
        time_name = "ticks" if "ticks.npy" in archive.namelist() else "time"
        time = _whole_numbers(path, archive, stack, time_name)
        channel = _whole_numbers(path, archive, stack, "channel")
        if time.shape != channel.shape:
            raise FormatError(f"{path}: {time_name} has {time.shape[0]} entries, channel has {channel.shape[0]}")
        if ids is not None and (ids.ndim != 1 or ids.size > 255 or ids.dtype.kind not in "iu"):
            raise FormatError(f"{path}: channel_ids must be at most 255 whole numbers")
        for start in range(0, time.shape[0], BATCH_RECORDS):
            n = min(BATCH_RECORDS, time.shape[0] - start)
            ticks, part = time.take(n).astype(np.int64), channel.take(n).astype(np.int64)
            if ids is not None:
                if int(part.max()) >= ids.size or int(part.min()) < 0:
                    raise FormatError(f"{path}: channel is not an index into the {ids.size} channel_ids")
                part = ids[part].astype(np.int64)
            tally.records += n
            yield Batch(ticks=ticks, ids=part, lost=lost if start == 0 else ())


def _lost(path: Path, archive: zipfile.ZipFile) -> tuple[tuple[int, int], ...]:
    lost = _small(path, archive, "lost")
    if lost is None:
        return ()
    if lost.ndim != 2 or lost.shape[1] != 2 or lost.dtype.kind not in "iu":
        raise FormatError(f"{path}: lost is {lost.dtype}{lost.shape}, not pairs of whole numbers")
    return tuple((int(start), int(end)) for start, end in lost)


def write_npz(path: Path, chunks: Iterable[TimeTags], metadata: Metadata) -> int:
    """Writes sorted chunks with native ticks, metadata and lost intervals; returns the number of tags."""
    lost: list[tuple[int, int]] = []
    last: TimeTags | None = None
    n_tags = 0
    with new_path(path), tempfile.TemporaryFile() as ticks, tempfile.TemporaryFile() as channel:
        for tags in same_stream(path, chunks):
            last = tags
            lost += tags.lost
            n_tags += len(tags)
            ticks.write(tags.ticks.astype("<i8").tobytes())
            channel.write(tags.channel.tobytes())
        if last is None:
            raise InputError(f"{path}: no chunk to write, so the tick length is unknown")
        small = {
            "channel_ids": np.array(last.channel_ids, dtype="<i4"),
            "tick_as": np.array(last.tick_as, dtype="<i8"),
            "lost": np.array(lost, dtype="<i8").reshape(-1, 2),
            "meta": np.array(json.dumps(metadata)),
        }
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, array in small.items():
                with archive.open(f"{name}.npy", "w") as file:
                    npy.write_array(file, array, allow_pickle=False)
            for name, spool, descr in (("ticks", ticks, "<i8"), ("channel", channel, "|u1")):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (n_tags,)})
                    spool.seek(0)
                    while data := spool.read(1 << 22):
                        file.write(data)
    return n_tags
