"""A transport inside one process, for tests: the other end is a simulated instrument without I/O.

Time is a :class:`ManualClock` that only waiting moves on, so a conversation of
many seconds takes no time and always runs the same way.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol

from qkdpp_drivers.errors import TransportClosed
from qkdpp_drivers.transports.base import Transport


class ManualClock:
    """A clock that stands still until somebody waits. Call it for the time in seconds."""

    def __init__(self, start_s: float = 0.0) -> None:
        self.now_s = start_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, duration_s: float) -> None:
        """Lets time pass."""
        self.now_s += duration_s


class Peer(Protocol):
    """The other end."""

    @property
    def faults(self) -> Container[str]:
        """What is wrong with it; ``disconnect`` among them: the cable is out."""

    def receive(self, data: bytes) -> None:
        """Takes bytes from the host."""

    def poll(self) -> bytes:
        """Bytes for the host that are due now."""


class MemoryTransport(Transport):
    """Bytes to and from ``peer`` on the given clock, which waiting advances in steps of ``step_s``."""

    def __init__(self, peer: Peer, clock: ManualClock, *, name: str = "memory", step_s: float = 1e-3) -> None:
        super().__init__(name)
        self.step_s = step_s
        self.peer, self.clock = peer, clock
        self._is_open = False

    @property
    def is_open(self) -> bool:
        return self._is_open

    def now(self) -> float:
        return self.clock()

    def sleep(self, duration_s: float) -> None:
        self.clock.advance(duration_s)

    def _open(self) -> None:
        if "disconnect" in self.peer.faults:
            raise TransportClosed(f"{self.name}: nothing to open; check cable and power")
        self._is_open = True

    def _close(self) -> None:
        self._is_open = False

    def _send(self, data: bytes) -> None:
        self._check()
        self.peer.receive(data)

    def _receive(self, timeout_s: float) -> bytes | None:
        deadline = self.clock() + timeout_s
        while True:
            self._check()
            if piece := self.peer.poll():
                return piece
            remaining = deadline - self.clock()
            if remaining <= 0:
                return None
            self.clock.advance(min(self.step_s, remaining))

    def _check(self) -> None:
        if "disconnect" in self.peer.faults:
            raise self._lost(ConnectionError("unplugged"))
