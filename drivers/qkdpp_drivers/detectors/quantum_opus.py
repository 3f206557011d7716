"""Quantum Opus bias module for a superconducting detector, in a slot of an SRS SIM900 mainframe.

Never run on hardware.

The mainframe passes text on (``SNDT``); what the module answers is fetched by asking how many bytes wait (``NINP?``)
and reading exactly those (``RAWN?``), under one lock. Neither reports errors: everything is read back. The module
does not count; a time tagger does. Source: ``spec/devices/quantum_opus_sim900.md``.
"""

from __future__ import annotations

from typing import ClassVar

from qkdpp.core.devices import Value
from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import IdentityError, ReplyError, SettingError, TransportTimeout
from qkdpp_drivers.instrument import Identity, Setting, TextInstrument
from qkdpp_drivers.transports import Transport

FULL_SCALE = 65535
FULL_SCALE_UA = 25.0
HIGH_GAIN_V, LOW_GAIN_V = 1.1, 5.0
RESET_UNIT_S = 0.01
BIAS = Setting(name="bias_ua", unit="uA", low=0.0, high=FULL_SCALE_UA, tolerance=0.6 * FULL_SCALE_UA / FULL_SCALE)
RESET = Setting(name="reset_s", unit="s", low=0.0, high=2.55, tolerance=RESET_UNIT_S / 2)


class QuantumOpus(TextInstrument):
    """One bias module; one detector, channel 0.

    Args:
        transport: the mainframe's line.
        slot: SIM900 port of the module, 1 to 8.
        operating_bias_ua: bias of ``enable``.
        settle_s: pause between a question to the module and fetching its answer, at least 0.1 s.
        latched_v: device voltage above which the detector counts as latched.
        identity_text: what the module's identity must contain.
    """

    kind: ClassVar[str] = "DetectorBias"
    vendor: ClassVar[str] = "Quantum Opus"
    model: ClassVar[str] = "bias module in SIM900"
    transports: ClassVar[tuple[str, ...]] = ("serial", "tcp")
    baud: ClassVar[int | None] = 9600
    timeout_s: ClassVar[float] = 0.5
    auto_bias_limit_s: ClassVar[float] = 30.0
    bias_unit: ClassVar[str] = "uA"

    def __init__(
        self,
        transport: Transport,
        *,
        slot: int,
        operating_bias_ua: float,
        settle_s: float = 0.5,
        latched_v: float = 0.2,
        identity_text: str = "opus",
        name: str | None = None,
    ) -> None:
        super().__init__(transport, name=name)
        Setting(name="slot", unit="", low=1, high=8).check(self.name, slot)
        Setting(name="settle_s", unit="s", low=0.1, high=10.0).check(self.name, settle_s)
        self.slot, self.settle_s, self.latched_v, self.identity_text = slot, settle_s, latched_v, identity_text
        self.operating_bias_ua = BIAS.check(self.name, operating_bias_ua)

    def identify(self) -> Identity:
        """The mainframe's line must tell SIM900; the module's own text is the model.

        Raises:
            IdentityError: no SIM900.
        """
        mainframe = Identity.of_idn(self.ask("*IDN?"))
        if "SIM900" not in mainframe.model:
            raise IdentityError(f"{self.name}: {mainframe.vendor} {mainframe.model} answers, not a SIM900 mainframe")
        return Identity(vendor=self.vendor, model=self._ask_module("+A?"), serial=mainframe.serial)

    def accepts(self, identity: Identity) -> bool:
        """Whether the module's text is that of a bias module."""
        return self.identity_text.lower() in identity.model.lower()

    def bias_ua(self) -> float:
        """Bias current."""
        return self._number("+B?") / FULL_SCALE * FULL_SCALE_UA

    def set_bias(self, channel: int, value: float) -> float:
        """Sets the bias in microampere (steps of 25 uA / 65535)."""
        self._only(channel)
        BIAS.check(self.name, value)
        with self.transport.lock:
            self._tell_module(f"+B{round(value / FULL_SCALE_UA * FULL_SCALE)};")
            return BIAS.verify(self.name, value, self.bias_ua())

    def enable(self, channel: int, on: bool) -> None:
        """On: the operating bias. Off: bias 0."""
        self.set_bias(channel, self.operating_bias_ua if on else 0.0)

    def voltage_v(self) -> float:
        """Voltage across the detector, at low gain."""
        return self._number("+C?") / FULL_SCALE * LOW_GAIN_V

    def latched(self) -> bool:
        """Whether the detector has latched (it no longer counts, its voltage is high)."""
        return self.voltage_v() > self.latched_v

    def reset(self) -> bool:
        """Takes the bias away for the reset time and gives it back; whether the detector is still latched."""
        with self.transport.lock:
            duration_s = self.reset_s()
            self._tell_module("+F;")
            self.transport.sleep(duration_s)
            return self.latched()

    def reset_s(self) -> float:
        """Duration of a reset."""
        return self._number("+D?") * RESET_UNIT_S

    def set_reset(self, *, duration_s: float, automatic: bool) -> None:
        """Duration of a reset (10 ms steps), and whether a latched detector is reset without being asked."""
        RESET.check(self.name, duration_s)
        with self.transport.lock:
            self._tell_module(f"+D{round(duration_s / RESET_UNIT_S)};")
            RESET.verify(self.name, duration_s, self.reset_s())
            self._tell_module(f"+E{int(automatic)};")
            if self._number("+E?") != int(automatic):
                raise SettingError(f"{self.name}: automatic reset was set to {automatic} but reads otherwise")

    def auto_bias(self) -> float:
        """Lets the module find its bias (seconds, in the dark; the result varies); the bias in microampere.

        Raises:
            DeviceError: it has not come to an end in ``auto_bias_limit_s``.
        """
        with self.transport.lock:
            self._tell_module("+G;")
            end_s = self.transport.now() + self.auto_bias_limit_s
            before: float | None = None
            while self.transport.now() < end_s:
                try:
                    now = self.bias_ua()
                except TransportTimeout:
                    continue
                if now == before:
                    return now
                before = now
            raise DeviceError(
                f"{self.name}: no steady bias {self.auto_bias_limit_s:g} s after auto-bias; is the detector cold?"
            )

    def snapshot(self) -> dict[str, Value]:
        """All that can be read: 5 questions, about 3 s."""
        return {
            "bias_ua": self.bias_ua(),
            "stored_bias_ua": self._number("+H?;") / FULL_SCALE * FULL_SCALE_UA,
            "voltage_v": self.voltage_v(),
            "reset_s": self.reset_s(),
            "automatic_reset": bool(self._number("+E?")),
        }

    def _prepare(self) -> None:
        """The gain cannot be asked for, so it is set."""
        self._tell_module("+C1;")

    def _only(self, channel: int) -> None:
        if channel != 0:
            raise SettingError(f"{self.name}: channel = {channel}: there is only channel 0")

    def _tell_module(self, text: str) -> None:
        self.tell(f'SNDT {self.slot},"{text}"')

    def _number(self, query: str) -> float:
        text = self._ask_module(query)
        try:
            return float(text)
        except ValueError as error:
            raise ReplyError(self.name, query, text.encode()) from error

    def _ask_module(self, query: str) -> str:
        """One question to the module: what waited before is thrown away, then ask, pause, fetch.

        Raises:
            TransportTimeout: the module says nothing.
            ReplyError: the answer is cut short or no text.
        """
        with self.transport.lock:
            self._fetch()
            self._tell_module(query)
            self.transport.sleep(self.settle_s)
            raw = self._fetch()
        if not raw:
            raise TransportTimeout(f"{self.name}: slot {self.slot} says nothing to {query}; is the module there?")
        if not raw.endswith(b"\n") or not raw.isascii():
            raise ReplyError(self.name, query, raw)
        return raw.decode("ascii").strip()

    def _fetch(self) -> bytes:
        waiting = self.ask_integer(f"NINP? {self.slot}")
        if waiting <= 0:
            return b""
        self.transport.write(f"RAWN? {self.slot},{waiting}".encode() + self.send_end)
        try:
            return self.transport.read_exact(waiting, self.timeout_s)
        except TransportTimeout:
            self._is_stale = True
            raise
