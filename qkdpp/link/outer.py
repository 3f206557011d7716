"""Outer frames: the envelope of everything that crosses the connection of a live link (``docs/formats/wire.md``).

All integers are big-endian (network order). The header has a checksum of its
own, so that a damaged length is noticed before anybody waits for so many
bytes. Checksums find accidents, tags find forgeries.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from qkdpp.core.errors import LinkError, LocalProtocolError, RemoteProtocolError
from qkdpp.link.frame import HEADER as FRAME_HEADER
from qkdpp.link.frame import MAX_BODY_BYTES

MAGIC: Final = b"QKDL"
VERSION: Final = 1
_FIELDS: Final = struct.Struct(">4sBBHIIIQQQI")
_CHECKSUM: Final = struct.Struct(">I")
HEADER_BYTES: Final = _FIELDS.size + _CHECKSUM.size
MAX_PAYLOAD_BYTES: Final = FRAME_HEADER.size + MAX_BODY_BYTES
MAX_GREETING_BYTES: Final = 1 << 20
"""What a peer may send before it has confirmed who it is."""


class Type(IntEnum):
    """What an outer frame carries. BLOCK and CONTROL are numbered, kept until acknowledged and delivered once."""

    HELLO = 1
    BLOCK = 2
    CONTROL = 3
    BEAT = 4
    BYE = 5
    REFUSE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """One outer frame.

    Attributes:
        type: what ``payload`` is.
        sender: incarnation of the sender.
        receiver: incarnation of the receiver that is meant; 0 in HELLO and REFUSE.
        seq: number of this frame among the numbered ones of its sender; in BEAT and BYE that of the next one.
        ack: numbered frames of the receiver that the sender has received.
        credit: bytes of BLOCK payload that the receiver may have sent in this session, in total.
        payload: bytes of that type.
    """

    type: Type
    sender: int
    receiver: int = 0
    seq: int = 0
    ack: int = 0
    credit: int = 0
    payload: bytes = b""

    def encode(self) -> bytes:
        """The frame as bytes."""
        if len(self.payload) > MAX_PAYLOAD_BYTES:
            raise LocalProtocolError(f"a payload of {len(self.payload)} bytes; at most {MAX_PAYLOAD_BYTES} are allowed")
        fields = _FIELDS.pack(
            MAGIC,
            VERSION,
            self.type,
            0,
            len(self.payload),
            self.sender,
            self.receiver,
            self.seq,
            self.ack,
            self.credit,
            zlib.crc32(self.payload),
        )
        return b"".join((fields, _CHECKSUM.pack(zlib.crc32(fields)), self.payload))


class Reader:
    """Cuts a stream of bytes into outer frames; ``max_payload_bytes`` may be raised once the peer is known."""

    def __init__(self) -> None:
        self.max_payload_bytes = MAX_GREETING_BYTES
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Adds bytes as they came."""
        self._buffer += data

    def next(self) -> Outer | None:
        """The next complete frame, or None.

        Raises LinkError on damage, RemoteProtocolError on a frame that this version does not know.
        """
        if len(self._buffer) < HEADER_BYTES:
            return None
        fields = bytes(self._buffer[: _FIELDS.size])
        magic, version, kind, reserved, length, sender, receiver, seq, ack, credit, checksum = _FIELDS.unpack(fields)
        if magic != MAGIC:
            raise RemoteProtocolError("the peer does not speak this protocol")
        if version != VERSION:
            raise RemoteProtocolError(f"outer frames of version {version}; this is version {VERSION}")
        if _CHECKSUM.unpack_from(self._buffer, _FIELDS.size) != (zlib.crc32(fields),):
            raise LinkError("a frame header arrived damaged")
        if kind not in Type._value2member_map_ or reserved:
            raise RemoteProtocolError(f"unknown type of outer frame {kind}")
        if length > self.max_payload_bytes:
            raise RemoteProtocolError(f"an outer frame of {length} bytes; at most {self.max_payload_bytes} here")
        if len(self._buffer) < HEADER_BYTES + length:
            return None
        payload = bytes(memoryview(self._buffer)[HEADER_BYTES : HEADER_BYTES + length])
        del self._buffer[: HEADER_BYTES + length]
        if zlib.crc32(payload) != checksum:
            raise LinkError("a frame arrived damaged")
        return Outer(
            type=Type(kind), sender=sender, receiver=receiver, seq=seq, ack=ack, credit=credit, payload=payload
        )
