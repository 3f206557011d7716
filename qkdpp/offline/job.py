"""Runs of the main job as a user asks for them: one result folder, or a scan of a parameter."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from qkdpp.core.errors import ConfigError, InputError
from qkdpp.core.keyfile import write_key
from qkdpp.link.pool import Pool
from qkdpp.link.pool_file import FilePool
from qkdpp.link.transcript import write_transcript
from qkdpp.offline.distill import ClockCache, distill, with_gate
from qkdpp.offline.drive import Outcome
from qkdpp.offline.folder import dated, new_folder, refuse_existing
from qkdpp.offline.inputs import Inputs
from qkdpp.offline.results import report
from qkdpp.offline.runfile import RunFile
from qkdpp.offline.steady import now
from qkdpp.report.html import render

Step = Callable[[str], None]
MAX_SCAN_POINTS = 1000
SCANNED = ("gate_ps", "offset_ps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished job: its report and where everything was written."""

    report: dict[str, Any]
    folder: Path


def execute(
    run: RunFile, inputs: Inputs, output: Path | None, *, span: tuple[float | None, float | None], progress: Step
) -> Result:
    """Distils and writes keys, report and transcript into a new folder; InputError if it exists."""
    folder = output or dated(run.folder.resolve().name)
    refuse_existing(folder)
    progress("distilling")
    with _pools(run) as pools:
        outcome = distill(run, inputs, now=now, pools=pools)
    fields = report(run, inputs, outcome, from_s=span[0], to_s=span[1])
    progress("writing the report")
    with new_folder(folder) as part:
        _write(part, outcome, fields)
    return Result(report=fields, folder=folder)


@contextmanager
def _pools(run: RunFile) -> Iterator[tuple[Pool, Pool] | None]:
    """The parties' authentication pools if both are named, None if neither is."""
    names = (run.alice.pool, run.bob.pool)
    if names == (None, None):
        yield None
        return
    if names[0] is None or names[1] is None:
        raise ConfigError(f"{run.path}: name alice.pool and bob.pool, or neither")
    with FilePool(run.folder / names[0], "alice") as alice, FilePool(run.folder / names[1], "bob") as bob:
        yield alice, bob


def _write(folder: Path, outcome: Outcome, fields: dict[str, Any]) -> None:
    write_transcript(folder / "transcript", outcome.alice_endpoint.transcript)
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(fields)))
    (folder / "report.html").write_text(render(fields), encoding="utf-8")
    keys = outcome.keys
    if keys is not None:
        suffix = "test.key" if outcome.test_mode else "key"
        write_key(folder / f"alice.{suffix}", keys[0])
        write_key(folder / f"bob.{suffix}", keys[1])


# --- scan -----------------------------------------------------------------------------------------------------------


def scan_values(text: str) -> tuple[str, list[float]]:
    """``NAME=start:stop:step`` as the name and its values, both ends included; InputError otherwise."""
    name, _, numbers = text.partition("=")
    try:
        start, stop, step = (float(number) for number in numbers.split(":"))
    except ValueError:
        raise InputError(f"--scan {text!r}: write NAME=start:stop:step, for instance gate_ps=200:1000:100") from None
    if name not in SCANNED:
        raise InputError(f"--scan {name!r}: can scan {' or '.join(SCANNED)}")
    if not (math.isfinite(start) and math.isfinite(stop) and step > 0 and stop >= start):
        raise InputError(f"--scan {text!r}: needs start <= stop and step > 0")
    n = math.floor((stop - start) / step + 1e-9) + 1
    if n > MAX_SCAN_POINTS:
        raise InputError(f"--scan {text!r}: {n} points, at most {MAX_SCAN_POINTS}")
    return name, [start + i * step for i in range(n)]


def sweep(run: RunFile, inputs: Inputs, name: str, values: list[float], *, progress: Step) -> list[dict[str, Any]]:
    """Distils once per value without reading the files or recovering the clock again; writes nothing."""
    if name == "offset_ps" and run.parameters.protocol != "bb84":
        raise InputError("--scan offset_ps: only for bb84; for pairs the program centres the window itself")
    cache = ClockCache()
    rows = []
    for value in values:
        progress(f"{name} = {value:g}")
        changed = with_gate(run, value) if name == "gate_ps" else run
        offset = value if name == "offset_ps" else 0.0
        outcome = distill(changed, inputs, now=now, cache=cache, gate_offset_ps=offset)
        fields = report(changed, inputs, outcome, from_s=None, to_s=None)
        rows.append(
            {
                name: value,
                "detections": fields["detections"],
                "sifted_bits": fields.get("sifted_bits", 0),
                "qber": (fields.get("qber") or {}).get("total"),
                "secret_bits": fields["secret_bits"],
                "abort": None if fields["abort"] is None else fields["abort"]["reason"],
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """A scan as plain text with a bar of secret bits (of sifted bits where there are none)."""
    name = next(iter(rows[0]))
    column = "secret_bits" if any(row["secret_bits"] for row in rows) else "sifted_bits"
    top = max(1, *(row[column] for row in rows))
    lines = [f"{name:>12} {'detections':>12} {'sifted':>10} {'QBER %':>7} {'secret':>10}  {column}"]
    for row in rows:
        qber = "" if row["qber"] is None else f"{100 * row['qber']:.2f}"
        bar = "#" * round(40 * row[column] / top)
        lines.append(
            f"{row[name]:>12g} {row['detections']:>12} {row['sifted_bits']:>10} {qber:>7} {row['secret_bits']:>10}  "
            f"{bar}{'' if row['abort'] is None else ' ' + row['abort']}"
        )
    return os.linesep.join(lines)
