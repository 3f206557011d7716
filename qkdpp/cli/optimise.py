"""``qkdpp optimise``: the best parameters of a link."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qkdpp.rate.optimise import Task
    from qkdpp.rate.optimise_report import Found


def command(
    scenario: Annotated[str, typer.Argument(help="A shipped scenario (qkdpp simulate --list) or a TOML file.")],
    *,
    loss: Annotated[
        str | None, typer.Option(help="Loss of the channel in dB, or FROM:TO:STEP; the scenario's own without it.")
    ] = None,
    block_s: Annotated[float | None, typer.Option("--block-s", help="Duration of a block in seconds.")] = None,
    fix: Annotated[
        str, typer.Option(help="Parameters to hold, with commas between: mu, p_intensity, p_z, p_z_bob, ...")
    ] = "",
    infinite: Annotated[bool, typer.Option("--infinite", help="For unlimited data instead of blocks.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="New scenario file with the optimum.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Figure to write: .svg, .png or .pdf.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")] = False,
) -> None:
    """Find the intensities, probabilities, basis bias and block for a link.

    Entangled pairs: pair rate, basis bias and gate. Also says what each parameter costs when it is 10 % off, and how
    long a block must be. A range of losses gives an optimum for each and one set of parameters for all.
    """
    from qkdpp.cli.console import Progress
    from qkdpp.rate import optimise, parameters, ranges
    from qkdpp.rate.expected import with_loss
    from qkdpp.rate.optimise_report import at_one_loss, over_range
    from qkdpp.scenarios.scenario_file import load

    _check_files(output, plot)
    plan = load(scenario)
    words = [word.strip() for word in fix.split(",") if word.strip()]
    losses = () if loss is None else ranges.linear(loss, "--loss", low=0.0, high=200.0)
    asked = optimise.task(
        with_loss(plan, losses[0]) if len(losses) == 1 else plan,
        block_s=block_s,
        fixed=parameters.fixed_names(plan, words),
        unlimited=infinite,
    )
    with Progress(quiet=json_) as progress:
        progress.step("searching")
        found = over_range(asked, losses) if len(losses) > 1 else at_one_loss(asked)
    _print(asked, found, json_)
    if output is not None:
        _write_scenario(scenario, found, output)
    if plot is not None:
        from qkdpp.rate.optimise_figure import write

        write(found, plot)
    for path in (output, plot):
        if path is not None and not json_:
            print(f"written: {path}")


def _check_files(output: Path | None, plot: Path | None) -> None:
    from qkdpp.core.errors import InputError

    if output is not None and output.exists():
        raise InputError(f"{output}: already there; name another with -o, or move it away")
    if plot is not None and plot.suffix not in {".svg", ".png", ".pdf"}:
        raise InputError(f"--plot {plot}: the name must end in .svg, .png or .pdf")


def _write_scenario(scenario: str, found: Found, output: Path) -> None:
    from qkdpp.core.errors import InputError
    from qkdpp.rate.scenario_edit import edited
    from qkdpp.scenarios.scenario_file import source_text

    if found.values is None:
        raise InputError(f"{output}: not written, no parameters that were tried give a key")
    name, text = source_text(scenario)
    rows = [row.loss_db for row in found.losses] if found.best is None else [found.best.loss_db]
    where = f"{rows[0]:g} dB" if len(rows) == 1 else f"{rows[0]:g} to {rows[-1]:g} dB"
    what = "unlimited data" if found.unlimited else f"blocks of {found.block_s:g} s"
    result = edited(text, name, found.values, f"{where}, {what}")
    with output.open("x", encoding="utf-8") as file:
        file.write(result)


def _print(asked: Task, found: Found, json_: bool) -> None:
    from qkdpp.rate.optimise_report import text

    if json_:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    for line in text(asked, found):
        print(line)
