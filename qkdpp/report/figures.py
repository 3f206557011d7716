"""The plots of a report: arrival times, pair delays, rates and errors against time, the clock.

Each function takes one part of the report (``docs/formats/report.md``) and returns an inline SVG, or None where there
is nothing to draw. Long series and fine histograms are thinned for the screen; the report keeps the numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qkdpp.report import svg
from qkdpp.report.words import DETECTORS, Json, at, entries, is_number, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

STRAIGHT_S = 1e-12
"""A clock whose offset stays this close to its line is drawn as straight: less is rounding."""
MAX_BINS, MAX_BINS_SMALL, MAX_POINTS = 400, 100, 500
CLEAR_PEAK = 5
"""A peak is clear if its highest bin has this many times the median."""
LOG_RATIO = 50
"""Counts are drawn on a log axis where the largest bin has this many times the median."""


def floats(value: Json) -> Floats:
    """A list of numbers as float64; NaN stands for null and whatever is no number."""
    return np.array([v if is_number(v) else np.nan for v in entries(value)], dtype=np.float64)


def thin(series: list[Floats], limit: int = MAX_POINTS) -> list[Floats]:
    """Equally long series cut to ``limit`` points, each the mean of its neighbours that are known."""
    n = min(s.size for s in series)
    if n <= limit:
        return [s[:n] for s in series]
    starts = np.linspace(0, n, limit, endpoint=False).astype(np.int64)
    return [_means(s[:n], starts) for s in series]


def _means(values: Floats, starts: NDArray[np.int64]) -> Floats:
    known = np.isfinite(values)
    total = np.add.reduceat(np.where(known, values, 0.0), starts)
    count = np.add.reduceat(known.astype(np.int64), starts)
    means: Floats = np.divide(total, count, out=np.full(starts.size, np.nan), where=count > 0)
    return means


def rebin(edges: Floats, counts: Floats, limit: int) -> tuple[Floats, Floats]:
    """A histogram with at most ``limit`` bins; bins are added up, those that do not fill one are left out."""
    size = min(edges.size - 1, counts.size)
    step = -(-size // limit)
    whole = size - size % step
    return edges[: whole + 1 : step], counts[:whole].reshape(-1, step).sum(axis=1)


def _histogram(edges: Json, counts: Json, limit: int) -> tuple[Floats, Floats] | None:
    edge, count = floats(edges), floats(counts)
    if edge.size < 2 or count.size < 1 or not np.isfinite(edge).all():
        return None
    return rebin(edge, np.nan_to_num(count), limit)


def _time_unit(edges: Floats) -> tuple[float, str]:
    """Divisor and name of the unit for times given in ps."""
    return (1e3, "ns") if float(np.abs(edges).max()) >= 5e3 else (1.0, "ps")


def arrival(plot: Json) -> str | None:
    """Arrival times of every detector relative to the slot's centre, with the gate."""
    found = [(n, _histogram(at(plot, "edge_ps"), at(plot, "counts", i), MAX_BINS)) for i, n in enumerate(DETECTORS)]
    curves = [(n, h) for n, h in found if h is not None]
    if not curves:
        return None
    scale, unit = _time_unit(curves[0][1][0])
    gate = at(plot, "gate_ps")

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for i, (name, (edges, counts)) in enumerate(curves):
            axes.stairs(counts, edges / scale, baseline=None, color=svg.SERIES[i], label=name)
        _count_scale(axes, [h[1] for _, h in curves])
        if is_number(gate):
            axes.axvspan(-gate / 2 / scale, gate / 2 / scale, color=svg.SHADE, label=f"gate {number(gate)} ps")
        axes.set(xlabel=f"arrival relative to the slot ({unit})", ylabel="detections per bin")
        axes.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return svg.draw("arrival", (7.2, 3.0), draw, "Histogram of arrival times per detector with the gate")


def _count_scale(axes: Axes, counts: list[Floats]) -> None:
    together = np.concatenate(counts)
    if together.max(initial=0.0) > LOG_RATIO * max(float(np.median(together)), 1.0):
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(bottom=0.7)
    else:
        axes.set_ylim(bottom=0.0)
    svg.count_axis(axes)


def pair_delays(plot: Json) -> str | None:
    """Delay histograms of the sixteen detector pairs, rows Alice, columns Bob."""
    edges = floats(at(plot, "edge_ps"))
    counts = [[np.nan_to_num(floats(at(plot, "counts", a, b))) for b in range(4)] for a in range(4)]
    whole = [c for row in counts for c in row if c.size == edges.size - 1 and c.size]
    if not whole or not np.isfinite(edges).all():
        return None
    shown = region_of_peaks(whole)
    panels = [
        [(edges[shown.start : shown.stop + 1], c[shown]) if c.size == edges.size - 1 else None for c in row]
        for row in counts
    ]
    scale, unit = _time_unit(edges[shown.start : shown.stop + 1])

    def draw(figure: Figure) -> None:
        grid = figure.subplots(4, 4, sharex=True, sharey=True)
        for a, row in enumerate(panels):
            for b, histogram in enumerate(row):
                if histogram is not None:
                    _small_panel(grid[a, b], histogram, scale, unit)
            grid[a, 0].set_ylabel(f"Alice {DETECTORS[a]}")
            grid[0, a].set_title(f"Bob {DETECTORS[a]}", color=svg.INK)
        _count_scale(grid[0, 0], [c for row in panels for _, c in filter(None, row)])
        figure.supxlabel(f"delay, Bob minus Alice ({unit})", fontsize=9)

    return svg.draw("pairs", (7.2, 5.6), draw, "Delay histograms of every pair of an Alice and a Bob detector")


def is_clear(counts: Floats) -> bool:
    """Whether a histogram has a peak worth naming."""
    return bool(counts.max() >= CLEAR_PEAK * max(float(np.median(counts)), 1.0))


def region_of_peaks(counts: list[Floats]) -> slice:
    """The bins around the peaks of equally long histograms: those of clear peaks and a margin; all if none is clear."""
    clear = [int(np.argmax(c)) for c in counts if is_clear(c)]
    if not clear:
        return slice(0, counts[0].size)
    margin = max(20, (max(clear) - min(clear)) // 4)
    return slice(max(0, min(clear) - margin), min(counts[0].size, max(clear) + margin + 1))


def _small_panel(axes: Axes, histogram: tuple[Floats, Floats], scale: float, unit: str) -> None:
    edges, counts = histogram
    fewer_edges, fewer = rebin(edges, counts, MAX_BINS_SMALL)
    axes.stairs(fewer, fewer_edges / scale, color=svg.SERIES[0], fill=True, linewidth=0)
    if is_clear(counts):
        best = int(np.argmax(counts))
        where = (edges[best] + edges[best + 1]) / 2 / scale
        text = f"{where:+.3g} {unit}"
        axes.text(0.97, 0.93, text, transform=axes.transAxes, ha="right", va="top", fontsize=7, color=svg.INK)


def coincidence(plot: Json) -> str | None:
    """The coincidence peak of all pairs after delay correction, with the window."""
    histogram = _histogram(at(plot, "coincidence", "edge_ps"), at(plot, "coincidence", "counts"), MAX_BINS)
    if histogram is None:
        return None
    edges, counts = histogram
    scale, unit = _time_unit(edges)
    window = at(plot, "window_ps")

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.stairs(counts, edges / scale, baseline=None, color=svg.SERIES[0], label="coincidences")
        _count_scale(axes, [counts])
        if is_number(window):
            axes.axvspan(-window / 2 / scale, window / 2 / scale, color=svg.SHADE, label=f"window {number(window)} ps")
        axes.set(xlabel=f"delay after correction ({unit})", ylabel="pairs per bin")
        axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return svg.draw("coincidence", (7.2, 2.6), draw, "Coincidence peak after delay correction with the window")


def series(plot: Json) -> str | None:
    """Rates and error rate against time, one panel each."""
    names = ("time_s", "detections_per_s", "sifted_per_s", "qber")
    columns = [floats(at(plot, name)) for name in names]
    if columns[0].size < 2 or not np.isfinite(columns[0]).all():
        return None
    n = columns[0].size
    filled = [c if c.size == n else np.full(n, np.nan) for c in columns]
    time, detections, sifted, qber = thin(filled)

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True)
        _curve(top, time, detections, svg.SERIES[0], "detections")
        _curve(top, time, sifted, svg.SERIES[2], "sifted bits")
        _from_zero(top, "rate (1/s)", detections, sifted)
        svg.count_axis(top)
        if top.get_legend_handles_labels()[0]:
            top.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        _curve(bottom, time, 100 * qber, svg.SERIES[1], "QBER")
        _from_zero(bottom, "QBER (%)", 100 * qber)
        bottom.set_xlabel("time (s)")

    return svg.draw("series", (7.2, 3.8), draw, "Detection rate, sifted rate and QBER against time")


def _from_zero(axes: Axes, name: str, *curves: Floats) -> None:
    largest = max((float(c[np.isfinite(c)].max(initial=0.0)) for c in curves), default=0.0)
    axes.set(ylabel=name, ylim=(0.0, 1.1 * largest if largest > 0 else 1.0))


def _curve(axes: Axes, x: Floats, y: Floats, colour: str, name: str) -> None:
    known = np.isfinite(y)
    if known.any():
        axes.plot(x[known], y[known], color=colour, label=name, marker="." if known.sum() <= 60 else None)


def clock(part: Json) -> str | None:
    """Clock offset without its straight line, and relative rate, against time."""
    time = floats(at(part, "time_s"))
    offset, rate = floats(at(part, "offset_s")), floats(at(part, "rate_ppm"))
    if time.size < 3 or offset.size != time.size or not np.isfinite(time).all():
        return None
    rate = rate if rate.size == time.size else np.full(time.size, np.nan)
    time, rest, rate = thin([time, _detrended(time, offset), rate])
    scale, unit = _offset_unit(rest)

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True)
        _curve(top, time, rest * scale, svg.SERIES[3], "offset")
        top.set(ylabel=f"offset less\nits line ({unit})")
        if float(np.nanmax(np.abs(rest), initial=0.0)) < STRAIGHT_S:
            top.set_ylim(-1.0, 1.0)
        _curve(bottom, time, rate, svg.SERIES[0], "rate")
        bottom.set(ylabel="rate (ppm)", xlabel="time (s)")
        for axes in (top, bottom):
            axes.ticklabel_format(axis="y", useOffset=False)

    return svg.draw("clock", (7.2, 3.4), draw, "Clock offset without its straight line and relative rate against time")


def _offset_unit(rest_s: Floats) -> tuple[float, str]:
    largest = float(np.nanmax(np.abs(rest_s))) if np.isfinite(rest_s).any() else 0.0
    return next(
        (s, u) for limit, s, u in ((5e-9, 1e12, "ps"), (5e-6, 1e9, "ns"), (np.inf, 1e6, "µs")) if largest < limit
    )


def _detrended(time: Floats, offset: Floats) -> Floats:
    """Offsets less their least-squares straight line."""
    known = np.isfinite(offset)
    if not known.any():
        return offset
    t, d = time - time[known].mean(), offset - offset[known].mean()
    spread = float((t[known] ** 2).sum())
    slope = float((t[known] * d[known]).sum()) / spread if spread > 0 else 0.0
    result: Floats = d - slope * t
    return result
