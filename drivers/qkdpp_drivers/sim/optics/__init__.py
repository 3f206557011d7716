"""Simulated optical instruments, one per file."""

SIMULATORS: dict[str, tuple[str, str]] = {
    "dg645": ("qkdpp_drivers.sim.optics.dg645:alone", "tcp"),
    "oz_epc": ("qkdpp_drivers.sim.optics.oz_epc:alone", "pty"),
    "mpc320": ("qkdpp_drivers.sim.optics.mpc320:alone", "pty"),
    "dd100": ("qkdpp_drivers.sim.optics.dd100:alone", "pty"),
    "polatis": ("qkdpp_drivers.sim.optics.polatis:alone", "tcp"),
    "dmm": ("qkdpp_drivers.sim.optics.dmm:alone", "visa"),
}
"""Name of each, the function ``(clock, rng) -> instrument`` that makes it in a trivial world (``module:function``),
and its host: ``pty``, ``tcp``, ``visa`` or ``zmq``."""
