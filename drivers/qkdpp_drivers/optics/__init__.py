"""Delay generators, polarisation controllers, attenuators, switches, meters: one instrument per file."""

DRIVERS: dict[str, str] = {
    "transmitter": "qkdpp_drivers.optics.transmitter:Transmitter",
    "dg645": "qkdpp_drivers.optics.dg645:Dg645",
    "oz_epc": "qkdpp_drivers.optics.oz_epc:OzEpc",
    "mpc320": "qkdpp_drivers.optics.mpc320:Mpc320",
    "dd100": "qkdpp_drivers.optics.dd100:Dd100",
    "polatis": "qkdpp_drivers.optics.polatis:Polatis",
    "dmm": "qkdpp_drivers.optics.dmm:Dmm",
}
"""Name of each driver and where its class is (``module:class``)."""
