"""SRS DG645 delay generator (socket 5025, serial or VISA).

Never run on hardware.

Delays are in steps of 5 ps: of a scan in steps of 12.5 ps every second point is 10 or 15 ps from its neighbour, and
``set_delay_ps`` returns the delay really set. Its jitter is of the order of 20 ps. Every set is followed by the error
queue and a read-back. Source: ``spec/devices/delay_attenuator_switch_polarization.md`` section 1.
"""

from __future__ import annotations

import re
from typing import ClassVar

from qkdpp.core.devices import Value
from qkdpp_drivers.errors import InstrumentError, ReplyError, SettingError
from qkdpp_drivers.instrument import Setting, TextInstrument

CHANNELS = {name: number for number, name in enumerate("ABCDEFGH", start=2)}
OUTPUTS = {"T0": 0, "AB": 1, "CD": 2, "EF": 3, "GH": 4}
TRIGGERS = (
    "internal",
    "external_rising",
    "external_falling",
    "single_external_rising",
    "single_external_falling",
    "single",
    "line",
)
TIME_BASES = ("internal", "ocxo", "rubidium", "external")
STEP_PS = 5
PS_PER_S = 10**12
DELAY = Setting(name="delay_ps", unit="ps", low=0, high=2000 * PS_PER_S, tolerance=STEP_PS / 2)
AMPLITUDE = Setting(name="amplitude_v", unit="V", low=0.5, high=5.0, tolerance=0.01)
OFFSET = Setting(name="offset_v", unit="V", low=-3.0, high=3.0, tolerance=0.01)
RATE = Setting(name="rate_hz", unit="Hz", low=1e-3, high=1e6)
LEVEL = Setting(name="level_v", unit="V", low=-3.5, high=3.5, tolerance=0.01)
ERROR_TEXTS = {
    10: "illegal value",
    11: "illegal mode",
    15: "not allowed: locked",
    16: "self test failed",
    17: "calibration failed",
    30: "lost data",
    32: "no listener",
    40: "memory failed",
    110: "illegal command",
    111: "undefined command",
    112: "illegal query",
    113: "illegal set",
    254: "too many errors",
}
QUEUE_LENGTH = 20


class Dg645(TextInstrument):
    """The generator; channels A to H, each delayed after T0."""

    kind: ClassVar[str] = "DelayGenerator"
    vendor: ClassVar[str] = "Stanford Research Systems"
    model: ClassVar[str] = "DG645"
    transports: ClassVar[tuple[str, ...]] = ("tcp", "visa", "serial")
    baud: ClassVar[int | None] = 9600
    reply_end: ClassVar[bytes] = b"\r\n"

    def set_delay_ps(self, channel: str, delay_ps: float) -> float:
        """Sets the delay of a channel after T0 to the nearest step; returns the delay read back.

        Raises:
            SettingError: unknown channel, out of range, or not taken over.
            InstrumentError: refused.
        """
        number = self._channel(channel)
        DELAY.check(self.name, delay_ps)
        steps_ps = round(delay_ps / STEP_PS) * STEP_PS
        with self.transport.lock:
            seconds, rest_ps = divmod(steps_ps, PS_PER_S)
            self.tell(f"DLAY {number},0,{seconds}.{rest_ps:012d}")
            self._no_errors()
            return DELAY.verify(self.name, steps_ps, self.delay_ps(channel))

    def delay_ps(self, channel: str) -> float:
        """Delay of a channel after T0, along its chain of reference channels."""
        at, total_ps = self._channel(channel), 0
        for _ in range(len(CHANNELS) + 2):
            at, delay_ps = self._link(at)
            total_ps += delay_ps
            if at == 0:
                return float(total_ps)
        raise SettingError(f"{self.name}: channel {channel} refers to itself; set its delay again")

    def set_output(self, output: str, *, amplitude_v: float, offset_v: float = 0.0, positive: bool = True) -> None:
        """Sets amplitude, offset and polarity of an output (T0, AB, CD, EF, GH)."""
        if output not in OUTPUTS:
            raise SettingError(f"{self.name}: output {output!r}: outputs are {', '.join(OUTPUTS)}")
        number = OUTPUTS[output]
        polarity = Setting(name="polarity", unit="", low=0, high=1)
        for head, setting, value in (("LAMP", AMPLITUDE, amplitude_v), ("LOFF", OFFSET, offset_v)):
            self._set(f"{head} {number},{setting.check(self.name, value):.2f}", f"{head}? {number}", setting, value)
        self._set(f"LPOL {number},{int(positive)}", f"LPOL? {number}", polarity, int(positive))

    def set_trigger(self, source: str, *, rate_hz: float | None = None, level_v: float | None = None) -> None:
        """Sets the trigger: one of ``TRIGGERS``, rate of the internal one, level of the external one."""
        if source not in TRIGGERS:
            raise SettingError(f"{self.name}: trigger {source!r}: one of {', '.join(TRIGGERS)} is needed")
        number = TRIGGERS.index(source)
        if rate_hz is not None:
            RATE.check(self.name, rate_hz)
            near = Setting(name="rate_hz", unit="Hz", low=RATE.low, high=RATE.high, tolerance=1e-6 * rate_hz + 1e-6)
            self._set(f"TRAT {rate_hz:.6f}", "TRAT?", near, rate_hz)
        if level_v is not None:
            self._set(f"TLVL {LEVEL.check(self.name, level_v):.2f}", "TLVL?", LEVEL, level_v)
        choice = Setting(name="trigger", unit="", low=0, high=len(TRIGGERS) - 1)
        self._set(f"TSRC {number}", "TSRC?", choice, number)

    def errors(self) -> list[str]:
        """The error queue: ``number: text``."""
        found: list[str] = []
        while len(found) <= QUEUE_LENGTH and (code := self.ask_integer("LERR?")):
            found.append(f"{code}: {ERROR_TEXTS.get(code, 'see the manual')}")
        return found

    def snapshot(self) -> dict[str, Value]:
        """Delays after T0, outputs, trigger and time base."""
        found: dict[str, Value] = {f"delay_{name.lower()}_ps": self.delay_ps(name) for name in CHANNELS}
        for name, number in OUTPUTS.items():
            found[f"amplitude_{name.lower()}_v"] = self.ask_number(f"LAMP? {number}")
            found[f"offset_{name.lower()}_v"] = self.ask_number(f"LOFF? {number}")
            found[f"positive_{name.lower()}"] = self.ask_integer(f"LPOL? {number}") == 1
        found["trigger"] = self._word("TSRC?", TRIGGERS)
        found["trigger_rate_hz"] = self.ask_number("TRAT?")
        found["trigger_level_v"] = self.ask_number("TLVL?")
        found["time_base"] = self._word("TIMB?", TIME_BASES)
        return found

    def _prepare(self) -> None:
        """Errors of the time before belong to nobody."""
        self.tell("*CLS")

    def _channel(self, channel: str) -> int:
        if channel not in CHANNELS:
            raise SettingError(f"{self.name}: channel {channel!r}: channels are A to H")
        return CHANNELS[channel]

    def _link(self, number: int) -> tuple[int, int]:
        """Reference channel and delay in ps of a channel: ``2,+0.001000000000`` read without floats."""
        line = self.ask(f"DLAY? {number}")
        match = re.fullmatch(r"(\d),([+-]?)(\d+)\.(\d{12})", line)
        if match is None:
            raise ReplyError(self.name, f"DLAY? {number}", line.encode())
        delay_ps = int(match[3]) * PS_PER_S + int(match[4])
        return int(match[1]), -delay_ps if match[2] == "-" else delay_ps

    def _set(self, command: str, query: str, setting: Setting, value: float) -> float:
        with self.transport.lock:
            self.tell(command)
            self._no_errors()
            return setting.verify(self.name, value, self.ask_number(query))

    def _word(self, query: str, words: tuple[str, ...]) -> str:
        number = self.ask_integer(query)
        if not 0 <= number < len(words):
            raise InstrumentError(self.name, number, f"{query} gives an unknown choice")
        return words[number]
