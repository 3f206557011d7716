"""``qkdpp devices``: which instruments can be driven, and a look at one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qkdpp.core.devices import DriverInfo

command = typer.Typer(help="Drivers of instruments: list them, or look at one instrument.")
NEVER_RUN = "never run on hardware"


@command.callback(invoke_without_command=True)
def devices(
    context: typer.Context,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """List all drivers: name, kind, instrument, transports, package, and whether anybody ran them on hardware."""
    import json

    from qkdpp.core.devices import driver_registry

    if context.invoked_subcommand is not None:
        return
    found = [_row(info) for info in driver_registry().drivers().values()]
    if json_:
        print(json.dumps(found, indent=2))
        return
    titles = ("name", "kind", "instrument", "transports", "origin", "state")
    lines = [titles, *(tuple(row[title] for title in titles) for row in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _row(info: DriverInfo) -> dict[str, str]:
    """One driver; one that cannot be loaded says why."""
    from qkdpp.core.errors import DeviceError

    row = {"name": info.name, "kind": "", "instrument": "", "transports": "", "origin": info.origin}
    try:
        driver = info.load()
    except DeviceError as error:
        return row | {"state": f"cannot be loaded: {error}"}
    return row | {
        "kind": driver.kind,
        "instrument": f"{driver.vendor} {driver.model}",
        "transports": ", ".join(driver.transports),
        "state": NEVER_RUN if driver.never_run_on_hardware else "run on hardware",
    }


@command.command()
def check(
    url: Annotated[str, typer.Argument(help="Where it is, such as serial:///dev/ttyACM0 or visa://TCPIP::…::SOCKET.")],
    driver: Annotated[str, typer.Option("--driver", help="Name of the driver (see qkdpp devices).")],
    *,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Connect to one instrument, check its identity, and print its settings and errors. Changes no setting."""
    import dataclasses
    import json

    from qkdpp.core.devices import driver_registry

    instrument = driver_registry().connect(driver, url)
    try:
        identity = dataclasses.asdict(instrument.identify())
        found = {"identity": identity, "settings": instrument.snapshot(), "errors": instrument.errors()}
    finally:
        instrument.close()
    if json_:
        print(json.dumps(found, indent=2))
        return
    print(" ".join(text for text in identity.values() if text))
    for name, value in found["settings"].items():
        print(f"  {name:<24}{value}")
    for error in found["errors"]:
        print(f"  error: {error}")
