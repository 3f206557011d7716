"""Simulated detectors, one per file."""

SIMULATORS: dict[str, tuple[str, str]] = {}
"""Name of each, where its class is (``module:class``), and its host: ``pty``, ``tcp``, ``visa`` or ``zmq``."""
