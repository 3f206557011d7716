"""What qkdpp expects of instruments: small protocols, and where drivers are found.

Drivers live in the package ``qkdpp_drivers`` and in packages of others (entry
point group ``qkdpp.drivers``). Nothing in qkdpp imports them by name at import
time: :func:`driver_registry` looks for them when somebody asks. Every failure of
an instrument is a :class:`qkdpp.core.errors.DeviceError`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import DeviceError
from qkdpp.core.tags import TimeTags

Value: TypeAlias = str | int | float | bool | None
"""One value of a snapshot; its key carries the unit (``threshold_v``)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """What a time tagger delivered since the read before.

    Attributes:
        tags: events, possibly none; ticks continue over wraps since ``start``. Its ``lost`` intervals may reach back
            before the first tag, into chunks delivered earlier: some instruments tell of a loss only afterwards.
        flags: what happened, of ``FLAGS``; empty in normal running.
    """

    tags: TimeTags
    flags: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing in this chunk speaks of a loss."""
        return not self.flags and not self.tags.lost


FLAGS: dict[str, str] = {
    "overflow": "the instrument dropped events because a buffer was full",
    "byte_slip": "bytes of the stream were lost or doubled; it was aligned again",
    "wrap_ambiguous": "so long a gap that the wraps of the counter had to be taken from the host's clock",
    "discontinuity": "times jumped in a way that the instrument never shows by itself",
    "restart": "the stream was stopped and started; the ticks across the gap come from the host's clock",
    "invalid": "records that mean nothing were skipped",
    "unordered": "events came too late to be put in order and were dropped",
    "reference_lost": "the instrument lost its reference clock and has stopped",
    "stream_error": "the instrument reported an error of its stream",
    "shed": "the computer could not keep up, and a whole interval of all channels was dropped",
    "ended": "the stream is over and will not go on by itself",
}


class TimeTagger(Protocol):
    """Streams detections."""

    def start(self) -> None:
        """Begins a stream; ticks count from here."""

    def stop(self) -> None:
        """Ends the stream; the next ``read`` delivers what was under way, with the final verdict on losses."""

    def read(self, timeout_s: float) -> Chunk:
        """What arrives within ``timeout_s``, earlier when much is there; DeviceError when silent too long, or gone."""

    def reconnect(self) -> object:
        """Opens the connection again; a stream that ran is over."""

    def status(self) -> Mapping[str, Value]:
        """State with ``clean`` (bool): no loss since the status before. May cost a gap: see the driver.

        With the next ``read``, no loss in what was read before can come to light any more; where that holds for a
        part only, ``confirmed_tick`` (int) is its end.
        """


class SinglePhotonDetector(Protocol):
    """A detector or its controller."""

    def set_bias(self, channel: int, value: float) -> float:
        """Sets the bias in the unit of the driver's ``bias_unit``; returns what the instrument reads back."""

    def enable(self, channel: int, on: bool) -> None:
        """Switches detection of one channel."""

    def counts(self, dwell_s: float) -> Mapping[int, int]:
        """Counts per channel within ``dwell_s``."""

    def snapshot(self) -> Mapping[str, Value]:
        """All settings, read back."""


class DetectorBias(Protocol):
    """A bias source of a detector that something else counts."""

    def set_bias(self, channel: int, value: float) -> float:
        """Sets the bias in the unit of the driver's ``bias_unit``; returns what the instrument reads back."""

    def enable(self, channel: int, on: bool) -> None:
        """Switches detection of one channel."""

    def snapshot(self) -> Mapping[str, Value]:
        """All settings, read back."""


class DelayGenerator(Protocol):
    """Electrical delays."""

    def set_delay_ps(self, channel: str, delay_ps: float) -> float:
        """Sets a delay; returns what the instrument reads back."""

    def delay_ps(self, channel: str) -> float:
        """The delay as read back."""


class PolarisationController(Protocol):
    """A few retarders, each moved by one number (volts, or degrees of a paddle)."""

    @property
    def retarders(self) -> Mapping[int, tuple[float, float]]:
        """Number of each retarder with its lowest and highest value."""

    def set_retarder(self, retarder: int, value: float) -> float:
        """Moves one retarder; returns the value read back (or set, where nothing can be read)."""

    def retarder(self, retarder: int) -> float:
        """The present value."""


class Attenuator(Protocol):
    """A variable optical attenuator."""

    def set_attenuation_db(self, attenuation_db: float) -> float:
        """Sets the attenuation; returns what the instrument reads back."""

    def attenuation_db(self) -> float:
        """The attenuation as read back."""


class OpticalSwitch(Protocol):
    """A matrix of fibre ports."""

    def route(self, inlet: int, outlet: int | None) -> None:
        """Connects an input port to an output port, or (None) to nothing."""

    def routes(self) -> Mapping[int, int]:
        """Output port of every connected input port."""


class CurrentMeter(Protocol):
    """Measures the current of a detector (blinding monitor)."""

    def current_a(self) -> float:
        """The present current."""

    def reconnect(self) -> object:
        """Opens the connection again."""


class Transmitter(Protocol):
    """Source of a prepare-and-measure link; it keeps the states it sent (``docs/formats/transmitter.md``)."""

    def configuration(self) -> Mapping[str, Any]:
        """Pulse period, intensities, probabilities, sync period and string, as the unit states them."""

    def send(self, mode: str) -> None:
        """Sends ``H``, ``V``, ``D``, ``A``, ``SYNC`` (sparse bright pulses) or ``OFF``; ends the epoch."""

    def start(self) -> int:
        """Begins an epoch of random states, pulses counted from 0; its number."""

    def state(self) -> tuple[str, int, int]:
        """What is being sent, number of the epoch, pulses sent in it."""

    def lookup(self, epoch: int, slots: NDArray[np.int64]) -> NDArray[np.uint8]:
        """State codes of pulse numbers as uint8[n]; 255 where the unit does not hold one."""

    def totals(self, epoch: int, first: int, count: int, n_codes: int) -> NDArray[np.int64]:
        """Pulses by state code, int64[n_codes], pulses of the synchronisation string left out."""

    def release(self, epoch: int, before: int) -> None:
        """States of earlier pulses will not be asked for again."""

    def reconnect(self) -> object:
        """Opens the connection again."""


class DriverInfo(Protocol):
    """One driver as the registry lists it; the class itself is ``load()``-ed on demand."""

    @property
    def name(self) -> str:
        """Name by which configurations ask for it."""

    @property
    def origin(self) -> str:
        """Package that provides it."""

    def load(self) -> Any:  # noqa: ANN401 - qkdpp does not know the base class of drivers
        """The driver class; DeviceError if its module cannot be imported."""


class DriverRegistry(Protocol):
    """The face of ``qkdpp_drivers.registry``."""

    def drivers(self) -> Mapping[str, DriverInfo]:
        """All drivers by name: those shipped and those of other packages."""

    def connect(self, name: str, url: str, /, **options: Any) -> Any:  # noqa: ANN401
        """Opens ``url`` with the named driver, identity checked; DeviceError otherwise."""


def driver_registry() -> DriverRegistry:
    """The registry of drivers.

    Raises:
        DeviceError: the package ``qkdpp_drivers`` is not installed.
    """
    try:
        return cast(DriverRegistry, importlib.import_module("qkdpp_drivers.registry"))
    except ModuleNotFoundError as error:
        raise DeviceError("qkdpp_drivers: not installed; install it, or the whole of qkdpp, with pip") from error
