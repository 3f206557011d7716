"""DD-100-MC, Polatis and the multimeter: dialogues of the specification, then every fault of the simulated ones."""

import math

import numpy as np
import pytest
from dialogue import Dialogue, transport_to

from qkdpp_drivers.errors import IdentityError, InstrumentError, ReplyError, SettingError, TransportTimeout
from qkdpp_drivers.optics.dd100 import Dd100
from qkdpp_drivers.optics.dmm import Dmm
from qkdpp_drivers.optics.polatis import Polatis
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.optics.dd100 import SimDd100
from qkdpp_drivers.sim.optics.dmm import SimDmm
from qkdpp_drivers.sim.optics.polatis import SimPolatis
from qkdpp_drivers.sim.ports import FixedKnob
from qkdpp_drivers.transports import ManualClock


def made(sim, driver, knobs, **options):
    clock = ManualClock()
    box = sim(knobs, clock=clock, faults=Faults(sim.FAULTS), rng=np.random.default_rng(1))
    instrument = driver(transport_to(box, clock), **options)
    instrument.connect()
    return box, instrument


def times_out_and_goes_on(box, driver, ask):
    """A lost and a late reply: each a time-out, and the next question gets its own answer."""
    usual = ask()
    for fault in ("no_reply", "late_reply"):
        box.faults.add(fault, times=1)
        with pytest.raises(TransportTimeout):
            ask()
        driver.transport.sleep(box.LATE_S)
        assert ask() == usual


POSITION = (b"D\r", b"DPos:1234\r\nATTEN:12.34\r\nDone\r\n\r\n")
DD100_HELLO = [(b"CD\r", b"some text\r\nmore\r\nDone\r\n\r\n"), POSITION]


def test_attenuator_answers_of_the_specification():
    script = Dialogue(*DD100_HELLO, (b"A12.34\r", b"Pos:1234\r\nDone\r\n\r\n"), POSITION, POSITION)
    driver = Dd100(transport_to(script))
    assert driver.connect().firmware == "some text; more"
    assert driver.set_attenuation_db(12.34) == 12.34
    assert driver.snapshot() == {"position_steps": 1234, "attenuation_db": 12.34}
    script.done()


@pytest.mark.parametrize("answer", [b"Done\r\n\r\n", b"nonsense\r\nDone\r\n\r\n", b"DPos:x\r\nATTEN:1\r\nDone\r\n\r\n"])
def test_attenuator_other_answers(answer):
    script = Dialogue(*DD100_HELLO, (b"D\r", answer))
    driver = Dd100(transport_to(script))
    driver.connect()
    with pytest.raises(ReplyError):
        driver.attenuation_db()


def test_attenuator_in_the_world_and_its_faults():
    knob = FixedKnob(3.0)
    box, driver = made(SimDd100, Dd100, knob, highest_db=50.0)
    assert driver.attenuation_db() == 3.0
    assert driver.set_attenuation_db(20.0) == 20.0
    assert knob.value == 20.0
    with pytest.raises(SettingError, match="outside 0 to 50 dB"):
        driver.set_attenuation_db(50.1)
    before = driver.transport.now()
    driver.home()
    assert driver.transport.now() - before > 5.0
    assert knob.value == 0.0
    box.faults.add("stuck_motor", times=1)
    with pytest.raises(SettingError, match="attenuation_db was set to 10 dB but reads 0 dB"):
        driver.set_attenuation_db(10.0)
    box.faults.add("no_done", times=1)
    with pytest.raises(TransportTimeout):
        driver.attenuation_db()
    times_out_and_goes_on(box, driver, driver.attenuation_db)
    box.faults.add("garbage", times=1)
    with pytest.raises(ReplyError):
        driver.attenuation_db()
    assert driver.attenuation_db() == 0.0
    box.faults.add("wrong_identity")
    with pytest.raises(IdentityError, match="VOA"):
        driver.reconnect()


CLEAN = (b":syst:err:all?\n", b'0,"No error"\n')
SWITCH_HELLO = [
    (b"*idn?\n", b"Polatis,I-OST-24x24-LU1-DMHNS,002414,6.5.2.18\n"),
    (b"*cls\n", b""),
    (b":oxc:swit:size?\n", b"16,16\n"),
]


def switch(*lines):
    script = Dialogue(*SWITCH_HELLO, *lines)
    driver = Polatis(transport_to(script))
    return script, driver, driver.connect()


def test_switch_dialogue_of_the_specification():
    script, driver, identity = switch(
        (b":oxc:swit:conn:port? 2\n", b'""\n'),
        (b":oxc:swit:conn:add (@2),(@18)\n", b""),
        CLEAN,
        (b":oxc:swit:conn:port? 2\n", b'"18"\n'),
        (b":oxc:swit:conn:stat?\n", b"(@1,2,3),(@19,18,22)\n"),
        (b":oxc:swit:conn:stat?\n", b"(@),(@)\n"),
        (b":oxc:swit:disc:all\n", b""),
        CLEAN,
        (b":oxc:swit:conn:stat?\n", b"(@),(@)\n"),
    )
    assert (identity.serial, identity.firmware) == ("002414", "6.5.2.18")
    driver.route(2, 18)
    assert driver.routes() == {1: 19, 2: 18, 3: 22}
    assert driver.routes() == {}
    driver.disconnect_all()
    script.done()


def test_switch_errors_and_limits():
    script, driver, _ = switch(
        (b":oxc:swit:conn:port? 1\n", b'""\n'),
        (b":oxc:swit:conn:add (@1),(@17)\n", b""),
        (b":syst:err:all?\n", b'-221,"Settings conflict",-350,"Queue overflow"\n'),
        (b":oxc:swit:conn:stat?\n", b"(@1,2),(@19)\n"),
        (b":syst:err:all?\n", b"\n"),
    )
    with pytest.raises(InstrumentError, match="Settings conflict") as caught:
        driver.route(1, 17)
    assert caught.value.code == -221
    with pytest.raises(ReplyError):
        driver.routes()
    with pytest.raises(ReplyError):
        driver.errors()
    for inlet, outlet in ((0, 17), (17, 18), (1, 16), (1, 33)):
        with pytest.raises(SettingError):
            driver.route(inlet, outlet)
    script.done()


def test_switch_in_the_world_and_its_faults():
    knobs = [FixedKnob() for _ in range(8)]
    box, driver = made(SimPolatis, Polatis, knobs)
    driver.route(2, 10)
    driver.route(3, 10)
    assert [k.value for k in knobs[1:3]] == [0.0, 10.0]
    assert driver.snapshot() == {"inlets": 8, "outlets": 8, "route_3": 10}
    driver.route(3, None)
    driver.route(3, None)
    assert driver.routes() == {}
    driver.route(1, 9)
    driver.disconnect_all()
    assert not any(k.value for k in knobs)
    box.faults.add("disabled_port", times=1)
    with pytest.raises(InstrumentError, match="Settings conflict"):
        driver.route(1, 9)
    box.faults.add("stuck_mirror", times=1)
    with pytest.raises(SettingError, match="led to 9 but leads to None"):
        driver.route(1, 9)
    driver.tell(":nonsense")
    assert driver.errors() == ["-113: Undefined header"]
    times_out_and_goes_on(box, driver, driver.routes)
    box.faults.add("garbage", times=1)
    with pytest.raises(ReplyError):
        driver.routes()
    box.faults.add("wrong_identity", times=1)
    with pytest.raises(IdentityError, match="Agiltron"):
        driver.reconnect()


NO_ERROR = (b"SYST:ERR?\n", b'+0,"No error"\n')
DMM_READ_BACK = [
    (b"FUNC?\n", b'"CURR"\n'),
    (b"CURR:RANG?\n", b"+1.00000000E-04\n"),
    (b"CURR:NPLC?\n", b"+1.00000000E+00\n"),
]
DMM_HELLO = [
    (b"*IDN?\n", b"Keysight Technologies,34465A,MY1,A.02\n"),
    (b"*CLS\n", b""),
    (b'FUNC "CURR"\n', b""),
    (b"CURR:RANG 1.000000E-04\n", b""),
    (b"CURR:NPLC 1\n", b""),
    (b"TRIG:SOUR IMM\n", b""),
    (b"SAMP:COUN 1\n", b""),
    NO_ERROR,
    *DMM_READ_BACK,
    DMM_READ_BACK[2],
    DMM_READ_BACK[1],
]


def test_current_meter_dialogue_of_the_specification():
    script = Dialogue(
        *DMM_HELLO,
        (b"READ?\n", b"+1.23456700E-06\n"),
        (b"READ?\n", b"+9.90000000E+37\n"),
        (b"READ?\n", b"-9.90000000E+37\n"),
    )
    driver = Dmm(transport_to(script))
    driver.connect()
    assert driver.current_a() == 1.234567e-6
    assert driver.current_a() == math.inf
    assert driver.current_a() == -math.inf
    script.done()


@pytest.mark.parametrize("model", ["34401A", "34450A", "34461A", "34470A"])
def test_current_meter_models_of_the_class(model):
    script = Dialogue((b"*IDN?\n", f"HEWLETT-PACKARD,{model},0,11-5-2\n".encode()), *DMM_HELLO[1:])
    assert Dmm(transport_to(script)).connect().model == model


def test_current_meter_in_the_world_and_its_faults():
    knob = FixedKnob(2e-7)
    box, driver = made(SimDmm, Dmm, knob)
    assert driver.current_a() == pytest.approx(2e-7, abs=1e-8)
    knob.value = 8e-5
    assert driver.current_a() == pytest.approx(8e-5, abs=1e-8)
    knob.value = 5e-3
    assert driver.current_a() == math.inf
    knob.value = 2e-7
    box.faults.add("overload", times=1)
    assert driver.current_a() == math.inf
    box.faults.add("open_lead", times=1)
    assert abs(driver.current_a()) < 1e-8
    box.faults.add("error_entry", times=1)
    with pytest.raises(InstrumentError, match="Settings conflict"):
        driver.reconnect()
    driver.reconnect()
    times_out_and_goes_on(box, driver, driver.snapshot)
    box.faults.add("garbage", times=1)
    with pytest.raises(ReplyError):
        driver.current_a()
    box.faults.add("wrong_identity", times=1)
    with pytest.raises(IdentityError, match="53230A"):
        driver.reconnect()
    for options in ({"range_a": 5.0}, {"cycles": 3.0}):
        with pytest.raises(SettingError):
            Dmm(driver.transport, **options)
