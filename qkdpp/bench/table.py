"""A report as text, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from qkdpp.bench.report import Machine, Report
from qkdpp.bench.runner import Row

WIDTH = 100
_INDENT = "    "
_HEAD = f"{'kernel':<22}{'size':<26}{'rate':>15}{'quartiles':>12}{'goal':>16}{'dB':>7}"
_CORRECTION_HEAD = (
    f"{'':9}{'QBER':>7}{'f':>8}{'goal':>6}{'verified':>10}{'/ log2 C':>10}{'failed':>12}{'rounds':>8}"
    f"{'messages':>10}{'bytes/kbit':>12}{'Mbit/s':>8}"
)
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def page(report: Report) -> str:
    """The whole report."""
    lines = list(_about(report.machine))
    for area in dict.fromkeys(row.area for row in report.rows):
        rows = [row for row in report.rows if row.area == area]
        lines += ["", f"{area} ({', '.join(dict.fromkeys(row.tier for row in rows))})", _HEAD]
        lines += [line for row in rows for line in _row(row)]
        lines += _correction(rows)
    return "\n".join([*lines, *_absent(report.rows)])


def per_second(rate: float, unit: str) -> str:
    """A rate with three digits and a prefix, for instance ``512 Mbit/s``."""
    factor, prefix = next(((f, p) for f, p in _PREFIXES if rate >= f), (1.0, ""))
    return f"{_three(rate / factor)} {prefix}{unit}/s"


def _three(value: float) -> str:
    """Three digits or more."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _about(machine: Machine) -> Iterator[str]:
    load = "" if machine.load is None else f", load {machine.load:.1f}"
    tier = " ".join(word for word in (machine.backend, machine.isa) if word)
    about = f"{machine.cpu}, {machine.cores} cores{load}, {machine.system}; kernels: {tier}, loops: {machine.loops}"
    yield from textwrap.wrap(about, WIDTH)
    yield "rates per second of processor time; dB: 10 log10 of rate over goal; peers run in turns with ours"


def _row(row: Row) -> Iterator[str]:
    ends = f"{row.lower / row.rate:.2f}-{row.upper / row.rate:.2f}"
    goal = "" if row.goal is None else per_second(row.goal, row.unit)
    rate = per_second(row.rate, row.unit)
    yield f"{row.kernel:<22}{row.size:<26}{rate:>15}{ends:>12}{goal:>16}{_signed(row.decibels):>7}".rstrip()
    for peer in row.peers:
        asked = "" if peer.asked is None else f"; asked {peer.asked:g} x: {_signed(peer.decibels)} dB"
        yield f"{_INDENT}{_three(peer.ratio)} x {peer.peer} ({per_second(peer.rate, row.unit)}){asked}"
    shown = [f"{name} {value:.4g}" for name, value in row.figures.items() if value is not None]
    if shown and "f" not in row.figures:
        yield from textwrap.wrap(", ".join(shown), WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.1f}"


def _correction(rows: Iterable[Row]) -> list[str]:
    """The table of efficiencies, where rows have any."""
    found = [row for row in rows if "f" in row.figures]
    return ["", _CORRECTION_HEAD, *map(_efficiency, found)] if found else []


def _efficiency(row: Row) -> str:
    def figure(name: str, digits: int) -> str:
        value = row.figures[name]
        return "-" if value is None else f"{value:.{digits}f}"

    failed = f"{figure('failed frames', 0)} of {figure('frames', 0)}"
    traffic = (row.figures["bytes"] or 0.0) / row.amount * 1000
    return (
        f"{row.kernel:<9}{100 * (row.figures['qber'] or 0.0):>5.2f} %{figure('f', 4):>8}{figure('f goal', 2):>6}"
        f"{figure('f verified', 4):>10}{figure('over log2 C', 4):>10}{failed:>12}{figure('round trips', 0):>8}"
        f"{figure('messages', 0):>10}{traffic:>12.1f}{row.rate / 1e6:>8.1f}"
    )


def _absent(rows: Iterable[Row]) -> list[str]:
    """Peers that are not installed, each once."""
    missing = dict.fromkeys((absent.peer, absent.install) for row in rows for absent in row.absent)
    return ["", "not installed, so not compared:"] * bool(missing) + [
        f"{_INDENT}{peer}: {install}" for peer, install in missing
    ]
