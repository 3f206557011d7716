"""ID Quantique ID120 visible-light detector: headers over USBTMC (VISA) or a serial port.

Never run on hardware.

Its reaction to wrong values is not public: every set is checked against the table of ranges, cut down to the step of
the instrument and verified by its query. The unit of the dead time is inferred (nanoseconds); compare
``capabilities``. Source: ``spec/devices/idq_id120.md``.
"""

from __future__ import annotations

import math
from typing import ClassVar

from qkdpp.core.devices import Value
from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import InstrumentError, ReplyError, SettingError
from qkdpp_drivers.instrument import Setting, TextInstrument
from qkdpp_drivers.transports import Transport

SETTINGS: dict[str, tuple[str, float, int, Setting]] = {
    "threshold_v": ("THRESHOLD:VOLTAGE", 1e6, 500, Setting(name="threshold_v", unit="V", low=0.0, high=1.047)),
    "dead_time_ns": ("DEADTIME:TIME", 1, 40, Setting(name="dead_time_ns", unit="ns", low=40, high=1_000_000)),
    "bias_v": ("BIAS:VOLTAGE", 1e6, 80_000, Setting(name="bias_v", unit="V", low=0.0, high=250.0)),
    "integration_ms": (
        "COUNTERS:INTEGRATION_TIME",
        1,
        200,
        Setting(name="integration_ms", unit="ms", low=200, high=100_000),
    ),
    "set_point_c": (
        "REG:TEMP_SET_POINT",
        1000,
        1000,
        Setting(name="set_point_c", unit="degrees C", low=-50.0, high=-10.0),
    ),
}
"""Name -> header, device units per unit, step in device units, range."""
CAPABILITIES = {
    "threshold": "THRESHOLD:CAPABILITY",
    "dead_time": "DEADTIME:CAPABILITY",
    "bias": "BIAS:CAPABILITY",
    "integration": "COUNTERS:INTEGRATION_TIME_CAPABILITY",
    "set_point": "REG:TEMP_SET_POINT_CAPABILITY",
}
POLL_S = 1.0


class Id120(TextInstrument):
    """The module; one detector, channel 0.

    Args:
        transport: VISA resource or serial port.
        operating_bias_v: bias of ``enable``.
        bias_limit_v: highest bias allowed here (the instrument's own limit is 250 V).
        stable_c: the temperature is stable when so near its set point.
        cooling_limit_s: time allowed for that.
    """

    kind: ClassVar[str] = "SinglePhotonDetector"
    vendor: ClassVar[str] = "ID Quantique"
    model: ClassVar[str] = "ID120"
    transports: ClassVar[tuple[str, ...]] = ("visa", "serial")
    timeout_s: ClassVar[float] = 20.0
    bias_unit: ClassVar[str] = "V"

    def __init__(
        self,
        transport: Transport,
        *,
        operating_bias_v: float,
        bias_limit_v: float = 250.0,
        stable_c: float = 0.5,
        cooling_limit_s: float = 600.0,
        name: str | None = None,
    ) -> None:
        super().__init__(transport, name=name)
        self.bias_limit = Setting(name="bias_v", unit="V", low=0.0, high=min(bias_limit_v, 250.0))
        self.operating_bias_v = self.bias_limit.check(self.name, operating_bias_v)
        self.stable_c, self.cooling_limit_s = stable_c, cooling_limit_s
        self.fault: str | None = None

    def get(self, name: str) -> float:
        """One setting by its name in ``SETTINGS``."""
        header, scale, _, _ = SETTINGS[name]
        return self.ask_integer(f"{header}?") / scale

    def set(self, name: str, value: float) -> float:
        """Sets one setting to the nearest lower step and returns what is read back.

        Raises:
            SettingError: outside its range, or not taken over.
        """
        header, scale, step, setting = SETTINGS[name]
        (self.bias_limit if name == "bias_v" else setting).check(self.name, value)
        low = round(setting.low * scale)
        wanted = low + math.floor((value * scale - low) / step + 1e-6) * step
        with self.transport.lock:
            self.tell(f"{header} {wanted}")
            found = self.ask_integer(f"{header}?")
        return setting.verify(self.name, wanted / scale, found / scale)

    def set_bias(self, channel: int, value: float) -> float:
        """Sets the bias in volts; a tripped protection is raised, the bias then being 0."""
        self._only(channel)
        self._check_fault()
        found = self.set("bias_v", value)
        self._check_fault()
        return found

    def enable(self, channel: int, on: bool) -> None:
        """On: regulates, waits for the temperature, goes to the operating bias. Off: bias 0, regulation off.

        Raises:
            InstrumentError: the bias protection has tripped.
            DeviceError: the temperature does not become stable in ``cooling_limit_s``.
        """
        self._only(channel)
        if not on:
            self.set("bias_v", 0.0)
            self._set_word("REG:RUN", "FALSE")
            return
        self._check_fault()
        self._set_word("REG:RUN", "TRUE")
        self._wait_stable()
        self.set_bias(0, self.operating_bias_v)

    def counts(self, dwell_s: float) -> dict[int, int]:
        """Counts of one integration time, which must be a multiple of 0.2 s.

        The counter is refreshed once per integration time, at moments that cannot be asked for: after twice that time
        its value belongs to light that came after the call.
        """
        dwell_ms = round(dwell_s * 1000)
        if dwell_ms % 200:
            raise SettingError(f"{self.name}: dwell_s = {dwell_s:g} s: a multiple of 0.2 s is needed")
        self._check_fault()
        if self.get("integration_ms") != dwell_ms:
            self.set("integration_ms", dwell_ms)
        self.transport.sleep(2 * dwell_s)
        found = self.ask_integer("COUNTERS:DETECTION_COUNT?")
        self._check_fault()
        return {0: found}

    def temperature_c(self) -> float:
        """Measured temperature."""
        return self.ask_integer("REG:MEASURED_TEMP?") / 1000

    def breakdown_v(self) -> float:
        """Breakdown voltage that the instrument tells, in microvolts like the bias."""
        return self.ask_integer("INFO:BIAS_BREAKDOWN_VOLTAGE?") / 1e6

    def capabilities(self) -> dict[str, str]:
        """The instrument's own limits, as text (the layout is not public); slow."""
        return {name: self.ask(f"{header}?") for name, header in CAPABILITIES.items()}

    def acknowledge(self) -> None:
        """A person has looked at the fault: switches everything off and allows the detector again."""
        self.enable(0, False)
        self.fault = None

    def errors(self) -> list[str]:
        """The tripped bias protection, if it is."""
        return ["BIAS:ERROR_STATUS is TRUE"] if self._word("BIAS:ERROR_STATUS") == "TRUE" else []

    def snapshot(self) -> dict[str, Value]:
        """All settings, regulation state and temperature."""
        found: dict[str, Value] = {name: self.get(name) for name in SETTINGS}
        found["temperature_c"] = self.temperature_c()
        found["regulation"] = self._word("REG:RUN")
        found["regulation_state"] = self._word("REG:STATE")
        found["bias_error"] = self._word("BIAS:ERROR_STATUS") == "TRUE"
        for output in ("OUTPUT1", "OUTPUT2"):
            found[f"{output.lower()}_polarity"] = self._word(f"{output}:POLARITY")
        return found

    def _only(self, channel: int) -> None:
        if channel != 0:
            raise SettingError(f"{self.name}: channel = {channel}: there is only channel 0")

    def _ask(self, query: str, timeout_s: float) -> str:
        line = super()._ask(query, timeout_s)
        if line.upper().startswith("ERROR"):
            raise InstrumentError(self.name, 0, line)
        return line

    def _word(self, header: str) -> str:
        return self.ask(f"{header}?").upper()

    def _set_word(self, header: str, word: str) -> None:
        self.tell(f"{header} {word}")
        if (found := self._word(header)) != word:
            raise SettingError(f"{self.name}: {header} was set to {word} but reads {found}")

    def _check_fault(self) -> None:
        """Bias to 0 and InstrumentError once the protection has tripped, until ``acknowledge``."""
        word = self._word("BIAS:ERROR_STATUS")
        if word not in ("TRUE", "FALSE"):
            raise ReplyError(self.name, "BIAS:ERROR_STATUS?", word.encode())
        if word == "TRUE" and self.fault is None:
            self.fault = "the bias protection has tripped"
            self.set("bias_v", 0.0)
        if self.fault is not None:
            raise InstrumentError(self.name, 0, f"{self.fault}; look for bright light, then acknowledge()")

    def _wait_stable(self) -> None:
        goal_c = self.get("set_point_c")
        end_s = self.transport.now() + self.cooling_limit_s
        while self.transport.now() < end_s:
            self._check_fault()
            if abs(self.temperature_c() - goal_c) <= self.stable_c:
                return
            self.transport.sleep(POLL_S)
        raise DeviceError(
            f"{self.name}: temperature not within {self.stable_c:g} degrees C of {goal_c:g} after "
            f"{self.cooling_limit_s:g} s; check the cooler and the set point"
        )
