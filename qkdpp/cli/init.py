"""``qkdpp init``: a run file from recordings, or a live link to try."""

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
        list[Path] | None,
        typer.Argument(
            help="One recording of both parties, or Alice's and Bob's, or Alice's record of prepared states and Bob's "
            "recording."
        ),
    ] = None,
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
    live: Annotated[
        Path | None, typer.Option("--live", metavar="FOLDER", help="New folder for a live link with simulated devices.")
    ] = None,
    scenario: Annotated[
        str,
        typer.Option(help="With --live: a shipped scenario or a TOML file, BB84 with sync pulses or pairs (pair-lab)."),
    ] = "backbone-625mhz",
    port: Annotated[
        int, typer.Option(help="With --live: where Alice listens; the next three serve keys.", min=1, max=65532)
    ] = 47625,
    block_s: Annotated[float, typer.Option(help="With --live: length of a block in seconds.", min=0.1)] = 10.0,
) -> None:
    """Look at recordings and write a commented run.toml for them; or, with --live, all files of a live link.

    Reports formats, rates, regular channels, correlation peaks and a proposed channel map. Reads the first seconds only
    and never writes over a file.
    """
    if live is not None:
        _live(live, scenario, port=port, block_s=block_s)
        return
    from qkdpp.cli.console import Progress
    from qkdpp.cli.info import parse_options
    from qkdpp.core.errors import InputError
    from qkdpp.offline.survey import survey
    from qkdpp.offline.survey_draft import draft

    if not files:
        raise InputError("name recordings, or a new folder with --live")
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


def _live(folder: Path, scenario: str, *, port: int, block_s: float) -> None:
    from qkdpp.scenarios.scenario_file import load
    from qkdpp.sim.trial import write_trial

    trial = write_trial(folder, scenario, load(scenario), port=port, block_s=block_s)
    print(f"written to {folder}: {', '.join(file.name for file in trial.files)}, pools and certificates")
    print("type these in three terminals, in this order:\n")
    for line in trial.commands:
        print(f"  {line}")
    print("\nthe first key comes after calibration and one block; Ctrl-C ends each of them")
    print("an application gets a key of both nodes by\n")
    print(f"  {trial.ask}")


def _report(found: Survey, *, to_stderr: bool) -> None:
    import sys

    from qkdpp.offline.survey_text import describe

    for line in describe(found):
        print(line, file=sys.stderr if to_stderr else sys.stdout)


def _print_json(found: Survey) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
