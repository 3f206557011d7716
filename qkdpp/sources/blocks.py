"""Files as blocks of fixed-size records, read with bounded memory.

No size is taken from a header: what is read is what the file holds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError, InputError
from qkdpp.sources.batches import BATCH_RECORDS, Tally


def open_file(path: Path) -> BufferedReader:
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
    for block in borrowed_blocks(path, dtype, tally, offset=offset, n_records=n_records):
        yield block.copy()


def borrowed_blocks(
    path: Path, dtype: np.dtype[Any], tally: Tally, *, offset: int = 0, n_records: int = BATCH_RECORDS
) -> Iterator[NDArray[Any]]:
    """The same in one buffer for all, which stays in the cache: a block is gone when the next one is asked for."""
    size = dtype.itemsize
    tally.part = path
    buffer = bytearray(min(size * n_records, max(0, file_size(path) - offset)))
    with open_file(path) as file:
        file.seek(offset)
        while buffer and (n_bytes := file.readinto(buffer)):
            whole, rest = divmod(n_bytes, size)
            if whole:
                tally.records += whole
                yield np.frombuffer(buffer, dtype=dtype, count=whole)
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
