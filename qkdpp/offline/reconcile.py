"""Two files of sifted key to equal keys: correction and verification, amplification on the user's word.

What is known of the channel here is what the user says: a phase error rate or
a number of secret bits. The report labels it so and claims nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.errors import InputError
from qkdpp.core.keyfile import write_key
from qkdpp.core.ledger import Rule
from qkdpp.core.stage import Stage
from qkdpp.estimation import KeyLength
from qkdpp.estimation.security import error_penalty
from qkdpp.link.transcript import write_transcript
from qkdpp.offline import balance
from qkdpp.offline.drive import Outcome, drive
from qkdpp.offline.folder import new_folder
from qkdpp.protocols import distillation
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.distillation import LengthRule, Party, SiftedKey
from qkdpp.protocols.parameters import Correction, Parameters, SecuritySection

DEFAULT_HINT = 0.03
Fields: TypeAlias = dict[str, Any]
METHODS = ("cascade", "hamming")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for; at most one of ``phase_error`` and ``secret_bits``."""

    method: str
    qber_hint: float | None
    phase_error: float | None
    secret_bits: int | None
    eps_sec: float
    eps_cor: float

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"--method {self.method}: choose one of {', '.join(METHODS)}")
        if self.phase_error is not None and not 0.0 <= self.phase_error <= 0.5:
            raise InputError("--phase-error must lie between 0 and 0.5")
        if self.secret_bits is not None and self.secret_bits < 1:
            raise InputError("--secret-bits must be at least 1")

    @property
    def amplifies(self) -> bool:
        """Whether a secret key is asked for."""
        return self.phase_error is not None or self.secret_bits is not None


def reconcile(alice: Bits, bob: Bits, request: Request, now: Callable[[], float]) -> Outcome:
    """Runs both parties in memory, each given only its own key."""
    if len(alice) != len(bob):
        raise InputError(f"the keys have {len(alice)} and {len(bob)} bits: they must be aligned bit by bit")
    if len(alice) == 0:
        raise InputError("the key files hold no bits")
    parameters = Parameters(
        protocol="bbm92",
        security=SecuritySection(eps_sec=request.eps_sec, eps_cor=request.eps_cor),
        correction=Correction(
            method="hamming" if request.method == "hamming" else "cascade", qber_hint=request.qber_hint
        ),
    )
    parameters.check()
    logs = (BlockLog(now=now), BlockLog(now=now))
    parties = (
        Party(role="alice", parameters=parameters, entropy=OsEntropy(), log=logs[0]),
        Party(role="bob", parameters=parameters, entropy=OsEntropy(), log=logs[1]),
    )
    return drive(_stage(alice, request, parties[0]), _stage(bob, request, parties[1]), logs)


def _stage(key: Bits, request: Request, party: Party) -> Stage[Bits]:
    party.log.start()
    yield from distillation.hello(party)
    sifted = SiftedKey(
        key=key,
        classes=np.zeros(len(key), dtype=np.uint8),
        n_classes=1,
        qber_hint=DEFAULT_HINT,
    )
    if not request.amplifies:
        return (yield from distillation.reconcile(sifted, party))
    return (yield from distillation.distil(sifted, _assumed(len(key), request, party.parameters), party))


def _assumed(n: int, request: Request, parameters: Parameters) -> LengthRule:
    """A length that rests on the user's figure: ``n (1 - h(P))`` less all costs, or the number itself."""

    def rule(leak: int, verification: int, dropped: int, errors: NDArray[np.int64]) -> KeyLength:
        phi = request.phase_error
        if phi is None:
            value = float(request.secret_bits or 0)
            possible = n - dropped - leak - verification
            if value > possible:
                raise Abort(AbortReason.NO_KEY_LEFT, asked_bits=request.secret_bits, undisclosed_bits=max(0, possible))
            terms = {"asked by the user": value}
        else:
            terms = {
                "sifted bits": float(n),
                "phase errors, assumed": -n * error_penalty(phi),
                "error correction": -float(leak),
                "verification": -float(verification),
                "dropped frames": -float(dropped),
                "privacy amplification": -2 * math.log2(1 / request.eps_sec),
            }
            value = sum(terms.values())
        return KeyLength(
            secret_bits=max(0, math.floor(value)),
            value=value,
            single_photon_bits=n,
            vacuum_bits=0.0,
            phase_error_upper=phi if phi is not None else math.nan,
            terms=terms,
            bounds=(),
            eps_sec=request.eps_sec,
            eps_cor=request.eps_cor,
            formula="assumed by the user",
            secret_bits_asymptotic=max(0, math.floor(value)),
            detections_needed=None,
            profile="none",
            rule=parameters.security.rule,
            notes=("the length rests on the user's assumption: no security claim",),
        )

    return rule


def balance_sheet(alice: Bits, bob: Bits, request: Request, outcome: Outcome) -> Fields:
    """The balance of a reconciliation as plain JSON values."""
    log, n = outcome.bob_log, len(alice)
    found = log.facts.get("key_errors")
    keys = outcome.keys
    secret = len(keys[0]) if keys is not None and request.amplifies else 0
    pair = np.bincount(alice.to_array() * 2 + bob.to_array(), minlength=4)
    fields: Fields = {
        "format": 1,
        "claim": "none",
        "assumption": _assumption(request),
        "method": request.method,
        "sifted_bits": n,
        "errors": {"total": pair[1] + pair[2], "zero_to_one": pair[1], "one_to_zero": pair[2]},
        "qber": (pair[1] + pair[2]) / n,
        "verified_bits": next((s.count for s in log.stages if s.name == "verified"), 0),
        **balance.leak_fields(log.ledger, Rule.PUBLIC_ERRORS, n, found if isinstance(found, int) else None),
        "auth_bits_used": outcome.auth_bits_used,
        "secret_bits": secret,
        "net_secret_bits": secret - outcome.auth_bits_used,
        "terms": None if log.length is None else dict(log.length.terms),
        "rounds": log.facts.get("correction_rounds"),
        "health": {"alice": balance.health_fields(outcome.alice_log), "bob": balance.health_fields(outcome.bob_log)},
        "ledger_recount": None if outcome.counted is None else balance.recount_fields(outcome.counted, log),
        "abort": balance.abort_fields(outcome.aborted),
        "stages": balance.stage_fields(log),
        "versions": balance.versions(),
    }
    return {name: balance.plain(value) for name, value in fields.items()}


def _assumption(request: Request) -> str:
    if request.phase_error is not None:
        return f"phase error rate {request.phase_error:g}, assumed by the user"
    if request.secret_bits is not None:
        return f"{request.secret_bits} secret bits, assumed by the user"
    return "none: corrected and verified only, not amplified, not secret"


def save(folder: Path, outcome: Outcome, sheet: Fields, *, amplified: bool) -> None:
    """Writes report.json, transcript and, if there are any, the keys into a new folder."""
    with new_folder(folder) as part:
        (part / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(sheet)))
        write_transcript(part / "transcript", outcome.alice_endpoint.transcript)
        if outcome.keys is not None:
            suffix = "key" if amplified else "corrected"
            for name, key in zip(("alice", "bob"), outcome.keys, strict=True):
                write_key(part / f"{name}.{suffix}", key)


def describe(sheet: Fields) -> str:
    """The balance as text."""
    lines = [f"sifted bits      {sheet['sifted_bits']}", f"QBER             {100 * sheet['qber']:.3f} %"]
    errors = sheet["errors"]
    lines.append(f"errors           {errors['zero_to_one']} 0->1, {errors['one_to_zero']} 1->0")
    for party, health in sheet["health"].items():
        if health is None:
            continue
        bits = f"raw key of {party}".ljust(17)
        lines.append(f"{bits}bias {health['bias']:+.4f}, autocorrelation {health['autocorrelation']:+.4f}")
        lines += [f"  warning: {warning}" for warning in health["warnings"]]
        lines += [f"  refused: {refusal}" for refusal in health["refusals"]]
    if sheet["f_ec"] is not None:
        leak = sheet["leak_by_rule"]
        lines.append(
            f"leak             {leak['public_errors']} bits (both directions {leak['both']}), f {sheet['f_ec']:.3f}"
        )
        lines.append(
            f"verification     {sheet['verification_bits']} bits, {sheet['verified_bits']} bits verified equal"
        )
    lines.append(f"authentication   {sheet['auth_bits_used']} bits of a throw-away pool")
    lines.append(f"assumption       {sheet['assumption']}")
    if sheet["abort"] is not None:
        evidence = "; ".join(f"{name} {value}" for name, value in sheet["abort"]["evidence"].items())
        lines.append(f"no key           {sheet['abort']['reason']}: {evidence}")
    elif sheet["secret_bits"]:
        lines.append(f"secret bits      {sheet['secret_bits']} (claim: none)")
    return "\n".join(lines)
