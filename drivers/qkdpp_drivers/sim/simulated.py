"""The base of simulated instruments that send bytes: clock, faults, replies that are due at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from qkdpp_drivers.sim.faults import Faults

Clock = Callable[[], float]

COMMON_FAULTS: dict[str, str] = {
    "no_reply": "a reply is never sent",
    "late_reply": "a reply comes LATE_S late, when nobody waits for it any more",
    "garbage": "a reply is replaced by bytes that are no text",
    "split_reply": "a reply comes in two pieces, SPLIT_S apart",
    "wrong_identity": "another instrument answers the question for identity",
}
MESSAGE_FAULTS = {name: COMMON_FAULTS[name] for name in ("no_reply", "late_reply", "garbage")}
"""Where replies are messages that come whole or not at all."""


class RealClock:
    """Seconds since it was made, ``factor`` times as fast as the host's."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self._start_s = time.monotonic()

    def __call__(self) -> float:
        """The time."""
        return (time.monotonic() - self._start_s) * self.factor


class SteppedClock:
    """Another clock, read in steps: what is asked for at a step is complete."""

    def __init__(self, clock: Clock, step_s: float) -> None:
        self._clock, self._step_s = clock, step_s

    def __call__(self) -> float:
        """The time of the last step."""
        return int(self._clock() / self._step_s) * self._step_s


class SimulatedInstrument:
    """One instrument without I/O: a host feeds ``receive`` and sends what ``poll`` gives.

    A subclass names its faults in ``FAULTS`` (with ``COMMON_FAULTS`` where it uses ``reply``), implements ``receive``,
    and extends ``poll`` if it streams.

    Args:
        clock: seconds from 0; real, faster, or moved by hand.
        faults: its switches.
        rng: source of the simulated chance.
    """

    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS
    LATE_S: ClassVar[float] = 3.0
    SPLIT_S: ClassVar[float] = 0.02

    def __init__(self, *, clock: Clock, faults: Faults, rng: np.random.Generator) -> None:
        self.clock, self.faults, self.rng = clock, faults, rng
        self._due: list[tuple[float, bytes]] = []

    def receive(self, data: bytes) -> None:
        """Takes bytes from the host."""
        raise NotImplementedError

    def poll(self) -> bytes:
        """Bytes for the host that are due now."""
        now = self.clock()
        ready = [data for due, data in self._due if due <= now]
        self._due = [(due, data) for due, data in self._due if due > now]
        return b"".join(ready)

    def reply(self, data: bytes, delay_s: float = 0.0) -> None:
        """Sends a reply after ``delay_s``, unless a fault spoils it."""
        due = self.clock() + delay_s
        if self.faults.fires("no_reply"):
            return
        if self.faults.fires("late_reply"):
            due += self.LATE_S
        if self.faults.fires("garbage"):
            data = b"\xff\xfe\x00\x81" + data[max(0, min(4, len(data) - 2)) :]
        if len(data) > 1 and self.faults.fires("split_reply"):
            half = len(data) // 2
            self._due += [(due, data[:half]), (due + self.SPLIT_S, data[half:])]
            return
        self._due.append((due, data))


class CommandInstrument(SimulatedInstrument):
    """A simulated instrument of text commands that end with any byte of ``ENDS``; a subclass implements ``command``."""

    ENDS: ClassVar[bytes] = b"\n"
    REPLY_END: ClassVar[bytes] = b"\n"

    def __init__(self, *, clock: Clock, faults: Faults, rng: np.random.Generator) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
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
