"""Transports by URL.

``serial:///dev/ttyACM0?baud=115200`` (also ``serial://COM3``, ``serial://socket://host:port``), ``tcp://host:port``,
``pipe:///path``, ``visa://TCPIP::host::5025::SOCKET``, ``zmq://host:port``, ``sim://name``.

``sim://name`` asks a simulated laboratory for the real URL: a JSON file that
maps names to URLs, named by ``?lab=path`` or by the environment variable
``QKDPP_LAB``. A laboratory that runs faster or slower than real time adds the
option ``time_factor``, which every transport knows. Other options that a
transport does not know are an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from qkdpp.core.errors import DeviceError
from qkdpp_drivers.transports.base import Transport

LAB_VARIABLE = "QKDPP_LAB"


def split_url(url: str) -> tuple[str, str, dict[str, str]]:
    """Scheme, address and options of an instrument's URL."""
    scheme, colon, rest = url.partition("://")
    if not colon or not rest:
        raise DeviceError(f"{url!r}: not an instrument's URL; write for example serial:///dev/ttyACM0")
    address, _, options = rest.partition("?")
    return scheme, address, dict(parse_qsl(options, keep_blank_values=True))


def resolve(url: str) -> str:
    """The real URL of a ``sim://`` one; any other URL as it is.

    Raises:
        DeviceError: no laboratory is named, it cannot be read, or it has no such instrument.
    """
    scheme, name, options = split_url(url)
    if scheme != "sim":
        return url
    lab = options.pop("lab", os.environ.get(LAB_VARIABLE))
    if lab is None:
        raise DeviceError(f"{url}: which laboratory? set {LAB_VARIABLE} or write sim://{name}?lab=FILE")
    try:
        known = json.loads(Path(lab).read_text(encoding="utf-8"))
        real = known[name]
    except (OSError, ValueError) as error:
        raise DeviceError(f"{url}: cannot read the laboratory {lab} ({error}); is it running?") from error
    except (KeyError, TypeError) as error:
        raise DeviceError(f"{url}: the laboratory {lab} has no instrument {name!r}") from error
    if not options:
        return str(real)
    joined = "&".join(f"{key}={value}" for key, value in options.items())
    return f"{real}{'&' if '?' in real else '?'}{joined}"


LINK_OPTIONS = ("baud", "library", "time_factor")
"""Options of transports; all others of a URL are the driver's."""


def without_driver_options(url: str) -> tuple[str, dict[str, int | float | str]]:
    """A URL (``sim://`` resolved) without the options that are the driver's, and those, numbers as numbers."""
    scheme, address, options = split_url(resolve(url))
    link = "&".join(f"{name}={value}" for name, value in options.items() if name in LINK_OPTIONS)
    own = {name: _as_number(text) for name, text in options.items() if name not in LINK_OPTIONS}
    return f"{scheme}://{address}{'?' if link else ''}{link}", own


def _as_number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def transport_of(url: str, *, baud: int | None = None) -> tuple[Transport, dict[str, str]]:
    """The unopened transport of a URL, and the options that are not the transport's.

    Args:
        url: see the module's description.
        baud: line speed of a serial port where the URL does not state one.
    """
    url = resolve(url)
    scheme, address, options = split_url(url)
    if baud is not None and (scheme == "serial" or address.upper().startswith("ASRL")):
        options.setdefault("baud", str(baud))
    if scheme not in SCHEMES:
        raise DeviceError(f"{url}: unknown transport {scheme!r}; known are {', '.join(SCHEMES)} and sim")
    pace = options.pop("time_factor", None)
    transport = SCHEMES[scheme](address, options)
    if pace is not None:
        transport.time_factor = _pace(pace)
    return transport, options


def open_url(url: str) -> Transport:
    """The transport of a URL, opened.

    Raises:
        DeviceError: the URL or one of its options has no meaning.
        TransportClosed: nothing answers there.
    """
    transport, unknown = transport_of(url)
    if unknown:
        raise DeviceError(f"{url}: unknown option {', '.join(unknown)}")
    transport.open()
    return transport


def _pace(text: str) -> float:
    try:
        pace = float(text)
    except ValueError:
        pace = 0.0
    if not 1e-3 <= pace <= 1e3:
        raise DeviceError(f"option time_factor={text!r}: a number between 0.001 and 1000 is needed")
    return pace


def _number(options: dict[str, str], name: str) -> int | None:
    text = options.pop(name, None)
    if text is None:
        return None
    if not text.isdigit():
        raise DeviceError(f"option {name}={text!r}: a whole number is needed")
    return int(text)


def host_port(address: str) -> tuple[str, int]:
    """``host:port`` (IPv6 hosts in brackets)."""
    try:
        parts = urlsplit(f"//{address}")
        if parts.hostname and parts.port and not parts.path:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise DeviceError(f"{address!r}: host:port is needed")


def _serial(address: str, options: dict[str, str]) -> Transport:
    from qkdpp_drivers.transports.serial_port import SerialTransport

    baud = _number(options, "baud")
    return SerialTransport(address) if baud is None else SerialTransport(address, baud=baud)


def _tcp(address: str, options: dict[str, str]) -> Transport:
    from qkdpp_drivers.transports.tcp import TcpTransport

    return TcpTransport(*host_port(address))


def _pipe(address: str, options: dict[str, str]) -> Transport:
    from qkdpp_drivers.transports.tcp import PipeTransport

    return PipeTransport(address)


def _visa(address: str, options: dict[str, str]) -> Transport:
    from qkdpp_drivers.transports.visa import VisaTransport

    return VisaTransport(address, library=options.pop("library", None), baud=_number(options, "baud"))


def _zmq(address: str, options: dict[str, str]) -> Transport:
    from qkdpp_drivers.transports.zeromq import ZmqTransport

    return ZmqTransport(*host_port(address))


SCHEMES: Mapping[str, Callable[[str, dict[str, str]], Transport]] = {
    "serial": _serial,
    "tcp": _tcp,
    "pipe": _pipe,
    "visa": _visa,
    "zmq": _zmq,
}
