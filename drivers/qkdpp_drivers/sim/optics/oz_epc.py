"""Simulated OZ Optics EPC-400: four squeezers driven by voltages, one knob (millivolts) each.

Every command is answered by a line of content and then ``Done``; a command it does not know by ``Error`` and ``Done``
(a choice of this simulator).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import FixedKnob, Knob
from qkdpp_drivers.sim.queued import Answer, QueuedInstrument
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, Clock

LIMIT_MV = 5000


class SimOzEpc(QueuedInstrument):
    """The controller."""

    REPLY_END: ClassVar[bytes] = b"\r\n"
    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS | {
        "no_done": "the second line of an answer is missing",
        "ignored_set": "the answer tells the new voltage, the output keeps the old one",
    }

    def __init__(self, knobs: Sequence[Knob], *, clock: Clock, faults: Faults, rng: np.random.Generator) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        if len(knobs) != 4:
            raise ValueError("an EPC-400 has four channels")
        self._knobs = list(knobs)
        self._dc = True
        self._frequencies_hz = [7, 17, 37, 71]

    def answer(self, text: str) -> Answer:
        """One command: content line and ``Done``."""
        content = self._content(text.upper())
        return content if self.faults.fires("no_done") else f"{content}\r\nDone"

    def _content(self, command: str) -> str:
        if "wrong_identity" in self.faults:
            return "Error"
        fixed: dict[str, Callable[[], str]] = {
            "V?": lambda: (
                "Voltage(mV): " + " ".join(f"CH{i} {round(k.value):+d}" for i, k in enumerate(self._knobs, start=1))
            ),
            "F?": lambda: (
                "Frequency(Hz): " + "  ".join(f"CH{i} {f:03d}" for i, f in enumerate(self._frequencies_hz, start=1))
            ),
            "M?": lambda: "Work Mode: DC" if self._dc else "Work Mode: AC(Sine)",
            "MAC": lambda: self._mode(dc=False),
            "MDC": lambda: self._mode(dc=True),
            "SAVE": lambda: "Write Setting to Flash memory",
        }
        if command in fixed:
            return fixed[command]()
        if (match := re.fullmatch(r"V([1-4]),([+-]?\d+)", command)) and abs(int(match[2])) <= LIMIT_MV:
            return self._set_voltage(int(match[1]), int(match[2]))
        if match := re.fullmatch(r"V([HLZ])([1-4])", command):
            return self._set_voltage(int(match[2]), {"H": LIMIT_MV, "L": -LIMIT_MV, "Z": 0}[match[1]])
        if (match := re.fullmatch(r"F([1-4]),(\d+)", command)) and int(match[2]) <= 100:
            self._frequencies_hz[int(match[1]) - 1] = int(match[2])
            return f"Set CH{match[1]} AC Frequency at: {match[2]}Hz"
        return "Error"

    def _mode(self, *, dc: bool) -> str:
        self._dc = dc
        return f"Set To {'DC' if dc else 'AC'} Mode"

    def _set_voltage(self, channel: int, value_mv: int) -> str:
        if not self.faults.fires("ignored_set"):
            self._knobs[channel - 1].value = float(value_mv)
        return f"Set CH{channel} DC Voltage at: {value_mv}mV"


def alone(clock: Clock, rng: np.random.Generator) -> SimOzEpc:
    """One whose voltages nobody sees."""
    return SimOzEpc([FixedKnob() for _ in range(4)], clock=clock, faults=Faults(SimOzEpc.FAULTS), rng=rng)
