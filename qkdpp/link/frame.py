"""Frames: what crosses the classical channel, byte for byte (``docs/formats/wire.md``).

All integers are little-endian. ``length`` counts the bytes after itself, so a
reader on a stream knows where a frame ends before it looks inside.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from qkdpp.core.errors import LocalProtocolError, RemoteProtocolError

HEADER: Final = struct.Struct("<IBQII")
LENGTH_BYTES: Final = 4
MAX_BODY_BYTES: Final = 1 << 28
"""Upper limit of any body; message types set their own, smaller ones."""


class Kind(IntEnum):
    """What a frame carries."""

    MESSAGE = 1
    TAG = 2
    ABORT = 3


_KINDS: Final = {int(kind): kind for kind in Kind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame of one block.

    Attributes:
        kind: what ``body`` is.
        block: number of the block.
        seq: frames the sender sent before this one.
        ack: frames the sender had received before it sent this one.
        body: a MessagePack message, a tag, or the reason of an abort.
    """

    kind: Kind
    block: int
    seq: int
    ack: int
    body: bytes

    def encode(self) -> bytes:
        """The frame as bytes."""
        if len(self.body) > MAX_BODY_BYTES:
            raise LocalProtocolError(f"a body of {len(self.body)} bytes; at most {MAX_BODY_BYTES} are allowed")
        length = HEADER.size - LENGTH_BYTES + len(self.body)
        return HEADER.pack(length, self.kind, self.block, self.seq, self.ack) + self.body


def decode(data: bytes) -> Frame:
    """The one frame that ``data`` is; RemoteProtocolError if it is anything else."""
    if not HEADER.size <= len(data) <= HEADER.size + MAX_BODY_BYTES:
        raise RemoteProtocolError(f"a frame of {len(data)} bytes")
    length, kind, block, seq, ack = HEADER.unpack_from(data)
    if length != len(data) - LENGTH_BYTES:
        raise RemoteProtocolError(f"a frame of {len(data)} bytes announces {length}")
    if kind not in _KINDS:
        raise RemoteProtocolError(f"unknown kind of frame {kind}")
    return Frame(kind=_KINDS[kind], block=block, seq=seq, ack=ack, body=data[HEADER.size :])
