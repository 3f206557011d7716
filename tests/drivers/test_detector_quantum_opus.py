"""Quantum Opus bias module in a SIM900: dialogues of the specification, then every fault of the simulated mainframe."""

import numpy as np
import pytest
from dialogue import Dialogue, transport_to

from qkdpp_drivers.detectors.quantum_opus import QuantumOpus
from qkdpp_drivers.errors import IdentityError, ReplyError, SettingError, TransportTimeout
from qkdpp_drivers.sim.detectors.quantum_opus import alone
from qkdpp_drivers.transports import ManualClock

OPTIONS = {"slot": 3, "operating_bias_ua": 12.0}
NONE_WAITS = (b"NINP? 3\n", b"0\n")


def asked(query, answer):
    return [
        NONE_WAITS,
        (b'SNDT 3,"' + query + b'"\n', b""),
        (b"NINP? 3\n", str(len(answer)).encode() + b"\n"),
        (b"RAWN? 3,%d\n" % len(answer), answer),
    ]


HELLO = [
    (b"*IDN?\n", b"Stanford_Research_Systems,SIM900,s/n147212,ver3.6\n"),
    *asked(b"+A?", b"Quantum Opus bias, whatever\n"),
    (b'SNDT 3,"+C1;"\n', b""),
]


def connected(*lines):
    script = Dialogue(*HELLO, *lines)
    driver = QuantumOpus(transport_to(script), **OPTIONS)
    driver.connect()
    return script, driver


@pytest.fixture
def pair():
    clock = ManualClock()
    box = alone(clock, np.random.default_rng(3))
    driver = QuantumOpus(transport_to(box, clock), **OPTIONS)
    driver.connect()
    return box, driver


def test_the_dialogue_of_the_specification():
    script, driver = connected(*asked(b"+B?", b"32768\n"))
    before = driver.transport.now()
    assert driver.bias_ua() == pytest.approx(12.5, abs=25 / 65535)
    assert 0.5 <= driver.transport.now() - before < 0.6
    script.done()


def test_numbers_of_the_module():
    script, driver = connected(
        (b'SNDT 3,"+B65535;"\n', b""),
        *asked(b"+B?", b"65535\n"),
        *asked(b"+B?", b"65535\n"),
        *asked(b"+H?;", b"32768.0\n"),
        *asked(b"+C?", b"13107\n"),
        *asked(b"+D?", b"20\n"),
        *asked(b"+E?", b"1\n"),
    )
    assert driver.set_bias(0, 25.0) == 25.0
    found = driver.snapshot()
    assert found["stored_bias_ua"] == pytest.approx(12.5, abs=1e-3)
    assert found["voltage_v"] == pytest.approx(1.0)
    assert found["reset_s"] == pytest.approx(0.2)
    assert found["automatic_reset"] is True
    script.done()


def test_what_waited_before_is_not_the_answer():
    script, driver = connected(
        (b"NINP? 3\n", b"4\n"),
        (b"RAWN? 3,4\n", b"123\n"),
        (b'SNDT 3,"+D?"\n', b""),
        (b"NINP? 3\n", b"3\n"),
        (b"RAWN? 3,3\n", b"50\n"),
    )
    assert driver.reset_s() == 0.5
    script.done()


def test_limits():
    script, driver = connected()
    for call in (
        lambda: driver.set_bias(0, 25.1),
        lambda: driver.set_bias(0, -1.0),
        lambda: driver.set_bias(1, 1.0),
        lambda: driver.set_reset(duration_s=3.0, automatic=True),
        lambda: QuantumOpus(transport_to(script), slot=9, operating_bias_ua=1.0),
        lambda: QuantumOpus(transport_to(script), slot=3, operating_bias_ua=30.0),
        lambda: QuantumOpus(transport_to(script), slot=3, operating_bias_ua=3.0, settle_s=0.05),
    ):
        with pytest.raises(SettingError):
            call()
    script.done()


def test_bias_is_zero_at_power_up_and_on_is_the_operating_bias(pair):
    _, driver = pair
    assert driver.bias_ua() == 0.0
    driver.enable(0, True)
    assert driver.bias_ua() == pytest.approx(12.0, abs=4e-4)
    assert not driver.latched()
    driver.enable(0, False)
    assert driver.bias_ua() == 0.0


def test_latching_and_reset(pair):
    box, driver = pair
    driver.set_bias(0, 20.0)
    assert driver.latched()
    driver.set_bias(0, 12.0)
    assert driver.latched()
    assert not driver.reset()
    box.faults.add("bright_pulse")
    assert driver.latched()
    box.faults.discard("bright_pulse")
    driver.set_reset(duration_s=0.05, automatic=True)
    driver.transport.sleep(0.1)
    assert not driver.latched()
    assert driver.bias_ua() == pytest.approx(12.0, abs=4e-4)


def test_automatic_bias(pair):
    _, driver = pair
    assert driver.auto_bias() == pytest.approx(0.95 * 18.0, abs=1e-3)


def test_faults(pair):
    box, driver = pair
    box.faults.add("module_silent", times=1)
    with pytest.raises(TransportTimeout, match="slot 3 says nothing"):
        driver.bias_ua()
    box.faults.add("cut_reply", times=1)
    with pytest.raises(ReplyError):
        driver.bias_ua()
    assert driver.bias_ua() == 0.0
    box.faults.add("ignored_set", times=1)
    with pytest.raises(SettingError, match="bias_ua was set to 5 uA but reads 0 uA"):
        driver.set_bias(0, 5.0)
    for fault in ("no_reply", "late_reply"):
        box.faults.add(fault, times=1)
        with pytest.raises(TransportTimeout):
            driver.bias_ua()
        driver.transport.sleep(box.LATE_S)
        assert driver.reset_s() == pytest.approx(0.1)
    box.faults.add("garbage", times=1)
    with pytest.raises(ReplyError):
        driver.identify()
    assert driver.bias_ua() == 0.0
    driver.reconnect()
    assert driver.epoch == 2


def test_identity(pair):
    box, driver = pair
    box.faults.add("wrong_identity", times=1)
    with pytest.raises(IdentityError, match="SIM928"):
        driver.reconnect()
    script = Dialogue((b"*IDN?\n", b"Stanford Research Systems,DG645,s/n1,v\n"))
    with pytest.raises(IdentityError, match="not a SIM900"):
        QuantumOpus(transport_to(script), **OPTIONS).connect()
    with pytest.raises(TransportTimeout, match="slot 5"):
        QuantumOpus(driver.transport, slot=5, operating_bias_ua=1.0).connect()
