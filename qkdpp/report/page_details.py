"""The lower part of the page: key length, what was disclosed, health of the raw keys, stages and versions.

Same promises as ``html.py``: every part may be null.
"""

from __future__ import annotations

from qkdpp.report.markup import Markup, details, element, facts, join, listing, section, table
from qkdpp.report.words import (
    PARTIES,
    RULES,
    Json,
    Report,
    accumulated_text,
    at,
    detectors_text,
    entries,
    label,
    number,
    pairs,
    percent,
    ratio,
    seconds,
    several,
    value_text,
    with_unit,
)


def key_length(report: Report) -> Markup | None:
    """Formula, bounds and terms of the secret length."""
    length = at(report, "key_length")
    if length is None:
        return None
    rows = [
        ("formula", at(length, "formula")),
        ("profile", at(length, "profile")),
        ("single-photon bits, at least", number(at(length, "single_photon_bits"))),
        ("phase error rate, at most", percent(at(length, "phase_error_upper"))),
        ("secret bits without finite-size effects", number(report.get("secret_bits_asymptotic"))),
        ("detections needed for a key", number(at(length, "detections_needed"))),
        (
            "secrecy, correctness, authentication",
            ", ".join(number(report.get(f"eps_{n}")) for n in ("sec", "cor", "auth")),
        ),
    ]
    by_rule = [
        (f"secret bits under the rule {name}", number(v)) for name, v in pairs(report.get("secret_bits_by_rule"))
    ]
    terms = [[label(name), number(value)] for name, value in pairs(at(length, "terms"))]
    bounds = [[label(at(b, "name")), at(b, "inequality"), number(at(b, "eps"))] for b in entries(at(length, "bounds"))]
    return section(
        "Key length",
        facts(rows + by_rule),
        listing(entries(at(length, "notes"))),
        table(("term", "bits"), terms, numeric=(1,)),
        details(
            several(len(bounds), "statistical bound"),
            table(("bound", "inequality", "failure probability"), bounds, (2,)),
        )
        if bounds
        else None,
        _passed(report),
    )


def _passed(report: Report) -> Markup | None:
    items = [
        join([element("b", label(at(item, "name"))), ": ", str(at(item, "explanation") or "holds")])
        for item in entries(at(report, "claim", "passed"))
    ]
    return (
        details(f"{several(len(items), 'precondition')} checked and found to hold", listing(items)) if items else None
    )


def conditions(report: Report) -> Markup | None:
    """Steadiness over the block, correction for unequal detectors, and failure probabilities added up."""
    drift = at(report, "drift")
    tests = [
        [label(name), *(number(at(test, field)) for field in ("value", "degrees", "p"))]
        for name, test in pairs(at(drift, "chi_square"))
    ]
    columns = [entries(at(drift, "segments", name)) for name in ("detections", "tested", "wrong")]
    rows = [
        [str(i + 1), *map(number, row), percent(ratio(row[2], row[1]))]
        for i, row in enumerate(zip(*columns, strict=False))
    ]
    words = [f"Changed beyond accident: {label(name)}." for name in entries(at(drift, "drifted"))]
    separate, merged = (at(drift, f"unlimited_bits_{name}") for name in ("separate", "merged"))
    if separate is not None:
        words.append(
            f"With unlimited data and before correction is charged: {number(merged)} bits with all segments merged, "
            f"{number(separate)} with each on its own."
        )
    steady = table(("homogeneity of", "chi-square", "degrees of freedom", "probability"), tests, numeric=range(1, 4))
    segments = table(("segment", "detections", "tested", "wrong", "QBER of the test"), rows, numeric=range(1, 5))
    facts_rows = [
        ("rule for drifts", at(drift, "rule")),
        ("detectors", detectors_text(report)),
        ("failure probability", accumulated_text(report)),
    ]
    known = [(name, text) for name, text in facts_rows if text is not None]
    if not known:
        return None
    return section(
        "Conditions",
        facts(known),
        listing(words),
        steady if tests else None,
        details("Ten equal segments of the block", segments) if rows else None,
    )


def disclosure(report: Report) -> Markup | None:
    """What the conversation gave away and what it cost."""
    if report.get("leak_ec_bits") is None and report.get("messages") is None:
        return None
    rule = report.get("rule")
    rows: list[tuple[str, object]] = [
        ("charged for error correction", with_unit(report.get("leak_ec_bits"), "bits")),
        ("accounting rule", f"{rule}: {RULES[rule]}" if rule in RULES else rule),
        *(
            (f"would be charged under {name}", with_unit(v, "bits"))
            for name, v in pairs(report.get("leak_by_rule"))
            if name != rule
        ),
        *((f"secret bits under {name}", number(v)) for name, v in pairs(report.get("secret_bits_by_rule"))),
        (
            "sent by Alice, by Bob",
            f"{number(report.get('leak_alice_bits'))}, {number(report.get('leak_bob_bits'))} bits",
        ),
        (
            "efficiency f of the parities, of all that is charged",
            f"{number(report.get('f_ec'))}, {number(report.get('f_total'))}",
        ),
        ("verification", with_unit(report.get("verification_bits"), "bits")),
        ("authentication key used", _authentication(report)),
        ("recount from the transcript", _recount(at(report, "ledger_recount"))),
        ("messages", _messages(report)),
        ("announcement", with_unit(report.get("announcement_bits_per_detection"), "bits per detection")),
    ]
    return section("Disclosed and spent", facts(rows))


def _authentication(report: Report) -> str:
    text = with_unit(report.get("auth_bits_used"), "bits")
    auth = at(report, "auth")
    if auth is None:
        return text
    tags, eps = number(at(auth, "tags")), number(at(auth, "eps_auth_spent"))
    return f"{text} for {tags} tags, pool: {value_text(at(auth, 'pool'))}, forgery at most {eps}"


def _recount(recount: Json) -> Markup | str:
    if recount is None:
        return "not made"
    agrees = at(recount, "agrees")
    counts = ", ".join(f"{label(name)} {number(v)}" for name, v in pairs(recount) if name != "agrees")
    word = element("span", "agrees" if agrees else "does not agree", kind="good" if agrees else "bad")
    return join([word, f" ({counts})" if counts else None])


def _messages(report: Report) -> str:
    count, size, trips = (number(at(report, "messages", name)) for name in ("count", "bytes", "round_trips"))
    return f"{count}, {size} bytes, {trips} round trips"


def health(report: Report) -> Markup | None:
    """Bias, autocorrelation and repetition of the raw keys."""
    rows, remarks = [], []
    for party in PARTIES:
        found = at(report, "health", party)
        if found is None:
            continue
        names = ("bits", "bias", "autocorrelation", "lag", "repeated")
        rows.append([party.capitalize(), *(number(at(found, name)) for name in names)])
        remarks += [f"{party.capitalize()}, warning: {w}" for w in entries(at(found, "warnings"))]
        remarks += [f"{party.capitalize()}, refused: {w}" for w in entries(at(found, "refusals"))]
    head = ("raw key", "bits examined", "bias", "largest autocorrelation", "at lag", "repeated windows")
    return section("Health of the raw keys", table(head, rows, numeric=range(1, 6)), listing(remarks)) if rows else None


def stages(report: Report) -> Markup | None:
    """Time, counts and losses of every stage, what was read, and where the tags went."""
    rows = [
        [label(at(s, "name")), seconds(at(s, "seconds")), number(at(s, "count")), number(at(s, "lost"))]
        for s in entries(report.get("stages"))
    ]
    lost = ("intervals", "seconds", "reported_by_instrument")
    read = [
        [party.capitalize(), *(number(v) for v in (tags, *(at(report, "lost_tags", party, name) for name in lost)))]
        for party in PARTIES
        if (tags := at(report, "tags_read", party)) is not None
    ]
    warnings = [f"{p.capitalize()}'s recording: {w}" for p in PARTIES for w in entries(at(report, "reading", p))]
    return section(
        "Stages",
        table(("recordings of", "tags read", "gaps", "gaps (s)", "events the instrument lost"), read, range(1, 5)),
        listing(warnings),
        table(("stage", "time", "out", "lost"), rows, (1, 2, 3)),
        details("Where the tags went", _counters(report.get("counters"))),
    )


def _counters(counters: Json) -> Markup | None:
    """One column per party; in BB84 only Bob detects."""
    columns = [p for p in PARTIES if at(counters, p) is not None]
    by_party = [at(counters, p) for p in columns] or [counters]
    names = [name for name, value in pairs(by_party[0]) if not isinstance(value, dict)]
    rows = [[label(name), *(number(at(c, name)) for c in by_party)] for name in names]
    channels = sorted({channel for c in by_party for channel, _ in pairs(at(c, "tags_by_channel"))})
    rows += [
        [f"on channel {channel}", *(number(at(c, "tags_by_channel", channel)) for c in by_party)]
        for channel in channels
    ]
    head = ("tags", *(p.capitalize() for p in columns or ["bob"]))
    return table(head, rows, range(1, len(head)))


def versions(report: Report) -> Markup | None:
    """Software versions."""
    found = [f"{name} {version}" for name, version in pairs(report.get("versions"))]
    return element("p", "Made with ", ", ".join(found), kind="muted") if found else None
