"""The folder of a run: configuration, device snapshots, log, one row per block, transcripts, calibrations.

``blocks.jsonl`` and ``blocks.csv`` hold the same rows (``docs/formats/node.md``). Nothing in here is secret but what
``recording`` puts there. Rows are written when they are complete; a security alarm marks those that it discards.
"""

from __future__ import annotations

import csv
import io
import logging
import logging.handlers
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from qkdpp.core.errors import InputError
from qkdpp.link.endpoint import Record
from qkdpp.link.transcript import write_transcript

COLUMNS: Final = (
    "block",
    "epoch",
    "time",
    "seconds",
    "tags",
    "detections",
    "sifted_bits",
    "qber",
    "qber_z",
    "qber_x",
    "leak_bits",
    "f_ec",
    "secret_bits",
    "pool_bits",
    "abort",
    "discarded",
    "lost_share",
    "clock_residual_ps",
    "clock_rate_ppm",
    "messages",
    "bytes",
    "stage_seconds",
)
"""What a row may hold; what does not apply stays empty."""


def utc_now() -> str:
    """The time of day as written in rows and logs."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class RunFolder:
    """A new folder ``NAME-DATE-TIME`` under ``parent``; InputError if it cannot be made.

    ``transcripts``: whether those of blocks are kept.
    """

    def __init__(self, parent: Path, name: str, *, transcripts: bool = True) -> None:
        self._transcripts = transcripts
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
        self.path = parent / f"{name}-{stamp}"
        try:
            self.path.mkdir(parents=True)
            for part in ("transcripts", "calibration"):
                (self.path / part).mkdir()
        except OSError as error:
            raise InputError(f"{self.path}: the folder of the run cannot be made ({error})") from error
        self._csv = self.path / "blocks.csv"
        with self._csv.open("x", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(COLUMNS)
        self._log = logging.handlers.WatchedFileHandler(self.path / "log.jsonl", encoding="utf-8")
        self._log.setFormatter(_JsonLines())
        logging.getLogger("qkdpp").addHandler(self._log)
        logging.getLogger("qkdpp").setLevel(logging.INFO)

    def close(self) -> None:
        """Ends the log."""
        logging.getLogger("qkdpp").removeHandler(self._log)
        self._log.close()

    def keep(self, name: str, text: str) -> None:
        """One file of text, such as the configuration."""
        with (self.path / name).open("x", encoding="utf-8") as file:
            file.write(text)

    def snapshot(self, device: str, fields: Mapping[str, object]) -> None:
        """All settings of a device at this moment, appended to ``devices.jsonl``."""
        self._append("devices.jsonl", {"time": utc_now(), "device": device, "settings": dict(fields)})

    def alarm(self, fields: Mapping[str, object]) -> None:
        """One alarm, appended to ``alarms.jsonl``."""
        self._append("alarms.jsonl", {"time": utc_now(), **fields})

    def row(self, fields: Mapping[str, object]) -> None:
        """One block."""
        unknown = set(fields) - set(COLUMNS)
        if unknown:
            raise ValueError(f"no columns for {', '.join(sorted(unknown))}")
        self._append("blocks.jsonl", dict(fields))
        with self._csv.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([_cell(fields.get(name)) for name in COLUMNS])

    def discard(self, blocks: Collection[int], alarm: str) -> None:
        """Marks the rows of blocks whose key an alarm has discarded; what another run wrote stays as it is."""
        path = self.path / "blocks.jsonl"
        rows = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []
        if not any(row["block"] in blocks for row in rows):
            return
        for row in rows:
            if row["block"] in blocks:
                row["discarded"] = alarm
        _replace(path, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
        table = io.StringIO(newline="")
        csv.writer(table).writerows([COLUMNS, *([_cell(row.get(name)) for name in COLUMNS] for row in rows)])
        _replace(self._csv, table.getvalue().encode())

    def transcript(self, block: int, records: list[Record]) -> None:
        """All frames of a block, if they are kept."""
        if not self._transcripts:
            return
        write_transcript(self.path / "transcripts" / f"{block}", records)

    def _append(self, name: str, fields: Mapping[str, object]) -> None:
        with (self.path / name).open("ab") as file:
            file.write(msgspec.json.encode(fields) + b"\n")


def _replace(path: Path, content: bytes) -> None:
    """The whole file or the old one, whatever happens in between."""
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.write_bytes(content)
    fresh.replace(path)


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return "" if value is None else value


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "from": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info is not None:
            fields["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields).decode()
