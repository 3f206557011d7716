"""``qkdpp simulate``: recordings with known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    scenario: Annotated[str | None, typer.Argument(help="A shipped scenario (--list) or a TOML file.")] = None,
    *,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="New folder for the run.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same files.", min=0)] = 1,
    scale: Annotated[float | None, typer.Option(help="Times the scenario's duration.", min=1e-9)] = None,
    duration_s: Annotated[float | None, typer.Option("--duration-s", help="Duration in seconds.", min=1e-9)] = None,
    format_: Annotated[str | None, typer.Option("--format", help="Format of the recordings, e.g. ptu, csv.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped scenarios.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")] = False,
) -> None:
    """Simulate a link: source, loss, detectors, taggers, clocks.

    SCENARIO is one of those that --list shows, or a file of your own.

    Writes recordings, Alice's record, run.toml (for qkdpp distill), scenario.toml and truth.json into a new folder.
    """
    from qkdpp.cli.console import Progress
    from qkdpp.cli.scenarios import print_shipped
    from qkdpp.core.errors import InputError
    from qkdpp.scenarios.scenario_file import load, source_text
    from qkdpp.sim import run

    if list_:
        print_shipped(json_=json_)
        return
    if scenario is None or output is None:
        raise InputError("name a scenario and a new folder: qkdpp simulate SCENARIO -o RUN (--list shows scenarios)")
    plan = run.resized(load(scenario), scale=scale, duration_s=duration_s, format_name=format_)
    with Progress(quiet=json_) as progress:
        summary = run.simulate(
            plan,
            scenario_text=source_text(scenario)[1],
            seed=seed,
            out=output,
            progress=lambda share: progress.step(f"simulating: {100 * share:.0f} %"),
        )
    _print_summary(summary, json_)


def _print_summary(summary: object, json_: bool) -> None:
    import msgspec

    from qkdpp.sim.run import Summary

    assert isinstance(summary, Summary)
    if json_:
        print(msgspec.json.encode(msgspec.to_builtins(summary, enc_hook=str)).decode())
        return
    for party, n in summary.tags.items():
        print(f"{party}: {n:,} tags")
    if summary.n_pulses is not None:
        print(f"pulses sent: {summary.n_pulses:,}")
    print(f"duration: {summary.duration_s:g} s\nwritten to {summary.folder}: {', '.join(summary.files)}")
