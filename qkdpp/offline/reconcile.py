"""Two files of sifted key to equal keys: correction and verification, amplification on the user's word.

What is known of the channel here is what the user says: a phase error rate or
a number of secret bits. The report labels it so and claims nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.errors import InputError
from qkdpp.core.stage import Stage
from qkdpp.estimation import KeyLength
from qkdpp.estimation.security import error_penalty
from qkdpp.offline.drive import Outcome, drive
from qkdpp.protocols import distillation
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.distillation import LengthRule, Party, SiftedKey
from qkdpp.protocols.parameters import Correction, Parameters, SecuritySection

DEFAULT_HINT = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for; at most one of ``phase_error`` and ``secret_bits``."""

    method: str
    qber_hint: float | None
    phase_error: float | None
    secret_bits: int | None
    eps_sec: float
    eps_cor: float


def reconcile(alice: Bits, bob: Bits, request: Request, now: Callable[[], float]) -> Outcome:
    """Runs both parties in memory, each given only its own key."""
    if len(alice) != len(bob):
        raise InputError(f"the keys have {len(alice)} and {len(bob)} bits: they must be aligned bit by bit")
    if len(alice) == 0:
        raise InputError("the key files hold no bits")
    parameters = Parameters(
        protocol="bbm92",
        security=SecuritySection(eps_sec=request.eps_sec, eps_cor=request.eps_cor),
        correction=Correction(method="hamming" if request.method == "hamming" else "cascade"),
    )
    parameters.check()
    logs = [BlockLog(now=now), BlockLog(now=now)]
    stages = [
        _stage(key, request, Party(role=role, parameters=parameters, entropy=OsEntropy(), log=log))
        for key, role, log in ((alice, "alice", logs[0]), (bob, "bob", logs[1]))
    ]
    return drive(stages[0], stages[1], (logs[0], logs[1]))


def _stage(key: Bits, request: Request, party: Party) -> Stage[Bits]:
    party.log.start()
    yield from distillation.hello(party)
    sifted = SiftedKey(
        key=key,
        classes=np.zeros(len(key), dtype=np.uint8),
        n_classes=1,
        qber_hint=request.qber_hint or DEFAULT_HINT,
    )
    if request.phase_error is None and request.secret_bits is None:
        return (yield from distillation.reconcile(sifted, party))
    return (yield from distillation.distil(sifted, _assumed(len(key), request, party.parameters), party))


def _assumed(n: int, request: Request, parameters: Parameters) -> LengthRule:
    """A length that rests on the user's figure: ``n (1 - h(P))`` less all costs, or the number itself."""

    def rule(leak: int, verification: int, dropped: int, errors: NDArray[np.int64]) -> KeyLength:
        phi = request.phase_error
        if phi is None:
            value = float(request.secret_bits or 0)
            if value > n - dropped:
                raise Abort(AbortReason.NO_KEY_LEFT, asked_bits=request.secret_bits, verified_bits=n - dropped)
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
