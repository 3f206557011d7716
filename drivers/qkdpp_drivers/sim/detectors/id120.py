"""Simulated ID Quantique ID120: header commands ended by LF, acting on a detector port.

Sets are never answered, whether taken or not; an unknown query is answered by a line that begins with ``ERROR``. The
regulation words and the error text are choices of this simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from qkdpp_drivers.sim.detectors.cooler import Cooler
from qkdpp_drivers.sim.detectors.diodes import Diode
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import DetectorPort
from qkdpp_drivers.sim.queued import After, Answer, QueuedInstrument, first_number
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, Clock

AMBIENT_C = 22.0
OVER_BIAS_V = 30.0

_RANGES = {
    "THRESHOLD:VOLTAGE": (0, 1_047_000, 500),
    "DEADTIME:TIME": (40, 1_000_000, 40),
    "BIAS:VOLTAGE": (0, 250_000_000, 80_000),
    "COUNTERS:INTEGRATION_TIME": (200, 100_000, 200),
    "REG:TEMP_SET_POINT": (-50_000, -10_000, 1000),
}
_WORDS = {
    "REG:RUN": ("FALSE", "TRUE"),
    "OUTPUT1:POLARITY": ("POSITIVE", "NEGATIVE"),
    "OUTPUT2:POLARITY": ("POSITIVE", "NEGATIVE"),
}
_CAPABILITIES = {
    "THRESHOLD:CAPABILITY": "THRESHOLD:VOLTAGE",
    "DEADTIME:CAPABILITY": "DEADTIME:TIME",
    "BIAS:CAPABILITY": "BIAS:VOLTAGE",
    "COUNTERS:INTEGRATION_TIME_CAPABILITY": "COUNTERS:INTEGRATION_TIME",
    "REG:TEMP_SET_POINT_CAPABILITY": "REG:TEMP_SET_POINT",
}


class SimId120(QueuedInstrument):
    """The module with one avalanche diode behind ``port`` (bias in volts)."""

    LATENCY_S: ClassVar[float] = 0.02
    LATE_S: ClassVar[float] = 30.0
    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS | {
        "over_current": "the protection trips: error status TRUE, bias forced to 0",
        "stuck_temperature": "the temperature does not move",
        "ignored_set": "a set changes nothing",
        "slow_query": "answers take 5 s",
    }

    def __init__(
        self,
        port: DetectorPort,
        *,
        clock: Clock,
        faults: Faults,
        rng: np.random.Generator,
        breakdown_v: float = 150.0,
        time_constant_s: float = 20.0,
    ) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self._port = port
        self._breakdown_v = breakdown_v
        self._values = {
            "THRESHOLD:VOLTAGE": 100_000,
            "DEADTIME:TIME": 1000,
            "BIAS:VOLTAGE": 0,
            "COUNTERS:INTEGRATION_TIME": 1000,
            "REG:TEMP_SET_POINT": -40_000,
        }
        self._words = {"REG:RUN": "FALSE", "OUTPUT1:POLARITY": "POSITIVE", "OUTPUT2:POLARITY": "POSITIVE"}
        self._cooler = Cooler(self.clock, start_c=AMBIENT_C, time_constant_s=time_constant_s)
        self._error = False
        self._period_start_s = self.clock()
        self._count = 0
        self._apply()

    def answer(self, text: str) -> Answer:
        """One command of the module."""
        head, _, value = text.upper().partition(" ")
        self._watch()
        if not head.endswith("?"):
            self._set(head, value.strip())
            return None
        found = self._query(head[:-1])
        if found is None:
            return f"ERROR {head}"
        return After(delay_s=5.0, make=lambda: found) if self.faults.fires("slow_query") else found

    def _query(self, head: str) -> str | None:
        if head == "*IDN":
            wrong = self.faults.fires("wrong_identity")
            return "ID Quantique,ID230,2500012,1.0" if wrong else "ID Quantique,ID120,1200034,1.2"
        if head in self._values:
            return str(self._values[head])
        if head in _CAPABILITIES:
            return ",".join(str(number) for number in _RANGES[_CAPABILITIES[head]])
        measured: dict[str, Callable[[], str]] = {
            "BIAS:ERROR_STATUS": lambda: "TRUE" if self._error else "FALSE",
            "COUNTERS:DETECTION_COUNT": lambda: str(self._refreshed_count()),
            "COUNTERS:DETECTION_FREQ": lambda: str(round(self._refreshed_count() / self._period_s())),
            "REG:MEASURED_TEMP": lambda: str(round(self._cooler.temperature_c() * 1000)),
            "REG:STATE": self._state,
            "INFO:BIAS_BREAKDOWN_VOLTAGE": lambda: str(round(self._breakdown_v * 1e6)),
            "INFO:PRODUCT_SERIAL_NUMBER": lambda: "1200034",
        }
        return measured[head]() if head in measured else self._words.get(head)

    def _set(self, head: str, text: str) -> None:
        if self.faults.fires("ignored_set"):
            return
        if text in _WORDS.get(head, ()):
            self._words[head] = text
            self._error = self._error and (head, text) != ("REG:RUN", "FALSE")
        number = first_number(text)
        if head in _RANGES and number is not None:
            low, high, step = _RANGES[head]
            if low <= number <= high:
                self._values[head] = low + int((number - low) // step) * step
        if head == "COUNTERS:INTEGRATION_TIME":
            self._period_start_s, self._count = self.clock(), 0
        self._apply()

    def _state(self) -> str:
        if self._words["REG:RUN"] == "FALSE":
            return "IDLE"
        near = abs(self._cooler.temperature_c() - self._cooler.target_c) < 0.5
        return "STABLE" if near else "REGULATING"

    def _watch(self) -> None:
        """Protection of the diode, and what the port sees."""
        self._cooler.stuck = "stuck_temperature" in self.faults
        too_high = self._values["BIAS:VOLTAGE"] / 1e6 > self._breakdown_v + OVER_BIAS_V
        if "over_current" in self.faults or too_high:
            self._error = True
            self._values["BIAS:VOLTAGE"] = 0
        self._apply()

    def _apply(self) -> None:
        running = self._words["REG:RUN"] == "TRUE"
        target_c = self._values["REG:TEMP_SET_POINT"] / 1000 if running else AMBIENT_C
        if target_c != self._cooler.target_c:
            self._cooler.aim(target_c)
        self._port.bias = self._values["BIAS:VOLTAGE"] / 1e6
        self._port.temperature_c = self._cooler.temperature_c()
        self._port.dead_time_s = self._values["DEADTIME:TIME"] * 1e-9
        self._port.enabled = self._state() == "STABLE" and self._port.bias > self._breakdown_v

    def _period_s(self) -> float:
        return self._values["COUNTERS:INTEGRATION_TIME"] / 1000

    def _refreshed_count(self) -> int:
        periods = int((self.clock() - self._period_start_s) / self._period_s())
        if periods:
            self._count = self._port.counts(self._period_s())
            self._period_start_s += periods * self._period_s()
        return self._count


def alone(clock: Clock, rng: np.random.Generator) -> SimId120:
    """One with a diode in weak light."""
    return SimId120(Diode(rng=rng), clock=clock, faults=Faults(SimId120.FAULTS), rng=rng)
