"""What goes in and out of a key store: values without a database behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID

import msgspec

SECOND_NS: Final = 1_000_000_000

Position: TypeAlias = tuple[int, int]
"""A place in a one-way stream: number of the block, offset in it (bytes). Positions are ordered like tuples."""
START: Final[Position] = (-1, 0)
"""Before every block."""


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """``nbytes`` bytes of block ``block`` from ``offset`` on."""

    block: int
    offset: int
    nbytes: int


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Chunks of the stream ``stream``, in order, from index ``first`` on."""

    stream: UUID
    first: int


class Reservation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys that one end has taken from its stream, as the other end is told. Travels between the key managers only.

    Attributes:
        epoch: pairing epoch.
        key_ids: the keys, each of ``nbytes`` bytes, cut from ``pieces`` one after the other.
        nbytes: bytes of one key.
        pieces: ranges of blocks, in the order of the stream.
        master: SAE that asked.
        slaves: SAEs that may fetch each key once.
        ttl_s: how long the other end keeps what is not fetched.
        masks: where the bytes are one-time pads: the keys under them, one for each; otherwise empty.
        part: where the keys are chunks of a stream: which.
    """

    epoch: int
    key_ids: tuple[UUID, ...]
    nbytes: int
    pieces: tuple[Piece, ...]
    master: str
    slaves: tuple[str, ...]
    ttl_s: int
    masks: tuple[bytes, ...] = ()
    part: Part | None = None


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both ends of a stream agreed on, for ever. Chunks are taken at the source's end.

    Attributes:
        stream: identifier.
        source: SAE at the end that allocates.
        destination: SAE at the other end.
        nbytes: bytes of a chunk.
        ttl_s: how long a chunk waits for one that does not ask.
        quality: the rest of what was agreed, for the applications.
    """

    stream: UUID
    source: str
    destination: str
    nbytes: int
    ttl_s: int
    quality: str


SOURCE: Final = 1
DESTINATION: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """A stream as this store knows it.

    Attributes:
        terms: what was agreed.
        here: ``SOURCE`` or ``DESTINATION``: whose end this is.
        next: every chunk below this index was reserved, or never will be.
        waiting: lowest index that waits here for the destination; ``next`` if none does.
        last: no chunk from this index on will be given out any more; None while both ends may.
        joined: which applications have opened it, as a sum.
        closed: which have closed it, as a sum.
    """

    terms: Terms
    here: int
    next: int
    waiting: int
    last: int | None
    joined: int
    closed: int


class Counters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers of a store that only grow; ``instance`` is drawn anew at every opening and orders nothing.

    Attributes:
        store: identifier of the store.
        boot: how often it was opened.
        instance: this opening.
        height: events in its log.
        digest: of the log up to there.
        tx: end of what it has allocated.
        rx: end of what it has accepted.
    """

    store: UUID
    boot: int
    instance: UUID
    height: int
    digest: bytes
    tx: Position
    rx: Position


class Hello(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counters of the sender, the last ones that it has seen of the receiver, and why it has closed the link, if so."""

    epoch: int
    closed: str
    own: Counters
    seen: Counters | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """What came of the peer's HELLO.

    Attributes:
        met: both ends know each other's present counters; keys may move.
        answer: the peer must be sent a HELLO of this end.
        refused: why the link is closed; empty if it is not.
    """

    met: bool
    answer: bool
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Key:
    """A key on its way out: the store has none of it any more for this receiver. :meth:`wipe` it after use."""

    key_id: UUID
    secret: bytearray = field(repr=False)

    def wipe(self) -> None:
        """Overwrites the bytes (copies made of them are out of reach)."""
        self.secret[:] = bytes(len(self.secret))


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatus:
    """Stock and state of one link; all sizes in bytes.

    Attributes:
        peer: the key manager at the other end.
        epoch: pairing epoch.
        closed: why the link is closed; empty if it is not.
        available: can be allocated here now.
        incoming: can be allocated by the peer.
        resting: ready, not released yet, both streams.
        pending: not confirmed by the peer, both streams.
        capacity: most that a stream keeps for allocation.
        reserved: keys taken here and not answered yet.
        held: keys that wait for slaves here.
        oldest_ns: when the oldest block that can be allocated here came; None without one.
        totals: bytes so far by use: ``stored`` (made ready), ``app``, ``burned``, ``expired``.
    """

    peer: str
    epoch: int
    closed: str
    available: int
    incoming: int
    resting: int
    pending: int
    capacity: int
    reserved: int
    held: int
    oldest_ns: int | None
    totals: Mapping[str, int]

    def keys(self, nbytes: int) -> int:
        """Keys of so many bytes that can be given out now (ETSI ``stored_key_count``)."""
        return self.available // nbytes

    def most_keys(self, nbytes: int) -> int:
        """The largest value of :meth:`keys` (ETSI ``max_key_count``)."""
        return self.capacity // nbytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds a store.

    Attributes:
        capacity: most bytes that the own stream of a link keeps for allocation; the oldest go first. The peer's
            stream may hold a quarter more, because its end alone knows what it has allocated.
        max_age_s: blocks older than this are destroyed.
        rotate_s: a data key seals new blocks for so long.
    """

    capacity: int = 64 << 20
    max_age_s: int = 30 * 86400
    rotate_s: int = 86400
