"""Simulated SRS DG645 delay generator: its remote commands, error queue and 5 ps grid.

It sets one knob per channel (A to H), the delay after T0 in picoseconds.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import ClassVar

import numpy as np

from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import Knob
from qkdpp_drivers.sim.queued import Answer, QueuedInstrument
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, Clock

ILLEGAL_VALUE, NOT_ALLOWED, UNDEFINED, ILLEGAL_QUERY, TOO_MANY = 10, 15, 111, 112, 254
STEP_S = Decimal("5e-12")
_PLAIN = {  # header -> lowest, highest, value at reset
    "TSRC": ("0", "6", "0"),
    "TRAT": ("0.001", "1e6", "1000"),
    "TLVL": ("-3.5", "3.5", "0"),
    "ADVT": ("0", "1", "0"),
    "INHB": ("0", "5", "0"),
    "BURM": ("0", "1", "0"),
}
_PER_OUTPUT = {"LAMP": ("0.5", "5", "2.5"), "LOFF": ("-3", "3", "0"), "LPOL": ("0", "1", "1")}


class SimDg645(QueuedInstrument):
    """The generator."""

    REPLY_END: ClassVar[bytes] = b"\r\n"
    ENDS: ClassVar[bytes] = b"\r\n;"
    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS | {
        "locked": "settings are refused with error 15",
        "ignored_set": "a delay keeps its value without an error",
    }

    def __init__(self, knobs: Mapping[str, Knob], *, clock: Clock, faults: Faults, rng: np.random.Generator) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self._knobs = dict(knobs)
        self._errors: deque[int] = deque()
        self._reset()

    def answer(self, text: str) -> Answer:
        """One command; a wrong one leaves an error number in the queue."""
        match = re.fullmatch(r"(\*?[A-Z]+)(\?)?\s*(.*)", text.upper())
        if match is None:
            return self._error(UNDEFINED)
        head, query, rest = match.groups()
        words = [w.strip() for w in rest.split(",")] if rest else []
        if head.startswith("*"):
            return self._common(head, bool(query))
        if head == "LERR":
            return str(self._errors.popleft()) if self._errors else "0"
        if head in ("TIMB", "INSR"):
            return "0"
        try:
            return self._query(head, words) if query else self._set(head, words)
        except (KeyError, IndexError, ValueError):
            return self._error(UNDEFINED if head not in {"DLAY", "LINK", *_PLAIN, *_PER_OUTPUT} else ILLEGAL_VALUE)
        except InvalidOperation:
            return self._error(ILLEGAL_VALUE)

    def _common(self, head: str, query: bool) -> str | None:
        if head == "*IDN" and query:
            other = self.faults.fires("wrong_identity")
            return f"Stanford Research Systems,{'DS345' if other else 'DG645'},s/n001013,ver1.20.152"
        if head == "*OPC" and query:
            return "1"
        if head == "*CLS":
            self._errors.clear()
        elif head == "*RST":
            self._reset()
        else:
            return self._error(UNDEFINED)
        return None

    def _query(self, head: str, words: list[str]) -> str:
        if head == "DLAY":
            reference, delay_s = self._delays[int(words[0])]
            return f"{reference},{delay_s:+.12f}"
        if head == "LINK":
            return str(self._delays[int(words[0])][0])
        value = self._outputs[head][int(words[0])] if head in _PER_OUTPUT else self._plain[head]
        return f"{value.normalize():+f}" if head not in ("TSRC", "ADVT", "INHB", "BURM", "LPOL") else str(int(value))

    def _set(self, head: str, words: list[str]) -> str | None:
        if "locked" in self.faults:
            return self._error(NOT_ALLOWED)
        if head == "DLAY":
            return self._set_delay(int(words[0]), int(words[1]), Decimal(words[2]))
        if head in _PER_OUTPUT:
            self._outputs[head][int(words[0])] = self._within(_PER_OUTPUT[head], words[1])
        else:
            self._plain[head] = self._within(_PLAIN[head], words[0])
        return None

    def _within(self, limits: tuple[str, str, str], word: str) -> Decimal:
        value = Decimal(word)
        if not Decimal(limits[0]) <= value <= Decimal(limits[1]):
            raise ValueError(word)
        return value

    def _set_delay(self, channel: int, reference: int, delay_s: Decimal) -> str | None:
        if not (2 <= channel <= 9 and 0 <= reference <= 9 and reference != channel and 0 <= delay_s <= 2000):
            return self._error(ILLEGAL_VALUE)
        if not self.faults.fires("ignored_set"):
            self._delays[channel] = (reference, (delay_s / STEP_S).to_integral_value() * STEP_S)
            self._turn()
        return None

    def _turn(self) -> None:
        """Every knob to the delay of its channel after T0."""
        for name, knob in self._knobs.items():
            total_s, at = Decimal(0), 2 + "ABCDEFGH".index(name)
            for _ in range(10):
                reference, delay_s = self._delays[at]
                total_s += delay_s
                if (at := reference) == 0:
                    break
            knob.value = float(total_s * 10**12)

    def _reset(self) -> None:
        self._delays: dict[int, tuple[int, Decimal]] = {c: (0, Decimal(0)) for c in range(10)}
        self._plain = {head: Decimal(limits[2]) for head, limits in _PLAIN.items()}
        self._outputs = {head: [Decimal(limits[2])] * 5 for head, limits in _PER_OUTPUT.items()}
        self._turn()

    def _error(self, number: int) -> str | None:
        """Queues an error; there is never a reply to it."""
        if len(self._errors) < 19:
            self._errors.append(number)
        elif len(self._errors) == 19:
            self._errors.append(TOO_MANY)
        return None


def alone(clock: Clock, rng: np.random.Generator) -> SimDg645:
    """One whose delays nobody sees."""
    return SimDg645({}, clock=clock, faults=Faults(SimDg645.FAULTS), rng=rng)
