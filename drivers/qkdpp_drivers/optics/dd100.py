"""OZ Optics DD-100-MC motor-driven attenuator on a serial port.

Never run on hardware.

Commands end with CR; an answer is some lines, ``Done`` and an empty line. The instrument has no identity query: the
layout of its answer to ``D`` stands for it. Source: ``spec/devices/delay_attenuator_switch_polarization.md`` section 4.
"""

from __future__ import annotations

import re
from typing import ClassVar

from qkdpp.core.devices import Value
from qkdpp_drivers.errors import ReplyError, TransportTimeout
from qkdpp_drivers.instrument import Identity, Setting, TextInstrument
from qkdpp_drivers.transports import Transport

HOME_S = 30.0
MOST_LINES = 40


class Dd100(TextInstrument):
    """The attenuator.

    Args:
        transport: serial port.
        highest_db: end of its range, from its data sheet.
        tolerance_db: largest difference between what is set and what it tells afterwards.
    """

    kind: ClassVar[str] = "Attenuator"
    vendor: ClassVar[str] = "OZ Optics"
    model: ClassVar[str] = "DD-100-MC"
    transports: ClassVar[tuple[str, ...]] = ("serial",)
    baud: ClassVar[int | None] = 9600
    send_end: ClassVar[bytes] = b"\r"
    reply_end: ClassVar[bytes] = b"\r\n"
    timeout_s: ClassVar[float] = 5.0

    def __init__(
        self, transport: Transport, *, highest_db: float = 60.0, tolerance_db: float = 0.05, name: str | None = None
    ) -> None:
        super().__init__(transport, name=name)
        self.setting = Setting(
            name="attenuation_db", unit="dB", low=0.0, high=highest_db, tolerance=tolerance_db + 0.005
        )

    def identify(self) -> Identity:
        """A DD-100-MC if ``D`` is answered as one answers it; its configuration text stands in the firmware field."""
        configuration = self.ask("CD").replace("\n", "; ")
        right = re.search(r"DPos:.*\nATTEN:", self.ask("D")) is not None
        return Identity(
            vendor=self.vendor if right else "?", model=self.model if right else configuration, firmware=configuration
        )

    def set_attenuation_db(self, attenuation_db: float) -> float:
        """Drives to an attenuation (steps of 0.01 dB); returns what the instrument tells afterwards.

        Raises:
            SettingError: out of range, or it stands elsewhere.
        """
        self.setting.check(self.name, attenuation_db)
        with self.transport.lock:
            answer = self.ask(f"A{attenuation_db:.2f}")
            if re.fullmatch(r"Pos:-?\d+", answer.splitlines()[-1]) is None:
                raise ReplyError(self.name, "A", answer.encode())
            return self.setting.verify(self.name, attenuation_db, self.attenuation_db())

    def attenuation_db(self) -> float:
        """The attenuation that the instrument tells."""
        return self._position()[1]

    def home(self) -> None:
        """Finds the home position; up to 30 s, and the attenuation changes."""
        self.ask("H", HOME_S)

    def snapshot(self) -> dict[str, Value]:
        """Motor position and attenuation."""
        steps, attenuation_db = self._position()
        return {"position_steps": steps, "attenuation_db": attenuation_db}

    def _position(self) -> tuple[int, float]:
        answer = self.ask("D")
        match = re.search(r"DPos:\s*(-?\d+)\s*\n\s*ATTEN:\s*(-?\d+(?:\.\d+)?)", answer)
        if match is None:
            raise ReplyError(self.name, "D", answer.encode())
        return int(match[1]), float(match[2])

    def _ask(self, query: str, timeout_s: float) -> str:
        """All lines of an answer, joined by LF, up to ``Done`` and the empty line after it."""
        try:
            lines = [super()._ask(query, timeout_s)]
            while lines[-1] != "Done":
                if len(lines) > MOST_LINES:
                    raise ReplyError(self.name, query, "\n".join(lines).encode())
                lines.append(self.transport.read_until(self.reply_end, timeout_s).decode("latin-1").strip())
            self.transport.read_until(self.reply_end, timeout_s)
            if len(lines) == 1:
                raise ReplyError(self.name, query, b"Done")
        except (ReplyError, TransportTimeout):
            self._is_stale = True
            raise
        return "\n".join(lines[:-1])
