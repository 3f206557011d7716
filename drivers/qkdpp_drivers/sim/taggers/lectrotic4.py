"""A simulated LectroTIC-4, with the replies and error strings of firmware 0.16.0.

Inputs are served in turn every 0.1 s, so records are in time order per input
and polarity only. Time runs from power-up, which is the clock's zero.
"""

from __future__ import annotations

import re
import struct
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import EdgeSource, PoissonEdges
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, Clock, CommandInstrument

PS_PER_TICK = 4000
TICKS_PER_S = 250_000_000
RING = 16384
SERVICE_S = 0.1
VERSION = "0.16.0-simulated"
SLOPE_WORDS = {
    **dict.fromkeys(("POS", "POSITIVE"), "POS"),
    **dict.fromkeys(("NEG", "NEGATIVE"), "NEG"),
    **dict.fromkeys(("BOTH", "EITH", "EITHER"), "BOTH"),
}
LONG_FORMS = (
    ("INPUT", "INP"),
    ("SLOPE", "SLOP"),
    ("DIVIDER", "DIV"),
    ("FORMAT", "FORM"),
    ("OUTPUT", "OUTP"),
    ("STATE", "STAT"),
    ("CLEAR", "CLE"),
    ("SYSTEM", "SYST"),
    ("ERROR", "ERR"),
)


class SimLectroTic4(CommandInstrument):
    """The device.

    Args:
        edges: rising edges at its inputs 0 to 3.
        clock: seconds since power-up.
        faults: of ``FAULTS``.
        rng: not used by the device itself.
        pulse_ps: falling edges follow the rising ones by so much.
    """

    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS | {
        "usb_busy": "replies are dropped while the stream is on",
        "ring_overflow": "the ring is full: pulses are lost and reported",
        "oscillator_failure": "the 10 MHz reference is gone: one message, then silence",
        "unknown_message": "special messages of a type that nobody knows",
        "out_of_step": "three bytes of the stream are lost",
    }

    def __init__(
        self,
        edges: EdgeSource,
        *,
        clock: Clock,
        faults: Faults,
        rng: np.random.Generator,
        pulse_ps: int = 50_000,
    ) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self.edges, self.pulse_ps = edges, pulse_ps
        self._slope, self._divider, self._passed = ["POS"] * 4, [1] * 4, [0] * 8
        self._is_text, self._on, self._halted = True, True, False
        self._error = '0,"No error"'
        self._next_service_s = clock() + SERVICE_S
        self._due.append((clock(), f"# Starting LectroTIC-4, version {VERSION}\n".encode()))

    def command(self, text: str) -> None:
        """Obeys one line."""
        word = re.sub(r"\s+", " ", text.upper())
        for long, short in LONG_FORMS:
            word = re.sub(rf"\b{long}", short, word)
        word = word.replace("FORM:DATA", "FORM")
        if word.endswith("?"):
            self._query(word)
        elif word == "*RST":
            self._slope, self._divider, self._is_text, self._on = ["POS"] * 4, [1] * 4, True, True
            self._clear()
            self._error = '0,"No error"'
        elif word == "*CLS":
            self._error = '0,"No error"'
        elif word == "OUTP:CLE":
            self._clear()
        elif word != "CONF:SAVE":
            self._error = self._set(*word.partition(" ")[::2])

    def _query(self, word: str) -> None:
        answers = {
            "*IDN?": f"Lectrobox,{'Timestamper' if 'wrong_identity' in self.faults else 'LectroTIC-4'},0042,{VERSION}",
            "SYST:ERR?": self._error,
            "FORM?": "TEXT" if self._is_text else "BIN",
            "OUTP:STAT?": str(int(self._on)),
        }
        found = re.fullmatch(r"INP([0-3]?):(SLOP|DIV)\?", word)
        if found:
            number = int(found[1] or 0)
            answers[word] = self._slope[number] if found[2] == "SLOP" else str(self._divider[number])
        if word not in answers:
            self._error = '-100,"Command error"'
            return
        if word == "SYST:ERR?":
            self._error = '0,"No error"'
        if not (self._on and "usb_busy" in self.faults):
            self.say(answers[word])

    def _set(self, head: str, value: str) -> str:
        """Obeys a set command; the error it leaves behind."""
        error = '0,"No error"'
        found = re.fullmatch(r"INP([0-3]?):(SLOP|DIV)", head)
        if found and found[2] == "SLOP":
            if value not in SLOPE_WORDS:
                return '-104,"Bad slope"'
            self._slope[int(found[1] or 0)] = SLOPE_WORDS[value]
        elif found:
            if not value.isdigit():
                return '-104,"Bad number"'
            if int(value) < 1:
                return '-222,"Divider must be >= 1"'
            self._divider[int(found[1] or 0)] = int(value)
        elif head == "FORM":
            if value not in ("TEXT", "BIN", "BINARY"):
                return '-104,"Bad format"'
            self._is_text = value == "TEXT"
        elif head == "OUTP:STAT":
            if value not in ("ON", "OFF", "1", "0"):
                return '-104,"Bad boolean"'
            self._on = value in ("ON", "1")
        else:
            error = '-100,"Command error"'
        return error

    def _clear(self) -> None:
        self.edges.edges(self.clock())
        self._due.append((self.clock(), b"# output cleared\n" if self._is_text else struct.pack("<II", 0, 0x10 << 24)))

    def poll(self) -> bytes:
        """Replies, then every 0.1 s what the inputs captured."""
        out = super().poll()
        if self._halted or self.clock() < self._next_service_s:
            return out
        self._next_service_s = self.clock() + SERVICE_S
        times_ps, inputs = self.edges.edges(self.clock())
        if self.faults.fires("oscillator_failure"):
            self._halted = True
            text = b"# FATAL: External oscillator failure. Connect a 10MHz source and press reset.\n"
            return out + (text if self._is_text else struct.pack("<II", 0, 0x10 << 24 | 2))
        return out + self._captured(times_ps, inputs) if self._on else out

    def _captured(self, times_ps: NDArray[np.int64], inputs: NDArray[np.uint8]) -> bytes:
        """The records of all inputs, one input after the other."""
        parts = []
        room = RING
        for number in range(4):
            rising = times_ps[inputs == number]
            for is_rising in (True, False):
                if self._slope[number] not in ("BOTH", "POS" if is_rising else "NEG"):
                    continue
                kept = self._divided(number, rising if is_rising else rising + self.pulse_ps, is_rising)
                lost = kept.size // 2 if kept.size and self.faults.fires("ring_overflow") else max(0, kept.size - room)
                kept = kept[: kept.size - lost]
                room -= kept.size
                parts.append(self._written(number, kept // PS_PER_TICK, is_rising))
                if lost:
                    parts.append(self._loss(number, lost))
        if self.faults.fires("unknown_message"):
            parts.append(struct.pack("<II", 7, 0x10 << 24 | 9) if not self._is_text else b"# something new\n")
        data = b"".join(parts)
        return data[3:] if len(data) > 3 and self.faults.fires("out_of_step") else data

    def _divided(self, number: int, times_ps: NDArray[np.int64], is_rising: bool) -> NDArray[np.int64]:
        at = number if is_rising else number + 4
        order = np.arange(self._passed[at] + 1, self._passed[at] + times_ps.size + 1)
        self._passed[at] += times_ps.size
        return np.asarray(times_ps[order % self._divider[number] == 0])

    def _written(self, number: int, ticks: NDArray[np.int64], is_rising: bool) -> bytes:
        seconds, within = ticks // TICKS_PER_S, ticks % TICKS_PER_S
        if self._is_text:
            sign = "+" if is_rising else "-"
            lines = (f"{number} {s}.{4 * w:09d} {sign}\n" for s, w in zip(seconds, within, strict=True))
            return "".join(lines).encode()
        counter = within | number << 30 | is_rising << 29
        return np.stack([seconds, counter], axis=1).astype("<u4").tobytes()

    def _loss(self, number: int, lost: int) -> bytes:
        if self._is_text:
            return f"# ch{number}: 0 overcaptures, {lost} buf overflows\n".encode()
        return struct.pack("<II", min(lost, 65535) << 16, number << 30 | 0x10 << 24 | 1)


def alone(clock: Clock, rng: np.random.Generator) -> SimLectroTic4:
    """One with Poisson events at all inputs."""
    edges = PoissonEdges((2000.0, 2000.0, 1000.0, 500.0), rng)
    return SimLectroTic4(edges, clock=clock, faults=Faults(SimLectroTic4.FAULTS), rng=rng)
