"""Figures of the calibration loops; matplotlib is imported when one is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qkdpp.node.calibrate.delay_scan import DelayScan
from qkdpp.node.calibrate.polarisation import NAMES, PolarisationFeedback
from qkdpp.node.calibrate.synchronisation import Synchronisation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DETECTORS = ("Z0 (H)", "Z1 (V)", "X0 (D)", "X1 (A)")


def _save(path: Path, draw: tuple[str, str], lines: list[tuple[str, object, object]], *, log: bool, title: str) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes: Axes = figure.subplots()
    for label, x, y in lines:
        axes.plot(np.asarray(x), np.asarray(y), label=label, linewidth=1.2)
    axes.set_xlabel(draw[0])
    axes.set_ylabel(draw[1])
    axes.set_title(title)
    if log:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def plot_delay_scan(result: DelayScan, path: Path) -> None:
    """Counts against gate delay, a line per detector."""
    lines = [
        (f"{name}: {best:.1f} ps", delay, counts)
        for name, best, delay, counts in zip(DETECTORS, result.best_ps, result.delay_ps, result.counts, strict=True)
    ]
    _save(path, ("gate delay (ps)", "counts"), list(lines), log=False, title="Delay scan")


def plot_polarisation(result: PolarisationFeedback, path: Path) -> None:
    """Share of wrong counts while the retarders move, a line per try."""
    lines = [
        (f"{NAMES[one.basis]}, try {i + 1}", np.arange(len(one.history)), np.maximum(one.history, 1e-5))
        for i, one in enumerate(result.tries)
    ]
    _save(path, ("count", "share of wrong counts"), list(lines), log=True, title="Polarisation feedback")


def plot_synchronisation(result: Synchronisation, path: Path, *, around_ps: float = 2000.0) -> None:
    """Clicks around the peak against their distance from the sync pulse, a line per detector."""
    middle = np.arange(result.histogram.shape[1]) * result.bin_ps + result.bin_ps / 2
    lines = []
    for name, delay, row in zip(DETECTORS, result.delay_ps, result.histogram, strict=True):
        near = np.abs(middle - delay) <= around_ps
        lines.append((f"{name}: {delay:.0f} ps", middle[near], row[near]))
    axes = ("after the sync pulse (ps)", f"clicks in {result.bin_ps:g} ps")
    _save(path, axes, list(lines), log=False, title="Synchronisation calibration")
