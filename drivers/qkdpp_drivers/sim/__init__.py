"""Simulated instruments that speak the bytes of the real ones.

Each is a class without I/O (``receive``, ``poll``) on an injected clock;
``hosts`` puts one behind a pseudo-terminal, a TCP port or ZeroMQ sockets;
``ports`` says what feeds them. Nothing here imports a driver or a transport, and
nothing of the driver side imports this: bytes are what both share.
"""
