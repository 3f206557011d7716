"""Tables of whole numbers in text files, parsed in blocks and in integers only.

A row is ``n`` numbers separated by blanks, commas or semicolons; empty rows
are allowed. Anything else (a decimal point, a letter, a missing column, a
number beyond 63 bits) is a FormatError with the line number. A last line
without a line end that holds too few numbers counts as cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError
from qkdpp.sources.batches import Tally

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 4096
_DIGITS_63 = 19
_OTHER, _DIGIT, _GAP, _LINE, _MINUS = range(5)


class _Block(NamedTuple):
    """Whole lines: the bytes (ending in a line end), their file, the number of the first line."""

    data: bytes
    path: Path
    line: int

    def refuse(self, at: int, what: str) -> NoReturn:
        """Raises FormatError for the line around byte ``at``."""
        begin = self.data.rfind(b"\n", 0, at) + 1
        end = self.data.find(b"\n", at)
        shown = self.data[begin:end][:60].decode("ascii", "replace").strip()
        line = self.line + self.data.count(b"\n", 0, at)
        raise FormatError(f"{self.path}: line {line}: {what}: {shown!r}")


def _kinds(digits: bytes, minus: bytes) -> NDArray[np.uint8]:
    kinds = np.full(256, _OTHER, dtype=np.uint8)
    kinds[list(digits)] = _DIGIT
    kinds[list(b" \t,;\r")] = _GAP
    kinds[list(b"\n")] = _LINE
    kinds[list(minus)] = _MINUS
    return kinds


_DECIMAL = _kinds(b"0123456789", b"-")
_HEX = _kinds(b"0123456789abcdefABCDEF", b"")
_HEX_VALUE = np.array([int(chr(c), 16) if _HEX[c] == _DIGIT else 0 for c in range(256)], dtype=np.uint64)


def number_rows(
    file: BinaryIO, path: Path, columns: int, tally: Tally, *, line: int = 1
) -> Iterator[NDArray[np.int64]]:
    """Rows as int64[n, columns] from the current position of ``file``; ``line`` is the number of its first line."""
    tally.part = path
    for data, number in _lines(file, path, line):
        whole = data
        if not data.endswith(b"\n"):
            kinds = _DECIMAL[np.frombuffer(data, dtype=np.uint8)]
            words = data.translate(bytes.maketrans(b",;", b"  ")).split()
            if len(words) < columns and words and not np.any(kinds == _OTHER):
                tally.incomplete(f"{path}: the last line is cut ({len(data)} bytes)", len(data))
                return
            whole = data + b"\n"
        rows = _table(_Block(whole, path, number), columns)
        tally.records += rows.shape[0]
        if rows.size:
            yield rows


def hex_words(file: BinaryIO, path: Path, width: int, tally: Tally) -> Iterator[NDArray[np.uint64]]:
    """One hexadecimal number of exactly ``width`` digits per line, as uint64[n]."""
    tally.part = path
    for data, number in _lines(file, path, 1):
        whole = data.replace(b"\r", b"")
        if not data.endswith(b"\n"):
            if len(whole) < width and not whole.strip(b"0123456789abcdefABCDEF"):
                tally.incomplete(f"{path}: the last line is cut ({len(data)} bytes)", len(data))
                return
            whole += b"\n"
        raw = np.frombuffer(whole, dtype=np.uint8)
        table = raw[: raw.size - raw.size % (width + 1)].reshape(-1, width + 1)
        bad = np.flatnonzero((_HEX[table] != [_DIGIT] * width + [_LINE]).any(axis=1))
        if bad.size or raw.size % (width + 1):
            row = int(bad[0]) if bad.size else table.shape[0]
            raise FormatError(f"{path}: line {number + row}: not exactly {width} hexadecimal digits")
        words = np.zeros(table.shape[0], dtype=np.uint64)
        for i in range(width):
            words = (words << np.uint64(4)) | _HEX_VALUE[table[:, i]]
        yield words


def _lines(file: BinaryIO, path: Path, line: int) -> Iterator[tuple[bytes, int]]:
    """Blocks of whole lines with the number of their first line; a last line without line end comes alone."""
    carried = b""
    while data := file.read(BLOCK_BYTES):
        block = carried + data
        end = block.rfind(b"\n") + 1
        carried = block[end:]
        if len(carried) > MAX_LINE_BYTES:
            raise FormatError(f"{path}: a line longer than {MAX_LINE_BYTES} bytes; not a table of numbers")
        if end:
            yield block[:end], line
            line += block.count(b"\n", 0, end)
    if carried.strip():
        yield carried, line


def _table(block: _Block, columns: int) -> NDArray[np.int64]:
    """The numbers of whole lines, int64[n, columns]."""
    data = np.frombuffer(block.data, dtype=np.uint8)
    kind = _DECIMAL[data]
    if np.any(kind == _OTHER):
        block.refuse(int(np.argmax(kind == _OTHER)), "not a whole number")
    edges = np.diff((kind == _DIGIT).astype(np.int8), prepend=np.int8(0))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    line_ends = np.flatnonzero(kind == _LINE)
    per_line = np.diff(np.searchsorted(starts, line_ends), prepend=0)
    bad = np.flatnonzero((per_line != columns) & (per_line != 0))
    if bad.size:
        block.refuse(int(line_ends[bad[0]]), f"{int(per_line[bad[0]])} numbers instead of {columns}")
    values = _values(data, starts, ends, block)
    values[_negative(kind, starts, block)] *= -1
    return values.reshape(-1, columns)


def _negative(kind: NDArray[np.uint8], starts: NDArray[np.intp], block: _Block) -> NDArray[np.intp]:
    """Which numbers carry a minus; a minus that is not right before a number is refused."""
    minus = np.flatnonzero(kind == _MINUS)
    before = np.concatenate([[_LINE], kind])[minus]
    wrong = (kind[minus + 1] != _DIGIT) | (before == _DIGIT) | (before == _MINUS)
    if wrong.any():
        block.refuse(int(minus[np.argmax(wrong)]), "a minus that belongs to no number")
    signed: NDArray[np.intp] = np.searchsorted(starts, minus + 1)
    return signed


def _values(
    data: NDArray[np.uint8], starts: NDArray[np.intp], ends: NDArray[np.intp], block: _Block
) -> NDArray[np.int64]:
    """Decimal value of every run of digits."""
    lengths = ends - starts
    values = np.zeros(starts.size, dtype=np.uint64)
    for place in range(min(int(lengths.max(initial=0)), _DIGITS_63)):
        here = np.flatnonzero(lengths > place)
        values[here] += (data[ends[here] - 1 - place] - np.uint8(48)).astype(np.uint64) * np.uint64(10**place)
    beyond = (lengths > _DIGITS_63) | (values > np.uint64((1 << 63) - 1))
    if beyond.any():
        block.refuse(int(starts[np.argmax(beyond)]), "a number beyond 63 bits")
    return values.astype(np.int64)
