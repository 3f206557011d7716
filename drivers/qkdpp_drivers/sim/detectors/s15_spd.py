"""Simulated S-Fifteen single photon detector module: the serial command set of the module, acting on a detector port.

Set commands are silent unless refused; several queries that arrive together are answered on one line. Ranges and error
texts are choices of this simulator: the maker publishes none.

Knobs are not used: bias, temperature and counts belong to one detector port.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from qkdpp_drivers.sim.detectors.cooler import Cooler
from qkdpp_drivers.sim.detectors.diodes import Diode
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import DetectorPort
from qkdpp_drivers.sim.queued import After, Answer, QueuedInstrument, first_number
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, Clock

AMBIENT_C = 22.0
OUT_OF_RANGE = "Error: out of range"
UNKNOWN = "Unknown command"

_RANGES = {
    "HVOLT": (0.0, 300.0),
    "THRESHVOLT": (-2.0, 2.0),
    "CONSTP": (0.0, 100.0),
    "CONSTI": (0.0, 100.0),
    "LOOP": (0, 1),
    "PVOLT": (0.0, 5.0),
    "SETTEMP": (-45.0, 30.0),
    "TIME": (1, 60_000),
    "DELAY": (0, 255),
}
_WHOLE = frozenset({"LOOP", "TIME", "DELAY"})
_POWER_UP = {
    "HVOLT": 0.0,
    "THRESHVOLT": 0.1,
    "CONSTP": 0.1,
    "CONSTI": 0.01,
    "LOOP": 0,
    "PVOLT": 0.0,
    "SETTEMP": -20.0,
    "TIME": 1000,
    "DELAY": 10,
}


class SimS15Spd(QueuedInstrument):
    """The module with one avalanche diode behind ``port`` (bias in volts)."""

    ENDS: ClassVar[bytes] = b";\r\n"
    REPLY_END: ClassVar[bytes] = b"\r\n"
    LATE_S: ClassVar[float] = 1.0
    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS | {
        "error_line": "a set is followed by an error line although it was accepted",
        "joined_replies": "an answer waits for the next one and both share a line",
        "stuck_temperature": "the temperature does not move",
        "gate_reply_lost": "the count of a gate is never sent",
        "ignored_set": "a set changes nothing and says nothing",
    }

    def __init__(
        self,
        port: DetectorPort,
        *,
        clock: Clock,
        faults: Faults,
        rng: np.random.Generator,
        time_constant_s: float = 20.0,
    ) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self._port = port
        self._values: dict[str, float] = dict(_POWER_UP)
        self._saved: dict[str, float] = dict(_POWER_UP)
        self._cooler = Cooler(self.clock, start_c=AMBIENT_C, time_constant_s=time_constant_s)
        self._held = ""
        self._apply()

    def power_cycle(self) -> None:
        """Off and on again: the values of the last SAVE, loop off."""
        self._values = self._saved | {"LOOP": 0}
        self._apply()

    def answer(self, text: str) -> Answer:
        """One command of the module."""
        head, _, value = text.upper().partition(" ")
        if head == "*IDN?":
            other = self.faults.fires("wrong_identity")
            return "S-Fifteen Instruments,OPM-1,OPM-0007,1.0" if other else "S-Fifteen Instruments,SPD-1,SPD-0042,1.3"
        if head == "HELP":
            return "\r\n".join(sorted(_RANGES))
        if head == "SAVE":
            return After(delay_s=0.5, make=self._save)
        if head == "COUNTS?":
            gate_s = self._values["TIME"] / 1000
            return After(delay_s=gate_s, make=lambda: self._counts(gate_s))
        if head == "TEMP?":
            return f"{self._temperature_c() + self.rng.normal(0.0, 0.01):.2f}"
        if head.endswith("?") and head[:-1] in _RANGES:
            return self._text(head[:-1])
        return self._set(head, value.strip())

    def finish(self, text: str) -> None:
        """An answer whose successor is already waiting shares its line."""
        words = f"{self._held} {text}".strip()
        query_waits = any(c.endswith("?") for c in self._waiting)
        hold_first = not self._held and self.faults.fires("joined_replies")
        self._held = words if query_waits or hold_first else ""
        if not self._held:
            self.say(words)

    def _text(self, name: str) -> str:
        value = self._values[name]
        return f"{value:.0f}" if name in _WHOLE else f"{value:.4f}" if name == "THRESHVOLT" else f"{value:.2f}"

    def _set(self, name: str, text: str) -> str | None:
        value = first_number(text)
        if name not in _RANGES or value is None:
            return UNKNOWN
        low, high = _RANGES[name]
        if not low <= value <= high:
            return OUT_OF_RANGE
        if not (self.faults.fires("ignored_set") or (name == "PVOLT" and self._values["LOOP"])):
            self._values[name] = value
            self._apply()
        return OUT_OF_RANGE if self.faults.fires("error_line") else None

    def _save(self) -> str:
        self._saved = dict(self._values)
        return "Settings saved"

    def _apply(self) -> None:
        regulated = bool(self._values["LOOP"])
        self._cooler.aim(self._values["SETTEMP"] if regulated else AMBIENT_C - 10 * self._values["PVOLT"])
        self._port.bias = self._values["HVOLT"]
        self._port.enabled = self._values["HVOLT"] > 0
        self._temperature_c()

    def _temperature_c(self) -> float:
        self._cooler.stuck = "stuck_temperature" in self.faults
        self._port.temperature_c = self._cooler.temperature_c()
        return self._port.temperature_c

    def _counts(self, gate_s: float) -> str | None:
        self._temperature_c()
        counts = self._port.counts(gate_s)
        threshold_v = abs(self._values["THRESHVOLT"])
        if threshold_v > 1.0:
            counts = 0
        elif threshold_v < 0.01:
            counts += int(self.rng.poisson(5e5 * gate_s))
        return None if self.faults.fires("gate_reply_lost") else str(counts)


def alone(clock: Clock, rng: np.random.Generator) -> SimS15Spd:
    """One with a diode in weak light."""
    return SimS15Spd(Diode(rng=rng), clock=clock, faults=Faults(SimS15Spd.FAULTS), rng=rng)
