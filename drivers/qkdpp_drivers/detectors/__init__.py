"""Single-photon detectors and their controllers, one instrument per file."""

DRIVERS: dict[str, str] = {
    "s15_spd": "qkdpp_drivers.detectors.s15_spd:S15Spd",
    "id120": "qkdpp_drivers.detectors.id120:Id120",
    "websq": "qkdpp_drivers.detectors.websq:WebSq",
    "quantum_opus": "qkdpp_drivers.detectors.quantum_opus:QuantumOpus",
}
"""Name of each driver and where its class is (``module:class``)."""
