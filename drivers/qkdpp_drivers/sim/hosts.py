"""Hosts: a simulated instrument behind a pseudo-terminal, a TCP port or ZeroMQ sockets.

One thread each, loopback only. ``url`` is what a driver opens; ``with`` starts
and stops. The fault ``disconnect`` of the instrument takes the cable out: a
pseudo-terminal hangs up (its ``url`` is a link that points to a new one
afterwards), TCP connections close and none is accepted.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Container
from pathlib import Path
from typing import Any, Protocol, Self

from qkdpp_drivers.sim.faults import DISCONNECT

PAUSE_S = 0.0005
LOOPBACK = "127.0.0.1"
REBIND_TRIES = 200
CHUNK_BYTES = 1 << 16
MOST_BYTES = 1 << 26
"""What waits for a client that does not read, at most; the rest is lost, as in a real unit."""


class Hosted(Protocol):
    """What a host needs of an instrument."""

    @property
    def faults(self) -> Container[str]:
        """What is wrong with it."""

    def receive(self, data: bytes) -> None:
        """Takes bytes from the client."""

    def poll(self) -> bytes:
        """Bytes for the client that are due now."""


class Host(ABC):
    """A thread that carries bytes between a client and an instrument.

    Attributes:
        instrument: the simulated instrument; switch its faults from any thread.
        url: what a driver opens.
    """

    url: str

    def __init__(self, instrument: Hosted) -> None:
        self.instrument = instrument
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self.failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._open()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the thread and closes everything; raises what the instrument failed with, if it did."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._close()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if not self._step():
                    self._stop.wait(PAUSE_S)
        except BaseException as error:
            self.failure = error

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _step(self) -> bool:
        """Carries what there is; False when there was nothing to do."""


class ByteHost(Host):
    """A host of one stream of bytes, with a queue of its own."""

    def __init__(self, instrument: Hosted) -> None:
        super().__init__(instrument)
        self._queue = bytearray()

    def _enqueue(self, data: bytes) -> None:
        if len(self._queue) < MOST_BYTES:
            self._queue += data


class PtyHost(ByteHost):
    """A pseudo-terminal (POSIX), raw on both sides; the queue is there for the 4 KiB of the kernel."""

    def __init__(self, instrument: Hosted) -> None:
        super().__init__(instrument)
        self._folder = Path(tempfile.mkdtemp(prefix="qkdpp-pty-"))
        self.path = self._folder / "tty"
        self.url = f"serial://{self.path}"
        self._master = self._slave = -1

    def _open(self) -> None:
        import pty
        import tty

        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        fresh = self._folder / "fresh"
        fresh.symlink_to(os.ttyname(self._slave))
        fresh.replace(self.path)

    def _hang_up(self) -> None:
        if self._master >= 0:
            os.close(self._slave)
            os.close(self._master)
            self._master = self._slave = -1
        self.path.unlink(missing_ok=True)
        self._queue.clear()

    def _close(self) -> None:
        self._hang_up()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _step(self) -> bool:
        if DISCONNECT in self.instrument.faults:
            if self._master >= 0:
                self._hang_up()
            self.instrument.poll()
            return False
        if self._master < 0:
            self._open()
        busy = False
        try:
            self.instrument.receive(os.read(self._master, CHUNK_BYTES))
            busy = True
        except BlockingIOError:
            pass
        self._enqueue(self.instrument.poll())
        if self._queue:
            _, writable, _ = select.select([], [self._master], [], PAUSE_S)
            if writable:
                del self._queue[: os.write(self._master, self._queue[:CHUNK_BYTES])]
                busy = True
        return busy


class TcpHost(ByteHost):
    """One TCP port, one client at a time; a new client takes over."""

    def __init__(self, instrument: Hosted, *, scheme: str = "tcp", port: int = 0) -> None:
        super().__init__(instrument)
        self._listener: socket.socket | None = None
        self._client: socket.socket | None = None
        self.port = port
        self._scheme = scheme

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{LOOPBACK}:{self.port}"

    def _open(self) -> None:
        self._listener = socket.create_server((LOOPBACK, self.port))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        visa = f"visa://TCPIP::{LOOPBACK}::{self.port}::SOCKET"
        self.url = visa if self._scheme == "visa" else f"{self._scheme}://{self.address}"

    def _close(self) -> None:
        self._drop()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        self._queue.clear()

    def _step(self) -> bool:
        if DISCONNECT in self.instrument.faults:
            self._close()
            self.instrument.poll()
            return False
        if self._listener is None:
            self._open()
        return self._accept() | self._carry()

    def _accept(self) -> bool:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return False
        self._drop()
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client = client
        return True

    def _carry(self) -> bool:
        client = self._client
        if client is None:
            self.instrument.poll()  # a stream that nobody listens to is gone
            return False
        busy = False
        try:
            data = client.recv(CHUNK_BYTES)
            if not data:
                self._drop()
                return True
            self.instrument.receive(data)
            busy = True
        except BlockingIOError:
            pass
        except OSError:
            self._drop()
            return True
        self._enqueue(self.instrument.poll())
        try:
            if self._queue:
                del self._queue[: client.send(self._queue)]
                busy = True
        except BlockingIOError:
            pass
        except OSError:
            self._drop()
        return busy


class ZmqHost(Host):
    """A ZeroMQ reply socket (as a ROUTER, so that a reply can also be missing), and PAIR sockets for streams.

    An instrument that streams has ``streams() -> list[tuple[int, bytes | None]]``: messages with the port they go to,
    None where a new stream begins. They wait until somebody listens.
    """

    def __init__(self, instrument: Hosted, *, port: int = 0) -> None:
        super().__init__(instrument)
        self.port = port
        self._context: Any = None
        self._socket: Any = None
        self._pairs: dict[int, Any] = {}
        self._unsent: dict[int, list[bytes]] = {}
        self._waiting: list[list[bytes]] = []

    def _open(self) -> None:
        import zmq

        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(f"tcp://{LOOPBACK}:{self.port or '*'}")
        self.port = int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        self.url = f"zmq://{LOOPBACK}:{self.port}"

    def _close(self) -> None:
        if self._context is None:
            return
        for pair in self._pairs.values():
            pair.close()
        self._pairs.clear()
        self._unsent.clear()
        self._waiting.clear()
        self._socket.close()
        self._context.term()
        self._context = None

    def _step(self) -> bool:
        if DISCONNECT in self.instrument.faults:
            if self._context is not None:
                self._close()
            self.instrument.poll()
            return False
        if self._context is None:
            self._open()
        busy = bool(self._socket.poll(0))
        if busy:
            *envelope, data = self._socket.recv_multipart()
            self._waiting.append(envelope)
            self.instrument.receive(data)
        if (answer := self.instrument.poll()) and self._waiting:
            self._socket.send_multipart([*self._waiting.pop(), answer])
            self._waiting.clear()
        for port, message in getattr(self.instrument, "streams", list)():
            self._enqueue(port, message)
        return self._send_streams() or busy

    def _enqueue(self, port: int, message: bytes | None) -> None:
        """None begins a new stream at this port."""
        import zmq

        if message is not None:
            self._unsent[port].append(message)
            return
        self._unsent[port] = []
        if port in self._pairs:
            self._pairs.pop(port).close()
        self._pairs[port] = pair = self._context.socket(zmq.PAIR)
        pair.setsockopt(zmq.LINGER, 0)
        pair.setsockopt(zmq.SNDHWM, 0)
        for _ in range(REBIND_TRIES):  # the port of a closed socket becomes free a little later
            try:
                pair.bind(f"tcp://{LOOPBACK}:{port}")
                return
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE:
                    raise
                self._stop.wait(0.01)
        raise OSError(f"port {port} is in use")

    def _send_streams(self) -> bool:
        """Sends what can be sent; False if that was nothing."""
        import zmq

        busy = False
        for port, messages in self._unsent.items():
            try:
                while messages:
                    self._pairs[port].send(messages[0], zmq.NOBLOCK)
                    del messages[0]
                    busy = True
            except zmq.Again:
                continue
        return busy
