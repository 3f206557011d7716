"""A node watched line by line: JSON for programs, words where there is no terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TextIO

import msgspec

from qkdpp.node.monitors import Alarm
from qkdpp.node.sink import BlockEnd
from qkdpp.node.status import Status, short


class JsonLines:
    """One object a line: ``{"event": "block", ...row}`` and ``{"event": "alarm", ...}``."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def changed(self, status: Status) -> None:
        """Nothing is said of it."""

    def block(self, end: BlockEnd, row: Mapping[str, Any]) -> None:
        """The row of the block."""
        self._say({"event": "block", **row})

    def alarm(self, alarm: Alarm) -> None:
        """The alarm."""
        self._say({"event": "alarm", **asdict(alarm)})

    def _say(self, fields: Mapping[str, Any]) -> None:
        print(msgspec.json.encode(fields).decode(), file=self._out, flush=True)


class PlainLines:
    """What is being done, blocks and alarms, in words."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = ("", "")

    def changed(self, status: Status) -> None:
        """A line if the link or what is being done has changed."""
        now = (status.link, status.progress.doing)
        if now != self._last:
            self._last = now
            self._say(f"link {now[0]}; {now[1]}")

    def block(self, end: BlockEnd, row: Mapping[str, Any]) -> None:
        """Length of the key or why there is none, error rate, sifted bits."""
        self._say(f"block {short(end.block)}: {result_words(row)}{qber_words(row)}")

    def alarm(self, alarm: Alarm) -> None:
        """The alarm and what to do."""
        self._say(f"{alarm.level.upper()} {alarm.name}: {alarm.message}; {alarm.remedy}")

    def _say(self, line: str) -> None:
        print(line, file=self._out, flush=True)


def result_words(row: Mapping[str, Any]) -> str:
    """``12,345 secret bits``, or why there are none."""
    return str(row["abort"]) if row.get("abort") else f"{row.get('secret_bits', 0):,} secret bits"


def qber_words(row: Mapping[str, Any]) -> str:
    """``, QBER 1.20 % of 12,345 sifted bits`` where it is known."""
    if row.get("qber") is None:
        return ""
    return f", QBER {100 * row['qber']:.2f} % of {row.get('sifted_bits', 0):,} sifted bits"
