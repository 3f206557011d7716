"""S-Fifteen SPD: dialogues of the specification, then every fault of the simulated module."""

import numpy as np
import pytest
from dialogue import Dialogue, transport_to

from qkdpp.core.errors import DeviceError
from qkdpp_drivers.detectors.s15_spd import S15Spd
from qkdpp_drivers.errors import (
    IdentityError,
    InstrumentError,
    ReplyError,
    SettingError,
    TransportClosed,
    TransportTimeout,
)
from qkdpp_drivers.sim.detectors.diodes import Diode
from qkdpp_drivers.sim.detectors.s15_spd import SimS15Spd, alone
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.transports import ManualClock

IDN = (b"*IDN?;", b"S-Fifteen Instruments, SPD, 7\r\n")
LIMITS = {"bias_limit_v": 180.0, "operating_bias_v": 160.0}


def connected(*lines):
    script = Dialogue(IDN, *lines)
    driver = S15Spd(transport_to(script), **LIMITS)
    driver.connect()
    return script, driver


@pytest.fixture
def pair():
    clock = ManualClock()
    box = alone(clock, np.random.default_rng(3))
    driver = S15Spd(transport_to(box, clock), **LIMITS)
    driver.connect()
    return box, driver


def test_the_dialogue_of_the_specification():
    script, driver = connected(
        (b"TIME?;", b"1000\r\n"),
        (b"TIME 500;", b""),
        (b"TIME?;", b"500\r\n"),
        (b"COUNTS?;", b"1284\r\n"),
        (b"TEMP?;", b"-19.98\r\n"),
    )
    assert driver.counts(0.5) == {0: 1284}
    assert driver.temperature_c() == -19.98
    script.done()


def test_a_set_is_read_back_and_an_error_line_is_not_taken_for_a_reply():
    script, driver = connected(
        (b"THRESHVOLT 0.250;", b""),
        (b"THRESHVOLT?;", b"0.25\r\n"),
        (b"SETTEMP -20.000;", b"something is out of range\r\n"),
        (b"TEMP?;", b"21.5\r\n"),
    )
    assert driver.set("threshold_v", 0.25) == 0.25
    with pytest.raises(InstrumentError, match="something is out of range"):
        driver.set("set_point_c", -20.0)
    assert driver.temperature_c() == 21.5
    script.done()


@pytest.mark.parametrize("line", ["S-Fifteen SPDCSDR 3", "S-Fifteen TDC1", "OPMGE"])
def test_siblings_of_the_family_are_refused(line):
    script = Dialogue((b"*IDN?;", line.encode() + b"\r\n"))
    with pytest.raises(IdentityError, match="not S-Fifteen Instruments SPD"):
        S15Spd(transport_to(script), **LIMITS).connect()


def test_nothing_outside_the_limits_is_sent():
    script, driver = connected()
    for call in (
        lambda: driver.set_bias(0, 180.5),
        lambda: driver.set("gate_ms", 0.5),
        lambda: driver.set("delay", 3.5),
        lambda: driver.set("set_point_c", float("nan")),
        lambda: driver.set_bias(1, 10.0),
    ):
        with pytest.raises(SettingError):
            call()
    script.done()
    with pytest.raises(SettingError, match="bias_v = 200 V"):
        S15Spd(transport_to(script), bias_limit_v=180.0, operating_bias_v=200.0)


def test_up_and_down(pair):
    box, driver = pair
    assert driver.counts(0.1) == {0: 0}
    driver.enable(0, True)
    found = driver.snapshot()
    assert found["bias_v"] == 160.0
    assert found["loop"] == 1
    assert abs(found["temperature_c"] - found["set_point_c"]) < 0.25
    mean = Diode(rng=box.rng, bias=160.0, temperature_c=-20.0).rate_hz() * 10.0
    assert abs(driver.counts(10.0)[0] - mean) < 5 * np.sqrt(mean) + 0.005 * mean
    driver.enable(0, False)
    assert driver.counts(0.1) == {0: 0}
    assert driver.get("loop") == 0


def test_the_bias_goes_in_steps(pair):
    box, driver = pair
    seen = []
    original = box.answer
    box.answer = lambda text: (seen.append(text), original(text))[1]
    driver.set_bias(0, 35.0)
    assert [float(t.split()[1]) for t in seen if t.startswith("HVOLT ")] == [10.0, 20.0, 30.0, 35.0]


def test_the_counts_follow_light_bias_and_blinding():
    clock = ManualClock()
    port = Diode(rng=np.random.default_rng(1), light_hz=50_000.0)
    driver = S15Spd(
        transport_to(
            SimS15Spd(port, clock=clock, faults=Faults(SimS15Spd.FAULTS), rng=np.random.default_rng(2)), clock
        ),
        **LIMITS,
    )
    driver.connect()
    driver.set_bias(0, 149.0)
    assert driver.counts(1.0) == {0: 0}
    driver.set_bias(0, 152.0)
    low = driver.counts(1.0)[0]
    driver.set_bias(0, 165.0)
    assert driver.counts(1.0)[0] > 2 * low > 0
    port.light_hz = 1e12
    assert driver.counts(1.0) == {0: 0}
    port.light_hz = 1e4
    driver.set("threshold_v", 1.5)
    assert driver.counts(1.0) == {0: 0}
    driver.set("threshold_v", 0.0)
    assert driver.counts(1.0)[0] > 400_000


def test_peltier_voltage_is_not_taken_while_the_loop_runs(pair):
    _, driver = pair
    driver.set("loop", 1)
    with pytest.raises(SettingError, match="peltier_v was set to 1 V but reads 0 V"):
        driver.set("peltier_v", 1.0)


def test_saved_settings_come_back(pair):
    box, driver = pair
    driver.set("threshold_v", 0.2)
    assert driver.save()
    driver.set("threshold_v", 0.3)
    box.power_cycle()
    assert driver.get("threshold_v") == 0.2


def test_no_reply_and_gate_reply_lost(pair):
    box, driver = pair
    for fault, ask in (("no_reply", driver.temperature_c), ("gate_reply_lost", lambda: driver.counts(1.0))):
        box.faults.add(fault, times=1)
        with pytest.raises(TransportTimeout):
            ask()
        assert driver.temperature_c() == pytest.approx(22.0, abs=0.1)


def test_a_late_reply_is_never_the_answer_to_the_next_question(pair):
    box, driver = pair
    box.faults.add("late_reply", times=1)
    with pytest.raises(TransportTimeout):
        driver.get("set_point_c")
    driver.transport.sleep(box.LATE_S)
    assert driver.get("threshold_v") == 0.1


def test_joined_replies_belong_to_nobody(pair):
    box, driver = pair
    box.faults.add("joined_replies", times=1)
    with pytest.raises(TransportTimeout):
        driver.get("set_point_c")
    assert driver.get("threshold_v") == 0.1
    box.reply(b"-20.00 0.1\r\n", delay_s=0.001)
    with pytest.raises(ReplyError):
        driver.get("bias_v")
    assert driver.get("bias_v") == 0.0


def test_queries_of_one_burst_share_a_line(pair):
    _, driver = pair
    driver.transport.write(b"time 500;counts?;temp?;")
    line = driver.transport.read_until(b"\r\n", 1.0).split()
    assert len(line) == 2
    assert float(line[1]) == pytest.approx(22.0, abs=0.1)


def test_other_faults(pair):
    box, driver = pair
    box.faults.add("error_line", times=1)
    with pytest.raises(InstrumentError):
        driver.set("threshold_v", 0.2)
    box.faults.add("ignored_set", times=1)
    with pytest.raises(SettingError, match=r"threshold_v was set to 0\.3 V but reads 0\.2 V"):
        driver.set("threshold_v", 0.3)
    box.faults.add("garbage", times=1)
    with pytest.raises(ReplyError):
        driver.temperature_c()
    box.faults.add("stuck_temperature")
    with pytest.raises(DeviceError, match="temperature not within"):
        driver.enable(0, True)
    assert driver.get("bias_v") == 0.0


def test_unplugged_and_back_as_another_module(pair):
    box, driver = pair
    box.faults.add("disconnect")
    with pytest.raises(TransportClosed):
        driver.snapshot()
    box.faults.discard("disconnect")
    driver.reconnect()
    assert driver.epoch == 2
    box.faults.add("wrong_identity", times=1)
    with pytest.raises(IdentityError):
        driver.reconnect()
