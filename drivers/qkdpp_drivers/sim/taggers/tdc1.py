"""A simulated S-Fifteen TDC1: text commands, and the stream of 32-bit words with markers every half wrap.

[assumed] marks what the real device leaves open; drivers must not rely on it:
the words of ``*IDN?``, ``REFCLK?``, ``ECLOCK?`` and of errors, and that the
counter starts at 0 with ``COUNTS?``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import PS_PER_S, EdgeSource, PoissonEdges
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, Clock, CommandInstrument

PS_PER_TICK = 2000
WRAP_TICKS = 2**27
FIRST_MARKER_TICKS = 3960
BURST_BYTES = 255

Columns = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Ticks since the start of the stream, and the low five bits of the words."""


class SimTdc1(CommandInstrument):
    """The device.

    Args:
        edges: what comes to its four inputs.
        clock: seconds.
        faults: of ``FAULTS``.
        rng: places the faults.
        pulse_ps: how long an input stays high after an edge.
    """

    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS | {
        "signed_time": "TIME? prints more than 32767 ms as a negative number",
        "byte_slip": "two bytes of the stream are lost",
        "byte_doubled": "two bytes of the stream come twice",
        "overflow": "events are lost and STATUS? says so",
        "gap": "GAP_S of the stream are lost, markers included",
        "held_packet": "words stay in the device until INPKT",
        "stale_text": "half a line is in the way before anybody asks",
        "stalled": "the stream falls silent",
    }
    ENDS: ClassVar[bytes] = b";\r\n"
    REPLY_END: ClassVar[bytes] = b"\r\n"
    GAP_S: ClassVar[float] = 0.7

    def __init__(
        self,
        edges: EdgeSource,
        *,
        clock: Clock,
        faults: Faults,
        rng: np.random.Generator,
        pulse_ps: int = 10_000,
    ) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self.edges, self.pulse_ps = edges, pulse_ps
        self._reset()

    def _reset(self) -> None:
        self._mode, self._gate_ms, self._level, self._reference = 0, 1000, "-0.500", "0"
        self._streaming = False
        self._overflow = False
        self._start_ps = self._next_marker = 0
        self._high_until = np.zeros(4, np.int64)
        self._gap_until_s = -1.0
        self._held = bytearray()
        self._gate: tuple[float, NDArray[np.int64]] | None = None

    def receive(self, data: bytes) -> None:
        """Takes commands; a burst above 255 bytes is lost as a whole."""
        if len(data) <= BURST_BYTES:
            super().receive(data)

    def command(self, text: str) -> None:
        """Obeys one command."""
        word = text.upper()
        queries: dict[str, Callable[[], str]] = {
            "*IDN?": self._identity,
            "MODE?": lambda: str(self._mode),
            "TIME?": self._time_text,
            "LEVEL?": lambda: f"{self._level} V",
            "REFCLK?": lambda: self._reference,
            "ECLOCK?": lambda: "0",
        }
        modes = {"SINGLES": 0, "PAIRS": 1, "TIMESTAMP": 3}
        if word in queries:
            self.say(queries[word]())
        elif word in modes:
            self._mode = modes[word]
        elif word == "STATUS?":
            self.reply(b"%04x \r\n" % (0x10 if self._overflow else 0))
        elif word == "COUNTS?":
            self._begin()
        elif word == "ABORT":
            self._abort()
        elif word == "INPKT":
            self._due.append((self.clock(), bytes(self._held)))
            self._held.clear()
        elif word == "*RST":
            self._reset()
        elif word == "HELP":
            self.say("*IDN? *RST HELP SINGLES\r\nPAIRS TIMESTAMP TIME COUNTS?")
        elif not self._set(word):
            self.say(f"Unknown command: {text}")

    def _set(self, word: str) -> bool:
        head, _, argument = word.partition(" ")
        if head.startswith("TIME") and not argument:
            head, argument = "TIME", head[4:]
        try:
            if word in ("NIM", "TTL"):
                self._level = "-0.500" if word == "NIM" else "1.000"
            elif head == "TIME" and 0 <= int(argument) <= 65535:
                self._gate_ms = int(argument)
            elif head in ("POS", "NEG") and abs(float(argument)) <= 3.3:
                self._level = f"{float(argument):.3f}"
            elif head == "REFCLK" and argument in ("0", "1", "2"):
                self._reference = argument
            else:
                return False
        except ValueError:
            return False
        return True

    def _identity(self) -> str:
        return "Counter Unlimited C4" if "wrong_identity" in self.faults else "S-Fifteen Instruments TDC1 v2"

    def _time_text(self) -> str:
        signed = "signed_time" in self.faults and self._gate_ms > 32767
        return str(self._gate_ms - 65536 if signed else self._gate_ms)

    def _begin(self) -> None:
        now = self.clock()
        self.edges.edges(now)
        self._overflow = False
        if self._mode == 3:
            self._streaming, self._start_ps, self._next_marker = True, round(now * PS_PER_S), 0
            self._high_until[:] = 0
        else:
            self._gate = (now + self._gate_ms / 1000 if self._gate_ms else float("inf"), np.zeros(16, np.int64))

    def _abort(self) -> None:
        if self._streaming:
            self._due.append((self.clock(), self._words() + bytes(self._held)))
            self._held.clear()
        self._streaming, self._gate = False, None

    def poll(self) -> bytes:
        """Replies, then the stream up to now."""
        if "stale_text" in self.faults and not self._streaming:
            self.faults.fires("stale_text")
            self._due.append((self.clock(), b"17 4\r\n203 1"))
        if self._gate is not None:
            self._count()
        out = super().poll()
        return out + self._words() if self._streaming else out

    def _count(self) -> None:
        assert self._gate is not None
        end_s, counts = self._gate
        _, inputs = self.edges.edges(min(self.clock(), end_s))
        counts[:4] += np.bincount(inputs, minlength=4)[:4]
        if self.clock() >= end_s:
            self.say(" ".join(str(n) for n in counts[: 4 if self._mode == 0 else 8]))
            self._gate = None

    def _words(self) -> bytes:
        """The words since the last call, with what the faults make of them."""
        now = self.clock()
        if self._gate_ms and now > (end := self._start_ps / PS_PER_S + self._gate_ms / 1000):
            now, self._streaming = end, False
        times_ps, inputs = self.edges.edges(now)
        ticks, low = _merged(self._events(times_ps, inputs), self._markers(now))
        if self.faults.fires("gap"):
            self._gap_until_s = now + self.GAP_S
        if now < self._gap_until_s or "stalled" in self.faults:
            return b""
        if ticks.size and self.faults.fires("overflow"):
            self._overflow = True
            kept = np.arange(ticks.size) < ticks.size // 2
            ticks, low = ticks[kept | (low == 0x11)], low[kept | (low == 0x11)]
        words = ((ticks % WRAP_TICKS) * 32 + low).astype("<u4").tobytes()
        words = self._slipped(words)
        if "held_packet" in self.faults:
            self._held += words
            return b""
        return words

    def _slipped(self, words: bytes) -> bytes:
        if len(words) < 8:
            return words
        at = int(self.rng.integers(1, len(words) - 3))
        if self.faults.fires("byte_slip"):
            return words[:at] + words[at + 2 :]
        if self.faults.fires("byte_doubled"):
            return words[: at + 2] + words[at:]
        return words

    def _events(self, times_ps: NDArray[np.int64], inputs: NDArray[np.uint8]) -> Columns:
        """One word per tick with an edge, showing all inputs that are high then."""
        since = times_ps - self._start_ps
        ticks = since // PS_PER_TICK
        ticks = ticks[np.diff(ticks, prepend=-1) > 0]
        low = np.zeros(ticks.size, np.int64)
        for number in range(4):
            own = since[inputs == number]
            edge_before = np.searchsorted(own, (ticks + 1) * PS_PER_TICK, side="left") - 1
            last = np.where(edge_before >= 0, own[edge_before] if own.size else 0, -(2**62))
            high_until = np.where(edge_before >= 0, last + self.pulse_ps, self._high_until[number])
            low |= (high_until > ticks * PS_PER_TICK).astype(np.int64) << number
            if own.size:
                self._high_until[number] = own[-1] + self.pulse_ps
        return ticks, low

    def _markers(self, now: float) -> Columns:
        until = (round(now * PS_PER_S) - self._start_ps) // PS_PER_TICK
        end = max(0, -((FIRST_MARKER_TICKS - until) // (WRAP_TICKS // 2)))
        numbers = np.arange(self._next_marker, max(end, self._next_marker))
        self._next_marker = max(end, self._next_marker)
        return FIRST_MARKER_TICKS + numbers * (WRAP_TICKS // 2), np.full(numbers.size, 0x11)


def _merged(events: Columns, markers: Columns) -> Columns:
    ticks = np.concatenate([events[0], markers[0]])
    order = np.argsort(ticks, kind="stable")
    return ticks[order], np.concatenate([events[1], markers[1]])[order]


def alone(clock: Clock, rng: np.random.Generator) -> SimTdc1:
    """One with Poisson events at all inputs."""
    edges = PoissonEdges((2000.0, 2000.0, 1000.0, 500.0), rng)
    return SimTdc1(edges, clock=clock, faults=Faults(SimTdc1.FAULTS), rng=rng)
