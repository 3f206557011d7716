"""Drivers of real instruments for qkdpp, and simulated instruments that speak the same bytes.

``transports`` carries bytes; ``instrument`` is the base of every driver;
``taggers``, ``detectors`` and ``optics`` hold one instrument per file; ``sim``
holds the simulated instruments, which share nothing with the drivers.
Of qkdpp only ``qkdpp.core`` is used here (``sim`` may also use the simulator).
"""
