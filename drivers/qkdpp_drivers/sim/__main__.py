"""Runs one simulated instrument by hand: ``python -m qkdpp_drivers.sim NAME``.

Prints the URL for a driver. Lines typed meanwhile switch faults: ``+NAME`` (on),
``+NAME 3`` (for three occasions), ``-NAME`` (off). The end of input or Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from contextlib import ExitStack
from typing import Any

import numpy as np

from qkdpp_drivers.sim import detectors, optics, taggers
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.hosts import Host, PtyHost, TcpHost, ZmqHost
from qkdpp_drivers.sim.simulated import RealClock

SIMULATORS = taggers.SIMULATORS | detectors.SIMULATORS | optics.SIMULATORS


def host_of(kind: str, instrument: Any) -> Host:
    """An unopened host: ``pty``, ``tcp``, ``visa`` or ``zmq``."""
    if kind == "pty":
        return PtyHost(instrument)
    return ZmqHost(instrument) if kind == "zmq" else TcpHost(instrument, scheme=kind)


def make(name: str, *, factor: float = 1.0, seed: int = 1) -> tuple[Any, Host]:
    """A simulated instrument in a trivial world, and an unopened host for it.

    Args:
        name: of ``SIMULATORS``.
        factor: its seconds per second of the host.
        seed: of its chance.
    """
    target, kind = SIMULATORS[name]
    module, _, function = target.partition(":")
    instrument = getattr(importlib.import_module(module), function)(RealClock(factor), np.random.default_rng(seed))
    return instrument, host_of(kind, instrument)


def switch(faults: Faults, line: str) -> str:
    """Obeys one typed line; what to tell the user."""
    sign, (name, *times) = line[:1], line[1:].split() or [""]
    try:
        if sign == "+":
            faults.add(name, int(times[0]) if times else None)
        elif sign == "-":
            faults.discard(name)
        else:
            return "type +NAME, +NAME TIMES or -NAME"
    except ValueError as error:
        return str(error)
    return f"{name}: {'on' if name in faults else 'off'}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m qkdpp_drivers.sim", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("name", choices=sorted(SIMULATORS), help="instrument")
    parser.add_argument("--factor", type=float, default=1.0, help="its seconds per second of the host")
    parser.add_argument("--seed", type=int, default=1, help="of its chance")
    options = parser.parse_args()
    instrument, host = make(options.name, factor=options.factor, seed=options.seed)
    faults: Faults = instrument.faults
    with ExitStack() as stack:
        stack.enter_context(host)
        pace = "" if options.factor == 1.0 else f"?time_factor={options.factor:g}"
        print(host.url + pace, flush=True)
        if (unit := getattr(instrument, "unit", None)) is not None:
            print(f"unit: {stack.enter_context(host_of('zmq', unit)).url}{pace}", flush=True)
        print(f"faults: {', '.join(sorted(faults.known))}", flush=True)
        try:
            for line in sys.stdin:
                if line.strip():
                    print(switch(faults, line.strip()), flush=True)
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
