"""Figure of error correction: efficiency and speed against the error rate. Matplotlib is imported on first use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qkdpp.bench.report import Report
from qkdpp.bench.runner import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = list[tuple[float, float]]
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
    points = [(_percent(row), f) for row in rows if (f := row.figures["f"]) is not None]
    goals = [(_percent(row), goal) for row in rows if (goal := row.figures["f goal"]) is not None]
    _draw(axes, method, points, goals)


def _draw_speed(axes: Axes, method: str, rows: list[Row]) -> None:
    points = [(_percent(row), row.rate / 1e6) for row in rows]
    goals = [(_percent(row), row.goal / 1e6) for row in rows if row.goal is not None]
    _draw(axes, method, points, goals)
    axes.fill_between(
        [x for x, _ in points],
        [row.lower / 1e6 for row in rows],
        [row.upper / 1e6 for row in rows],
        color=_LOOKS[method][0],
        alpha=0.15,
        linewidth=0,
    )


def _draw(axes: Axes, method: str, points: Points, goals: Points) -> None:
    """A line through the points, hollow marks at the goals."""
    colour, marker = _LOOKS[method]
    axes.plot([x for x, _ in points], [y for _, y in points], color=colour, marker=marker, markersize=4, label=method)
    axes.plot(
        [x for x, _ in goals],
        [y for _, y in goals],
        marker=marker,
        markersize=8,
        color=colour,
        fillstyle="none",
        linestyle="none",
        label=f"{method}, goal",
    )


def _finish(leak: Axes, speed: Axes) -> None:
    leak.axhline(1.0, color="#000000", linewidth=0.8)
    leak.set(title="Leak over the Shannon limit", xlabel="error rate (%)", ylabel="f")
    speed.set(title="Both parties on one core", xlabel="error rate (%)", ylabel="Mbit/s", yscale="log")
    speed.yaxis.set_major_formatter("{x:g}")
    speed.yaxis.set_minor_formatter("{x:g}")
    speed.tick_params(axis="y", which="minor", labelsize=7)
    for axes in (leak, speed):
        axes.set_xlim(left=0)
        axes.legend()
