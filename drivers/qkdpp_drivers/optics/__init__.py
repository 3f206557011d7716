"""Delay generators, polarisation controllers, attenuators, switches, meters: one instrument per file."""

DRIVERS: dict[str, str] = {}
"""Name of each driver and where its class is (``module:class``)."""
