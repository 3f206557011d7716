"""Small pieces of HTML; whatever is not markup made here is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from qkdpp.report.words import value_text


class Markup(str):
    """HTML that is finished and must not be escaped again."""

    __slots__ = ()


def safe(value: object) -> str:
    """``value`` as HTML: markup as it is, everything else as escaped text."""
    return value if isinstance(value, Markup) else html.escape(value_text(value), quote=True)


def join(parts: Iterable[object]) -> Markup:
    """The parts one after the other; None is left out."""
    return Markup("".join(safe(part) for part in parts if part is not None))


def element(name: str, *content: object, kind: str | None = None) -> Markup:
    """An element with an optional CSS class."""
    attribute = f' class="{kind}"' if kind else ""
    return Markup(f"<{name}{attribute}>{join(content)}</{name}>")


def section(title: str, *content: object) -> Markup | None:
    """A section, or None where all content is None."""
    parts = [part for part in content if part is not None]
    return element("section", element("h2", title), *parts) if parts else None


def listing(items: Sequence[object]) -> Markup | None:
    """A bullet list, or None if it is empty."""
    return element("ul", *(element("li", item) for item in items)) if items else None


def table(head: Sequence[str], rows: Sequence[Sequence[object]], numeric: Sequence[int] = ()) -> Markup | None:
    """A table, columns in ``numeric`` to the right; None if there are no rows."""
    if not rows:
        return None

    def line(cells: Sequence[object], tag: str) -> Markup:
        return element("tr", *(element(tag, c, kind="n" if i in numeric else None) for i, c in enumerate(cells)))

    body = element("table", element("thead", line(head, "th")), element("tbody", *(line(row, "td") for row in rows)))
    return element("div", body, kind="scroll")


def facts(rows: Sequence[tuple[str, object]]) -> Markup | None:
    """A table of names and values; None if there are no rows."""
    if not rows:
        return None
    lines = (element("tr", element("th", name), element("td", value)) for name, value in rows)
    return element("table", element("tbody", *lines), kind="facts")


def figure(svg: str | None, caption: str) -> Markup | None:
    """A plot with its caption, or None without a plot."""
    return None if svg is None else element("figure", Markup(svg), element("figcaption", caption))


def details(title: str, *content: object) -> Markup | None:
    """Content that is folded away, or None where all of it is None."""
    parts = [part for part in content if part is not None]
    return element("details", element("summary", title), *parts) if parts else None
