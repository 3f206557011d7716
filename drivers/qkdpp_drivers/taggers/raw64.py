"""Time tags as bare 64-bit words from a TCP port or a pipe (FPGA units, S-Fifteen cards). Never run on hardware."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.devices import Chunk, Value
from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import ReplyError, SettingError, TransportClosed, TransportTimeout
from qkdpp_drivers.instrument import Identity, Instrument
from qkdpp_drivers.taggers.in_order import InOrder
from qkdpp_drivers.taggers.pending import Pending
from qkdpp_drivers.transports import Transport

TICK_AS = 3_906_250
TICKS_PER_S = 256 * 10**9
INPUT_BITS = {"a1": (0, 1, 2, 3), "a1x": (0, 1, 2, 3), "a1s": (0, 1, 2, 3, 5)}
"""Bits of a word that say which inputs saw an edge, by layout; inputs are channels 1, 2, ..."""
DUMMY = 0x10
LOOK_BACK = TICKS_PER_S // 1000
AHEAD = 5 * TICKS_PER_S
"""A word this far ahead of the host's clock cannot be."""
SILENT_AFTER_S = 10.0
WRAP = 1 << 54
"""The 54 bits of time begin again after 19.5 hours."""
FRESH_S = 0.5
"""What waits in a connection that is older than this was sent before anybody asked for it."""
PROOF_WORDS = 32
MOST_BYTES = 8 << 20

Words = NDArray[np.uint64]


class Raw64(Instrument):
    """A stream of ``a1`` words (54 bits of time in 1/256 ns, a dummy bit, four inputs), which takes no commands.

    Words are aligned from the first byte after connecting. The format has no means to tell of losses; what shows
    itself are times that go back by more than 1 ms or run ahead of the host's clock: words lost or spoilt
    (``discontinuity``), or bytes (``byte_slip``). A loss then lies between the read before and where sense begins
    again; where it does not within 32 words, the driver gives up (ReplyError) and a new connection is needed.

    Args:
        transport: TCP or pipe.
        name: what messages call it.
        layout: ``a1``; ``a1x`` with the high half of each word first; ``a1s`` with a fifth input, for sync pulses, in
            bit 5 (an extension of our own for FPGA units).

    Source: qcrypto, readevents7 (option -a1, with and without -X).
    """

    kind: ClassVar[str] = "TimeTagger"
    vendor: ClassVar[str] = "any"
    model: ClassVar[str] = "raw 64-bit stream"
    transports: ClassVar[tuple[str, ...]] = ("tcp", "pipe", "serial")

    def __init__(
        self, transport: Transport, *, name: str | None = None, layout: Literal["a1", "a1x", "a1s"] = "a1"
    ) -> None:
        super().__init__(transport, name=name)
        if layout not in INPUT_BITS:
            raise SettingError(f"{self.name}: layout {layout!r} is none of {', '.join(INPUT_BITS)}")
        self.layout = layout
        self._bits = np.array(INPUT_BITS[layout], dtype=np.uint8)
        self._reset()

    def _reset(self) -> None:
        self._pending = Pending(tuple(range(1, self._bits.size + 1)), TICK_AS)
        self._order = InOrder(self._pending, LOOK_BACK)
        self._bytes = bytearray()
        self._streaming = False
        self._clean = True
        self._first: tuple[int, float] | None = None
        self._last = self._sound_tick = 0
        self._in_doubt = False  # the next word ends an interval that is lost
        self._opened_s = self._last_byte_s = 0.0

    def identify(self) -> Identity:
        """Nobody can be asked."""
        return Identity(vendor=self.vendor, model=self.model)

    def _quieten(self) -> None:
        """Nothing is thrown away: words are aligned from the first byte on."""
        self._reset()
        self._opened_s = self.transport.now()

    def start(self) -> None:
        """Begins with the first word after connecting, and connects again unless that was just now: tags are fresh.

        Ticks count from that word.
        """
        with self.transport.lock:
            if self._streaming:
                raise DeviceError(f"{self.name}: the stream is running; stop it first")
            if self._first is not None or self.transport.now() - self._opened_s > FRESH_S:
                self.reconnect()
            self._streaming, self._last_byte_s = True, self.transport.now()

    def read(self, timeout_s: float) -> Chunk:
        """What arrives within ``timeout_s``; tags of the last millisecond come with a later read.

        Raises:
            TransportTimeout: nothing for 10 s.
            TransportClosed: the stream has ended, and all of it was delivered (the last chunk is flagged ``ended``).
        """
        with self.transport.lock:
            if self._streaming:
                try:
                    self._collect(self.transport.now() + timeout_s)
                except TransportClosed:
                    self.stop()
                    self._pending.flag(("ended",))
                except DeviceError:
                    self._streaming = False
                    raise
            elif not self.transport.is_open and not self._pending:
                raise TransportClosed(f"{self.name}: the stream has ended; reconnect for another one")
            return self._pending.take()

    def _collect(self, deadline: float) -> None:
        taken = 0
        while taken < MOST_BYTES:
            data = self.transport.read_available(max(0.0, deadline - self.transport.now()))
            now = self.transport.now()
            if data:
                self._bytes += data
                taken += len(data)
                self._last_byte_s = now
                self._decode()
            elif now - self._last_byte_s > SILENT_AFTER_S:
                raise TransportTimeout(f"{self.name}: no data for {SILENT_AFTER_S:g} s; is the unit running?")
            if now >= deadline:
                break
        self._sound_tick = max(self._sound_tick, self._order.newest - LOOK_BACK)

    def _decode(self) -> None:
        while len(self._bytes) >= 8:
            words = self._words(0, len(self._bytes) // 8)
            if self._first is None:
                self._last = int(words[0] >> np.uint64(10))
                self._first = (self._last, self._last_byte_s)
            time = self._times(words)
            wrong = self._wrong(time, self._last, self._last_byte_s)
            n = int(wrong[0]) if wrong.size else words.size
            self._accept(words[:n], time[:n])
            if not wrong.size:
                return
            if len(self._bytes) < 8 * (PROOF_WORDS + 1):
                return
            self._realign()

    def _words(self, at: int, n: int) -> Words:
        words = np.frombuffer(bytes(self._bytes[at : at + 8 * n]), dtype="<u8")
        return words if self.layout != "a1x" else (words << np.uint64(32)) | (words >> np.uint64(32))

    def _times(self, words: Words) -> NDArray[np.int64]:
        """Their times, in the turn of the 54 bits that lies nearest to the last one."""
        time = (words >> np.uint64(10)).astype(np.int64)
        return np.asarray(time + (self._last - time + WRAP // 2) // WRAP * WRAP)

    def _wrong(self, time: NDArray[np.int64], before: int, now_s: float) -> NDArray[np.intp]:
        """Numbers of words whose time cannot be."""
        assert self._first is not None
        first, first_s = self._first
        latest = first + round((now_s - first_s) * TICKS_PER_S) + AHEAD
        ahead = time > latest
        newest = np.maximum.accumulate(np.concatenate([[before], np.where(ahead, before, time)]))[:-1]
        return np.flatnonzero(ahead | (newest - time > LOOK_BACK))

    def _accept(self, words: Words, time: NDArray[np.int64]) -> None:
        if not words.size:
            return
        assert self._first is not None
        if self._in_doubt:
            self._pending.flag((), [(self._sound_tick, max(self._sound_tick, int(time[0]) - self._first[0]))])
            self._in_doubt = False
        low = words.astype(np.uint8)
        events = np.flatnonzero((low & DUMMY) == 0)
        bits = (low[events, None] >> self._bits) & np.uint8(1)
        rows, inputs = np.nonzero(bits)
        self._order.add(time[events][rows] - self._first[0], inputs.astype(np.uint8))
        self._last = max(self._last, int(time.max()))
        del self._bytes[: 8 * words.size]

    def _realign(self) -> None:
        """Goes on where the next words make sense: at one of eight bytes, or after this word."""
        wrong = []
        for shift in range(8):
            time = self._times(self._words(shift, PROOF_WORDS))
            wrong.append(self._wrong(time, self._last, self._last_byte_s).size)
        shift = int(np.argmin(wrong))
        if wrong[shift] > PROOF_WORDS // 4:
            raise ReplyError(self.name, "stream", bytes(self._bytes[:8]))
        del self._bytes[: shift or 8]
        self._pending.flag(("byte_slip" if shift else "discontinuity",))
        self._clean, self._in_doubt = False, True

    def stop(self) -> None:
        """Ends reading; the next ``read`` delivers the rest."""
        with self.transport.lock:
            self._streaming = False
            self._order.release()

    def status(self) -> dict[str, Value]:
        """State with ``clean``: nothing impossible since the status before. Costs nothing."""
        clean, self._clean = self._clean, True
        return {"clean": clean, "streaming": self._streaming, "epoch": self.epoch}

    def snapshot(self) -> dict[str, Value]:
        """The layout; the unit itself cannot be asked."""
        return {"layout": self.layout}
