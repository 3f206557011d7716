"""Base of all drivers: settings, identity, stale replies, reconnection; over memory, pseudo-terminal, TCP and VISA."""

import numpy as np
import pytest

from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import (
    IdentityError,
    InstrumentError,
    ReplyError,
    SettingError,
    TransportClosed,
    TransportTimeout,
)
from qkdpp_drivers.instrument import Identity, Setting, TextInstrument, scpi_error
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.hosts import PtyHost, TcpHost
from qkdpp_drivers.sim.simulated import COMMON_FAULTS, CommandInstrument, RealClock
from qkdpp_drivers.transports import ManualClock, MemoryTransport, open_url
from qkdpp_drivers.transports.urls import LAB_VARIABLE, resolve

VOLTAGE = Setting(name="voltage", unit="V", low=-1.0, high=2.0, tolerance=0.01)


class Box(CommandInstrument):
    """A box with one voltage and an error queue."""

    def __init__(self, clock):
        super().__init__(clock=clock, faults=Faults(COMMON_FAULTS), rng=np.random.default_rng(1))
        self.voltage, self.queue = 0.0, []

    def command(self, text):
        if text == "*IDN?":
            self.say("Other,THING,1,2" if self.faults.fires("wrong_identity") else "Maker,BOX-1,42,1.0")
        elif text == "VOLT?":
            self.say(f"{self.voltage:.3f}")
        elif text.startswith("VOLT "):
            self.voltage = float(text[5:])
        elif text == "SYST:ERR?":
            self.say(self.queue.pop(0) if self.queue else '+0,"No error"')
        else:
            self.queue.append('-113,"Undefined header"')


class BoxDriver(TextInstrument):
    kind, vendor, model, transports = "Test", "Maker", "BOX", ("serial",)
    timeout_s = 0.5

    def set_voltage(self, value_v):
        self.tell(f"VOLT {VOLTAGE.check(self.name, value_v):.3f}")
        return VOLTAGE.verify(self.name, value_v, self.ask_number("VOLT?"))

    def snapshot(self):
        return {"voltage_v": self.ask_number("VOLT?")}

    def errors(self):
        return self._scpi_errors()


@pytest.fixture
def box():
    return Box(ManualClock())


@pytest.fixture
def driver(box):
    return BoxDriver(MemoryTransport(box, box.clock))


def test_a_setting_is_checked_sent_and_read_back(box, driver):
    assert driver.connect() == Identity(vendor="Maker", model="BOX-1", serial="42", firmware="1.0")
    assert driver.set_voltage(1.25) == 1.25
    assert box.voltage == 1.25
    with pytest.raises(SettingError, match=r"voltage = 2\.5 V is outside -1 to 2 V"):
        driver.set_voltage(2.5)
    with pytest.raises(SettingError, match="voltage = nan"):
        driver.set_voltage(float("nan"))
    with pytest.raises(SettingError, match=r"was set to 1 V but reads 1\.5 V"):
        VOLTAGE.verify("box", 1.0, 1.5)


def test_wrong_identity_is_refused_and_closes(box, driver):
    box.faults.add("wrong_identity")
    with pytest.raises(IdentityError, match="Other THING answers, not Maker BOX"):
        driver.connect()
    assert not driver.transport.is_open
    assert driver.epoch == 0


def test_nothing_of_the_time_before_is_taken_for_an_answer(box, driver):
    box.reply(b"half a li")
    driver.connect()
    assert driver.snapshot() == {"voltage_v": 0.0}


def test_a_late_reply_never_answers_the_next_question(box, driver):
    driver.connect()
    driver.set_voltage(1.0)
    box.faults.add("late_reply", times=1)
    with pytest.raises(TransportTimeout, match=r"memory: no .* within 0\.5 s"):
        driver.ask("VOLT?")
    box.voltage = 2.0
    driver.transport.sleep(box.LATE_S)
    assert driver.ask_number("VOLT?") == 2.0


def test_an_instrument_gone_silent_says_so(box, driver):
    driver.connect()
    box.faults.add("no_reply")
    for _ in range(2):
        with pytest.raises(TransportTimeout):
            driver.snapshot()
    box.faults.discard("no_reply")
    assert driver.snapshot() == {"voltage_v": 0.0}


def test_garbage_is_a_typed_error_with_the_bytes(box, driver):
    driver.connect()
    box.faults.add("garbage", times=1)
    with pytest.raises(ReplyError) as caught:
        driver.snapshot()
    assert b"\xff\xfe" in caught.value.raw
    box.faults.add("split_reply", times=1)
    assert driver.snapshot() == {"voltage_v": 0.0}


def test_error_queue(driver):
    driver.connect()
    assert driver.errors() == []
    driver.tell("NONSENSE")
    driver.tell("MORE")
    assert driver.errors() == ["-113: Undefined header"] * 2
    driver.tell("NONSENSE")
    with pytest.raises(InstrumentError, match="Undefined header") as caught:
        driver._no_errors()
    assert caught.value.code == -113
    with pytest.raises(ReplyError):
        scpi_error("box", "SYST:ERR?", "no number")


def test_reconnection_is_a_new_epoch_with_the_identity_checked_again(box, driver):
    driver.connect()
    box.faults.add("disconnect")
    with pytest.raises(TransportClosed, match="reconnect"):
        driver.snapshot()
    with pytest.raises(TransportClosed):
        driver.reconnect(tries=2)
    box.faults.discard("disconnect")
    driver.reconnect()
    assert driver.epoch == 2
    box.faults.add("wrong_identity")
    with pytest.raises(IdentityError):
        driver.reconnect()


HOSTS = {
    "pty": (PtyHost, {}, "{}"),
    "tcp": (TcpHost, {}, "{}"),
    "serial over a socket": (TcpHost, {"scheme": "serial://socket"}, "{}"),
    "visa": (TcpHost, {"scheme": "visa"}, "{}"),
}


def wait_until_gone(driver):
    for _ in range(20):
        try:
            driver.ask("VOLT?", 0.1)
        except DeviceError:
            return
    pytest.fail("the driver goes on without an instrument")


@pytest.mark.parametrize("kind", HOSTS)
def test_the_same_conversation_through_every_transport(kind):
    make, options, url = HOSTS[kind]
    box = Box(RealClock())
    with make(box, **options) as host, BoxDriver.from_url(url.format(host.url)) as driver:
        assert driver.set_voltage(0.5) == 0.5
        box.faults.add("split_reply", times=1)
        assert driver.snapshot() == {"voltage_v": 0.5}
        box.faults.add("no_reply", times=1)
        with pytest.raises(TransportTimeout):
            driver.ask("VOLT?", 0.1)
        assert driver.snapshot() == {"voltage_v": 0.5}
        box.faults.add("disconnect")
        wait_until_gone(driver)
        box.faults.discard("disconnect")
        driver.reconnect(tries=6, wait_s=0.05)
        assert driver.epoch == 2
        assert driver.snapshot() == {"voltage_v": 0.5}


@pytest.mark.parametrize(
    "url",
    ["serial:///nowhere/tty", "tcp://127.0.0.1:1", "visa://TCPIP::127.0.0.1::1::SOCKET", "pipe:///nowhere/fifo"],
)
def test_nothing_there_is_a_device_error_that_names_the_place(url):
    driver = BoxDriver.from_url(url)
    with pytest.raises((TransportClosed, TransportTimeout), match=r"nowhere|127\.0\.0\.1"):
        driver.connect()


def test_urls(tmp_path, monkeypatch):
    for url in ("COM3", "ftp://a", "tcp://host", "tcp://host:99999", "serial:///x?baud=fast", "tcp://h:1?speed=3"):
        with pytest.raises(DeviceError):
            open_url(url)
    assert BoxDriver.from_url("serial:///dev/x?baud=9600").transport.baud == 9600
    monkeypatch.delenv(LAB_VARIABLE, raising=False)
    with pytest.raises(DeviceError, match=LAB_VARIABLE):
        resolve("sim://box")
    lab = tmp_path / "lab.json"
    lab.write_text('{"box": "tcp://127.0.0.1:5"}')
    assert resolve(f"sim://box?lab={lab}") == "tcp://127.0.0.1:5"
    monkeypatch.setenv(LAB_VARIABLE, str(lab))
    assert resolve("sim://box?baud=3") == "tcp://127.0.0.1:5?baud=3"
    with pytest.raises(DeviceError, match="no instrument 'other'"):
        resolve("sim://other")
