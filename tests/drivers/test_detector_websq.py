"""WebSQ: cutting JSON out of bytes, the dialogue of the specification, then every fault of the simulated controller."""

import json

import numpy as np
import pytest
from cable import use_until_gone
from dialogue import Dialogue, transport_to
from hypothesis import given
from hypothesis import strategies as st

from qkdpp.core.errors import DeviceError
from qkdpp_drivers.detectors.json_stream import JsonSplitter, NotJsonError
from qkdpp_drivers.detectors.websq import WebSq
from qkdpp_drivers.errors import (
    IdentityError,
    InstrumentError,
    ReplyError,
    SettingError,
    TransportClosed,
    TransportTimeout,
)
from qkdpp_drivers.sim.detectors.websq import alone
from qkdpp_drivers.sim.hosts import TcpHost
from qkdpp_drivers.sim.simulated import RealClock
from qkdpp_drivers.transports import ManualClock

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def cut(data, sizes):
    splitter, found = JsonSplitter(), []
    sizes = iter(sizes)
    while data:
        n = next(sizes, len(data))
        splitter.feed(data[:n])
        data = data[n:]
        while (message := splitter.take()) is not None:
            found.append(message)
    return found


@given(
    st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), max_size=4),
    st.lists(st.sampled_from(["", "\x17", "\r\n", " "]), min_size=4, max_size=4),
    st.lists(st.integers(1, 9), max_size=40),
    st.booleans(),
)
def test_objects_glued_separated_or_split_anywhere_come_out_whole(objects, ends, sizes, ascii_only):
    text = "".join(json.dumps(o, ensure_ascii=ascii_only) + end for o, end in zip(objects, ends, strict=False))
    assert cut(text.encode(), sizes) == objects


@given(st.binary(max_size=40))
def test_garbage_is_one_kind_of_error_and_what_follows_the_group_end_is_read(noise):
    splitter = JsonSplitter()
    splitter.feed(noise.replace(b"{", b"?").replace(b'"', b"?") + b'\x17{"label":"a"}')
    found, dropped = [], b""
    for _ in range(50):
        try:
            if (message := splitter.take()) is None:
                break
            found.append(message)
        except NotJsonError as error:
            dropped += error.raw
    assert found == [{"label": "a"}]
    assert len(dropped) <= len(noise) + 1


DUMP = (
    b'{"label":"NumberOfDetectors","value":{"value":2}}{"label":"BiasCurrent","value":{"value":[0.0,0.0],'
    b'"bounds":[-90.9,90.9],"units":"uA"}}\x17{"label":"TriggerLevel","value":{"value":[100,100]}}\x17'
    b'{"label":"DetectorEnable","value":{"value":false}}{"label":"BiasVoltage","value":{"value":[0,0]}}\x17'
    b'{"label":"InptMeasurementPeriod","value":{"value":100,"units":"ms"}}\x17'
)
ALL = (b'{"request":"labelProps","value":"None"}', DUMP)


def scripted(*lines):
    control, counts, clock = Dialogue(ALL, *lines), Dialogue(), ManualClock()
    driver = WebSq(transport_to(control, clock), counts=transport_to(counts, clock), bias_limit_ua=25.0)
    driver.connect()
    return control, counts, driver


def test_the_dialogue_of_the_specification():
    control, _, driver = scripted(
        (
            b'{"command":"SetAllBiasCurrents","label":"BiasCurrent","value":[0.0,12.5]}',
            b'{"label":"Unknown","value":3}{"label":"BiasCurrent","value":[0.0,12.47]}\x17',
        ),
        (
            b'{"command":"DetectorEnable","label":"DetectorEnable","value":true}',
            b'{"label":"DetectorEnable","value":true}\x17',
        ),
        (
            b'{"command":"SetMeasurementPeriod","label":"InptMeasurementPeriod","value":20}',
            b'{"label":"InptMeasurementPeriod","value":20}\x17',
        ),
        (b'{"request":"BiasVoltage"}', b'{"label":"BiasVoltage","value":[1.5,880.0]}\x17'),
    )
    assert list(driver.channels) == [0, 1]
    assert driver.set_bias(1, 12.5) == 12.47
    driver.enable(0, True)
    assert driver.set_period_ms(20) == 20
    assert driver.latched() == [False, True]
    control.done()


def test_every_line_of_counts_is_read_also_several_at_once():
    _, counts, driver = scripted()
    counts.push(b"1700000000.0,9,9\n1700000000.1,8,8\n")
    later = [b"partial,1\n", b"1700000000.2,1,2\n1700000000.25,5,5\n1700000000.35,123.0,4567.0\n"]
    polls = iter([b"1700000000.0,9,9\n", b"", *later])
    counts.poll = lambda: next(polls, b"")
    assert driver.counts(0.1) == {0: 123, 1: 4567}


def test_a_value_that_stays_as_it_was_is_not_taken_for_set():
    control, _, driver = scripted(
        (b'{"command":"SetAllTriggerLevels","label":"TriggerLevel","value":[150,100.0]}', b""), ALL
    )
    with pytest.raises(SettingError, match="TriggerLevel was set to"):
        driver.set_trigger_mv(0, 150)
    control.done()
    with pytest.raises(SettingError, match="bias_ua = 25"):
        driver.set_bias(0, 25.1)
    with pytest.raises(SettingError, match="channels are 0 to 1"):
        driver.set_bias(2, 1.0)
    with pytest.raises(SettingError, match="period_ms = 5 ms"):
        driver.counts(0.005)


@pytest.fixture
def pair():
    clock = ManualClock()
    box = alone(clock, np.random.default_rng(4))
    driver = WebSq(transport_to(box, clock), counts=transport_to(box.counts, clock), bias_limit_ua=25.0)
    driver.connect()
    return box, driver


def test_counts_follow_the_bias_current(pair):
    _, driver = pair
    assert driver.counts(0.1) == dict.fromkeys(range(4), 0)
    for channel, bias_ua in enumerate((5.0, 9.0, 15.0, 21.0)):
        assert driver.set_bias(channel, bias_ua) == bias_ua
    driver.enable(0, True)
    found = driver.counts(0.2)
    assert found[0] < 0.2 * found[1] < found[1] < 0.7 * found[2]
    assert found[3] == 0
    assert driver.latched() == [False, False, False, True]
    snapshot = driver.snapshot()
    assert snapshot["bias_2_ua"] == 15.0
    assert snapshot["enabled"] is True
    assert snapshot["period_ms"] == 200


def test_bright_light_latches_until_the_bias_is_switched(pair):
    box, driver = pair
    driver.set_bias(0, 15.0)
    driver.enable(0, True)
    box.faults.add("bright_pulse")
    assert driver.latched() == [True] * 4
    box.faults.discard("bright_pulse")
    assert driver.counts(0.1)[0] == 0
    driver.unlatch()
    assert driver.latched() == [False] * 4
    assert driver.counts(0.1)[0] > 1000


def test_automatic_bias(pair):
    box, driver = pair
    box.faults.add("rejected_value", times=2)
    with pytest.raises(DeviceError, match="does not begin"):
        driver.auto_bias([100.0] * 4)
    assert driver.auto_bias([100.0] * 4) == [18.0] * 4
    with pytest.raises(SettingError, match="one rate for each of 4"):
        driver.auto_bias([100.0])
    with pytest.raises(DeviceError, match="has no end"):
        driver.auto_bias([100.0] * 4, limit_s=0.5)


@pytest.mark.parametrize("fault", ["glued", "broadcasts", "slow_labels", "split_reply"])
def test_faults_that_change_nothing(pair, fault):
    box, driver = pair
    box.faults.add(fault)
    assert driver.set_bias(2, 11.0) == 11.0
    assert driver.snapshot()["bias_2_ua"] == 11.0
    driver.reconnect()
    assert driver.epoch == 2


def test_faults_that_are_told(pair):
    box, driver = pair
    box.faults.add("error_label", times=1)
    with pytest.raises(InstrumentError, match="SetAllBiasCurrents failed"):
        driver.set_bias(0, 5.0)
    box.faults.add("rejected_value", times=1)
    with pytest.raises(SettingError, match=r"stays at \[0\.0"):
        driver.set_bias(0, 5.0)
    box.faults.add("no_reply")
    with pytest.raises(TransportTimeout):
        driver.set_bias(0, 6.0)
    box.faults.discard("no_reply")
    box.faults.add("garbage", times=1)
    with pytest.raises(ReplyError):
        driver.bias_voltages_mv()
    box.faults.add("short_line")
    with pytest.raises(ReplyError, match="counts"):
        driver.counts(0.1)


def test_an_error_label_can_be_asked_for(pair):
    box, driver = pair
    box.faults.add("error_label", times=1)
    driver.transport.write(b'{"command":"DetectorEnable","label":"DetectorEnable","value":true}')
    driver.transport.sleep(1.0)
    assert driver.errors() == ["ErrorMessage: DetectorEnable failed"]
    assert driver.errors() == []


def test_a_label_dump_that_comes_when_nobody_waits_is_only_news(pair):
    box, driver = pair
    box.faults.add("late_reply", times=1)
    with pytest.raises(TransportTimeout):
        driver.bias_voltages_mv()
    driver.transport.sleep(box.LATE_S)
    assert driver.set_bias(0, 7.0) == 7.0


def test_wrong_instrument_and_silence(pair):
    box, driver = pair
    box.faults.add("wrong_identity")
    with pytest.raises(IdentityError, match="Flow"):
        driver.reconnect()
    assert not driver.count_line.is_open
    box.faults.discard("wrong_identity")
    box.faults.add("no_reply")
    with pytest.raises(TransportTimeout, match="no labels"):
        driver.reconnect()
    with pytest.raises(DeviceError, match="counts_url"):
        WebSq.from_url("tcp://127.0.0.1:1", bias_limit_ua=20.0)


def test_over_two_sockets_with_the_cable_out_and_in():
    box = alone(RealClock(factor=10.0), np.random.default_rng(5))
    with TcpHost(box) as control, TcpHost(box.counts) as lines:
        driver = WebSq.from_url(control.url, counts_url=lines.url, bias_limit_ua=25.0)
        with driver:
            driver.set_bias(1, 15.0)
            driver.enable(1, True)
            assert driver.counts(0.1)[1] > 1000
            box.faults.add("disconnect")
            assert isinstance(use_until_gone(driver.bias_voltages_mv), TransportClosed)
            box.faults.discard("disconnect")
            driver.reconnect(tries=6, wait_s=0.05)
            assert driver.epoch == 2
            assert driver.counts(0.1)[1] > 1000
