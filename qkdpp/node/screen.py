"""The live view of a node in a terminal: link, rates, error rate, key, stock, alarms, times of the stages.

Where the standard output is no terminal it becomes plain lines; ``--json`` makes it lines of JSON.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from qkdpp.node.lines import JsonLines, PlainLines, result_words
from qkdpp.node.monitors import Alarm, Level
from qkdpp.node.sink import BlockEnd
from qkdpp.node.status import Status, Watcher, short

_log = logging.getLogger("qkdpp.node")

RECENT = 8
STYLES = {Level.WARNING: "yellow", Level.CRITICAL: "red", Level.SECURITY: "bold white on red"}


@contextlib.contextmanager
def watcher_of(*, json: bool) -> Iterator[Watcher]:
    """The view that fits the standard output, until the end of the context."""
    console = Console()
    if json:
        yield Tolerant(JsonLines(sys.stdout))
    elif not console.is_terminal:
        yield Tolerant(PlainLines(sys.stdout))
    else:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            yield Tolerant(Screen(live))


class Tolerant:
    """A watcher whose terminal or pipe may go away: from then on it is silent, and the node goes on."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher: Watcher | None = watcher

    def changed(self, status: Status) -> None:
        """Passes it on."""
        self._tell(lambda watcher: watcher.changed(status))

    def block(self, end: BlockEnd, row: Mapping[str, Any]) -> None:
        """Passes it on."""
        self._tell(lambda watcher: watcher.block(end, row))

    def alarm(self, alarm: Alarm) -> None:
        """Passes it on."""
        self._tell(lambda watcher: watcher.alarm(alarm))

    def _tell(self, what: Callable[[Watcher], None]) -> None:
        if self._watcher is None:
            return
        try:
            what(self._watcher)
        except OSError as error:
            self._watcher = None
            _log.warning("nobody reads the output any more (%s); the node goes on, its run folder tells", error)
            _silence()


def _silence() -> None:
    """What is still to be written to the standard output goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class Screen:
    """Draws the status whenever it changes."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._recent: deque[Mapping[str, Any]] = deque(maxlen=RECENT)

    def changed(self, status: Status) -> None:
        """Draws anew."""
        self._live.update(view(status, list(self._recent)), refresh=True)

    def block(self, end: BlockEnd, row: Mapping[str, Any]) -> None:
        """Keeps the row for the table of recent blocks."""
        self._recent.append(row)

    def alarm(self, alarm: Alarm) -> None:
        """Standing alarms are drawn from the status."""


def view(status: Status, recent: list[Mapping[str, Any]]) -> RenderableType:
    """The whole view; ``recent`` rows oldest first."""
    parts: list[RenderableType] = [_facts(status)]
    if recent:
        parts += [_blocks(recent), Text(_stages(recent[-1]), style="dim")]
    parts += [_alarm(alarm) for alarm in status.alarms]
    return Group(*parts)


def _facts(status: Status) -> Table:
    progress, row = status.progress, status.last_row
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    ends = ", ".join(f"{n} {reason}" for reason, n in sorted(status.blocks.items())) or "none yet"
    seconds = row.get("seconds") or 0.0
    rate = f"{row.get('secret_bits', 0) / seconds:,.0f} bit/s in the last block" if seconds else "no block yet"
    tags = f"{progress.rate_hz:,.0f} tags/s, " if progress.rate_hz else ""
    dropped = f", {progress.dropped_blocks} dropped" if progress.dropped_blocks else ""
    for name, value in (
        (status.name, f"{status.role}; link {status.link}"),
        ("now", f"{tags}{progress.doing}, epoch {progress.epoch}"),
        ("blocks", ends + dropped),
        ("key rate", rate),
        ("QBER", _qber(row)),
        ("key", f"{status.released_bits:,} bits ready, {status.resting_bits:,} in quarantine"),
        ("pool", f"{status.pool_tags:,} tags left"),
    ):
        table.add_row(name, value)
    return table


def _qber(row: Mapping[str, Any]) -> str:
    found = [
        f"{name} {100 * row[key]:.2f} %"
        for name, key in (("all", "qber"), ("Z", "qber_z"), ("X", "qber_x"))
        if row.get(key) is not None
    ]
    return ", ".join(found) or "no block yet"


def _blocks(recent: list[Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("block", "time", "sifted", "QBER", "f_ec", "result"):
        table.add_column(column, justify="left" if column == "result" else "right")
    for row in recent:
        qber = "" if row.get("qber") is None else f"{100 * row['qber']:.2f} %"
        table.add_row(
            short(row["block"]),
            str(row.get("time", ""))[11:19],
            f"{row['sifted_bits']:,}" if row.get("sifted_bits") is not None else "",
            qber,
            f"{row['f_ec']:.2f}" if row.get("f_ec") else "",
            Text(result_words(row), style="red" if row.get("abort") else "green"),
        )
    return table


def _stages(row: Mapping[str, Any]) -> str:
    stages = row.get("stage_seconds") or {}
    return "stages: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in stages.items()) if stages else ""


def _alarm(alarm: Alarm) -> Text:
    return Text(f"{alarm.level.upper()} {alarm.name}: {alarm.message}; {alarm.remedy}", style=STYLES[alarm.level])
