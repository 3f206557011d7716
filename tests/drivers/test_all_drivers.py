"""Every shipped driver against its simulated instrument through the real transport, the registry, and the docs page."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from checks import check_connection, check_stream

from qkdpp.core.errors import DeviceError
from qkdpp_drivers import registry
from qkdpp_drivers.sim import __main__ as simulators
from qkdpp_drivers.taggers import DRIVERS as TAGGERS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
NO_STREAM_ALONE = {"id900"}  # needs DataLinkTarget beside it: see test_id900.py
NEEDED = {
    "id120": "?operating_bias_v=200",
    "quantum_opus": "?slot=3&operating_bias_ua=10",
    "s15_spd": "?bias_limit_v=200&operating_bias_v=180",
}
TWO_LINKS = {"websq"}  # counts come through a second connection: see test_detector_websq.py
BOTH = sorted((registry.drivers().keys() & simulators.SIMULATORS.keys()) - TWO_LINKS)


@pytest.mark.parametrize("name", BOTH)
def test_connection_to_the_simulated_instrument(name):
    _, host = simulators.make(name)
    with host:
        check_connection(name, host.url + NEEDED.get(name, ""))


@pytest.mark.parametrize("name", sorted((TAGGERS.keys() & simulators.SIMULATORS.keys()) - NO_STREAM_ALONE))
def test_stream_of_the_simulated_instrument(name):
    _, host = simulators.make(name)
    with host:
        check_stream(name, host.url, duration_s=1.0)


@pytest.mark.parametrize("name", sorted(registry.drivers()))
def test_every_driver_says_what_it_is_and_whether_it_met_hardware(name):
    driver = registry.driver(name)
    module = sys.modules[driver.__module__]
    assert driver.kind
    assert driver.vendor
    assert driver.model
    assert driver.transports
    assert driver.never_run_on_hardware == ("Never run on hardware." in (module.__doc__ or ""))
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", sorted(simulators.SIMULATORS))
def test_every_fault_is_documented(name):
    instrument, _ = simulators.make(name)
    missing = [fault for fault in instrument.faults.known if f"`{fault}`" not in PAGE]
    assert not missing


def test_options_come_with_the_address_or_beside_it():
    with pytest.raises(DeviceError, match=r"needs operating_bias_ua, slot; add \?operating_bias_ua="):
        registry.instrument("quantum_opus", "serial:///nowhere")
    with pytest.raises(DeviceError, match="unknown option speed"):
        registry.instrument("tdc1", "serial:///nowhere?speed=3")
    driver = registry.instrument("tdc1", "serial:///nowhere?baud=9600&pulse_ns=20", name="start of Bob")
    assert (driver.transport.baud, driver._pulse_ticks, driver.name) == (9600, 10, "start of Bob")
    streamed = registry.instrument("id900", "zmq://127.0.0.1:5555?channels=1,3&record_s=0.5&dlt=127.0.0.1:7000")
    assert (streamed.channels, streamed.record_s, streamed.dlt.transport.port) == ((1, 3), 0.5, 7000)


def test_an_unknown_driver_is_named_with_the_known_ones():
    with pytest.raises(DeviceError, match=r"no driver 'nothing'; known are .*tdc1"):
        registry.driver("nothing")


def entry_point(name, value):
    return SimpleNamespace(name=name, value=value, dist=SimpleNamespace(name="acme-qkd"))


def test_drivers_of_other_packages(monkeypatch):
    points = [entry_point("acme", "qkdpp_drivers.taggers.tdc1:Tdc1"), entry_point("broken", "acme_nowhere:Thing")]
    points.append(entry_point("alien", "json:loads"))
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "qkdpp.drivers" else [])
    found = registry.drivers()
    assert found["acme"].origin == "acme-qkd"
    assert found["acme"].load().model == "TDC1"
    with pytest.raises(DeviceError, match="driver broken of acme-qkd: cannot load"):
        found["broken"].load()
    with pytest.raises(DeviceError, match="is no Instrument"):
        found["alien"].load()
    points.append(entry_point("tdc1", "acme:Other"))
    with pytest.raises(DeviceError, match="tdc1: claimed by qkdpp and by acme-qkd"):
        registry.drivers()


def test_the_entry_point_group_is_asked_for_real():
    assert registry.entry_points is metadata.entry_points


def test_a_simulated_instrument_by_hand():
    command = [sys.executable, "-P", "-m", "qkdpp_drivers.sim", "tdc1", "--seed", "3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        faults = process.stdout.readline()
        check_connection("tdc1", url)
        out, _ = process.communicate("+byte_slip 2\n-byte_slip\n+nonsense\nwhat\n", timeout=20)
    assert process.returncode == 0
    answers = out.splitlines()
    assert "byte_slip" in faults
    assert answers[:2] == ["byte_slip: on", "byte_slip: off"]
    assert answers[2].startswith("no fault 'nonsense'")
    assert answers[3].startswith("type +NAME")
