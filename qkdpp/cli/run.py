"""``qkdpp run``: one live node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qkdpp.node.monitors import Alarm
    from qkdpp.node.run import Ended
    from qkdpp.node.status import Watcher

EXIT_NO_KEY = 3


def command(
    node: Annotated[Path, typer.Argument(help="Node file, e.g. alice.toml (docs/formats/node.md).")],
    *,
    duration_s: Annotated[
        float | None, typer.Option("--duration", metavar="SECONDS", help="Stop after so many seconds.", min=1e-3)
    ] = None,
    no_calibrate: Annotated[
        bool, typer.Option("--no-calibrate", help="Leave delays, polarisation and synchronisation as they are.")
    ] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per block and per alarm, and nothing else.")
    ] = False,
) -> None:
    """Run one node of a live link until it is stopped.

    Connects the instruments, calibrates, and makes keys together with the node at the other end. Ctrl-C stops it
    cleanly, twice stops it at once. Exit code 3: a security alarm, a pool that is used up, a link that failed for
    good, or no key at all.
    """
    import contextlib
    import sys

    from qkdpp.node.config import load_node, with_steps
    from qkdpp.node.delivery import delivery_of
    from qkdpp.node.metrics import metrics_of
    from qkdpp.node.run import run_node
    from qkdpp.node.screen import watcher_of
    from qkdpp.node.store import open_store

    file = load_node(node)
    if no_calibrate:
        file = with_steps(file, ())
    delivery = delivery_of(file)
    alarms: list[Alarm] = []
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(open_store(file, alarms.extend))
        (link,) = store.links()
        metrics = stack.enter_context(metrics_of(file, lambda: link.status().result()))
        watchers: list[Watcher] = [] if metrics is None else [metrics]
        watchers.append(stack.enter_context(watcher_of(json=json_)))
        served = None if delivery is None else (delivery, store)
        ended = run_node(file, link, watchers=watchers, alarms=alarms, duration_s=duration_s, served=served)
    if not json_:
        _say(ended)
    if ended.refused:
        print(f"qkdpp: {ended.refused}", file=sys.stderr)
        raise typer.Exit(EXIT_NO_KEY)


def _say(ended: Ended) -> None:
    status = ended.status
    ends = ", ".join(f"{n} {reason}" for reason, n in sorted(status.blocks.items())) or "none"
    print(f"blocks: {ends}; secret bits: {status.secret_bits:,}\nrun folder: {ended.folder}")
