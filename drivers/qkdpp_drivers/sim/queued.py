"""A simulated instrument of text commands that works on one command after the other.

A command that takes time (a counting gate, a homing run) holds back those behind it, as in an instrument with one
processor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.simulated import Clock, CommandInstrument


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """An answer made ``delay_s`` seconds after its command was begun; None says nothing."""

    delay_s: float
    make: Callable[[], str | None]


Answer = str | None | After


class QueuedInstrument(CommandInstrument):
    """A subclass implements ``answer``; ``LATENCY_S`` passes before any reply."""

    LATENCY_S: ClassVar[float] = 0.002

    def __init__(self, *, clock: Clock, faults: Faults, rng: np.random.Generator) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self._waiting: deque[str] = deque()
        self._job: tuple[float, Callable[[], str | None]] | None = None

    def answer(self, text: str) -> Answer:
        """Acts on one command and tells what goes back, at once or later."""
        raise NotImplementedError

    def command(self, text: str) -> None:
        """Queues one command."""
        self._waiting.append(text)
        self._work()

    def poll(self) -> bytes:
        """Works on what is due and gives the bytes that are ready."""
        self._work()
        return super().poll()

    def finish(self, text: str) -> None:
        """Sends the answer of a finished command."""
        self.say(text)

    def _work(self) -> None:
        while self._job is not None or self._waiting:
            if self._job is None:
                self._begin(self._waiting.popleft())
                continue
            due_s, make = self._job
            if due_s > self.clock():
                return
            self._job = None
            if (text := make()) is not None:
                self.finish(text)

    def _begin(self, command: str) -> None:
        answer = self.answer(command)
        if answer is None:
            return
        if not isinstance(answer, After):
            text = answer
            answer = After(delay_s=0.0, make=lambda: text)
        self._job = (self.clock() + self.LATENCY_S + answer.delay_s, answer.make)


def first_number(text: str) -> float | None:
    """The number that ``text`` is, or None."""
    try:
        return float(text)
    except ValueError:
        return None
