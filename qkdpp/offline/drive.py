"""Both parties in one process: two endpoints, two pools, one channel in memory."""

from __future__ import annotations

from dataclasses import dataclass

from qkdpp.core.abort import Aborted, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.errors import LocalProtocolError
from qkdpp.core.ledger import Disclosure
from qkdpp.core.stage import Stage
from qkdpp.link.endpoint import Endpoint
from qkdpp.link.frame import Kind
from qkdpp.link.memory import connect
from qkdpp.link.pool import EphemeralPool, Pool
from qkdpp.offline.recount import Recount, recount
from qkdpp.protocols.block import BlockLog

PADS_PER_BLOCK = 4
"""Tags that one side sends in a block at most; a block is not begun with fewer."""
POOL_TAGS = 64
"""Pads per direction of the throw-away pool: many times what one block needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Both parties' ends: keys or an abort, their notes, the traffic and its recount."""

    alice: Bits | Aborted
    bob: Bits | Aborted
    alice_log: BlockLog
    bob_log: BlockLog
    alice_endpoint: Endpoint[Bits]
    bob_endpoint: Endpoint[Bits]
    counted: Recount | None
    auth_bits_used: int
    throw_away: bool

    @property
    def aborted(self) -> Aborted | None:
        """Why there is no key (the side that found the reason), or None."""
        ends = [end for end in (self.alice, self.bob) if isinstance(end, Aborted)]
        own = [end for end in ends if end.reason is not AbortReason.PEER_ABORTED]
        return next(iter(own or ends), None)

    @property
    def test_mode(self) -> bool:
        """Whether Alice's states came from a pattern or a seed: such keys are never secret."""
        return bool(self.alice_log.facts.get("test_mode", False))

    @property
    def keys(self) -> tuple[Bits, Bits] | None:
        """Both keys if both parties have one."""
        if isinstance(self.alice, Aborted) or isinstance(self.bob, Aborted):
            return None
        return self.alice, self.bob


def drive(
    alice: Stage[Bits],
    bob: Stage[Bits],
    logs: tuple[BlockLog, BlockLog],
    pools: tuple[Pool, Pool] | None = None,
) -> Outcome:
    """Runs two parties against each other; a throw-away pool from the OS unless ``pools`` are given.

    Raises LocalProtocolError if two keys come out that differ, or if a ledger disagrees with the recount of the
    transcript: faults of this program that must never yield a key.
    """
    used = pools or EphemeralPool.pair(POOL_TAGS, OsEntropy())
    before = [pool.bits_used for pool in used]
    ends = (
        Endpoint(alice, "alice", 0, used[0], pads_needed=PADS_PER_BLOCK),
        Endpoint(bob, "bob", 0, used[1], pads_needed=PADS_PER_BLOCK),
    )
    connect(*ends)
    outcome = Outcome(
        alice=ends[0].result,
        bob=ends[1].result,
        alice_log=logs[0],
        bob_log=logs[1],
        alice_endpoint=ends[0],
        bob_endpoint=ends[1],
        counted=_recounted(ends),
        auth_bits_used=max(pool.bits_used - b for pool, b in zip(used, before, strict=True)),
        throw_away=pools is None,
    )
    _check(outcome)
    return outcome


OWN_ENDS = {
    AbortReason.NO_KEY_LEFT,
    AbortReason.QBER_TOO_HIGH,
    AbortReason.NOT_VERIFIED,
    AbortReason.CONDITIONS_DRIFTED,
    AbortReason.PEER_ABORTED,
}
"""Ends between messages: what was booked until then is what was sent."""


def _recounted(ends: tuple[Endpoint[Bits], Endpoint[Bits]]) -> Recount | None:
    """The recount; None where the conversation broke off, because then a message may be half booked."""
    results = [end.result for end in ends]
    if any(isinstance(result, Aborted) and result.reason not in OWN_ENDS for result in results):
        return None
    records = ends[0].transcript
    return recount((record.side, record.body) for record in records if record.kind is Kind.MESSAGE)


def booked(log: BlockLog) -> Recount:
    """What a party's ledger says, in the recount's terms."""
    ledger = log.ledger
    return Recount(
        parity_alice=ledger.total(side="alice", what=Disclosure.PARITY),
        parity_bob=ledger.total(side="bob", what=Disclosure.PARITY),
        pattern_alice=ledger.total(side="alice", what=Disclosure.PATTERN),
        pattern_bob=ledger.total(side="bob", what=Disclosure.PATTERN),
        verification=ledger.verification_bits,
    )


def _check(outcome: Outcome) -> None:
    keys = outcome.keys
    if keys is None:
        return
    if not keys[0].equals(keys[1]):
        raise LocalProtocolError("the two keys differ although every tag verified")
    for log in (outcome.alice_log, outcome.bob_log):
        if booked(log) != outcome.counted:
            raise LocalProtocolError(f"the ledger ({booked(log)}) disagrees with the transcript ({outcome.counted})")
