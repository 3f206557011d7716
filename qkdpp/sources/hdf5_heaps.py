"""A check of HDF5 global heaps before the library reads them.

Texts of variable length lie in global heap collections; a damaged collection
can keep the HDF5 library (2.0.0 among others) in an endless loop. A collection
is "GCOL", version 1, three zero bytes, its size (u64), then objects of 16 bytes
(u16 index, u16 references, 4 reserved, u64 size) plus data padded to 8; index 0
is the free space, whose size counts its own header.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from qkdpp.core.errors import FormatError
from qkdpp.sources.blocks import open_file

_MARK = b"GCOL\x01\0\0\0"
_HEADER = 16


def check_heaps(path: Path) -> None:
    """Refuses (FormatError) a file with a damaged global heap."""
    with open_file(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(_MARK)
        while at >= 0:
            if not _is_sound(data, at):
                raise FormatError(f"{path}: HDF5: the global heap at byte {at} is damaged")
            at = data.find(_MARK, at + len(_MARK))


def _is_sound(data: mmap.mmap, at: int) -> bool:
    """Whether the objects fill the collection exactly, free space last."""
    if at + _HEADER > len(data):
        return False
    end = at + int(struct.unpack_from("<Q", data, at + 8)[0])
    if end > len(data):
        return False
    position = at + _HEADER
    while end - position >= _HEADER:
        index, _, _, size = struct.unpack_from("<HHIQ", data, position)
        if index == 0:
            return position + int(size) == end
        position += _HEADER + (int(size) + 7 & ~7)
    return position <= end
