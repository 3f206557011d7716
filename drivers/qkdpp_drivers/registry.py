"""Drivers by name: those shipped here, and those of packages that offer the entry point group ``qkdpp.drivers``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from qkdpp.core.errors import DeviceError
from qkdpp_drivers import detectors, optics, taggers
from qkdpp_drivers.instrument import Instrument
from qkdpp_drivers.transports.urls import without_driver_options

GROUP = "qkdpp.drivers"
SHIPPED = "qkdpp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One driver that can be had.

    Attributes:
        name: what configurations call it.
        target: ``module:class``.
        origin: the package it comes from.
    """

    name: str
    target: str
    origin: str

    def load(self) -> type[Instrument]:
        """The class.

        Raises:
            DeviceError: its module cannot be imported, or it is no Instrument.
        """
        module, _, attribute = self.target.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise DeviceError(f"driver {self.name} of {self.origin}: cannot load {self.target} ({error})") from error
        if not (isinstance(found, type) and issubclass(found, Instrument)):
            raise DeviceError(f"driver {self.name} of {self.origin}: {self.target} is no Instrument")
        return found


def drivers() -> Mapping[str, Listed]:
    """All drivers by name; a shipped name cannot be taken by another package.

    Raises:
        DeviceError: two packages claim one name.
    """
    tables = (taggers.DRIVERS, detectors.DRIVERS, optics.DRIVERS)
    found = {
        name: Listed(name=name, target=target, origin=SHIPPED) for table in tables for name, target in table.items()
    }
    for point in entry_points(group=GROUP):
        origin = point.dist.name if point.dist is not None else "?"
        if point.name in found:
            raise DeviceError(f"driver {point.name}: claimed by {found[point.name].origin} and by {origin}; remove one")
        found[point.name] = Listed(name=point.name, target=point.value, origin=origin)
    return dict(sorted(found.items()))


def driver(name: str) -> type[Instrument]:
    """The class of one driver; DeviceError names the known ones."""
    known = drivers()
    if name not in known:
        raise DeviceError(f"no driver {name!r}; known are {', '.join(known) or 'none'}")
    return known[name].load()


def instrument(name: str, url: str, /, **options: Any) -> Instrument:
    """The instrument at ``url``, not connected yet.

    Args:
        name: of the driver.
        url: address; options in it that are not the transport's go to the driver's constructor.
        options: further options of the constructor.

    Raises:
        DeviceError: no such driver, a URL or option without meaning, an option missing.
    """
    found = driver(name)
    link, own = without_driver_options(url)
    return found.from_url(link, **(own | options))


def connect(name: str, url: str, /, **options: Any) -> Instrument:
    """As :func:`instrument`, opened, identity checked."""
    made = instrument(name, url, **options)
    made.connect()
    return made
