"""What a report says, in words and numbers for people; shared by the page and the plain text.

Assumes a report as ``docs/formats/report.md`` describes it, of which any part may be null or missing. Guarantees
that no value, however odd, raises: what is not known reads as a dash. Nothing here escapes HTML.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from qkdpp.core.abort import AbortReason

Report: TypeAlias = Mapping[str, Any]
Json: TypeAlias = Any
"""A value of a report: anything that JSON holds."""

DASH = "–"
PARTIES = ("alice", "bob")
DETECTORS = ("Z0", "Z1", "X0", "X1")
UNITS = ("ps", "ns", "us", "s", "hz", "ppm", "db", "bits", "bytes")
"""Suffixes of names that are shown as units."""

PROTOCOLS = {"bb84": "BB84 with decoy states", "bbm92": "BBM92 (entangled pairs)"}

ABORTS: dict[str, str] = {
    AbortReason.NO_LOCK: "the two clocks could not be aligned",
    AbortReason.TOO_FEW_DETECTIONS: "there are too few detections",
    AbortReason.QBER_TOO_HIGH: "the error rate is above the limit",
    AbortReason.NOT_VERIFIED: "the corrected keys could not be verified as equal",
    AbortReason.NO_KEY_LEFT: "the block is too short or too noisy: nothing is left after the security bounds",
    AbortReason.IMPLAUSIBLE_COUNTS: "the counts contradict the declared source or receiver",
    AbortReason.CONDITIONS_DRIFTED: "error rate or shares of the intensities changed during the block",
    AbortReason.UNHEALTHY_KEY: "the raw key repeats itself or is too biased to be random",
    AbortReason.AUTHENTICATION_FAILED: "an authentication tag did not verify",
    AbortReason.POOL_EXHAUSTED: "the authentication pool holds too little key for this block",
    AbortReason.PARAMETERS_DIFFER: "the two parties use different parameters",
    AbortReason.PROTOCOL_VIOLATION: "a message broke the rules of the protocol",
    AbortReason.PEER_ABORTED: "the other party ended the block",
    AbortReason.LINK_LOST: "the connection between the parties was lost",
    AbortReason.PEER_RESTARTED: "one of the two programs was started again while the block was open",
    AbortReason.DEADLINE_PASSED: "the block was not finished within its time",
    AbortReason.INSTRUMENT_FAILED: "an instrument did not answer for the block",
    AbortReason.SECURITY_ALARM: "a security alarm stands",
}

REMEDIES: dict[str, str] = {
    AbortReason.NO_LOCK: "check channels, offset_hint_s and offset_range_s in [timing], and the pulse or sync period",
    AbortReason.QBER_TOO_HIGH: "above one half, two bits are exchanged in the channel map; else check gate and delays",
    AbortReason.CONDITIONS_DRIFTED: 'make shorter blocks, or merge what drifts with security.drift = "merge"',
    AbortReason.NO_KEY_LEFT: "if more detections would give a key, record longer; its terms are in report.html",
    AbortReason.POOL_EXHAUSTED: "make a new pool with `qkdpp keys pool`",
    AbortReason.TOO_FEW_DETECTIONS: "check channels, gate and the chosen span",
}
"""What a person may do about an abort."""

CLAIMS = {
    "composable": ("Composable", "security claim, all preconditions checked hold"),
    "estimate": ("Estimate", "no security claim"),
    "none": ("None", "no security claim"),
}
"""Level of the claim: its name and what it means."""

RULES = {
    "public_errors": "error pattern public, parities of the key charged",
    "both": "every key-dependent bit of both sides charged",
}


def at(value: Json, *path: str | int) -> Json:
    """The value at ``path``, or None where any part of it is null or missing."""
    for step in path:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list | tuple) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def is_number(value: Json) -> bool:
    """Whether ``value`` is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Json, digits: int = 4) -> str:
    """A number with thousands separators; ``digits`` significant digits if it is not whole."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if not is_number(value):
        return DASH
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}" if abs(value) < 10**15 else f"{value:.{digits}g}"
    if 10 ** (digits - 1) <= abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def with_unit(value: Json, unit: str, digits: int = 4) -> str:
    """A number and its unit, or a dash alone."""
    text = number(value, digits)
    return text if text == DASH else f"{text} {unit}"


def percent(value: Json) -> str:
    """A share as per cent, three significant digits below one per cent."""
    if not is_number(value):
        return DASH
    return f"{100 * value:.2f} %" if abs(value) >= 0.01 or value == 0 else f"{100 * value:.3g} %"


def seconds(value: Json) -> str:
    """A duration in s, or in ms below a tenth of a second."""
    if not is_number(value):
        return DASH
    return f"{1e3 * value:.3g} ms" if 0 < abs(value) < 0.1 else f"{number(float(value))} s"


def ratio(part: Json, whole: Json) -> float | None:
    """``part / whole`` where that makes sense."""
    if not is_number(part) or not is_number(whole) or whole <= 0:
        return None
    return float(part) / float(whole)


def label(name: Json) -> str:
    """A field's name as words, its unit suffix in brackets: ``residual_rms_ps`` reads ``residual rms (ps)``."""
    words = str(name).split("_")
    if len(words) > 1 and words[-1] in UNITS:
        return f"{' '.join(words[:-1])} ({words[-1].replace('hz', 'Hz').replace('db', 'dB')})"
    return " ".join(words)


def value_text(value: Json) -> str:
    """Any value of a report as a short text (numbers formatted, containers spelt out)."""
    if isinstance(value, Mapping):
        return ", ".join(f"{label(k)} {value_text(v)}" for k, v in value.items()) or DASH
    if isinstance(value, list | tuple):
        return ", ".join(value_text(v) for v in value) or DASH
    return number(value)


def entries(value: Json) -> list[Any]:
    """The entries of a list, none if it is null or no list."""
    return list(value) if isinstance(value, list | tuple) else []


def pairs(value: Json) -> list[tuple[str, Any]]:
    """The fields of a mapping, none if it is null or no mapping."""
    return [(str(k), v) for k, v in value.items()] if isinstance(value, Mapping) else []


def key_made(report: Report) -> bool:
    """Whether the run ended with a key."""
    bits: Json = report.get("secret_bits")
    return report.get("abort") is None and is_number(bits) and bool(bits > 0)


def headline(report: Report) -> str:
    """The result in one sentence."""
    if key_made(report):
        return f"{number(report['secret_bits'])} secret bits"
    reason = at(report, "abort", "reason")
    test: Json = report.get("test_bits")
    if reason is None and is_number(test) and bool(test > 0):
        return f"Test key of {number(test)} bits, not secret"
    if reason is None:
        return "No key: the secret length is zero"
    return f"No key: {ABORTS.get(reason, label(reason))}"


def claim_words(report: Report) -> tuple[str, str]:
    """The level of the claim, and what it means with the number of preconditions that failed."""
    level = at(report, "claim", "level")
    name, meaning = CLAIMS.get(str(level), (DASH if level is None else str(level), "claim"))
    failed = entries(at(report, "claim", "failed"))
    return name, f"{meaning} ({several(len(failed), 'precondition')} failed)" if failed else meaning


def several(n: int, noun: str) -> str:
    """A count with its noun, which takes an s in the plural."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def protocol_text(report: Report) -> str:
    """The protocol's name."""
    protocol = report.get("protocol")
    return PROTOCOLS.get(protocol, str(protocol)) if protocol is not None else DASH


def detectors_text(report: Report) -> str | None:
    """Whether unequal detectors were corrected for, and what of the detections still counts; None if not declared."""
    mismatch = at(report, "mismatch")
    if mismatch is None:
        return None
    shares = [at(mismatch, "untagged", basis) for basis in "ZX"]
    if shares == [1.0, 1.0]:
        return "declared equal, with no tolerance: nothing to correct for"
    z, x = (percent(share) for share in shares)
    if at(mismatch, "corrected"):
        return f"corrected for unequal efficiencies: at least {z} of the keyed and {x} of the tested detections count"
    return f"too unequal to be corrected for: only {z} of the keyed and {x} of the tested detections would count"


def accumulated_text(report: Report) -> str | None:
    """Failure probability of a block, of a year of such blocks, and over all hops; None if not known."""
    total, blocks = report.get("eps_total"), at(report, "accumulated", "blocks_per_year")
    if not is_number(total) or not is_number(blocks):
        return None
    text = f"{number(total)} a block, {number(report.get('eps_accumulated_year'))} a year ({number(blocks)} blocks)"
    hops = at(report, "accumulated", "hops")
    if is_number(hops) and hops > 1:
        text += f", {number(at(report, 'accumulated', 'eps_year'))} a year over {number(hops)} hops"
    return text


def throw_away_pool(report: Report) -> bool:
    """Whether authentication used a pool that was made for this run only."""
    return bool(at(report, "auth", "pool") == "throw-away")
