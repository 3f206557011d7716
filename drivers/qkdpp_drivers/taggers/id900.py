"""ID Quantique Time Controller ID900 and ID1000, over ZeroMQ with the maker's DataLinkTarget. Never run on hardware."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.devices import Chunk, Value
from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import InstrumentError, ReplyError, SettingError, TransportTimeout
from qkdpp_drivers.instrument import Identity, Setting, TextInstrument
from qkdpp_drivers.taggers.in_order import InOrder
from qkdpp_drivers.taggers.pending import Pending
from qkdpp_drivers.transports import Transport, transport_of
from qkdpp_drivers.transports.urls import host_port, without_driver_options
from qkdpp_drivers.transports.zeromq import ZmqTransport

TICK_AS = 10**6
PS_PER_S = 10**12
CHANNELS = (1, 2, 3, 4)
CHANNEL = Setting(name="input", unit="", low=1, high=4)
THRESHOLD = Setting(name="threshold", unit="V", low=-5.0, high=5.0, tolerance=0.01)
DELAY = Setting(name="delay", unit="ps", low=0, high=PS_PER_S, tolerance=0.5)
INTEGRATION = Setting(name="integration time", unit="ms", low=1, high=65535)
RECORD = Setting(name="record", unit="s", low=0.2, high=3600.0)
DEAD_PS = 40_000
"""Least dead time between records."""
FIRST_STREAM_PORT = 4242
SILENT_RECORDS = 4
HIRES_ERRORS = {
    1: "recalibrate",
    2: "rate above 25 MHz",
    3: "events too close",
    4: "events too close",
    5: "channel switched off, restart the unit",
    1001: "lower the rate",
    1002: "change the threshold",
    1003: "recalibrate",
}
FAILED = re.compile(r"SCPI_ERR\w*\s*$|\bNo connection\b|^No |\bfailed\b")
DLT_ADDRESS = "127.0.0.1:6060"


class DataLinkTarget:
    """The maker's program on this computer that passes raw time stamps on.

    Args:
        transport: ZeroMQ to its control port.
        name: what messages call it.
    """

    timeout_s = 2.0

    def __init__(self, transport: Transport, name: str) -> None:
        self.transport, self.name = transport, name

    def ask(self, command: str) -> Any:
        """Sends a command; its JSON reply. InstrumentError for what the program refuses."""
        raw = self.transport.query(command.encode(), b"", self.timeout_s)
        try:
            reply = json.loads(raw)
        except ValueError as error:
            raise ReplyError(self.name, command.split(" ", 1)[0], raw) from error
        if isinstance(reply, dict) and "error" in reply:
            raise InstrumentError(self.name, 0, str(reply["error"].get("description", reply["error"])))
        return reply


class Id900(TextInstrument):
    """Four inputs, ticks of 1 ps; raw time stamps come in records of at least 0.2 s.

    Every record starts at 0 and follows the one before after a dead time of at least 40 ns that the unit does not
    tell: each border is a lost interval with the flag ``restart``, and the ticks of record k begin at k times (length
    plus 40 ns). Tags come when their record is over. A record in which some input had no event cannot be told from a
    missing one, so all streamed inputs need light or dark counts; an input that falls behind the others is reported.

    Args:
        transport: ZeroMQ to port 5555 of the unit.
        name: what messages call it.
        dlt: ZeroMQ to DataLinkTarget (needed for ``start`` only).
        address: the unit's address as DataLinkTarget is told it.
        channels: inputs to stream.
        record_s: length of a record.
        stream_port: first of four ports at which DataLinkTarget offers the streams.

    Source: IDQ's published examples (Time Controller) and user manual.
    """

    kind: ClassVar[str] = "TimeTagger"
    vendor: ClassVar[str] = "ID Quantique"
    model: ClassVar[str] = "ID900"
    transports: ClassVar[tuple[str, ...]] = ("zmq",)
    send_end: ClassVar[bytes] = b""
    reply_end: ClassVar[bytes] = b""
    encoding: ClassVar[str] = "utf-8"
    timeout_s: ClassVar[float] = 2.0

    def __init__(
        self,
        transport: Transport,
        *,
        name: str | None = None,
        dlt: Transport | None = None,
        address: str = "",
        channels: tuple[int, ...] | str | int = CHANNELS,
        record_s: float = 1.0,
        stream_port: int = FIRST_STREAM_PORT,
    ) -> None:
        super().__init__(transport, name=name)
        self.dlt = None if dlt is None else DataLinkTarget(dlt, f"DataLinkTarget at {dlt.name}")
        self.address = address
        numbers = channels if isinstance(channels, tuple) else str(channels).split(",")
        self.channels = tuple(int(CHANNEL.check(self.name, int(number))) for number in numbers)
        self.record_s = RECORD.check(self.name, record_s)
        self.stream_port = stream_port
        self._links: list[Transport] = []
        self._ids: list[str] = []
        self._reset()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """From ``zmq://host:5555?dlt=host:port&channels=1,2&record_s=0.5&stream_port=4242`` (options may be absent)."""
        url, own = without_driver_options(url)
        options = {"dlt": DLT_ADDRESS} | own | options
        transport, _ = transport_of(url)
        dlt, _ = transport_of(f"zmq://{options.pop('dlt')}")
        dlt.time_factor = transport.time_factor
        host = transport.host if isinstance(transport, ZmqTransport) else ""
        if unknown := options.keys() - {"name", "address", "channels", "record_s", "stream_port"}:
            raise DeviceError(f"{url}: unknown option {', '.join(sorted(unknown))}")
        options.setdefault("address", host)
        return cls(transport, dlt=dlt, **options)

    def _reset(self) -> None:
        self._pending = Pending(self.channels, TICK_AS)
        self._record_ps = round(self.record_s * PS_PER_S)
        self._order = InOrder(self._pending, 0)
        self._streams = [StreamOfRecords(self._record_ps) for _ in self.channels]
        self._delivered = 0
        self._streaming = False
        self._clean = True
        self._last_data_s = 0.0
        self._clean_tick = 0

    def accepts(self, identity: Identity) -> bool:
        """ID900 and its successor ID1000."""
        return any(model in identity.model.upper() for model in ("ID900", "ID1000"))

    def _quieten(self) -> None:
        """Messages keep their borders: there is nothing to throw away."""
        self._is_stale = False
        self._reset()

    def ask(self, query: str, timeout_s: float | None = None) -> str:
        """Sends a command or query (all are answered); InstrumentError for an error reply."""
        line = super().ask(query, timeout_s)
        if FAILED.search(line):
            raise InstrumentError(self.name, 0, f"{query}: {line}")
        return line

    def tell(self, command: str) -> None:
        """Sends a command and takes its answer."""
        self.ask(command)

    def _state(self, block: str) -> list[str]:
        """Last words of the fields of ``STATE?``, without units."""
        fields = self.ask(f"{block}:STATE?").replace("\n", ";").split(";")
        return [re.sub(r"(?<=\d)\s*(TB|V)$", "", field.split()[-1]) for field in fields if field.strip()]

    def set_input(
        self,
        channel: int,
        *,
        threshold_v: float,
        edge: Literal["RISING", "FALLING"] = "RISING",
        coupling: Literal["AC", "DC"] = "DC",
    ) -> float:
        """Enables an input and sets its comparator; returns the threshold read back."""
        number = int(CHANNEL.check(self.name, channel))
        wanted = THRESHOLD.check(self.name, threshold_v)
        if edge not in ("RISING", "FALLING") or coupling not in ("AC", "DC"):
            raise SettingError(f"{self.name}: input {number}: edge {edge} or coupling {coupling} does not exist")
        for part in ("ENABle ON", f"COUPling {coupling}", f"EDGE {edge}", f"THREshold {wanted:.3f}V"):
            self.tell(f"INPUt{number}:{part}")
        state = self._state(f"INPUt{number}")
        if len(state) < 4 or state[:3] != ["ON", coupling, edge]:
            raise SettingError(f"{self.name}: input {number} was set to ON, {coupling}, {edge} but reads {state[:3]}")
        return THRESHOLD.verify(self.name, wanted, self._number(f"INPUt{number}:STATE?", state[3]))

    def set_delay_ps(self, channel: int, delay_ps: float) -> float:
        """Delays an input by whole picoseconds; returns the delay read back."""
        number = int(CHANNEL.check(self.name, channel))
        wanted = round(DELAY.check(self.name, delay_ps))
        self.tell(f"DELAy{number}:VALUe {wanted}")
        return DELAY.verify(self.name, wanted, self.delay_ps(number))

    def delay_ps(self, channel: int) -> float:
        """Delay of an input."""
        query = f"DELAy{channel}:VALUe?"
        return self._number(query, self.ask(query).split()[-1].removesuffix("TB"))

    def counts(self, dwell_s: float) -> dict[int, int]:
        """Counts per input within ``dwell_s`` (whole milliseconds, at most 65.535 s)."""
        dwell_ms = int(INTEGRATION.check(self.name, round(dwell_s * 1000)))
        for channel in self.channels:
            self.tell(f"INPUt{channel}:COUNter:MODE CYCLe")
            self.tell(f"INPUt{channel}:COUNter:INTEgrationtime {dwell_ms}")
            self.tell(f"INPUt{channel}:COUNter:RESEt")
        self.transport.sleep(dwell_s)
        return {channel: self._count(channel, self.transport.now() + dwell_s + 0.2) for channel in self.channels}

    def _count(self, channel: int, deadline: float) -> int:
        """The counter once it shows something: the unit's clock is not the host's. 0 if it never does."""
        query = f"INPUt{channel}:COUNter?"
        while (found := int(self._number(query, self.ask(query)))) == 0 and self.transport.now() < deadline:
            self.transport.sleep(0.01)
        return found

    def _number(self, query: str, text: str) -> float:
        try:
            return float(text)
        except ValueError as error:
            raise ReplyError(self.name, query, text.encode()) from error

    def errors(self) -> list[str]:
        """High-resolution and raw-data errors, cleared afterwards."""
        found = []
        for channel in CHANNELS:
            code = int(self._number("HIREs:ERROr?", self.ask(f"INPUt{channel}:HIREs:ERROr?")))
            if code:
                found.append(f"input {channel}: {code}, {HIRES_ERRORS.get(code, 'unknown')}")
                self.tell(f"INPUt{channel}:HIREs:ERROr:CLEAR")
            lost = int(self._number("RAW:ERRORS?", self.ask(f"RAW{channel}:ERRORS?")))
            if lost:
                found.append(f"raw {channel}: {lost} errors")
                self.tell(f"RAW{channel}:ERRORS:CLEAR")
        return found

    def start(self) -> None:
        """Begins records without end; tick 0 is the start of the first."""
        if self._streaming:
            raise DeviceError(f"{self.name}: the stream is running; stop it first")
        if self.dlt is None:
            raise DeviceError(f"{self.name}: streams come through DataLinkTarget; give its address as option dlt")
        self._reset()
        self.errors()
        for command in (
            "RECord:TRIG:ARM:MODE MANUal",
            "RECord:ENABle ON",
            "RECord:STOP",
            "RECord:NUMber INF",
            f"RECord:DURation {self._record_ps}",
        ):
            self.tell(command)
        self.dlt.transport.open()
        try:
            for index, channel in enumerate(self.channels):
                self._link(index, channel)
            self.tell("RECord:PLAY")
        except DeviceError:
            self._end()
            raise
        self._streaming = True
        self._last_data_s = self.transport.now()

    def _link(self, index: int, channel: int) -> None:
        """Has one input streamed, and listens."""
        assert self.dlt is not None
        port = self.stream_port + index
        for command in (
            f"DELAy{channel}:INPOrt:LINK INPU{channel}",
            f"RAW{channel}:INPOrt:REF:LINK NONE",
            f"RAW{channel}:INPOrt:STOP:LINK DELA{channel}",
            f"RAW{channel}:ERRORS:CLEAR",
        ):
            self.tell(command)
        reply = self.dlt.ask(f"start-stream --address {self.address} --channel {channel} --stream-port {port}")
        self._ids.append(str(reply["id"]))
        link = self._open_stream(port)
        self._links.append(link)
        self.tell(f"RAW{channel}:SEND ON")

    def _open_stream(self, port: int) -> Transport:
        assert self.dlt is not None
        control = self.dlt.transport
        host = control.host if isinstance(control, ZmqTransport) else host_port(DLT_ADDRESS)[0]
        link = ZmqTransport(host, port, kind="pair")
        link.time_factor = self.transport.time_factor
        link.open()
        return link

    def read(self, timeout_s: float) -> Chunk:
        """The records that ended within ``timeout_s``.

        Raises:
            TransportTimeout: nothing for four records.
        """
        if not self._streaming:
            return self._pending.take()
        deadline = self.transport.now() + timeout_s
        while True:
            arrived = self._collect()
            now = self.transport.now()
            if arrived:
                self._last_data_s = now
                self._deliver()
            elif now - self._last_data_s > SILENT_RECORDS * self.record_s + 1.0:
                self._end()
                raise TransportTimeout(f"{self.name}: no record for {now - self._last_data_s:.1f} s; start again")
            if now >= deadline or not self._streaming:
                return self._pending.take()
            self.transport.sleep(min(0.02, deadline - now))

    def _collect(self) -> bool:
        arrived = False
        for index, link in enumerate(self._links):
            while True:
                try:
                    message = link.read_until(b"", 0.0)
                except TransportTimeout:
                    break
                arrived = True
                if not message:
                    self._ended(index)
                    break
                if len(message) % 8:
                    self._end()
                    raise ReplyError(self.name, f"stream of input {self.channels[index]}", message)
                self._streams[index].add(np.frombuffer(message, dtype="<u8").astype(np.int64))
        return arrived

    def _ended(self, index: int) -> None:
        self._streams[index].end()
        if all(stream.is_over for stream in self._streams):
            self._deliver()
            self._pending.flag(("ended",))
            self._end()

    def _deliver(self, *, final: bool = False) -> None:
        """Passes on the records that are complete at all inputs; at the end also the rest."""
        complete = [stream.complete for stream in self._streams]
        ready = max(complete) if final else min(complete)
        if not final and max(complete) - ready >= SILENT_RECORDS:
            ready = max(complete) - 1
            self._clean = False
            self._pending.flag(("discontinuity",), [(self._begin(self._delivered), self._begin(ready))])
        for number in range(self._delivered, ready):
            ticks = [stream.take(number) + self._begin(number) for stream in self._streams]
            channel = [np.full(part.size, index, np.uint8) for index, part in enumerate(ticks)]
            self._order.add(np.concatenate(ticks), np.concatenate(channel))
            self._order.release()
            border = self._begin(number + 1)
            self._pending.flag(("restart",), [(border - DEAD_PS, border)])
        self._delivered = max(self._delivered, ready)

    def _begin(self, record: int) -> int:
        return record * (self._record_ps + DEAD_PS)

    def stop(self) -> None:
        """Ends the records and asks for errors; the next ``read`` delivers the rest, and them."""
        if not self._streaming:
            return
        self.tell("RECord:STOP")
        self.transport.sleep(0.2)
        self._collect()
        for stream in self._streams:
            stream.end()
        self._deliver(final=True)
        self._verdict()
        self._end()

    def _end(self) -> None:
        """Closes the streams; a program or unit that is gone is left alone."""
        self._streaming = False
        for link in self._links:
            link.close()
        ids, self._ids, self._links = self._ids, [], []
        try:
            for channel in self.channels:
                self.tell(f"RAW{channel}:SEND OFF")
            if self.dlt is not None:
                for each in ids:
                    self.dlt.ask(f"stop --id {each}")
        except DeviceError:
            self._is_stale = True
        if self.dlt is not None:
            self.dlt.transport.close()

    def _verdict(self) -> list[str]:
        """Errors of the unit and of DataLinkTarget; they condemn what was delivered since the verdict before."""
        found = self.errors()
        if self.dlt is not None:
            for each in self._ids:
                reply = self.dlt.ask(f"status --id {each}")
                found += [f"{each}: {error.get('description', error)}" for error in reply.get("errors", ())]
        if found:
            self._pending.flag(("stream_error",), [(self._clean_tick, self._begin(self._delivered))])
        self._clean_tick = self._begin(self._delivered)
        return found

    def status(self) -> dict[str, Value]:
        """State with ``clean``. During a stream this costs nothing."""
        found = self._verdict() if self._streaming else self.errors()
        clean, self._clean = self._clean and not found, True
        return {"clean": clean, "errors": "; ".join(found), "streaming": self._streaming, "epoch": self.epoch}

    def snapshot(self) -> dict[str, Value]:
        """All settings that matter here, read back."""
        device = self._state("DEVIce")
        found: dict[str, Value] = {"clock": device[0], "resolution": device[1], "record_s": self.record_s}
        found["bin_ps"] = self._number("DEVIce:RES:BWID?", self.ask("DEVIce:RES:BWID?").removesuffix("TB"))
        for channel in CHANNELS:
            state = self._state(f"INPUt{channel}")
            found[f"enabled_{channel}"] = state[0]
            found[f"threshold_v_{channel}"] = self._number("STATE?", state[3])
            found[f"delay_ps_{channel}"] = self.delay_ps(channel)
        return found

    def close(self) -> None:
        """Ends the stream and closes all connections."""
        if self._streaming:
            self._end()
        super().close()


class StreamOfRecords:
    """The time stamps of one input, cut into records where they start again.

    Args:
        record_ps: length of a record.

    Attributes:
        complete: how many records are complete.
        is_over: whether the stream has ended.
    """

    def __init__(self, record_ps: int) -> None:
        self.record_ps = record_ps
        self.complete = 0
        self.is_over = False
        self._parts: dict[int, list[NDArray[np.int64]]] = {}
        self._last = -1

    def add(self, times: NDArray[np.int64]) -> None:
        """Time stamps as one message brings them: a message ends with its record, a long record has several."""
        for part in np.split(times, np.flatnonzero(np.diff(times) < 0) + 1):
            if not part.size:
                continue
            if int(part[0]) < self._last:
                self.complete += 1
            self._parts.setdefault(self.complete, []).append(part)
            self._last = int(part[-1])

    def end(self) -> None:
        """No more will come."""
        if not self.is_over and self._last >= 0:
            self.complete += 1
        self.is_over = True

    def take(self, record: int) -> NDArray[np.int64]:
        """Time stamps of a record, once."""
        return np.concatenate([np.empty(0, np.int64), *self._parts.pop(record, [])])
