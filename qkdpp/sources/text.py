"""Text recordings: our CSV (header line, tick in a comment) and any two columns of whole numbers.

Format page: ``docs/formats/text.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from qkdpp.core.errors import FormatError, InputError
from qkdpp.core.tags import AS_PER_S, TimeTags
from qkdpp.sources.batches import Batch, Metadata, Opened, Request, Stream, Tally
from qkdpp.sources.blocks import open_file
from qkdpp.sources.number_text import MAX_LINE_BYTES, number_rows
from qkdpp.sources.writing import new_file, same_stream

_COMMENT_LINES = 1000
_HEADER = re.compile(r"time\s*,\s*channel\s*(,\s*flags\s*)?")
_SETTING = re.compile(r"#\s*([\w.-]+)\s*=\s*(.*)")


def open_csv(request: Request) -> Opened:
    """Opens CSV with the header line ``time,channel[,flags]``; the flags column is read and ignored."""
    ticks, metadata = [], Metadata()
    for path in request.paths:
        with open_file(path) as file:
            comments, _columns, _ = _csv_head(file, path)
        metadata |= comments
        ticks.append(_csv_tick(request, path, comments))
    if len(set(ticks)) != 1:
        raise FormatError(f"{request.paths[0]}: the parts have different ticks")

    def stream(tally: Tally) -> Iterator[Batch]:
        for path in request.paths:
            with open_file(path) as file:
                _, columns, line = _csv_head(file, path)
                for rows in number_rows(file, path, columns, tally, line=line):
                    yield Batch(ticks=rows[:, 0], ids=rows[:, 1])

    return Opened(tick_as=ticks[0], metadata=metadata, streams=(stream,))


def _csv_head(file: BinaryIO, path: Path) -> tuple[Metadata, int, int]:
    """Settings in comments, number of columns, number of the first line of numbers; leaves ``file`` there."""
    comments: Metadata = {}
    for number in range(1, _COMMENT_LINES):
        line = file.readline(MAX_LINE_BYTES).decode("utf-8", "replace").strip()
        if line.startswith("#"):
            if setting := _SETTING.fullmatch(line):
                comments[setting[1]] = setting[2]
        elif line:
            if not _HEADER.fullmatch(line):
                raise FormatError(f"{path}: line {number}: expected the header line time,channel or time,channel,flags")
            return comments, 3 if "flags" in line else 2, number + 1
        else:
            break
    raise FormatError(f"{path}: no header line time,channel")


def _csv_tick(request: Request, path: Path, comments: Metadata) -> int:
    stated = comments.get("tick_as")
    if stated is None:
        return request.declared_tick()
    if not re.fullmatch(r"[0-9]{1,19}", str(stated)) or not 1 <= int(stated) <= AS_PER_S:
        raise FormatError(f"{path}: tick_as={stated!r} is not a number of attoseconds from 1 to {AS_PER_S}")
    return request.fixed_tick(int(stated))


def open_text2(request: Request) -> Opened:
    """Opens two columns of whole numbers, ``channel`` and ``time`` in the order that option ``columns`` says."""
    order = request.text("columns", "channel,time", ("channel,time", "time,channel"))
    time = 0 if order == "time,channel" else 1
    return Opened(tick_as=request.declared_tick(), streams=(column_stream(request, time),), headerless=True)


def column_stream(request: Request, time: int) -> Stream:
    """A pass over two-column text whose column ``time`` holds the ticks and the other the channel."""

    def stream(tally: Tally) -> Iterator[Batch]:
        for path in request.paths:
            with open_file(path) as file:
                line = skip_comments(file)
                for rows in number_rows(file, path, 2, tally, line=line):
                    yield Batch(ticks=rows[:, time], ids=rows[:, 1 - time])

    return stream


def skip_comments(file: BinaryIO) -> int:
    """Skips comment lines (``#``) at the top; returns the number of the next line."""
    number = 1
    while True:
        start = file.tell()
        line = file.readline(MAX_LINE_BYTES)
        if not line.startswith(b"#"):
            file.seek(start)
            return number
        number += 1


def write_csv(path: Path, chunks: Iterable[TimeTags], metadata: Metadata) -> int:
    """Writes sorted chunks with native ticks; returns the number of tags. Lost intervals are not stored."""
    n_tags = 0
    tick_as: int | None = None
    with new_file(path) as file:
        for tags in same_stream(path, chunks):
            if tick_as is None:
                tick_as = tags.tick_as
                file.write(_head_text(tick_as, metadata).encode())
            ids = np.array(tags.channel_ids, dtype=np.int64)[tags.channel] if len(tags) else tags.ticks
            lines = [f"{time},{channel}\n" for time, channel in zip(tags.ticks.tolist(), ids.tolist(), strict=True)]
            file.write("".join(lines).encode())
            n_tags += len(tags)
        if tick_as is None:
            raise InputError(f"{path}: no chunk to write, so the tick length is unknown")
    return n_tags


def _head_text(tick_as: int, metadata: Metadata) -> str:
    clean = {re.sub(r"[^\w.-]", "_", key): _one_line(str(value)) for key, value in metadata.items()}
    settings = "".join(f"# {key}={value}\n" for key, value in clean.items() if key != "tick_as" and len(value) < 1000)
    return f"# tick_as={tick_as}\n{settings}time,channel\n"


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text).strip()
