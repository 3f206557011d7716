"""LectroTIC-4: records and conversation of the specification, then every fault of the simulated device."""

import numpy as np
import pytest
from dialogue import Dialogue, transport_to

from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import (
    IdentityError,
    ReplyError,
    SettingError,
    TransportClosed,
    TransportTimeout,
)
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.hosts import PtyHost
from qkdpp_drivers.sim.ports import GivenEdges, PoissonEdges
from qkdpp_drivers.sim.simulated import RealClock
from qkdpp_drivers.sim.taggers.lectrotic4 import SimLectroTic4
from qkdpp_drivers.taggers.lectrotic4 import LectroTic4, decode
from qkdpp_drivers.transports import ManualClock, MemoryTransport

RISING = bytes.fromhex("ad140000 ca5fb828")
FALLING = bytes.fromhex("01000000 7fb2e6ce")
CLEARED = bytes.fromhex("00000000 00000010")
LOST = bytes.fromhex("07002c01 01000090")
FAILED = bytes.fromhex("00000000 02000010")
OPEN = [(b"\nOUTP:STAT OFF\n", b""), (b"*CLS\n", b""), (b"*IDN?\n", b"Lectrobox,LectroTIC-4,7,0.16.0-abc\n")]
START = [
    (b"FORM:DATA?\n", b"TEXT\n"),
    (b"FORM:DATA BIN\n", b""),
    (b"SYST:ERR?\n", b'0,"No error"\n'),
    (b"OUTP:CLE\n", b"5 0\x00" + CLEARED),
]
STOP = [(b"OUTP:STAT OFF\n", b""), (b"FORM:DATA TEXT\n", b"")]


def test_the_vectors_of_the_specification():
    found = decode(RISING + FALLING + CLEARED + LOST + FAILED)
    assert (found.ticks * 4).tolist() == [5293_585203496, 1_999999996]
    assert found.channel.tolist() == [0, 7]
    assert found.lost_pulses == ((7, 300),)
    assert found.oscillator_failed
    assert found.invalid == 0
    unknown = decode(bytes.fromhex("00000000 63000010"))
    assert (unknown.ticks.size, unknown.lost_pulses, unknown.oscillator_failed) == (0, (), False)
    assert decode(bytes.fromhex("00000000 80b2e60e")).invalid == 1  # 250 000 000 ticks in a second


def test_a_stream_by_the_book_in_time_order():
    script = Dialogue(*OPEN, *START, (b"OUTP:STAT ON\n", RISING + LOST + FALLING[:3]), *STOP)
    driver = LectroTic4(transport_to(script))
    assert driver.connect().firmware == "0.16.0-abc"
    driver.start()
    first = driver.read(0.05)
    assert first.flags == ("overflow",)
    assert first.tags.lost == ((0, 146300874),)  # 0.585203496 s after the whole second of the first tag
    script.push(FALLING[3:])
    late = driver.read(0.05)
    driver.stop()
    chunk = driver.read(0.0)
    assert chunk.tags.ticks.tolist() == [146300874]
    assert late.flags == ("invalid",)  # an hour and a half before the first tag
    assert late.tags.ticks.size == 0
    script.done()


def test_settings():
    script = Dialogue(
        *OPEN,
        (b"INP2:SLOP NEG\n", b""),
        (b"INP2:SLOP?\n", b"NEG\n"),
        (b"INP1:DIV 1000\n", b""),
        (b"INP1:DIV?\n", b"999\n"),
        (b"SYST:ERR?\n", b'-222,"Divider must be >= 1"\n'),
        (b"SYST:ERR?\n", b'0,"No error"\n'),
    )
    driver = LectroTic4(transport_to(script))
    driver.connect()
    assert driver.set_slope(2, "NEG") == "NEG"
    with pytest.raises(SettingError, match="divider was set to 1000 pulses but reads 999"):
        driver.set_divider(1, 1000)
    with pytest.raises(SettingError, match="divider = 0 pulses"):
        driver.set_divider(0, 0)
    with pytest.raises(SettingError, match="channel = 4"):
        driver.set_slope(4, "POS")
    assert driver.errors() == ["-222: Divider must be >= 1"]
    script.done()


def simulated(edges=None):
    clock = ManualClock()
    if edges is None:
        times = np.arange(1, 100_000) * 200_000_000
        edges = GivenEdges(times, (np.arange(times.size) % 4).astype(np.uint8))
    sim = SimLectroTic4(edges, clock=clock, faults=Faults(SimLectroTic4.FAULTS), rng=np.random.default_rng(1))
    driver = LectroTic4(MemoryTransport(sim, clock, step_s=5e-3))
    driver.connect()
    return driver, sim, clock


def run(driver, duration_s):
    return [driver.read(0.05) for _ in range(round(duration_s / 0.05))]


def test_channels_served_in_turn_come_in_time_order():
    driver, _, _ = simulated()
    driver.set_slope(1, "BOTH")
    driver.set_divider(3, 5)
    assert driver.snapshot()["divider_3"] == 5
    driver.start()
    chunks = run(driver, 3.0)
    driver.stop()
    chunks.append(driver.read(0.0))
    assert all(chunk.clean for chunk in chunks)
    ticks = np.concatenate([chunk.tags.ticks for chunk in chunks])
    channel = np.concatenate([chunk.tags.channel for chunk in chunks])
    assert (np.diff(ticks) >= 0).all()
    for number, spacing in ((0, 200_000), (1, 200_000), (5, 200_000), (3, 1_000_000)):
        own = ticks[channel == number]
        assert own.size > 2.5 * 250_000_000 / spacing
        assert (np.diff(own) == spacing).all()
    assert driver.status()["clean"]
    assert driver.ask("FORM:DATA?") == "TEXT"  # as it was before


def test_lost_pulses_condemn_the_interval_since_the_output_was_idle():
    driver, sim, _ = simulated()
    driver.start()
    run(driver, 1.0)
    sim.faults.add("ring_overflow", times=1)
    chunks = run(driver, 1.0)
    (flags,) = {chunk.flags for chunk in chunks if chunk.flags}
    assert flags == ("overflow",)
    ((start, end),) = [gap for chunk in chunks for gap in chunk.tags.lost]
    assert 0.5 < start * 4e-9 < 1.05
    assert 1.0 < end * 4e-9 < 1.3
    assert not driver.status()["clean"]
    assert driver.status()["clean"]


def test_a_failed_reference_ends_the_stream():
    driver, sim, _ = simulated()
    driver.start()
    run(driver, 0.5)
    sim.faults.add("oscillator_failure", times=1)
    flags = {flag for chunk in run(driver, 0.5) for flag in chunk.flags}
    assert flags == {"reference_lost", "ended"}
    state = driver.status()
    assert (state["clean"], state["reference_ok"], state["streaming"], state["epoch"]) == (False, False, True, 1)


def test_unknown_messages_are_skipped_and_a_stream_out_of_step_is_refused():
    driver, sim, _ = simulated()
    driver.start()
    sim.faults.add("unknown_message")
    assert all(chunk.clean for chunk in run(driver, 1.0))
    sim.faults.add("out_of_step", times=1)
    with pytest.raises(ReplyError, match="stream"):
        run(driver, 2.0)


def test_a_unit_that_streams_for_somebody_who_died_is_silenced_first():
    driver, sim, clock = simulated()
    driver.start()
    sim.faults.add("usb_busy")
    sim.receive(b"*IDN?\n")
    clock.advance(0.1)
    assert b"LectroTIC" not in sim.poll()
    again = LectroTic4(MemoryTransport(sim, clock, step_s=5e-3))
    again.connect()
    assert again.slope(0) == "POS"


def test_faults_of_the_conversation():
    driver, sim, _ = simulated()
    sim.faults.add("usb_busy")
    driver.start()
    with pytest.raises(DeviceError, match="stop it first"):
        driver.slope(0)
    driver.stop()
    assert driver.slope(0) == "POS"
    driver.tell("NONSENSE")
    assert driver.errors() == ["-100: Command error"]
    sim.faults.add("late_reply", times=1)
    with pytest.raises(TransportTimeout):
        driver.slope(0)
    driver.transport.sleep(5)
    assert driver.divider(0) == 1
    for fault in ("garbage", "no_reply"):
        sim.faults.add(fault, times=1)
        with pytest.raises((ReplyError, TransportTimeout)):
            driver.slope(0)
    sim.faults.add("split_reply", times=1)
    assert driver.slope(0) == "POS"
    sim.faults.add("wrong_identity")
    with pytest.raises(IdentityError, match="Timestamper answers"):
        driver.reconnect()
    sim.faults.discard("wrong_identity")
    driver.reconnect()
    driver.start()
    sim.faults.add("disconnect")
    with pytest.raises(TransportClosed):
        run(driver, 0.5)
    sim.faults.discard("disconnect")
    driver.reconnect()
    assert driver.epoch == 3


def test_through_a_pseudo_terminal():
    rng = np.random.default_rng(2)
    faults = Faults(SimLectroTic4.FAULTS)
    sim = SimLectroTic4(PoissonEdges((5000.0,) * 4, rng), clock=RealClock(), faults=faults, rng=rng)
    with PtyHost(sim) as host, LectroTic4.from_url(host.url) as driver:
        driver.start()
        chunks = [driver.read(0.1) for _ in range(8)]
        driver.stop()
        chunks.append(driver.read(0.0))
        assert all(chunk.clean for chunk in chunks)
        ticks = np.concatenate([chunk.tags.ticks for chunk in chunks])
        span_s = (ticks[-1] - ticks[0]) * 4e-9
        assert span_s > 0.5
        assert abs(ticks.size - 20_000 * span_s) < 6 * np.sqrt(20_000 * span_s)
