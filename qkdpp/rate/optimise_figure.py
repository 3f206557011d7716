"""The figure of ``qkdpp optimise``: what each parameter costs when it is off, and rates against block or loss.

Matplotlib is imported on first use.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from qkdpp.rate.blocks import Blocks
from qkdpp.rate.figures import STYLE, rendered
from qkdpp.rate.optimise_report import Found, rate, seconds
from qkdpp.rate.parameters import UNITS
from qkdpp.rate.sensitivity import MARKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart with any colour vision (Okabe and Ito)."""
_STYLE = STYLE | {
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "xtick.top": False,
    "ytick.right": False,
}


def draw(found: Found, suffix: str) -> bytes:
    """The figure as the content of a file (``.svg``, ``.png`` or ``.pdf``)."""
    panels = [_draw_losses] if found.losses else [_draw_bars, _draw_curves, _draw_blocks]
    panels = panels if found.blocks is not None or found.losses else panels[:2]
    width = 2.0 + 4.4 * len(panels)

    def plotted(figure: Figure) -> None:
        figure.suptitle("\n".join([*textwrap.wrap(found.title, int(11 * width)), _task(found)]), fontsize=10.0)
        for i, panel in enumerate(panels):
            panel(figure.add_subplot(1, len(panels), i + 1), found)

    return rendered(plotted, suffix, size=(width, 4.6), style=_STYLE)


def _task(found: Found) -> str:
    kind = "unlimited data" if found.unlimited else f"blocks of {seconds(found.block_s)}"
    if found.best is None:
        return kind
    return f"optimised for {found.best.loss_db:g} dB, {kind}: {rate(found.best.after_bps)} secret bits/s"


def _draw_bars(axes: Axes, found: Found) -> None:
    """Costs of a deviation of 10 % either way."""
    names = [f"{cost.varied}\n{cost.value:.4g} {UNITS.get(cost.name, '')}".rstrip() for cost in found.costs]
    places = range(len(names))
    for mark, shift, colour in zip(MARKS, (-0.19, 0.19), _COLOURS, strict=False):
        lost = [max(100 * cost.at(mark), 0.0) for cost in found.costs]
        bars = axes.barh([p + shift for p in places], lost, 0.36, color=colour, label=f"{100 * mark:+.0f} %")
        axes.bar_label(bars, [f"{value:.2f}" for value in lost], padding=3, fontsize=7.5)
    axes.set_yticks(list(places), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.15)
    axes.set(xlabel="secret bits lost (%)", title="One parameter 10 % off")
    axes.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.12))


def _draw_curves(axes: Axes, found: Found) -> None:
    """Costs of deviations up to 30 %."""
    markers = "os^vDP*"
    for i, cost in enumerate(found.costs):
        x = [100 * d for d in cost.deviations]
        y = [100 * lost for lost in cost.lost]
        at_marks = [cost.deviations.index(mark) for mark in MARKS]
        style = {"color": _COLOURS[i % 7], "marker": markers[i % 7], "markersize": 4.5}
        axes.plot(x, y, markevery=at_marks, label=cost.varied, **style)  # type: ignore[arg-type]
    for mark in MARKS:
        axes.axvline(100 * mark, color="#999999", linewidth=0.8, linestyle=":")
    axes.set(xlabel="deviation of the parameter (%)", ylabel="secret bits lost (%)", title="One parameter off")
    axes.set_ylim(bottom=min(-0.02 * axes.get_ylim()[1], 0.0), top=min(axes.get_ylim()[1], 100.0))
    axes.legend(loc="upper center", fontsize=8.0)


def _draw_blocks(axes: Axes, found: Found) -> None:
    """Rate against duration of a block: parameters chosen for each, and those of one block held."""
    blocks = found.blocks
    assert isinstance(blocks, Blocks)
    assert found.best is not None
    marked = [(r.block_s, r.share * blocks.held_bps, f"{r.share:.0%}") for r in blocks.reached if r.block_s is not None]
    held = sorted([(found.block_s, found.best.after_bps, ""), *marked])
    each = [(p.block_s, p.secret_bps) for p in blocks.points]
    name = f"optimum for {seconds(found.block_s)} held, shares of its limit"
    for points, limit_bps, colour, marker, label_ in (
        (each, blocks.limit_bps, _COLOURS[0], "o", "optimised for each block"),
        ([(block_s, bps) for block_s, bps, _ in held], blocks.held_bps, _COLOURS[1], "s", name),
    ):
        axes.semilogx(*zip(*points, strict=True), color=colour, marker=marker, markersize=4.5, label=label_)
        axes.axhline(limit_bps, color=colour, linestyle="--", linewidth=1.0)
        note = f"{rate(limit_bps)} with unlimited data"
        axes.annotate(
            note, (min(each[0][0], held[0][0]), limit_bps), textcoords="offset points", xytext=(0, 3), fontsize=7.5
        )
    for block_s, bps, note in held:
        axes.annotate(note, (block_s, bps), textcoords="offset points", xytext=(4, -11), fontsize=7.5)
    axes.axvline(found.block_s, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_ylim(bottom=0.0, top=1.12 * max(blocks.limit_bps, blocks.held_bps))
    axes.set(xlabel="duration of a block (s)", ylabel="secret bits per second", title="Size of block")
    _plain_ticks(axes)
    axes.legend(loc="lower right", fontsize=8.0)


def _draw_losses(axes: Axes, found: Found) -> None:
    """Rates over a range of losses."""
    from matplotlib.ticker import LogLocator  # noqa: PLC0415

    x = [row.loss_db for row in found.losses]
    curves = (
        ("scenario's parameters", [row.scenario_bps for row in found.losses], "o", "-"),
        ("one set for all losses", [row.one_set_bps for row in found.losses], "s", "--"),
        ("optimised at each loss", [row.optimised_bps for row in found.losses], "^", "-"),
    )
    for (name, y, marker, line), colour in zip(curves, _COLOURS[1::-1] + _COLOURS[2:3], strict=True):
        shown = [value if value > 0 else float("nan") for value in y]
        axes.semilogy(x, shown, line, color=colour, marker=marker, markersize=4.5, label=name)
    axes.set(xlabel="loss of the channel (dB)", ylabel="secret bits per second")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    _plain_ticks(axes)
    axes.legend(loc="best")


def _plain_ticks(axes: Axes) -> None:
    """Rates with k and M; durations and losses as plain numbers; no numbers at minor ticks."""
    from matplotlib.ticker import EngFormatter, NullFormatter, StrMethodFormatter  # noqa: PLC0415

    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
