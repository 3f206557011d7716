"""OZ Optics EPC-400 polarisation controller: four squeezers driven by voltages.

Never run on hardware.

Every command is answered by a line of content and then ``Done``. The instrument has no identity query: the layout of
its answers to ``V?`` and ``M?`` stands for it. Source: ``spec/devices/delay_attenuator_switch_polarization.md``
section 2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from qkdpp.core.devices import Value
from qkdpp_drivers.errors import ReplyError, SettingError, TransportTimeout
from qkdpp_drivers.instrument import Identity, Setting, TextInstrument

CHANNELS = (1, 2, 3, 4)
VOLTAGE = Setting(name="voltage_v", unit="V", low=-5.0, high=5.0, tolerance=0.0011)
FREQUENCY = Setting(name="frequency_hz", unit="Hz", low=0, high=100)


class OzEpc(TextInstrument):
    """The controller; retarders 1 to 4 in volts, set in steps of 1 mV."""

    kind: ClassVar[str] = "PolarisationController"
    vendor: ClassVar[str] = "OZ Optics"
    model: ClassVar[str] = "EPC-400"
    transports: ClassVar[tuple[str, ...]] = ("serial",)
    baud: ClassVar[int | None] = 9600
    send_end: ClassVar[bytes] = b"\r\n"
    reply_end: ClassVar[bytes] = b"\r\n"
    timeout_s: ClassVar[float] = 1.0
    retarder_unit: ClassVar[str] = "V"

    def identify(self) -> Identity:
        """An EPC-400 if ``V?`` and ``M?`` are answered as one answers them, else what came instead."""
        voltages, mode = self.ask("V?"), self.ask("M?")
        right = len(re.findall(r"CH[1-4] +[+-]?\d+", voltages)) == len(CHANNELS) and mode.startswith("Work Mode:")
        return Identity(vendor=self.vendor if right else "?", model=self.model if right else f"{voltages} / {mode}")

    @property
    def retarders(self) -> Mapping[int, tuple[float, float]]:
        """Lowest and highest voltage of each squeezer."""
        return dict.fromkeys(CHANNELS, (VOLTAGE.low, VOLTAGE.high))

    def set_retarder(self, retarder: int, value: float) -> float:
        """Sets one voltage; returns the voltage read back.

        Raises:
            SettingError: no such squeezer, out of range, or not taken over.
            ReplyError: the controller does not confirm it.
        """
        self._known(retarder)
        value_mv = round(VOLTAGE.check(self.name, value) * 1000)
        with self.transport.lock:
            self._confirmed(f"V{retarder},{value_mv}", f"Set CH{retarder} DC Voltage at: {value_mv}mV")
            return VOLTAGE.verify(self.name, value, self.retarder(retarder))

    def retarder(self, retarder: int) -> float:
        """One voltage as the controller tells it."""
        self._known(retarder)
        return self._of_channels("V?")[retarder] / 1000

    def set_frequency_hz(self, retarder: int, frequency_hz: int) -> None:
        """Sets the frequency that a squeezer has in AC mode (scrambling)."""
        self._known(retarder)
        FREQUENCY.check(self.name, frequency_hz)
        self._confirmed(f"F{retarder},{frequency_hz}", f"Set CH{retarder} AC Frequency at: {frequency_hz}Hz")
        FREQUENCY.verify(self.name, frequency_hz, self._of_channels("F?")[retarder])

    def set_scrambling(self, on: bool) -> None:
        """AC mode (on) or DC mode (off, as after connecting)."""
        word = "AC" if on else "DC"
        self._confirmed(f"M{word}", f"Set To {word} Mode")
        if (found := self.ask("M?")) != "Work Mode: DC" and not on:
            raise SettingError(f"{self.name}: mode was set to DC but the controller tells {found!r}")

    def save(self) -> None:
        """Keeps the settings over power-off."""
        self._confirmed("SAVE", "Write Setting to Flash memory")

    def snapshot(self) -> dict[str, Value]:
        """Voltages, frequencies and mode."""
        found: dict[str, Value] = {f"voltage_{n}_v": mv / 1000 for n, mv in self._of_channels("V?").items()}
        found |= {f"frequency_{n}_hz": hz for n, hz in self._of_channels("F?").items()}
        return found | {"mode": self.ask("M?").removeprefix("Work Mode:").strip()}

    def _prepare(self) -> None:
        if self.ask("M?") != "Work Mode: DC":
            self.set_scrambling(False)

    def _ask(self, query: str, timeout_s: float) -> str:
        """The line of content; ``Done`` must follow, or the next answer cannot be told from this one."""
        try:
            content = super()._ask(query, timeout_s)
            end = b"" if content == "Done" else self.transport.read_until(self.reply_end, timeout_s)
            if end.strip() != b"Done":
                raise ReplyError(self.name, query, content.encode() + b" / " + end)
        except (ReplyError, TransportTimeout):
            self._is_stale = True
            raise
        return content

    def _known(self, retarder: int) -> None:
        if retarder not in CHANNELS:
            raise SettingError(f"{self.name}: retarder = {retarder}: squeezers are 1 to 4")

    def _confirmed(self, command: str, wanted: str) -> None:
        found = self.ask(command)
        if found != wanted:
            raise ReplyError(self.name, command, found.encode())

    def _of_channels(self, query: str) -> dict[int, int]:
        """``... CH1 +2200 CH2 +5000 ...`` as channel -> number."""
        line = self.ask(query)
        found = {int(n): int(value) for n, value in re.findall(r"CH([1-4]) +([+-]?\d+)", line)}
        if tuple(found) != CHANNELS:
            raise ReplyError(self.name, query, line.encode())
        return found
