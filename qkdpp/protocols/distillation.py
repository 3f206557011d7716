"""From a sifted key to a secret key: the part that all protocols share.

Order and gates follow ``docs/security.md``: correction, [tag] verification,
error counts, key length on all frames, [tag] amplification seed [tag],
confirmation [tag], release [tag]. Alice's key is released when Bob's
confirmation verified, Bob's when Alice's release did: one side may end without
a key, never both with different ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qkdpp import amplification, reconciliation, verification
from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.entropy import Entropy
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.ledger import Disclosure
from qkdpp.core.stage import Message, Stage, receive, seal, send, unseal
from qkdpp.estimation import KeyLength
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.parameters import Parameters
from qkdpp.reconciliation import Reconciled, probe
from qkdpp.sifting.health import check
from qkdpp.verification import Verified

MIN_HINT = 0.002
VERSION = 4
"""Of the conversation: messages, their order, the matrix of the amplification seed, and the thresholds by which both
parties choose the accounting rule."""
COUNT_BITS = 64
"""Charged for each error count, under the rule that charges functions of W at all."""
AT_ONCE = 1 << 20
"""Bits of a key that are unpacked at a time."""
MAX_DROPPED_SHARE = 1 / 8
"""Frames that verification may drop before the block is given up (at least one)."""


class Hello(Message, frozen=True, kw_only=True):
    """Either party, first message: wire version, protocol and SHA-256 of the public parameters."""

    version: int
    protocol: str
    digest: bytes


class ErrorCounts(Message, frozen=True, kw_only=True):
    """The corrector, after verification: wrong key bits by class (a function of W; booked as pattern).

    Bits of dropped frames count as wrong: an upper bound.
    """

    counts: list[int]


class Length(Message, frozen=True, kw_only=True):
    """Bob, before the amplification seed: the key length he computed. Alice must have come to the same."""

    secret_bits: int


LengthRule = Callable[[int, int, int, NDArray[np.int64]], KeyLength]
"""(leak_bits, verification_bits, dropped_bits, errors by class) -> key length."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiftedKey:
    """Input of the distillation: a key, the class (intensity) of each bit, and a guess of its error rate."""

    key: Bits
    classes: NDArray[np.uint8]
    n_classes: int
    qber_hint: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Who speaks, with what randomness and notes."""

    role: Literal["alice", "bob"]
    parameters: Parameters
    entropy: Entropy
    log: BlockLog


def hello(party: Party) -> Stage[None]:
    """Compares protocol version and parameters; Abort(PARAMETERS_DIFFER) if they are not the same."""
    own = Hello(version=VERSION, protocol=party.parameters.protocol, digest=party.parameters.digest())
    if party.role == "alice":
        yield from send(own)
    theirs = yield from receive(Hello)
    if party.role == "bob":
        yield from send(own)
    if theirs != own:
        differing = [f for f in Hello.__struct_fields__ if getattr(own, f) != getattr(theirs, f)]
        raise Abort(AbortReason.PARAMETERS_DIFFER, fields=differing)


def distil(sifted: SiftedKey, length_rule: LengthRule, party: Party) -> Stage[Bits]:
    """The secret key of this party; Abort if there is none."""
    verified, counts = yield from correct_and_verify(sifted, party)
    length = _length(sifted, verified, counts, length_rule, party)
    yield from _agree(length, party)
    return (yield from _amplify(verified.key, length, party))


def reconcile(sifted: SiftedKey, party: Party) -> Stage[Bits]:
    """The corrected and verified key, without amplification: equal on both sides, but not secret."""
    verified, _ = yield from correct_and_verify(sifted, party)
    yield from _confirm(party)
    return verified.key


def correct_and_verify(sifted: SiftedKey, party: Party) -> Stage[tuple[Verified, NDArray[np.int64]]]:
    """The verified key and the errors by class; refuses raw keys that repeat themselves."""
    if len(sifted.key) == 0:
        raise Abort(AbortReason.TOO_FEW_DETECTIONS, sifted_key_bits=0)
    health = check(sifted.key)
    party.log.facts["health"] = health
    if health.refusals:
        raise Abort(AbortReason.UNHEALTHY_KEY, party=party.role, findings=list(health.refusals))
    reconciled = yield from _correct(sifted, party)
    verified = yield from _verify(reconciled, party)
    counts = yield from _count_errors(sifted, reconciled, verified, party)
    _check_qber(verified, counts, party)
    return verified, counts


def _correct(sifted: SiftedKey, party: Party) -> Stage[Reconciled]:
    correction, ledger, log = party.parameters.correction, party.log.ledger, party.log
    hint = correction.qber_hint
    if hint is None:
        guess = max(sifted.qber_hint, MIN_HINT)
        if party.role == "alice":
            hint = yield from probe.alice(sifted.key, guess, entropy=party.entropy, ledger=ledger)
        else:
            hint = yield from probe.bob(sifted.key, guess, ledger=ledger)
    stage = reconciliation.by_name(correction.method)
    half = stage.alice if party.role == "alice" else stage.bob
    reconciled = yield from half(sifted.key, qber_hint=hint, entropy=party.entropy, ledger=ledger)
    log.facts["correction_rounds"] = reconciled.rounds
    log.mark("corrected", len(reconciled.key))
    return reconciled


def _verify(reconciled: Reconciled, party: Party) -> Stage[Verified]:
    security = party.parameters.security
    key, frame_bits, ledger = reconciled.key, reconciled.frame_bits, party.log.ledger
    suspects = np.zeros(-(-len(key) // frame_bits), dtype=np.bool_)
    suspects[list(reconciled.suspect_frames)] = True
    eps_cor, max_dropped = security.eps_cor, max(1, int(suspects.size * MAX_DROPPED_SHARE))
    if party.role == "bob":
        yield from seal("corrected")
        verified = yield from verification.bob(
            key, frame_bits, suspects, eps_cor=eps_cor, max_dropped=max_dropped, ledger=ledger
        )
    else:
        yield from unseal("corrected")
        verified = yield from verification.alice(
            key,
            frame_bits,
            suspects,
            eps_cor=eps_cor,
            max_dropped=max_dropped,
            entropy=party.entropy,
            ledger=ledger,
        )
    party.log.facts["verification_tags"] = verified.tags
    party.log.facts["dropped_bits"] = verified.dropped_bits
    party.log.mark("verified", len(verified.key), verified.dropped_bits)
    return verified


def _count_errors(
    sifted: SiftedKey, reconciled: Reconciled, verified: Verified, party: Party
) -> Stage[NDArray[np.int64]]:
    stage = reconciliation.by_name(party.parameters.correction.method)
    if party.role == stage.corrector:
        counts = _errors_by_class(sifted, reconciled, verified)
        yield from send(ErrorCounts(counts=[int(c) for c in counts]))
    else:
        message = yield from receive(ErrorCounts)
        held = _by_class(sifted.classes, sifted.n_classes)
        if len(message.counts) != sifted.n_classes or any(
            not 0 <= c <= h for c, h in zip(message.counts, held, strict=True)
        ):
            raise RemoteProtocolError("ErrorCounts: more errors than bits")
        counts = np.array(message.counts, dtype=np.int64)
    party.log.ledger.book("error counts", stage.corrector, Disclosure.PATTERN, COUNT_BITS * sifted.n_classes)
    return counts


def _by_class(classes: NDArray[np.uint8], n_classes: int) -> NDArray[np.int64]:
    """How many there are of each class."""
    counts = np.zeros(n_classes, dtype=np.int64)
    for start in range(0, classes.size, AT_ONCE):
        part = classes[start : start + AT_ONCE]
        counts += [np.count_nonzero(part == c) for c in range(n_classes)]
    return counts


def _errors_by_class(sifted: SiftedKey, reconciled: Reconciled, verified: Verified) -> NDArray[np.int64]:
    """Errors found in the frames that verification kept, and all bits of the others."""
    if reconciled.pattern is None:
        raise RemoteProtocolError("the corrector has no error pattern")
    frame_bits, n_classes = reconciled.frame_bits, sifted.n_classes
    counts = np.zeros(n_classes, dtype=np.int64)
    for start in range(0, len(sifted.key), AT_ONCE):
        part = reconciled.pattern.slice(start, min(start + AT_ONCE, len(sifted.key)))
        wrong = start + np.flatnonzero(part.to_array().view(np.bool_))
        counts += _by_class(sifted.classes[wrong[verified.kept[wrong // frame_bits]]], n_classes)
    for f in np.flatnonzero(~verified.kept).tolist():
        counts += _by_class(sifted.classes[f * frame_bits : (f + 1) * frame_bits], n_classes)
    return counts


def _check_qber(verified: Verified, counts: NDArray[np.int64], party: Party) -> None:
    """Abort if the error rate of the verified frames is above the limit."""
    errors = int(counts.sum()) - verified.dropped_bits
    party.log.facts["key_errors"] = errors
    qber, limit = errors / len(verified.key), party.parameters.security.max_qber
    if qber > limit:
        raise Abort(AbortReason.QBER_TOO_HIGH, qber=qber, limit=limit)


def _length(
    sifted: SiftedKey, verified: Verified, counts: NDArray[np.int64], length_rule: LengthRule, party: Party
) -> KeyLength:
    log, security = party.log, party.parameters.security
    costs = (log.ledger.leak_ec_bits(security.rule), log.ledger.verification_bits, verified.dropped_bits, counts)
    length = length_rule(*costs)
    log.costs = costs
    log.length = length
    log.mark("estimated", length.secret_bits, len(verified.key) - length.secret_bits)
    if length.secret_bits == 0:
        raise Abort(
            AbortReason.NO_KEY_LEFT,
            value_bits=length.value,
            sifted_key_bits=len(sifted.key),
            detections_needed=length.detections_needed,
        )
    return length


def _agree(length: KeyLength, party: Party) -> Stage[None]:
    """Both sides must have computed the same length before the seed is drawn; Abort(PARAMETERS_DIFFER) if not."""
    if party.role == "bob":
        yield from send(Length(secret_bits=length.secret_bits))
        yield from seal("estimated")
        return
    theirs = yield from receive(Length)
    yield from unseal("estimated")
    if theirs.secret_bits != length.secret_bits:
        raise Abort(AbortReason.PARAMETERS_DIFFER, field="secret_bits", own=length.secret_bits, peer=theirs.secret_bits)


def _amplify(key: Bits, length: KeyLength, party: Party) -> Stage[Bits]:
    if party.role == "alice":
        secret = yield from amplification.alice(key, length.secret_bits, entropy=party.entropy)
        yield from seal("seed")
    else:
        secret = yield from amplification.bob(key, length.secret_bits)
        yield from unseal("seed")
    yield from _confirm(party)
    party.log.mark("secret", len(secret))
    return secret


def _confirm(party: Party) -> Stage[None]:
    """Pending to confirmed: nothing leaves a party before the peer's tag over the whole block verified."""
    if party.role == "alice":
        yield from unseal("confirm")
        yield from seal("release")
    else:
        yield from seal("confirm")
        yield from unseal("release")
