"""Checked access to the HDF5 fields of a prepared-states record.

Whatever is wrong in a file ends as a FormatError that names the file and the field; nothing is allocated from a
size that the file merely claims.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, cast, get_args

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError
from qkdpp.core.sync_string import SyncString
from qkdpp.kernels.tags import count_labels
from qkdpp.sources.prepared_states import Codes, PreparedHeader, Slots

if TYPE_CHECKING:
    import h5py

FORMAT_NAME = "qkdpp-prepared"
VERSION = 1
Mode = Literal["full", "detected", "pattern", "seed"]
MAX_PULSES = 1 << 50
MAX_INTENSITIES = 32
MAX_PATTERN = 1 << 20
MAX_STORED_CHUNK = 1 << 24
"""Longest HDF5 chunk that is read, in elements: a chunk is decompressed whole."""
MAX_EXPANSION = 4096
"""Largest ratio of data to stored bytes; gzip reaches about 1000. More is a claim without data behind it."""


@contextmanager
def open_record(path: Path) -> Iterator[h5py.File]:
    """The file, open for reading; errors of the HDF5 library become FormatErrors."""
    import h5py  # noqa: PLC0415 - heavy, only when a record is read

    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise FormatError(f"{path}: not a readable HDF5 record of prepared states: {error}") from error


class Fields:
    """The attributes and datasets of one open file, checked as they are read."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self.file = file

    def fail(self, field: str, why: str) -> NoReturn:
        """Raises FormatError for ``field``."""
        raise FormatError(f"{self.path}: {field}: {why}")

    def has(self, name: str) -> bool:
        """Whether the attribute exists."""
        return name in self.file.attrs

    def _attribute(self, name: str, max_values: int) -> NDArray[np.generic]:
        if name not in self.file.attrs:
            self.fail(name, "attribute missing")
        shape = self.file.attrs.get_id(name).shape
        if shape is None or math.prod(shape) > max_values:
            self.fail(name, "wrong number of values")
        return np.asarray(self.file.attrs[name])

    def text(self, name: str) -> str:
        """A string attribute."""
        value = self._attribute(name, 1)
        if value.shape != () or value.dtype.kind not in "OUS":
            self.fail(name, "must be a string")
        item = value.item()
        return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)

    def integer(self, name: str, low: int, high: int) -> int:
        """An integer attribute between ``low`` and ``high``."""
        value = self._attribute(name, 1)
        if value.shape != () or value.dtype.kind not in "iu":
            self.fail(name, "must be one integer")
        result = int(value.item())
        if not low <= result <= high:
            self.fail(name, f"{result} lies outside {low} to {high}")
        return result

    def floats(self, name: str, low: float, high: float) -> tuple[float, ...]:
        """A float64 attribute (scalar or list), each value between ``low`` and ``high``."""
        value = self._attribute(name, MAX_INTENSITIES)
        if value.dtype != np.float64 or value.ndim > 1 or value.size == 0:
            self.fail(name, f"must be 1 to {MAX_INTENSITIES} float64 values")
        result = tuple(float(v) for v in np.atleast_1d(value))
        if not all(low <= v <= high for v in result):
            self.fail(name, f"values must lie between {low:g} and {high:g}")
        return result

    def bytes32(self, name: str) -> bytes:
        """A seed: uint8[32]."""
        value = self._attribute(name, 32)
        if value.dtype != np.uint8 or value.shape != (32,):
            self.fail(name, "must be 32 bytes (uint8)")
        return value.tobytes()

    def dataset(self, name: str, dtype: type[np.generic], shape: tuple[int, ...] | None) -> h5py.Dataset:
        """A dataset of this file with the given type and shape (any length where ``shape`` is None)."""
        import h5py  # noqa: PLC0415

        if not isinstance(self.file.get(name, getlink=True), h5py.HardLink):
            self.fail(name, "dataset missing")
        data = self.file[name]
        if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
            self.fail(name, "must be a dataset stored in this file")
        if data.dtype != np.dtype(dtype).newbyteorder("<"):
            self.fail(name, f"must hold little-endian {np.dtype(dtype).name}, holds {data.dtype}")
        if data.ndim != (1 if shape is None else len(shape)) or (shape is not None and data.shape != shape):
            self.fail(name, f"has shape {data.shape}, expected {shape or 'one dimension'}")
        if data.chunks is not None and math.prod(data.chunks) > MAX_STORED_CHUNK:
            self.fail(name, f"stored in chunks of {data.chunks}, at most {MAX_STORED_CHUNK} elements are allowed")
        if data.nbytes > MAX_EXPANSION * data.id.get_storage_size():
            self.fail(name, f"claims {data.nbytes} bytes, the file stores {data.id.get_storage_size()}")
        return data

    def counted(self, name: str, header: PreparedHeader, slots: Slots, codes: Codes) -> NDArray[np.int64]:
        """Pulses by code (int64[4 K]) without those of the public string; checks the range, and the string's states.

        ``slots`` increase.
        """
        if codes.size and int(codes.max()) >= header.n_codes:
            self.fail(name, f"a code of {int(codes.max())} with {len(header.intensities)} intensities")
        counts = count_labels(codes)[: header.n_codes]
        if header.sync_string is None:
            return counts
        public = header.sync_string.members(slots)
        if not np.array_equal(header.sync_string.states(slots[public]), codes[public]):
            self.fail(name, "pulses of the public string do not have its states")
        return np.asarray(counts - count_labels(codes[public])[: header.n_codes])

    def slots_from_gaps(self, gaps: Slots, last: int, n_pulses: int, at_start: bool) -> Slots:
        """Pulse numbers from stored gaps after pulse ``last``; the very first gap counts from pulse 0."""
        low = np.ones(gaps.size, dtype=np.int64)
        low[0] -= at_start
        if (gaps < low).any() or (gaps > n_pulses).any():
            self.fail("gaps", "pulse numbers must increase strictly and stay below n_pulses")
        if float(gaps.sum(dtype=np.float64)) > 2.0 * n_pulses + 1.0:  # before a sum that could overflow
            self.fail("gaps", "pulse numbers exceed n_pulses")
        slots = np.cumsum(gaps) + (0 if at_start else last)
        if int(slots[-1]) >= n_pulses:
            self.fail("gaps", f"pulse number {int(slots[-1])} of {n_pulses}")
        return np.asarray(slots, dtype=np.int64)

    def totals(self, header: PreparedHeader, counted: NDArray[np.int64]) -> NDArray[np.int64]:
        """The totals (flattened), consistent with the pulses held and with the number of pulses."""
        totals = np.asarray(self.dataset("totals", np.int64, (len(header.intensities), 2, 2))[...]).reshape(-1)
        if (totals < counted).any() or (totals > header.n_pulses).any():
            self.fail("totals", "fewer pulses than the record holds, or more than were sent")
        expected = header.n_pulses - header.string_pulses(header.n_pulses)
        if int(totals.sum()) != expected:
            self.fail("totals", f"add up to {int(totals.sum())}, expected {expected} (n_pulses less the string)")
        return totals

    def pattern(self, header: PreparedHeader) -> Codes:
        """The repeated pattern, one code a byte."""
        data = self.dataset("pattern", np.uint8, None)
        if not 1 <= data.shape[0] <= MAX_PATTERN:
            self.fail("pattern", f"must hold 1 to {MAX_PATTERN} codes")
        pattern = np.asarray(data[...])
        if int(pattern.max()) >= header.n_codes:
            self.fail("pattern", f"a code of {int(pattern.max())} with {len(header.intensities)} intensities")
        return pattern


def read_header(fields: Fields) -> tuple[PreparedHeader, Mode]:
    """Format, version, header values and mode."""
    if not fields.has("format") or fields.text("format") != FORMAT_NAME:
        fields.fail("format", f'must be "{FORMAT_NAME}": this is no record of prepared states')
    version = fields.integer("version", 0, 1 << 31)
    if version != VERSION:
        fields.fail("version", f"{version}, this program reads version {VERSION}")
    intensities = fields.floats("intensities", 0.0, 1e6)
    p_intensity = fields.floats("p_intensity", 0.0, 1.0)
    if len(p_intensity) != len(intensities) or not math.isclose(math.fsum(p_intensity), 1.0, abs_tol=1e-9):
        fields.fail("p_intensity", "one probability per intensity, adding up to 1")
    p_z = fields.floats("p_z", 0.0, 1.0)
    if len(p_z) != 1:
        fields.fail("p_z", "must be one number")
    header = PreparedHeader(
        n_pulses=fields.integer("n_pulses", 0, MAX_PULSES),
        pulse_period_as=fields.integer("pulse_period_as", 1, 1 << 62),
        intensities=intensities,
        p_intensity=p_intensity,
        p_z=p_z[0],
        sync_string=_sync_string(fields),
    )
    return header, _mode(fields)


def _mode(fields: Fields) -> Mode:
    value = fields.text("mode")
    for mode in get_args(Mode):
        if value == mode:
            return cast(Mode, mode)
    fields.fail("mode", f"{value!r} is none of {', '.join(get_args(Mode))}")


def _sync_string(fields: Fields) -> SyncString | None:
    if not fields.has("sync_seed"):
        return None
    frame = fields.integer("sync_frame", 1, MAX_PULSES)
    length = fields.integer("sync_length", 1, frame)
    return SyncString(seed=fields.bytes32("sync_seed"), length=length, frame=frame)
