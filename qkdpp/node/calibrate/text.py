"""Results of the loops in words: a table each."""

from __future__ import annotations

from collections.abc import Sequence

from qkdpp.node.calibrate.delay_scan import DelayScan
from qkdpp.node.calibrate.polarisation import NAMES, PolarisationFeedback
from qkdpp.node.calibrate.synchronisation import Synchronisation

DETECTORS = ("Z0", "Z1", "X0", "X1")


def describe(found: DelayScan | PolarisationFeedback | Synchronisation) -> list[str]:
    """Lines with a heading, for a terminal."""
    if isinstance(found, DelayScan):
        return _delays(found)
    return _polarisation(found) if isinstance(found, PolarisationFeedback) else _synchronisation(found)


def _table(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return [title, *(f"  {line}" for line in lines)]


def _state(*, ok: bool) -> str:
    return "ok" if ok else "FAILED"


def _delays(found: DelayScan) -> list[str]:
    rows = [["detector", "before (ps)", "after (ps)", "most counts", "fewest", ""]]
    for d, name in enumerate(DETECTORS):
        counts = found.counts[d]
        ends = [f"{ps:.1f}" for ps in (found.before_ps[d], found.best_ps[d])]
        rows.append([name, *ends, f"{counts.max():,}", f"{counts.min():,}", _state(ok=d not in found.failed)])
    return _table("delay scan", rows)


def _polarisation(found: PolarisationFeedback) -> list[str]:
    rows = [["basis", "extinction before", "after", "and", "tries", ""]]
    for basis, name in enumerate(NAMES):
        left, tries = found.left(basis), [one for one in found.tries if one.basis == basis]
        ratios = [f"{ratio:.1f}" for ratio in (tries[0].before, *left.extinctions)]
        rows.append([name, *ratios, str(len(tries)), _state(ok=left.ok)])
    dark = ", ".join(f"{name} {hz:.0f}" for name, hz in zip(DETECTORS, found.dark_hz, strict=True))
    return [*_table("polarisation feedback", rows), f"  dark counts per second: {dark}"]


def _synchronisation(found: Synchronisation) -> list[str]:
    rows = [["detector", "after the sync pulse (ps)", ""]]
    for d, name in enumerate(DETECTORS):
        rows.append([name, f"{found.correction_ps(d):.0f}", _state(ok=d not in found.failed)])
    return _table("synchronisation calibration", rows)
