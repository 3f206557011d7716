"""One key manager in service: store, connections to its peers, applications, until it is told to stop.

Stopping is graceful: no new connection, answers under way are finished (for a
few seconds), then the store is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from qkdpp.core.errors import InputError
from qkdpp.delivery.app import Application
from qkdpp.delivery.config import Delivery
from qkdpp.delivery.identity import server_context
from qkdpp.delivery.meeting import meeting
from qkdpp.delivery.metrics import Metrics, exposed
from qkdpp.delivery.peer import LinkedPeer, Peer
from qkdpp.delivery.protocol import Protocol
from qkdpp.delivery.streams import awaited
from qkdpp.keystore import KeyStore, StoreError, wrapping_of
from qkdpp.link.tcp import Address

LOGGER = logging.getLogger(__name__)
EXIT_AT_ONCE: Final = 130
EXPIRE_S: Final = 5.0
FINISH_S: Final = 5.0
LINGER_S: Final = 0.5
"""How long the rest of a refused body is read, so that the client sees why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where a server listens: for applications, for each peer that connects to it, and for Prometheus (0: not)."""

    applications: int
    metrics: int
    peers: Mapping[str, int]


@contextlib.asynccontextmanager
async def serving(delivery: Delivery, store: KeyStore) -> AsyncIterator[Ports]:
    """Serves an open store, peers by TCP, until the end of the context. InputError if an address is taken."""
    async with contextlib.AsyncExitStack() as stack:
        peers: dict[str, Peer] = {}
        ports: dict[str, int] = {}
        for section in delivery.peers:
            peer = LinkedPeer(await asyncio.to_thread(store.link, section.name))
            peers[section.name] = peer
            ports[section.name] = await stack.enter_async_context(meeting(peer, *delivery.meeting(section)))
        port, metrics = await stack.enter_async_context(answering(delivery, store, peers))
        yield Ports(applications=port, metrics=metrics, peers=ports)


@contextlib.asynccontextmanager
async def answering(delivery: Delivery, store: KeyStore, peers: Mapping[str, Peer]) -> AsyncIterator[tuple[int, int]]:
    """Answers applications until the end of the context; gives the ports, for them and for Prometheus.

    The peers are the caller's affair.
    """
    server = delivery.server
    metrics = Metrics(store, lambda: [(name, peer.up) for name, peer in peers.items()])
    context = server_context(
        delivery.file(server.authority),
        delivery.file(server.certificate),
        delivery.file(server.key),
        server.minimum_tls,
    )
    runner = web.AppRunner(Application(delivery, store, peers, metrics).build(), shutdown_timeout=FINISH_S)
    await runner.setup()
    housekeeping = asyncio.create_task(_expire(store))
    try:
        async with _listening(runner, delivery.address(), context) as port:
            with _exposed(delivery, metrics) as metrics_port:
                yield port, metrics_port
    finally:
        housekeeping.cancel()
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _listening(runner: web.AppRunner, where: Address, context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port; no new connection afterwards, while those that are there go on."""
    loop, manager = asyncio.get_running_loop(), runner.server
    assert manager is not None

    def connection() -> Protocol:
        return Protocol(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # none is kept
            lingering_time=LINGER_S,
            auto_decompress=False,
        )

    try:
        server = await loop.create_server(connection, where.host, where.port, ssl=context)
    except OSError as error:
        raise InputError(f"{where.host}:{where.port}: cannot listen for applications ({error})") from error
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


@contextlib.contextmanager
def _exposed(delivery: Delivery, metrics: Metrics) -> Iterator[int]:
    where, server = delivery.metrics(), delivery.server
    if where is None:
        yield 0
        return
    tls = (delivery.file(server.certificate), delivery.file(server.key)) if server.metrics_tls else None
    with contextlib.ExitStack() as stack:
        try:
            port = stack.enter_context(exposed(metrics.registry, where.host, where.port, tls))
        except OSError as error:
            raise InputError(f"{where.host}:{where.port}: cannot listen for metrics ({error})") from error
        yield port


async def _expire(store: KeyStore) -> None:
    while True:
        await asyncio.sleep(EXPIRE_S)
        try:
            await awaited(store.expire())
        except StoreError as error:
            LOGGER.warning("keys past their time wait for the next attempt: %s", error)


def serve(delivery: Delivery, started: Callable[[Ports], None]) -> None:
    """Opens the store and serves it until SIGINT or SIGTERM; the second one ends it at once, which the store survives.

    InputError if the store or its key does not serve.
    """
    wrapping = wrapping_of(delivery.store.key, delivery.path.parent, create=False)
    folder = delivery.file(delivery.store.folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no key store is there; a live node makes one (`qkdpp run`)")

    async def until_stopped(store: KeyStore) -> None:
        stop = asyncio.Event()

        def asked() -> None:
            if stop.is_set():
                os._exit(EXIT_AT_ONCE)
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, asked)
        async with serving(delivery, store) as ports:
            started(ports)
            await stop.wait()

    with KeyStore(folder, delivery.server.name, wrapping) as store:
        asyncio.run(until_stopped(store))
