"""Transports: bytes to and from an instrument, opened by URL. Nothing here knows any instrument."""

from qkdpp_drivers.transports.base import Transport
from qkdpp_drivers.transports.memory import ManualClock, MemoryTransport
from qkdpp_drivers.transports.urls import open_url, transport_of

__all__ = ["ManualClock", "MemoryTransport", "Transport", "open_url", "transport_of"]
