"""Raw 64-bit streams: words of the specification, reader of files, faults of the simulated unit, TCP and pipe."""

import os
import threading

import numpy as np
import pytest
from dialogue import Dialogue, transport_to

from qkdpp.sources import open_recording, read_all
from qkdpp_drivers.errors import ReplyError, SettingError, TransportClosed, TransportTimeout
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.hosts import TcpHost
from qkdpp_drivers.sim.ports import GivenEdges, PoissonEdges
from qkdpp_drivers.sim.simulated import RealClock
from qkdpp_drivers.sim.taggers.raw64 import SimRaw64
from qkdpp_drivers.taggers.raw64 import Raw64
from qkdpp_drivers.transports import ManualClock, MemoryTransport

# time 0 pattern 1; time 1000 pattern 4 with bit 5 set; dummy at 512
VECTOR = bytes.fromhex("0103000000000000") + (0xFA324).to_bytes(8, "little") + (0x80310).to_bytes(8, "little")


@pytest.mark.parametrize("layout", ["a1", "a1x"])
@pytest.mark.parametrize("piece", [1, 5, 8, 24])
def test_the_vectors_of_the_specification(layout, piece):
    script = Dialogue()
    driver = Raw64(transport_to(script), layout=layout)
    driver.connect()
    driver.start()
    data = VECTOR
    if layout == "a1x":
        data = b"".join(VECTOR[i + 4 : i + 8] + VECTOR[i : i + 4] for i in (0, 8, 16))
    for at in range(0, len(data), piece):
        script.push(data[at : at + piece])
        assert driver.read(0.001).clean
    driver.stop()
    chunk = driver.read(0.0)
    assert chunk.tags.tick_as * 256 == 10**9
    assert chunk.tags.ticks.tolist() == [0, 1000]
    assert chunk.tags.channel.tolist() == [0, 2]


def test_the_swapped_vector_with_a_long_time():
    script = Dialogue()
    driver = Raw64(transport_to(script), layout="a1x")
    driver.connect()
    driver.start()
    script.push(bytes.fromhex("fa72000002536864"))
    driver.read(0.01)
    assert driver._first[0] == 123456789012  # ticks count from the first word


def simulated(rates=(5000.0, 3000.0, 500.0, 500.0), edges=None, **options):
    clock = ManualClock()
    sim = SimRaw64(
        edges or PoissonEdges(rates, np.random.default_rng(4)),
        clock=clock,
        faults=Faults(SimRaw64.FAULTS),
        rng=np.random.default_rng(1),
    )
    driver = Raw64(MemoryTransport(sim, clock, step_s=5e-3), **options)
    driver.connect()
    driver.start()
    return driver, sim, clock


def run(driver, duration_s):
    return [driver.read(0.05) for _ in range(round(duration_s / 0.05))]


def whole(chunks):
    return (
        np.concatenate([chunk.tags.ticks for chunk in chunks]),
        np.concatenate([chunk.tags.channel for chunk in chunks]),
        [gap for chunk in chunks for gap in chunk.tags.lost],
        {flag for chunk in chunks for flag in chunk.flags},
    )


def test_a_fifth_input_stands_in_bit_5():
    script = Dialogue()
    driver = Raw64(transport_to(script), layout="a1s")
    driver.connect()
    driver.start()
    script.push(b"".join(((time << 10) | low).to_bytes(8, "little") for time, low in [(7, 0x320), (1007, 0x321)]))
    driver.read(0.001)
    driver.stop()
    tags = driver.read(0.0).tags
    assert tags.channel_ids == (1, 2, 3, 4, 5)
    assert list(zip(tags.ticks.tolist(), tags.channel.tolist(), strict=True)) == [(0, 4), (1000, 0), (1000, 4)]


def test_the_reader_of_recorded_files_agrees(tmp_path):
    clock = ManualClock()
    edges = PoissonEdges((5000.0, 3000.0, 500.0, 500.0), np.random.default_rng(4))
    sim = SimRaw64(edges, clock=clock, faults=Faults(SimRaw64.FAULTS), rng=np.random.default_rng(1))
    sim.faults.add("swapped")
    clock.advance(0.5)
    data = sim.poll()
    (tmp_path / "stream.bin").write_bytes(data)
    read = read_all(open_recording(tmp_path / "stream.bin", format="s15-a1", tick_as=3_906_250))
    script = Dialogue()
    driver = Raw64(transport_to(script))
    driver.connect()
    driver.start()
    script.push(data)
    first = driver.read(0.01)
    driver.stop()
    ticks, channel, _, flags = whole([first, driver.read(0.0)])
    assert not flags
    assert np.array_equal(ticks - ticks[0], read.ticks - read.ticks[0])
    assert [c + 1 for c in channel] == [read.channel_ids[c] for c in read.channel]


@pytest.mark.parametrize(("fault", "flag"), [("byte_slip", "byte_slip"), ("spoilt_word", "discontinuity")])
def test_faults_cost_an_interval_and_nothing_outside_it(fault, flag):
    times = np.arange(1, 60_000) * 100_000_000
    driver, sim, _ = simulated(edges=GivenEdges(times, (np.arange(times.size) % 4).astype(np.uint8)))
    chunks = run(driver, 1.0)
    sim.faults.add(fault, times=1)
    chunks += run(driver, 1.0)
    driver.stop()
    chunks.append(driver.read(0.0))
    ticks, _, lost, flags = whole(chunks)
    assert flags == {flag}
    ((start, end),) = lost
    assert 0.9 < start / 256e9 < end / 256e9 < 1.2
    # ticks count from the first word, the dummy at time 0
    true = times[times < 2e12] * 256 // 1000
    kept = ticks[(ticks < start) | (ticks > end)]
    assert np.array_equal(kept, true[(true < start) | (true > end)])
    assert not driver.status()["clean"]
    assert driver.status()["clean"]


def test_what_never_makes_sense_again_is_an_error():
    driver, sim, _ = simulated()
    run(driver, 0.5)
    sim.faults.add("new_zero", times=1)
    with pytest.raises(ReplyError, match="stream"):
        run(driver, 1.0)
    driver.reconnect()
    driver.start()
    assert driver.epoch == 2
    assert all(chunk.clean for chunk in run(driver, 0.5))


def test_the_time_goes_on_over_the_end_of_its_54_bits():
    script = Dialogue()
    driver = Raw64(transport_to(script))
    driver.connect()
    driver.start()
    times = [2**54 - 1000, 2**54 - 1, 0, 2500]
    script.push(b"".join(((time << 10) | 0x301).to_bytes(8, "little") for time in times))
    assert driver.read(0.001).clean
    driver.stop()
    assert driver.read(0.0).tags.ticks.tolist() == [0, 999, 1000, 3500]


def test_a_stream_that_waited_for_its_start_is_fresh():
    sim = SimRaw64(
        PoissonEdges((5000.0, 3000.0, 500.0, 500.0), np.random.default_rng(4)),
        clock=RealClock(40.0),
        faults=Faults(SimRaw64.FAULTS),
        rng=np.random.default_rng(1),
    )
    with TcpHost(sim) as host:
        driver = Raw64.from_url(host.url)
        driver.transport.time_factor = 40.0
        driver.transport.sleep(12.0)
        driver.connect()
        driver.transport.sleep(12.0)
        begun_s = sim.clock()
        driver.start()
        chunks = run(driver, 4.0)
        driver.close()
    assert all(chunk.clean for chunk in chunks)
    assert driver.epoch == 2
    first_s = driver._first[0] / 256e9
    assert begun_s - 2.0 < first_s < begun_s + 4.0


def test_silence_and_an_unplugged_cable():
    driver, sim, _ = simulated()
    sim.faults.add("stalled")
    with pytest.raises(TransportTimeout, match="no data for 10 s"):
        run(driver, 12.0)
    sim.faults.discard("stalled")
    driver.start()
    assert sum(len(chunk.tags) for chunk in run(driver, 0.5)) > 1000
    sim.faults.add("disconnect")
    assert driver.read(0.05).flags == ("ended",)
    with pytest.raises(TransportClosed, match="has ended"):
        driver.read(0.05)
    with pytest.raises(SettingError, match="none of a1, a1x, a1s"):
        Raw64(driver.transport, layout="a2")


def test_over_tcp():
    rng = np.random.default_rng(2)
    sim = SimRaw64(PoissonEdges((5000.0,) * 4, rng), clock=RealClock(), faults=Faults(SimRaw64.FAULTS), rng=rng)
    with TcpHost(sim) as host, Raw64.from_url(host.url) as driver:
        driver.start()
        ticks, _, lost, flags = whole([driver.read(0.1) for _ in range(5)])
    assert not lost
    assert not flags
    assert ticks.size > 5000


def test_from_a_pipe_that_ends(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(VECTOR * 1,))
    with Raw64.from_url(f"pipe://{path}") as driver:
        writer.start()
        driver.start()
        chunks = [driver.read(0.2)]
        while "ended" not in chunks[-1].flags:
            chunks.append(driver.read(0.2))
        writer.join()
    assert whole(chunks)[0].tolist() == [0, 1000]
