"""The result of a run in at most fifteen lines of plain text, for a terminal.

Pure function of the report (``docs/formats/report.md``), any part of which may be null.
"""

from __future__ import annotations

from qkdpp.report.words import (
    DASH,
    PARTIES,
    REMEDIES,
    Report,
    accumulated_text,
    at,
    claim_words,
    detectors_text,
    entries,
    headline,
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

WIDTH = 160
"""Longer lines are cut: evidence can be long, the page shows all of it."""


def summary(report: Report) -> str:
    """Key, claim, error rate, losses, disclosure and security parameters; no trailing newline.

    A line of which nothing is known is left out.
    """
    rows: list[tuple[str, str | None]] = [
        ("run", _run(report)),
        ("result", headline(report)),
        *_why(report),
        ("claim", ": ".join(claim_words(report))),
        *_failed(report),
        ("QBER", _qber(report)),
        ("tags read", _tags(report)),
        *_warnings(report),
        ("clock", _clock(report)),
        ("counts", _counts(report)),
        ("length", _length(report)),
        ("leak", _leak(report)),
        ("rule", _rule(report)),
        ("detectors", detectors_text(report)),
        ("drift", _drift(report)),
        ("spent", _spent(report)),
        ("security", _security(report)),
        ("ledger", _ledger(report)),
    ]
    return "\n".join(_one_line(f"{name:<10} {text}") for name, text in rows if text is not None)


def _one_line(text: str) -> str:
    """Control characters and line breaks out (a hostile name must not move the cursor), and cut to the width."""
    clean = "".join(c if c.isprintable() else " " for c in text).replace(DASH, "-").rstrip()
    return clean if len(clean) <= WIDTH else f"{clean[: WIDTH - 3]}..."


def _run(report: Report) -> str:
    name = at(report, "run", "name")
    span = seconds(at(report, "run", "duration_s"))
    return ", ".join([protocol_text(report)] + ([str(name)] if name else []) + ([span] if span != DASH else []))


def _why(report: Report) -> list[tuple[str, str]]:
    if key_made(report):
        net, asymptotic = report.get("net_secret_bits"), report.get("secret_bits_asymptotic")
        rate = ratio(report.get("secret_bits"), at(report, "run", "duration_s"))
        return [("", f"{with_unit(rate, 'bit/s')}; net {number(net)} bits, asymptotically {number(asymptotic)} bits")]
    evidence = "; ".join(f"{label(k)} {value_text(v)}" for k, v in pairs(at(report, "abort", "evidence")))
    remedy = REMEDIES.get(str(at(report, "abort", "reason")))
    return [("", text) for text in (evidence, remedy) if text]


def _failed(report: Report) -> list[tuple[str, str]]:
    failed = entries(at(report, "claim", "failed"))
    if not failed:
        return []
    return [("", f"{label(at(item, 'name'))}: {value_text(at(item, 'explanation'))}") for item in failed]


def _qber(report: Report) -> str | None:
    if at(report, "qber") is None:
        return None
    by_basis = [f"{basis} {percent(value)}" for basis, value in pairs(at(report, "qber", "by_basis"))]
    return percent(at(report, "qber", "total")) + (f" ({', '.join(by_basis)})" if by_basis else "")


def _tags(report: Report) -> str | None:
    parts = []
    for party in PARTIES:
        if (read := at(report, "tags_read", party)) is not None:
            gaps = at(report, "lost_tags", party, "intervals")
            parts.append(f"{party.capitalize()} {number(read)}" + (f" ({number(gaps)} gaps)" if gaps else ""))
    return ", ".join(parts) or None


def _warnings(report: Report) -> list[tuple[str, str]]:
    """What reading the recordings met."""
    return [("", f"warning: {value_text(w)}") for party in PARTIES for w in entries(at(report, "reading", party))]


def _clock(report: Report) -> str | None:
    clock = at(report, "clock")
    if clock is None:
        return None
    return (
        f"by {value_text(at(clock, 'method'))}, residual {with_unit(at(clock, 'residual_rms_ps'), 'ps')} rms, "
        f"significance {number(at(clock, 'significance'))}, locked {percent(at(clock, 'locked_share'))}"
    )


def _counts(report: Report) -> str | None:
    if report.get("detections") is None:
        return None
    return f"{number(report.get('detections'))} detections, {number(report.get('sifted_bits'))} sifted bits"


def _length(report: Report) -> str | None:
    length = at(report, "key_length")
    if length is None:
        return None
    profile, upper = value_text(at(length, "profile")), percent(at(length, "phase_error_upper"))
    bits = number(at(length, "single_photon_bits"))
    return f"profile {profile}, at least {bits} single-photon bits, phase error at most {upper}"


def _leak(report: Report) -> str | None:
    if report.get("leak_ec_bits") is None:
        return None
    return (
        f"{with_unit(report.get('leak_ec_bits'), 'bits')} charged (rule {value_text(report.get('rule'))}), "
        f"f {number(report.get('f_ec'))}, f total {number(report.get('f_total'))}, "
        f"Alice {number(report.get('leak_alice_bits'))}, Bob {number(report.get('leak_bob_bits'))}"
    )


def _rule(report: Report) -> str | None:
    """Both figures where the rule that was used stands on shaky ground."""
    note = report.get("rule_note")
    if note is None:
        return None
    lengths = ", ".join(f"{number(bits)} under {name}" for name, bits in pairs(report.get("secret_bits_by_rule")))
    return f"{lengths or 'no length'}: {value_text(note)}"


def _spent(report: Report) -> str | None:
    if report.get("messages") is None:
        return None
    pool = " from a throw-away pool" if throw_away_pool(report) else ""
    messages, trips = (number(at(report, "messages", name)) for name in ("count", "round_trips"))
    return (
        f"{with_unit(report.get('verification_bits'), 'bits')} of verification, "
        f"{with_unit(report.get('auth_bits_used'), 'bits')} of authentication{pool}, "
        f"{messages} messages, {trips} round trips"
    )


def _security(report: Report) -> str | None:
    if report.get("eps_sec") is None:
        return None
    parts = [f"{name} {number(report.get(name))}" for name in ("eps_sec", "eps_cor", "eps_auth")]
    together = accumulated_text(report)
    return ", ".join(parts) + (f"; together {together}" if together else "")


def _drift(report: Report) -> str | None:
    """What changed during the block beyond accident; nothing where all stayed as it was."""
    drifted = entries(at(report, "drift", "drifted"))
    if not drifted:
        return None
    tests = [f"{label(n)} chi-square {number(at(report, 'drift', 'chi_square', n, 'value'))}" for n in drifted]
    return f"conditions changed ({', '.join(tests)}); rule {value_text(at(report, 'drift', 'rule'))}"


def _ledger(report: Report) -> str | None:
    agrees = at(report, "ledger_recount", "agrees")
    if agrees is None:
        return None
    return "recount of the transcript agrees" if agrees else "RECOUNT OF THE TRANSCRIPT DISAGREES"
