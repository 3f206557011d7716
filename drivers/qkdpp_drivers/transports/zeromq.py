"""ZeroMQ sockets (extra ``idq``): a REQ socket for questions, a PAIR socket for streams.

Message borders are kept: read with an empty terminator, and an empty message
is a message. A lost reply does not block the socket (relaxed, correlated
requests), and a late one is dropped by ZeroMQ itself.
"""

from __future__ import annotations

from typing import Any, Literal

from qkdpp_drivers.errors import TransportClosed
from qkdpp_drivers.transports.base import Transport

SEND_TIMEOUT_MS = 2000


class ZmqTransport(Transport):
    """One ZeroMQ connection.

    Args:
        host: address of the instrument.
        port: TCP port.
        kind: ``req`` (one message out, one in) or ``pair`` (a stream).
    """

    def __init__(self, host: str, port: int, *, kind: Literal["req", "pair"] = "req") -> None:
        super().__init__(f"zmq://{host}:{port}")
        self.host, self.port, self.kind = host, port, kind
        self._context: Any = None
        self._socket: Any = None

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def _open(self) -> None:
        try:
            import zmq
        except ModuleNotFoundError as error:
            raise TransportClosed(f"{self.name}: needs pyzmq; install qkdpp with the extra 'idq'") from error
        self._close()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REQ if self.kind == "req" else zmq.PAIR)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDTIMEO, SEND_TIMEOUT_MS)
        if self.kind == "req":
            self._socket.setsockopt(zmq.REQ_RELAXED, 1)
            self._socket.setsockopt(zmq.REQ_CORRELATE, 1)
        else:
            self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.connect(f"tcp://{self.host}:{self.port}")

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._context.term()
        self._socket = self._context = None

    def _send(self, data: bytes) -> None:
        import zmq

        try:
            self._socket.send(data)
        except zmq.ZMQError as error:
            raise self._lost(error) from error

    def _receive(self, timeout_s: float) -> bytes | None:
        import zmq

        try:
            if not self._socket.poll(max(0, round(timeout_s * 1000))):
                return None
            message: bytes = self._socket.recv(zmq.NOBLOCK)
            return message
        except zmq.Again:
            return None
        except zmq.ZMQError as error:
            raise self._lost(error) from error
