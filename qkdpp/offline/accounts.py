"""The accounts of a block: leak, authentication, secret bits under every rule and profile, and the final claim."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import msgspec

from qkdpp.core.ledger import Rule
from qkdpp.estimation import Claim, KeyLength
from qkdpp.estimation.claims import SQUASHING
from qkdpp.offline import balance
from qkdpp.offline.drive import Outcome
from qkdpp.offline.runfile import RunFile
from qkdpp.protocols import bb84, bbm92
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.parameters import SplitSection
from qkdpp.sifting.bb84 import Sifted
from qkdpp.sifting.bbm92 import SiftedPairs

Fields: TypeAlias = dict[str, Any]


def eps_auth_spent(outcome: Outcome) -> float:
    """Sum of the forgery probabilities of all tags of the block, as the side that saw more of them has it."""
    return max(outcome.alice_endpoint.eps_auth, outcome.bob_endpoint.eps_auth)


def accounts(run: RunFile, outcome: Outcome, fields: Fields) -> Fields:
    """What was disclosed, spent and gained, and what may be claimed; ``fields`` are those of the protocol."""
    log, security = outcome.bob_log, run.parameters.security
    keys = outcome.keys
    n = int(fields["key_basis_bits"])
    errors = log.facts.get("key_errors")
    made = len(keys[0]) if keys is not None else 0
    secret = 0 if outcome.test_mode else made
    length, rule = log.length, rule_used(run, log)
    return {
        "claim": _final_claim(fields["claim"], made=keys is not None),
        **balance.leak_fields(log.ledger, rule, n, errors if isinstance(errors, int) else None),
        "auth_bits_used": outcome.auth_bits_used,
        "auth": {
            "pool": "throw-away" if outcome.throw_away else "file",
            "tags": sum(record.kind.name == "TAG" for record in outcome.alice_endpoint.transcript),
            "eps_auth_spent": eps_auth_spent(outcome),
        },
        "secret_bits": secret,
        "test_bits": made - secret,
        "net_secret_bits": secret - outcome.auth_bits_used,
        "secret_bits_asymptotic": None if length is None else length.secret_bits_asymptotic,
        "secret_bits_by_rule": None if length is None else _by_rule(log, length, rule),
        "secret_bits_by_profile": None if length is None else _by_profile(run, log),
        "key_length": length,
        "rule_note": _rule_note(fields["claim"], security.rule, log),
        "ledger_recount": None if outcome.counted is None else balance.recount_fields(outcome.counted, log),
        "plots": {**fields["plots"], "waterfall": _waterfall(fields, log, made)},
    }


def _final_claim(claim: Claim | None, *, made: bool) -> Claim:
    """The claim as assessed; without a key nothing is claimed, but what failed stays visible."""
    if claim is None:
        return Claim(level="none", failed=(), passed=())
    return claim if made else replace(claim, level="none")


def _by_profile(run: RunFile, log: BlockLog) -> Fields | None:
    """What the same block gives under every profile (L and T hold for lengths fixed beforehand: for comparison)."""
    sifted = log.facts.get("sifted")
    if log.costs is None or not isinstance(sifted, Sifted | SiftedPairs):
        return None
    lengths: Fields = {}
    declared = run.parameters.security
    for profile in ("V", "L", "T") if isinstance(sifted, Sifted) else ("V", "L"):
        split = declared.split if profile == "V" else SplitSection()
        section = msgspec.structs.replace(declared, profile=profile, split=split, rule=rule_used(run, log))
        parameters = msgspec.structs.replace(run.parameters, security=section)
        if isinstance(sifted, Sifted):
            rule = bb84.length_rule(sifted, parameters, fell_back=bool(log.facts.get("rule_doubts")))
        else:
            rule = bbm92.length_rule(sifted, parameters)
        lengths[profile] = rule(*log.costs).secret_bits
    return lengths


def rule_used(run: RunFile, log: BlockLog) -> Rule:
    """The rule that correction was charged by: as declared, or ``both`` where public data spoke against it."""
    return Rule.BOTH if log.facts.get("rule_doubts") else run.parameters.security.rule


def _rule_note(claim: Claim | None, rule: Rule, log: BlockLog) -> str | None:
    """What stands against charging by ``public_errors`` (docs/security.md, section 6, condition ii)."""
    doubts = log.facts.get("rule_doubts")
    if isinstance(doubts, tuple) and doubts:
        return f"condition (ii) of public_errors fails with {', '.join(doubts)}: charged by both"
    if claim is None or rule is not Rule.PUBLIC_ERRORS:
        return None
    failed = [p.name for p in claim.failed if p.name.startswith(SQUASHING)]
    if not failed:
        return None
    return f"condition (ii) of public_errors fails with {', '.join(failed)}; see the length under both"


def _by_rule(log: BlockLog, length: KeyLength, used: Rule) -> Fields:
    """The length under either rule: one more disclosed bit costs exactly one bit; public errors, the vacuum credit."""
    uncharged = length.value + log.ledger.leak_ec_bits(used)
    values = {rule: uncharged - log.ledger.leak_ec_bits(rule) for rule in Rule}
    values[Rule.PUBLIC_ERRORS] -= length.vacuum_bits
    return {rule.value: max(0, int(value)) for rule, value in values.items()}


def _waterfall(fields: Fields, log: BlockLog, secret: int) -> list[Fields]:
    verified = next((s.count for s in log.stages if s.name == "verified"), 0)
    steps = {
        "tags": fields["stages"][0]["count"] if "stages" in fields else 0,
        "gated": fields["detections"],
        "sifted": fields["sifted_bits"],
        "key basis": fields["key_basis_bits"],
        "corrected": verified,
        "secret": secret,
    }
    return [{"name": name, "count": count} for name, count in steps.items()]
