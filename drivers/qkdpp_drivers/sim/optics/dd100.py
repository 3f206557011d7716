"""Simulated OZ Optics DD-100-MC motor-driven attenuator, setting one knob: its attenuation in decibels.

Commands end with CR; replies are lines that end with ``Done`` and an empty line. The motor position is in hundredths of
a decibel here; the instrument's own table is not public.
"""

from __future__ import annotations

import re
from typing import ClassVar

import numpy as np

from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import FixedKnob, Knob
from qkdpp_drivers.sim.queued import After, Answer, QueuedInstrument
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, Clock

HIGHEST_DB = 60.0
HOMING_S = 8.0
DB_PER_S = 20.0


class SimDd100(QueuedInstrument):
    """The attenuator."""

    ENDS: ClassVar[bytes] = b"\r"
    REPLY_END: ClassVar[bytes] = b"\r\n"
    LATE_S: ClassVar[float] = 40.0
    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS | {
        "no_done": "the end of an answer is missing",
        "stuck_motor": "the position stays where it is",
    }

    def __init__(self, knob: Knob, *, clock: Clock, faults: Faults, rng: np.random.Generator) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self._knob = knob

    def answer(self, text: str) -> Answer:
        """One command; the motor takes its time."""
        if text == "CD":
            other = "wrong_identity" in self.faults
            return self._ended("VOA-POSITION\r\nMOTOR 2" if other else "DD-100-MC\r\nATTEN 0-60 dB")
        if text == "D" and "wrong_identity" not in self.faults:
            return self._ended(f"DPos:{self._position()}\r\nATTEN:{self._knob.value:.2f}")
        if text == "H":
            return After(delay_s=HOMING_S, make=lambda: self._go(0.0))
        match = re.fullmatch(r"A(\d+\.\d\d)", text)
        if match is None or float(match[1]) > HIGHEST_DB:
            return self._ended("Error")
        target_db = float(match[1])
        return After(delay_s=abs(target_db - self._knob.value) / DB_PER_S, make=lambda: self._go(target_db))

    def _position(self) -> int:
        return round(self._knob.value * 100)

    def _go(self, target_db: float) -> str:
        if not self.faults.fires("stuck_motor"):
            self._knob.value = target_db
        return self._ended(f"Pos:{self._position()}")

    def _ended(self, content: str) -> str:
        return content if self.faults.fires("no_done") else f"{content}\r\nDone\r\n"


def alone(clock: Clock, rng: np.random.Generator) -> SimDd100:
    """One whose attenuation nobody sees."""
    return SimDd100(FixedKnob(), clock=clock, faults=Faults(SimDd100.FAULTS), rng=rng)
