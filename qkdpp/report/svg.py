"""Matplotlib figures as inline SVG that follows the page's light or dark theme.

Figures are drawn with the object-oriented API and stand-in colours; each stand-in becomes a CSS variable of the page.
Text stays text. Every id is prefixed, so several figures can stand in one document, and the output depends on the
figure alone (no date, no random ids). Matplotlib is imported on first use.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, SHADE = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#110101", "#110102", "#110103", "#110104")
"""Colours of the detectors Z0, Z1, X0, X1, and of unrelated curves in this order."""
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    SHADE: "var(--shade)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(SERIES)},
}
_STYLE: Any = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "qkdpp",
    "font.size": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
}


def draw(name: str, size: tuple[float, float], plot: Callable[[Figure], None], description: str) -> str:
    """The figure that ``plot`` draws, as an ``<svg>`` element.

    Args:
        name: prefix of the ids, one per figure of a page (letters, digits, hyphens).
        size: width and height in inches at 72 points each; the page scales it.
        plot: adds axes to an empty figure.
        description: what a reader who does not see it should know.
    """
    import matplotlib as mpl  # noqa: PLC0415 - costs most of a second
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        plot(figure)
        out = io.StringIO()
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(out, format="svg", transparent=True, metadata=metadata)
    return _inline(out.getvalue(), name, description)


def _inline(svg: str, name: str, description: str) -> str:
    body = svg[svg.index("<svg") :]
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r'href="#', f'href="#{name}-', body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, variable)
    label = html.escape(description, quote=True)
    return body.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def count_axis(axes: Axes) -> None:
    """Ticks of counts on the y axis, with k, M and G in place of zeros."""
    from matplotlib.ticker import EngFormatter, NullFormatter  # noqa: PLC0415

    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_minor_formatter(NullFormatter())
