"""One run as one self-contained page: what came out, what may be claimed, and where everything went.

Pure function of the report (``docs/formats/report.md``), any part of which may be null: a part that is missing is
left out, a single value that is missing reads as a dash. The page loads nothing, runs no script, and follows the
reader's light or dark theme.
"""

from __future__ import annotations

import html
import math
from importlib import resources

from qkdpp.report import figures
from qkdpp.report import page_details as parts
from qkdpp.report.markup import Markup, element, facts, figure, join, listing, section, table
from qkdpp.report.words import (
    DETECTORS,
    PARTIES,
    Json,
    Report,
    at,
    claim_words,
    entries,
    headline,
    is_number,
    key_made,
    label,
    number,
    pairs,
    percent,
    protocol_text,
    ratio,
    seconds,
    throw_away_pool,
    value_text,
    with_unit,
)


def render(report: Report) -> str:
    """The page as text (UTF-8 when written)."""
    body = join(
        [
            _header(report),
            section("From tags to key", _waterfall(at(report, "plots", "waterfall"))),
            _errors(report),
            _timing(report),
            parts.key_length(report),
            parts.conditions(report),
            parts.disclosure(report),
            parts.health(report),
            parts.stages(report),
            parts.versions(report),
        ]
    )
    style = resources.files("qkdpp.report").joinpath("style.css").read_text(encoding="utf-8")
    title = html.escape(f"{headline(report)} - {_run_name(report)}")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def _run_name(report: Report) -> str:
    return str(at(report, "run", "name") or "run")


# --- the result ------------------------------------------------------------------------------------------------------


def _header(report: Report) -> Markup:
    made = key_made(report)
    return element(
        "header",
        element("h1", _run_name(report)),
        element("p", f"{protocol_text(report)}, {_interval(report)}", kind="muted"),
        element("p", headline(report), kind="result" if made else "result none"),
        _cards(report),
        _abort(report),
        _failed(report),
        _remarks(report),
    )


def _interval(report: Report) -> str:
    run = at(report, "run")
    text = f"{seconds(at(run, 'duration_s'))} of recording"
    if is_number(at(run, "from_s")) and is_number(at(run, "to_s")):
        text += f", from {seconds(at(run, 'from_s'))} to {seconds(at(run, 'to_s'))}"
    return text


def _cards(report: Report) -> Markup:
    secret, duration = report.get("secret_bits"), at(report, "run", "duration_s")
    level, (claim, meaning) = at(report, "claim", "level"), claim_words(report)
    colour = {"composable": "good", "estimate": "warn"}.get(str(level), "bad")
    cells = [
        (with_unit(ratio(secret, duration), "bit/s"), "secret bits per second of recording", None),
        (number(report.get("net_secret_bits")), "net bits, after the authentication key spent", None),
        (percent(at(report, "qber", "total")), "QBER", None),
        (claim, f"claim: {meaning}", colour),
    ]
    return element(
        "div",
        *(
            element("div", element("b", value, kind=kind), element("span", text), kind="card")
            for value, text, kind in cells
        ),
        kind="cards",
    )


def _abort(report: Report) -> Markup | None:
    if at(report, "abort", "reason") is None:
        return None
    rows = [(label(name), value) for name, value in pairs(at(report, "abort", "evidence"))]
    reason = element("p", "Reason: ", element("code", at(report, "abort", "reason")))
    return element("div", reason, facts(rows), kind="note alarm")


def _failed(report: Report) -> Markup | None:
    items = [_precondition(item) for item in entries(at(report, "claim", "failed"))]
    if not items:
        return None
    return element(
        "div",
        element("p", "No composable claim, because these preconditions of the proof are not met:"),
        listing(items),
        kind="note",
    )


def _precondition(item: Json) -> Markup:
    value, threshold = at(item, "value"), at(item, "threshold")
    numbers = ["not declared"] if at(item, "kind") == "declared" else []
    if value is not None:
        numbers.append(f"found {number(value)}")
    if threshold is not None:
        numbers.append(f"threshold {number(threshold)}")
    text = f": {at(item, 'explanation') or 'does not hold'}"
    return join([element("b", label(at(item, "name"))), text, f" ({', '.join(numbers)})" if numbers else None])


def _remarks(report: Report) -> Markup | None:
    remarks = []
    if throw_away_pool(report):
        remarks.append(
            "Authentication used a throw-away pool made for this run: right for working on recordings, "
            "no protection on a real link."
        )
    if report.get("rule_note") is not None:
        remarks.append(f"Accounting: {value_text(report.get('rule_note'))}.")
    if at(report, "ledger_recount", "agrees") is False:
        remarks.append("The recount of the transcript does not agree with the ledger of disclosed bits.")
    return None if not remarks else element("div", *(element("p", r) for r in remarks), kind="note")


# --- from tags to key ------------------------------------------------------------------------------------------------


def _waterfall(steps: Json) -> Markup | None:
    known = [(label(at(s, "name")), at(s, "count")) for s in entries(steps) if is_number(at(s, "count"))]
    if not known:
        return None
    largest = max(math.log10(max(count, 1)) for _, count in known) or 1.0
    cells: list[Markup] = []
    before = first = None
    for name, count in known:
        width = 100 * math.log10(max(count, 1)) / largest
        bar = Markup(f'<div class="bar" style="width:{width:.1f}%"></div>')
        cells += [element("div", name), element("div", bar), element("div", _step_text(count, before, first))]
        before, first = count, first if first is not None else count
    note = element("p", "Bars are logarithmic. Percentages: of the step before, of the first step.", kind="muted")
    return join([element("div", *cells, kind="flow"), note])


def _step_text(count: Json, before: Json, first: Json) -> str:
    if before is None:
        return number(count)
    return f"{number(count)} ({percent(ratio(count, before))}, {percent(ratio(count, first))})"


# --- errors ----------------------------------------------------------------------------------------------------------


def _errors(report: Report) -> Markup | None:
    return section(
        "Errors",
        _by_basis(report),
        _matrix(report.get("matrix")),
        _by_intensity(report),
        figure(figures.series(at(report, "plots", "series")), "Rates and QBER against time."),
    )


def _by_basis(report: Report) -> Markup | None:
    values = pairs(at(report, "qber", "by_basis"))
    if not values:
        return None
    cells = [f"QBER {percent(at(report, 'qber', 'total'))} in all"] + [f"{percent(v)} in {name}" for name, v in values]
    return element("p", ", ".join(cells))


def _matrix(matrix: Json) -> Markup | None:
    rows = [[at(matrix, a, b) for b in range(4)] for a in range(4)]
    counts = [c for row in rows for c in row if is_number(c)]
    if not counts:
        return None
    top = max(*counts, 1)
    head = element("tr", element("th"), *(element("th", f"Bob {name}") for name in DETECTORS))
    lines = []
    for name, row in zip(DETECTORS, rows, strict=True):
        total = sum(c for c in row if is_number(c))
        lines.append(element("tr", element("th", f"Alice {name}"), *(_heat(c, total, top) for c in row)))
    caption = "Detections by Alice's state and Bob's detector; the small figure is the share of the row."
    heat = element("div", element("table", head, *lines, kind="heat"), kind="scroll")
    return join([heat, element("p", caption, kind="muted")])


def _heat(count: Json, total: Json, top: Json) -> Markup:
    share = 0.6 * (ratio(count, top) or 0.0)
    text = join([number(count), element("small", percent(ratio(count, total)))])
    return Markup(f'<td style="--share:{share:.3f}">{text}</td>')


def _by_intensity(report: Report) -> Markup | None:
    names = ("intensity", "n_z", "qber_z", "n_x", "qber_x")
    rows = [
        [percent(at(item, name)) if name.startswith("qber") else number(at(item, name)) for name in names]
        for item in entries(at(report, "qber", "by_intensity"))
    ]
    head = ("mean photon number", "detections Z", "QBER Z", "detections X", "QBER X")
    return table(head, rows, numeric=range(5))


# --- timing ----------------------------------------------------------------------------------------------------------


def _timing(report: Report) -> Markup | None:
    clock, plots = at(report, "clock"), at(report, "plots")
    rows: list[tuple[str, object]] = []
    if clock is not None:
        rows = [
            ("clock recovered by", at(clock, "method")),
            ("residual", with_unit(at(clock, "residual_rms_ps"), "ps rms")),
            ("significance of the peak", at(clock, "significance")),
            ("time locked", percent(at(clock, "locked_share"))),
        ]
    rows += [(label(name), number(value)) for name, value in pairs(at(report, "coincidences"))]
    return section(
        "Timing",
        facts(rows),
        listing(entries(at(clock, "notes"))),
        _delays(report.get("delays_ps")),
        figure(figures.arrival(at(plots, "arrival")), "Arrival times at Bob; only what lies in the gate counts."),
        figure(
            figures.pair_delays(at(plots, "pairs")),
            "Delays of every detector pair before correction, with their peaks.",
        ),
        figure(figures.coincidence(at(plots, "pairs")), "All pairs after correction, with the coincidence window."),
        figure(figures.clock(clock), "Bob's clock against Alice's."),
    )


def _delays(delays: Json) -> Markup | None:
    rows = []
    for party in PARTIES:
        if found := at(delays, party):
            rows.append([party.capitalize(), *(number(at(found, name)) for name in DETECTORS)])
    return table(("delay (ps)", *DETECTORS), rows, numeric=range(1, 5))
