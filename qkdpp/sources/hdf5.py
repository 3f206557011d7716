"""Our own container: HDF5 with the columns of :class:`qkdpp.core.tags.TimeTags`.

Datasets ``ticks`` (int64[n]), ``channel`` (uint8[n], index into
``channel_ids``), ``channel_ids`` (int32), ``lost`` (int64[m, 2]) and scalar
``tick_as``; metadata as JSON in the scalar ``meta`` (text of fixed length).
Read as well: ``time`` instead of ``ticks``, channel numbers without
``channel_ids``, ``meta`` and ``tick_as`` as attributes. Nothing outside the
file is followed (external links and storage are refused). Format page:
``docs/formats/hdf5.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.tags import AS_PER_S, TimeTags
from qkdpp.sources.batches import BATCH_RECORDS, Batch, Metadata, Opened, Request, Tally
from qkdpp.sources.blocks import file_size
from qkdpp.sources.metadata import MAX_META, parse_meta
from qkdpp.sources.writing import new_path, same_stream

CHUNK = 1 << 16
MAX_CHUNK = 1 << 24
_ERRORS = (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError, OverflowError)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file; anything the library finds wrong with it becomes a FormatError."""
    file_size(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except _ERRORS as error:
        raise FormatError(f"{path}: HDF5: {error}") from error


def hdf5_kind(path: Path) -> str:
    """Which kind of HDF5 recording: ``photon-hdf5`` or ours."""
    with _opened(path) as file:
        if {"n_pulses", "pulse_period_as", "mode"} <= set(file.attrs):
            raise FormatError(
                f"{path}: a record of prepared states, not a recording; name it as alice.record in run.toml"
            )
        return "photon-hdf5" if "photon_data" in file or "photon_data0" in file else "hdf5"


def open_hdf5(request: Request) -> Opened:
    """Opens our HDF5 containers (parts of one recording in order)."""
    ticks, metadata = [], Metadata()
    for path in request.paths:
        with _opened(path) as file:
            meta = _meta(path, file)
            metadata |= meta
            ticks.append(_tick(request, path, file, meta))
            _columns(path, file)
    if len(set(ticks)) != 1:
        raise FormatError(f"{request.paths[0]}: the parts have different ticks")

    def stream(tally: Tally) -> Iterator[Batch]:
        for path in request.paths:
            tally.part = path
            with _opened(path) as file:
                yield from _batches(path, file, tally)

    return Opened(tick_as=ticks[0], metadata=metadata, streams=(stream,))


def _batches(path: Path, file: Any, tally: Tally) -> Iterator[Batch]:  # noqa: ANN401 - h5py is untyped
    time, channel, ids = _columns(path, file)
    lost = _lost(path, file)
    for start in range(0, time.shape[0], BATCH_RECORDS):
        part = channel[start : start + BATCH_RECORDS]
        if ids is not None:
            if part.size and int(part.max()) >= ids.size:
                raise FormatError(f"{path}: channel holds {int(part.max())}, channel_ids has {ids.size} entries")
            part = ids[part]
        ticks = time[start : start + BATCH_RECORDS].astype(np.int64, copy=False)
        tally.records += ticks.size
        yield Batch(ticks=ticks, ids=part.astype(np.int64, copy=False), lost=lost if start == 0 else ())


def _columns(path: Path, file: Any) -> tuple[Any, Any, NDArray[np.int64] | None]:  # noqa: ANN401
    """Datasets of times and channels, and the channel ids if the channels are an index."""
    time = _dataset(path, file, "ticks" if "ticks" in file else "time")
    channel = _dataset(path, file, "channel")
    if time.shape != channel.shape:
        raise FormatError(f"{path}: {time.name} has {time.shape[0]} entries, channel has {channel.shape[0]}")
    if time.dtype.kind == "u" and time.dtype.itemsize == 8:
        raise FormatError(f"{path}: {time.name} is unsigned 64-bit; store int64")
    if "channel_ids" not in file:
        return time, channel, None
    ids = _dataset(path, file, "channel_ids")
    if ids.shape[0] > 255 or channel.dtype.kind != "u":
        raise FormatError(f"{path}: channel must be an unsigned index into at most 255 channel_ids")
    return time, channel, ids[:].astype(np.int64)


def _dataset(path: Path, file: Any, name: str, *, ndim: int = 1) -> Any:  # noqa: ANN401
    """A column of whole numbers that lies wholly inside the file."""
    if name not in file or not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise FormatError(f"{path}: no dataset {name!r}; a qkdpp recording has ticks, channel and tick_as")
    data = file[name]
    if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual or data.dtype.kind not in "iu":
        raise FormatError(f"{path}: {name} is not a plain dataset of whole numbers")
    if data.shape is None or len(data.shape) != ndim:
        raise FormatError(f"{path}: {name} has {0 if data.shape is None else len(data.shape)} dimensions, not {ndim}")
    if data.chunks is None:
        stored = data.size * data.dtype.itemsize <= data.id.get_storage_size()
    else:
        per_chunk = int(np.prod(data.chunks, dtype=object))
        wanted = int(np.prod([-(-n // c) for n, c in zip(data.shape, data.chunks, strict=True)], dtype=object))
        stored = per_chunk <= MAX_CHUNK and (wanted == 0 or data.id.get_num_chunks() >= wanted)
    if not stored:
        raise FormatError(f"{path}: {name} announces {data.shape} entries, more than the file stores")
    return data


def _tick(request: Request, path: Path, file: Any, meta: Metadata) -> int:  # noqa: ANN401
    stated: object = None
    if "tick_as" in file:
        data = _dataset(path, file, "tick_as", ndim=0)
        stated = int(data[()])
    elif "tick_as" in file.attrs:
        value = file.attrs["tick_as"] if _has_fixed_type(file, "tick_as") else "of variable length"
        stated = int(value) if isinstance(value, int | np.integer) else value
    else:
        stated = meta.get("tick_as")
    if stated is None:
        return request.declared_tick()
    if not isinstance(stated, int) or not 1 <= stated <= AS_PER_S:
        raise FormatError(f"{path}: tick_as = {stated!r} is not a number of attoseconds from 1 to {AS_PER_S}")
    return request.fixed_tick(stated)


def _lost(path: Path, file: Any) -> tuple[tuple[int, int], ...]:  # noqa: ANN401
    if "lost" not in file:
        return ()
    data = _dataset(path, file, "lost", ndim=2)
    if data.shape[1] != 2 or data.shape[0] > MAX_CHUNK:
        raise FormatError(f"{path}: lost has the shape {data.shape}, not (n, 2)")
    return tuple((int(start), int(end)) for start, end in data[:])


def _meta(path: Path, file: Any) -> Metadata:  # noqa: ANN401
    """Metadata from the scalar dataset or the attribute ``meta``; text of variable length is left alone."""
    if "meta" in file:
        data = file["meta"]
        if (
            not isinstance(data, h5py.Dataset)
            or data.external
            or data.is_virtual
            or data.dtype.kind != "S"
            or data.shape
        ):
            raise FormatError(f"{path}: meta is not one text of fixed length")
        text = data[()] if data.dtype.itemsize <= MAX_META else None
    elif "meta" in file.attrs:
        if not _has_fixed_type(file, "meta"):
            return {"meta": "not read, because it is text of variable length"}
        text = file.attrs["meta"]
    else:
        return {}
    return parse_meta(path, text.decode("utf-8", "replace") if isinstance(text, bytes) else text)


def _has_fixed_type(file: Any, name: str) -> bool:  # noqa: ANN401
    """Whether an attribute is a number or a text of fixed length.

    Values of variable length are never read: a damaged one can crash the HDF5 library (2.0.0) or keep it in a loop.
    """
    kind = file.attrs.get_id(name).get_type()
    fixed_text = kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str()
    return fixed_text or kind.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT)


def open_photon_hdf5(request: Request) -> Opened:
    """Opens Photon-HDF5 files of one spot: ``timestamps`` and ``detectors`` of the group ``photon_data``."""
    units = set()
    for path in request.paths:
        with _opened(path) as file:
            _photon_columns(path, file)
            unit = file["photon_data/timestamps_specs/timestamps_unit"]
            if unit.dtype.kind != "f" or unit.size != 1:
                raise FormatError(f"{path}: timestamps_unit is not one number")
            units.add(round(float(unit[()]) * AS_PER_S))
            has_nanotimes = "nanotimes" in file["photon_data"]
    if len(units) != 1 or not 1 <= min(units) <= AS_PER_S:
        raise FormatError(f"{request.paths[0]}: timestamps_unit is not one sensible time unit")
    tick_as = request.fixed_tick(units.pop())

    def stream(tally: Tally) -> Iterator[Batch]:
        if has_nanotimes:
            tally.warn(f"{request.paths[0]}: nanotimes are not read; times are whole timestamps")
        for path in request.paths:
            tally.part = path
            with _opened(path) as file:
                time, detector = _photon_columns(path, file)
                for start in range(0, time.shape[0], BATCH_RECORDS):
                    ticks = time[start : start + BATCH_RECORDS].astype(np.int64)
                    tally.records += ticks.size
                    yield Batch(ticks=ticks, ids=detector[start : start + BATCH_RECORDS].astype(np.int64))

    return Opened(tick_as=tick_as, streams=(stream,))


def _photon_columns(path: Path, file: Any) -> tuple[Any, Any]:  # noqa: ANN401
    if "photon_data" not in file:
        raise FormatError(f"{path}: several spots (photon_data0, photon_data1, ...); only one spot can be read")
    group = file["photon_data"]
    time, detector = _dataset(path, group, "timestamps"), _dataset(path, group, "detectors")
    if time.shape != detector.shape or time.dtype == np.uint64:
        raise FormatError(f"{path}: timestamps must be int64 and as many as detectors")
    return time, detector


def write_hdf5(path: Path, chunks: Iterable[TimeTags], metadata: Metadata) -> int:
    """Writes sorted chunks with native ticks, metadata and lost intervals; returns the number of tags."""
    lost: list[tuple[int, int]] = []
    last: TimeTags | None = None
    n_tags = 0
    with new_path(path), h5py.File(path, "w") as file:
        file["meta"] = np.bytes_(json.dumps(metadata))
        columns = {
            name: file.create_dataset(
                name,
                (0,),
                dtype,
                maxshape=(None,),
                chunks=(CHUNK,),
                compression="gzip",
                compression_opts=1,
                shuffle=True,
            )
            for name, dtype in (("ticks", "<i8"), ("channel", "u1"))
        }
        for tags in same_stream(path, chunks):
            last = tags
            lost += tags.lost
            for name, values in (("ticks", tags.ticks), ("channel", tags.channel)):
                columns[name].resize((n_tags + len(tags),))
                columns[name][n_tags:] = values
            n_tags += len(tags)
        if last is None:
            raise InputError(f"{path}: no chunk to write, so the tick length is unknown")
        file["tick_as"] = np.int64(last.tick_as)
        file["channel_ids"] = np.array(last.channel_ids, dtype="<i4")
        file["lost"] = np.array(lost, dtype="<i8").reshape(-1, 2)
    return n_tags
