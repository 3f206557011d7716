"""ID900: the conversation of the specification, the simulated unit with its faults, streams through ZeroMQ."""

import contextlib
import socket

import numpy as np
import pytest
from cable import use_until_gone
from dialogue import Dialogue, transport_to

from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import IdentityError, InstrumentError, ReplyError, SettingError, TransportTimeout
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.hosts import ZmqHost
from qkdpp_drivers.sim.ports import GivenEdges, PoissonEdges
from qkdpp_drivers.sim.simulated import RealClock
from qkdpp_drivers.sim.taggers.id900 import SimDataLinkTarget, SimId900
from qkdpp_drivers.taggers.id900 import DEAD_PS, Id900, StreamOfRecords
from qkdpp_drivers.transports import ManualClock, MemoryTransport

IDN = (b"*IDN?", b"ID Quantique,ID900,2010042,1.2")


def connected(*lines):
    script = Dialogue(IDN, *lines)
    driver = Id900(transport_to(script))
    driver.connect()
    return script, driver


def test_the_vector_of_the_specification():
    stream = StreamOfRecords(10**12)
    stream.add(np.frombuffer(bytes.fromhex("e803000000000000141a99be1c000000"), "<u8").astype(np.int64))
    stream.end()
    assert stream.take(0).tolist() == [1000, 123456789012]


def test_records_are_told_apart_where_time_starts_again():
    stream = StreamOfRecords(10**12)
    stream.add(np.array([5, 900]))
    stream.add(np.array([901, 902, 3, 4]))
    assert stream.complete == 1
    stream.add(np.array([2]))
    assert stream.complete == 2
    stream.end()
    assert [stream.take(n).tolist() for n in range(3)] == [[5, 900, 901, 902], [3, 4], [2]]


def test_replies_in_all_the_forms_that_occur():
    script, driver = connected(
        (b"INPUt2:ENABle ON", b"ON"),
        (b"INPUt2:COUPling DC", b"OK"),
        (b"INPUt2:EDGE FALLING", b"INPU2:EDGE FALLING"),
        (b"INPUt2:THREshold -0.250V", b"-0.25V"),
        (
            b"INPUt2:STATE?",
            b"INPU2:ENAB ON;COUP DC;EDGE FALLING;THRE -0.250V;SELE UNSHAPED;RESY AUTO;COUN:INTE 1000;MODE CYCL",
        ),
        (b"DELAy1:VALUe 1000", b"1000TB"),
        (b"DELAy1:VALUe?", b"1000TB"),
        (b"DELAy3:VALUe?", b"DELA3:VALUE what"),
        (b"DEVIce:NONSENSE", b"DEVIce:NONSENSE SCPI_ERR_INVALID_CMD"),
        (b"DEVIce:SAMPling:RECAlibrate", b"Calibration failed"),
        (b"INPUt1:COUNter?", b"INPUt1 SCPI_ERR_PARAM_COUNT"),
    )
    assert driver.set_input(2, threshold_v=-0.25, edge="FALLING") == -0.25
    assert driver.set_delay_ps(1, 1000) == 1000
    with pytest.raises(ReplyError, match="VALUe"):
        driver.delay_ps(3)
    with pytest.raises(InstrumentError, match="SCPI_ERR_INVALID_CMD"):
        driver.tell("DEVIce:NONSENSE")
    with pytest.raises(InstrumentError, match="failed"):
        driver.tell("DEVIce:SAMPling:RECAlibrate")
    with pytest.raises(InstrumentError, match="PARAM_COUNT"):
        driver.ask("INPUt1:COUNter?")
    script.done()
    with pytest.raises(SettingError, match=r"delay = 2e\+12 ps"):
        driver.set_delay_ps(1, 2e12)
    with pytest.raises(SettingError, match="threshold = 9 V"):
        driver.set_input(1, threshold_v=9)
    with pytest.raises(DeviceError, match="option dlt"):
        driver.start()


def simulated():
    clock = ManualClock()
    times = np.arange(1, 400_000) * 50_000_000
    edges = GivenEdges(times, (np.arange(times.size) % 4).astype(np.uint8))
    sim = SimId900(edges, clock=clock, faults=Faults(SimId900.FAULTS), rng=np.random.default_rng(1))
    driver = Id900(MemoryTransport(sim, clock))
    driver.connect()
    return driver, sim


def test_settings_and_counts_of_the_simulated_unit():
    driver, _ = simulated()
    assert driver.set_input(3, threshold_v=0.7, coupling="AC") == 0.7
    assert driver.set_delay_ps(4, 2500) == 2500
    found = driver.snapshot()
    assert (found["threshold_v_3"], found["delay_ps_4"], found["clock"]) == (0.7, 2500, "INTERNAL")
    assert (found["resolution"], found["bin_ps"]) == ("LOWRES", 100)
    counts = driver.counts(0.5)
    assert sorted(counts) == [1, 2, 3, 4]
    assert all(abs(n - 2500) <= 1 for n in counts.values())
    assert driver.ask("INPUT1:COUP?;:DELAY1:VALUE?") == "DC;0TB"


def test_faults_of_the_conversation():
    driver, sim = simulated()
    sim.faults.add("hires_error", times=1)
    sim.faults.add("raw_errors", times=1)
    assert not driver.status()["clean"]
    assert driver.status()["clean"]
    sim.faults.add("scpi_error", times=1)
    with pytest.raises(InstrumentError):
        driver.delay_ps(1)
    for fault, error in (("garbage", ReplyError), ("no_reply", TransportTimeout), ("late_reply", TransportTimeout)):
        sim.faults.add(fault, times=1)
        with pytest.raises(error):
            driver.delay_ps(1)
        driver.transport.sleep(5.0)
        assert driver.delay_ps(1) == 0
    sim.faults.add("wrong_identity")
    with pytest.raises(IdentityError, match="ID230 answers"):
        driver.reconnect()


def free_ports():
    """First of four TCP ports in a row that are free now."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = first.getsockname()[1]
            for further in range(1, 4):
                stack.enter_context(socket.create_server(("127.0.0.1", port + further)))
            return port


class Bench:
    """Unit and DataLinkTarget behind real sockets, five times as fast as real time."""

    PACE = 5.0

    def __init__(self, stack, edges, **options):
        clock = RealClock(self.PACE)
        rng = np.random.default_rng(1)
        self.unit = SimId900(edges, clock=clock, faults=Faults(SimId900.FAULTS), rng=rng)
        self.dlt = SimDataLinkTarget(self.unit, clock=clock, faults=Faults(SimDataLinkTarget.FAULTS), rng=rng)
        unit = stack.enter_context(ZmqHost(self.unit))
        dlt = stack.enter_context(ZmqHost(self.dlt))
        url = f"{unit.url}?dlt={dlt.url.removeprefix('zmq://')}&stream_port={free_ports()}&time_factor={self.PACE}"
        self.driver = stack.enter_context(Id900.from_url(url, **({"record_s": 0.4} | options)))


@pytest.fixture
def bench():
    with contextlib.ExitStack() as stack:
        yield lambda edges, **options: Bench(stack, edges, **options)


def whole(chunks):
    return (
        np.concatenate([chunk.tags.ticks for chunk in chunks]),
        np.concatenate([chunk.tags.channel for chunk in chunks]),
        [gap for chunk in chunks for gap in chunk.tags.lost],
        {flag for chunk in chunks for flag in chunk.flags},
    )


def read_for(driver, duration_s):
    return [driver.read(0.5) for _ in range(2 * duration_s)]


def test_streams_of_two_inputs(bench):
    times = np.arange(1, 200_000) * 100_000_000
    edges = GivenEdges(times, (np.arange(times.size) % 2).astype(np.uint8))
    driver = bench(edges, channels="1,2").driver
    driver.start()
    chunks = [driver.read(0.5) for _ in range(6)]
    assert driver.status()["clean"]
    driver.stop()
    chunks.append(driver.read(0.0))
    ticks, channel, lost, flags = whole(chunks)
    assert flags == {"restart"}
    assert all(end - start == DEAD_PS for start, end in lost)
    assert [end for _, end in lost] == [(k + 1) * (400_000_000_000 + DEAD_PS) for k in range(len(lost))]
    assert len(lost) >= 5
    assert ticks.size > 18_000
    assert np.array_equal(np.diff(channel.astype(int)) % 2, np.ones(ticks.size - 1))
    assert np.abs(np.diff(ticks) - 100_000_000).max() <= 1  # the simulated dead time is the least


def test_errors_of_the_unit_condemn_a_stream(bench):
    rig = bench(PoissonEdges((3000.0,) * 4, np.random.default_rng(3)))
    driver = rig.driver
    driver.start()
    chunks = [driver.read(1.0)]
    rig.unit.faults.add("raw_errors", times=1)
    driver.read(0.2)
    found = driver.status()
    assert not found["clean"]
    assert "raw 2: 5 errors" in str(found["errors"])
    chunks.append(driver.read(0.0))
    assert "stream_error" in chunks[-1].flags
    driver.stop()


def test_a_stalled_stream_an_error_of_the_program_and_a_cut_message(bench):
    rig = bench(PoissonEdges((3000.0,) * 4, np.random.default_rng(3)))
    driver = rig.driver
    rig.dlt.faults.add("dlt_error", times=1)
    with pytest.raises(InstrumentError, match="No connection to the device"):
        driver.start()
    driver.start()
    rig.dlt.faults.add("stall")
    with pytest.raises(TransportTimeout, match="no record for"):
        read_for(driver, 10)
    rig.dlt.faults.discard("stall")
    rig.dlt.faults.add("missing_end")
    driver.start()
    assert sum(len(chunk.tags) for chunk in read_for(driver, 2)) > 5000
    driver.stop()
    driver.start()
    rig.dlt.faults.add("cut_message", times=1)
    with pytest.raises(ReplyError, match="stream of input"):
        read_for(driver, 5)


def test_faults_of_the_conversation_with_the_program(bench):
    rig = bench(PoissonEdges((3000.0,) * 4, np.random.default_rng(3)))
    for fault, error in (("garbage", ReplyError), ("no_reply", TransportTimeout), ("late_reply", TransportTimeout)):
        rig.dlt.faults.add(fault, times=1)
        with pytest.raises(error):
            rig.driver.start()
    rig.driver.start()
    assert sum(len(chunk.tags) for chunk in read_for(rig.driver, 2)) > 5000


@pytest.mark.parametrize("part", ["unit", "dlt"])
def test_a_cable_that_was_out(bench, part):
    rig = bench(PoissonEdges((3000.0,) * 4, np.random.default_rng(3)))
    faults = getattr(rig, part).faults
    faults.add("disconnect")
    assert use_until_gone(rig.driver.snapshot if part == "unit" else rig.driver.start) is not None
    faults.discard("disconnect")
    rig.driver.reconnect(tries=6, wait_s=0.05)
    rig.driver.start()
    assert rig.driver.epoch == 2
    assert sum(len(chunk.tags) for chunk in read_for(rig.driver, 2)) > 5000


def test_the_end_of_all_streams_is_told(bench):
    rig = bench(PoissonEdges((3000.0,) * 4, np.random.default_rng(3)))
    driver = rig.driver
    driver.start()
    driver.read(1.0)
    for each in list(rig.dlt._running):
        driver.dlt.ask(f"stop --id {each}")
    flags = {flag for _ in range(4) for flag in driver.read(0.5).flags}
    assert "ended" in flags
