"""Control messages: typed structs that the node registers, each under an authentication tag of its own.

The tag is that of the gates (``docs/notes/authentication.md``): a polynomial
hash under a fresh pad. The hashed text names who speaks to whom, in which
session, and the number of the message, so that none can be repeated, left out
or moved to another session.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any, Final

import msgspec

from qkdpp.core import stage
from qkdpp.core.errors import AuthenticationError, LocalProtocolError, RemoteProtocolError
from qkdpp.core.ledger import Side
from qkdpp.core.stage import Message
from qkdpp.kernels.polyhash import poly_hash
from qkdpp.link.auth import xor
from qkdpp.link.hello import Confirm, Leave
from qkdpp.link.pool import LANES, PAD_BYTES, Pool

DOMAIN: Final = b"qkdpp ctrl 1"
_TEXT_HEADER: Final = struct.Struct(f"<{len(DOMAIN)}sBIIQ")
_TAG: Final = struct.Struct(f"<Q{PAD_BYTES}s")
MAX_BYTES: Final = 1 << 20


class Codec:
    """Control messages as MessagePack; ``types`` are those the node registered."""

    def __init__(self, types: Sequence[type[Message]]) -> None:
        self._types = (Confirm, Leave, *types)
        self._decoder = msgspec.msgpack.Decoder[Any](reduce(or_, self._types))

    def encode(self, message: Message) -> bytes:
        """LocalProtocolError if the type was not registered or the message is too large."""
        body = stage.encode(message)
        if type(message) not in self._types or len(body) > MAX_BYTES:
            raise LocalProtocolError(f"{type(message).__name__} is no registered control message of allowed size")
        return body

    def decode(self, body: bytes) -> Message:
        """RemoteProtocolError unless ``body`` is a well-formed message of a registered type."""
        try:
            message: Message = self._decoder.decode(body)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise RemoteProtocolError(f"a control message: {error}") from error
        return message


class ControlAuth:
    """Seals and unseals the control messages of one session; ``own`` and ``peer`` are the incarnations."""

    def __init__(self, pool: Pool, role: Side, own: int, peer: int) -> None:
        self._pool, self._own, self._peer = pool, own, peer
        self._role: Side = role
        self._sealed = self._unsealed = 0

    def seal(self, body: bytes, taken: tuple[int, bytes] | None = None) -> bytes:
        """Payload of a CONTROL frame, under a pad ``taken`` for it or the next one. Raises Abort(POOL_EXHAUSTED)."""
        index, pad = taken or self._pool.take()
        text = _TEXT_HEADER.pack(DOMAIN, LANES.index(self._role), self._own, self._peer, self._sealed) + body
        self._sealed += 1
        return _TAG.pack(index, xor(poly_hash(self._pool.hash_key, text), pad)) + body

    def unseal(self, payload: bytes) -> bytes:
        """The body; AuthenticationError unless this is the peer's next message. Its pad is consumed durably.

        The first message of a session burns all earlier pads of the peer: they were lost with earlier sessions.
        """
        if not _TAG.size <= len(payload) <= _TAG.size + MAX_BYTES:
            raise RemoteProtocolError(f"a control message of {len(payload)} bytes")
        index, tag = _TAG.unpack_from(payload)
        body = payload[_TAG.size :]
        text = _TEXT_HEADER.pack(DOMAIN, 1 - LANES.index(self._role), self._peer, self._own, self._unsealed) + body
        pad = self._pool.peek(index)
        if not hmac.compare_digest(xor(poly_hash(self._pool.hash_key, text), pad), tag):
            raise AuthenticationError(f"the tag of control message {self._unsealed} does not verify")
        if self._unsealed == 0:
            self._pool.burn_below(index)
        self._unsealed += 1
        self._pool.accept(index)
        return body
