"""Authentication pools: a reusable hash key and one-time pads, each used once, whatever happens.

Both parties hold the same pool. Pads lie in two lanes, one per direction, and
are numbered from zero for ever; the sender of a tag takes the next pad of its
lane and names its number. Blocks in flight make tags arrive out of order, so a
receiver accepts any pad it has not accepted before, within a window. A cursor
is durable before a pad serves, and a used pad is erased, so that neither a kill
nor an older cursor copied over the newer one brings a pad back; what lies below
the highest pad ever seen is burned when a pool is opened. Slots are filled
again from distilled key, in a circle. What no file can notice is the whole file
put back from a copy: the peer does (:meth:`Pool.check_peer`).
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.entropy import Entropy
from qkdpp.core.errors import AuthenticationError, InputError, LocalProtocolError
from qkdpp.core.ledger import Side

PAD_BYTES: Final = 16
PAD_BITS: Final = 8 * PAD_BYTES
LANES: Final[tuple[Side, Side]] = ("alice", "bob")
"""A lane is named after its sender."""
WINDOW: Final = 256
"""How far below the highest accepted pad a late one may lie; older gaps are burned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSeen:
    """The highest numbers that the peer showed under a tag; lower ones mean that it came back from a copy.

    Attributes:
        incarnation: how often the peer had been started.
        sent: first pad of its lane that it had not taken.
        accepted: first pad of our lane above all that it had accepted.
    """

    incarnation: int = 0
    sent: int = 0
    accepted: int = 0


@dataclass(slots=True, kw_only=True)
class PoolState:
    """What is durable besides the pads: ``cursors`` by lane, ``filled`` (end of both lanes), incarnations."""

    cursors: dict[Side, int]
    filled: int
    incarnation: int = 0
    peer: PeerSeen = PeerSeen()


class Pool(ABC):
    """One party's view of a pool; ``hash_key`` is the reusable hash key, 16 bytes. Safe to use from several threads."""

    def __init__(self, role: Side, hash_key: bytes, n_slots: int, state: PoolState) -> None:
        self.hash_key = hash_key
        self.n_slots = n_slots
        self._role: Side = role
        self._peer: Side = "bob" if role == "alice" else "alice"
        self._state = state
        self._limit = state.filled
        self._floor = state.cursors[self._peer]
        self._late: set[int] = set()
        self._used = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._role}, remaining={self.remaining})"

    @property
    def sent(self) -> int:
        """First pad of the own lane not taken yet."""
        return self._state.cursors[self._role]

    @property
    def accepted(self) -> int:
        """First pad of the peer's lane above all accepted ones."""
        return self._state.cursors[self._peer]

    @property
    def filled(self) -> int:
        """First pad, in either lane, that this party does not hold yet."""
        return self._state.filled

    @property
    def incarnation(self) -> int:
        """How often a live process was started on this pool."""
        return self._state.incarnation

    @property
    def remaining(self) -> int:
        """Pads that both parties are known to hold, in the lane with fewer of them."""
        return max(0, self._limit - max(self._state.cursors.values()))

    @property
    def bits_used(self) -> int:
        """Pad bits taken and accepted in both lanes since this object was made."""
        return PAD_BITS * self._used

    @property
    def room(self) -> int:
        """Pads per lane that can be added without touching one that may still serve."""
        with self._lock:
            return self.n_slots - (self._state.filled - min(self._floor, self.sent))

    def begin(self) -> int:
        """The number of this incarnation of a live process: one more than the last, durable on return."""
        with self._lock:
            self._state.incarnation += 1
            self._save()
            return self._state.incarnation

    def take(self, peer_filled: int | None = None) -> tuple[int, bytes]:
        """Number and pad for the next tag to send; Abort(POOL_EXHAUSTED) if there is none.

        ``peer_filled`` is where the peer's pool ends, as it says itself, while that is not agreed yet.
        """
        with self._lock:
            index, limit = self.sent, self._limit if peer_filled is None else min(self.filled, peer_filled)
            if index >= limit:
                raise Abort(AbortReason.POOL_EXHAUSTED, lane=self._role, tags=limit)
            pad = self._read(self._role, index)
            self._state.cursors[self._role] = index + 1
            self._erase(self._role, index, 1)
            self._used += 1
            return index, pad

    def peek(self, index: int) -> bytes:
        """The peer's pad ``index``, not yet consumed; AuthenticationError if it cannot serve any more."""
        with self._lock:
            self._check_unused(index)
            return self._read(self._peer, index)

    def accept(self, index: int) -> None:
        """Consumes the peer's pad ``index``; AuthenticationError if it was consumed before."""
        with self._lock:
            self._check_unused(index)
            self._state.cursors[self._peer] = max(self.accepted, index + 1)
            self._late.add(index)
            self._erase(self._peer, index, 1)
            self._used += 1
            self._raise_floor(self.accepted - WINDOW)

    def burn_below(self, index: int) -> None:
        """Gives up all of the peer's pads before ``index``: they were lost on their way."""
        with self._lock:
            if index > self.filled:
                raise AuthenticationError(f"the peer has used pad {index}, of {self.filled}")
            self._state.cursors[self._peer] = max(self.accepted, index)
            self._raise_floor(index)

    def _check_unused(self, index: int) -> None:
        if not self._floor <= index < self.filled or index in self._late:
            raise AuthenticationError(f"pad {index} was used before or does not exist")

    def _raise_floor(self, least: int) -> None:
        first = self._floor
        while self._floor < least or self._floor in self._late:
            self._late.discard(self._floor)
            self._floor += 1
        if first < least:
            self._erase(self._peer, first, least - first)

    def check_peer(self, seen: PeerSeen) -> str | None:
        """What is wrong with the numbers the peer shows, and what to do about it; None if nothing is."""
        known, remedy = self._state.peer, "a pool restored from a copy must not be used: make new pools"
        if seen.incarnation < known.incarnation or seen.sent < max(known.sent, self.accepted):
            return (
                f"the peer's pool is older than what it showed before (start {seen.incarnation}, pad {seen.sent}; "
                f"known are start {known.incarnation}, pad {max(known.sent, self.accepted)}): {remedy}"
            )
        if seen.accepted < known.accepted:
            return f"the peer has forgotten pads it accepted ({seen.accepted} after {known.accepted}): {remedy}"
        if seen.accepted > self.sent:
            return f"the peer has seen pad {seen.accepted - 1} and this pool is only at {self.sent}: {remedy}"
        return None

    def note_peer(self, seen: PeerSeen) -> None:
        """Keeps what the peer showed under a tag, durably."""
        with self._lock:
            self._state.peer = seen
            self._save()

    def agree(self, limit: int) -> None:
        """Both parties hold the pads before ``limit`` and no others count; those beyond are erased, durably."""
        with self._lock:
            if limit < max(self._state.cursors.values()):
                raise AuthenticationError(f"the peer lacks pads before {max(self._state.cursors.values())}, used here")
            self._limit = limit
            if limit < self.filled:
                beyond, self._state.filled = self.filled, limit
                for lane in LANES:
                    self._erase(lane, limit, beyond - limit)

    def fill(self, at: int, key: bytes) -> None:
        """Adds ``key``, half of it to each lane, as the pads from ``at`` on, durably.

        They are not taken before :meth:`agree` says that the peer has them too.
        """
        n_pads, rest = divmod(len(key), len(LANES) * PAD_BYTES)
        if rest or at != self.filled or n_pads > self.room:
            raise LocalProtocolError(f"{len(key)} bytes for pads from {at} on; the pool ends at {self.filled}")
        half = len(key) // 2
        with self._lock:
            self._write("alice", at, key[:half])
            self._write("bob", at, key[half:])
            self._state.filled = at + n_pads
            self._save()

    @abstractmethod
    def _read(self, lane: Side, index: int) -> bytes:
        """The pad at ``index``."""

    @abstractmethod
    def _write(self, lane: Side, first: int, pads: bytes) -> None:
        """Stores ``pads`` from ``first`` on; they are not valid before :meth:`_save`."""

    @abstractmethod
    def _erase(self, lane: Side, first: int, count: int) -> None:
        """Saves the state, then erases ``count`` pads from ``first`` on; both have lasting effect on return."""

    @abstractmethod
    def _save(self) -> None:
        """Gives state and pads lasting effect."""


class EphemeralPool(Pool):
    """A throw-away pool in memory, one object per party, made by :meth:`pair`."""

    def __init__(self, role: Side, hash_key: bytes, lanes: dict[Side, bytes]) -> None:
        n_slots = len(lanes[role]) // PAD_BYTES
        super().__init__(role, hash_key, n_slots, PoolState(cursors=dict.fromkeys(LANES, 0), filled=n_slots))
        self._lanes = {lane: bytearray(pads) for lane, pads in lanes.items()}

    @staticmethod
    def pair(n_tags: int, entropy: Entropy) -> tuple[EphemeralPool, EphemeralPool]:
        """Alice's and Bob's copies of a fresh pool of ``n_tags`` pads per direction."""
        if n_tags < 1:
            raise InputError(f"a pool needs at least one tag per direction, got {n_tags}")
        hash_key = entropy.bytes(PAD_BYTES)
        lanes = {lane: entropy.bytes(n_tags * PAD_BYTES) for lane in LANES}
        return EphemeralPool("alice", hash_key, lanes), EphemeralPool("bob", hash_key, lanes)

    def _read(self, lane: Side, index: int) -> bytes:
        start = index % self.n_slots * PAD_BYTES
        return bytes(self._lanes[lane][start : start + PAD_BYTES])

    def _write(self, lane: Side, first: int, pads: bytes) -> None:
        for i in range(len(pads) // PAD_BYTES):
            start = (first + i) % self.n_slots * PAD_BYTES
            self._lanes[lane][start : start + PAD_BYTES] = pads[i * PAD_BYTES : (i + 1) * PAD_BYTES]

    def _erase(self, lane: Side, first: int, count: int) -> None:
        self._write(lane, first, bytes(count * PAD_BYTES))

    def _save(self) -> None:
        pass
