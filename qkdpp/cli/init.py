"""``qkdpp init``: a run file from recordings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qkdpp.offline.survey_data import Survey

NO_OPTIONS: list[str] = []
STDOUT = Path("-")


def command(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="One recording of both parties, or Alice's and Bob's, or Alice's record of prepared states and Bob's "
            "recording."
        ),
    ],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Run file to write, - for the terminal.")] = Path(
        "run.toml"
    ),
    format_: Annotated[
        str | None, typer.Option("--format", help="Format, where it cannot be told from the content.")
    ] = None,
    tick_as: Annotated[int | None, typer.Option(help="Attoseconds per tick, where the file does not state it.")] = None,
    option: Annotated[list[str], typer.Option(help="Option of the format, as name=value.")] = NO_OPTIONS,
    protocol: Annotated[str | None, typer.Option(help="bb84 or bbm92, where the files do not tell.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the survey as JSON and nothing else.")] = False,
) -> None:
    """Look at recordings and write a commented run.toml for them.

    Reports formats, rates, regular channels, correlation peaks and a proposed channel map. Reads the first seconds only
    and never writes over a file.
    """
    from qkdpp.cli.console import Progress
    from qkdpp.cli.info import parse_options
    from qkdpp.core.errors import InputError
    from qkdpp.offline.survey import survey
    from qkdpp.offline.survey_draft import draft

    if output != STDOUT and output.exists():
        raise InputError(f"{output}: already there; name another with -o, or move it away")
    if output == STDOUT and json_:
        raise InputError("--json and -o - both want the standard output: choose one")
    options = parse_options(option)
    with Progress(quiet=json_) as progress:
        found = survey(files, format=format_, tick_as=tick_as, options=options, progress=progress.step)
    text = draft(found, output.parent, protocol=protocol, tick_as=tick_as, options=options)
    if output == STDOUT:
        _report(found, to_stderr=True)
        print(text, end="")
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror or error}") from error
    if json_:
        _print_json(found)
        return
    _report(found, to_stderr=False)
    todo = [what for mark, what in (("FILL IN:", "fill in"), ("CHECK:", "check")) if mark in text]
    steps = f"{' and '.join(todo)} the marked lines, then " if todo else ""
    print(f"\nwritten to {output}: {steps}run `qkdpp distill {output}`")


def _report(found: Survey, *, to_stderr: bool) -> None:
    import sys

    from qkdpp.offline.survey_text import describe

    for line in describe(found):
        print(line, file=sys.stderr if to_stderr else sys.stdout)


def _print_json(found: Survey) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
