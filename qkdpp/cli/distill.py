"""``qkdpp distill``: from recordings to key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Folder with run.toml, or the run file itself.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="New folder for the result; default NAME-DATE-TIME here.")
    ] = None,
    from_s: Annotated[float | None, typer.Option("--from", help="Start, seconds after the first tag.")] = None,
    to_s: Annotated[float | None, typer.Option("--to", help="End, seconds after the first tag.")] = None,
    scan: Annotated[
        str | None,
        typer.Option(
            help="NAME=start:stop:step: sifted bits, QBER and key against gate_ps or offset_ps; writes no keys."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="An incomplete recording is an error.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON and nothing else.")] = False,
) -> None:
    """Distil a secret key from recorded detections.

    Writes alice.key and bob.key (packed bits, mode 0600), report.json, report.html and transcript into a new folder.
    Without a key (exit code 3) the report says why.
    """
    from qkdpp.cli.console import Progress
    from qkdpp.core.errors import InputError
    from qkdpp.offline import inputs, runfile
    from qkdpp.offline.job import execute, scan_values, sweep

    if scan is not None and output is not None:
        raise InputError("--scan writes no result: leave out -o")
    loaded = runfile.load(run)
    with Progress(quiet=json_) as progress:
        data = inputs.load_inputs(loaded, from_s=from_s, to_s=to_s, progress=progress.tags, strict=strict)
        if scan is not None:
            rows = sweep(loaded, data, *scan_values(scan), progress=progress.step)
        else:
            result = execute(loaded, data, output, span=(from_s, to_s), progress=progress.step)
    if scan is not None:
        _print_rows(rows, json_)
        return
    _print_report(result.report, result.folder, json_)
    if result.report["abort"] is not None:
        raise typer.Exit(3)


def _print_report(report: dict[str, object], folder: Path, json_: bool) -> None:
    import msgspec

    from qkdpp.report.text import summary

    if json_:
        print(msgspec.json.encode(report).decode())
        return
    print(summary(report))
    print(f"\nwritten to {folder}")


def _print_rows(rows: list[dict[str, object]], json_: bool) -> None:
    import msgspec

    from qkdpp.offline.job import table

    print(msgspec.json.encode(rows).decode() if json_ else table(rows))
