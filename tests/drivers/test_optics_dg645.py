"""DG645: dialogues of the specification, pyvisa-sim, then every fault of the simulated generator."""

from itertools import pairwise

import numpy as np
import pytest
from dialogue import Dialogue, transport_to

from qkdpp_drivers.errors import IdentityError, InstrumentError, ReplyError, SettingError, TransportTimeout
from qkdpp_drivers.optics.dg645 import TRIGGERS, Dg645
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.optics.dg645 import SimDg645
from qkdpp_drivers.sim.ports import FixedKnob
from qkdpp_drivers.transports import ManualClock
from qkdpp_drivers.transports.visa import VisaTransport

IDN = (b"*IDN?\n", b"Stanford Research Systems,DG645,s/n001013,ver1.20.152\r\n")
NO_ERROR = (b"LERR?\n", b"0\r\n")


def connected(*lines):
    script = Dialogue(IDN, (b"*CLS\n", b""), *lines)
    driver = Dg645(transport_to(script))
    driver.connect()
    return script, driver


@pytest.fixture
def gate():
    """The knob that channel A turns."""
    return FixedKnob()


@pytest.fixture
def pair(gate):
    clock = ManualClock()
    box = SimDg645({"A": gate}, clock=clock, faults=Faults(SimDg645.FAULTS), rng=np.random.default_rng(1))
    driver = Dg645(transport_to(box, clock))
    driver.connect()
    return box, driver


def test_a_delay_is_told_in_seconds_after_t0_checked_for_errors_and_read_back():
    script, driver = connected((b"DLAY 2,0,0.001000000000\n", b""), NO_ERROR, (b"DLAY? 2\n", b"0,+0.001000000000\r\n"))
    assert driver.set_delay_ps("A", 1e9) == 1e9
    script.done()


def test_a_delay_after_another_channel_is_added_up_without_floats():
    script, driver = connected((b"DLAY? 3\n", b"2,+1999.999999999995\r\n"), (b"DLAY? 2\n", b"0,+0.000000000005\r\n"))
    assert driver.delay_ps("B") == 2000 * 10**12
    script.done()
    script, driver = connected(
        *[(b"DLAY? 2\n", b"3,+0.000000000000\r\n"), (b"DLAY? 3\n", b"2,+0.000000000000\r\n")] * 5
    )
    with pytest.raises(SettingError, match="refers to itself"):
        driver.delay_ps("A")


def test_a_scan_in_12_5_ps_alternates_and_tells_what_was_set(pair, gate):
    _, driver = pair
    found = [driver.set_delay_ps("A", 12.5 * i) for i in range(9)]
    assert {b - a for a, b in pairwise(found)} == {10.0, 15.0}
    assert max(abs(f - 12.5 * i) for i, f in enumerate(found)) <= 2.5
    assert gate.value == pytest.approx(100.0)


@pytest.mark.parametrize("line", [b"0.001\r\n", b"2,0.1\r\n", b"x,+0.000000000000\r\n", b"\r\n"])
def test_other_replies_are_not_delays(line):
    _, driver = connected((b"DLAY? 2\n", line))
    with pytest.raises(ReplyError):
        driver.delay_ps("A")


def test_the_error_queue_has_numbers_and_texts():
    script, driver = connected((b"LERR?\n", b"15\r\n"), (b"LERR?\n", b"254\r\n"), NO_ERROR)
    assert driver.errors() == ["15: not allowed: locked", "254: too many errors"]
    script.done()


def test_limits():
    script, driver = connected()
    for call in (
        lambda: driver.set_delay_ps("A", -1),
        lambda: driver.set_delay_ps("A", 2001e12),
        lambda: driver.set_delay_ps("T0", 5),
        lambda: driver.set_output("AB", amplitude_v=5.1),
        lambda: driver.set_output("A", amplitude_v=1.0),
        lambda: driver.set_trigger("sometimes"),
        lambda: driver.set_trigger("internal", rate_hz=2e6),
    ):
        with pytest.raises(SettingError):
            call()
    script.done()


YAML = """
spec: "1.0"
devices:
  dg645:
    eom:
      ASRL INSTR: {q: "\\n", r: "\\r\\n"}
    error: ERROR
    dialogues:
      - {q: "*IDN?", r: "Stanford Research Systems,DG645,s/n001013,ver1.20.152"}
      - {q: "*CLS"}
      - {q: "DLAY 2,0,0.000000012510"}
      - {q: "DLAY? 2", r: "0,+0.000000012510"}
      - {q: "LERR?", r: "0"}
resources:
  ASRL1::INSTR:
    device: dg645
"""


def test_through_pyvisa_sim_on_a_serial_line(tmp_path):
    file = tmp_path / "dg645.yaml"
    file.write_text(YAML)
    with Dg645(VisaTransport("ASRL1::INSTR", library=f"{file}@sim")) as driver:
        assert driver.set_delay_ps("A", 12_512) == 12_510
        assert driver.errors() == []
        with pytest.raises(ReplyError):
            driver.delay_ps("H")


def test_outputs_and_trigger(pair):
    _, driver = pair
    driver.set_output("AB", amplitude_v=3.3, offset_v=-0.5, positive=False)
    for trigger in TRIGGERS:
        driver.set_trigger(trigger, rate_hz=625_000, level_v=0.5)
        assert driver.snapshot()["trigger"] == trigger
    found = driver.snapshot()
    assert found["amplitude_ab_v"] == 3.3
    assert found["offset_ab_v"] == -0.5
    assert found["positive_ab"] is False
    assert found["trigger_rate_hz"] == 625_000
    assert found["time_base"] == "internal"


def test_the_queue_of_the_instrument_ends_with_too_many(pair):
    _, driver = pair
    for _ in range(30):
        driver.tell("NONSENSE 1")
    found = driver.errors()
    assert len(found) == 20
    assert found[0].startswith("111:")
    assert found[-1].startswith("254:")
    assert driver.errors() == []


def test_faults(pair, gate):
    box, driver = pair
    box.faults.add("locked")
    with pytest.raises(InstrumentError, match="locked") as caught:
        driver.set_delay_ps("A", 100)
    assert caught.value.code == 15
    box.faults.discard("locked")
    box.faults.add("ignored_set", times=1)
    with pytest.raises(SettingError, match="delay_ps was set to 100 ps but reads 0 ps"):
        driver.set_delay_ps("A", 100)
    assert gate.value == 0
    for fault in ("no_reply", "late_reply"):
        box.faults.add(fault, times=1)
        with pytest.raises(TransportTimeout):
            driver.delay_ps("A")
        driver.transport.sleep(box.LATE_S)
        assert driver.set_delay_ps("A", 55) == 55
    box.faults.add("garbage", times=1)
    with pytest.raises(ReplyError):
        driver.delay_ps("A")
    box.faults.add("wrong_identity", times=1)
    with pytest.raises(IdentityError, match="DS345"):
        driver.reconnect()
