"""Transmitter unit of a prepare-and-measure link: keeps the states it sent. Never run on hardware."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.devices import Value
from qkdpp_drivers.errors import InstrumentError, ReplyError, SettingError, TransportTimeout
from qkdpp_drivers.instrument import TextInstrument

MODES = ("H", "V", "D", "A", "SYNC", "OFF")
MOST_SLOTS = 1 << 22
"""Pulse numbers in one question; more are asked for in several."""


class Transmitter(TextInstrument):
    """Alice's source behind the open protocol of ``docs/formats/transmitter.md``."""

    kind = "Transmitter"
    vendor = "open protocol"
    model = "transmitter"
    transports = ("tcp",)
    timeout_s: ClassVar[float] = 10.0

    def configuration(self) -> dict[str, Any]:
        """Pulse period, intensities, probabilities, sync period and string, as the unit states them."""
        text = self._asked("CONF?")
        try:
            found = json.loads(text)
        except ValueError as error:
            raise ReplyError(self.name, "CONF?", text.encode()) from error
        if not isinstance(found, dict):
            raise ReplyError(self.name, "CONF?", text.encode())
        return found

    def snapshot(self) -> dict[str, Value]:
        """Configuration and state; lists as text."""
        mode, epoch, pulses = self.state()
        fields: dict[str, Value] = {"mode": mode, "epoch": epoch, "pulses_sent": pulses}
        for name, value in self.configuration().items():
            plain = value is None or isinstance(value, str | int | float | bool)
            fields[name] = value if plain else json.dumps(value)
        return fields

    def state(self) -> tuple[str, int, int]:
        """What is being sent, number of the epoch, pulses sent in it."""
        words = self._asked("STATE?").split()
        try:
            return words[0], int(words[1]), int(words[2])
        except (IndexError, ValueError) as error:
            raise ReplyError(self.name, "STATE?", " ".join(words).encode()) from error

    def send(self, mode: str) -> None:
        """Sends a constant state, sparse bright pulses, or nothing; ends the epoch."""
        if mode not in MODES:
            raise SettingError(f"{self.name}: mode {mode!r}: one of {', '.join(MODES)}")
        self._asked(f"MODE {mode}")

    def start(self) -> int:
        """Begins an epoch of random states, pulses counted from 0; its number."""
        text = self._asked("START")
        try:
            return int(text)
        except ValueError as error:
            raise ReplyError(self.name, "START", text.encode()) from error

    def lookup(self, epoch: int, slots: NDArray[np.int64]) -> NDArray[np.uint8]:
        """State codes of pulse numbers (int64[n], not negative) as uint8[n]; 255 where the unit does not hold one."""
        parts = [np.empty(0, dtype=np.uint8)]
        for first in range(0, slots.size, MOST_SLOTS):
            part = slots[first : first + MOST_SLOTS]
            question = f"LOOKUP {epoch} {part.size}\n".encode() + part.astype("<u8").tobytes()
            parts.append(np.frombuffer(self._block(question, "LOOKUP", part.size, 1), dtype=np.uint8))
        return np.concatenate(parts)

    def totals(self, epoch: int, first: int, count: int, n_codes: int) -> NDArray[np.int64]:
        """Pulses ``first`` to ``first + count`` by state code, int64[n_codes], pulses of the string left out."""
        data = self._block(f"TOTALS {epoch} {first} {count}\n".encode(), "TOTALS", n_codes, 8)
        return np.frombuffer(data, dtype="<i8").astype(np.int64)

    def release(self, epoch: int, before: int) -> None:
        """States of earlier pulses will not be asked for again."""
        self._asked(f"RELEASE {epoch} {before}")

    def _asked(self, command: str) -> str:
        return self._ok(command, self.ask(command))

    def _ok(self, command: str, line: str) -> str:
        """What follows ``OK``; InstrumentError for ``ERR``, ReplyError for anything else."""
        word, _, rest = line.partition(" ")
        if word == "OK":
            return rest
        code, _, text = rest.partition(" ")
        if word == "ERR" and code.isdigit():
            raise InstrumentError(self.name, int(code), text)
        raise ReplyError(self.name, command, line.encode())

    def _block(self, question: bytes, name: str, n: int, width: int) -> bytes:
        """The counted block that answers ``question``: ``n`` items of ``width`` bytes."""
        with self.transport.lock:
            self._fresh()
            try:
                line = self.transport.query(question, self.reply_end, self.timeout_s)
                found = self._ok(name, line.decode("ascii", "replace"))
                if found != str(n):
                    raise ReplyError(self.name, name, line)
                return self.transport.read_exact(n * width, self.timeout_s)
            except (ReplyError, TransportTimeout):
                self._is_stale = True
                raise
