"""Transcript files: every frame of a run, in the order in which one party saw them (``docs/formats/wire.md``).

Public by nature: whatever is in it crossed the public channel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from qkdpp.core.errors import FormatError, InputError, RemoteProtocolError
from qkdpp.core.ledger import Side
from qkdpp.link.endpoint import Record
from qkdpp.link.frame import HEADER, LENGTH_BYTES, MAX_BODY_BYTES, decode

MAGIC: Final = b"QKDPTRN1"
_RECORD: Final = struct.Struct("<BB")
_LENGTH: Final = struct.Struct("<I")
_SIDES: Final[tuple[Side, Side]] = ("alice", "bob")


def write_transcript(path: Path, records: Iterable[Record]) -> None:
    """Writes ``records`` to a new file; InputError if it exists or cannot be written."""
    try:
        with path.open("xb") as file:
            file.write(MAGIC)
            for record in records:
                name = record.name.encode()
                file.write(_RECORD.pack(_SIDES.index(record.side), len(name)) + name + record.frame)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); transcripts are never overwritten") from error


def read_transcript(path: Path) -> Iterator[Record]:
    """The records of a transcript file, one by one; FormatError where it is not one."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    with file:
        if file.read(len(MAGIC)) != MAGIC:
            raise FormatError(f"{path}: not a transcript")
        while head := file.read(_RECORD.size):
            try:
                yield _read_record(file, head)
            except (struct.error, ValueError, IndexError, RemoteProtocolError) as error:
                raise FormatError(f"{path}: damaged or truncated record before byte {file.tell()}: {error}") from error


def _read_record(file: BinaryIO, head: bytes) -> Record:
    side, name_length = _RECORD.unpack(head)
    name = file.read(name_length).decode()
    prefix = file.read(LENGTH_BYTES)
    (length,) = _LENGTH.unpack(prefix)
    if length > HEADER.size - LENGTH_BYTES + MAX_BODY_BYTES:
        raise ValueError(f"a frame of {length} bytes")
    data = prefix + file.read(length)
    return Record(side=_SIDES[side], kind=decode(data).kind, name=name, frame=data)
