"""What holds for every detector and optics driver: protocol, honesty, and its simulated instrument behind a host."""

import importlib

import numpy as np
import pytest
from cable import use_until_gone

from qkdpp.core import devices
from qkdpp_drivers import detectors, optics
from qkdpp_drivers.registry import driver
from qkdpp_drivers.sim import detectors as sim_detectors
from qkdpp_drivers.sim import optics as sim_optics
from qkdpp_drivers.sim.hosts import PtyHost, TcpHost
from qkdpp_drivers.sim.simulated import RealClock

OPTIONS = {
    "s15_spd": {"bias_limit_v": 180.0, "operating_bias_v": 160.0},
    "id120": {"operating_bias_v": 160.0},
    "quantum_opus": {"slot": 3, "operating_bias_ua": 12.0, "settle_s": 0.1},
}
HOSTS = {
    "pty": PtyHost,
    "tcp": TcpHost,
    "visa": lambda box: TcpHost(box, scheme="visa"),
}
SIMULATORS = sim_detectors.SIMULATORS | sim_optics.SIMULATORS


@pytest.mark.parametrize("name", [*detectors.DRIVERS, *optics.DRIVERS])
def test_a_driver_fulfils_its_protocol_and_says_whether_it_ever_met_hardware(name):
    found = driver(name)
    protocol = getattr(devices, found.kind)
    members = [m for m in vars(protocol) if not m.startswith("_")]
    assert [m for m in members if not hasattr(found, m)] == []
    text = importlib.import_module(found.__module__).__doc__
    assert ("Never run on hardware." in text) == found.never_run_on_hardware


@pytest.mark.parametrize("name", [n for n in SIMULATORS if n != "websq"])
def test_through_its_host_with_the_cable_out_and_in(name):
    target, kind = SIMULATORS[name]
    module, _, function = target.partition(":")
    box = getattr(importlib.import_module(module), function)(RealClock(), np.random.default_rng(1))
    with HOSTS[kind](box) as host, driver(name).from_url(host.url, **OPTIONS.get(name, {})) as instrument:
        before = instrument.snapshot()
        box.faults.add("split_reply")
        assert instrument.snapshot().keys() == before.keys()
        box.faults.discard("split_reply")
        box.faults.add("disconnect")
        assert use_until_gone(instrument.snapshot) is not None
        box.faults.discard("disconnect")
        instrument.reconnect(tries=6, wait_s=0.05)
        assert instrument.epoch == 2
        assert instrument.snapshot().keys() == before.keys()
