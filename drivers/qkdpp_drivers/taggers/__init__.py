"""Time taggers and counters, one instrument per file."""

DRIVERS: dict[str, str] = {
    "id900": "qkdpp_drivers.taggers.id900:Id900",
    "keysight53230a": "qkdpp_drivers.taggers.keysight53230a:Keysight53230A",
    "lectrotic4": "qkdpp_drivers.taggers.lectrotic4:LectroTic4",
    "raw64": "qkdpp_drivers.taggers.raw64:Raw64",
    "swabian": "qkdpp_drivers.taggers.swabian:SwabianTagger",
    "tdc1": "qkdpp_drivers.taggers.tdc1:Tdc1",
}
"""Name of each driver and where its class is (``module:class``)."""
