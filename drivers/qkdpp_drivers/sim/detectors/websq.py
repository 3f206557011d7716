"""Simulated Single Quantum WebSQ (Atlas): JSON labels on one connection, count lines on another, one state.

:class:`SimWebSq` is the control end (port 12000 of the instrument), its ``counts`` the other (port 12345). Objects
carry no terminator; every group of them ends with byte 0x17. Nothing is acknowledged: an accepted value comes back as
a broadcast.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from qkdpp_drivers.sim.detectors.diodes import Nanowire
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import DetectorPort
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, Clock, SimulatedInstrument

GROUP_END = b"\x17"
UNIX_START_S = 1_700_000_000.0
ECHO_S = 0.3
AUTO_BIAS_S = 3.0
LATCHED_MV = 900.0
NORMAL_OHM = 50.0
_LABEL_OF = {
    "SetMeasurementPeriod": "InptMeasurementPeriod",
    "SetAllBiasCurrents": "BiasCurrent",
    "SetAllTriggerLevels": "TriggerLevel",
    "DetectorEnable": "DetectorEnable",
}


class SimWebSq(SimulatedInstrument):
    """The controller of superconducting detectors (bias of a port in microampere)."""

    LATE_S: ClassVar[float] = 12.0
    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS | {
        "glued": "objects of a group follow each other without anything between them",
        "broadcasts": "labels nobody asked for, some of them unknown",
        "slow_labels": "the dump of labels comes 3 s late",
        "error_label": "a command is answered by an error text",
        "rejected_value": "a command changes nothing",
        "bright_pulse": "every enabled detector latches",
        "short_line": "a line of counts lacks its last field",
    }

    def __init__(
        self,
        ports: Sequence[DetectorPort],
        *,
        clock: Clock,
        faults: Faults,
        rng: np.random.Generator,
        critical_current_ua: float = 20.0,
    ) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self.ports = list(ports)
        self.critical_ua = critical_current_ua
        n = len(self.ports)
        self._latched = [False] * n
        self.labels: dict[str, dict[str, Any]] = {
            "NumberOfDetectors": {"value": n},
            "InptMeasurementPeriod": {"value": 100, "bounds": [10, 60000], "units": "ms"},
            "BiasCurrent": {"value": [0.0] * n, "bounds": [-90.9, 90.9], "units": "uA"},
            "TriggerLevel": {"value": [100.0] * n, "bounds": [-1000, 1000], "units": "mV"},
            "BiasVoltage": {"value": [0.0] * n, "units": "mV"},
            "DetectorEnable": {"value": False},
            "StartAutoIV": {"value": False},
            "BiasCurrentAutoIV": {"value": [0.0] * n, "units": "uA"},
        }
        self._text = ""
        self._next_broadcast_s = self.clock()
        self._sweep_end_s: float | None = None
        self.counts = SimWebSqCounts(self)
        self.apply()

    def receive(self, data: bytes) -> None:
        """JSON objects of the host, without terminator."""
        self._text += data.decode("utf-8", errors="replace")
        decoder = json.JSONDecoder()
        while "{" in self._text:
            self._text = self._text[self._text.index("{") :]
            try:
                message, end = decoder.raw_decode(self._text)
            except json.JSONDecodeError:
                return
            self._text = self._text[end:]
            self._act(message)

    def poll(self) -> bytes:
        """Bytes that are due."""
        now = self.clock()
        if "broadcasts" in self.faults and now >= self._next_broadcast_s:
            self._next_broadcast_s = now + 0.2
            known = {"label": "NumberOfDetectors", "value": len(self.ports)}
            self._send(0.0, {"label": "CompressorHours", "value": 12345.6}, known)
        if self._sweep_end_s is not None and now >= self._sweep_end_s:
            self._sweep_end_s = None
            best = [0.9 * self.critical_ua] * len(self.ports)
            self.put("BiasCurrentAutoIV", best)
            self.put("StartAutoIV", False)
            self._send(0.0, {"label": "BiasCurrentAutoIV", "value": best}, {"label": "StartAutoIV", "value": False})
        return super().poll()

    def value(self, label: str) -> Any:
        """What a label holds."""
        return self.labels[label]["value"]

    def put(self, label: str, value: object) -> None:
        """Changes a label and lets the detectors follow."""
        self.labels[label]["value"] = value
        if label == "DetectorEnable" and not value:
            self._latched = [False] * len(self.ports)
        self.apply()

    def apply(self) -> None:
        """Bias and state of each detector, as the ports and the voltage label show them."""
        on = bool(self.value("DetectorEnable"))
        voltages = []
        for i, port in enumerate(self.ports):
            bias_ua = float(self.value("BiasCurrent")[i]) if on else 0.0
            if on and (abs(bias_ua) > self.critical_ua or port.bright or "bright_pulse" in self.faults):
                self._latched[i] = True
            port.bias = bias_ua
            port.enabled = on and not self._latched[i]
            voltages.append(LATCHED_MV if self._latched[i] else bias_ua * NORMAL_OHM / 1000)
        self.labels["BiasVoltage"]["value"] = voltages

    def _act(self, message: dict[str, Any]) -> None:
        if "request" in message:
            self._request(str(message["request"]))
            return
        command, value = str(message.get("command", message.get("label"))), message.get("value")
        if self.faults.fires("error_label"):
            self._send(ECHO_S, {"label": "ErrorMessage", "value": f"{command} failed"})
        elif not self.faults.fires("rejected_value"):
            self._command(command, value)

    def _request(self, what: str) -> None:
        self.apply()
        if what == "labelProps":
            other = {"Flow": {"value": 1.0, "units": "l/min"}}
            known = other if "wrong_identity" in self.faults else self.labels
            dump = [{"label": name, "value": properties} for name, properties in known.items()]
            self._send(3.0 if "slow_labels" in self.faults else 0.02, *dump)
        elif what in self.labels:
            self._send(0.1, {"label": what, "value": self.value(what)})

    def _command(self, command: str, value: Any) -> None:
        if command == "AutoCaliBiasCurrents" and value:
            self.put("StartAutoIV", True)
            self._sweep_end_s = self.clock() + AUTO_BIAS_S
            self._send(0.1, {"label": "StartAutoIV", "value": True})
        elif command in _LABEL_OF and self._allowed(_LABEL_OF[command], value):
            self.put(_LABEL_OF[command], value)
            self._send(ECHO_S, {"label": _LABEL_OF[command], "value": value})

    def _allowed(self, label: str, value: Any) -> bool:
        low, high = self.labels[label].get("bounds", (0, 1))
        values = value if isinstance(value, list) else [value]
        expected = len(self.ports) if isinstance(self.value(label), list) else 1
        return len(values) == expected and all(low <= v <= high for v in values)

    def _send(self, delay_s: float, *messages: dict[str, Any]) -> None:
        texts = [json.dumps(message, separators=(",", ":")).encode() for message in messages]
        between = b"" if "glued" in self.faults else GROUP_END
        self.reply(between.join(texts) + GROUP_END, delay_s)


class SimWebSqCounts:
    """One line per measurement period: unix time and the counts of every detector; faults are those of the box."""

    def __init__(self, box: SimWebSq) -> None:
        self._box = box
        self.faults = box.faults
        self._period_start_s = box.clock()

    def receive(self, data: bytes) -> None:
        """Nothing is taken here."""

    def poll(self) -> bytes:
        """The lines of the periods that have ended."""
        box, lines = self._box, []
        period_s = box.value("InptMeasurementPeriod") / 1000
        while box.clock() >= self._period_start_s + period_s:
            self._period_start_s += period_s
            box.apply()
            fields = [UNIX_START_S + self._period_start_s]
            fields += [float(port.counts(period_s)) if port.enabled else 0.0 for port in box.ports]
            kept = fields[:-1] if box.faults.fires("short_line") else fields
            lines.append(",".join(f"{x:.3f}" for x in kept) + "\n")
        return "".join(lines).encode()


def alone(clock: Clock, rng: np.random.Generator) -> SimWebSq:
    """One with four nanowires in weak light."""
    return SimWebSq([Nanowire(rng=rng) for _ in range(4)], clock=clock, faults=Faults(SimWebSq.FAULTS), rng=rng)
