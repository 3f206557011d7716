"""What a key store offers to the runner of blocks, and what a node is told about blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from qkdpp.core.abort import Aborted, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.ledger import Side
from qkdpp.link.endpoint import Record, Traffic
from qkdpp.link.events import Control, Down, Failed, PeerLeft, Suspect, Up
from qkdpp.protocols.block import BlockLog


class KeySink(Protocol):
    """Where keys go. Every method has lasting effect when it returns; all are called from one thread.

    A block is *pending* from :meth:`stage` to :meth:`ready` or :meth:`burn`. No pending key may be given out.
    """

    def stage(self, block: int, key: Bits) -> None:
        """Stores the key of ``block`` as pending."""
        ...

    def ready(self, block: int) -> None:
        """The peer holds the same key: it may be used."""
        ...

    def burn(self, block: int, reason: str) -> None:
        """The peer does not hold this pending key: it is destroyed and never comes back."""
        ...

    def pending(self) -> Mapping[int, int]:
        """Bits of every pending block, by block."""
        ...

    def held(self, block: int) -> int | None:
        """Bits of a block that is pending, ready or already used; None if it never came here or was burned."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEnd:
    """One block has ended.

    Attributes:
        block: its number.
        result: the key as stored and ready, or why there is none.
        log: the party's notes.
        pool_bits: further bits of the key that went into the authentication pool.
        traffic: what each side sent.
        eps_auth: sum of the forgery probabilities of its tags.
        transcript: all frames, public.
    """

    block: int
    result: Bits | Aborted
    log: BlockLog
    pool_bits: int
    traffic: Mapping[Side, Traffic]
    eps_auth: float
    transcript: list[Record] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerDropped:
    """The peer has ended blocks that are not open here: never opened, or opened before this program was restarted."""

    blocks: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """A key left pending by an earlier run of this program is ready now, or burned."""

    block: int
    key_bits: int
    ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something a person must look at; ``remedy`` says what to do."""

    reason: AbortReason
    remedy: str


NodeEvent: TypeAlias = Up | Down | PeerLeft | Failed | Suspect | Control | PeerDropped | Reconciled | Alarm
