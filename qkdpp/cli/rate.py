"""``qkdpp rate``: key rate against loss, distance or block."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qkdpp.rate.link import Asked
    from qkdpp.rate.sweep import Curve
    from qkdpp.scenarios.scenario import Scenario

NO_SCENARIOS: list[str] = []
EXIT_NO_KEY = 3


def command(
    scenario: Annotated[
        list[str], typer.Argument(help="Shipped scenarios (--list) or TOML files, all for one figure.")
    ] = NO_SCENARIOS,
    *,
    loss: Annotated[str | None, typer.Option(help="Loss of the channel in dB: FROM:TO:STEP, or one number.")] = None,
    distance: Annotated[str | None, typer.Option(help="Length of fibre in km: FROM:TO:STEP, or one number.")] = None,
    block: Annotated[
        str | None, typer.Option(help="Pulses sent (pairs made) per block: FROM:TO:COUNT, or one number.")
    ] = None,
    block_s: Annotated[
        str | None, typer.Option("--block-s", help="Duration of a block in s: FROM:TO:COUNT, or one number.")
    ] = None,
    attenuation: Annotated[
        float | None, typer.Option("--attenuation-db-per-km", help="Of the fibre, instead of the scenario's.", min=1e-4)
    ] = None,
    f_ec: Annotated[
        float | None, typer.Option("--f-ec", help="Leak of error correction over its Shannon limit.")
    ] = None,
    eps_sec: Annotated[float | None, typer.Option("--eps-sec", help="Secrecy of a block.")] = None,
    profile: Annotated[str | None, typer.Option(help="Length formula: V, L or T.")] = None,
    rule: Annotated[str | None, typer.Option(help="Accounting of error correction: public_errors or both.")] = None,
    plot: Annotated[Path | None, typer.Option(help="New figure: .svg, .png or .pdf.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped scenarios.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")] = False,
) -> None:
    """Key rate of links against loss, distance or size of block.

    Without a range: over the losses that the scenarios name. For blocks of
    finite length and for unlimited data, at the parameters of the scenarios;
    `qkdpp optimise` finds better ones.

    Ends with 3 if a scenario gives no key at its own loss and block; table and
    figure are made all the same.
    """
    from qkdpp.cli import new_file
    from qkdpp.cli.console import Progress
    from qkdpp.cli.scenarios import print_shipped
    from qkdpp.core.errors import InputError
    from qkdpp.rate.results import no_key
    from qkdpp.rate.sweep import curve

    if list_:
        print_shipped(json_=json_)
        return
    if not scenario:
        raise InputError("name a scenario: qkdpp rate SCENARIO... (--list shows the shipped ones)")
    plans = _plans(scenario)
    asked = _asked(
        list(plans.values()),
        {"--loss": loss, "--distance": distance, "--block": block, "--block-s": block_s},
        {"attenuation_db_per_km": attenuation, "f_ec": f_ec, "eps_sec": eps_sec, "profile": profile, "rule": rule},
    )
    if plot is not None:
        new_file.check_plot(plot)
        if len(asked.values) == 1:
            raise InputError("--plot needs a range, for instance --loss 0:40:1")
    with Progress(quiet=json_) as progress:
        drawn = plot is not None
        curves = [curve(n, p, asked, for_drawing=drawn, progress=progress.step) for n, p in plans.items()]
        if plot is not None:
            from qkdpp.rate.figures import draw

            progress.step("drawing")
            new_file.write(plot, draw(curves, plot.suffix))
    _print(curves, plot, json_)
    if any(no_key(c) for c in curves):
        raise typer.Exit(EXIT_NO_KEY)


def _plans(arguments: Sequence[str]) -> dict[str, Scenario]:
    """Scenarios by the name they have in table and legend."""
    from qkdpp.core.errors import InputError
    from qkdpp.scenarios.scenario_file import load

    twice = next((a for i, a in enumerate(arguments) if a in arguments[:i]), None)
    if twice is not None:
        raise InputError(f"{twice}: named twice; name every scenario once")
    names = [Path(a).stem if a.endswith(".toml") else a for a in arguments]
    names = names if len(set(names)) == len(names) else list(arguments)
    return {name: load(argument) for name, argument in zip(names, arguments, strict=True)}


def _asked(plans: Sequence[Scenario], places: dict[str, str | None], overrides: dict[str, float | str | None]) -> Asked:
    """What runs and what is held, from the options as typed."""
    from qkdpp.core.errors import InputError
    from qkdpp.core.ledger import Rule
    from qkdpp.rate.link import Asked
    from qkdpp.rate.sweep import usual_losses

    given = {option: _values(option, text) for option, text in places.items() if text is not None}
    for one, other in (("--loss", "--distance"), ("--block", "--block-s")):
        if one in given and other in given:
            raise InputError(f"{one} and {other} say the same thing: give one of them")
    ranges = [option for option, values in given.items() if len(values) > 1]
    if len(ranges) > 1:
        raise InputError(f"{' and '.join(ranges)} are both ranges: one thing can run, give one number for the other")
    if overrides["rule"] is not None and overrides["rule"] not in list(Rule):
        raise InputError(f"--rule {overrides['rule']}: choose public_errors or both")
    held = {_FIELDS[option]: values[0] for option, values in given.items() if option not in ranges}
    running = next(iter(ranges), next((o for o in ("--loss", "--distance") if o in given), None))
    values = usual_losses(plans) if running is None else given[running]
    changed = {name: value for name, value in overrides.items() if value is not None}
    if "rule" in changed:
        changed["rule"] = Rule(str(changed["rule"]))
    return Asked(variable=_FIELDS[running or "--loss"], values=values, **held, **changed)  # type: ignore[arg-type]


_FIELDS = {"--loss": "loss_db", "--distance": "distance_km", "--block": "block_pulses", "--block-s": "block_s"}


def _values(option: str, text: str) -> tuple[float, ...]:
    from qkdpp.rate.ranges import linear, logarithmic

    if option == "--loss":
        return linear(text, option, low=0.0, high=100.0)
    if option == "--distance":
        return linear(text, option, low=0.0, high=1e4)
    if option == "--block":
        return logarithmic(text, option, low=1.0, high=1e18)
    return logarithmic(text, option, low=1e-6, high=1e9)


def _print(curves: Sequence[Curve], plot: Path | None, json_: bool) -> None:
    if json_:
        import msgspec

        from qkdpp.rate.results import rates

        print(msgspec.json.format(msgspec.json.encode(rates(curves)), indent=2).decode())
        return
    from qkdpp.rate.table import page

    print(page(curves))
    if plot is not None:
        print(f"\nwritten to {plot}")
