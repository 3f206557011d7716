"""TDC1: the conversation and the stream from the specification, then every fault of the simulated device."""

import numpy as np
import pytest
from dialogue import Dialogue, transport_to

from qkdpp.core.errors import DeviceError
from qkdpp.sources import open_recording, read_all
from qkdpp_drivers.errors import IdentityError, ReplyError, SettingError, TransportClosed, TransportTimeout
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.hosts import PtyHost
from qkdpp_drivers.sim.ports import GivenEdges, NoEdges, PoissonEdges
from qkdpp_drivers.sim.simulated import RealClock
from qkdpp_drivers.sim.taggers.tdc1 import SimTdc1
from qkdpp_drivers.taggers.tdc1 import TICK_AS, Tdc1
from qkdpp_drivers.taggers.tdc1_stream import Tdc1Stream, expand, input_edges
from qkdpp_drivers.transports import ManualClock, MemoryTransport

VECTOR = bytes.fromhex("11ef0100 0148e801 0248e801 6a48e801 11ef0180 e4ffffff a8000000")
TIMES_NS = [2_000_000, 2_000_000, 2_000_006, 268_435_454, 268_435_466]
PATTERNS = [1, 2, 0b1010, 4, 8]
A1 = [0x7A12000001, 0x7A12000002, 0x7A1218000A, 0x3FFFFFF80004, 0x400000280008]
OPEN = (b"\r\n", b"")
IDN = (b"*IDN?\r\n", b"S-Fifteen TDC1 whatever follows\r\n")
START = [
    (b"TIMESTAMP\r\n", b""),
    (b"MODE?\r\n", b"3\r\n"),
    (b"TIME 0\r\n", b""),
    (b"TIME?\r\n", b"0\r\n"),
]


def connected(*lines, **options):
    script = Dialogue(OPEN, IDN, *lines)
    driver = Tdc1(transport_to(script), **options)
    driver.connect()
    return script, driver


def whole(chunks):
    ticks = np.concatenate([chunk.tags.ticks for chunk in chunks])
    channel = np.concatenate([chunk.tags.channel for chunk in chunks])
    lost = [gap for chunk in chunks for gap in chunk.tags.lost]
    flags = {flag for chunk in chunks for flag in chunk.flags}
    return ticks, channel, lost, flags


# --- the stream ---


@pytest.mark.parametrize("piece", [1, 3, 4, 5, 28])
def test_the_vector_of_the_specification(piece):
    stream = Tdc1Stream()
    ticks, patterns = [], []
    for at in range(0, len(VECTOR), piece):
        stream.feed(VECTOR[at : at + piece])
        decoded = stream.take()
        ticks += decoded.ticks.tolist()
        patterns += decoded.pattern.tolist()
    decoded = stream.take(end_tick=0)
    ticks += decoded.ticks.tolist()
    patterns += decoded.pattern.tolist()
    assert [2 * t for t in ticks] == TIMES_NS
    assert patterns == PATTERNS
    assert [(t << 19) | p for t, p in zip(ticks, patterns, strict=True)] == A1
    assert decoded.flags == ()
    assert decoded.lost == ()


def test_many_wraps_by_markers_alone():
    words = [3960 * 32 + 0x11, (2**26 + 3960) * 32 + 0x11] * 50
    stream = Tdc1Stream()
    stream.feed(np.array([*words, 5 * 32 + 2], "<u4").tobytes())
    decoded = stream.take(end_tick=0)
    assert decoded.ticks.tolist() == [50 * 2**27 + 5]
    assert decoded.flags == ()


def test_the_reader_of_recorded_files_agrees(tmp_path):
    driver, sim, clock = simulated(PoissonEdges((3000.0, 2000.0, 500.0, 50.0), np.random.default_rng(3)))
    driver.start()
    raw = b""
    while clock() < 1.5:
        clock.advance(0.05)
        raw += sim.poll()
    path = tmp_path / "stream.bin"
    path.write_bytes(raw)
    read = read_all(open_recording(path, format="tdc1", tick_as=TICK_AS, options={"patterns": "drop"}))
    stream = Tdc1Stream()
    stream.feed(raw)
    decoded = stream.take(end_tick=0)
    single = np.bitwise_count(decoded.pattern) == 1
    assert decoded.ticks[single].tolist() == read.ticks.tolist()
    ticks, channel = expand(decoded.ticks[single], decoded.pattern[single])
    assert ticks.size > 5000
    assert (channel + 1).tolist() == [read.channel_ids[c] for c in read.channel]


def test_inputs_still_high_make_no_tag():
    ticks = np.array([10, 12, 13, 40, 41, 60])
    pattern = np.array([0b0001, 0b0011, 0b0011, 0b0010, 0b0110, 0b0111], np.uint8)
    # 12: ch2 joins ch1; 13: there must be an edge; 40: long after; 41: ch3 joins ch2; 60: pulses of 5 ticks are over
    expected = [0b0001, 0b0010, 0b0011, 0b0010, 0b0100, 0b0111]
    assert input_edges(ticks, pattern, 5, (-100, 0)).tolist() == expected
    assert input_edges(ticks, pattern, 5, (8, 0b0011))[0] == 0b0001
    assert input_edges(ticks[:1], np.array([0b0011], np.uint8), 5, (8, 0b0001)).tolist() == [0b0010]
    got, channel = expand(ticks, pattern)
    assert got.tolist() == [10, 12, 12, 13, 13, 40, 41, 41, 60, 60, 60]
    assert channel.tolist() == [0, 0, 1, 0, 1, 1, 1, 2, 0, 1, 2]


def sound_stream(n, seed=1, mean_ticks=500):
    """Words at random times with markers in their places; bytes and true ticks of the events."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(1, 2 * mean_ticks, n))
    markers = np.arange(3960, times[-1], 2**26)
    ticks = np.concatenate([times, markers])
    low = np.concatenate([1 << rng.integers(0, 4, n), np.full(markers.size, 0x11)])
    order = np.argsort(ticks, kind="stable")
    return (((ticks % 2**27) * 32 + low).astype("<u4")[order]).tobytes(), times


def fed(pieces):
    stream = Tdc1Stream()
    found = []
    for piece in pieces:
        stream.feed(piece)
        found.append(stream.take())
    found.append(stream.take(end_tick=0))
    ticks = np.concatenate([d.ticks for d in found])
    return ticks, [gap for d in found for gap in d.lost], {flag for d in found for flag in d.flags}


@pytest.mark.parametrize("change", [-3, -2, -1, 1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_lost_or_doubled_bytes_cost_an_interval_and_nothing_outside_it(change, seed):
    raw, times = sound_stream(200_000, seed, 1000)
    at = int(np.random.default_rng(100 + seed).integers(1000, len(raw) - 600_000))
    spoilt = raw[:at] + raw[at - change :] if change < 0 else raw[: at + change] + raw[at:]
    ticks, lost, flags = fed([spoilt[i : i + 4096] for i in range(0, len(spoilt), 4096)])
    assert flags == {"byte_slip"}
    assert (np.diff(ticks) >= 0).all()
    (start, end), *further = lost
    assert not further
    assert end - start <= 2**26 + 2**19  # from the last marker to the bytes that show it
    outside = ticks[(ticks < start) | (ticks > end)]
    assert np.array_equal(outside, times[(times < start) | (times > end)])


def test_one_spoilt_word_is_no_slip():
    raw, times = sound_stream(5000)
    spoilt = bytearray(raw)
    at = next(at for at in range(8000, 9000, 4) if not raw[at] & 0x10)
    spoilt[at + 3] ^= 0xC0
    ticks, lost, flags = fed([bytes(spoilt)])
    assert flags == {"discontinuity"}
    (start, end), *further = lost
    assert not further
    outside = ticks[(ticks < start) | (ticks > end)]
    assert np.array_equal(outside, times[(times < start) | (times > end)])


def test_a_missing_marker_is_a_loss():
    raw, _ = sound_stream(600_000)
    words = np.frombuffer(raw, "<u4")
    markers = np.flatnonzero(words & 0x10)
    assert markers.size > 3
    _, lost, flags = fed([np.delete(words, markers[2]).tobytes()])
    assert flags == {"discontinuity"}
    assert lost[0][0] == 3960 + 2**26
    assert lost[0][1] >= 3960 + 2 * 2**26


@pytest.mark.parametrize("n", [1, 3, 5, 400, 4001])
def test_noise_is_not_taken_for_a_sound_stream(n):
    noise = np.random.default_rng(n).bytes(n)
    ticks, lost, flags = fed([noise])
    assert (np.diff(ticks) >= 0).all()
    if n > 100:
        assert flags & {"byte_slip", "discontinuity"}
        assert lost


# --- the conversation ---


def test_connection_and_stream_by_the_book():
    script, driver = connected(*START, (b"COUNTS?\r\n", VECTOR), (b"ABORT\r\n", b""), (b"STATUS?\r\n", b"0000 \r\n"))
    driver.start()
    driver.stop()
    chunk = driver.read(0.0)
    script.done()
    assert chunk.clean
    assert chunk.tags.tick_as == 2_000_000_000
    assert chunk.tags.channel_ids == (1, 2, 3, 4)
    assert (chunk.tags.ticks * 2).tolist() == [2_000_000, 2_000_000, 2_000_006, 2_000_006, 268_435_454, 268_435_466]
    assert chunk.tags.channel.tolist() == [0, 1, 1, 3, 2, 3]


def test_overflow_condemns_everything_since_the_last_verdict():
    _, driver = connected(*START, (b"COUNTS?\r\n", VECTOR), (b"ABORT\r\n", b""), (b"STATUS?\r\n", b"0010 \r\n"))
    driver.start()
    driver.stop()
    chunk = driver.read(0.0)
    assert chunk.flags == ("overflow",)
    assert chunk.tags.lost == ((0, 134_217_733),)
    assert not chunk.clean


def test_settings_are_checked_sent_and_read_back():
    script, driver = connected(
        (b"NEG -0.500\r\n", b""),
        (b"LEVEL?\r\n", b"-0.498 V neg\r\n"),
        (b"POS 1.000\r\n", b""),
        (b"LEVEL?\r\n", b"0.2 V\r\n"),
        (b"TIME 40000\r\n", b""),
        (b"TIME?\r\n", b"-25536\r\n"),
        (b"REFCLK 1\r\n", b""),
        (b"REFCLK?\r\n", b"EXT\r\n"),
        (b"SINGLES\r\n", b""),
        (b"TIME 500\r\n", b""),
        (b"TIME?\r\n", b"500\r\n"),
        (b"COUNTS?\r\n", b"1 20 300 4000\r\n"),
        (b"LEVEL?\r\n", b"\r\n"),
    )
    assert driver.set_threshold_v(-0.5, edge="falling") == -0.498
    with pytest.raises(SettingError, match=r"reads 0\.2 V"):
        driver.set_threshold_v(1.0, edge="rising")
    with pytest.raises(SettingError, match=r"outside -3\.3 to 3\.3 V"):
        driver.set_threshold_v(5.0, edge="rising")
    assert driver.set_gate_ms(40000) == 40000
    assert driver.set_reference("external") == "EXT"
    assert driver.counts(0.5) == {1: 1, 2: 20, 3: 300, 4: 4000}
    with pytest.raises(ReplyError, match=r"LEVEL\?"):
        driver.threshold_v()
    with pytest.raises(SettingError, match="takes 250"):
        driver.tell("TIME 0;" * 40)
    with pytest.raises(SettingError, match="neither NIM nor TTL"):
        driver.set_logic("ECL")
    script.done()


def test_a_rejected_mode_is_noticed():
    _, driver = connected((b"TIMESTAMP\r\n", b""), (b"MODE?\r\n", b"0\r\n"))
    with pytest.raises(SettingError, match="mode 'singles'"):
        driver.start()


# --- the simulated device and its faults ---


def simulated(edges, **options):
    clock = ManualClock()
    faults = Faults(SimTdc1.FAULTS)
    sim = SimTdc1(edges, clock=clock, faults=faults, rng=np.random.default_rng(5))
    driver = Tdc1(MemoryTransport(sim, clock, step_s=5e-3), **options)
    driver.connect()
    return driver, sim, clock


def grid_edges(duration_s=10.0, spacing_ps=100_000_000):
    """One edge every 0.1 ms, inputs in turn: every time and input can be checked."""
    times = np.arange(1, int(duration_s * 1e12 / spacing_ps)) * spacing_ps
    return GivenEdges(times, (np.arange(times.size) % 4).astype(np.uint8))


def run(driver, duration_s, each_s=0.05):
    return [driver.read(each_s) for _ in range(round(duration_s / each_s))]


def outside(ticks, lost):
    inside = np.zeros(ticks.size, bool)
    for start, end in lost:
        inside |= (ticks >= start) & (ticks <= end)
    return ticks[~inside]


def test_a_clean_run_misses_nothing():
    driver, _, clock = simulated(grid_edges())
    connected_s = clock()
    driver.start()
    assert clock() == connected_s
    chunks = run(driver, 3.0)
    driver.stop()
    chunks.append(driver.read(0.0))
    ticks, channel, lost, flags = whole(chunks)
    assert all(chunk.clean for chunk in chunks)
    assert not lost
    assert not flags
    assert np.array_equal(ticks, np.arange(30_000) * 50_000)
    assert np.array_equal(np.diff(channel.astype(int)) % 4, np.ones(channel.size - 1))


@pytest.mark.parametrize(
    ("fault", "flag"),
    [("byte_slip", "byte_slip"), ("byte_doubled", "byte_slip"), ("gap", "wrap_ambiguous")],
)
def test_losses_are_flagged_and_what_is_outside_them_is_true(fault, flag):
    driver, sim, _ = simulated(grid_edges())
    driver.start()
    chunks = run(driver, 3.0)
    sim.faults.add(fault, times=1)
    chunks += run(driver, 5.0)
    driver.stop()
    chunks.append(driver.read(0.0))
    ticks, _, lost, flags = whole(chunks)
    assert flag in flags
    assert lost
    assert (np.diff(ticks) >= 0).all()
    kept = outside(ticks, lost)
    assert kept.size > 40_000
    assert np.array_equal(kept, outside(np.arange(80_000) * 50_000, lost))  # and nothing is missing there


def test_status_during_a_stream_costs_a_gap_on_the_clock_of_the_host():
    driver, sim, clock = simulated(grid_edges())
    driver.start()
    start_s = clock()
    chunks = run(driver, 2.5)
    sim.faults.add("overflow", times=1)
    chunks += run(driver, 0.5)
    condemned = driver.status()
    assert condemned["overflow"]
    assert not condemned["clean"]
    chunks += run(driver, 1.0)
    assert driver.status()["clean"]
    chunks += run(driver, 1.0)
    driver.stop()
    chunks.append(driver.read(0.0))
    ticks, _, lost, flags = whole(chunks)
    assert flags == {"overflow", "restart"}
    assert len(lost) == 3
    assert (np.diff(ticks) >= 0).all()
    assert lost[0][0] == 0
    assert abs(lost[0][1] * 2e-9 - 3.0) < 0.01
    assert all(end - start < 50_000_000 for start, end in lost[1:])
    assert abs(ticks[-1] * 2e-9 - (clock() - start_s)) < 0.05


def test_a_stream_that_still_runs_is_ended_however_sparse_it_is():
    driver, sim, clock = simulated(NoEdges())
    driver.start()
    driver.transport.close()  # nobody says ABORT
    driver.transport.open()
    driver.connect()
    assert driver.status()["clean"]
    clock.advance(1.0)
    assert sim.poll() == b""


@pytest.mark.parametrize("after_s", [0.1, 0.4, 0.75, 0.9, 1.3])
def test_wraps_that_go_missing_shortly_before_a_status_condemn_what_it_cannot_vouch_for(after_s):
    driver, sim, _ = simulated(grid_edges())
    driver.start()
    chunks = run(driver, 3.0)
    sim.faults.add("gap", times=1)
    chunks += run(driver, after_s)
    driver.status()
    ticks, _, lost, _ = whole([*chunks, driver.read(0.0)])
    kept = outside(ticks, lost)
    assert kept[-1] * 2e-9 > 2.8
    assert (kept % 50_000 == 0).all()
    assert np.array_equal(kept, np.arange(kept.size) * 50_000)


def test_silence_is_answered_by_a_flush_then_an_error():
    driver, sim, _ = simulated(grid_edges())
    driver.start()
    sim.faults.add("held_packet")
    chunks = run(driver, 2.0)
    assert sum(len(chunk.tags) for chunk in chunks) > 10_000  # INPKT brought them
    sim.faults.discard("held_packet")
    sim.faults.add("stalled")
    with pytest.raises(TransportTimeout, match="no data for"):
        run(driver, 3.0)


def test_unplugged_and_back_is_a_new_epoch():
    driver, sim, _ = simulated(grid_edges())
    driver.start()
    run(driver, 0.5)
    sim.faults.add("disconnect")
    with pytest.raises(TransportClosed):
        run(driver, 0.5)
    sim.faults.discard("disconnect")
    driver.reconnect()
    assert driver.epoch == 2
    driver.start()
    assert sum(len(chunk.tags) for chunk in run(driver, 0.5)) > 3000


def test_what_was_under_way_before_opening_does_no_harm():
    driver, sim, clock = simulated(grid_edges())
    sim.faults.add("stale_text", times=1)
    driver.reconnect()
    assert driver.gate_ms() == 1000
    driver.start()  # and now somebody else finds the port streaming
    other = Tdc1(MemoryTransport(sim, clock))
    other.connect()
    assert other.snapshot()["mode"] == "timestamp"
    assert other.gate_ms() == 0


def test_faulty_replies():
    driver, sim, _ = simulated(grid_edges())
    sim.faults.add("signed_time")
    assert driver.set_gate_ms(50_000) == 50_000
    sim.faults.add("late_reply", times=1)
    with pytest.raises(TransportTimeout):
        driver.threshold_v()
    driver.transport.sleep(5.0)
    assert driver.threshold_v() == -0.5
    sim.faults.add("garbage", times=1)
    with pytest.raises(ReplyError):
        driver.threshold_v()
    sim.faults.add("split_reply", times=1)
    assert driver.threshold_v() == -0.5
    sim.faults.add("no_reply", times=1)
    with pytest.raises(TransportTimeout):
        driver.threshold_v()
    sim.faults.add("wrong_identity")
    with pytest.raises(IdentityError, match="C4 answers, not S-Fifteen Instruments TDC1"):
        driver.reconnect()


def test_no_question_is_mixed_into_a_stream():
    driver, _, _ = simulated(grid_edges())
    driver.start()
    with pytest.raises(DeviceError, match="stop it first"):
        driver.threshold_v()
    with pytest.raises(DeviceError, match="stop it first"):
        driver.start()


def test_counts_of_a_gate():
    driver, _, _ = simulated(grid_edges())
    counts = driver.counts(1.0)
    assert sorted(counts) == [1, 2, 3, 4]
    assert all(2499 <= n <= 2501 for n in counts.values())


def test_through_a_pseudo_terminal():
    rng = np.random.default_rng(2)
    faults = Faults(SimTdc1.FAULTS)
    sim = SimTdc1(PoissonEdges((20_000.0,) * 4, rng), clock=RealClock(), faults=faults, rng=rng)
    with PtyHost(sim) as host, Tdc1.from_url(host.url) as driver:
        driver.start()
        chunks = run(driver, 0.5, 0.1)
        driver.stop()
        chunks.append(driver.read(0.0))
        ticks, _, lost, flags = whole(chunks)
        assert not flags
        assert not lost
        span_s = (ticks[-1] - ticks[0]) * 2e-9
        assert abs(ticks.size - 80_000 * span_s) < 6 * np.sqrt(80_000 * span_s)
