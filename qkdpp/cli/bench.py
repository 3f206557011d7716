"""``qkdpp bench``: how fast the kernels and the whole way are here, beside their peers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NO_AREAS: list[str] = []


def command(
    areas: Annotated[
        list[str], typer.Argument(metavar="AREA", help="hash, correction, tags, codec, estimation, whole; all of them.")
    ] = NO_AREAS,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller sizes and fewer rounds: half a minute.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="New figure of error correction over error rates: .svg, .png or .pdf.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")] = False,
) -> None:
    """Measure the kernels and the whole way: rates, goals, and the ratio to peers that are installed.

    Ours and a peer run in turns, so their ratio means something on a busy machine; absolute rates do not.
    """
    from qkdpp import bench
    from qkdpp.cli.console import Progress

    effort = bench.Effort.QUICK if quick else bench.Effort.FULL
    workloads = bench.workloads(areas, effort)
    if plot is not None:
        _check_plot(plot, {workload.area for workload in workloads})
    with Progress(quiet=json_) as progress:
        report = bench.run(workloads, effort, progress.step)
    if json_:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        from qkdpp.bench.table import page

        print(page(report))
    if plot is not None:
        from qkdpp.bench.figure import write

        write(report, plot)
        if not json_:
            print(f"\nwritten to {plot}")


def _check_plot(plot: Path, areas: set[str]) -> None:
    """Refuses before the work what could not be drawn after it."""
    from qkdpp.bench import correction, figure
    from qkdpp.core.errors import InputError

    if correction.AREA not in areas:
        raise InputError(f"--plot draws the area {correction.AREA}: name it too, or no area")
    if plot.suffix not in figure.SUFFIXES:
        raise InputError(f"--plot {plot}: the name must end in .svg, .png or .pdf")
    if plot.exists():
        raise InputError(f"{plot}: already there; name another with --plot, or move it away")
    if not plot.parent.is_dir():
        raise InputError(f"{plot}: there is no folder {plot.parent}; make it, or name another with --plot")
