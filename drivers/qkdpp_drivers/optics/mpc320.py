"""Thorlabs MPC320: three motor-driven fibre paddles, binary messages on a serial port with hardware handshake.

Never run on hardware.

A paddle's place is told in counts, 1370 for 170 degrees. A move ends with a message of its own; its end is then
compared with the goal. Bytes that are no message are skipped. Source:
``spec/devices/delay_attenuator_switch_polarization.md`` section 3.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from qkdpp.core.devices import Value
from qkdpp_drivers.errors import ReplyError, SettingError, TransportTimeout
from qkdpp_drivers.instrument import Identity, Instrument, Setting
from qkdpp_drivers.optics.apt_messages import (
    HEADER_BYTES,
    Message,
    PaddleStatus,
    long,
    read_header,
    read_info,
    read_status,
    short,
)
from qkdpp_drivers.transports.serial_port import SerialTransport

REQUEST_INFO, INFO = 0x0005, 0x0006
SET_ENABLED, REQUEST_ENABLED, ENABLED = 0x0210, 0x0211, 0x0212
HOME, HOMED = 0x0443, 0x0444
MOVE, MOVED = 0x0453, 0x0464
REQUEST_STATUS, STATUS = 0x0490, 0x0491
SET_PARAMETERS, REQUEST_PARAMETERS, PARAMETERS = 0x0530, 0x0531, 0x0532
COUNTS, DEGREES = 1370, 170.0
MASKS = {1: 1, 2: 2, 3: 4}
ANGLE = Setting(name="angle_deg", unit="degrees", low=0.0, high=DEGREES, tolerance=1.01 * DEGREES / COUNTS)
VELOCITY = Setting(name="velocity_percent", unit="%", low=10, high=100)


class Mpc320(Instrument):
    """The controller; retarders 1 to 3 in degrees of the paddle, set in steps of 0.124 degrees."""

    kind: ClassVar[str] = "PolarisationController"
    vendor: ClassVar[str] = "Thorlabs"
    model: ClassVar[str] = "MPC320"
    transports: ClassVar[tuple[str, ...]] = ("serial",)
    baud: ClassVar[int | None] = 115200
    reply_s: ClassVar[float] = 1.0
    move_s: ClassVar[float] = 10.0
    retarder_unit: ClassVar[str] = "degrees"

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """As for every instrument; a serial port is opened with RTS/CTS."""
        made = super().from_url(url, **options)
        if isinstance(made.transport, SerialTransport):
            made.transport.rtscts = True
        return made

    def identify(self) -> Identity:
        """From the information message."""
        data = self._ask(short(REQUEST_INFO), INFO, None, self.reply_s).data
        try:
            serial, model, firmware = read_info(data)
        except ValueError as error:
            raise ReplyError(self.name, "info", data) from error
        return Identity(vendor=self.vendor, model=model, serial=str(serial), firmware=f"{firmware:08x}")

    @property
    def retarders(self) -> Mapping[int, tuple[float, float]]:
        """Range of each paddle."""
        return dict.fromkeys(MASKS, (ANGLE.low, ANGLE.high))

    def set_retarder(self, retarder: int, value: float) -> float:
        """Turns one paddle and waits for the end of the move; returns the angle read back.

        Raises:
            SettingError: no such paddle, out of range, or it stands elsewhere.
            TransportTimeout: the move does not end within ``move_s``.
        """
        mask = self._mask(retarder)
        goal = round(ANGLE.check(self.name, value) * COUNTS / DEGREES)
        with self.transport.lock:
            self._ask(long(MOVE, struct.pack("<Hi", mask, goal)), MOVED, mask, self.move_s)
            return ANGLE.verify(self.name, value, self.retarder(retarder))

    def retarder(self, retarder: int) -> float:
        """Angle of one paddle."""
        return self._status(retarder).position_counts * DEGREES / COUNTS

    def home(self, retarder: int) -> float:
        """Finds the home position of one paddle; the angle there."""
        mask = self._mask(retarder)
        with self.transport.lock:
            self._ask(short(HOME, mask), HOMED, mask, self.move_s)
            return self.retarder(retarder)

    def enable(self, retarder: int, on: bool) -> None:
        """Switches one motor."""
        mask = self._mask(retarder)
        with self.transport.lock:
            self.transport.write(short(SET_ENABLED, mask, 1 if on else 2))
            if self._enabled(mask) is not on:
                raise SettingError(f"{self.name}: paddle {retarder} was switched {'on' if on else 'off'} in vain")

    def set_velocity_percent(self, velocity_percent: int) -> int:
        """Sets the speed of all paddles; the other parameters keep their values."""
        VELOCITY.check(self.name, velocity_percent)
        with self.transport.lock:
            parameters = self._parameters()
            parameters[1] = velocity_percent
            self.transport.write(long(SET_PARAMETERS, struct.pack("<6H", *parameters)))
            return round(VELOCITY.verify(self.name, velocity_percent, self._parameters()[1]))

    def snapshot(self) -> dict[str, Value]:
        """Angles, enabled motors and speed."""
        found: dict[str, Value] = {f"paddle_{n}_deg": self.retarder(n) for n in MASKS}
        found |= {f"enabled_{n}": self._enabled(mask) for n, mask in MASKS.items()}
        return found | {"velocity_percent": self._parameters()[1]}

    def _mask(self, retarder: int) -> int:
        if retarder not in MASKS:
            raise SettingError(f"{self.name}: retarder = {retarder}: paddles are 1 to 3")
        return MASKS[retarder]

    def _status(self, retarder: int) -> PaddleStatus:
        mask = self._mask(retarder)
        data = self._ask(short(REQUEST_STATUS, mask), STATUS, mask, self.reply_s).data
        try:
            return read_status(data)
        except ValueError as error:
            raise ReplyError(self.name, "status", data) from error

    def _enabled(self, mask: int) -> bool:
        return self._ask(short(REQUEST_ENABLED, mask), ENABLED, mask, self.reply_s).second == 1

    def _parameters(self) -> list[int]:
        data = self._ask(short(REQUEST_PARAMETERS), PARAMETERS, None, self.reply_s).data
        if len(data) != 12:
            raise ReplyError(self.name, "parameters", data)
        return list(struct.unpack("<6H", data))

    def _ask(self, request: bytes, number: int, channel: int | None, timeout_s: float) -> Message:
        """Sends a request and returns the message with that number (and channel); what came before is thrown away.

        Raises:
            TransportTimeout: no such message; ReplyError if bytes came that are no message.
        """
        with self.transport.lock:
            self.transport.read_available()
            self.transport.write(request)
            end_s = self.transport.now() + timeout_s
            skipped = bytearray()
            try:
                while True:
                    message = self._read(end_s, skipped)
                    if message.number == number and channel in (None, _channel_of(message)):
                        return message
            except TransportTimeout as error:
                if skipped:
                    raise ReplyError(self.name, f"message {number:#06x}", bytes(skipped)) from error
                raise

    def _read(self, end_s: float, skipped: bytearray) -> Message:
        """The next message; bytes that cannot begin one go to ``skipped``."""
        raw = self.transport.read_exact(HEADER_BYTES, self._left(end_s))
        while not (header := read_header(raw)).plausible:
            skipped += raw[:1]
            raw = raw[1:] + self.transport.read_exact(1, self._left(end_s))
        data = self.transport.read_exact(header.data_bytes, self._left(end_s)) if header.data_bytes else b""
        return Message(number=header.number, first=header.first, second=header.second, data=data)

    def _left(self, end_s: float) -> float:
        return max(0.0, end_s - self.transport.now())


def _channel_of(message: Message) -> int:
    return struct.unpack_from("<H", message.data)[0] if len(message.data) >= 2 else message.first
