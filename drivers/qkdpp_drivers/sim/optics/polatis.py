"""Simulated Polatis matrix switch: inputs 1 to n, outputs n+1 to 2n, setting one knob per input.

A knob holds the output that its input leads to, 0 where it leads nowhere. Connection commands are not answered; a wrong
one leaves an entry in the error queue (texts are choices of this simulator).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import FixedKnob, Knob
from qkdpp_drivers.sim.queued import Answer, QueuedInstrument
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, Clock


def _ports(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word.strip()]


class SimPolatis(QueuedInstrument):
    """The switch with as many inputs (and outputs) as ``knobs``."""

    ENDS: ClassVar[bytes] = b"\n;"
    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS | {
        "stuck_mirror": "a connection is not made, without an error",
        "disabled_port": "a connection is refused with an error entry",
    }

    def __init__(self, knobs: Sequence[Knob], *, clock: Clock, faults: Faults, rng: np.random.Generator) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self._knobs = list(knobs)
        self._size = len(self._knobs)
        self._errors: list[str] = []

    def answer(self, text: str) -> Answer:
        """One command."""
        text = text.lower().lstrip(":")
        if text == "*idn?":
            other = self.faults.fires("wrong_identity")
            return "Agiltron,FF-1x8,002414,1.0" if other else "Polatis,I-OST-16x16-LU1-DMHNS,002414,6.5.2.18"
        if text == "oxc:swit:size?":
            return f"{self._size},{self._size}"
        if text == "syst:err:all?":
            taken, self._errors = self._errors, []
            return ",".join(taken) or '0,"No error"'
        if text == "*cls":
            self._errors = []
        elif text == "oxc:swit:disc:all":
            self._clear()
        elif text == "oxc:swit:conn:stat?":
            made = [(i, out) for i in range(1, self._size + 1) if (out := self._route(i))]
            return f"(@{','.join(str(i) for i, _ in made)}),(@{','.join(str(o) for _, o in made)})"
        elif match := re.fullmatch(r"oxc:swit:conn:port\? *(\d+)", text):
            return self._leads_to(int(match[1]))
        elif match := re.fullmatch(r"oxc:swit:conn:(add|only|sub) *\(@([\d, ]*)\), *\(@([\d, ]*)\)", text):
            self._connect(match[1], _ports(match[2]), _ports(match[3]))
        else:
            self._errors.append('-113,"Undefined header"')
        return None

    def _leads_to(self, port: int) -> str | None:
        if not 1 <= port <= self._size:
            self._errors.append('-222,"Data out of range"')
            return None
        return f'"{self._route(port) or ""}"'

    def _clear(self) -> None:
        for knob in self._knobs:
            knob.value = 0.0

    def _route(self, inlet: int) -> int:
        return round(self._knobs[inlet - 1].value)

    def _connect(self, how: str, inputs: list[int], outputs: list[int]) -> None:
        n = self._size
        whole = (
            len(inputs) == len(outputs) and all(1 <= i <= n for i in inputs) and all(n < o <= 2 * n for o in outputs)
        )
        if not whole:
            self._errors.append('-222,"Data out of range"')
            return
        if self.faults.fires("disabled_port"):
            self._errors.append('-221,"Settings conflict"')
            return
        if self.faults.fires("stuck_mirror"):
            return
        if how == "only":
            self._clear()
        for i, o in zip(inputs, outputs, strict=True):
            for knob in self._knobs:
                if round(knob.value) == o:
                    knob.value = 0.0
            self._knobs[i - 1].value = 0.0 if how == "sub" else float(o)


def alone(clock: Clock, rng: np.random.Generator) -> SimPolatis:
    """One of 16 x 16 that leads nobody's light."""
    return SimPolatis([FixedKnob() for _ in range(16)], clock=clock, faults=Faults(SimPolatis.FAULTS), rng=rng)
