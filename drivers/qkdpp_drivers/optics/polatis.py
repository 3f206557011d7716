"""Polatis (Huber+Suhner) optical matrix switch: SCPI on a socket (5025) or a serial port.

Never run on hardware.

Inputs are ports 1 to n, outputs n+1 to n+m. Commands have no reply: the error queue and a read-back follow each.
Source: ``spec/devices/delay_attenuator_switch_polarization.md`` section 5.
"""

from __future__ import annotations

import re
from typing import ClassVar

from qkdpp.core.devices import Value
from qkdpp_drivers.errors import ReplyError, SettingError
from qkdpp_drivers.instrument import Identity, TextInstrument
from qkdpp_drivers.transports import Transport

_LIST = r"\(@([\d, ]*)\)"


class Polatis(TextInstrument):
    """The switch."""

    kind: ClassVar[str] = "OpticalSwitch"
    vendor: ClassVar[str] = "Polatis"
    model: ClassVar[str] = "Polatis"
    transports: ClassVar[tuple[str, ...]] = ("tcp", "serial", "visa")
    baud: ClassVar[int | None] = 38400

    def __init__(self, transport: Transport, *, name: str | None = None) -> None:
        super().__init__(transport, name=name)
        self.inlets = self.outlets = range(0)

    def identify(self) -> Identity:
        """From ``*idn?``."""
        return Identity.of_idn(self.ask("*idn?"))

    def accepts(self, identity: Identity) -> bool:
        """By the maker: the model tells the size."""
        return any(maker in identity.vendor.lower() for maker in ("polatis", "huber"))

    def route(self, inlet: int, outlet: int | None) -> None:
        """Connects an input port to an output port, or (None) to nothing, and looks whether it is.

        Raises:
            SettingError: no such port, or the connection is not there afterwards.
            InstrumentError: refused.
        """
        if inlet not in self.inlets:
            raise SettingError(f"{self.name}: inlet = {inlet}: inputs are {self.inlets.start} to {self.inlets[-1]}")
        if outlet is not None and outlet not in self.outlets:
            raise SettingError(
                f"{self.name}: outlet = {outlet}: outputs are {self.outlets.start} to {self.outlets[-1]}"
            )
        with self.transport.lock:
            before = self._leads_to(inlet)
            if outlet is not None:
                self.tell(f":oxc:swit:conn:add (@{inlet}),(@{outlet})")
            elif before is not None:
                self.tell(f":oxc:swit:conn:sub (@{inlet}),(@{before})")
            self._no_errors()
            if (found := self._leads_to(inlet)) != outlet:
                raise SettingError(f"{self.name}: inlet {inlet} was led to {outlet or 'nothing'} but leads to {found}")

    def routes(self) -> dict[int, int]:
        """Output port of every connected input port."""
        line = self.ask(":oxc:swit:conn:stat?")
        match = re.fullmatch(rf"{_LIST},{_LIST}", line)
        if match is None:
            raise ReplyError(self.name, "conn:stat?", line.encode())
        ins, outs = ([int(word) for word in group.split(",") if word.strip()] for group in match.groups())
        if len(ins) != len(outs):
            raise ReplyError(self.name, "conn:stat?", line.encode())
        return dict(zip(ins, outs, strict=True))

    def disconnect_all(self) -> None:
        """Takes every connection away."""
        with self.transport.lock:
            self.tell(":oxc:swit:disc:all")
            self._no_errors()
            if left := self.routes():
                raise SettingError(f"{self.name}: all connections were taken away but {left} are there")

    def errors(self) -> list[str]:
        """The error queue: ``number: text``."""
        line = self.ask(":syst:err:all?")
        found = re.findall(r'([+-]?\d+),"([^"]*)"', line)
        if not found:
            raise ReplyError(self.name, "syst:err:all?", line.encode())
        return [f"{int(code)}: {text}" for code, text in found if int(code) != 0]

    def snapshot(self) -> dict[str, Value]:
        """Size and connections."""
        found: dict[str, Value] = {"inlets": len(self.inlets), "outlets": len(self.outlets)}
        return found | {f"route_{inlet}": outlet for inlet, outlet in self.routes().items()}

    def _prepare(self) -> None:
        self.tell("*cls")
        line = self.ask(":oxc:swit:size?")
        match = re.fullmatch(r"(\d+),(\d+)", line)
        if match is None:
            raise ReplyError(self.name, "size?", line.encode())
        n, m = int(match[1]), int(match[2])
        self.inlets, self.outlets = range(1, n + 1), range(n + 1, n + m + 1)

    def _leads_to(self, inlet: int) -> int | None:
        line = self.ask(f":oxc:swit:conn:port? {inlet}")
        match = re.fullmatch(r'"(\d*)"', line)
        if match is None:
            raise ReplyError(self.name, "conn:port?", line.encode())
        return int(match[1] or 0) or None
