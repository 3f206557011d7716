"""The base of every simulated instrument: clock, faults, replies that are due at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

import numpy as np

Clock = Callable[[], float]


class RealClock:
    """Seconds since it was made, ``factor`` times as fast as the host's."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self._start_s = time.monotonic()

    def __call__(self) -> float:
        """The time."""
        return (time.monotonic() - self._start_s) * self.factor


class Faults:
    """The switched-on faults of one instrument.

    Args:
        known: names and meaning of the faults that the instrument has.
    """

    def __init__(self, known: dict[str, str]) -> None:
        self.known = known
        self._left: dict[str, float] = {}

    def add(self, name: str, times: int | None = None) -> None:
        """Switches a fault on: until ``discard``, or for the next ``times`` occasions."""
        if name not in self.known:
            raise ValueError(f"no fault {name!r}; known are {', '.join(sorted(self.known))}")
        self._left[name] = float("inf") if times is None else times

    def discard(self, name: str) -> None:
        """Switches it off."""
        self._left.pop(name, None)

    def __contains__(self, name: str) -> bool:
        return self._left.get(name, 0) > 0

    def fires(self, name: str) -> bool:
        """Whether the fault strikes on this occasion, which is then counted."""
        if name not in self:
            return False
        self._left[name] -= 1
        return True


class SimulatedInstrument:
    """One instrument without I/O: a host feeds ``receive`` and sends what ``poll`` gives.

    Replies go through ``reply``; every instrument has the faults of ``COMMON_FAULTS`` there. A subclass adds its own
    to ``FAULTS``, implements ``receive``, and extends ``poll`` if it streams.

    Args:
        clock: seconds; real, faster, or moved by hand.
        rng: source of the simulated chance.
    """

    COMMON_FAULTS: ClassVar[dict[str, str]] = {
        "disconnect": "the cable is out until the fault is switched off",
        "no_reply": "a reply is never sent",
        "late_reply": "a reply comes LATE_S late, when nobody waits for it any more",
        "garbage_reply": "a reply is replaced by bytes that are no text",
        "split_reply": "a reply comes in two pieces, 20 ms apart",
        "wrong_identity": "another instrument answers to the question for identity",
    }
    FAULTS: ClassVar[dict[str, str]] = {}
    LATE_S: ClassVar[float] = 3.0
    SPLIT_S: ClassVar[float] = 0.02

    def __init__(self, *, clock: Clock | None = None, rng: np.random.Generator | None = None) -> None:
        self.clock: Clock = clock or RealClock()
        self.rng = rng or np.random.default_rng(1)
        self.faults = Faults(self.COMMON_FAULTS | self.FAULTS)
        self._due: list[tuple[float, bytes]] = []

    @property
    def connected(self) -> bool:
        """Whether the cable is plugged in."""
        return "disconnect" not in self.faults

    def receive(self, data: bytes) -> None:
        """Takes bytes from the host."""
        raise NotImplementedError

    def poll(self) -> bytes:
        """Bytes for the host that are due now."""
        now = self.clock()
        ready = [data for due, data in self._due if due <= now]
        self._due = [(due, data) for due, data in self._due if due > now]
        return b"".join(ready)

    def unplugged(self) -> None:
        """Called by the host when the cable comes out: what was under way is gone."""
        self._due.clear()

    def reply(self, data: bytes, delay_s: float = 0.0) -> None:
        """Sends a reply after ``delay_s``, unless a fault spoils it."""
        due = self.clock() + delay_s
        if self.faults.fires("no_reply"):
            return
        if self.faults.fires("late_reply"):
            due += self.LATE_S
        if self.faults.fires("garbage_reply"):
            data = b"\xff\xfe\x00\x81" + data[4:]
        if len(data) > 1 and self.faults.fires("split_reply"):
            half = len(data) // 2
            self._due += [(due, data[:half]), (due + self.SPLIT_S, data[half:])]
            return
        self._due.append((due, data))


class LineInstrument(SimulatedInstrument):
    """A simulated instrument of text commands that end with any byte of ``ENDS``; a subclass implements ``command``."""

    ENDS: ClassVar[bytes] = b"\n"
    REPLY_END: ClassVar[bytes] = b"\n"

    def __init__(self, *, clock: Clock | None = None, rng: np.random.Generator | None = None) -> None:
        super().__init__(clock=clock, rng=rng)
        self._partial = b""

    def command(self, text: str) -> None:
        """Obeys one command, ends and blanks around it taken off; never empty."""
        raise NotImplementedError

    def receive(self, data: bytes) -> None:
        """Cuts the bytes into commands."""
        for byte in data:
            if byte not in self.ENDS:
                self._partial += bytes((byte,))
                continue
            line, self._partial = self._partial, b""
            if text := line.decode("latin-1").strip():
                self.command(text)

    def say(self, text: str, delay_s: float = 0.0) -> None:
        """Replies with one line."""
        self.reply(text.encode("latin-1") + self.REPLY_END, delay_s)

    def unplugged(self) -> None:
        """Also forgets half a command."""
        super().unplugged()
        self._partial = b""
