"""A simulated ID Quantique ID900: its command tree, and beside it the maker's DataLinkTarget.

[assumed]: the text of replies to set commands, and that raw time stamps of a
record are sent on when it ends, one message per input.
"""

from __future__ import annotations

import json
import re
import shlex
import threading
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import PS_PER_S, EdgeSource, PoissonEdges
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, MESSAGE_FAULTS, Clock, SimulatedInstrument

DEAD_PS = 40_000
INPUTS = (1, 2, 3, 4)
FIRST_RAW_PORT = 5556
NODES = {
    "INPU": "INPUT",
    "DEVI": "DEVICE",
    "DELA": "DELAY",
    "ENAB": "ENABLE",
    "COUP": "COUPLING",
    "EDGE": "EDGE",
    "THRE": "THRESHOLD",
    "SELE": "SELECT",
    "RESY": "RESYNCPOLICY",
    "COUN": "COUNTER",
    "INTE": "INTEGRATIONTIME",
    "MODE": "MODE",
    "RESE": "RESET",
    "RES": "RESOLUTION",
    "BWID": "BWIDTH",
    "SYNC": "SYNC",
    "STATE": "STATE",
    "HIRE": "HIRES",
    "ERRO": "ERROR",
    "ERRORS": "ERRORS",
    "CLEAR": "CLEAR",
    "VALU": "VALUE",
    "INPO": "INPORT",
    "LINK": "LINK",
    "REC": "RECORD",
    "NUM": "NUMBER",
    "DUR": "DURATION",
    "TRIG": "TRIG",
    "ARM": "ARM",
    "STAG": "STAGE",
    "PLAY": "PLAY",
    "STOP": "STOP",
    "REF": "REF",
    "RAW": "RAW",
    "SEND": "SEND",
}
WORDS: dict[str, tuple[str, ...]] = {
    "ENAB": ("ON", "OFF"),
    "SEND": ("ON", "OFF"),
    "COUP": ("DC", "AC"),
    "EDGE": ("RISING", "FALLING"),
    "SELE": ("UNSHAPED", "SHAPED", "LOOP", "OUTPUT"),
    "RESY": ("AUTO", "MANUAL"),
    "COUN:MODE": ("CYCLE", "CYCL", "ACCUM", "ACCU"),
    "ARM:MODE": ("MANUAL", "MANU", "AUTO"),
    "RES": ("LOWRES", "HIRES"),
    "SYNC": ("INTERNAL", "EXTERNAL"),
}


def node(text: str) -> str:
    """One node of a header as its short form with its number; '' if unknown."""
    found = re.fullmatch(r"([A-Z]+)(\d*)", text.upper())
    if found is None:
        return ""
    for short, long in NODES.items():
        if long.startswith(found[1]) and found[1].startswith(short):
            return short + found[2]
    return ""


class SimId900(SimulatedInstrument):
    """The unit: one message in, one message out. A lock lets DataLinkTarget ask it from another thread.

    Args:
        edges: what comes to its inputs 1 to 4 (0 to 3 here).
        clock: seconds.
        faults: of ``FAULTS``.
        rng: not used by the unit itself.
    """

    FAULTS: ClassVar[dict[str, str]] = MESSAGE_FAULTS | {
        "wrong_identity": COMMON_FAULTS["wrong_identity"],
        "scpi_error": "a command is answered by an error text",
        "hires_error": "an input reports a rate above its limit",
        "raw_errors": "raw time stamps were lost on the way out",
    }

    def __init__(self, edges: EdgeSource, *, clock: Clock, faults: Faults, rng: np.random.Generator) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self.edges = edges
        self.lock = threading.RLock()
        self.values: dict[str, str] = {"DEVI:SYNC": "INTERNAL", "DEVI:RES": "LOWRES", "REC:NUM": "1", "REC:DUR": "1E12"}
        for n in INPUTS:
            fields = {"ENAB": "ON", "COUP": "DC", "EDGE": "RISING", "THRE": "0.5", "SELE": "UNSHAPED", "RESY": "AUTO"}
            self.values |= {f"INPU{n}:{key}": value for key, value in fields.items()}
            self.values |= {f"INPU{n}:COUN:INTE": "1000", f"INPU{n}:COUN:MODE": "CYCLE", f"DELA{n}:VALU": "0"}
            self.values |= {f"DELA{n}:INPO:LINK": f"INPU{n}", f"RAW{n}:SEND": "OFF"}
            self.values |= {f"RAW{n}:INPO:REF:LINK": "NONE", f"RAW{n}:INPO:STOP:LINK": f"INPU{n}"}
        self.raw: list[tuple[int, NDArray[np.int64]]] = []
        self._counting: dict[int, tuple[float, int]] = {}
        self._counted = dict.fromkeys(INPUTS, 0)
        self._raw_errors = dict.fromkeys(INPUTS, 0)
        self._hires = dict.fromkeys(INPUTS, 0)
        self._record_ps: int | None = None
        self._records_left = 0.0
        self._stamps: dict[int, list[NDArray[np.int64]]] = {}

    def receive(self, data: bytes) -> None:
        """One message with commands, answered by one message."""
        with self.lock:
            self.reply(self._answered(data))

    def _answered(self, data: bytes) -> bytes:
        self.advance()
        path = ""
        answers = []
        for unit in data.decode("utf-8", "replace").split(";"):
            full = unit.strip()
            full = full[1:] if full.startswith(":") else full if full.startswith("*") else path + full
            path = full.split(" ", 1)[0].rpartition(":")[0]
            path = f"{path}:" if path else ""
            answers.append(self._unit(full))
        return ";".join(answers).encode()

    def poll(self) -> bytes:
        """The reply, if it is due."""
        with self.lock:
            self.advance()
            return super().poll()

    def take_raw(self) -> list[tuple[int, NDArray[np.int64]]]:
        """Time stamps of the records that are over, with their input; each once."""
        with self.lock:
            self.advance()
            raw, self.raw = self.raw, []
        return raw

    def _unit(self, text: str) -> str:
        if self.faults.fires("scpi_error"):
            return f"{text} SCPI_ERR_INVALID_CMD"
        if text.upper() == "*IDN?":
            return "ID Quantique,ID230,1,1" if "wrong_identity" in self.faults else "ID Quantique,ID900,2010042,1.2"
        head, _, argument = text.partition(" ")
        is_query = head.endswith("?")
        nodes = [node(part) for part in head.rstrip("?").split(":")]
        if "" in nodes:
            return f"{head} SCPI_ERR_INVALID_CMD"
        name = ":".join(nodes)
        number = int(re.search(r"\d+", nodes[0])[0]) if re.search(r"\d", nodes[0]) else 0  # type: ignore[index]
        return self._query(name, number) if is_query else self._command(name, number, argument.strip())

    def _query(self, name: str, number: int) -> str:
        block, _, leaf = name.partition(":")
        if leaf == "STATE":
            return self._state(block, number)
        special: dict[str, Any] = {
            "DEVI:RES:BWID": 100 if self.values["DEVI:RES"] == "LOWRES" else 13,
            "REC:STAG": "IDLE" if self._record_ps is None else "PLAYing",
            f"INPU{number}:COUN": self._counted.get(number),
            f"INPU{number}:HIRE:ERRO": self._hires.get(number),
            f"RAW{number}:ERRORS": self._raw_errors.get(number),
        }
        if special.get(name) is not None:
            return str(special[name])
        if name not in self.values:
            return f"{name} SCPI_ERR_INVALID_CMD"
        return self.values[name] + ("TB" if leaf == "VALU" else "")

    def _state(self, block: str, number: int) -> str:
        if block == "DEVI":
            return f"DEVI:SYNC {self.values['DEVI:SYNC']};RES {self.values['DEVI:RES']}"
        if block == f"DELA{number}":
            return f"{block}:VALUE {self.values[f'{block}:VALU']}TB;INPO:LINK {self.values[f'{block}:INPO:LINK']};"
        if block != f"INPU{number}":
            return f"{block}:STATE SCPI_ERR_INVALID_CMD"
        keys = ("ENAB", "COUP", "EDGE", "THRE", "SELE", "RESY", "COUN:INTE", "COUN:MODE")
        fields = [f"{key} {self.values[f'{block}:{key}']}{'V' if key == 'THRE' else ''}" for key in keys]
        return f"{block}:" + ";".join(fields).replace("COUN:MODE", "MODE")

    def _command(self, name: str, number: int, argument: str) -> str:
        if name == f"INPU{number}:COUN:RESE":
            self._counting[number] = (self.clock(), 0)
            self._counted[number] = 0
            return "Counter value set to 0 "
        if name == f"INPU{number}:HIRE:ERRO:CLEAR":
            self._hires[number] = 0
            return "Cleared Highres errors"
        if name == f"RAW{number}:ERRORS:CLEAR":
            self._raw_errors[number] = 0
            return "Cleared raw errors"
        if name == "REC:STOP":
            self._end_record()
            self._record_ps = None
            return "STOP"
        if name == "REC:PLAY":
            self._record_ps = round(self.clock() * PS_PER_S)
            self._records_left = float(self.values["REC:NUM"])
            return "PLAY"
        return self._set(name, argument)

    def _set(self, name: str, argument: str) -> str:
        value = argument.upper()
        choices = next((words for key, words in WORDS.items() if name.endswith(key)), None)
        if choices is not None or name.endswith("LINK"):
            if choices is not None and value not in choices:
                return f"{name} SCPI_ERR_PARAM_TYPE"
        elif name == "REC:NUM" and value in ("INF", "0"):
            value = "inf"
        else:
            found = re.fullmatch(r"([-+0-9.E]+)\s*(MV|V|TB|GTB)?", value)
            if found is None or name not in self.values:
                return f"{name} SCPI_ERR_PARAM_TYPE"
            scale = {"MV": 1e-3, "GTB": 1e9}.get(found[2], 1.0)
            value = f"{float(found[1]) * scale:.12g}"
        self.values[name] = value
        return value

    def advance(self) -> None:
        """Takes the edges up to now into counters and records."""
        now = self.clock()
        if self.faults.fires("hires_error"):
            self._hires[1] = 2
        if self.faults.fires("raw_errors"):
            self._raw_errors[2] = 5
        ends = [now]
        if self._record_ps is not None:
            end_ps = self._record_ps + round(float(self.values["REC:DUR"]))
            while end_ps <= round(now * PS_PER_S) and len(ends) < 1000:
                ends.insert(-1, end_ps / PS_PER_S)
                end_ps += DEAD_PS + round(float(self.values["REC:DUR"]))
        for at, until_s in enumerate(ends):
            self._take(*self.edges.edges(until_s))
            if at < len(ends) - 1 and self._record_ps is not None:
                self._end_record()
        for n, (start_s, counted) in list(self._counting.items()):
            if now - start_s >= float(self.values[f"INPU{n}:COUN:INTE"]) / 1000:
                self._counted[n] = counted
                del self._counting[n]

    def _take(self, times_ps: NDArray[np.int64], inputs: NDArray[np.uint8]) -> None:
        for n in INPUTS:
            own = times_ps[inputs == n - 1] if self.values[f"INPU{n}:ENAB"] == "ON" else times_ps[:0]
            if n in self._counting:
                start_s, counted = self._counting[n]
                window = own[own < round((start_s + float(self.values[f"INPU{n}:COUN:INTE"]) / 1000) * PS_PER_S)]
                self._counting[n] = (start_s, counted + window.size)
            if self._record_ps is not None and self.values[f"RAW{n}:SEND"] == "ON":
                delay = 0
                if self.values[f"RAW{n}:INPO:STOP:LINK"].startswith("DELA"):
                    delay = round(float(self.values[f"DELA{n}:VALU"]))
                within = own - self._record_ps + delay
                self._stamps.setdefault(n, []).append(within[within >= 0])

    def _end_record(self) -> None:
        if self._record_ps is None:
            return
        for n, parts in self._stamps.items():
            stamps = np.concatenate(parts)
            if stamps.size:
                self.raw.append((n, stamps))
        self._stamps = {}
        self._records_left -= 1
        self._record_ps += round(float(self.values["REC:DUR"])) + DEAD_PS
        if self._records_left <= 0:
            self._record_ps = None


class SimDataLinkTarget(SimulatedInstrument):
    """The maker's program: JSON replies on its control port, messages of 64-bit words on the stream ports.

    Args:
        unit: whose raw time stamps it passes on.
        clock: seconds.
        faults: of ``FAULTS``.
        rng: not used.
    """

    FAULTS: ClassVar[dict[str, str]] = MESSAGE_FAULTS | {
        "dlt_error": "a command is answered by an error",
        "stall": "messages stay in the program",
        "missing_end": "the empty message at the end of a stream never comes",
        "cut_message": "a message is three bytes short",
    }

    def __init__(self, unit: SimId900, *, clock: Clock, faults: Faults, rng: np.random.Generator) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        self.unit = unit
        self._running: dict[str, tuple[int, int]] = {}
        self._begun: list[int] = []
        self._ending: list[int] = []
        self._counts: dict[str, int] = {}

    def receive(self, data: bytes) -> None:
        """One command."""
        self.reply(json.dumps(self._obey(shlex.split(data.decode()))).encode())

    def _obey(self, words: list[str]) -> object:
        options = dict(zip(words[1::2], words[2::2], strict=False))
        if self.faults.fires("dlt_error"):
            return {"error": {"description": "No connection to the device"}}
        if words[0] == "start-stream":
            channel = int(options["--channel"])
            each = f"{options['--address']}:{FIRST_RAW_PORT + channel - 1}"
            self._running[each] = (channel, int(options["--stream-port"]))
            self._counts[each] = 0
            port = int(options["--stream-port"])
            self._begun.append(port)
            self._ending = [other for other in self._ending if other != port]
            return {"id": each}
        if words[0] == "list":
            return list(self._running)
        each = options.get("--id", "")
        if each not in self._running:
            return {"error": {"description": f"unknown acquisition {each}"}}
        status = {"acquisitions_count": 1, "errors": [], "inactivity": 0.1, "timestamps_count": self._counts[each]}
        if words[0] == "stop":
            self._ending.append(self._running.pop(each)[1])
            return {"status": status}
        return status

    def streams(self) -> list[tuple[int, bytes | None]]:
        """Messages with the port they go to; None where a stream begins."""
        raw = self.unit.take_raw()
        begun: list[tuple[int, bytes | None]] = [(port, None) for port in self._begun]
        self._begun = []
        found = begun
        if "stall" in self.faults:
            return found
        for channel, stamps in raw:
            for each, (wanted, port) in self._running.items():
                if wanted == channel:
                    data = stamps.astype("<u8").tobytes()
                    found.append((port, data[3:] if self.faults.fires("cut_message") else data))
                    self._counts[each] += stamps.size
        if "missing_end" not in self.faults:
            found += [(port, b"") for port in self._ending]
        self._ending = []
        return found


def alone(clock: Clock, rng: np.random.Generator) -> SimId900:
    """A unit with Poisson events at all inputs (without DataLinkTarget)."""
    edges = PoissonEdges((2000.0, 2000.0, 1000.0, 500.0), rng)
    return SimId900(edges, clock=clock, faults=Faults(SimId900.FAULTS), rng=rng)


def data_link(clock: Clock, rng: np.random.Generator) -> SimDataLinkTarget:
    """DataLinkTarget with a unit of its own."""
    return SimDataLinkTarget(alone(clock, rng), clock=clock, faults=Faults(SimDataLinkTarget.FAULTS), rng=rng)
