"""A simulated Keysight 53230A: a SCPI parser with error queue, and readings made from the edges at its two inputs.

TST tells when edges came, TINT the time from an edge at input 1 to the next at
input 2, FREQ and PER the mean rate between the first and the last edge of a
gate.

[assumed]: depth of the error queue, the words for a full memory, that a
removal too early after INIT leaves an entry and no reply, and that a gate goes
on until it holds two edges.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import PS_PER_S, EdgeSource, PoissonEdges
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, Clock, CommandInstrument

JITTER_S = 2e-11
LOOK_S = 0.005
"""It looks at its inputs so often."""
EARLIEST_S = 0.02
MEMORY = 1_000_000
QUEUE = 20
FOUR = (
    *("FUNCTION", "COUPLING", "RANGE", "SLOPE", "FILTER", "NREJECT", "TRIGGER", "SOURCE", "COUNT", "SAMPLE"),
    *("INITIATE", "FETCH", "ABORT", "POINTS", "FORMAT", "BORDER", "SYSTEM", "FREQUENCY"),
)
THREE = ("IMPEDANCE", "LEVEL", "DELAY", "IMMEDIATE", "REMOVE", "ERROR")
SHORT = {word: word[:4] for word in FOUR} | {word: word[:3] for word in THREE}
CHOICES: dict[str, tuple[str, ...]] = {
    "COUP": ("AC", "DC"),
    "SLOP": ("POS", "NEG"),
    "BORD": ("NORM", "SWAP"),
    "SOUR": ("IMM", "EXT", "BUS"),
    "AUTO": ("0", "1"),
    "FILT": ("0", "1"),
    "NREJ": ("0", "1"),
}
LIMITS: dict[str, tuple[float, float]] = {
    "LEV": (-5.125, 5.125),
    "IMP": (50.0, 1e6),
    "RANG": (5.0, 50.0),
    "SAMP:COUN": (1, 1e6),
    "TRIG:COUN": (1, 1e6),
    "TRIG:DEL": (0, 3600),
    "FREQ:GATE:TIME": (1e-6, 1000),
    "TST:RATE": (1, 1e6),
}
DEFAULTS: dict[str, str] = {
    "FUNC": '"FREQ"',
    "FORM": "ASC,15",
    "FORM:BORD": "NORM",
    "TRIG:SOUR": "IMM",
    "TRIG:COUN": "1",
    "TRIG:DEL": "0",
    "TRIG:SLOP": "NEG",
    "SAMP:COUN": "1",
    "FREQ:GATE:TIME": "0.1",
    "TST:RATE": "1e6",
} | {
    f"INP{number}:{key}": value
    for number in (1, 2)
    for key, value in {
        "COUP": "AC",
        "IMP": "1e6",
        "LEV": "0",
        "LEV:AUTO": "1",
        "RANG": "5",
        "SLOP": "POS",
        "FILT": "0",
        "NREJ": "0",
    }.items()
}
NONE = np.empty(0, np.int64)
FUNCTIONS = re.compile(r"(FREQ( 2)?|PER [12]|TINT( 1,2)?|TST [12])")


def header(text: str) -> str:
    """A header in short form, ``INP1`` for ``INP``."""
    nodes = []
    for node in text.upper().split(":"):
        bare = node.rstrip("?")
        short = SHORT.get(bare, bare).replace("INPUT", "INP") + node[len(bare) :]
        nodes.append("INP1" if short == "INP" else short)
    return ":".join(nodes)


class Sim53230A(CommandInstrument):
    """The counter.

    Args:
        edges: edges at inputs 1 and 2 (0 and 1 here).
        clock: seconds.
        faults: of ``FAULTS``.
        rng: jitter of TINT, FREQ and PER.
    """

    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS | {
        "memory_overflow": "the memory of readings is full: an entry in the error queue, and loss",
        "local_change": "somebody chooses another function at the front panel",
    }

    def __init__(self, edges: EdgeSource, *, clock: Clock, faults: Faults, rng: np.random.Generator) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self.edges = edges
        self._looked_s = 0.0
        self._errors: deque[str] = deque()
        self._lines: deque[str] = deque()
        self._waiting: tuple[int, list[bytes], str] | None = None
        self._settings = dict(DEFAULTS)
        self._stop()

    def _stop(self) -> None:
        self._readings = np.empty(0, np.float64)
        self._done = self._wanted = 0
        self._begun_s: float | None = None
        self._gate_ps = 0
        self._times = [NONE, NONE]
        self._armed = False

    def _fail(self, entry: str) -> None:
        if len(self._errors) < QUEUE:
            self._errors.append(entry)

    def command(self, text: str) -> None:
        """Takes one line; it waits while an earlier one does, unless it interrupts it."""
        if self._waiting is not None:
            self._waiting = None
            self._fail('-410,"Query INTERRUPTED"')
        self._lines.append(text)
        self._work()

    def poll(self) -> bytes:
        """Replies that are due, and those that waited for readings."""
        self._work()
        return super().poll()

    def _work(self) -> None:
        self._advance()
        if self._waiting is not None:
            n, replies, rest = self._waiting
            if self._readings.size < n:
                return
            self._waiting = None
            replies.append(self._removed(n))
            self._line(rest, replies)
        while self._lines and self._waiting is None:
            self._line(self._lines.popleft(), [])

    def _line(self, text: str, replies: list[bytes]) -> None:
        """Obeys the units of one line; replies go out together when the line is through."""
        path = ""
        while text:
            unit, _, text = text.partition(";")
            unit = unit.strip()
            if not unit:
                continue
            full = unit[1:] if unit.startswith(":") else unit if unit.startswith("*") else path + unit
            if not unit.startswith("*"):
                path = full.split(" ", 1)[0].rpartition(":")[0]
                path = f"{path}:" if path else ""
            answer = self._unit(full)
            if isinstance(answer, int):
                self._waiting = (answer, replies, text)
                return
            if answer is not None:
                replies.append(answer)
        if replies:
            self.reply(b";".join(replies) + b"\n")

    def _unit(self, unit: str) -> bytes | int | None:
        """Obeys one command; an integer means: wait for so many readings."""
        head, _, argument = unit.partition(" ")
        name, argument = header(head), argument.strip()
        actions: dict[str, Callable[[str], bytes | int | None]] = {
            "*IDN?": lambda _: self._identity(),
            "*OPC?": lambda _: b"1",
            "*LRN?": lambda _: ";".join(f":{key} {value}" for key, value in self._settings.items()).encode(),
            "*RST": lambda _: self._power_on(),
            "*CLS": lambda _: self._errors.clear(),
            "*WAI": lambda _: None,
            "*TRG": lambda _: self._trigger(),
            "SYST:ERR?": lambda _: (self._errors.popleft() if self._errors else '+0,"No error"').encode(),
            "INIT": lambda _: self._init(),
            "INIT:IMM": lambda _: self._init(),
            "ABOR": lambda _: self._abort(),
            "READ?": lambda _: self._read(),
            "FETC?": lambda _: self._fetch(),
            "R?": self._remove_now,
            "DATA:REM?": self._remove_when_there,
            "DATA:POIN?": lambda _: f"{self._readings.size:+d}".encode(),
        }
        if name in actions:
            return actions[name](argument)
        if name.endswith("?"):
            return self._setting(name[:-1])
        self._set(name, argument)
        return None

    def _identity(self) -> bytes:
        model = "53220A" if "wrong_identity" in self.faults else "53230A"
        return f"Agilent Technologies,{model},MY00000001,02.05-1519.666-1.19-4.15".encode()

    def _power_on(self) -> None:
        self._settings = dict(DEFAULTS)
        self._stop()

    def _setting(self, name: str) -> bytes | None:
        if self.faults.fires("local_change"):
            self._settings["FUNC"] = '"PER 1"'
        if name not in self._settings:
            self._fail('-113,"Undefined header"')
            return None
        value = self._settings[name]
        leaf = name.rpartition(":")[2]
        is_number = name in LIMITS or leaf in LIMITS
        return (f"{float(value):+.14E}" if is_number else value).encode()

    def _set(self, name: str, argument: str) -> None:
        leaf = name.rpartition(":")[2]
        limits = LIMITS.get(name, LIMITS.get(leaf) if name.startswith("INP") else None)
        value = argument.upper().replace("'", '"')
        if name not in self._settings:
            self._fail('-113,"Undefined header"')
        elif not value:
            self._fail('-109,"Missing parameter"')
        elif limits is not None:
            words = {"MIN": limits[0], "MAX": limits[1], "DEF": float(DEFAULTS[name])}
            try:
                number = words.get(value, float(value) if value not in words else 0.0)
            except ValueError:
                self._fail('-224,"Illegal parameter value"')
                return
            if limits[0] <= number <= limits[1]:
                self._settings[name] = repr(number)
            else:
                self._fail('-222,"Data out of range"')
        elif self._allowed(name, leaf, value):
            self._settings[name] = '"TINT 1,2"' if value == '"TINT"' else value
        else:
            self._fail('-224,"Illegal parameter value"')

    @staticmethod
    def _allowed(name: str, leaf: str, value: str) -> bool:
        if name == "FUNC":
            return FUNCTIONS.fullmatch(value.strip('"')) is not None and value.startswith('"')
        if name == "FORM":
            return value in ("ASC", "ASC,15", "REAL,64")
        return value in CHOICES.get(leaf, ())

    def _init(self) -> None:
        if self._armed or self._done < self._wanted:
            self._fail('-213,"Init ignored"')
            return
        self._stop()
        self._armed = True
        if self._settings["TRIG:SOUR"] == "IMM":
            self._trigger()

    def _trigger(self) -> None:
        if not self._armed:
            return
        self._armed = False
        self._wanted = round(float(self._settings["SAMP:COUN"]) * float(self._settings["TRIG:COUN"]))
        self._begun_s = self.clock()
        self._gate_ps = round(self._begun_s * PS_PER_S)

    def _abort(self) -> None:
        self._armed, self._wanted = False, self._done

    def _advance(self) -> None:
        """Takes the readings that are due; what comes while nothing is measured is gone."""
        if self.clock() < self._looked_s + LOOK_S:
            return
        self._looked_s = self.clock()
        times_ps, inputs = self.edges.edges(self._looked_s)
        if self._begun_s is None or self._done >= self._wanted:
            return
        recent = times_ps >= round(self._begun_s * PS_PER_S)
        self._times = [np.concatenate([self._times[n], times_ps[recent & (inputs == n)]]) for n in (0, 1)]
        fresh = self._taken()[: self._wanted - self._done]
        self._done += fresh.size
        if fresh.size and (self.faults.fires("memory_overflow") or self._readings.size + fresh.size > MEMORY):
            self._fail('+321,"Reading memory overflow"')
            fresh = fresh[: fresh.size // 2]
        self._readings = np.concatenate([self._readings, fresh])

    def _taken(self) -> NDArray[np.float64]:
        function = self._settings["FUNC"].strip('"')
        if function.startswith("TINT"):
            return self._intervals()
        number = 1 if "2" in function else 0
        own, self._times = self._times[number], [NONE, NONE]
        if function.startswith("TST"):
            assert self._begun_s is not None
            return np.asarray((own - round(self._begun_s * PS_PER_S)) / PS_PER_S)
        periods, self._times[number] = self._gates(own)
        return np.array(periods if function.startswith("PER") else [1.0 / period for period in periods])

    def _intervals(self) -> NDArray[np.float64]:
        """From the first edge at input 1 to the next at input 2, and so on; a start without an end waits."""
        one, two = self._times
        ends, starts = np.unique(np.searchsorted(two, one), return_index=True)
        self._times = [one[np.searchsorted(two, one) == two.size], NONE]
        starts, ends = starts[ends < two.size], ends[ends < two.size]
        return np.asarray((two[ends] - one[starts]) / PS_PER_S + self.rng.normal(size=ends.size) * JITTER_S)

    def _gates(self, own: NDArray[np.int64]) -> tuple[list[float], NDArray[np.int64]]:
        """Mean periods of the gates that are over, in seconds, and the edges left."""
        gate_ps = round(float(self._settings["FREQ:GATE:TIME"]) * PS_PER_S)
        periods: list[float] = []
        while own.size >= 2 and len(periods) < self._wanted - self._done:
            end_ps = max(self._gate_ps + gate_ps, int(own[1]) + 1)
            if end_ps > self._looked_s * PS_PER_S:
                break
            n = int(np.searchsorted(own, end_ps))
            mean_s = float(own[n - 1] - own[0]) / (n - 1) / PS_PER_S
            periods.append(mean_s + float(self.rng.normal()) * JITTER_S / (n - 1))
            own, self._gate_ps = own[n:], end_ps
        return periods, own

    def _read(self) -> int | None:
        self._init()
        return self._fetch()

    def _fetch(self) -> int | None:
        if not self._wanted:
            self._fail('-230,"Data corrupt or stale"')
            return None
        return self._wanted

    def _remove_now(self, argument: str) -> bytes:
        n = int(float(argument)) if argument else self._readings.size
        return self._removed(min(n, self._readings.size), definite=True)

    def _remove_when_there(self, argument: str) -> bytes | int | None:
        n, _, wait = argument.partition(",")
        if self._begun_s is None or self.clock() - self._begun_s < EARLIEST_S:
            self._fail('-230,"Data corrupt or stale"')
            return None
        self._is_definite = True
        if wait.strip().upper() == "WAIT":
            return int(float(n))
        return self._remove_now(n)

    _is_definite = False

    def _removed(self, n: int, *, definite: bool = False) -> bytes:
        values, self._readings = self._readings[:n], self._readings[n:]
        definite, self._is_definite = definite or self._is_definite, False
        if self._settings["FORM"] != "REAL,64":
            return ",".join(f"{value:+.14E}" for value in values).encode()
        data = values.astype(">f8" if self._settings["FORM:BORD"] == "NORM" else "<f8").tobytes()
        if definite:
            return b"#%d%d" % (len(str(len(data))), len(data)) + data
        return data if n == 1 else b"#0" + data


def alone(clock: Clock, rng: np.random.Generator) -> Sim53230A:
    """One with Poisson edges at both inputs."""
    edges = PoissonEdges((1000.0, 1000.0), rng)
    return Sim53230A(edges, clock=clock, faults=Faults(Sim53230A.FAULTS), rng=rng)
