"""Wegman-Carter tags at gates: polynomial hash of both transcripts, under a fresh one-time pad.

The hashed text is a header (domain, sealing role, block, number of frames of
each side, gate), then all frames of Alice, then all frames of Bob, each filled
up with zero bytes to whole 16-byte blocks. Frames carry their length, their
sequence number and the count of frames their sender had received, so the text
determines both transcripts and their interleaving. A gate costs the hashing of
the frames that are new, whatever came before.

Forgery probability of one tag: L / 2^128 with L blocks of text
(``docs/security.md``; Portmann 2014 for the recycled hash key).
"""

from __future__ import annotations

import hmac
import struct

from qkdpp.core.errors import AuthenticationError, RemoteProtocolError
from qkdpp.core.ledger import Side
from qkdpp.kernels.polyhash import EMPTY, PolyHasher, PolyState, finish, join
from qkdpp.link.pool import PAD_BYTES, Pool

DOMAIN = b"qkdpp gate 1"
_TEXT_HEADER = struct.Struct(f"<{len(DOMAIN)}sBQIIB")
_TAG = struct.Struct(f"<Q{PAD_BYTES}s")
_SIDES: tuple[Side, Side] = ("alice", "bob")


def text_header(role: Side, gate: str, block: int, alice_frames: int, bob_frames: int) -> bytes:
    """The first part of the text that ``role`` seals at ``gate``; padded to blocks by the hash."""
    name = gate.encode()
    return _TEXT_HEADER.pack(DOMAIN, _SIDES.index(role), block, alice_frames, bob_frames, len(name)) + name


class Authenticator:
    """Hashes the transcripts of one block at its gates; makes and checks the tags of one party."""

    def __init__(self, pool: Pool, role: Side, block: int) -> None:
        self._pool = pool
        self._role = role
        self._block = block
        self._frames: dict[Side, list[bytes]] = {side: [] for side in _SIDES}
        self._states: dict[Side, dict[int, PolyState]] = {side: {0: EMPTY} for side in _SIDES}
        self._blocks_tagged = 0
        self._next_pad = 0

    @property
    def eps_auth(self) -> float:
        """Sum over the tags made and checked so far of their forgery probabilities."""
        return self._blocks_tagged / 2.0**128

    def append(self, side: Side, frame: bytes) -> None:
        """One more frame said by ``side``."""
        self._frames[side].append(frame)

    def _state(self, side: Side, count: int) -> PolyState:
        """After the first ``count`` frames of ``side``; those since the last gate are hashed in one call."""
        states = self._states[side]
        if count not in states:
            start = max(known for known in states if known < count)
            hasher = PolyHasher(self._pool.hash_key, states[start])
            hasher.update(b"".join(_padded(frame) for frame in self._frames[side][start:count]))
            states[count] = hasher.state
        return states[count]

    def _hash(self, role: Side, gate: str, frames: dict[Side, int]) -> bytes:
        key = self._pool.hash_key
        header = PolyHasher(key)
        header.update(text_header(role, gate, self._block, frames["alice"], frames["bob"]))
        text = join(key, [header.state, *(self._state(side, frames[side]) for side in _SIDES)])
        self._blocks_tagged += text.n_blocks + 1
        return finish(key, text, text.n_blocks * PAD_BYTES)

    def seal(self, gate: str) -> bytes:
        """Body of the tag frame of ``gate``, over all frames so far. Raises Abort(POOL_EXHAUSTED)."""
        index, pad = self._pool.take()
        digest = self._hash(self._role, gate, {side: len(self._frames[side]) for side in _SIDES})
        return _TAG.pack(index, xor(digest, pad))

    def unseal(self, gate: str, body: bytes, heard: int) -> None:
        """Checks the peer's tag over all its frames so far and the first ``heard`` of ours.

        Raises RemoteProtocolError on a body that is no tag, AuthenticationError on a tag that is not the peer's. The
        pad is consumed, durably, before this returns.
        """
        if len(body) != _TAG.size:
            raise RemoteProtocolError(f"a tag of {len(body)} bytes")
        index, tag = _TAG.unpack(body)
        peer: Side = "bob" if self._role == "alice" else "alice"
        if index < self._next_pad:
            raise AuthenticationError(f"pad {index} was used before, or after a later one of the same block")
        pad = self._pool.peek(index)
        digest = self._hash(peer, gate, {self._role: heard, peer: len(self._frames[peer])})
        if not hmac.compare_digest(xor(digest, pad), tag):
            raise AuthenticationError(f"the tag of gate {gate!r} does not verify")
        self._pool.accept(index)
        self._next_pad = index + 1


def _padded(frame: bytes) -> bytes:
    """With zero bytes up to a block boundary."""
    return frame.ljust(-(-len(frame) // PAD_BYTES) * PAD_BYTES, b"\0")


def xor(a: bytes, b: bytes) -> bytes:
    """Exclusive or of two strings of equal length."""
    return bytes(x ^ y for x, y in zip(a, b, strict=True))
