"""Binary messages of Thorlabs motion controllers (APT), as far as the MPC320 needs them. Sans-IO.

A message begins with 6 bytes: id (unsigned 16 bit, little-endian), two parameters or the length of the data that
follows, destination (bit 7 set: data follows) and source. Source of the layouts: maker's protocol as used by public
drivers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HOST, UNIT = 0x01, 0x50
HEADER_BYTES = 6
LONGEST_DATA_BYTES = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of the unit.

    Attributes:
        number: message id.
        first, second: the two parameters of a short message (0 for a long one).
        data: what follows the header of a long message.
    """

    number: int
    first: int = 0
    second: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first 6 bytes of a message.

    Attributes:
        data_bytes: how many bytes follow.
        plausible: addressed to the host by the unit, with a length that occurs.
    """

    number: int
    first: int
    second: int
    data_bytes: int
    plausible: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddleStatus:
    """Position report of one paddle: position in counts, speed word, and the status bits."""

    channel: int
    position_counts: int
    bits: int


def short(number: int, first: int = 0, second: int = 0) -> bytes:
    """A message without data."""
    return struct.pack("<HBBBB", number, first, second, UNIT, HOST)


def long(number: int, data: bytes) -> bytes:
    """A message with data."""
    return struct.pack("<HHBB", number, len(data), UNIT | 0x80, HOST) + data


def read_header(raw: bytes) -> Header:
    """Take the first 6 bytes apart."""
    number, first, second, destination, source = struct.unpack("<HBBBB", raw)
    has_data = bool(destination & 0x80)
    data_bytes = first | second << 8 if has_data else 0
    ours = destination & 0x7F == HOST and source == UNIT and data_bytes <= LONGEST_DATA_BYTES
    return Header(
        number=number,
        first=0 if has_data else first,
        second=0 if has_data else second,
        data_bytes=data_bytes,
        plausible=ours,
    )


def read_status(data: bytes) -> PaddleStatus:
    """The 14 bytes of a move completion (0x0464) or status (0x0491).

    Raises:
        ValueError: wrong length.
    """
    if len(data) != 14:
        raise ValueError(f"{len(data)} bytes, 14 are needed")
    channel, position, _, _, bits = struct.unpack("<HiHHI", data)
    return PaddleStatus(channel=channel, position_counts=position, bits=bits)


def read_info(data: bytes) -> tuple[int, str, int]:
    """Serial number, model and firmware word of the 84 bytes of an info reply.

    Raises:
        ValueError: wrong length.
    """
    if len(data) != 84:
        raise ValueError(f"{len(data)} bytes, 84 are needed")
    serial, model, _, firmware = struct.unpack_from("<I8sHI", data)
    return serial, model.rstrip(b"\0").decode("ascii", errors="replace"), firmware
