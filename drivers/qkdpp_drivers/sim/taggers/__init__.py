"""Simulated taggers, one per file."""

SIMULATORS: dict[str, tuple[str, str]] = {
    "id900": ("qkdpp_drivers.sim.taggers.id900:alone", "zmq"),
    "data_link_target": ("qkdpp_drivers.sim.taggers.id900:data_link", "zmq"),
    "keysight53230a": ("qkdpp_drivers.sim.taggers.keysight53230a:alone", "visa"),
    "lectrotic4": ("qkdpp_drivers.sim.taggers.lectrotic4:alone", "pty"),
    "raw64": ("qkdpp_drivers.sim.taggers.raw64:alone", "tcp"),
    "tdc1": ("qkdpp_drivers.sim.taggers.tdc1:alone", "pty"),
}
"""Name of each, the function ``(clock, rng) -> instrument`` that makes it in a trivial world (``module:function``),
and its host: ``pty``, ``tcp``, ``visa`` or ``zmq``."""
