"""Simulated 3446x-class multimeter that measures a current, one knob (amperes)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import FixedKnob, Knob
from qkdpp_drivers.sim.queued import After, Answer, QueuedInstrument, first_number
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, Clock

OVERLOAD = 9.9e37
RANGES_A = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 3.0)
CYCLE_S = 0.02


class SimDmm(QueuedInstrument):
    """The meter."""

    ENDS: ClassVar[bytes] = b"\n;"
    LATE_S: ClassVar[float] = 6.0
    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS | {
        "overload": "the reading is the overload number",
        "open_lead": "the reading is noise around zero",
        "error_entry": "a set leaves an entry in the error queue",
    }

    def __init__(self, knob: Knob, *, clock: Clock, faults: Faults, rng: np.random.Generator) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self._knob = knob
        self._errors: list[str] = []
        self._reset()

    def _reset(self) -> None:
        self._function, self._range_a, self._cycles = "VOLT", 1.0, 10.0

    def answer(self, text: str) -> Answer:
        """One command."""
        head, _, rest = text.lstrip(":").partition(" ")
        head = head.upper()
        queries: dict[str, Callable[[], str]] = {
            "*IDN?": lambda: f"Keysight Technologies,{self._model()},MY53200123,A.02.14-02.40-02.14-00.49-01-01",
            "*OPC?": lambda: "1",
            "SYST:ERR?": lambda: self._errors.pop(0) if self._errors else '+0,"No error"',
            "FUNC?": lambda: f'"{self._function}"',
            "CURR:RANG?": lambda: f"{self._range_a:+.8E}",
            "CURR:NPLC?": lambda: f"{self._cycles:+.8E}",
        }
        if head in queries:
            return queries[head]()
        if head == "READ?":
            return After(delay_s=self._cycles * CYCLE_S, make=self._reading)
        self._set(head, rest.strip())
        return None

    def _model(self) -> str:
        return "53230A" if self.faults.fires("wrong_identity") else "34465A"

    def _set(self, head: str, text: str) -> None:
        value = first_number(text)
        if head != "*CLS" and self.faults.fires("error_entry"):
            self._errors.append('-221,"Settings conflict"')
        if head == "*RST":
            self._reset()
        elif head == "*CLS":
            self._errors = []
        elif head == "FUNC":
            self._function = text.strip("\"'").removesuffix(":DC")
        elif head == "CURR:RANG" and value is not None and value <= RANGES_A[-1]:
            self._range_a = next(r for r in RANGES_A if r >= value)
        elif head == "CURR:NPLC" and value in (0.02, 0.2, 1, 10, 100):
            self._cycles = float(value)
        elif head in ("CURR:RANG", "CURR:NPLC"):
            self._errors.append('-222,"Data out of range"')
        elif head not in ("TRIG:SOUR", "SAMP:COUN"):
            self._errors.append('-113,"Undefined header"')

    def _reading(self) -> str:
        noise_a = float(self.rng.normal(0.0, 1e-5 * self._range_a))
        current_a = noise_a if self.faults.fires("open_lead") else self._knob.value + noise_a
        over = self.faults.fires("overload") or abs(current_a) > 1.2 * self._range_a
        return f"{OVERLOAD if over else current_a:+.8E}"


def alone(clock: Clock, rng: np.random.Generator) -> SimDmm:
    """One that sees a quiet detector."""
    return SimDmm(FixedKnob(2e-7), clock=clock, faults=Faults(SimDmm.FAULTS), rng=rng)
