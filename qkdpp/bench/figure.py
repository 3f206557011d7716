"""Figure of error correction: efficiency and speed against the error rate. Matplotlib is imported on first use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qkdpp.bench.report import Report
from qkdpp.bench.runner import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".svg", ".png", ".pdf")
_LOOKS = {"cascade": ("#0072b2", "o"), "hamming": ("#d55e00", "s")}
"""Told apart with any colour vision and in grey."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "qkdpp",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}


def write(report: Report, path: Path) -> None:
    """Draws the rows of error correction into a new .svg, .png or .pdf file."""
    import matplotlib as mpl  # noqa: PLC0415 - costs most of a second
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(9.0, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        leak, speed = figure.subplots(1, 2)
        for method in _LOOKS:
            rows = sorted((r for r in report.rows if r.kernel == method), key=_percent)
            if rows:
                _draw_leak(leak, method, rows)
                _draw_speed(speed, method, rows)
        _finish(leak, speed)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _percent(row: Row) -> float:
    return 100 * (row.figures["qber"] or 0.0)


def _draw_leak(axes: Axes, method: str, rows: list[Row]) -> None:
    colour, marker = _LOOKS[method]
    for name, style, label in (("f", "-", method), ("f verified", ":", f"{method}, with verification")):
        points = [(_percent(row), f) for row in rows if (f := row.figures[name]) is not None]
        axes.plot(*zip(*points, strict=True), style, color=colour, marker=marker, markersize=4, label=label)


def _draw_speed(axes: Axes, method: str, rows: list[Row]) -> None:
    colour, marker = _LOOKS[method]
    percents = [_percent(row) for row in rows]
    axes.plot(percents, [row.rate / 1e6 for row in rows], color=colour, marker=marker, markersize=4, label=method)
    axes.fill_between(
        percents,
        [r.lower / 1e6 for r in rows],
        [r.upper / 1e6 for r in rows],
        color=colour,
        alpha=0.15,
        linewidth=0,
    )
    goals = [(percent, row.goal / 1e6) for percent, row in zip(percents, rows, strict=True) if row.goal is not None]
    for x, y in goals:
        axes.plot([x], [y], marker=marker, markersize=7, color=colour, fillstyle="none", linestyle="none")


def _finish(leak: Axes, speed: Axes) -> None:
    leak.axhline(1.0, color="#000000", linewidth=0.8)
    leak.set(title="Leak over the Shannon limit", xlabel="error rate (%)", ylabel="f")
    speed.set(title="Both parties on one core", xlabel="error rate (%)", ylabel="Mbit/s", yscale="log")
    speed.plot([], [], marker="o", markersize=7, color="#000000", fillstyle="none", linestyle="none", label="goal")
    for axes in (leak, speed):
        axes.set_xlim(left=0)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
