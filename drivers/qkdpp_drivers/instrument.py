"""The base of every driver: identity, settings with range and read-back, reconnection, snapshot, error queue.

A driver is one class in one file. It says who made the instrument and whether
anybody has run it on hardware, answers ``identify`` and ``snapshot``, and adds
the methods of one protocol of ``qkdpp.core.devices``. Constructing it does
nothing; ``connect`` opens, drains and checks the identity. ``drivers/README.md``
shows how to write one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from inspect import signature
from typing import Any, ClassVar, Self

from qkdpp.core.devices import Value
from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import (
    IdentityError,
    InstrumentError,
    ReplyError,
    SettingError,
    TransportClosed,
    TransportTimeout,
)
from qkdpp_drivers.transports import Transport, transport_of

RESYNCHRONISE_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who answers; fields that an instrument does not tell are empty."""

    vendor: str
    model: str
    serial: str = ""
    firmware: str = ""

    @classmethod
    def of_idn(cls, line: str) -> Identity:
        """From the four comma-separated fields of ``*IDN?`` (missing ones stay empty)."""
        fields = [field.strip() for field in line.split(",")] + [""] * 4
        return cls(vendor=fields[0], model=fields[1], serial=fields[2], firmware=fields[3])


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A number that an instrument can be told.

    Attributes:
        name: what messages call it.
        unit: its unit as text.
        low: lowest allowed value.
        high: highest allowed value.
        tolerance: largest difference between what is set and what is read back.
    """

    name: str
    unit: str
    low: float
    high: float
    tolerance: float = 0.0

    def check(self, device: str, value: float) -> float:
        """The value, if it is allowed; SettingError otherwise."""
        if not self.low <= value <= self.high:
            raise SettingError(
                f"{device}: {self.name} = {value:g} {self.unit} is outside {self.low:g} to {self.high:g} {self.unit}"
            )
        return value

    def verify(self, device: str, wanted: float, found: float) -> float:
        """What was read back, if it is what was set; SettingError otherwise."""
        if not abs(found - wanted) <= self.tolerance:
            raise SettingError(
                f"{device}: {self.name} was set to {wanted:g} {self.unit} but reads {found:g} {self.unit}; "
                "is somebody at its front panel, or is it out of range?"
            )
        return found


class Instrument(ABC):
    """One instrument behind one transport.

    Attributes:
        transport: where its bytes go.
        name: what messages call it.
        epoch: number of the present connection, 1 for the first, 0 before it; state of an earlier epoch is void.
    """

    kind: ClassVar[str]
    """Protocol of ``qkdpp.core.devices`` that it fulfils, such as ``TimeTagger``."""
    vendor: ClassVar[str]
    model: ClassVar[str]
    """Text that the identity must contain (see ``accepts``) and that lists show."""
    transports: ClassVar[tuple[str, ...]]
    """Schemes of URLs that make sense."""
    never_run_on_hardware: ClassVar[bool] = True
    baud: ClassVar[int | None] = None
    """Line speed where the URL does not state one."""

    def __init__(self, transport: Transport, *, name: str | None = None) -> None:
        self.transport = transport
        self.name = name or f"{self.model} at {transport.name}"
        self.epoch = 0

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """An instrument that is not connected yet; DeviceError for options without meaning, or missing ones."""
        transport, unknown = transport_of(url, baud=cls.baud)
        parameters = signature(cls).parameters
        unknown |= {name: "" for name in options if name not in parameters}
        if unknown:
            raise DeviceError(f"{url}: unknown option {', '.join(unknown)}")
        needed = {name for name, each in parameters.items() if each.default is each.empty} - {"transport"}
        if missing := sorted(needed - options.keys()):
            raise DeviceError(f"{url}: {cls.vendor} {cls.model} needs {', '.join(missing)}; add ?{missing[0]}=…")
        return cls(transport, **options)

    @abstractmethod
    def identify(self) -> Identity:
        """Asks the instrument who it is."""

    @abstractmethod
    def snapshot(self) -> dict[str, Value]:
        """All settings, read back; keys carry units."""

    def accepts(self, identity: Identity) -> bool:
        """Whether this driver is made for that instrument."""
        return self.model.lower() in identity.model.lower()

    def errors(self) -> list[str]:
        """What the instrument's own error queue holds, oldest first; it is empty afterwards."""
        return []

    def connect(self) -> Identity:
        """Opens the transport, throws away what is under way, checks the identity, prepares the instrument.

        Raises:
            IdentityError: something else answers.
            TransportClosed: nothing to open.
            TransportTimeout: nothing answers.
        """
        try:
            self.transport.open()
            self._quieten()
            identity = self._checked_identity()
            self._prepare()
        except DeviceError:
            self.transport.close()
            raise
        self.epoch += 1
        return identity

    def reconnect(self, *, tries: int = 1, wait_s: float = 0.5) -> Identity:
        """Closes, opens again, checks the identity again; the epoch number grows.

        Args:
            tries: how often to try.
            wait_s: pause before every further try; doubled each time.
        """
        self.close()
        for attempt in range(tries):
            try:
                return self.connect()
            except (TransportClosed, TransportTimeout):
                if attempt == tries - 1:
                    raise
                self.transport.sleep(wait_s * 2**attempt)
        raise ValueError("tries: at least 1")

    def close(self) -> None:
        """Closes the transport; the instrument keeps its settings."""
        self.transport.close()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _quieten(self) -> None:
        """Makes the instrument silent after opening."""
        self.transport.drain()

    def _prepare(self) -> None:  # noqa: B027 - most instruments need nothing
        """Settings that the driver depends on."""

    def _checked_identity(self) -> Identity:
        identity = self.identify()
        if not self.accepts(identity):
            raise IdentityError(
                f"{self.name}: {identity.vendor} {identity.model} answers, not {self.vendor} {self.model}; "
                "check the address in the configuration"
            )
        return identity


class TextInstrument(Instrument):
    """An instrument of text lines, one line per query.

    After a time-out the late reply would be taken for the answer to the next question, so the next question is
    preceded by draining and a check of the identity.
    """

    send_end: ClassVar[bytes] = b"\n"
    reply_end: ClassVar[bytes] = b"\n"
    timeout_s: ClassVar[float] = 2.0
    encoding: ClassVar[str] = "ascii"
    _is_stale = False

    def tell(self, command: str) -> None:
        """Sends a command that has no reply."""
        with self.transport.lock:
            self._fresh()
            self.transport.write(command.encode(self.encoding) + self.send_end)

    def ask(self, query: str, timeout_s: float | None = None) -> str:
        """Sends a query and returns its line without end and blanks around it.

        Raises:
            ReplyError: the line is not text.
            TransportTimeout: no line in time.
        """
        with self.transport.lock:
            self._fresh()
            return self._ask(query, self.timeout_s if timeout_s is None else timeout_s)

    def ask_number(self, query: str, timeout_s: float | None = None) -> float:
        """The reply as a number; ReplyError if it is none."""
        line = self.ask(query, timeout_s)
        try:
            return float(line)
        except ValueError as error:
            raise ReplyError(self.name, query, line.encode()) from error

    def ask_integer(self, query: str, timeout_s: float | None = None) -> int:
        """The reply as an integer; ReplyError if it is none."""
        line = self.ask(query, timeout_s)
        try:
            return int(line)
        except ValueError as error:
            raise ReplyError(self.name, query, line.encode()) from error

    def identify(self) -> Identity:
        """From ``*IDN?``."""
        return Identity.of_idn(self.ask("*IDN?"))

    def _ask(self, query: str, timeout_s: float) -> str:
        try:
            raw = self.transport.query(query.encode(self.encoding) + self.send_end, self.reply_end, timeout_s)
        except TransportTimeout:
            self._is_stale = True
            raise
        try:
            return raw.decode(self.encoding).strip()
        except UnicodeDecodeError as error:
            raise ReplyError(self.name, query, raw) from error

    def _quieten(self) -> None:
        self._is_stale = False
        self.transport.drain()

    def _fresh(self) -> None:
        if not self._is_stale:
            return
        self._is_stale = False
        for attempt in range(RESYNCHRONISE_TRIES):
            self.transport.drain(quiet_s=0.05)
            try:
                if self.accepts(self.identify()):
                    return
            except (ReplyError, TransportTimeout):
                self._is_stale = False
            if attempt == RESYNCHRONISE_TRIES - 1:
                self._is_stale = True
                raise TransportTimeout(f"{self.name}: no sensible answer any more; check it, then reconnect")

    def _scpi_errors(self, query: str = "SYST:ERR?", limit: int = 50) -> list[str]:
        """Empties a SCPI error queue."""
        found: list[str] = []
        while len(found) < limit:
            line = self.ask(query)
            code, text = scpi_error(self.name, query, line)
            if code == 0:
                break
            found.append(f"{code}: {text}")
        return found

    def _no_errors(self) -> None:
        """InstrumentError if the error queue holds anything."""
        found = self.errors()
        if found:
            code, _, text = found[0].partition(": ")
            raise InstrumentError(self.name, int(code) if code.lstrip("+-").isdigit() else 0, text or found[0])


def scpi_error(device: str, query: str, line: str) -> tuple[int, str]:
    """Code and text of ``-113,"Undefined header"``; ReplyError for anything else."""
    code, _, text = line.partition(",")
    try:
        return int(code), text.strip().strip('"')
    except ValueError as error:
        raise ReplyError(device, query, line.encode()) from error
