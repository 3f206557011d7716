"""Connections between two key managers: TCP under TLS 1.3 with certificates on both sides, made again when lost.

One side listens, the other connects, by configuration. The certificate of the
other end must name it; everything else is :mod:`qkdpp.delivery.peer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final

from qkdpp.core.errors import InputError
from qkdpp.delivery.channel import StreamChannel
from qkdpp.delivery.peer import LinkedPeer
from qkdpp.link.tcp import Address, TlsFiles

LOGGER = logging.getLogger(__name__)
FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 10.0
CONNECT_S: Final = 5.0


@contextlib.asynccontextmanager
async def meeting(peer: LinkedPeer, address: Address, tls: TlsFiles) -> AsyncIterator[int]:
    """Keeps ``peer`` connected until the end of the context; gives the port (0 where it connects).

    Raises InputError if the address cannot be listened on, ConfigError if a file does not serve.
    """
    context = tls.context(server=address.listen)
    running: set[asyncio.Task[None]] = set()
    ending = asyncio.Event()

    def keep(task: asyncio.Task[None]) -> None:
        running.add(task)
        task.add_done_callback(running.discard)

    async def arrived(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if ending.is_set():  # its handshake outlived the listening socket
            writer.close()
            return
        keep(task)
        try:
            await _converse(peer, tls, reader, writer)
        except asyncio.CancelledError:
            writer.close()

    if address.listen:
        try:
            server = await asyncio.start_server(arrived, address.host, address.port, ssl=context)
        except OSError as error:
            raise InputError(f"{address.host}:{address.port}: cannot listen for {peer.name} ({error})") from error
        port = int(server.sockets[0].getsockname()[1])
    else:
        server, port = None, 0
        keep(asyncio.create_task(_keep_connecting(peer, address, tls)))
    try:
        yield port
    finally:
        ending.set()
        if server is not None:
            server.close()
        while running:  # again, because a cancellation that meets the end of a handshake can be lost
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=1.0)


async def _keep_connecting(peer: LinkedPeer, address: Address, tls: TlsFiles) -> None:
    context, wait_s = tls.context(server=False), FIRST_WAIT_S
    while True:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(
                    address.host, address.port, ssl=context, server_hostname=tls.peer_name
                )
        except (OSError, TimeoutError) as error:
            LOGGER.warning("key manager %s: no connection (%s)", peer.name, error or "no answer in time")
        else:
            if await _converse(peer, tls, reader, writer):
                wait_s = FIRST_WAIT_S
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


async def _converse(
    peer: LinkedPeer, tls: TlsFiles, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Whether the other end is the peer and has said something."""
    if tls.names(writer):
        try:
            return await peer.converse(StreamChannel(reader, writer))
        except Exception:
            LOGGER.exception("key manager %s: the connection was given up after a fault here", peer.name)
        return False
    LOGGER.warning("a connection for %s whose certificate does not name %r: refused", peer.name, tls.peer_name)
    writer.close()
    return False
