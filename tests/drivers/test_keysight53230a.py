"""53230A: blocks and conversation of the specification, the simulated counter, VISA sockets, and pyvisa-sim."""

import numpy as np
import pytest
from dialogue import Dialogue, transport_to

from qkdpp.core.errors import DeviceError
from qkdpp_drivers.errors import (
    IdentityError,
    InstrumentError,
    ReplyError,
    SettingError,
    TransportClosed,
    TransportTimeout,
)
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.hosts import TcpHost
from qkdpp_drivers.sim.ports import GivenEdges, PoissonEdges
from qkdpp_drivers.sim.simulated import RealClock
from qkdpp_drivers.sim.taggers.keysight53230a import Sim53230A
from qkdpp_drivers.taggers.keysight53230a import Keysight53230A
from qkdpp_drivers.transports import ManualClock, MemoryTransport

BLOCK = b"#216" + bytes.fromhex("df413adc11c5193e 67b12b65cd53233e") + b"\n"
OPEN = [(b"*IDN?\n", b"Agilent Technologies,53230A,MY5,02.05\n"), (b"ABOR\n", b""), (b"*CLS\n", b"")]
NO_ERROR = (b"SYST:ERR?\n", b'+0,"No error"\n')


def begin(function, samples):
    return [
        (b"ABOR\n", b""),
        (b"FUNC %s\n" % function, b""),
        (b"FORM REAL,64\n", b""),
        (b"FORM:BORD SWAP\n", b""),
        (b"TRIG:SOUR IMM\n", b""),
        (b"SAMP:COUN %d\n" % samples, b""),
        NO_ERROR,
        (b"FUNC?\n", function + b"\n"),
        (b"INIT:IMM\n", b""),
    ]


def test_the_block_of_the_specification():
    script = Dialogue(*OPEN, *begin(b'"TINT 1,2"', 2), (b"DATA:REM? 2,WAIT\n", BLOCK))
    driver = Keysight53230A(transport_to(script))
    driver.connect()
    before_s = driver.transport.now()
    assert driver.intervals_s(2, rate_hz=1e5).tolist() == [1.5e-9, 2.25e-9]
    assert driver.transport.now() - before_s >= 0.02  # between INIT and the first removal
    script.done()


@pytest.mark.parametrize("reply", [b"+1.5E-009\n", b"#0abcdefgh\n", b"#15abcde\n", b"#2xxabc\n"])
def test_what_is_no_block_is_a_typed_error(reply):
    script = Dialogue(*OPEN, *begin(b'"TINT 1,2"', 2), (b"DATA:REM? 2,WAIT\n", reply))
    driver = Keysight53230A(transport_to(script))
    driver.connect()
    with pytest.raises(ReplyError, match="block"):
        driver.intervals_s(2, rate_hz=1e5)


def pairs(delay_ps, spacing_ps=10_000_000, n=400_000):
    """Edges at input 1, each followed by one at input 2."""
    first = np.arange(1, n + 1) * spacing_ps
    times = np.stack([first, first + delay_ps], axis=1).reshape(-1)
    return GivenEdges(times, np.tile(np.array([0, 1], np.uint8), n))


def simulated(delay_ps=12_345, n=400_000, **options):
    clock = ManualClock()
    rng = np.random.default_rng(1)
    sim = Sim53230A(pairs(delay_ps, n=n), clock=clock, faults=Faults(Sim53230A.FAULTS), rng=rng)
    driver = Keysight53230A(MemoryTransport(sim, clock), **options)
    driver.connect()
    return driver, sim, clock


@pytest.mark.parametrize("delay_ps", [12_345, 9_000_000])
def test_intervals_follow_the_delay(delay_ps):
    driver, _, _ = simulated(delay_ps)
    found = driver.intervals_s(1000, rate_hz=1e5)
    assert found.size == 1000
    assert abs(found.mean() * 1e12 - delay_ps) < 5 * 20 / np.sqrt(1000)
    assert 15 < found.std() * 1e12 < 25
    assert abs(driver.frequencies_hz(3, gate_s=0.05).mean() - 1e5) < 0.1


def test_the_rate_of_edges_that_come_at_random():
    """Within five standard deviations of a Poisson count, also where a gate must wait for its second edge."""
    clock, rng = ManualClock(), np.random.default_rng(4)
    sim = Sim53230A(PoissonEdges((200.0, 0.0), rng), clock=clock, faults=Faults(Sim53230A.FAULTS), rng=rng)
    driver = Keysight53230A(MemoryTransport(sim, clock))
    driver.connect()
    assert driver.frequencies_hz(1, gate_s=20.0)[0] == pytest.approx(200.0, abs=5 * np.sqrt(200.0 / 20.0))
    assert (driver.frequencies_hz(50, gate_s=1e-3) > 0.0).all()


def test_time_stamps_of_one_input():
    driver, _, _ = simulated(channel=2)
    driver.start()
    chunks = [driver.read(0.1) for _ in range(10)]
    driver.stop()
    chunks.append(driver.read(0.0))
    ticks = np.concatenate([chunk.tags.ticks for chunk in chunks])
    assert all(chunk.clean for chunk in chunks)
    assert chunks[0].tags.channel_ids == (2,)
    assert ticks[0] == 0
    assert ticks.size > 90_000
    assert np.abs(np.diff(ticks) - 10_000_000).max() <= 1


def test_a_full_memory_condemns_the_readings_since_the_last_look():
    driver, sim, _ = simulated()
    driver.start()
    driver.read(0.2)
    sim.faults.add("memory_overflow", times=1)
    spoilt = driver.read(0.2)
    assert spoilt.flags == ("overflow",)
    ((start, end),) = spoilt.tags.lost
    assert start < 0.23e12
    assert end == spoilt.tags.ticks[-1]
    assert driver.read(0.2).clean
    sim._fail('-350,"Queue overflow happened"')
    assert not driver.status()["clean"]


def test_settings():
    driver, _, _ = simulated()
    assert driver.set_input(1, level_v=0.5) == 0.5
    found = driver.snapshot()
    assert (found["level_v_1"], found["impedance_ohm_1"], found["coupling_1"]) == (0.5, 50.0, "DC")
    assert found["coupling_2"] == "AC"
    with pytest.raises(SettingError, match="level = 7 V"):
        driver.set_input(1, level_v=7.0)
    with pytest.raises(SettingError, match="impedance 50 or 1e6"):
        driver.set_input(1, level_v=0.0, impedance_ohm=75.0)
    with pytest.raises(SettingError, match="input = 3"):
        driver.set_input(3, level_v=0.0)
    with pytest.raises(SettingError, match="readings = 2e"):
        driver.intervals_s(2_000_000, rate_hz=1e5)


def test_the_simulated_parser_takes_what_the_standard_allows():
    driver, sim, _ = simulated()
    driver.tell(":input:coupling DC;IMPedance 50;LEV:AUTO 0;:FORMat REAL,64;:FORM:BORDer SWAP;SAMP:COUN 5")
    assert driver.errors() == ["-113: Undefined header"]  # SAMP below FORM, as the path rule of SCPI has it
    assert driver.ask("INP1:COUP?;IMP?;:FUNC?") == 'DC;+5.00000000000000E+01;"FREQ"'
    for command, entry in [
        ("NONSENSE 1", "-113: Undefined header"),
        ("SAMP:COUN 1e9", "-222: Data out of range"),
        ("SAMP:COUN some", "-224: Illegal parameter value"),
        ("SAMP:COUN", "-109: Missing parameter"),
        ("FUNC TINT", "-224: Illegal parameter value"),
        ("FETC?", "-230: Data corrupt or stale"),
    ]:
        driver.tell(command)
        assert driver.errors() == [entry]
    driver.tell("SAMP:COUN MAX")
    assert driver.ask_number("SAMP:COUN?") == 1e6
    assert "53230A" in sim._identity().decode()


def test_faults_of_the_conversation():
    driver, sim, _ = simulated(n=1_500_000)
    sim.faults.add("local_change", times=1)
    with pytest.raises(SettingError, match='FUNC was set to "TINT 1,2" but reads "PER 1"'):
        driver.intervals_s(10, rate_hz=1e5)
    sim.faults.add("late_reply", times=1)
    with pytest.raises(TransportTimeout):
        driver.ask("FUNC?", 0.5)
    driver.transport.sleep(5.0)
    assert driver.ask("TRIG:SOUR?") == "IMM"
    driver.ask("TRIG:SOUR?")
    sim.faults.add("garbage", times=1)
    with pytest.raises(ReplyError):
        driver.ask("FUNC?")
    sim.faults.add("split_reply")
    assert driver.intervals_s(500, rate_hz=1e5).size == 500
    sim.faults.discard("split_reply")
    sim._fail('-222,"Data out of range"')
    with pytest.raises(InstrumentError, match="Data out of range"):
        driver.set_input(1, level_v=0.0)
    driver.start()
    with pytest.raises(DeviceError, match="stop first"):
        driver.intervals_s(10, rate_hz=1e5)
    sim.faults.add("no_reply", times=1)
    with pytest.raises(TransportTimeout):
        driver.read(0.1)
    assert driver.intervals_s(10, rate_hz=1e5).size == 10
    sim.faults.add("disconnect")
    with pytest.raises(TransportClosed):
        driver.snapshot()
    sim.faults.discard("disconnect")
    sim.faults.add("wrong_identity")
    with pytest.raises(IdentityError, match="53220A answers, not Keysight 53230A"):
        driver.reconnect()


def test_readings_that_never_come_are_given_up_and_the_next_answer_is_the_right_one():
    driver, sim, _ = simulated()
    sim.edges, usual = pairs(100, 10**12), sim.edges
    with pytest.raises(TransportTimeout):
        driver.intervals_s(100, rate_hz=1e5)
    sim.edges = usual
    assert driver.intervals_s(100, rate_hz=1e5).size == 100


@pytest.mark.parametrize("scheme", ["visa", "tcp"])
def test_through_a_socket_with_line_feeds_in_the_data(scheme):
    rng = np.random.default_rng(1)
    faults = Faults(Sim53230A.FAULTS)
    sim = Sim53230A(pairs(0), clock=RealClock(), faults=faults, rng=rng)
    with TcpHost(sim, scheme=scheme) as host, Keysight53230A.from_url(host.url) as driver:
        found = driver.intervals_s(500, rate_hz=1e5)
        assert found.size == 500
        assert b"\n" in found.tobytes()
        assert np.abs(found).max() < 2e-10
        assert driver.errors() == []
        driver.start()
        assert len(driver.read(0.1).tags) > 20
        driver.stop()


YAML = """
spec: "1.1"
devices:
  counter:
    eom:
      TCPIP SOCKET:
        q: "\\n"
        r: "\\n"
    error: ERROR
    dialogues:
      - q: "*IDN?"
        r: "Agilent Technologies,53230A,MY5,02.05"
      - q: "ABOR"
      - q: "*CLS"
      - q: "SYST:ERR?"
        r: '+0,"No error"'
      - q: "INP1:COUP DC"
      - q: "INP1:COUP?"
        r: "DC"
      - q: "INP1:IMP 50"
      - q: "INP1:LEV:AUTO 0"
      - q: "INP1:SLOP POS"
      - q: "INP1:SLOP?"
        r: "POS"
    properties:
      level:
        default: 0.0
        getter: {q: "INP1:LEV?", r: "{:+.3f}"}
        setter: {q: "INP1:LEV {:.3f}"}
        specs: {min: -5, max: 5, type: float}
resources:
  TCPIP0::localhost::5025::SOCKET:
    device: counter
"""


def test_configuration_against_pyvisa_sim(tmp_path):
    path = tmp_path / "counter.yaml"
    path.write_text(YAML)
    with Keysight53230A.from_url(f"visa://TCPIP0::localhost::5025::SOCKET?library={path}@sim") as driver:
        assert driver.set_input(1, level_v=0.25) == 0.25
