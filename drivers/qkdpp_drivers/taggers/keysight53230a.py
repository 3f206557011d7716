"""Keysight 53230A, a counter: intervals, frequencies, time stamps of one input. Never run on hardware."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.devices import Chunk, Value
from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import ReplyError, SettingError, TransportClosed, TransportTimeout
from qkdpp_drivers.instrument import Setting, TextInstrument
from qkdpp_drivers.taggers.pending import Pending
from qkdpp_drivers.transports import Transport

TICK_AS = 10**6
PS_PER_S = 10**12
CHANNEL = Setting(name="input", unit="", low=1, high=2)
LEVEL = Setting(name="level", unit="V", low=-5.0, high=5.0, tolerance=0.01)
READINGS = Setting(name="readings", unit="", low=1, high=1_000_000)
GATE = Setting(name="gate", unit="s", low=1e-6, high=1000.0, tolerance=1e-9)
SETTLE_S = 0.025
"""Wait after INIT before readings may be removed (at least 20 ms)."""
IMPEDANCES = (50.0, 1e6)
MOST_READINGS = 200_000


class Keysight53230A(TextInstrument):
    """For synchronisation and delay calibration (intervals), and as a tagger of one input (``start``, ``read``).

    Args:
        transport: VISA, or plain TCP to port 5025.
        name: what messages call it.
        channel: input whose edges are tagged.

    Source: 53230A-Toolkit (public host program).
    """

    kind: ClassVar[str] = "TimeTagger"
    vendor: ClassVar[str] = "Keysight"
    model: ClassVar[str] = "53230A"
    transports: ClassVar[tuple[str, ...]] = ("visa", "tcp")
    timeout_s: ClassVar[float] = 3.0

    def __init__(self, transport: Transport, *, name: str | None = None, channel: int = 1) -> None:
        super().__init__(transport, name=name)
        self.channel = int(CHANNEL.check(self.name, channel))
        self._reset_stream()

    def _reset_stream(self) -> None:
        self._pending = Pending((self.channel,), TICK_AS)
        self._streaming = False
        self._newest = self._clean_tick = 0
        self._zero_s: float | None = None

    def _quieten(self) -> None:
        super()._quieten()
        self._reset_stream()

    def _prepare(self) -> None:
        self.tell("ABOR")
        self.tell("*CLS")

    def errors(self) -> list[str]:
        """The error queue, oldest first."""
        return self._scpi_errors()

    def reset(self) -> None:
        """Power-on state."""
        self.tell("*RST")
        self.tell("*CLS")
        self._reset_stream()

    def set_input(
        self,
        channel: int,
        *,
        level_v: float,
        slope: Literal["POS", "NEG"] = "POS",
        coupling: Literal["AC", "DC"] = "DC",
        impedance_ohm: float = 50.0,
    ) -> float:
        """Sets one input; returns the level read back. Raises InstrumentError for what the counter refuses."""
        number = int(CHANNEL.check(self.name, channel))
        wanted = LEVEL.check(self.name, level_v)
        if impedance_ohm not in IMPEDANCES or slope not in ("POS", "NEG") or coupling not in ("AC", "DC"):
            raise SettingError(
                f"{self.name}: input {number}: impedance 50 or 1e6 ohm, slope POS or NEG, coupling AC or DC; "
                f"not {impedance_ohm:g}, {slope}, {coupling}"
            )
        head = f"INP{number}"
        for part in (
            f"COUP {coupling}",
            f"IMP {impedance_ohm:.0f}",
            "LEV:AUTO 0",
            f"LEV {wanted:.3f}",
            f"SLOP {slope}",
        ):
            self.tell(f"{head}:{part}")
        self._no_errors()
        for part, expected in (("COUP", coupling), ("SLOP", slope)):
            found = self.ask(f"{head}:{part}?")
            if found != expected:
                raise SettingError(f"{self.name}: {head}:{part} was set to {expected} but reads {found}")
        return LEVEL.verify(self.name, wanted, self.ask_number(f"{head}:LEV?"))

    def intervals_s(self, n: int, *, rate_hz: float) -> NDArray[np.float64]:
        """Intervals from an edge at input 1 to the next at input 2.

        Args:
            n: how many.
            rate_hz: rate of the edges, for the time-out.

        Returns:
            float64[n], in seconds.
        """
        return self._measure('"TINT 1,2"', n, n / rate_hz)

    def frequencies_hz(self, n: int, *, gate_s: float = 0.1) -> NDArray[np.float64]:
        """Frequencies at the input ``channel``: float64[n], each over a gate."""
        wanted = GATE.check(self.name, gate_s)
        self.tell(f"FREQ:GATE:TIME {wanted:.9f}")
        GATE.verify(self.name, wanted, self.ask_number("FREQ:GATE:TIME?"))
        return self._measure('"FREQ"' if self.channel == 1 else '"FREQ 2"', n, n * gate_s)

    def _measure(self, function: str, n: int, duration_s: float) -> NDArray[np.float64]:
        self._not_streaming()
        wanted = int(READINGS.check(self.name, n))
        with self.transport.lock:
            self._begin(function, wanted)
            self.transport.write(f"DATA:REM? {wanted},WAIT\n".encode())
            try:
                return self._block(2 * duration_s + 1.0)
            except TransportTimeout:
                self._recover()
                raise

    def _begin(self, function: str, samples: int) -> None:
        for command in (
            "ABOR",
            f"FUNC {function}",
            "FORM REAL,64",
            "FORM:BORD SWAP",
            "TRIG:SOUR IMM",
            f"SAMP:COUN {samples}",
        ):
            self.tell(command)
        self._no_errors()
        found = self.ask("FUNC?")
        if found.replace("FREQ 1", "FREQ") != function:
            raise SettingError(f"{self.name}: FUNC was set to {function} but reads {found}")
        self.tell("INIT:IMM")
        self.transport.sleep(SETTLE_S)

    def _recover(self) -> None:
        """After a time-out: stop measuring, throw away what is under way; the next question checks the identity."""
        self.transport.write(b"ABOR\n*CLS\n")  # the interrupted question leaves an entry
        self.transport.drain(quiet_s=0.05)
        self._is_stale = True

    def _block(self, timeout_s: float) -> NDArray[np.float64]:
        """Doubles of a definite block; every byte is counted, for data may hold line feeds."""
        head = self.transport.read_exact(2, timeout_s)
        if head[:1] != b"#" or not b"1" <= head[1:] <= b"9":
            raise ReplyError(self.name, "block", head + self.transport.read_available())
        digits = self.transport.read_exact(int(head[1:]), self.timeout_s)
        if not digits.isdigit() or int(digits) % 8:
            raise ReplyError(self.name, "block", head + digits)
        data = self.transport.read_exact(int(digits) + 1, self.timeout_s)
        return np.frombuffer(data[:-1], dtype="<f8").astype(np.float64)

    def _not_streaming(self) -> None:
        if self._streaming:
            raise DeviceError(f"{self.name}: time stamps are being taken; stop first")

    def start(self) -> None:
        """Begins time stamps of the input ``channel``; ticks of 1 ps count from the first edge."""
        self._not_streaming()
        self._reset_stream()
        self._begin(f'"TST {self.channel}"', int(READINGS.high))
        self._streaming = True

    def read(self, timeout_s: float) -> Chunk:
        """Edges that were stamped within ``timeout_s``."""
        if not self._streaming:
            return self._pending.take()
        self.transport.sleep(timeout_s)
        try:
            self._remove()
        except TransportClosed:
            self._streaming = False
            raise
        except TransportTimeout:
            self._streaming = False
            self._recover()
            raise
        return self._pending.take()

    def _remove(self) -> None:
        """Takes the readings out of the memory; an error entry means that it was full."""
        while n := min(self.ask_integer("DATA:POIN?"), MOST_READINGS):
            with self.transport.lock:
                self.transport.write(f"R? {n}\n".encode())
                seconds = self._block(self.timeout_s)
            if not seconds.size:
                break
            if self._zero_s is None:
                self._zero_s = float(seconds[0])
            ticks = np.rint((seconds - self._zero_s) * PS_PER_S).astype(np.int64)
            if int(ticks[0]) < self._newest or (np.diff(ticks) < 0).any():
                raise ReplyError(self.name, "TST", seconds[:8].tobytes())
            self._pending.add(ticks, np.zeros(ticks.size, np.uint8))
            self._newest = int(ticks[-1])
        entries = self.errors()
        if entries:
            flag = "overflow" if any("overflow" in entry.lower() for entry in entries) else "stream_error"
            self._pending.flag((flag,), [(self._clean_tick, self._newest)])
        self._clean_tick = self._newest

    def stop(self) -> None:
        """Ends the time stamps; the next ``read`` delivers the rest."""
        if self._streaming:
            self._remove()
            self._streaming = False
            self.tell("ABOR")

    def status(self) -> dict[str, Value]:
        """State with ``clean``: the error queue was empty. Costs nothing."""
        entries = self.errors()
        if entries and self._streaming:
            self._pending.flag(("stream_error",), [(self._clean_tick, self._newest)])
        return {
            "clean": not entries,
            "errors": "; ".join(entries),
            "streaming": self._streaming,
            "epoch": self.epoch,
        }

    def snapshot(self) -> dict[str, Value]:
        """The settings that matter here, read back."""
        found: dict[str, Value] = {
            "function": self.ask("FUNC?"),
            "trigger_source": self.ask("TRIG:SOUR?"),
            "samples": int(self.ask_number("SAMP:COUN?")),
        }
        for number in (1, 2):
            head = f"INP{number}"
            found[f"level_v_{number}"] = self.ask_number(f"{head}:LEV?")
            found[f"impedance_ohm_{number}"] = self.ask_number(f"{head}:IMP?")
            found[f"coupling_{number}"] = self.ask(f"{head}:COUP?")
            found[f"slope_{number}"] = self.ask(f"{head}:SLOP?")
        return found
