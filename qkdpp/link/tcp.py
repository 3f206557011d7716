"""The edge of a live link: one TCP connection, TLS 1.3 with certificates on both sides, made again when it breaks.

One side listens, the other connects, by configuration. Only one connection
serves at a time; another one is turned away unless the present one is silent
or has not proved itself yet. After connections that proved nothing either side
waits, longer each time. TLS is hygiene: what counts is authenticated inside
(``docs/security.md``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qkdpp.core.errors import InputError
from qkdpp.core.stage import Message
from qkdpp.link.events import Down, Event, Up
from qkdpp.link.pem import load_pem
from qkdpp.link.session import DEAD_S, Session
from qkdpp.link.states import State

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 3.0
"""Between two attempts to connect."""
LONGEST_PAUSE_S: Final = 1.0
"""Between two connections that the listening side takes, unless they prove themselves."""
SILENT_S: Final = 2.0
"""A connection on which nothing was heard for so long gives way to a new one."""
_STRANGER: Final = "if it stays so, see whether link.authority there has signed link.certificate here"
_TICK_S: Final = 0.2
_READ_BYTES: Final = 1 << 18

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files, and the name that must stand in the peer's certificate (as DNS name of the alternative names)."""

    authority: Path
    certificate: Path
    key: Path
    peer_name: str

    def context(self, *, server: bool) -> ssl.SSLContext:
        """TLS 1.3, certificates of ``authority`` alone, asked of both sides. ConfigError if a file does not serve."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = not server
        context.verify_mode = ssl.CERT_REQUIRED
        load_pem(context, self.authority, self.certificate, self.key)
        return context

    def names(self, writer: asyncio.StreamWriter) -> bool:
        """Whether the certificate of the other end names the peer."""
        certificate = writer.get_extra_info("peercert") or {}
        return ("DNS", self.peer_name) in certificate.get("subjectAltName", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen or to connect; both sides know which of the two they do."""

    host: str
    port: int
    listen: bool


class TcpLink:
    """Runs ``session`` over TCP: :meth:`run` in a task, events from :meth:`next_event`.

    ``tls`` None means bare TCP, for tests. All methods belong to one event loop.
    """

    def __init__(self, session: Session, address: Address, tls: TlsFiles | None) -> None:
        self.session = session
        self.port = 0
        """Where it listens (useful with port 0)."""
        self._address, self._tls = address, tls
        self._context = None if tls is None else tls.context(server=address.listen)
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._arrivals: asyncio.Queue[_Connection] = asyncio.Queue()
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._done = asyncio.Event()
        self._current: asyncio.StreamWriter | None = None
        self._stopped = False
        self._heard_s = 0.0
        self._wait_s = FIRST_WAIT_S
        self._last_down: Down | None = None

    # What the node does.

    async def next_event(self) -> Event | None:
        """The next event; None once the link has ended for good."""
        return await self._events.get()

    def send(self, block_frame: bytes) -> None:
        """Queues a frame of a block."""
        self.session.send(block_frame)
        self._wake.set()

    def send_control(self, message: Message) -> None:
        """Seals and queues a control message. Raises Abort(POOL_EXHAUSTED)."""
        self.session.send_control(message)
        self._wake.set()

    def taken(self, n_bytes: int) -> None:
        """BLOCK frames of so many bytes are done with: the peer may send more."""
        self.session.taken(n_bytes)
        self._wake.set()

    async def close(self, timeout_s: float = 5.0) -> None:
        """Takes leave of the peer, waiting at most ``timeout_s`` for what is under way, then ends :meth:`run`."""
        self.session.close()
        self._wake.set()
        if not self.session.finished:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), timeout_s)
        self._stop.set()

    # The connection.

    async def run(self) -> None:
        """Listens or connects until the link is closed or has failed for good. InputError if it cannot listen."""
        server = await self._listen() if self._address.listen else None
        serve, stop = asyncio.create_task(self._serve()), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((serve, stop), return_when=asyncio.FIRST_COMPLETED)
            if serve.done():
                serve.result()
        finally:
            for task in (serve, stop):
                task.cancel()
            await asyncio.gather(serve, stop, return_exceptions=True)
            self._stopped = True
            if server is not None:
                server.close()
                while not self._arrivals.empty():
                    self._arrivals.get_nowait()[1].close()
                await server.wait_closed()
            self._done.set()
            self._events.put_nowait(None)

    async def _serve(self) -> None:
        while not self._over():
            try:
                connection = await self._open()
            except (OSError, TimeoutError) as error:
                self._tell([Down(reason=f"no connection: {error}")])
            else:
                await self._converse(connection)
            if not self._over():
                await asyncio.sleep(self._wait_s)
                self._wait_s = min(2 * self._wait_s, LONGEST_PAUSE_S if self._address.listen else LONGEST_WAIT_S)

    def _over(self) -> bool:
        return self.session.finished or self.session.state is State.ABORTED

    async def _listen(self) -> asyncio.Server:
        where = self._address
        try:
            server = await asyncio.start_server(self._arrived, where.host, where.port, ssl=self._context)
        except OSError as error:
            what = f"link.listen: cannot listen at {where.host}:{where.port} ({os.strerror(error.errno or 0)})"
            raise InputError(f"{what}; does another node run already? If not, name another port at both") from error
        self.port = server.sockets[0].getsockname()[1]
        return server

    def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Another connection: instead of the present one if that is silent or unproven, else turned away."""
        present = self._current
        proven = self.session.state in (State.RUNNING, State.DRAINING)
        if self._stopped or (present is not None and proven and self._now() - self._heard_s < SILENT_S):
            writer.close()
            return
        while not self._arrivals.empty():
            self._arrivals.get_nowait()[1].close()
        self._arrivals.put_nowait((reader, writer))
        if present is not None:
            present.close()

    async def _open(self) -> _Connection:
        where = self._address
        if where.listen:
            connection = await self._arrivals.get()
        else:
            name = None if self._tls is None else self._tls.peer_name
            opening = asyncio.open_connection(where.host, where.port, ssl=self._context, server_hostname=name)
            connection = await asyncio.wait_for(opening, DEAD_S)
        if self._tls is not None and not self._tls.names(connection[1]):
            connection[1].close()
            raise ConnectionError(f"the certificate of the other end does not name {self._tls.peer_name!r}")
        return connection

    async def _converse(self, connection: _Connection) -> None:
        """One connection, from greeting to end."""
        reader, writer = connection
        self._current, heard_s = writer, self._heard_s
        self.session.connected(self._now())
        tasks = [asyncio.create_task(part) for part in (self._read(reader), self._write(writer), self._tick())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            self._current = None
            if last := self.session.outgoing():
                writer.write(last)
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 1.0)
            reasons = [str(end) or type(end).__name__ for end in ends if isinstance(end, OSError)]
            reason = next(iter(reasons), "the connection was closed")
            if self._tls is not None and self._heard_s == heard_s:
                reason = f"{reason} before the other end said anything; {_STRANGER}"
            self._tell(self.session.disconnected(reason))
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, OSError):
                raise end

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ_BYTES):
            self._heard_s = self._now()
            self._tell(self.session.receive(data, self._heard_s))
            self._wake.set()
            if self.session.state in (State.CLOSED, State.ABORTED):
                return

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        while True:
            while data := self.session.outgoing():
                writer.write(data)
                await writer.drain()
            if self.session.state in (State.CLOSED, State.ABORTED):
                return
            await self._wake.wait()
            self._wake.clear()

    async def _tick(self) -> None:
        while self.session.state not in (State.CLOSED, State.ABORTED):
            self._tell(self.session.tick(self._now()))
            self._wake.set()
            await asyncio.sleep(_TICK_S)

    def _tell(self, events: list[Event]) -> None:
        """Every event, but a link that stays down for the same reason is told once: it may be so for weeks."""
        for event in events:
            if isinstance(event, Up):
                self._wait_s, self._last_down = FIRST_WAIT_S, None
            elif isinstance(event, Down):
                if event == self._last_down:
                    continue
                self._last_down = event
            self._events.put_nowait(event)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
