"""A simulated transmitter unit: the bytes of ``docs/formats/transmitter.md`` before an optical world."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qkdpp.sources.prepared_states import NOT_HELD
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, Clock, SimulatedInstrument
from qkdpp_drivers.sim.world.light import Mode

if TYPE_CHECKING:
    from qkdpp_drivers.sim.world.pulsed import PulsedWorld

MOST_SLOTS = 1 << 24


class SimTransmitter(SimulatedInstrument):
    """Alice's source.

    Args:
        world: what it sends its light into.
        clock: seconds of laboratory time.
        faults: its switches.
    """

    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS | {
        "forgets": "the states are lost: every lookup answers 255",
        "refuses": "every command but the question for identity ends in an error",
    }

    def __init__(self, world: PulsedWorld, *, clock: Clock, faults: Faults) -> None:
        super().__init__(clock=clock, faults=faults, rng=np.random.default_rng(0))
        self.world = world
        self._in = bytearray()
        self._wanted: tuple[int, int] | None = None

    def receive(self, data: bytes) -> None:
        """Takes bytes of the host."""
        self._in += data
        while self._step():
            pass

    def _step(self) -> bool:
        if self._wanted is not None:
            epoch, n = self._wanted
            if len(self._in) < 8 * n:
                return False
            data, self._in, self._wanted = bytes(self._in[: 8 * n]), self._in[8 * n :], None
            self._answer_states(epoch, data)
            return True
        line, newline, rest = self._in.partition(b"\n")
        if not newline:
            return False
        self._in = bytearray(rest)
        try:
            self._command(line.decode("ascii").strip().split())
        except (ValueError, IndexError):
            self._say("ERR 2 bad argument")
        return True

    def _say(self, line: str, data: bytes = b"") -> None:
        self.reply(line.encode("ascii") + b"\n" + data)

    def _command(self, words: list[str]) -> None:
        if not words:
            return
        name, arguments = words[0].upper(), words[1:]
        actions: dict[str, Callable[[list[str]], None]] = {
            "*IDN?": self._identity,
            "CONF?": self._configuration,
            "STATE?": self._state,
            "MODE": self._mode,
            "START": self._start,
            "STOP": self._stop,
            "LOOKUP": self._lookup,
            "TOTALS": self._totals,
            "RELEASE": self._release,
        }
        if "refuses" in self.faults and name != "*IDN?":
            self._say("ERR 9 not now")
        elif name not in actions:
            self._say("ERR 1 unknown command")
        else:
            with self.world.lock:
                self.world.advance(self.clock())
                actions[name](arguments)

    def _identity(self, _: list[str]) -> None:
        self._say("acme,lamp,7,1" if self.faults.fires("wrong_identity") else "qkdpp,transmitter,SIM001,1.0")

    def _configuration(self, _: list[str]) -> None:
        header, string = self.world.header, self.world.header.sync_string
        fields: dict[str, object] = {
            "pulse_period_as": header.pulse_period_as,
            "intensities": header.intensities,
            "p_intensity": header.p_intensity,
            "p_z": header.p_z,
            "sync_period_pulses": self.world.sync.period_pulses,
        }
        if string is not None:
            fields["sync_string"] = {"seed": string.seed.hex(), "length": string.length, "frame": string.frame}
        self._say("OK " + json.dumps(fields, separators=(",", ":")))

    def _state(self, _: list[str]) -> None:
        self._say(f"OK {self.world.mode.name} {self.world.epoch} {self.world.pulses()}")

    def _mode(self, arguments: list[str]) -> None:
        name = arguments[0].upper()
        if name not in Mode.__members__ or name == Mode.RANDOM.name:
            self._say("ERR 2 no such mode")
            return
        self.world.send(Mode[name])
        self._say("OK")

    def _start(self, _: list[str]) -> None:
        self._say(f"OK {self.world.send(Mode.RANDOM)}")

    def _stop(self, _: list[str]) -> None:
        self.world.send(Mode.OFF)
        self._say("OK")

    def _lookup(self, arguments: list[str]) -> None:
        epoch, n = int(arguments[0]), int(arguments[1])
        if not 0 <= n <= MOST_SLOTS:
            self._say("ERR 2 too many slots")
            return
        self._wanted = (epoch, n)

    def _answer_states(self, epoch: int, data: bytes) -> None:
        slots = np.frombuffer(data, dtype="<u8").astype(np.int64)
        codes = np.full(slots.size, NOT_HELD, dtype=np.uint8)
        if epoch == self.world.epoch and "forgets" not in self.faults:
            codes = self.world.lookup(slots)
        self._say(f"OK {codes.size}", codes.tobytes())

    def _totals(self, arguments: list[str]) -> None:
        epoch, first, count = (int(a) for a in arguments)
        if epoch != self.world.epoch or first < 0 or not 0 < count <= self.world.pulses() - first:
            self._say("ERR 3 not all of these pulses were sent")
            return
        totals = self.world.totals(first, count)
        self._say(f"OK {totals.size}", totals.astype("<i8").tobytes())

    def _release(self, arguments: list[str]) -> None:
        if int(arguments[0]) > self.world.epoch or int(arguments[1]) < 0:
            self._say("ERR 2 bad argument")
            return
        self._say("OK")
