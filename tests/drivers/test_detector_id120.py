"""ID120: dialogues of the specification, pyvisa-sim, then every fault of the simulated instrument."""

import numpy as np
import pytest
from dialogue import Dialogue, transport_to

from qkdpp.core.errors import DeviceError
from qkdpp_drivers.detectors.id120 import Id120
from qkdpp_drivers.errors import IdentityError, InstrumentError, ReplyError, SettingError, TransportTimeout
from qkdpp_drivers.sim.detectors.id120 import alone
from qkdpp_drivers.transports import ManualClock
from qkdpp_drivers.transports.visa import VisaTransport

IDN = (b"*IDN?\n", b"ID Quantique,ID120,1200034,1.2\n")
GOOD = (b"BIAS:ERROR_STATUS?\n", b"FALSE\n")


def connected(*lines):
    script = Dialogue(IDN, *lines)
    driver = Id120(transport_to(script), operating_bias_v=160.0)
    driver.connect()
    return script, driver


@pytest.fixture
def pair():
    clock = ManualClock()
    box = alone(clock, np.random.default_rng(3))
    driver = Id120(transport_to(box, clock), operating_bias_v=160.0)
    driver.connect()
    return box, driver


@pytest.mark.parametrize(
    ("name", "value", "sent", "back"),
    [
        ("bias_v", 199.95, b"BIAS:VOLTAGE 199920000\n", 199.92),
        ("threshold_v", 0.1004, b"THRESHOLD:VOLTAGE 100000\n", 0.1),
        ("dead_time_ns", 100, b"DEADTIME:TIME 80\n", 80),
        ("integration_ms", 1000, b"COUNTERS:INTEGRATION_TIME 1000\n", 1000),
        ("set_point_c", -39.5, b"REG:TEMP_SET_POINT -40000\n", -40.0),
    ],
)
def test_values_go_in_device_units_at_the_next_lower_step(name, value, sent, back):
    head, number = sent.split()
    script, driver = connected((sent, b""), (head + b"?\n", number + b"\n"))
    assert driver.set(name, value) == back
    script.done()


def test_a_count_is_of_light_after_the_call():
    script, driver = connected(
        GOOD,
        (b"COUNTERS:INTEGRATION_TIME?\n", b"200\n"),
        (b"COUNTERS:DETECTION_COUNT?\n", b"4711\n"),
        GOOD,
    )
    before = driver.transport.now()
    assert driver.counts(0.2) == {0: 4711}
    assert driver.transport.now() - before >= 0.4
    script.done()


def test_limits_and_a_set_that_is_not_taken_over():
    script, driver = connected((b"BIAS:VOLTAGE 160000000\n", b""), (b"BIAS:VOLTAGE?\n", b"0\n"))
    for name, value in (("bias_v", 250.1), ("integration_ms", 100), ("set_point_c", -9.0), ("dead_time_ns", 39)):
        with pytest.raises(SettingError):
            driver.set(name, value)
    with pytest.raises(SettingError, match="multiple of 0"):
        driver.counts(0.3)
    with pytest.raises(SettingError, match="was set to 160 V but reads 0 V"):
        driver.set("bias_v", 160.0)
    script.done()


def test_an_error_line_is_an_instrument_error_and_an_unknown_word_a_reply_error():
    script, driver = connected((b"REG:MEASURED_TEMP?\n", b"ERROR 12\n"), (b"BIAS:ERROR_STATUS?\n", b"MAYBE\n"))
    with pytest.raises(InstrumentError, match="ERROR 12"):
        driver.temperature_c()
    with pytest.raises(ReplyError):
        driver.set_bias(0, 1.0)
    script.done()


YAML = """
spec: "1.0"
devices:
  id120:
    eom:
      USB INSTR: {q: "\\n", r: "\\n"}
    error: ERROR
    dialogues:
      - {q: "*IDN?", r: "ID Quantique,ID120,1200034,1.2"}
      - {q: "BIAS:ERROR_STATUS?", r: "FALSE"}
      - {q: "REG:MEASURED_TEMP?", r: "-39900"}
      - {q: "REG:STATE?", r: "STABLE"}
    properties:
      bias:
        default: 0
        getter: {q: "BIAS:VOLTAGE?", r: "{:d}"}
        setter: {q: "BIAS:VOLTAGE {:d}"}
        specs: {type: int, min: 0, max: 250000000}
resources:
  USB::0x1DDC::0x0330::1200034::INSTR:
    device: id120
"""


def test_through_pyvisa_sim(tmp_path):
    file = tmp_path / "id120.yaml"
    file.write_text(YAML)
    transport = VisaTransport("USB::0x1DDC::0x0330::1200034::INSTR", library=f"{file}@sim")
    with Id120(transport, operating_bias_v=160.0) as driver:
        assert driver.identify().serial == "1200034"
        assert driver.set_bias(0, 160.0) == 160.0
        assert driver.temperature_c() == -39.9
        with pytest.raises(InstrumentError, match="ERROR"):
            driver.get("threshold_v")
        assert driver.get("bias_v") == 160.0


def test_up_counts_and_down(pair):
    _, driver = pair
    assert driver.counts(0.2) == {0: 0}
    driver.enable(0, True)
    found = driver.snapshot()
    assert found["bias_v"] == 160.0
    assert found["regulation_state"] == "STABLE"
    assert found["output1_polarity"] == "POSITIVE"
    assert driver.counts(0.4)[0] > 1000
    assert driver.errors() == []
    driver.enable(0, False)
    assert driver.counts(0.4) == {0: 0}


def test_a_tripped_protection_takes_the_bias_away_until_somebody_has_looked(pair):
    box, driver = pair
    driver.enable(0, True)
    box.faults.add("over_current")
    with pytest.raises(InstrumentError, match=r"tripped.*acknowledge"):
        driver.counts(0.2)
    assert driver.errors() == ["BIAS:ERROR_STATUS is TRUE"]
    assert driver.get("bias_v") == 0.0
    box.faults.discard("over_current")
    with pytest.raises(InstrumentError):
        driver.enable(0, True)
    driver.acknowledge()
    driver.enable(0, True)
    assert driver.get("bias_v") == 160.0


def test_too_much_bias_trips_it(pair):
    _, driver = pair
    with pytest.raises(SettingError, match="was set to 200 V but reads 0 V"):
        driver.set_bias(0, 200.0)
    with pytest.raises(InstrumentError, match="tripped"):
        driver.set_bias(0, 100.0)


def test_slow_answers_are_waited_for_and_late_ones_thrown_away(pair):
    box, driver = pair
    box.faults.add("slow_query", times=1)
    assert driver.capabilities()["bias"]
    box.faults.add("late_reply", times=1)
    with pytest.raises(TransportTimeout):
        driver.get("set_point_c")
    driver.transport.sleep(box.LATE_S)
    assert driver.get("threshold_v") == 0.1


def test_other_faults(pair):
    box, driver = pair
    box.faults.add("ignored_set", times=1)
    with pytest.raises(SettingError):
        driver.set_bias(0, 100.0)
    box.faults.add("no_reply", times=1)
    with pytest.raises(TransportTimeout):
        driver.temperature_c()
    assert driver.get("bias_v") == 0.0
    box.faults.add("garbage", times=1)
    with pytest.raises(ReplyError):
        driver.temperature_c()
    box.faults.add("split_reply", times=1)
    assert driver.temperature_c() == pytest.approx(22.0)
    box.faults.add("stuck_temperature")
    with pytest.raises(DeviceError, match="temperature not within"):
        driver.enable(0, True)
    box.faults.add("wrong_identity", times=1)
    with pytest.raises(IdentityError, match="ID230"):
        driver.reconnect()
