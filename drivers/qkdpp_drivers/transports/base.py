"""The face of every transport, and the buffered reading that most of them share.

Guarantees: one lock per transport; time-outs run on a monotonic clock and hold
for the whole call, not per byte; every failure is TransportTimeout or
TransportClosed; every byte is logged at DEBUG level (``qkdpp_drivers.bytes``).
A timed-out read leaves what has arrived in the buffer.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod

from qkdpp_drivers.errors import TransportClosed, TransportTimeout

BYTES_LOG = logging.getLogger("qkdpp_drivers.bytes")


class Transport(ABC):
    """Bytes to and from one instrument.

    A transport that keeps the borders of messages (ZeroMQ, memory in message mode) is read with an empty terminator:
    ``read_until(b"", timeout_s)`` is one message.

    Attributes:
        name: what messages call it (usually the URL).
        time_factor: seconds of the instrument per second of the host: 1 on a bench, else the pace of a simulated
            laboratory. All times of this class are the instrument's.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.time_factor = 1.0
        self.lock = threading.RLock()
        self._buffer = bytearray()

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether ``open`` succeeded and nothing closed it since."""

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _send(self, data: bytes) -> None: ...

    @abstractmethod
    def _receive(self, timeout_s: float) -> bytes | None:
        """What arrives within ``timeout_s`` of the host (0: what is there), as soon as any does; None if nothing."""

    def now(self) -> float:
        """Monotonic time in seconds."""
        return time.monotonic() * self.time_factor

    def sleep(self, duration_s: float) -> None:
        """Lets the instrument work."""
        time.sleep(duration_s / self.time_factor)

    def open(self) -> None:
        """Opens the connection; TransportClosed if there is nothing to open."""
        with self.lock:
            self._buffer.clear()
            self._open()

    def close(self) -> None:
        """Closes it; harmless if closed."""
        with self.lock:
            self._buffer.clear()
            self._close()

    def write(self, data: bytes) -> None:
        """Sends all of ``data``."""
        with self.lock:
            self._require_open()
            BYTES_LOG.debug("%s > %r", self.name, data)
            self._send(data)

    def read_until(self, terminator: bytes, timeout_s: float) -> bytes:
        """Everything up to ``terminator``, which is taken off; empty terminator: one message."""
        with self.lock:
            self._require_open()
            deadline = self.now() + timeout_s
            while not terminator or (at := self._buffer.find(terminator)) < 0:
                piece = self._more(
                    deadline, f"no {terminator!r} within {timeout_s:g} s" if terminator else "no message"
                )
                if not terminator:
                    return piece
                self._buffer += piece
            found = bytes(self._buffer[:at])
            del self._buffer[: at + len(terminator)]
            return found

    def read_exact(self, n: int, timeout_s: float) -> bytes:
        """Exactly ``n`` bytes."""
        with self.lock:
            self._require_open()
            deadline = self.now() + timeout_s
            while len(self._buffer) < n:
                self._buffer += self._more(deadline, f"{len(self._buffer)} of {n} bytes within {timeout_s:g} s")
            found = bytes(self._buffer[:n])
            del self._buffer[:n]
            return found

    def read_available(self, timeout_s: float = 0.0) -> bytes:
        """What is there now; if nothing is, what comes first within ``timeout_s`` (maybe nothing)."""
        with self.lock:
            self._require_open()
            found = bytes(self._buffer)
            self._buffer.clear()
            return found + (self._arrived(0.0 if found else timeout_s) or b"")

    def drain(self, quiet_s: float = 0.01, limit_s: float = 1.0) -> bool:
        """Throws away what arrives until it is silent for ``quiet_s``; False if it still talks after ``limit_s``."""
        with self.lock:
            self._require_open()
            self._buffer.clear()
            deadline = self.now() + limit_s
            while self.now() < deadline:
                if self._arrived(quiet_s) is None:
                    return True
            return False

    def query(self, data: bytes, terminator: bytes, timeout_s: float) -> bytes:
        """Sends ``data`` and returns the reply up to ``terminator``, undisturbed by other threads."""
        with self.lock:
            self.write(data)
            return self.read_until(terminator, timeout_s)

    def _more(self, deadline: float, wanted: str) -> bytes:
        remaining = deadline - self.now()
        piece = self._arrived(max(remaining, 0.0))
        if piece is None:
            raise TransportTimeout(f"{self.name}: {wanted}; check power, cable and address, then drain and ask again")
        return piece

    def _arrived(self, timeout_s: float) -> bytes | None:
        return self._logged(self._receive(timeout_s / self.time_factor))

    def _logged(self, piece: bytes | None) -> bytes | None:
        if piece and BYTES_LOG.isEnabledFor(logging.DEBUG):
            BYTES_LOG.debug("%s < %r", self.name, piece)
        return piece

    def _require_open(self) -> None:
        if not self.is_open:
            raise TransportClosed(f"{self.name}: not open; connect first")

    def _lost(self, error: BaseException) -> TransportClosed:
        """The error of a broken connection, which is closed with it."""
        self._close()
        return TransportClosed(f"{self.name}: connection lost ({error}); check cable and power, then reconnect")
