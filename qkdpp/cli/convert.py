"""``qkdpp convert``: a recording in another format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qkdpp.cli.console import Progress
    from qkdpp.core.tags import TimeTags
    from qkdpp.sources.formats import Format
    from qkdpp.sources.recording import Recording

NO_OPTIONS: list[str] = []


def command(
    files: Annotated[
        list[Path], typer.Argument(help="IN [IN ...] OUT: the parts of one recording, then the new file.")
    ],
    *,
    to: Annotated[str | None, typer.Option("--to", help="Format to write; by default from OUT's ending.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="Format of IN, where it cannot be told from the content.")
    ] = None,
    tick_as: Annotated[int | None, typer.Option(help="Attoseconds per tick, where IN does not state it.")] = None,
    option: Annotated[list[str], typer.Option(help="Option of IN's format, as name=value.")] = NO_OPTIONS,
    from_s: Annotated[
        float | None, typer.Option("--from", "--from-s", help="Start, seconds after the first tag.")
    ] = None,
    to_s: Annotated[float | None, typer.Option("--to-s", help="End, seconds after the first tag.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="An incomplete file is an error.")] = False,
) -> None:
    """Write a recording in another format; never over an existing file."""
    import sys

    from qkdpp.cli.console import Progress
    from qkdpp.cli.info import parse_options, shown
    from qkdpp.core.errors import InputError
    from qkdpp.sources import open_recording, write_recording
    from qkdpp.sources.formats import format_named, format_of_extension

    if len(files) < 2:
        raise InputError("convert needs at least two files: IN and OUT")
    *inputs, output = files
    row = format_of_extension(output.suffix) if to is None else format_named(to)
    recording = open_recording(inputs, format=format_, tick_as=tick_as, options=parse_options(option), strict=strict)
    with Progress() as progress:
        chunks = _watched(recording, from_s, to_s, progress)
        metadata = recording.metadata | {"converted_from": recording.format}
        written = write_recording(output, chunks, format=row.name, metadata=metadata)
    for note in (*recording.stats.warnings, *_notes(recording, row)):
        print(f"qkdpp: {shown(note)}", file=sys.stderr)
    print(f"{output}: {written:,} tags, {row.name}")


def _watched(recording: Recording, from_s: float | None, to_s: float | None, progress: Progress) -> Iterator[TimeTags]:
    tags = 0
    for chunk in recording.chunks(from_s=from_s, to_s=to_s):
        tags += len(chunk)
        progress.tags("tags written", tags)
        yield chunk


def _notes(recording: Recording, row: Format) -> Iterator[str]:
    """What the new file does not hold."""
    if row.written_tick_as not in (None, recording.tick_as):
        yield f"times were rounded from {recording.tick_as} as to {row.name}'s tick of {row.written_tick_as} as"
    if row.tick == "declared":
        yield f"{row.name} does not store the tick length: read it with --tick-as {recording.tick_as}"
    if recording.stats.lost_intervals and not row.keeps_lost:
        yield f"{row.name} does not store the {recording.stats.lost_intervals} intervals in which events were lost"
