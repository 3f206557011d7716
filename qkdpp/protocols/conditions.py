"""Conditions of the proofs that are judged during a block, from what both parties know.

Receivers tell how often they saw clicks in both bases. Where the receivers do
not squash to a qubit as far as public data show, error correction is charged
by the rule ``both`` in place of ``public_errors`` (``docs/security.md``,
section 6): both parties decide alike, before anything is corrected. A drift is
judged by Bob, who alone holds all disclosed bits with their times.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.ledger import Rule
from qkdpp.core.stage import Message, Stage, receive, send
from qkdpp.estimation.claims import Declared, Evidence, squashing_doubts
from qkdpp.estimation.drift import Segments, drifted
from qkdpp.protocols.distillation import Party

MAX_CLICKS = 1 << 60


class ReceiverClicks(Message, frozen=True, kw_only=True):
    """A receiver, after sifting: slots with clicks in both bases. No key bit enters."""

    cross_basis: int


def tell_clicks(cross_basis: int) -> Stage[int]:
    """Sends this receiver's number of clicks in both bases, and returns it."""
    yield from send(ReceiverClicks(cross_basis=cross_basis))
    return cross_basis


def hear_clicks() -> Stage[int]:
    """The peer's number of clicks in both bases."""
    message = yield from receive(ReceiverClicks)
    if not 0 <= message.cross_basis < MAX_CLICKS:
        raise RemoteProtocolError("ReceiverClicks: a number of clicks cannot be negative or that large")
    return message.cross_basis


def charged(party: Party, disclosed: NDArray[np.int64], cross_basis: int) -> Party:
    """The party with the accounting rule that its public data allow.

    Args:
        party: as declared.
        disclosed: int64[4, 4], disclosed detections by Alice's state (detector) and Bob's detector.
        cross_basis: clicks in both bases, all receivers together.
    """
    parameters = party.parameters
    if parameters.security.rule is not Rule.PUBLIC_ERRORS:
        return party
    source = parameters.source
    declared = Declared(
        protocol=parameters.protocol,
        receiver="passive" if source is None else source.receiver,
        squashing_map=parameters.timing.squashing_map,
        double_click_rule=parameters.timing.double_click,
        efficiencies=parameters.detectors.efficiencies(),
    )
    bases = disclosed.reshape(2, 2, 2, 2).sum(axis=(1, 3))
    doubts = squashing_doubts(declared, Evidence(matrix=disclosed, bases=bases, cross_basis_clicks=cross_basis))
    party.log.facts["rule_doubts"] = doubts
    if not doubts:
        return party
    section = msgspec.structs.replace(parameters.security, rule=Rule.BOTH)
    return replace(party, parameters=msgspec.structs.replace(parameters, security=section))


def judge_drift(segments: Segments, party: Party) -> None:
    """Notes the segments; Abort(CONDITIONS_DRIFTED) where the declared rule refuses what they show."""
    party.log.facts["segments"] = segments
    if party.parameters.security.drift != "refuse":
        return
    if found := drifted(segments):
        raise Abort(
            AbortReason.CONDITIONS_DRIFTED,
            inhomogeneous=list(found),
            detections=segments.by_intensity.tolist(),
            tested=segments.tested.tolist(),
            wrong=segments.wrong.tolist(),
        )
