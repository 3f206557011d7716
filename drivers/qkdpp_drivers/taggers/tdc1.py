"""S-Fifteen Instruments TDC1, a counter and time tagger with four inputs on a serial port. Never run on hardware."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from qkdpp.core.devices import Chunk, Value
from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import ReplyError, SettingError, TransportTimeout
from qkdpp_drivers.instrument import Identity, Setting, TextInstrument
from qkdpp_drivers.taggers.pending import Pending
from qkdpp_drivers.taggers.tdc1_stream import TICK_S, Tdc1Stream, expand, input_edges
from qkdpp_drivers.transports import Transport

TICK_AS = 2_000_000_000
CHANNELS = (1, 2, 3, 4)
THRESHOLD = Setting(name="threshold", unit="V", low=-3.3, high=3.3, tolerance=0.05)
GATE = Setting(name="gate", unit="ms", low=0, high=65535)
PULSE = Setting(name="pulse", unit="ns", low=2, high=10_000)
OVERFLOW = 0x10
MAX_WRITE_BYTES = 250
FLUSH_AFTER_S = 0.2
SILENT_AFTER_S = 2.0
QUIET_S = 0.02
NO_STREAM_S = 0.2
"""A stream is not silent for so long: it has a marker every 134 ms."""
STATUS_LINE = re.compile(rb"([0-9A-Fa-f]{4}) \r\n\Z")
MOST_WORDS = 1 << 20
REFERENCES = {"auto": 0, "external": 1, "internal": 2}
MODES = {"0": "singles", "1": "pairs", "3": "timestamp"}


class Tdc1(TextInstrument):
    """Four inputs, ticks of 2 ns, up to 10 M events/s.

    The device tells of a full buffer only by ``STATUS?``, and answers that only between streams. So losses by overflow
    come to light at ``stop`` and at ``status``, which during a stream stops it, asks, and starts it again: some
    milliseconds are lost (flag ``restart``), and the ticks go on by the host's clock, which is good to milliseconds.

    Args:
        transport: serial port.
        name: what messages call it.
        pulse_ns: length of the pulses at the inputs. The device writes the state of all inputs whenever an edge comes
            at any: with this length given, inputs still high from the word before make no tag. Without, every input
            that is high makes one.

    Source: the manufacturer's library and readers (pyS15, qcrypto) and documentation of the TDC1.
    """

    kind: ClassVar[str] = "TimeTagger"
    vendor: ClassVar[str] = "S-Fifteen Instruments"
    model: ClassVar[str] = "TDC1"
    transports: ClassVar[tuple[str, ...]] = ("serial", "tcp")
    baud: ClassVar[int | None] = 115200
    send_end: ClassVar[bytes] = b"\r\n"
    reply_end: ClassVar[bytes] = b"\r\n"
    timeout_s: ClassVar[float] = 1.0

    def __init__(self, transport: Transport, *, name: str | None = None, pulse_ns: float | None = None) -> None:
        super().__init__(transport, name=name)
        pulse_ns = None if pulse_ns is None else PULSE.check(self.name, float(pulse_ns))
        self._pulse_ticks = 0 if pulse_ns is None else round(pulse_ns * 1e-9 / TICK_S)
        self._reset()

    def _reset(self) -> None:
        self._stream = Tdc1Stream()
        self._pending = Pending(CHANNELS, TICK_AS)
        self._before = (-(1 << 62), 0)
        self._streaming = False
        self._clean_tick = 0
        self._last_byte_s = 0.0
        self._flushed = False

    def identify(self) -> Identity:
        """From ``*IDN?``, of which only the name of the model is known for certain."""
        line = self.ask("*IDN?")
        return Identity(vendor=self.vendor, model=line)

    def connect(self) -> Identity:
        """See the base class; a stream under way is ended, and whatever was decoded is void."""
        self._reset()
        return super().connect()

    def _quieten(self) -> None:
        self._is_stale = False
        self.transport.write(b"\r\n")
        if not self.transport.drain(NO_STREAM_S):
            self.transport.write(b"ABORT\r\n")
            if not self.transport.drain(QUIET_S):
                raise TransportTimeout(f"{self.name}: does not stop sending; switch it off and on, then reconnect")

    def tell(self, command: str) -> None:
        """Sends a command; SettingError for more than the device can take at once."""
        if len(command) > MAX_WRITE_BYTES:
            raise SettingError(f"{self.name}: {len(command)} characters at once, it takes {MAX_WRITE_BYTES}")
        self._not_streaming()
        super().tell(command)

    def ask(self, query: str, timeout_s: float | None = None) -> str:
        """See the base class; not during a stream, in which a reply could not be told from data."""
        self._not_streaming()
        return super().ask(query, timeout_s)

    def _not_streaming(self) -> None:
        if self._streaming:
            raise DeviceError(f"{self.name}: the stream is running; stop it first")

    def set_threshold_v(self, threshold_v: float, *, edge: Literal["rising", "falling"]) -> float:
        """Sets the level at which a pulse counts, and its direction; returns the level read back."""
        wanted = THRESHOLD.check(self.name, threshold_v)
        self.tell(f"{'POS' if edge == 'rising' else 'NEG'} {wanted:.3f}")
        return THRESHOLD.verify(self.name, wanted, self.threshold_v())

    def set_logic(self, standard: Literal["NIM", "TTL"]) -> float:
        """Sets the level and direction of a standard; returns the level read back."""
        if standard not in ("NIM", "TTL"):
            raise SettingError(f"{self.name}: logic {standard!r} is neither NIM nor TTL")
        self.tell(standard)
        return self.threshold_v()

    def threshold_v(self) -> float:
        """The level at which a pulse counts."""
        line = self.ask("LEVEL?")
        try:
            return float(line.split()[0])
        except (ValueError, IndexError) as error:
            raise ReplyError(self.name, "LEVEL?", line.encode()) from error

    def set_reference(self, reference: Literal["auto", "external", "internal"]) -> str:
        """Chooses the reference clock; returns what the device says of it (in its own words)."""
        if reference not in REFERENCES:
            raise SettingError(f"{self.name}: reference {reference!r} is none of {', '.join(REFERENCES)}")
        self.tell(f"REFCLK {REFERENCES[reference]}")
        return self.ask("REFCLK?")

    def set_gate_ms(self, gate_ms: int) -> int:
        """Sets the length of a gate (0: endless)."""
        wanted = int(GATE.check(self.name, gate_ms))
        self.tell(f"TIME {wanted}")
        GATE.verify(self.name, wanted, self.gate_ms())
        return wanted

    def gate_ms(self) -> int:
        """Length of a gate; the firmware prints it as a signed number of 16 bits."""
        return self.ask_integer("TIME?") % 65536

    def counts(self, dwell_s: float) -> dict[int, int]:
        """Counts per channel within ``dwell_s`` (whole milliseconds, at most 65.535 s)."""
        gate_ms = round(dwell_s * 1000)
        if gate_ms < 1:
            raise SettingError(f"{self.name}: a dwell of {dwell_s:g} s is outside 0.001 to 65.535 s")
        self.tell("SINGLES")
        self.set_gate_ms(gate_ms)
        line = self.ask("COUNTS?", dwell_s + self.timeout_s)
        try:
            counts = [int(word) for word in line.split()]
        except ValueError as error:
            raise ReplyError(self.name, "COUNTS?", line.encode()) from error
        if len(counts) != len(CHANNELS):
            raise ReplyError(self.name, "COUNTS?", line.encode())
        return dict(zip(CHANNELS, counts, strict=True))

    def start(self) -> None:
        """Begins an endless stream with ticks from the device's zero; what was decoded before is void."""
        self._not_streaming()
        self._reset()
        self._launch()

    def _launch(self) -> None:
        self.tell("TIMESTAMP")
        mode = self.ask("MODE?")
        if mode != "3":
            raise SettingError(
                f"{self.name}: mode {MODES.get(mode, mode)!r} instead of 'timestamp'; reset it with *RST"
            )
        self.set_gate_ms(0)
        self.tell("COUNTS?")
        self._streaming, self._flushed = True, False
        self._last_byte_s = self.transport.now()

    def read(self, timeout_s: float) -> Chunk:
        """What arrives within ``timeout_s``, at most about 10^6 events; what follows the last marker comes later.

        Raises:
            TransportTimeout: silent for two seconds, in which fourteen markers are due.
            TransportClosed: unplugged; ``reconnect`` and ``start`` begin a new epoch.
        """
        with self.transport.lock:
            if self._streaming:
                try:
                    self._collect(self.transport.now() + timeout_s)
                except DeviceError:
                    self._streaming = False
                    raise
            return self._pending.take()

    def _collect(self, deadline: float) -> None:
        taken = 0
        while taken < 4 * MOST_WORDS:
            now = self.transport.now()
            data = self.transport.read_available(max(0.0, min(deadline, now + FLUSH_AFTER_S) - now))
            self._stream.feed(data)
            taken += len(data)
            now = self.transport.now()
            if data:
                self._last_byte_s, self._flushed = now, False
            else:
                self._silence(now - self._last_byte_s)
            if now >= deadline:
                break
        self._decode()
        if 0 < taken < 4 * MOST_WORDS:
            self._stream.compare_clocks(self.transport.now())

    def _silence(self, duration_s: float) -> None:
        if duration_s >= SILENT_AFTER_S:
            raise TransportTimeout(f"{self.name}: no data for {duration_s:.1f} s in a stream; reconnect, start again")
        if duration_s >= FLUSH_AFTER_S and not self._flushed:
            self.transport.write(b"INPKT\r\n")
            self._flushed = True

    def _decode(self, end_tick: int | None = None) -> None:
        decoded = self._stream.take(end_tick=end_tick)
        ticks, pattern = decoded.ticks, decoded.pattern
        if ticks.size:
            after = (int(ticks[-1]), int(pattern[-1]))
            if self._pulse_ticks:
                pattern = input_edges(ticks, pattern, self._pulse_ticks, self._before)
            self._before = after
        self._pending.add(*expand(ticks, pattern))
        self._pending.flag(decoded.flags, decoded.lost)

    def stop(self) -> None:
        """Ends the stream and asks for the verdict; the next ``read`` delivers what was under way, and it."""
        with self.transport.lock:
            if not self._streaming:
                return
            self._verdict(self._end_stream())

    def _end_stream(self) -> int:
        """Stops the stream and decodes what was under way; returns the status word that follows it."""
        self._streaming = False
        self.transport.write(b"ABORT\r\n")
        tail = self._until_quiet(b"")
        self.transport.write(b"STATUS?\r\n")
        deadline = self.transport.now() + self.timeout_s
        while (found := STATUS_LINE.search(tail)) is None and self.transport.now() < deadline:
            tail = self._until_quiet(tail)
        self._stream.feed(tail if found is None else tail[: found.start()])
        self._decode(self._stream.tick_at(self.transport.now()))
        if found is None:
            raise TransportTimeout(f"{self.name}: no status after the stream; reconnect, start again")
        return int(found[1], 16)

    def _until_quiet(self, data: bytes) -> bytes:
        deadline = self.transport.now() + SILENT_AFTER_S
        while more := self.transport.read_available(QUIET_S):
            data += more
            if self.transport.now() > deadline:
                raise TransportTimeout(f"{self.name}: does not stop sending; switch it off and on, then reconnect")
        return data

    def _verdict(self, flags: int) -> bool:
        """Whether the device's buffer overflowed since the last verdict."""
        overflow = bool(flags & OVERFLOW)
        newest = self._stream.newest_tick
        if overflow:
            self._pending.flag(("overflow",), [(self._clean_tick, newest)])
        self._clean_tick = newest
        return overflow

    def _flags(self) -> int:
        with self.transport.lock:
            self._fresh()
            self.transport.write(b"STATUS?\r\n")
            raw = self.transport.read_exact(7, self.timeout_s)
        found = STATUS_LINE.fullmatch(raw)
        if found is None:
            raise ReplyError(self.name, "STATUS?", raw)
        return int(found[1], 16)

    def status(self) -> dict[str, Value]:
        """State with ``clean``; during a stream this costs a gap (see the class)."""
        with self.transport.lock:
            was_streaming = self._streaming
            if not was_streaming:
                overflow = bool(self._flags() & OVERFLOW)
            else:
                overflow = self._verdict(self._end_stream())
                self._launch()
                self._stream.restart(self._stream.tick_at(self.transport.now()))
                self._clean_tick = self._stream.newest_tick
                self._before = (-(1 << 62), 0)
            return {"clean": not overflow, "overflow": overflow, "streaming": was_streaming, "epoch": self.epoch}

    def snapshot(self) -> dict[str, Value]:
        """All settings, read back."""
        mode = self.ask("MODE?")
        return {
            "mode": MODES.get(mode, mode),
            "gate_ms": self.gate_ms(),
            "threshold_v": self.threshold_v(),
            "reference": self.ask("REFCLK?"),
            "external_clock": self.ask("ECLOCK?"),
            "pulse_ns": self._pulse_ticks * 2 or None,
        }

    def close(self) -> None:
        """Ends a stream and closes the port."""
        if self._streaming and self.transport.is_open:
            self.transport.write(b"ABORT\r\n")
        self._streaming = False
        super().close()
