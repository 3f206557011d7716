"""LectroTIC-4, a time stamper with four inputs on a serial port. Never run on hardware."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.devices import Chunk, Value
from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import ReplyError, SettingError, TransportTimeout
from qkdpp_drivers.instrument import Setting, TextInstrument
from qkdpp_drivers.taggers.in_order import InOrder
from qkdpp_drivers.taggers.pending import Pending
from qkdpp_drivers.transports import Transport

TICK_AS = 4_000_000_000
TICKS_PER_S = 250_000_000
CHANNELS = (0, 1, 2, 3, -1, -2, -3, -4)
"""Rising edges at inputs 0 to 3, then falling edges at the same inputs."""
DIVIDER = Setting(name="divider", unit="pulses", low=1, high=2**32 - 1)
CHANNEL = Setting(name="channel", unit="", low=0, high=3)
SLOPES = ("POS", "NEG", "BOTH")
CLEARED = bytes.fromhex("0000000000000010")
SERVICE_S = 0.1
LOOK_BACK_S = 0.25
"""Inputs are served one after the other every 0.1 s; a tag can be that late, and a busy port adds to it."""
IDLE_S = 0.02
MARGIN_S = 5.0
"""A tag this far ahead of the host's clock, or before the first, cannot be."""
MOST_INVALID = 4
RECORD = np.dtype([("seconds", "<u4"), ("counter", "<u4")])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Records:
    """Decoded records.

    Attributes:
        ticks: int64[n] in 4 ns since power-up.
        channel: uint8[n], index into ``CHANNELS``.
        lost_pulses: (overcaptures, buffer overflows) of each loss message.
        oscillator_failed: whether the device has stopped for want of its reference.
        invalid: records that mean nothing.
    """

    ticks: NDArray[np.int64]
    channel: NDArray[np.uint8]
    lost_pulses: tuple[tuple[int, int], ...]
    oscillator_failed: bool
    invalid: int


def decode(data: bytes) -> Records:
    """Records of 8 bytes each; unknown special messages are skipped."""
    records = np.frombuffer(data, dtype=RECORD)
    counter, seconds = records["counter"], records["seconds"].astype(np.int64)
    is_special = (counter >> np.uint32(28)) & 1 == 1
    within = (counter & np.uint32(0x0FFFFFFF)).astype(np.int64)
    is_tag = ~is_special & (within < TICKS_PER_S)
    falling = ((counter >> np.uint32(29)) & 1 == 0).astype(np.uint8)
    channel = (counter >> np.uint32(30)).astype(np.uint8) + np.uint8(4) * falling
    kinds = (counter & np.uint32(0xFF))[is_special]
    losses = seconds[is_special][kinds == 1].tolist()
    return Records(
        ticks=(seconds * TICKS_PER_S + within)[is_tag],
        channel=channel[is_tag],
        lost_pulses=tuple((value & 0xFFFF, value >> 16) for value in losses),
        oscillator_failed=bool((kinds == 2).any()),
        invalid=int(np.count_nonzero(~is_special & ~is_tag)),
    )


class LectroTic4(TextInstrument):
    """Four inputs, ticks of 4 ns, up to about 100 k events/s; needs a 10 MHz reference.

    Tags come a quarter of a second late: inputs are served in turn and must be put in order. The device tells of lost
    pulses when its output becomes idle; what is lost then lies after the idle moment before.

    Source: firmware 0.16.0 of the device.
    """

    kind: ClassVar[str] = "TimeTagger"
    vendor: ClassVar[str] = "Lectrobox"
    model: ClassVar[str] = "LectroTIC-4"
    transports: ClassVar[tuple[str, ...]] = ("serial", "tcp")
    baud: ClassVar[int | None] = 115200
    timeout_s: ClassVar[float] = 1.0

    def __init__(self, transport: Transport, *, name: str | None = None) -> None:
        super().__init__(transport, name=name)
        self._reset()

    def _reset(self) -> None:
        self._pending = Pending(CHANNELS, TICK_AS)
        self._order = InOrder(self._pending, round(LOOK_BACK_S * TICKS_PER_S))
        self._bytes = b""
        self._streaming = False
        self._failed = False
        self._clean = True
        self._zero_tick: int | None = None
        self._start_s = 0.0
        self._idle_tick = 0
        self._last_byte_s = 0.0
        self._format_before = "TEXT"

    def _quieten(self) -> None:
        """Streaming is on after power-up, and replies are dropped while it keeps the port busy."""
        self._reset()
        self._is_stale = False
        self.transport.write(b"\nOUTP:STAT OFF\n")
        if not self.transport.drain(quiet_s=0.05):
            raise TransportTimeout(f"{self.name}: does not stop sending; switch it off and on, then reconnect")
        self.transport.write(b"*CLS\n")

    def tell(self, command: str) -> None:
        """Sends a command; not during a stream."""
        self._not_streaming()
        super().tell(command)

    def ask(self, query: str, timeout_s: float | None = None) -> str:
        """See the base class; not during a stream, where replies may be dropped."""
        self._not_streaming()
        return super().ask(query, timeout_s)

    def _not_streaming(self) -> None:
        if self._streaming:
            raise DeviceError(f"{self.name}: the stream is running; stop it first")

    def errors(self) -> list[str]:
        """The last error, if there is one (the device keeps no more)."""
        return self._scpi_errors(limit=2)

    def set_slope(self, channel: int, slope: Literal["POS", "NEG", "BOTH"]) -> str:
        """Chooses the edges that count."""
        number = int(CHANNEL.check(self.name, channel))
        if slope not in SLOPES:
            raise SettingError(f"{self.name}: slope {slope!r} is none of {', '.join(SLOPES)}")
        self.tell(f"INP{number}:SLOP {slope}")
        found = self.slope(number)
        if found != slope:
            raise SettingError(f"{self.name}: slope of input {number} was set to {slope} but reads {found}")
        return found

    def slope(self, channel: int) -> str:
        """The edges that count."""
        return self.ask(f"INP{channel}:SLOP?")

    def set_divider(self, channel: int, divider: int) -> int:
        """Lets the device report every ``divider``-th pulse only."""
        number, wanted = int(CHANNEL.check(self.name, channel)), int(DIVIDER.check(self.name, divider))
        self.tell(f"INP{number}:DIV {wanted}")
        return int(DIVIDER.verify(self.name, wanted, self.divider(number)))

    def divider(self, channel: int) -> int:
        """Of how many pulses one is reported."""
        return self.ask_integer(f"INP{channel}:DIV?")

    def start(self) -> None:
        """Begins a stream; tick 0 is the first tag's whole second."""
        with self.transport.lock:
            self._not_streaming()
            self._reset()
            self._format_before = self.ask("FORM:DATA?")
            self.tell("FORM:DATA BIN")
            self._no_errors()
            self.tell("OUTP:CLE")
            self.transport.read_until(CLEARED, self.timeout_s)
            self.tell("OUTP:STAT ON")
            self._streaming = True
            self._last_byte_s = self.transport.now()

    def read(self, timeout_s: float) -> Chunk:
        """What arrives within ``timeout_s``; tags of the last quarter of a second come with a later read."""
        with self.transport.lock:
            if self._streaming:
                try:
                    self._collect(self.transport.now() + timeout_s)
                except DeviceError:
                    self._streaming = False
                    raise
            return self._pending.take()

    def _collect(self, deadline: float) -> None:
        while True:
            now = self.transport.now()
            data = self.transport.read_available(max(0.0, min(deadline - now, IDLE_S)))
            now = self.transport.now()
            if data:
                self._last_byte_s = now
                self._decode(data)
            elif now - self._last_byte_s >= IDLE_S:
                self._idle_tick = max(self._idle_tick, self._order.newest - round(2 * SERVICE_S * TICKS_PER_S))
                if now - self._last_byte_s >= LOOK_BACK_S:
                    self._order.release()
            if now >= deadline:
                return

    def _decode(self, data: bytes) -> None:
        data = self._bytes + data
        whole = len(data) & ~7
        self._bytes = data[whole:]
        records = decode(data[:whole])
        invalid = records.invalid
        if records.ticks.size:
            if self._zero_tick is None:
                self._zero_tick = int(records.ticks.min()) // TICKS_PER_S * TICKS_PER_S
                self._start_s = self.transport.now()
            ticks = records.ticks - self._zero_tick
            latest = (self.transport.now() - self._start_s + MARGIN_S) * TICKS_PER_S
            plausible = (ticks >= -round(MARGIN_S * TICKS_PER_S)) & (ticks <= latest)
            invalid += int(np.count_nonzero(~plausible))
            self._order.add(ticks[plausible], records.channel[plausible])
        if invalid:
            self._pending.flag(("invalid",), [(self._idle_tick, self._order.newest)])
            self._clean = False
            if invalid > max(MOST_INVALID, whole // 16):
                raise ReplyError(self.name, "stream", data[:whole])
        if records.lost_pulses:
            self._pending.flag(("overflow",), [(self._idle_tick, self._order.newest)])
            self._clean = False
            self._idle_tick = self._order.newest
        if records.oscillator_failed:
            self._pending.flag(("reference_lost", "ended"))
            self._clean, self._failed = False, True

    def stop(self) -> None:
        """Ends the stream; the next ``read`` delivers the rest."""
        with self.transport.lock:
            if not self._streaming:
                return
            self._streaming = False
            self.transport.write(b"OUTP:STAT OFF\n")
            deadline = self.transport.now() + self.timeout_s
            while data := self.transport.read_available(2 * SERVICE_S):
                self._decode(data)
                if self.transport.now() > deadline:
                    raise TransportTimeout(f"{self.name}: does not stop sending; switch it off and on, then reconnect")
            self._order.release()
            if self._bytes:
                self._pending.flag(("byte_slip",), [(self._idle_tick, self._order.newest)])
            if not self._failed:
                self.tell(f"FORM:DATA {self._format_before}")

    def status(self) -> dict[str, Value]:
        """State with ``clean``: no loss since the status before. Costs nothing: the stream itself tells of losses.

        It does so when it is idle: nothing after the last idle moment is confirmed.
        """
        clean, self._clean = self._clean and not self._failed, True
        return {
            "clean": clean,
            "confirmed_tick": self._idle_tick,
            "reference_ok": not self._failed,
            "streaming": self._streaming,
            "epoch": self.epoch,
        }

    def snapshot(self) -> dict[str, Value]:
        """All settings, read back."""
        found: dict[str, Value] = {"format": self.ask("FORM:DATA?")}
        for channel in range(4):
            found[f"slope_{channel}"] = self.slope(channel)
            found[f"divider_{channel}"] = self.divider(channel)
        return found

    def close(self) -> None:
        """Ends a stream and closes the port."""
        if self._streaming and self.transport.is_open:
            self.transport.write(b"OUTP:STAT OFF\nFORM:DATA %s\n" % self._format_before.encode())
        self._streaming = False
        super().close()
