"""The tag list at the head of a PicoQuant PTU file.

Every tag is 48 bytes: name (32), index, type, value (8); types with a payload
give its length as their value. Unknown names are kept, unknown types refused
because the length of their payload cannot be known.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from qkdpp.core.errors import FormatError
from qkdpp.sources.batches import Metadata
from qkdpp.sources.blocks import HeaderReader, text_of

MAGIC = b"PQTTTR\0\0"
MAX_TAGS = 100_000

EMPTY, BOOL, INT, BITSET, COLOR = 0xFFFF0008, 0x00000008, 0x10000008, 0x11000008, 0x12000008
FLOAT, DATETIME, FLOATS, INTS = 0x20000008, 0x21000008, 0x2001FFFF, 0x1001FFFF
ANSI, WIDE, BLOB = 0x4001FFFF, 0x4002FFFF, 0xFFFFFFFF

_PLAIN: dict[int, Callable[[bytes], str | int | float]] = {
    EMPTY: lambda value: "",
    BOOL: lambda value: int(any(value)),
    INT: lambda value: int(struct.unpack("<q", value)[0]),
    BITSET: lambda value: int(struct.unpack("<Q", value)[0]),
    COLOR: lambda value: int(struct.unpack("<Q", value)[0]),
    FLOAT: lambda value: float(struct.unpack("<d", value)[0]),
    DATETIME: lambda value: float(struct.unpack("<d", value)[0]),
}
_PAYLOAD: dict[int, Callable[[bytes], str]] = {
    FLOATS: lambda data: f"{len(data) // 8} numbers",
    INTS: lambda data: f"{len(data) // 8} whole numbers",
    ANSI: text_of,
    WIDE: lambda data: data.decode("utf-16-le", "replace").split("\0", 1)[0],
    BLOB: lambda data: f"{len(data)} bytes",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PtuHeader:
    """The tags by name (elements of arrays as ``name[index]``) and the offset of the first record."""

    values: Metadata
    data_offset: int

    def whole(self, path: Path, name: str, default: int | None = None) -> int:
        """An integer tag; FormatError if it is missing (and has no default) or is not an integer."""
        value = self.values.get(name, default)
        if not isinstance(value, int):
            raise FormatError(f"{path}: header tag {name} is missing or not a whole number")
        return value

    def number(self, path: Path, name: str) -> float:
        """A numeric tag; FormatError if it is missing or not a number."""
        value = self.values.get(name)
        if not isinstance(value, int | float):
            raise FormatError(f"{path}: header tag {name} is missing or not a number")
        return float(value)


def read_ptu_header(file: BinaryIO, path: Path) -> PtuHeader:
    """Reads from the start of the file to the tag ``Header_End``."""
    reader = HeaderReader(file, path)
    if reader.raw(8, "the file mark") != MAGIC:
        raise FormatError(f"{path}: not a PTU file (its first bytes are not PQTTTR)")
    values: Metadata = {"version": text_of(reader.raw(8, "the version"))}
    for _ in range(MAX_TAGS):
        ident_raw, index, kind, value = reader.unpack("32siI8s", "the tag list")
        ident = text_of(ident_raw)
        if ident == "Header_End":
            return PtuHeader(values=values, data_offset=reader.position)
        name = ident if index < 0 else f"{ident}[{index}]"
        if kind in _PLAIN:
            values[name] = _PLAIN[kind](value)
        elif kind in _PAYLOAD:
            values[name] = _PAYLOAD[kind](reader.raw(int(struct.unpack("<q", value)[0]), f"tag {name}"))
        else:
            raise FormatError(f"{path}: header tag {name} has the unknown type {kind:#010x}")
    raise FormatError(f"{path}: no Header_End among the first {MAX_TAGS} header tags")
