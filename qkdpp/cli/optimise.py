"""``qkdpp optimise``: the best parameters of a link."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qkdpp.cli.rate import EXIT_NO_KEY

if TYPE_CHECKING:
    from qkdpp.rate.optimise import Task
    from qkdpp.rate.optimise_report import Found


def command(
    scenario: Annotated[str, typer.Argument(help="A shipped scenario (qkdpp rate --list) or a TOML file.")],
    *,
    loss: Annotated[
        str | None, typer.Option(help="Loss of the channel in dB, or FROM:TO:STEP; the scenario's own without it.")
    ] = None,
    block_s: Annotated[float | None, typer.Option("--block-s", help="Duration of a block in seconds.")] = None,
    fix: Annotated[
        str, typer.Option(help="Parameters to hold, with commas between: mu, p_intensity, p_z, p_z_bob, ...")
    ] = "",
    unlimited: Annotated[bool, typer.Option("--unlimited", help="For unlimited data instead of blocks.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="New scenario file with the optimum.")] = None,
    plot: Annotated[Path | None, typer.Option(help="New figure: .svg, .png or .pdf.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")] = False,
) -> None:
    """Find the intensities, probabilities, basis bias and block for a link.

    Entangled pairs: pair rate, basis bias and gate. Also what each parameter
    costs when it is 10 % off, and how long a block must be. A range of losses
    gives an optimum for each and one set of parameters for all.

    All is free that --fix does not hold: hold what your devices cannot change.

    Ends with 3 if nothing that was tried gives a key.
    """
    from qkdpp.cli import new_file
    from qkdpp.cli.console import Progress
    from qkdpp.rate import optimise, parameters, ranges
    from qkdpp.rate.expected import with_loss
    from qkdpp.rate.optimise_report import at_one_loss, over_range
    from qkdpp.rate.sweep import MAX_LOSS_DB
    from qkdpp.scenarios.scenario_file import load

    if output is not None:
        new_file.check(output, "-o")
    if plot is not None:
        new_file.check_plot(plot)
    plan = load(scenario)
    words = [word.strip() for word in fix.split(",") if word.strip()]
    losses = () if loss is None else ranges.linear(loss, "--loss", low=0.0, high=MAX_LOSS_DB)
    asked = optimise.task(
        with_loss(plan, losses[0]) if len(losses) == 1 else plan,
        block_s=block_s,
        fixed=parameters.fixed_names(plan, words),
        unlimited=unlimited,
    )
    with Progress(quiet=json_) as progress:
        progress.step("searching")
        found = over_range(asked, losses) if len(losses) > 1 else at_one_loss(asked)
    _print(asked, found, json_)
    if output is not None:
        _write_scenario(scenario, found, output)
    if plot is not None:
        from qkdpp.rate.optimise_figure import draw

        new_file.write(plot, draw(found, plot.suffix))
    for path in (output, plot):
        if path is not None and not json_:
            print(f"written to {path}")
    if found.values is None:
        raise typer.Exit(EXIT_NO_KEY)


def _write_scenario(scenario: str, found: Found, output: Path) -> None:
    from qkdpp.cli.new_file import write
    from qkdpp.core.errors import InputError
    from qkdpp.rate.scenario_edit import edited
    from qkdpp.scenarios.scenario_file import source_text

    if found.values is None:
        raise InputError(f"{output}: not written, no parameters that were tried give a key")
    name, text = source_text(scenario)
    rows = [row.loss_db for row in found.losses] if found.best is None else [found.best.loss_db]
    where = f"{rows[0]:g} dB" if len(rows) == 1 else f"{rows[0]:g} to {rows[-1]:g} dB"
    what = "unlimited data" if found.unlimited else f"blocks of {found.block_s:g} s"
    write(output, edited(text, name, found.values, f"{where}, {what}").encode())


def _print(asked: Task, found: Found, json_: bool) -> None:
    from qkdpp.rate.optimise_report import text

    if json_:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    for line in text(asked, found):
        print(line)
