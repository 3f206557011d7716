"""S-Fifteen single photon detector module on a serial port.

Never run on hardware.

Set commands are not acknowledged; a refused one leaves an error line that would be taken for the next reply. So every
set is followed by 20 ms of listening and by a read-back. The maker publishes no ranges: the highest bias must be given,
the others can be narrowed. Source: ``spec/devices/s15_spd.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from qkdpp.core.devices import Value
from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import InstrumentError, ReplyError, SettingError
from qkdpp_drivers.instrument import Identity, Setting, TextInstrument
from qkdpp_drivers.transports import Transport

SETTINGS: dict[str, tuple[str, Setting]] = {
    "bias_v": ("HVOLT", Setting(name="bias_v", unit="V", low=0.0, high=0.0, tolerance=0.5)),
    "threshold_v": ("THRESHVOLT", Setting(name="threshold_v", unit="V", low=-2.0, high=2.0, tolerance=0.005)),
    "loop_p": ("CONSTP", Setting(name="loop_p", unit="", low=0.0, high=100.0, tolerance=0.01)),
    "loop_i": ("CONSTI", Setting(name="loop_i", unit="", low=0.0, high=100.0, tolerance=0.01)),
    "loop": ("LOOP", Setting(name="loop", unit="", low=0, high=1)),
    "peltier_v": ("PVOLT", Setting(name="peltier_v", unit="V", low=0.0, high=5.0, tolerance=0.05)),
    "set_point_c": ("SETTEMP", Setting(name="set_point_c", unit="degrees C", low=-40.0, high=25.0, tolerance=0.05)),
    "gate_ms": ("TIME", Setting(name="gate_ms", unit="ms", low=1, high=60_000)),
    "delay": ("DELAY", Setting(name="delay", unit="(unit not published)", low=0, high=255)),
}
"""Name -> header and limits. The bias limit is the caller's."""
_WHOLE = frozenset({"loop", "gate_ms", "delay"})
LISTEN_S = 0.02
BIAS_SETTLE_S = 0.1
COUNT_MARGIN_S = 0.3
SAVE_S = 1.5


class S15Spd(TextInstrument):
    """The module; one detector, channel 0.

    Args:
        transport: serial port.
        bias_limit_v: highest bias that this diode bears.
        operating_bias_v: bias of ``enable``.
        limits: narrower ranges, name of the setting -> (low, high).
        ramp_step_v: largest step of the bias.
        stable_c, stable_s: the temperature is stable when it was so near its set point for so long.
        cooling_limit_s: time allowed for that.
    """

    kind: ClassVar[str] = "SinglePhotonDetector"
    vendor: ClassVar[str] = "S-Fifteen Instruments"
    model: ClassVar[str] = "SPD"
    transports: ClassVar[tuple[str, ...]] = ("serial",)
    baud: ClassVar[int | None] = 9600
    send_end: ClassVar[bytes] = b";"
    reply_end: ClassVar[bytes] = b"\r\n"
    timeout_s: ClassVar[float] = 0.5
    bias_unit: ClassVar[str] = "V"

    def __init__(
        self,
        transport: Transport,
        *,
        bias_limit_v: float,
        operating_bias_v: float,
        limits: Mapping[str, tuple[float, float]] | None = None,
        ramp_step_v: float = 10.0,
        stable_c: float = 0.2,
        stable_s: float = 5.0,
        cooling_limit_s: float = 300.0,
        name: str | None = None,
    ) -> None:
        super().__init__(transport, name=name)
        ranges = {"bias_v": (0.0, bias_limit_v)} | dict(limits or {})
        self.settings = {
            key: replace(setting, low=ranges[key][0], high=ranges[key][1]) if key in ranges else setting
            for key, (_, setting) in SETTINGS.items()
        }
        self.operating_bias_v = self.settings["bias_v"].check(self.name, operating_bias_v)
        self.ramp_step_v = ramp_step_v
        self.stable_c, self.stable_s, self.cooling_limit_s = stable_c, stable_s, cooling_limit_s

    def identify(self) -> Identity:
        """The line of ``*IDN?``; its layout is not published."""
        return Identity(vendor=self.vendor, model=self.ask("*IDN?"))

    def accepts(self, identity: Identity) -> bool:
        """SPD, but not the source driver ``SPDCSDR`` of the same family."""
        text = identity.model.upper()
        return "SPD" in text and "SPDC" not in text

    def get(self, name: str) -> float:
        """One setting by its name in ``SETTINGS``."""
        return self.ask_number(f"{SETTINGS[name][0]}?")

    def set(self, name: str, value: float) -> float:
        """Sets one setting (the bias at once, without ramp) and returns what is read back.

        Raises:
            SettingError: outside its range, or not taken over.
            InstrumentError: the module sent an error line.
        """
        setting = self.settings[name]
        setting.check(self.name, value)
        if name in _WHOLE and value != int(value):
            raise SettingError(f"{self.name}: {name} = {value:g} {setting.unit}: a whole number is needed")
        text = f"{value:.0f}" if name in _WHOLE else f"{value:.3f}"
        with self.transport.lock:
            self.tell(f"{SETTINGS[name][0]} {text}")
            self.transport.sleep(LISTEN_S)
            if complaint := self.transport.read_available():
                raise InstrumentError(self.name, 0, complaint.decode("latin-1").strip())
            return setting.verify(self.name, value, self.get(name))

    def set_bias(self, channel: int, value: float) -> float:
        """Goes to a bias in volts by steps of at most ``ramp_step_v``, reading back each."""
        self._only(channel)
        self.settings["bias_v"].check(self.name, value)
        now = self.get("bias_v")
        while abs(value - now) > self.ramp_step_v:
            now += self.ramp_step_v if value > now else -self.ramp_step_v
            self.set("bias_v", now)
            self.transport.sleep(BIAS_SETTLE_S)
        found = self.set("bias_v", value)
        self.transport.sleep(BIAS_SETTLE_S)
        return found

    def enable(self, channel: int, on: bool) -> None:
        """On: cools, waits, goes to the operating bias. Off: bias to the lowest allowed value, then the loop off.

        Raises:
            DeviceError: the temperature does not become stable in ``cooling_limit_s``.
        """
        self._only(channel)
        if on:
            self.set("loop", 1)
            self._wait_stable()
            self.set_bias(0, self.operating_bias_v)
        else:
            self.set_bias(0, self.settings["bias_v"].low)
            self.set("loop", 0)

    def temperature_c(self) -> float:
        """Measured temperature."""
        return self.ask_number("TEMP?")

    def counts(self, dwell_s: float) -> dict[int, int]:
        """Counts of one gate of ``dwell_s`` (whole milliseconds)."""
        gate_ms = round(dwell_s * 1000)
        with self.transport.lock:
            if self.get("gate_ms") != gate_ms:
                self.set("gate_ms", gate_ms)
            return {0: self.ask_integer("COUNTS?", gate_ms / 1000 + COUNT_MARGIN_S)}

    def save(self) -> str:
        """Stores the settings in the module; its answer."""
        return self.ask("SAVE", SAVE_S)

    def snapshot(self) -> dict[str, Value]:
        """All settings and the temperature."""
        found: dict[str, Value] = {name: self.get(name) for name in SETTINGS}
        return found | {"temperature_c": self.temperature_c()}

    def _only(self, channel: int) -> None:
        if channel != 0:
            raise SettingError(f"{self.name}: channel = {channel}: there is only channel 0")

    def _ask(self, query: str, timeout_s: float) -> str:
        """What arrived unasked is thrown away first; two replies on one line belong to nobody."""
        self.transport.read_available()
        line = super()._ask(query, timeout_s)
        if query not in ("*IDN?", "SAVE") and len(line.split()) > 1:
            self._is_stale = True
            raise ReplyError(self.name, query, line.encode())
        return line

    def _wait_stable(self) -> None:
        goal_c = self.get("set_point_c")
        end_s = self.transport.now() + self.cooling_limit_s
        since_s: float | None = None
        while self.transport.now() < end_s:
            now_s = self.transport.now()
            near = abs(self.temperature_c() - goal_c) <= self.stable_c
            since_s = (now_s if since_s is None else since_s) if near else None
            if since_s is not None and now_s - since_s >= self.stable_s:
                return
            self.transport.sleep(min(1.0, self.stable_s))
        raise DeviceError(
            f"{self.name}: temperature not within {self.stable_c:g} degrees C of {goal_c:g} after "
            f"{self.cooling_limit_s:g} s; check the cooler and the set point"
        )
