"""Single-photon detectors and their controllers, one instrument per file."""

DRIVERS: dict[str, str] = {}
"""Name of each driver and where its class is (``module:class``)."""
