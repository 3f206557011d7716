"""Simulated detectors, one per file."""

SIMULATORS: dict[str, tuple[str, str]] = {
    "s15_spd": ("qkdpp_drivers.sim.detectors.s15_spd:alone", "pty"),
    "id120": ("qkdpp_drivers.sim.detectors.id120:alone", "visa"),
    "websq": ("qkdpp_drivers.sim.detectors.websq:alone", "tcp"),
    "quantum_opus": ("qkdpp_drivers.sim.detectors.quantum_opus:alone", "pty"),
}
"""Name of each, the function ``(clock, rng) -> instrument`` that makes it in a trivial world (``module:function``),
and its host: ``pty``, ``tcp``, ``visa`` or ``zmq``."""
