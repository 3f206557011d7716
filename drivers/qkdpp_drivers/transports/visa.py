"""VISA resources through pyvisa (backend pyvisa-py unless ``PYVISA_LIBRARY`` says otherwise).

Text is read line by line by the resource itself, data by count with the
termination character switched off: bytes that equal a line feed stay data.
After a time-out use ``drain``, which is the device clear.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from qkdpp_drivers.errors import TransportClosed, TransportTimeout
from qkdpp_drivers.transports.base import Transport

MIN_TIMEOUT_MS = 1


class VisaTransport(Transport):
    """One VISA resource.

    Args:
        resource: VISA address, such as ``TCPIP::192.168.0.7::5025::SOCKET``.
        library: pyvisa backend; None takes the environment's, else pyvisa-py.
        baud: line speed of ASRL resources.
    """

    def __init__(self, resource: str, *, library: str | None = None, baud: int | None = None) -> None:
        super().__init__(f"visa://{resource}")
        self.resource_name = resource
        self.library = library or os.environ.get("PYVISA_LIBRARY", "@py")
        self.baud = baud
        self._resource: Any = None

    @property
    def is_open(self) -> bool:
        return self._resource is not None

    def _open(self) -> None:
        import pyvisa

        try:
            self._resource = pyvisa.ResourceManager(self.library).open_resource(self.resource_name)
            if self.baud is not None:
                self._resource.baud_rate = self.baud
        except Exception as error:  # backends raise OSError, VisaIOError and bare Exception here
            raise TransportClosed(f"{self.name}: cannot open ({error}); check address, power and cable") from error

    def _close(self) -> None:
        resource, self._resource = self._resource, None
        if resource is not None:
            resource.close()

    def _send(self, data: bytes) -> None:
        self._guarded(lambda: self._resource.write_raw(data), "write")

    def _receive(self, timeout_s: float) -> bytes | None:
        """One byte is asked for: VISA cannot say how many are there."""
        self._prepare(None, timeout_s)
        try:
            return bytes(self._guarded(lambda: self._resource.read_bytes(1), "nothing"))
        except TransportTimeout:
            return None

    def read_until(self, terminator: bytes, timeout_s: float) -> bytes:
        with self.lock:
            self._require_open()
            line = b""
            deadline = self.now() + timeout_s
            while not line.endswith(terminator):
                self._prepare(terminator[-1:], max(deadline - self.now(), 0.0))
                line += bytes(self._guarded(self._resource.read_raw, f"no {terminator!r} within {timeout_s:g} s"))
            self._logged(line)
            return line.removesuffix(terminator)

    def read_exact(self, n: int, timeout_s: float) -> bytes:
        with self.lock:
            self._require_open()
            self._prepare(None, timeout_s)
            data = bytes(self._guarded(lambda: self._resource.read_bytes(n), f"not {n} bytes within {timeout_s:g} s"))
            self._logged(data)
            return data

    def drain(self, quiet_s: float = 0.01, limit_s: float = 1.0) -> bool:
        with self.lock:
            self._require_open()
            try:
                self._guarded(self._resource.clear, "device clear")
            except NotImplementedError:  # pyvisa-sim
                return super().drain(quiet_s, limit_s)
            return True

    def _prepare(self, end: bytes | None, timeout_s: float) -> None:
        character = None if end is None else end.decode("latin-1")
        if self._resource.read_termination != character:
            self._resource.read_termination = character
        self._resource.timeout = max(MIN_TIMEOUT_MS, round(timeout_s / self.time_factor * 1000))

    def _guarded(self, action: Callable[[], Any], wanted: str) -> Any:
        """Runs a VISA call; its many kinds of failure become TransportTimeout or TransportClosed."""
        import pyvisa

        try:
            return action()
        except pyvisa.errors.VisaIOError as error:
            if error.error_code == pyvisa.constants.StatusCode.error_timeout:
                raise TransportTimeout(f"{self.name}: {wanted}; check power and address, then drain") from error
            raise self._lost(error) from error
        except (OSError, pyvisa.errors.InvalidSession) as error:
            raise self._lost(error) from error
