"""The figure of ``qkdpp rate``: secret key rate and error rate against loss, distance or block, for print.

One colour per scenario; solid for blocks of finite length, dashed for unlimited data; published points as markers; the
scenarios' own working points as rings. Text stays text, and the same curves give the same file. Matplotlib is imported
on first use.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import InputError
from qkdpp.rate.link import IN_BLOCKS
from qkdpp.rate.sweep import Curve, Mark, Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

SUFFIXES = (".svg", ".png", ".pdf")
LEAST_BPS = 1.0
"""Lower end of the rate axis, unless all rates are small."""
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#222222")
"""Told apart with any colour vision (Okabe and Ito)."""
_MARKERS = "s^Dv*Pph8X"
_INK, _GRID = "#222222", "#dddddd"
_SHARED = "#444444"
"""Published points that belong to several scenarios, and what stands for all of them in the legend."""
_MAX_QBER = 15.0
"""Upper end of the error panel in per cent; beyond it no key is left."""
STYLE: dict[str, Any] = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "qkdpp",
    "pdf.fonttype": 42,
    "font.size": 9.0,
    "axes.edgecolor": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "grid.color": _GRID,
    "grid.linewidth": 0.5,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.5,
}
_RING: Any = {"linestyle": "none", "marker": "o", "markersize": 8.0, "markerfacecolor": "white", "zorder": 5}
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Floats = NDArray[np.float64]


def check_suffix(path: Path) -> None:
    """InputError unless the name ends as a figure's does."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: the name of a figure ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def draw(curves: Sequence[Curve], suffix: str) -> bytes:
    """The figure as the content of a file.

    Args:
        curves: at least one, all over the same variable.
        suffix: ``.svg``, ``.png`` or ``.pdf``.
    """
    return rendered(lambda figure: plot(figure, curves), suffix, size=(7.6, 4.8), style=STYLE)


def rendered(
    plotted: Callable[[Figure], None], suffix: str, *, size: tuple[float, float], style: dict[str, Any]
) -> bytes:
    """What ``plotted`` adds to an empty figure, as the content of a file.

    Args:
        plotted: draws.
        suffix: ``.svg``, ``.png`` or ``.pdf``.
        size: width and height in inches.
        style: matplotlib's parameters, those not named at their defaults.
    """
    import matplotlib as mpl  # noqa: PLC0415 - costs most of a second
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    form = suffix.lower().removeprefix(".")
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    out = io.BytesIO()
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(style)  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        plotted(figure)
        figure.savefig(out, format=form, dpi=200, metadata=dates[form])
    return out.getvalue()


def plot(figure: Figure, curves: Sequence[Curve]) -> None:
    """Adds both panels and the legend to an empty figure."""
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1.0))
    colours = dict(zip((c.name for c in curves), _colours(len(curves)), strict=True))
    for i, curve in enumerate(curves):
        hidden = any(_same(curve, other) for other in curves[i + 1 :])
        _rates(top, curve, colours[curve.name], halo=2.5 if hidden else 0.0)
        _errors(bottom, curve, colours[curve.name], halo=2.5 if hidden else 0.0)
    published = _published(top, curves, colours)
    _axes(top, bottom, curves)
    for curve in curves:
        _working_point(top, curve.working.x, curve.working.point.secret_bps, colours[curve.name])
        _working_point(bottom, curve.working.x, _error(curve, curve.working), colours[curve.name])
    names = _names(curves, colours)
    figure.legend(handles=[*names, *_styles(curves), *published], loc="outside right upper")


def _colours(n: int) -> list[str]:
    if n <= len(_COLOURS):
        return list(_COLOURS[:n])
    from matplotlib import colormaps  # noqa: PLC0415
    from matplotlib.colors import to_hex  # noqa: PLC0415

    return [to_hex(colour) for colour in colormaps["turbo"](np.linspace(0.02, 0.98, n))]


def _same(one: Curve, other: Curve) -> bool:
    """Whether a curve would be hidden below another one."""
    rates = [[(s.x, s.point.secret_bps, s.point.asymptotic_bps) for s in c.samples] for c in (one, other)]
    return len(rates[0]) == len(rates[1]) and bool(np.allclose(rates[0], rates[1], rtol=0.02))


def _rates(axes: Axes, curve: Curve, colour: str, *, halo: float) -> None:
    samples = curve.all_samples()
    ends = (curve.max_loss_db, curve.max_loss_asymptotic_db)
    finite = [s.point.secret_bps for s in samples]
    unlimited = [s.point.asymptotic_bps for s in samples]
    for rates, end, style, width in ((unlimited, ends[1], "--", 1.1), (finite, ends[0], "-", 1.7)):
        x, y = _to_its_end(curve, samples, rates, end)
        axes.plot(x, y, color=colour, linestyle=style, linewidth=width + halo)


def _working_point(axes: Axes, x: float, y: float, colour: str) -> None:
    """A ring, whole at the edge of the panel, and none outside."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    if left <= x <= right and low <= y <= high:
        axes.plot(x, y, **_RING, markeredgecolor=colour, clip_on=False)


def _to_its_end(
    curve: Curve, samples: Sequence[Sample], rates: Sequence[float], end_db: float | None
) -> tuple[Floats, Floats]:
    """The curve, NaN where there is no key, brought down to zero where the key ends within the range."""
    x = [s.x for s in samples]
    y = [rate if rate > 0 else math.nan for rate in rates]
    last = max((i for i, rate in enumerate(rates) if rate > 0), default=len(x))
    if end_db is not None and curve.variable not in IN_BLOCKS and last + 1 < len(x):
        at = max(curve.x_of_loss(end_db), x[last])
        x[last + 1 :], y[last + 1 :] = [at], [1e-12]
    elif curve.variable in IN_BLOCKS and curve.least_block is not None and math.isnan(y[0]):
        first = next(i for i, rate in enumerate(rates) if rate > 0)
        x[:first], y[:first] = [x[first]], [1e-12]
    return np.array(x), np.array(y)


def _errors(axes: Axes, curve: Curve, colour: str, *, halo: float) -> None:
    samples = curve.all_samples()
    axes.plot([s.x for s in samples], [_error(curve, s) for s in samples], color=colour, linewidth=1.3 + halo)


def _error(curve: Curve, sample: Sample) -> float:
    """Error rate in per cent; for blocks, on which it does not depend, the bound on the phase error rate."""
    return 100 * (sample.point.phase_error_upper if curve.variable in IN_BLOCKS else sample.point.qber)


def _published(axes: Axes, curves: Sequence[Curve], colours: dict[str, str]) -> list[Line2D]:
    """Published points, one marker per source; legend entries."""
    from matplotlib.lines import Line2D  # noqa: PLC0415

    owners: dict[str, set[str]] = {}
    points: dict[str, list[Mark]] = {}
    for curve in curves:
        for mark in curve.marks:
            owners.setdefault(mark.published.source, set()).add(curve.name)
            points.setdefault(mark.published.source, []).append(mark)
    entries = []
    for i, (source, marks) in enumerate(points.items()):
        own = owners[source]
        colour = colours[next(iter(own))] if len(own) == 1 else _SHARED
        style: Any = {"linestyle": "none", "marker": _MARKERS[i % len(_MARKERS)], "color": colour, "markersize": 7.0}
        style |= {"markeredgecolor": "white", "markeredgewidth": 0.6}
        axes.plot([m.x for m in marks], [m.published.secret_bps for m in marks], zorder=6, **style)
        entries.append(Line2D([], [], label=_wrapped(source), **style))
    return entries


def _names(curves: Sequence[Curve], colours: dict[str, str]) -> list[Line2D]:
    from matplotlib.lines import Line2D  # noqa: PLC0415

    return [Line2D([], [], color=colours[c.name], linewidth=2.2, label=_wrapped(c.name)) for c in curves]


def _styles(curves: Sequence[Curve]) -> list[Line2D]:
    from matplotlib.lines import Line2D  # noqa: PLC0415

    in_blocks = curves[0].variable in IN_BLOCKS
    blocks = {c.working.point.block_s for c in curves}
    length = "" if in_blocks or len(blocks) > 1 else f" of {min(blocks):.4g} s"
    where = "own block" if in_blocks else "own loss"
    return [
        Line2D([], [], color=_SHARED, label=f"finite blocks{length}"),
        Line2D([], [], color=_SHARED, linestyle="--", linewidth=1.1, label="unlimited data"),
        Line2D([], [], label=f"working point ({where})", **_RING, markeredgecolor=_SHARED),
    ]


def _wrapped(words: str) -> str:
    return textwrap.fill("".join(c if c.isprintable() else " " for c in words), 30)


def _axes(top: Axes, bottom: Axes, curves: Sequence[Curve]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter  # noqa: PLC0415

    power = FuncFormatter(lambda value, _: f"10{f'{math.log10(value):.0f}'.translate(_SUPERSCRIPT)}")
    top.set_yscale("log")
    top.set_ylim(*_rate_limits(curves))
    top.yaxis.set_major_formatter(power)
    top.yaxis.set_minor_formatter(NullFormatter())
    top.set_ylabel("secret key rate (bit/s)")
    bottom.set_ylabel("phase error\nbound (%)" if curves[0].variable in IN_BLOCKS else "QBER (%)")
    bottom.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    bottom.set_xlabel(_x_label(curves))
    if curves[0].variable in IN_BLOCKS:
        bottom.set_xscale("log")
        bottom.xaxis.set_major_formatter(power)
        bottom.xaxis.set_minor_formatter(NullFormatter())
    bottom.set_xlim(*_x_limits(curves))
    bottom.set_ylim(0.0, _error_limit(curves))


def _rate_limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Whole decades: down to 1 bit/s where a curve ends, else as far as needed; the three highest if all are small."""
    points = [s.point for c in curves for s in (*c.samples, c.working)]
    rates = [rate for point in points for rate in (point.secret_bps, point.asymptotic_bps)]
    rates += [m.published.secret_bps for c in curves for m in c.marks]
    highest, lowest = max(rates), min(rates)
    if highest <= 0:
        return LEAST_BPS, 1e3
    top = 10.0 ** math.ceil(math.log10(1.2 * highest))
    bottom = LEAST_BPS if lowest < LEAST_BPS else 10.0 ** math.floor(math.log10(lowest))
    return min(bottom, top / 1e3), top


def _x_limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """What was evaluated, without a long end in which no scenario has a key."""
    low = min(c.samples[0].x for c in curves)
    high = max(c.samples[-1].x for c in curves)
    if curves[0].variable in IN_BLOCKS:
        return low, high
    ends = [c.x_of_loss(c.max_loss_asymptotic_db) for c in curves if c.max_loss_asymptotic_db is not None]
    marks = [m.x for c in curves for m in c.marks]
    wanted = max([*ends, *marks, *(c.working.x for c in curves)])
    return low, min(high, wanted + 0.04 * (wanted - low)) if wanted > low else high


def _error_limit(curves: Sequence[Curve]) -> float:
    """Holds the error rate wherever there is a key."""
    in_blocks = curves[0].variable in IN_BLOCKS
    samples = [(c, s) for c in curves for s in c.samples]
    keyed = [_error(c, s) for c, s in samples if (s.point.secret_bps if in_blocks else s.point.asymptotic_bps) > 0]
    return min(1.15 * max(keyed, default=_MAX_QBER), _MAX_QBER)


def _x_label(curves: Sequence[Curve]) -> str:
    variable = curves[0].variable
    pairs = [c.plan.protocol == "bbm92" for c in curves]
    if variable == "block_s":
        return "duration of a block (s)"
    if variable == "block_pulses":
        what = "pairs made" if all(pairs) else "pulses sent, pairs made" if any(pairs) else "pulses sent"
        return f"size of a block ({what})"
    if variable == "distance_km":
        return _with_unit("length of fibre", "km", [("pairs", "in each arm", pairs)])
    satellites = [c.plan.channel.satellite is not None for c in curves]
    of = [("satellite", "at the closest approach", satellites), ("pairs", "in each arm", pairs)]
    return _with_unit("channel loss", "dB", of)


def _with_unit(name: str, unit: str, details: Sequence[tuple[str, str, Sequence[bool]]]) -> str:
    """A label whose details stand before the unit if they hold for all curves, after it if for some."""
    whole = "".join(f" {words}" for _, words, concerned in details if all(concerned))
    some = "".join(f"; {who}: {words}" for who, words, concerned in details if any(concerned) and not all(concerned))
    return f"{name}{whole} ({unit}{some})"
