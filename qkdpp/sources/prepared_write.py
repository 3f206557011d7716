"""Writing a record of prepared states (``docs/formats/prepared.md``), in bounded memory, never over a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import InputError
from qkdpp.sources.prepared_file import FORMAT_NAME, VERSION
from qkdpp.sources.prepared_states import CHUNK, Codes, PreparedHeader, Slots, pack_codes

if TYPE_CHECKING:
    import h5py


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FullStates:
    """Codes of all pulses in order, in pieces of any length."""

    codes: Iterable[Codes]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetectedStates:
    """Strictly increasing pulse numbers with their codes, in pieces; ``totals`` is asked for after the last."""

    pieces: Iterable[tuple[Slots, Codes]]
    totals: Callable[[], NDArray[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatternStates:
    """A repeated pattern (test mode)."""

    codes: Codes


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedStates:
    """A 32-byte seed (test mode)."""

    seed: bytes


States: TypeAlias = FullStates | DetectedStates | PatternStates | SeedStates


def write_prepared(path: Path | str, header: PreparedHeader, states: States) -> None:
    """Writes a record; InputError if ``path`` exists or the states do not fit ``header``."""
    match states:
        case FullStates():
            with _create(Path(path), header, "full") as file:
                _write_full(file, header, states.codes)
        case DetectedStates():
            with DetectedWriter.create(Path(path), header) as writer:
                for slots, codes in states.pieces:
                    writer.append(slots, codes)
                writer.finish(states.totals())
        case PatternStates():
            with _create(Path(path), header, "pattern") as file:
                file.create_dataset("pattern", data=states.codes)
        case SeedStates():
            with _create(Path(path), header, "seed") as file:
                file.attrs["seed"] = np.frombuffer(states.seed, dtype=np.uint8)


@contextmanager
def _create(path: Path, header: PreparedHeader, mode: str) -> Iterator[h5py.File]:
    """A new file with its header; removed again if writing fails."""
    import h5py  # noqa: PLC0415 - heavy, only when a record is written

    try:
        file = h5py.File(path, "x")
    except FileExistsError:
        raise InputError(f"{path}: exists already and is never overwritten; choose another name") from None
    try:
        with file:
            _write_header(file, header, mode)
            yield file
    except BaseException:
        path.unlink()
        raise


def _write_header(file: h5py.File, header: PreparedHeader, mode: str) -> None:
    file.attrs["format"] = FORMAT_NAME
    file.attrs["version"] = np.int64(VERSION)
    file.attrs["mode"] = mode
    file.attrs["n_pulses"] = np.int64(header.n_pulses)
    file.attrs["pulse_period_as"] = np.int64(header.pulse_period_as)
    file.attrs["intensities"] = np.array(header.intensities, dtype=np.float64)
    file.attrs["p_intensity"] = np.array(header.p_intensity, dtype=np.float64)
    file.attrs["p_z"] = np.float64(header.p_z)
    if header.sync_string is not None:
        file.attrs["sync_seed"] = np.frombuffer(header.sync_string.seed, dtype=np.uint8)
        file.attrs["sync_length"] = np.int64(header.sync_string.length)
        file.attrs["sync_frame"] = np.int64(header.sync_string.frame)


def _column(file: h5py.File, name: str, dtype: type[np.generic], *, chunk: int = CHUNK) -> h5py.Dataset:
    """An empty, growing column, compressed at the level that is read and written fastest (a sixth larger)."""
    return file.create_dataset(
        name,
        shape=(0,),
        maxshape=(None,),
        dtype=dtype,
        chunks=(chunk,),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )


def _extend(column: h5py.Dataset, values: NDArray[np.generic]) -> None:
    start = column.shape[0]
    column.resize((start + values.size,))
    column[start:] = values


def _write_full(file: h5py.File, header: PreparedHeader, pieces: Iterable[Codes]) -> None:
    column = _column(file, "codes", np.uint8)
    n = 0
    rest = np.empty(0, dtype=np.uint8)
    for piece in pieces:
        n += piece.size
        codes = np.concatenate([rest, piece])
        even = codes.size & ~1
        _extend(column, pack_codes(codes[:even], header.bits_per_code))
        rest = codes[even:]
    _extend(column, pack_codes(rest, header.bits_per_code))
    if n != header.n_pulses:
        raise InputError(f"codes of {n} pulses given, {header.n_pulses} announced")


class DetectedWriter:
    """Writes a record of detected pulses piece by piece.

    Use :meth:`create` in a ``with`` statement; call :meth:`append` with strictly increasing pulse numbers and
    :meth:`finish` once. Holds at most one chunk.
    """

    def __init__(self, file: h5py.File, header: PreparedHeader) -> None:
        self.header = header
        self._file = file
        self._gaps = _column(file, "gaps", np.int64)
        self._codes = _column(file, "codes", np.uint8)
        self._slots: list[Slots] = []
        self._states: list[Codes] = []
        self._held = 0
        self._last = 0

    @staticmethod
    @contextmanager
    def create(path: Path, header: PreparedHeader) -> Iterator[DetectedWriter]:
        """A writer for a new file at ``path``; the file is removed again if an exception passes."""
        with _create(path, header, "detected") as file:
            yield DetectedWriter(file, header)

    def append(self, slots: Slots, codes: Codes) -> None:
        """Adds pulses (int64[n], above all earlier ones) and their codes (uint8[n])."""
        if slots.size != codes.size:
            raise InputError(f"{slots.size} pulses with {codes.size} codes")
        self._slots.append(slots)
        self._states.append(codes)
        self._held += slots.size
        if self._held >= CHUNK:
            self._flush(self._held - self._held % CHUNK)

    def _flush(self, n: int) -> None:
        slots, codes = np.concatenate(self._slots), np.concatenate(self._states)
        _extend(self._gaps, np.diff(slots[:n], prepend=np.int64(self._last)))
        _extend(self._codes, pack_codes(codes[:n], self.header.bits_per_code))
        self._last = int(slots[n - 1])
        self._slots, self._states, self._held = [slots[n:]], [codes[n:]], slots.size - n

    def finish(self, totals: NDArray[np.int64]) -> None:
        """Writes what is left and the totals (int64[intensities, 2, 2])."""
        if self._held:
            self._flush(self._held)
        self._file.create_dataset("totals", data=totals.astype(np.int64))
