"""Delay generators, polarisation controllers, attenuators, switches, meters: one instrument per file."""

DRIVERS: dict[str, str] = {
    "transmitter": "qkdpp_drivers.optics.transmitter:Transmitter",
}
"""Name of each driver and where its class is (``module:class``)."""
