"""Polarisation controllers EPC-400 and MPC320: vectors of the specification, then every fault of the simulated ones."""

import numpy as np
import pytest
from cable import use_until_gone
from dialogue import Dialogue, transport_to

from qkdpp_drivers.errors import (
    IdentityError,
    ReplyError,
    SettingError,
    TransportTimeout,
)
from qkdpp_drivers.optics.mpc320 import Mpc320
from qkdpp_drivers.optics.oz_epc import OzEpc
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.hosts import PtyHost
from qkdpp_drivers.sim.optics.mpc320 import SimMpc320
from qkdpp_drivers.sim.optics.mpc320 import alone as mpc320_alone
from qkdpp_drivers.sim.optics.oz_epc import SimOzEpc
from qkdpp_drivers.sim.ports import FixedKnob
from qkdpp_drivers.sim.simulated import RealClock
from qkdpp_drivers.transports import ManualClock

VOLTAGES = b"Voltage(mV): CH1 +2200 CH2 +5000 CH3 -1000 CH4 -4000\r\nDone\r\n"
MODE = b"Work Mode: DC\r\nDone\r\n"
EPC_HELLO = [(b"V?\r\n", VOLTAGES), (b"M?\r\n", MODE), (b"M?\r\n", MODE)]


def epc(*lines):
    script = Dialogue(*EPC_HELLO, *lines)
    driver = OzEpc(transport_to(script))
    driver.connect()
    return script, driver


@pytest.fixture
def epc_pair():
    clock, knobs = ManualClock(), [FixedKnob() for _ in range(4)]
    box = SimOzEpc(knobs, clock=clock, faults=Faults(SimOzEpc.FAULTS), rng=np.random.default_rng(1))
    driver = OzEpc(transport_to(box, clock))
    driver.connect()
    return box, driver, knobs


def test_epc_answers_of_the_specification():
    after = VOLTAGES.replace(b"CH3 -1000", b"CH3 +2500")
    script, driver = epc(
        (b"V?\r\n", VOLTAGES),
        (b"V3,2500\r\n", b"Set CH3 DC Voltage at: 2500mV\r\nDone\r\n"),
        (b"V?\r\n", after),
        (b"F2,47\r\n", b"Set CH2 AC Frequency at: 47Hz\r\nDone\r\n"),
        (b"F?\r\n", b"Frequency(Hz): CH1 007  CH2 047  CH3 037  CH4 071\r\nDone\r\n"),
        (b"MAC\r\n", b"Set To AC Mode\r\nDone\r\n"),
        (b"M?\r\n", b"Work Mode: AC(Sine)\r\nDone\r\n"),
        (b"SAVE\r\n", b"Write Setting to Flash memory\r\nDone\r\n"),
    )
    assert driver.retarder(4) == -4.0
    assert driver.set_retarder(3, 2.5) == 2.5
    driver.set_frequency_hz(2, 47)
    driver.set_scrambling(True)
    driver.save()
    script.done()


def test_epc_what_it_does_not_confirm_is_an_error():
    script, driver = epc((b"V1,100\r\n", b"Set CH2 DC Voltage at: 100mV\r\nDone\r\n"), (b"V?\r\n", b"Done\r\n"))
    with pytest.raises(ReplyError):
        driver.set_retarder(1, 0.1)
    with pytest.raises(ReplyError):
        driver.retarder(1)
    for call in (
        lambda: driver.set_retarder(1, 5.001),
        lambda: driver.set_retarder(5, 0.0),
        lambda: driver.set_frequency_hz(1, 101),
    ):
        with pytest.raises(SettingError):
            call()
    script.done()


def test_epc_sets_the_voltages_of_the_world(epc_pair):
    _, driver, knobs = epc_pair
    assert driver.retarders == dict.fromkeys((1, 2, 3, 4), (-5.0, 5.0))
    assert [driver.set_retarder(n, v) for n, v in ((1, 2.2), (2, 5.0), (3, -1.0), (4, -4.0))] == [2.2, 5.0, -1.0, -4.0]
    assert [k.value for k in knobs] == [2200.0, 5000.0, -1000.0, -4000.0]
    assert driver.snapshot()["voltage_3_v"] == -1.0
    driver.set_scrambling(True)
    assert driver.snapshot()["mode"] == "AC(Sine)"
    driver.reconnect()
    assert driver.snapshot()["mode"] == "DC"


def test_epc_faults(epc_pair):
    box, driver, knobs = epc_pair
    box.faults.add("ignored_set", times=1)
    with pytest.raises(SettingError, match="voltage_v was set to 1 V but reads 0 V"):
        driver.set_retarder(1, 1.0)
    for fault in ("no_done", "no_reply", "late_reply"):
        box.faults.add(fault, times=1)
        with pytest.raises(TransportTimeout):
            driver.retarder(1)
        driver.transport.sleep(box.LATE_S)
        assert driver.set_retarder(2, 1.5) == 1.5
    box.faults.add("garbage", times=1)
    with pytest.raises(ReplyError):
        driver.retarder(1)
    assert driver.retarder(2) == 1.5
    assert knobs[1].value == 1500.0
    box.faults.add("wrong_identity")
    with pytest.raises(IdentityError):
        driver.reconnect()


INFO_REQUEST = bytes.fromhex("05 00 00 00 50 01")
MOVE = bytes.fromhex("53 04 06 00 d0 01 01 00 ad 02 00 00")
MOVED = bytes.fromhex("64 04 0e 00 81 50 01 00 ad 02 00 00 00 00 00 00 00 04 00 80")
STATUS_REQUEST = bytes.fromhex("900401005001")
STATUS = bytes.fromhex("91040e008150") + MOVED[6:]
INFO = (
    bytes.fromhex("060054008150")
    + (38123456).to_bytes(4, "little")
    + b"MPC320\0\0"
    + bytes(2)
    + (0x10203).to_bytes(4, "little")
    + bytes(66)
)


def mpc(*lines):
    script = Dialogue((INFO_REQUEST, INFO), *lines)
    driver = Mpc320(transport_to(script))
    return script, driver, driver.connect()


@pytest.fixture
def mpc_pair():
    clock, knobs = ManualClock(), [FixedKnob() for _ in range(3)]
    box = SimMpc320(knobs, clock=clock, faults=Faults(SimMpc320.FAULTS), rng=np.random.default_rng(1))
    driver = Mpc320(transport_to(box, clock))
    driver.connect()
    return box, driver, knobs


def test_mpc_vectors_of_the_specification():
    script, driver, identity = mpc((MOVE, MOVED), (STATUS_REQUEST, STATUS))
    assert (identity.model, identity.serial, identity.firmware) == ("MPC320", "38123456", "00010203")
    assert driver.set_retarder(1, 85.0) == 85.0
    script.done()


def test_mpc_simulator_sends_the_bytes_of_the_specification():
    clock = ManualClock()
    box = mpc320_alone(clock, np.random.default_rng(1))
    box.receive(MOVE[:5])
    box.receive(MOVE[5:])
    assert box.poll() == b""
    clock.advance(1.0)
    assert box.poll() == MOVED


def test_mpc_messages_nobody_asked_for_and_noise_are_skipped():
    other = bytes.fromhex("91040e008150") + bytes.fromhex("0200") + bytes(12)
    script, driver, _ = mpc((STATUS_REQUEST, b"\xff\x00\xee" + other + STATUS))
    assert driver.retarder(1) == 85.0
    script.done()


def test_mpc_moves_the_paddles_of_the_world(mpc_pair):
    _, driver, knobs = mpc_pair
    assert driver.retarders == dict.fromkeys((1, 2, 3), (0.0, 170.0))
    for paddle, angle in ((1, 10.0), (2, 85.0), (3, 170.0)):
        assert driver.set_retarder(paddle, angle) == pytest.approx(angle, abs=0.07)
    assert [k.value for k in knobs] == pytest.approx([10.0, 85.0, 170.0], abs=0.07)
    assert driver.home(3) == 85.0
    assert driver.set_velocity_percent(10) == 10
    before = driver.transport.now()
    driver.set_retarder(1, 90.0)
    assert driver.transport.now() - before > 1.9
    driver.enable(2, False)
    with pytest.raises(SettingError, match="angle_deg was set to 20 degrees but reads 85 degrees"):
        driver.set_retarder(2, 20.0)
    found = driver.snapshot()
    assert found["enabled_2"] is False
    assert found["velocity_percent"] == 10


def test_mpc_limits(mpc_pair):
    _, driver, _ = mpc_pair
    for call in (
        lambda: driver.set_retarder(1, 170.1),
        lambda: driver.set_retarder(4, 1.0),
        lambda: driver.set_velocity_percent(5),
    ):
        with pytest.raises(SettingError):
            call()


def test_mpc_faults(mpc_pair):
    box, driver, _ = mpc_pair
    box.faults.add("stuck_paddle", times=1)
    with pytest.raises(SettingError, match="reads 0 degrees"):
        driver.set_retarder(1, 40.0)
    box.faults.add("noise")
    box.faults.add("split_reply")
    assert driver.set_retarder(1, 85.0) == 85.0
    box.faults.discard("noise")
    box.faults.discard("split_reply")
    box.faults.add("no_reply", times=1)
    with pytest.raises(TransportTimeout):
        driver.retarder(1)
    box.faults.add("late_reply", times=1)
    with pytest.raises(TransportTimeout):
        driver.set_retarder(1, 20.0)
    driver.transport.sleep(box.LATE_S)
    assert driver.set_retarder(2, 85.0) == 85.0
    for fault in ("byte_slip", "garbage"):
        box.faults.add(fault, times=1)
        with pytest.raises(ReplyError):
            driver.retarder(1)
        assert driver.retarder(2) == 85.0
    box.faults.add("wrong_identity", times=1)
    with pytest.raises(IdentityError, match="KDC101"):
        driver.reconnect()


def test_mpc_over_a_pseudo_terminal_with_handshake():
    box = mpc320_alone(RealClock(factor=10.0), np.random.default_rng(1))
    with PtyHost(box) as host, Mpc320.from_url(host.url) as driver:
        assert driver.transport.rtscts
        assert driver.set_retarder(1, 85.0) == 85.0
        box.faults.add("disconnect")
        assert use_until_gone(lambda: driver.retarder(1)) is not None
        box.faults.discard("disconnect")
        driver.reconnect(tries=6, wait_s=0.05)
        assert driver.epoch == 2
        assert driver.retarder(1) == 85.0
