"""Serial ports through pyserial, incl. pseudo-terminals and its own URLs (``socket://host:port``)."""

from __future__ import annotations

from typing import Any

from qkdpp_drivers.errors import TransportClosed
from qkdpp_drivers.transports.base import Transport

WRITE_TIMEOUT_S = 2.0
CHUNK_BYTES = 1 << 16


class SerialTransport(Transport):
    """One serial port, 8N1, raw, without flow control unless ``rtscts`` is set before opening.

    Args:
        port: path, COM name, or a pyserial URL.
        baud: line speed (without meaning on USB and pseudo-terminals).
    """

    def __init__(self, port: str, *, baud: int = 115200) -> None:
        super().__init__(f"serial://{port}")
        self.port, self.baud, self.rtscts = port, baud, False
        self._serial: Any = None

    @property
    def is_open(self) -> bool:
        return self._serial is not None

    def _open(self) -> None:
        import serial

        try:
            self._serial = serial.serial_for_url(
                self.port,
                baudrate=self.baud,
                timeout=0,
                write_timeout=WRITE_TIMEOUT_S,
                rtscts=self.rtscts,
                dsrdtr=False,
            )
        except (OSError, ValueError) as error:
            raise TransportClosed(f"{self.name}: cannot open ({error}); check path, cable and permissions") from error

    def _close(self) -> None:
        port, self._serial = self._serial, None
        if port is not None:
            connection = getattr(port, "_socket", None)  # pyserial forgets to close it where the peer went first
            port.close()
            if connection is not None:
                connection.close()

    def _send(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except OSError as error:
            raise self._lost(error) from error

    def _receive(self, timeout_s: float) -> bytes | None:
        try:
            piece: bytes = self._read(timeout_s)
            return piece or None
        except (OSError, TypeError) as error:  # pyserial reads a port closed meanwhile as None
            raise self._lost(error) from error

    def _read(self, timeout_s: float) -> bytes:
        port = self._serial
        if timeout_s <= 0 or port.in_waiting:
            port.timeout = 0
            found: bytes = port.read(CHUNK_BYTES)
            return found
        port.timeout = timeout_s
        first: bytes = port.read(1)
        if not first:
            return first
        port.timeout = 0
        return first + bytes(port.read(CHUNK_BYTES))
