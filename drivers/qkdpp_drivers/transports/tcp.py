"""Plain TCP, and named pipes for streams that another program writes."""

from __future__ import annotations

import os
import select
import socket

from qkdpp_drivers.errors import TransportClosed
from qkdpp_drivers.transports.base import Transport

CONNECT_TIMEOUT_S = 5.0
CHUNK_BYTES = 1 << 18


class TcpTransport(Transport):
    """A TCP connection."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"tcp://{host}:{port}")
        self.host, self.port = host, port
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def _open(self) -> None:
        try:
            self._socket = socket.create_connection((self.host, self.port), timeout=CONNECT_TIMEOUT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise TransportClosed(f"{self.name}: cannot connect ({error}); check address, power and cable") from error

    def _close(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.settimeout(CONNECT_TIMEOUT_S)
            self._socket.sendall(data)
        except OSError as error:
            raise self._lost(error) from error

    def _receive(self, timeout_s: float) -> bytes | None:
        assert self._socket is not None
        try:
            self._socket.settimeout(timeout_s)
            piece = self._socket.recv(CHUNK_BYTES)
        except (TimeoutError, BlockingIOError):
            return None
        except OSError as error:
            raise self._lost(error) from error
        if not piece:
            raise self._lost(ConnectionError("closed by the instrument"))
        return piece


class PipeTransport(Transport):
    """The reading end of a named pipe (or any file that grows)."""

    def __init__(self, path: str) -> None:
        super().__init__(f"pipe://{path}")
        self.path = path
        self._descriptor: int | None = None
        self._had_writer = False

    @property
    def is_open(self) -> bool:
        return self._descriptor is not None

    def _open(self) -> None:
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise TransportClosed(f"{self.name}: cannot open ({error}); create it with mkfifo") from error
        self._had_writer = False

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _send(self, data: bytes) -> None:
        raise TransportClosed(f"{self.name}: a pipe only delivers; this instrument cannot be asked anything")

    def _receive(self, timeout_s: float) -> bytes | None:
        assert self._descriptor is not None
        deadline = self.now() + timeout_s
        while True:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, deadline - self.now()))
            if not ready:
                return None
            try:
                piece = os.read(self._descriptor, CHUNK_BYTES)
            except BlockingIOError:
                continue
            if piece:
                self._had_writer = True
                return piece
            if self._had_writer:
                raise self._lost(ConnectionError("the writing program has ended"))
            if self.now() >= deadline:
                return None
            self.sleep(0.005)
