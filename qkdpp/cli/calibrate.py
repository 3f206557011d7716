"""``qkdpp calibrate``: the calibration loops of a receiver, once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qkdpp.node.config import Step
    from qkdpp.node.run import Calibrated

EXIT_FAILED, EXIT_INTERRUPTED = 3, 130


class Loop(StrEnum):
    """What is calibrated."""

    DELAY = "delay"
    POLARISATION = "polarisation"
    SYNCHRONISATION = "synchronisation"
    ALL = "all"


def command(
    node: Annotated[Path, typer.Argument(help="Node file of the receiver, e.g. bob.toml (docs/formats/node.md).")],
    loop: Annotated[Loop, typer.Argument(help="Which loop; all: those of calibration.steps, in order.")] = Loop.ALL,
    *,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="New folder for a copy of results (JSON) and figures (SVG).")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Run the calibration loops of a receiver once, without making key.

    The node of the sender must be running (`qkdpp run alice.toml`): it sends what the loops ask for, and is dark
    afterwards. The loops are the gate delay scan, the polarisation feedback and the synchronisation calibration.
    Delays and retarders stay as found, and a `qkdpp run` soon after (calibration.keep_s) goes on with a calibration by
    all loops of the file.

    Ctrl-C ends it cleanly: the loop under way puts its instruments back, loops that have ended keep their settings.
    Exit code 3: a loop failed, the link failed for good, or a security alarm; 130: interrupted.
    """
    import contextlib
    import shutil
    import sys

    from qkdpp.core.errors import InputError
    from qkdpp.node.config import check_calibrates, load_node, with_steps
    from qkdpp.node.lines import PlainLines
    from qkdpp.node.monitors import Alarm
    from qkdpp.node.run import calibrate_node
    from qkdpp.node.status import Watcher
    from qkdpp.node.store import open_store

    file = load_node(node)
    check_calibrates(file)
    if output is not None and output.exists():
        raise InputError(f"{output}: already there; name a new folder with -o")
    steps: dict[Loop, tuple[Step, ...]] = {
        Loop.DELAY: ("delay",),
        Loop.POLARISATION: ("polarisation",),
        Loop.SYNCHRONISATION: ("synchronisation",),
        Loop.ALL: file.calibration.steps,
    }
    alarms: list[Alarm] = []
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(open_store(file, alarms.extend))
        watchers: list[Watcher] = [] if json_ else [PlainLines(sys.stderr)]
        (link,) = store.links()
        ended = calibrate_node(with_steps(file, steps[loop]), link, watchers=watchers, alarms=alarms)
    if output is not None:
        shutil.copytree(ended.folder / "calibration", output)
    where = ended.folder / "calibration" if output is None else output
    _say_json(ended, where) if json_ else _say(ended, where)
    if ended.interrupted or ended.refused:
        print(f"qkdpp: {_why(ended)}", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED if ended.interrupted else EXIT_FAILED)


def _why(ended: Calibrated) -> str:
    dark = "; the transmitter may still be sending: stop the node of the sender" if ended.may_send else ""
    if not ended.interrupted:
        return ended.refused + dark
    kept = ", ".join(ended.results) or "none"
    return f"interrupted; the loop under way has put its instruments back; loops that keep their settings: {kept}{dark}"


def _say(ended: Calibrated, where: Path) -> None:
    from qkdpp.node.calibrate.text import describe

    for found in ended.results.values():
        print("\n".join(describe(found)), end="\n\n")
    if ended.results:
        print(f"results and figures: {where}")


def _say_json(ended: Calibrated, where: Path) -> None:
    import msgspec

    from qkdpp.node.calibration import plain

    document = {
        "ok": not (ended.refused or ended.interrupted),
        "interrupted": ended.interrupted,
        "reason": ended.refused,
        "folder": str(where),
        "results": {name: plain(found) for name, found in ended.results.items()},
    }
    print(msgspec.json.encode(document).decode())
