"""Simulated Thorlabs MPC320: three fibre paddles moved by binary messages.

It sets one knob per paddle, its angle in degrees.

Messages begin with 6 bytes: id (2 bytes, little-endian), then two parameters or a length, destination and source; a
destination with bit 7 set is followed by data. 1370 counts are 170 degrees.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.ports import FixedKnob, Knob
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, Clock, SimulatedInstrument

COUNTS, DEGREES = 1370, 170.0
FULL_SPEED_DEG_PER_S = 400.0
CONNECTED = 0x80000400
_PADDLE = {1: 0, 2: 1, 4: 2}


class SimMpc320(SimulatedInstrument):
    """The controller."""

    LATE_S: ClassVar[float] = 20.0
    FAULTS: ClassVar[dict[str, str]] = COMMON_FAULTS | {
        "noise": "bytes that are no message before an answer",
        "byte_slip": "an answer lacks its first byte",
        "stuck_paddle": "a move is reported complete where it began",
    }

    def __init__(self, knobs: Sequence[Knob], *, clock: Clock, faults: Faults, rng: np.random.Generator) -> None:
        super().__init__(clock=clock, faults=faults, rng=rng)
        if len(knobs) != 3:
            raise ValueError("an MPC320 has three paddles")
        self._knobs = list(knobs)
        self._enabled = [True, True, True]
        self._parameters = [0, 50, 685, 10, 10, 10]
        self._carry = b""
        self._moves: list[tuple[float, Callable[[], bytes]]] = []

    def receive(self, data: bytes) -> None:
        """Take bytes of the host."""
        self._carry += data
        while len(self._carry) >= 6:
            length = struct.unpack_from("<H", self._carry, 2)[0] if self._carry[4] & 0x80 else 0
            if len(self._carry) < 6 + length:
                return
            message, self._carry = self._carry[: 6 + length], self._carry[6 + length :]
            self._act(struct.unpack_from("<H", message)[0], message[2], message[3], message[6:])

    def poll(self) -> bytes:
        """Bytes that are due now."""
        now = self.clock()
        ready = [make for due_s, make in self._moves if due_s <= now]
        self._moves = [item for item in self._moves if item[0] > now]
        for make in ready:
            self._send(make())
        return super().poll()

    def _send(self, message: bytes) -> None:
        if self.faults.fires("byte_slip"):
            message = message[1:]
        if self.faults.fires("noise"):
            message = self.rng.integers(0x90, 0x100, size=9, dtype=np.uint8).tobytes() + message
        self.reply(message)

    def _act(self, number: int, first: int, second: int, data: bytes) -> None:
        if number == 0x0005:
            self._send(self._info())
        elif number == 0x0210 and first in _PADDLE:
            self._enabled[_PADDLE[first]] = second == 1
        elif number == 0x0211 and first in _PADDLE:
            state = 1 if self._enabled[_PADDLE[first]] else 2
            self._send(struct.pack("<HBBBB", 0x0212, first, state, 0x01, 0x50))
        elif number == 0x0443 and first in _PADDLE:
            self._move(first, round(self._parameters[2]), homed=True)
        elif number == 0x0453 and len(data) == 6:
            chan, counts = struct.unpack("<Hi", data)
            if chan in _PADDLE and 0 <= counts <= COUNTS:
                self._move(chan, counts, homed=False)
        elif number == 0x0490 and first in _PADDLE:
            self._send(self._long(0x0491, first))
        elif number == 0x0530 and len(data) == 12:
            self._parameters = list(struct.unpack("<6H", data))
        elif number == 0x0531:
            self._send(struct.pack("<HHBB6H", 0x0532, 12, 0x81, 0x50, *self._parameters))

    def _move(self, chan: int, counts: int, *, homed: bool) -> None:
        knob = self._knobs[_PADDLE[chan]]
        goal_deg = counts * DEGREES / COUNTS
        speed = FULL_SPEED_DEG_PER_S * self._parameters[1] / 100

        def arrive() -> bytes:
            if self._enabled[_PADDLE[chan]] and not self.faults.fires("stuck_paddle"):
                knob.value = goal_deg
            return struct.pack("<HBBBB", 0x0444, chan, 0, 0x01, 0x50) if homed else self._long(0x0464, chan)

        self._moves.append((self.clock() + abs(goal_deg - knob.value) / speed, arrive))

    def _long(self, number: int, chan: int) -> bytes:
        counts = round(self._knobs[_PADDLE[chan]].value * COUNTS / DEGREES)
        return struct.pack("<HHBBHiHHI", number, 14, 0x81, 0x50, chan, counts, 0, 0, CONNECTED)

    def _info(self) -> bytes:
        model = b"KDC101\0\0" if self.faults.fires("wrong_identity") else b"MPC320\0\0"
        body = struct.pack("<I8sHI60sHHH", 38123456, model, 16, 0x00010203, b"", 1, 0, 3)
        return struct.pack("<HHBB", 0x0006, len(body), 0x81, 0x50) + body


def alone(clock: Clock, rng: np.random.Generator) -> SimMpc320:
    """One whose paddles nobody sees."""
    return SimMpc320([FixedKnob() for _ in range(3)], clock=clock, faults=Faults(SimMpc320.FAULTS), rng=rng)
