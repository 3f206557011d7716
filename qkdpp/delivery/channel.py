"""What carries messages between two key managers: whole messages, in order, or the end of the connection.

In memory for tests; in service TCP under TLS 1.3 with certificates on both
sides (:mod:`qkdpp.delivery.meeting`). Frame: length as u32, big-endian, and the message.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Final, Protocol

from qkdpp.core.errors import LinkError, RemoteProtocolError

LENGTH: Final = struct.Struct(">I")
MOST_BYTES: Final = 1 << 22


class Channel(Protocol):
    """One connection; LinkError once it is gone."""

    async def send(self, *messages: bytes) -> None:
        """Hands messages over; returns when they may be forgotten, not when they have arrived."""
        ...

    async def receive(self) -> bytes:
        """The next message."""
        ...

    def close(self) -> None:
        """Ends the connection for both ends."""
        ...


class MemoryChannel:
    """One of two ends in the same process; made by :func:`memory_pair`."""

    def __init__(self, out: asyncio.Queue[bytes | None], into: asyncio.Queue[bytes | None]) -> None:
        self._out, self._into, self._closed = out, into, False

    async def send(self, *messages: bytes) -> None:
        """See :class:`Channel`."""
        if self._closed:
            raise LinkError("the connection is closed")
        for message in messages:
            self._out.put_nowait(message)

    async def receive(self) -> bytes:
        """See :class:`Channel`."""
        message = None if self._closed else await self._into.get()
        if message is None:
            self._closed = True
            raise LinkError("the connection is closed")
        return message

    def close(self) -> None:
        """See :class:`Channel`."""
        self._closed = True
        self._out.put_nowait(None)
        self._into.put_nowait(None)


def memory_pair() -> tuple[MemoryChannel, MemoryChannel]:
    """Two ends of one connection."""
    there: asyncio.Queue[bytes | None] = asyncio.Queue()
    back: asyncio.Queue[bytes | None] = asyncio.Queue()
    return MemoryChannel(there, back), MemoryChannel(back, there)


class StreamChannel:
    """Over a stream of the event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, *messages: bytes) -> None:
        """See :class:`Channel`."""
        try:
            self._writer.write(b"".join(LENGTH.pack(len(message)) + message for message in messages))
            await self._writer.drain()
        except OSError as error:
            raise LinkError(f"the connection was lost: {error}") from error

    async def receive(self) -> bytes:
        """See :class:`Channel`; RemoteProtocolError if a message is longer than any may be."""
        try:
            (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            if length > MOST_BYTES:
                raise RemoteProtocolError(f"a message of {length} bytes; at most {MOST_BYTES} are allowed")
            return await self._reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise LinkError(f"the connection was lost: {error}") from error

    def close(self) -> None:
        """See :class:`Channel`."""
        self._writer.close()
