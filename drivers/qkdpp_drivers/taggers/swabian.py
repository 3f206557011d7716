"""Swabian Instruments Time Tagger through the maker's library (extra ``swabian``). Never run on hardware."""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np

from qkdpp.core.devices import Chunk, Value
from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import TransportClosed
from qkdpp_drivers.instrument import Identity, Instrument, Setting
from qkdpp_drivers.taggers.pending import Interval, Pending
from qkdpp_drivers.transports import Transport
from qkdpp_drivers.transports.urls import resolve, split_url

TICK_AS = 10**6
MOST_EVENTS = 1 << 20
POLL_S = 0.02
TAG, ERROR, OVERFLOW_BEGIN, OVERFLOW_END, MISSED = range(5)
LEVEL = Setting(name="trigger level", unit="V", low=-2.5, high=2.5, tolerance=0.01)


def library() -> ModuleType:
    """The maker's library, with its usage statistics switched off; DeviceError where it is not installed."""
    try:
        from Swabian import TimeTagger
    except ImportError as error:
        raise DeviceError(
            "Swabian Time Tagger: the maker's library is not installed; pip install 'qkdpp[swabian]'"
        ) from error
    found: ModuleType = TimeTagger
    found.setUsageStatisticsStatus(found.UsageStatisticsStatus.Disabled)
    return found


class LibraryTransport(Transport):
    """Stands for the library's own connection; carries no bytes.

    Args:
        address: serial number, ``host:port`` of a server, or empty for the first unit found.
    """

    def __init__(self, address: str) -> None:
        super().__init__(f"swabian://{address}")
        self.address = address
        self.tagger: Any = None

    @property
    def is_open(self) -> bool:
        """Whether the library holds a tagger."""
        return self.tagger is not None

    def _open(self) -> None:
        module = library()
        try:
            if ":" in self.address:
                self.tagger = module.createTimeTaggerNetwork(self.address)
            else:
                self.tagger = module.createTimeTagger(self.address)
        except RuntimeError as error:
            raise TransportClosed(f"{self.name}: cannot open ({error}); check cable, power and licence") from error

    def _close(self) -> None:
        tagger, self.tagger = self.tagger, None
        if tagger is not None:
            library().freeTimeTagger(tagger)

    def _send(self, data: bytes) -> None:
        raise TransportClosed(f"{self.name}: a library takes no bytes")

    def _receive(self, timeout_s: float) -> bytes | None:
        return None


class SwabianTagger(Instrument):
    """Time Tagger 20, Ultra and X; ticks of 1 ps, channel ids as the maker's (negative: falling edges).

    Args:
        transport: the library's connection.
        name: what messages call it.
        channels: which channels to stream, as text from a configuration (``"1,2,-3"``) or numbers.

    Source: package Swabian-TimeTagger 2.22.6 (names, event types; tried without a device).
    """

    kind: ClassVar[str] = "TimeTagger"
    vendor: ClassVar[str] = "Swabian Instruments"
    model: ClassVar[str] = "Time Tagger"
    transports: ClassVar[tuple[str, ...]] = ("swabian",)

    def __init__(
        self,
        transport: LibraryTransport,
        *,
        name: str | None = None,
        channels: str | int | tuple[int, ...] = (1, 2, 3, 4),
    ) -> None:
        super().__init__(transport, name=name)
        self._link = transport
        parts = channels if isinstance(channels, tuple) else str(channels).split(",")
        try:
            self.channels = tuple(int(part) for part in parts)
        except ValueError as error:
            raise DeviceError(f"{self.name}: channels {channels!r}: numbers with commas are needed") from error
        self._stream: Any = None
        self._reset()

    def _reset(self) -> None:
        self._pending = Pending(self.channels, TICK_AS)
        self._newest = self._overflow_from = 0
        self._zero: int | None = None
        self._in_overflow = False
        self._clean = True

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """From ``swabian://SERIAL`` or ``swabian://host:port``."""
        scheme, _, rest = url.partition("://")
        if scheme != "swabian":
            scheme, rest, _ = split_url(resolve(url))
            if scheme != "swabian":
                raise DeviceError(f"{url}: the maker's library takes swabian://SERIAL or swabian://host:port only")
        return cls(LibraryTransport(rest), **options)

    def identify(self) -> Identity:
        """From the library."""
        tagger = self._tagger()
        return Identity(vendor=self.vendor, model=f"Time Tagger {tagger.getModel()}", serial=str(tagger.getSerial()))

    def _tagger(self) -> Any:
        if self._link.tagger is None:
            raise TransportClosed(f"{self.name}: not open; connect first")
        return self._link.tagger

    def _quieten(self) -> None:
        self._stream = None
        self._reset()

    def set_trigger_level_v(self, channel: int, level_v: float) -> float:
        """Sets the threshold of a channel; returns what the library reads back."""
        wanted = LEVEL.check(self.name, level_v)
        self._tagger().setTriggerLevel(channel, wanted)
        return LEVEL.verify(self.name, wanted, float(self._tagger().getTriggerLevel(channel)))

    def start(self) -> None:
        """Begins a stream; ticks count from the first tag."""
        if self._stream is not None:
            raise DeviceError(f"{self.name}: the stream is running; stop it first")
        self._reset()
        self._tagger().getOverflowsAndClear()
        self._stream = library().TimeTagStream(self._tagger(), MOST_EVENTS, list(self.channels))
        self._stream.start()

    def read(self, timeout_s: float) -> Chunk:
        """What arrives within ``timeout_s``."""
        deadline = self.transport.now() + timeout_s
        while self._stream is not None:
            self._take()
            remaining = deadline - self.transport.now()
            if remaining <= 0 or len(self._pending) >= MOST_EVENTS:
                break
            self.transport.sleep(min(POLL_S, remaining))
        return self._pending.take()

    def _take(self) -> None:
        try:
            data = self._stream.getData()
        except RuntimeError as error:
            self._stream = None
            raise TransportClosed(f"{self.name}: {error}; check cable and power, then reconnect") from error
        times = np.asarray(data.getTimestamps(), dtype=np.int64)
        if not times.size:
            return
        kinds = np.asarray(data.getEventTypes())
        is_tag = kinds == TAG
        if self._zero is None:
            self._zero = int(times[0])
        ticks = times - self._zero
        for at in np.flatnonzero(~is_tag).tolist():
            self._event(int(kinds[at]), int(ticks[at]), int(ticks[max(at - 1, 0)]) if at else self._newest)
        ids = np.asarray(data.getChannels())[is_tag]
        channel = np.zeros(ids.size, np.uint8)
        for index, number in enumerate(self.channels):
            channel[ids == number] = index
        self._pending.add(ticks[is_tag], channel)
        self._newest = int(ticks[-1])

    def _event(self, kind: int, tick: int, before: int) -> None:
        """One entry of the stream that is no tag."""
        lost: Interval = (before, tick)
        if kind == OVERFLOW_BEGIN:
            self._in_overflow, self._overflow_from = True, tick
        elif kind == OVERFLOW_END:
            lost = (self._overflow_from if self._in_overflow else before, tick)
            self._in_overflow = False
        elif self._in_overflow:
            lost = (self._overflow_from, tick)
        flag = "stream_error" if kind not in (OVERFLOW_BEGIN, OVERFLOW_END, MISSED) else "overflow"
        self._clean = False
        self._pending.flag((flag,), [lost])

    def stop(self) -> None:
        """Ends the stream; the next ``read`` delivers the rest."""
        if self._stream is None:
            return
        self._take()
        self._stream.stop()
        self._stream = None
        if self._in_overflow:
            self._pending.flag(("overflow",), [(self._overflow_from, self._newest)])

    def status(self) -> dict[str, Value]:
        """State with ``clean``: neither the stream nor the device tells of an overflow since the status before."""
        overflows = int(self._tagger().getOverflowsAndClear())
        clean, self._clean = self._clean and overflows == 0, True
        return {"clean": clean, "overflows": overflows, "streaming": self._stream is not None, "epoch": self.epoch}

    def snapshot(self) -> dict[str, Value]:
        """Trigger levels, read back."""
        found: dict[str, Value] = {"channels": ",".join(map(str, self.channels))}
        for channel in self.channels:
            found[f"trigger_level_v_{channel}"] = float(self._tagger().getTriggerLevel(channel))
        return found

    def close(self) -> None:
        """Ends a stream and gives the tagger back."""
        if self._stream is not None:
            self._stream.stop()
            self._stream = None
        super().close()
