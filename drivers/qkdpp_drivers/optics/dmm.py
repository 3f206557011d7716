"""Multimeter of the Agilent/Keysight 34401A, 34450A, 3446x class as current meter (blinding monitor).

Never run on hardware.

It stands in the bias line of a detector: a current above about 20 uA means bright light (Chen et al. 2021, Methods).
The range is fixed, so that a reading takes a known time. Source:
``spec/devices/delay_attenuator_switch_polarization.md`` section 8.
"""

from __future__ import annotations

import math
import re
from typing import ClassVar

from qkdpp.core.devices import Value
from qkdpp_drivers.errors import SettingError
from qkdpp_drivers.instrument import Identity, Setting, TextInstrument
from qkdpp_drivers.transports import Transport

CYCLES = (0.02, 0.2, 1.0, 10.0, 100.0)
SLOWEST_CYCLE_S = 0.02
READING_MARGIN_S = 2.0
OVERLOAD_A = 9e37


class Dmm(TextInstrument):
    """The meter, measuring direct current.

    Args:
        transport: socket (5025), VISA resource or serial port.
        range_a: largest current to be measured; the meter takes its next higher range.
        cycles: integration time in cycles of the mains, one of ``CYCLES``.
    """

    kind: ClassVar[str] = "CurrentMeter"
    vendor: ClassVar[str] = "Keysight"
    model: ClassVar[str] = "344xx multimeter"
    transports: ClassVar[tuple[str, ...]] = ("tcp", "visa", "serial")
    baud: ClassVar[int | None] = 9600

    def __init__(
        self, transport: Transport, *, range_a: float = 1e-4, cycles: float = 1.0, name: str | None = None
    ) -> None:
        super().__init__(transport, name=name)
        self.range_a = Setting(name="range_a", unit="A", low=1e-6, high=3.0).check(self.name, range_a)
        if cycles not in CYCLES:
            raise SettingError(f"{self.name}: cycles = {cycles:g}: one of {', '.join(map(str, CYCLES))} is needed")
        self.cycles = cycles

    def accepts(self, identity: Identity) -> bool:
        """Any of the class, by its model number."""
        return re.fullmatch(r"344(01|10|11|50|60|61|65|70)A", identity.model) is not None

    def current_a(self) -> float:
        """One reading; infinite (with its sign) above the range, which is no failure of the meter."""
        found = self.ask_number("READ?", self.cycles * SLOWEST_CYCLE_S + READING_MARGIN_S)
        return math.copysign(math.inf, found) if abs(found) > OVERLOAD_A else found

    def errors(self) -> list[str]:
        """The error queue."""
        return self._scpi_errors()

    def snapshot(self) -> dict[str, Value]:
        """Function, range and integration time."""
        return {
            "function": self.ask("FUNC?").strip('"'),
            "range_a": self.ask_number("CURR:RANG?"),
            "cycles": self.ask_number("CURR:NPLC?"),
        }

    def _prepare(self) -> None:
        """Direct current, fixed range, single readings at once.

        Raises:
            InstrumentError: something was refused.
            SettingError: something was not taken over.
        """
        for command in (
            "*CLS",
            'FUNC "CURR"',
            f"CURR:RANG {self.range_a:.6E}",
            f"CURR:NPLC {self.cycles:g}",
            "TRIG:SOUR IMM",
            "SAMP:COUN 1",
        ):
            self.tell(command)
        self._no_errors()
        found = self.snapshot()
        if not str(found["function"]).startswith("CURR"):
            raise SettingError(f"{self.name}: function was set to CURR but reads {found['function']}")
        highest = Setting(name="cycles", unit="", low=CYCLES[0], high=CYCLES[-1], tolerance=1e-6)
        highest.verify(self.name, self.cycles, self.ask_number("CURR:NPLC?"))
        if not self.range_a <= self.ask_number("CURR:RANG?") * (1 + 1e-6):
            raise SettingError(f"{self.name}: range_a was set to {self.range_a:g} A but the range is lower")
