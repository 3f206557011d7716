"""Files as blocks of fixed-size records, read with bounded memory.

No size is taken from a header: what is read is what the file holds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError, InputError
from qkdpp.sources.batches import BATCH_RECORDS, Tally


def open_file(path: Path) -> BinaryIO:
    """The file for reading; InputError if it is not a readable ordinary file."""
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: not an ordinary file")
        return path.open("rb")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def file_size(path: Path) -> int:
    """Size in bytes; InputError if there is no such file."""
    with open_file(path) as file:
        return file.seek(0, 2)


def record_blocks(
    path: Path, dtype: np.dtype[Any], tally: Tally, *, offset: int = 0, n_records: int = BATCH_RECORDS
) -> Iterator[NDArray[Any]]:
    """Whole records from ``offset`` to the end, at most ``n_records`` at once; a cut last record is booked."""
    size = dtype.itemsize
    tally.part = path
    with open_file(path) as file:
        file.seek(offset)
        while data := file.read(size * n_records):
            whole = len(data) // size
            if whole:
                tally.records += whole
                yield np.frombuffer(data, dtype=dtype, count=whole)
            rest = len(data) - whole * size
            if rest:
                tally.incomplete(f"{path}: the last record is cut ({rest} of {size} bytes)", rest)
                return


def whole_records(path: Path, size: int, *, offset: int = 0) -> None:
    """Refuses a declared headerless file whose length is not a whole number of records."""
    length = file_size(path) - offset
    if length < 0:
        raise FormatError(f"{path}: {length + offset} bytes, the header alone has {offset}")
    if length % size:
        raise FormatError(
            f"{path}: {length} bytes are not a whole number of {size}-byte records; is the declared format right?"
        )


class HeaderReader:
    """Reads a header field by field with bounds checks; every failure is a FormatError that names the field."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._file.tell()

    def raw(self, n: int, what: str) -> bytes:
        """``n`` bytes (at most 16 MiB)."""
        if not 0 <= n <= 1 << 24:
            raise FormatError(f"{self._path}: {what} claims {n} bytes")
        data = self._file.read(n)
        if len(data) != n:
            raise FormatError(f"{self._path}: the file ends inside {what}")
        return data

    def unpack(self, layout: str, what: str) -> tuple[Any, ...]:
        """Fields of a ``struct`` layout (little-endian)."""
        return struct.unpack("<" + layout, self.raw(struct.calcsize("<" + layout), what))


def text_of(data: bytes) -> str:
    """A zero-padded text field."""
    return data.split(b"\0", 1)[0].decode("latin-1").strip()
