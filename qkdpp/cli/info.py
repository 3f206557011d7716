"""``qkdpp info``: what recordings hold, or (without a file) what is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qkdpp.sources.summary import Summary

PACKAGES = ("numpy", "scipy", "numba", "msgspec", "h5py", "cryptography", "typer", "rich", "matplotlib")
NO_FILES: list[Path] = []
NO_OPTIONS: list[str] = []


def command(
    files: Annotated[list[Path], typer.Argument(help="Recordings, each on its own.")] = NO_FILES,
    *,
    format_: Annotated[
        str | None, typer.Option("--format", help="Format, where it cannot be told from the content.")
    ] = None,
    tick_as: Annotated[int | None, typer.Option(help="Attoseconds per tick, where the file does not state it.")] = None,
    option: Annotated[list[str], typer.Option(help="Option of the format, as name=value.")] = NO_OPTIONS,
    header: Annotated[bool, typer.Option("--header", help="Show all fields of the file's header.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="An incomplete file is an error.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Look at recordings: format, tick, duration, rates per channel, gaps, warnings, header.

    Without a file: versions and the tier that computes.
    """
    import json
    from functools import partial

    from qkdpp.cli.console import Progress
    from qkdpp.sources import open_recording
    from qkdpp.sources.summary import summarise

    if not files:
        print(json.dumps(_installed(), indent=2) if json_ else _plain(_installed()))
        return
    found = []
    with Progress(quiet=json_) as progress:
        for path in files:
            recording = open_recording(
                path, format=format_, tick_as=tick_as, options=parse_options(option), strict=strict
            )
            summary = summarise(recording, partial(progress.tags, str(path)))
            found.append(summary.as_json())
            if not json_:
                print("\n".join(_lines(summary, header=header)))
    if json_:
        print(json.dumps(found, indent=2, allow_nan=False))


def parse_options(options: list[str]) -> dict[str, str]:
    """Options of a format from ``name=value``; InputError for anything else."""
    from qkdpp.core.errors import InputError

    pairs = [text.partition("=") for text in options]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise InputError(f"--option {name!r}: give name=value")
    return {name.replace("-", "_"): value for name, _, value in pairs}


def _installed() -> dict[str, str]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from qkdpp import __version__
    from qkdpp.kernels import backend, isa

    found = {"qkdpp": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found | {"kernels": backend(), "isa": isa() or "none"}


def _plain(found: dict[str, str]) -> str:
    return "\n".join(f"{name:<14}{value}" for name, value in found.items())


def _lines(summary: Summary, *, header: bool) -> Iterator[str]:
    from qkdpp.sources.formats import FORMATS

    stats = summary.stats
    yield shown(", ".join(summary.files))
    yield f"  format      {summary.format} ({FORMATS[summary.format].title})"
    if summary.duration_s is not None:
        yield f"  tick        {summary.tick_as / 1e6:g} ps ({summary.tick_as} as)"
        yield f"  duration    {summary.duration_s:.6f} s"
    yield f"  tags        {stats.tags:,} of {stats.records:,} records"
    for channel, tags in sorted(summary.tags_by_channel.items()):
        rate = summary.rate_hz(tags)
        yield f"  channel {channel:<4}{tags:>12,}" + (f" {rate:>14,.1f} /s" if rate is not None else "")
    for name, count in (
        ("dummies", stats.dummies),
        ("multi-bit", stats.multi_bit_patterns),
        ("late", stats.late_tags),
        ("lost events", stats.lost_tags_reported),
    ):
        if count:
            yield f"  {name:<12}{count:,}"
    if stats.lost_intervals:
        yield f"  gaps        {stats.lost_intervals} intervals, {summary.lost_s:.6f} s"
    if stats.backward_steps:
        worst_ns = stats.worst_backward_ticks * summary.tick_as / 1e9
        yield f"  backward    {stats.backward_steps} steps, worst {worst_ns:,.3f} ns (sorted)"
    for warning in stats.warnings:
        yield f"  warning     {shown(warning)}"
    if summary.metadata and not header:
        yield f"  header      {len(summary.metadata)} fields (--header shows them)"
    for name, value in summary.metadata.items() if header else ():
        yield f"  {shown(name)} = {shown(str(value))}"


def shown(text: str) -> str:
    """Text from a file, safe for a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
