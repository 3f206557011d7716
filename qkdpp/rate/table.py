"""Rates as plain text, for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from qkdpp.rate.link import IN_BLOCKS, Fibre, Variable
from qkdpp.rate.results import COMMON, no_key, notes
from qkdpp.rate.sweep import MAX_LOSS_DB, Curve, Sample
from qkdpp.report.words import number

MAX_ROWS = 25
WIDTH = 100
_FIRST_COLUMN: dict[Variable, tuple[str, str]] = {
    "loss_db": ("loss", "dB"),
    "distance_km": ("distance", "km"),
    "block_pulses": ("block", "pulses"),
    "block_s": ("block", "s"),
}
_COLUMNS = (("sifted", "bit/s"), ("QBER", "%"), ("phase error", "% at most"), ("key", "bit/s"), ("unlimited", "bit/s"))


def page(curves: Sequence[Curve]) -> str:
    """All scenarios, and what their figures rest on."""
    common = [line for words in COMMON for line in textwrap.wrap(words, WIDTH, subsequent_indent="  ")]
    return "\n\n".join([*(text(curve) for curve in curves), "\n".join(common)])


def text(curve: Curve) -> str:
    """The table of one scenario, its working point, where its key ends, and what is special about it."""
    lines = textwrap.wrap(f"{curve.name}: {_printable(curve.plan.title)}", WIDTH)
    lines += [*textwrap.wrap(_method(curve), WIDTH, initial_indent="  ", subsequent_indent="  "), ""]
    lines += _table(curve)
    lines += ["", *(f"  {name:<14}{words}" for name, words in _summary(curve))]
    for note in notes(curve):
        lines += textwrap.wrap(note, WIDTH, initial_indent="  note          ", subsequent_indent=" " * 16)
    return "\n".join(lines)


def _printable(words: str) -> str:
    return "".join(c if c.isprintable() else " " for c in words)


def _method(curve: Curve) -> str:
    length, security = curve.working.point.lengths[0], curve.security
    return f"{length.formula}; rule {security.rule}, f {curve.plan.rate.f_ec:g}, eps_sec {security.eps_sec:g}"


def _table(curve: Curve) -> list[str]:
    """At most ``MAX_ROWS`` rows; what gives no key even with unlimited data at the end is one line."""
    samples = list(curve.samples)
    shown = samples[: _last_key(samples) + 2]
    step = -(-len(shown) // MAX_ROWS)
    rows = [_cells(curve.variable, s) for s in shown[::step]]
    heads = list(zip(_FIRST_COLUMN[curve.variable], *_COLUMNS, strict=True))
    widths = [max(len(cell) for cell in column) for column in zip(*heads, *rows, strict=True)]
    lines = ["  " + "  ".join(f"{c:>{w}}" for c, w in zip(row, widths, strict=True)) for row in (*heads, *rows)]
    unit = _FIRST_COLUMN[curve.variable][1]
    if step > 1:
        lines.append(f"  every {_ordinal(step)} point of {len(shown)}: --json and --plot have all")
    if len(shown) < len(samples):
        lines.append(f"  no key from {samples[len(shown)].x:.5g} to {samples[-1].x:.5g} {unit}")
    return lines


def _ordinal(n: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(n, f"{n}th")


def _last_key(samples: list[Sample]) -> int:
    """Index of the last sample with any key; -1 if there is none."""
    return max((i for i, s in enumerate(samples) if max(s.point.secret_bps, s.point.asymptotic_bps) > 0), default=-1)


def _cells(variable: Variable, sample: Sample) -> tuple[str, ...]:
    point = sample.point
    return (
        f"{sample.x:.3g}" if variable in IN_BLOCKS else f"{sample.x:g}",
        _rate(point.sifted_bits / point.block_s),
        f"{100 * point.qber:.2f}",
        f"{100 * point.phase_error_upper:.2f}" if point.phase_error_upper < 0.5 else "-",
        _rate(point.secret_bps),
        _rate(point.asymptotic_bps),
    )


def _rate(value: float) -> str:
    """Four digits that line up; a dash for none."""
    return "-" if value <= 0 else f"{value:,.0f}" if value >= 1e3 else f"{value:#.4g}"


def _summary(curve: Curve) -> list[tuple[str, str]]:
    point = curve.working.point
    block = f"block of {point.block_s:.4g} s, {point.pulses:.4g} {'pairs' if curve.plan.pairs else 'pulses'}"
    key = no_key(curve) or (
        f"{number(point.secret_bits)} secret bits a block, {_rate(point.secret_bps)} bit/s "
        f"(unlimited data {_rate(point.asymptotic_bps)} bit/s)"
    )
    rows = [
        (f"at {point.loss_db:g} dB", block),
        ("", f"{_rate(point.sifted_bits / point.block_s)} sifted bit/s, QBER {100 * point.qber:.2f} %"),
        ("", key),
        ("", ", ".join(f"{number(bits)} charged by {rule}" for rule, bits in curve.secret_bits_by_rule.items())),
        ("failure", _failure(curve)),
        ("key up to", _ends(curve)),
    ]
    if curve.least_block is not None:
        rows.append(("key from", f"blocks of {curve.least_block:.3g} {_FIRST_COLUMN[curve.variable][1]} on"))
    return rows


def _failure(curve: Curve) -> str:
    hops = curve.plan.rate.hops
    chain = "" if hops == 1 else f" over {hops} hops"
    eps, year = curve.security.eps_total, curve.working.point.eps_year
    return f"at most {eps:.4g} a block; {year:.2g} in a year of uninterrupted blocks{chain}"


def _ends(curve: Curve) -> str:
    blocks = _end(curve, curve.max_loss_db)
    return f"{blocks} with such blocks, {_end(curve, curve.max_loss_asymptotic_db)} with unlimited data"


def _end(curve: Curve, loss_db: float | None) -> str:
    if loss_db is None:
        return "no loss"
    if loss_db >= MAX_LOSS_DB:
        return f"more than {MAX_LOSS_DB:g} dB"
    km = f" ({Fibre.of(curve.plan).distance_km(loss_db):.1f} km)" if curve.variable == "distance_km" else ""
    return f"{loss_db:.2f} dB{km}"
