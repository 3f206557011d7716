"""Simulated SRS SIM900 mainframe with Quantum Opus bias modules in its ports.

The mainframe answers ``NINP?`` and ``RAWN?`` and forwards ``SNDT``; a bad command is not answered. The module ignores
invalid input silently. Bias DAC: 65535 = 25 microampere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from qkdpp_drivers.sim.detectors.diodes import Nanowire
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import DetectorPort
from qkdpp_drivers.sim.queued import Answer, QueuedInstrument
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, Clock

FULL_SCALE = 65535
FULL_SCALE_UA = 25.0
AUTO_BIAS_S = 4.0
LATCHED_V = 0.9


class SimBiasModule:
    """One bias module; its port's bias is in microampere."""

    def __init__(self, *, clock: Clock, faults: Faults, port: DetectorPort, critical_current_ua: float) -> None:
        self._clock, self._faults, self._port = clock, faults, port
        self._critical_ua = critical_current_ua
        self._numbers = {"B": 0, "D": 10, "E": 0, "H": 0}
        self._low_gain = 0
        self._latched = False
        self._reset_end_s = self._sweep_end_s = -1.0
        self.step()

    def command(self, text: str) -> str | None:
        """Act on ``+X?``, ``+Xn;`` or ``+X;``; the answer without LF, or None."""
        self.step()
        match = re.fullmatch(r"\+([A-H])(\?|\d*);?", text)
        if match is None or self._clock() < self._sweep_end_s:
            return None
        letter, rest = match.groups()
        if rest == "?":
            return self._query(letter)
        if not self._faults.fires("ignored_set"):
            self._set(letter, rest)
            self.step()
        return None

    def _query(self, letter: str) -> str | None:
        if letter == "A":
            wrong = self._faults.fires("wrong_identity")
            return (
                "Stanford_Research_Systems,SIM928,s/n012345,ver2.2" if wrong else "Quantum Opus AMP-SIM,s/n0007,ver1.1"
            )
        if letter == "C":
            volt = LATCHED_V if self._latched else 0.01
            return str(round(volt / (5.0 if self._low_gain else 1.1) * FULL_SCALE))
        if letter == "H":
            return f"{self._numbers['H']}.0"
        return str(self._numbers[letter]) if letter in "BDE" else None

    def _set(self, letter: str, digits: str) -> None:
        limits = {"B": FULL_SCALE, "D": 255, "E": 1, "H": FULL_SCALE}
        if digits and letter in limits and int(digits) <= limits[letter]:
            self._numbers[letter] = int(digits)
        elif letter == "C" and digits in ("0", "1"):
            self._low_gain = int(digits)
        elif letter == "H" and not digits:
            self._numbers["B"] = self._numbers["H"]
        elif letter == "F" and not digits:
            self._reset()
        elif letter == "G" and not digits:
            self._sweep_end_s = self._clock() + AUTO_BIAS_S
            self._numbers["B"] = round(0.95 * self._critical_ua / FULL_SCALE_UA * FULL_SCALE)
            self._latched = False

    def _reset(self) -> None:
        self._latched = False
        self._reset_end_s = self._clock() + self._numbers["D"] * 0.01

    def step(self) -> None:
        """Latch, reset timer and what the port sees."""
        resetting = self._clock() < self._reset_end_s
        bias_ua = 0.0 if resetting else self._numbers["B"] / FULL_SCALE * FULL_SCALE_UA
        bright = self._port.bright or "bright_pulse" in self._faults
        if bias_ua > self._critical_ua or (bias_ua > 0 and bright):
            self._latched = True
        if self._latched and self._numbers["E"]:
            self._reset()
            bias_ua = 0.0
        self._port.bias = bias_ua
        self._port.enabled = bias_ua > 0 and not self._latched


class SimSim900(QueuedInstrument):
    """The mainframe with a bias module at each of ``ports`` (1 to 8 -> detector)."""

    REPLY_END: ClassVar[bytes] = b""
    LATE_S: ClassVar[float] = 4.0
    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS | {
        "module_silent": "the module says nothing, nothing waits in its port",
        "cut_reply": "the module's answer lacks its end",
        "ignored_set": "a set changes nothing",
        "bright_pulse": "the detectors latch",
    }

    def __init__(
        self,
        ports: Mapping[int, DetectorPort],
        *,
        clock: Clock,
        faults: Faults,
        rng: np.random.Generator,
        critical_current_ua: float = 18.0,
    ) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self._modules = {
            number: SimBiasModule(
                clock=self.clock, faults=self.faults, port=port, critical_current_ua=critical_current_ua
            )
            for number, port in ports.items()
        }
        self._module_bytes = {port: b"" for port in range(1, 9)}

    def answer(self, text: str) -> Answer:
        """One command of the mainframe; a wrong one gives no reply."""
        if text == "*IDN?":
            return "Stanford_Research_Systems,SIM900,s/n147212,ver3.6\n"
        if match := re.fullmatch(r'SNDT ([1-8]),"(.*)"', text):
            self._forward(int(match[1]), match[2])
        elif match := re.fullmatch(r"NINP\? ([1-8])", text):
            return f"{len(self._module_bytes[int(match[1])])}\n"
        elif match := re.fullmatch(r"RAWN\? ([1-8]),(\d+)", text):
            port, n = int(match[1]), int(match[2])
            taken, self._module_bytes[port] = self._module_bytes[port][:n], self._module_bytes[port][n:]
            return taken.decode("latin-1")
        return None

    def poll(self) -> bytes:
        """See the base class; modules latch and reset by themselves."""
        for module in self._modules.values():
            module.step()
        return super().poll()

    def _forward(self, port: int, text: str) -> None:
        module = self._modules.get(port)
        reply = module.command(text) if module else None
        if reply is None or self.faults.fires("module_silent"):
            return
        data = (reply + "\n").encode("latin-1")
        self._module_bytes[port] += data[:-1] if self.faults.fires("cut_reply") else data


def alone(clock: Clock, rng: np.random.Generator) -> SimSim900:
    """One with a module in slot 3."""
    return SimSim900({3: Nanowire(rng=rng)}, clock=clock, faults=Faults(SimSim900.FAULTS), rng=rng)
