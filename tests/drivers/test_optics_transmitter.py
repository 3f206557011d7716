"""The transmitter: bytes as docs/formats/transmitter.md has them, then the simulated unit and its faults."""

from collections import deque

import msgspec
import numpy as np
import pytest
from cable import use_until_gone

from qkdpp.scenarios.scenario_file import load
from qkdpp_drivers.errors import IdentityError, InstrumentError, ReplyError, SettingError, TransportTimeout
from qkdpp_drivers.optics.transmitter import Transmitter
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.hosts import TcpHost
from qkdpp_drivers.sim.simulated import RealClock
from qkdpp_drivers.sim.transmitter import SimTransmitter
from qkdpp_drivers.sim.world.pulsed import PulsedWorld
from qkdpp_drivers.transports.memory import ManualClock, MemoryTransport


class Script:
    """The other end of a conversation: expects exact bytes, answers exact bytes."""

    faults: frozenset[str] = frozenset()

    def __init__(self, *lines: tuple[bytes, bytes]) -> None:
        self.lines = deque([(b"*IDN?\n", b"qkdpp,transmitter,7,1.0\n"), *lines])
        self.due = b""

    def receive(self, data: bytes) -> None:
        expected, answer = self.lines.popleft()
        assert data == expected
        self.due += answer

    def poll(self) -> bytes:
        due, self.due = self.due, b""
        return due


def scripted(*lines: tuple[bytes, bytes]) -> Transmitter:
    unit = Transmitter(MemoryTransport(Script(*lines), ManualClock()))
    unit.connect()
    return unit


def test_states_are_asked_for_as_counted_blocks() -> None:
    question = b"LOOKUP 3 2\n" + bytes([5, 0, 0, 0, 0, 0, 0, 0]) + bytes([0, 1, 0, 0, 0, 0, 0, 0])
    unit = scripted((question, b"OK 2\n\x07\xff"))
    assert unit.lookup(3, np.array([5, 256])).tolist() == [7, 255]


def test_totals_are_signed_64_bit_numbers() -> None:
    unit = scripted((b"TOTALS 1 0 400\n", b"OK 2\n" + (300).to_bytes(8, "little") + (100).to_bytes(8, "little")))
    assert unit.totals(1, 0, 400, 2).tolist() == [300, 100]


def test_modes_epochs_and_state() -> None:
    unit = scripted((b"MODE H\n", b"OK\n"), (b"START\n", b"OK 12\n"), (b"STATE?\n", b"OK RANDOM 12 625000\n"))
    unit.send("H")
    assert unit.start() == 12
    assert unit.state() == ("RANDOM", 12, 625000)


def test_what_the_unit_refuses_and_what_makes_no_sense() -> None:
    unit = scripted(
        (b"TOTALS 1 0 400\n", b"ERR 3 not sent\n"),
        (b"START\n", b"maybe\n"),
        (b"RELEASE 1 5\n", b"OK\n"),
        (b"CONF?\n", b"OK [1]\n"),
    )
    with pytest.raises(InstrumentError, match="3, 'not sent'"):
        unit.totals(1, 0, 400, 2)
    with pytest.raises(ReplyError, match="START"):
        unit.start()
    unit.release(1, 5)
    with pytest.raises(ReplyError, match="CONF"):
        unit.configuration()
    with pytest.raises(SettingError, match="mode"):
        unit.send("X")


def test_a_block_of_another_size_is_refused() -> None:
    unit = scripted((b"TOTALS 1 0 400\n", b"OK 3\n" + bytes(24)))
    with pytest.raises(ReplyError, match="TOTALS"):
        unit.totals(1, 0, 400, 2)


@pytest.fixture
def laboratory() -> tuple[PulsedWorld, SimTransmitter, Transmitter, ManualClock]:
    clock = ManualClock()
    plan = load("metro-40mhz")
    world = PulsedWorld(msgspec.structs.replace(plan), 3)
    simulated = SimTransmitter(world, clock=clock, faults=Faults(SimTransmitter.FAULTS))
    unit = Transmitter(MemoryTransport(simulated, clock))
    unit.connect()
    return world, simulated, unit, clock


def test_the_simulated_unit_states_what_it_sends(
    laboratory: tuple[PulsedWorld, SimTransmitter, Transmitter, ManualClock],
) -> None:
    world, _, unit, clock = laboratory
    configuration = unit.configuration()
    assert configuration["pulse_period_as"] == 25_000_000_000
    assert configuration["sync_period_pulses"] == 400
    epoch = unit.start()
    clock.advance(0.5)
    mode, held, pulses = unit.state()
    assert (mode, held) == ("RANDOM", epoch)
    assert pulses == pytest.approx(0.5 * 40e6, rel=0.1)
    slots = np.arange(4000, 5000)
    codes = unit.lookup(epoch, slots)
    assert (codes < 12).all()
    np.testing.assert_array_equal(codes, world.lookup(slots))
    totals = unit.totals(epoch, 0, 400_000, 12)
    assert totals.sum() == 400_000 - 4_000
    assert totals[:4].sum() / totals.sum() == pytest.approx(0.75, abs=0.01)
    with pytest.raises(InstrumentError, match="not all"):
        unit.totals(epoch, 0, 10**12, 12)
    assert (unit.lookup(epoch + 1, slots) == 255).all()


def test_faults_of_the_simulated_unit(
    laboratory: tuple[PulsedWorld, SimTransmitter, Transmitter, ManualClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, simulated, unit, clock = laboratory
    epoch = unit.start()
    clock.advance(0.1)
    simulated.faults.add("forgets")
    assert (unit.lookup(epoch, np.arange(5)) == 255).all()
    simulated.faults.discard("forgets")
    simulated.faults.add("refuses")
    with pytest.raises(InstrumentError, match="not now"):
        unit.send("H")
    simulated.faults.discard("refuses")
    monkeypatch.setattr(Transmitter, "timeout_s", 1.0)
    for fault in ("no_reply", "late_reply"):
        simulated.faults.add(fault, times=1)
        with pytest.raises(TransportTimeout):
            unit.totals(epoch, 0, 400_000, 12)
        clock.advance(3.0)
        assert (unit.lookup(epoch, np.arange(5)) < 12).all()
    simulated.faults.add("garbage", times=1)
    with pytest.raises(ReplyError):
        unit.lookup(epoch, np.arange(5))
    assert (unit.lookup(epoch, np.arange(5)) < 12).all()
    simulated.faults.add("wrong_identity")
    with pytest.raises(IdentityError):
        unit.reconnect()


def test_over_a_socket() -> None:
    world = PulsedWorld(load("metro-40mhz"), 3)
    simulated = SimTransmitter(world, clock=RealClock(), faults=Faults(SimTransmitter.FAULTS))
    with TcpHost(simulated) as host, Transmitter.from_url(host.url) as unit:
        epoch = unit.start()
        slots = np.arange(100_000)
        while unit.state()[2] < slots.size:
            pass
        simulated.faults.add("split_reply", times=1)
        np.testing.assert_array_equal(unit.lookup(epoch, slots), world.lookup(slots))
        simulated.faults.add("disconnect")
        assert use_until_gone(unit.state) is not None
        simulated.faults.discard("disconnect")
        unit.reconnect(tries=6, wait_s=0.05)
        assert unit.state()[1] == epoch
