"""Which simulated instrument stands where in an optical world: constructors by the kind that a laboratory names."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias

import numpy as np

from qkdpp.scenarios.scenario import ROLES
from qkdpp.sim.receiver import SYNC
from qkdpp_drivers.sim.detectors.id120 import SimId120
from qkdpp_drivers.sim.detectors.quantum_opus import SimSim900
from qkdpp_drivers.sim.detectors.s15_spd import SimS15Spd
from qkdpp_drivers.sim.detectors.websq import SimWebSq
from qkdpp_drivers.sim.faults import Faults
from qkdpp_drivers.sim.hosts import LOOPBACK, Host, PtyHost, TcpHost, ZmqHost
from qkdpp_drivers.sim.optics.dd100 import SimDd100
from qkdpp_drivers.sim.optics.dg645 import SimDg645
from qkdpp_drivers.sim.optics.dmm import SimDmm
from qkdpp_drivers.sim.optics.mpc320 import SimMpc320
from qkdpp_drivers.sim.optics.oz_epc import SimOzEpc
from qkdpp_drivers.sim.optics.polatis import SimPolatis
from qkdpp_drivers.sim.ports import Edges, EdgeSource, FixedKnob, Knob
from qkdpp_drivers.sim.simulated import Clock, SteppedClock
from qkdpp_drivers.sim.taggers.id900 import SimDataLinkTarget, SimId900
from qkdpp_drivers.sim.taggers.keysight53230a import Sim53230A
from qkdpp_drivers.sim.taggers.lectrotic4 import SimLectroTic4
from qkdpp_drivers.sim.taggers.raw64 import SimRaw64
from qkdpp_drivers.sim.taggers.tdc1 import SimTdc1
from qkdpp_drivers.sim.transmitter import SimTransmitter
from qkdpp_drivers.sim.world.detectors import BREAKDOWN_V, CRITICAL_UA, WorldDiode, WorldNanowire
from qkdpp_drivers.sim.world.knobs import DetectorKnobs, Knobs
from qkdpp_drivers.sim.world.pairs import PairWorld
from qkdpp_drivers.sim.world.pulsed import PulsedWorld

STEP_S = 0.01
"""Taggers look at their world so often."""
SWITCH_SIZE, RECEIVER_PORT = 16, 17
"""The fibre is input 1 of the switch, the receiver is its first output."""
World: TypeAlias = PulsedWorld | PairWorld


class HasFaults(Protocol):
    """A simulated instrument."""

    faults: Faults


Made: TypeAlias = tuple[HasFaults, Host]
Kind: TypeAlias = Callable[[World, Clock, np.random.Generator], Made]


@dataclass(slots=True)
class _Attribute:
    """A knob that is an attribute of something in the world."""

    owner: DetectorKnobs | Knobs
    name: str

    @property
    def value(self) -> float:
        """The present value."""
        return float(getattr(self.owner, self.name))

    @value.setter
    def value(self, value: float) -> None:
        setattr(self.owner, self.name, value)


@dataclass(slots=True)
class _Entry:
    """One squeezer (millivolts) or paddle (degrees) of a controller."""

    values: dict[int, float]
    number: int

    @property
    def value(self) -> float:
        """The present value."""
        return self.values[self.number]

    @value.setter
    def value(self, value: float) -> None:
        self.values[self.number] = value


@dataclass(slots=True)
class _Route:
    """The output that the fibre leads to."""

    knobs: Knobs
    outlet: float = RECEIVER_PORT

    @property
    def value(self) -> float:
        """The present value."""
        return self.outlet

    @value.setter
    def value(self, value: float) -> None:
        self.outlet = value
        self.knobs.switched_through = round(value) == RECEIVER_PORT


@dataclass(frozen=True, slots=True)
class _Side:
    """One tagger's view of a pair world."""

    world: PairWorld
    side: int

    def edges(self, until_s: float) -> Edges:
        """See :class:`EdgeSource`."""
        return self.world.edges(self.side, until_s)


class _Id900Host(ZmqHost):
    """The unit, with DataLinkTarget beside it."""

    def __init__(self, unit: SimId900, link: SimDataLinkTarget) -> None:
        super().__init__(unit)
        self._link = ZmqHost(link)

    def __enter__(self) -> Self:
        self._link.__enter__()
        super().__enter__()
        self.url += f"?dlt={LOOPBACK}:{self._link.port}&stream_port={_free_ports(4)}"
        return self

    def stop(self) -> None:
        """See the base class."""
        self._link.stop()
        super().stop()


class _WebSqHost(TcpHost):
    """The control port, with that of the count lines beside it."""

    def __init__(self, box: SimWebSq) -> None:
        super().__init__(box)
        self._lines = TcpHost(box.counts)

    def __enter__(self) -> Self:
        self._lines.__enter__()
        super().__enter__()
        self.url += f"?counts_url={self._lines.url}"
        return self

    def stop(self) -> None:
        """See the base class."""
        self._lines.stop()
        super().stop()


def _free_ports(n: int) -> int:
    """First of ``n`` ports in a row that are free now."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            first: int = stack.enter_context(socket.create_server((LOOPBACK, 0))).getsockname()[1]
            for further in range(1, n):
                stack.enter_context(socket.create_server((LOOPBACK, first + further)))
            return first


def _pulsed(world: World) -> PulsedWorld:
    if not isinstance(world, PulsedWorld):
        raise ValueError("this instrument needs a pulsed world (a bb84 scenario)")
    return world


def _edges(world: World, side: int) -> EdgeSource:
    return _Side(world, side) if isinstance(world, PairWorld) else world


def _transmitter(world: World, clock: Clock, rng: np.random.Generator) -> Made:
    made = SimTransmitter(_pulsed(world), clock=clock, faults=Faults(SimTransmitter.FAULTS))
    return made, TcpHost(made)


def _tdc1(side: int) -> Kind:
    def make(world: World, clock: Clock, rng: np.random.Generator) -> Made:
        made = SimTdc1(_edges(world, side), clock=SteppedClock(clock, STEP_S), faults=Faults(SimTdc1.FAULTS), rng=rng)
        return made, PtyHost(made)

    return make


def _id900(side: int) -> Kind:
    def make(world: World, clock: Clock, rng: np.random.Generator) -> Made:
        clock = SteppedClock(clock, STEP_S)
        unit = SimId900(_edges(world, side), clock=clock, faults=Faults(SimId900.FAULTS), rng=rng)
        link = SimDataLinkTarget(unit, clock=clock, faults=Faults(SimDataLinkTarget.FAULTS), rng=rng)
        return unit, _Id900Host(unit, link)

    return make


def _raw64(world: World, clock: Clock, rng: np.random.Generator) -> Made:
    """Four detectors and the sync channel (layout ``a1s``)."""
    faults = Faults(SimRaw64.FAULTS)
    made = SimRaw64(_pulsed(world), clock=SteppedClock(clock, STEP_S), faults=faults, rng=rng, fifth_input=True)
    return made, TcpHost(made)


def _dg645(world: World, clock: Clock, rng: np.random.Generator) -> Made:
    """Channels A, C, E, G: gates of Z0, Z1, X0, X1."""
    detectors = _pulsed(world).knobs.detectors
    knobs = {name: _Attribute(d, "gate_delay_ps") for name, d in zip("ACEG", detectors, strict=True)}
    made = SimDg645(knobs, clock=clock, faults=Faults(SimDg645.FAULTS), rng=rng)
    return made, TcpHost(made)


def _oz_epc(basis: int) -> Kind:
    def make(world: World, clock: Clock, rng: np.random.Generator) -> Made:
        voltages = _pulsed(world).knobs.controllers[basis].voltages_mv
        knobs = [_Entry(voltages, n) for n in voltages]
        made = SimOzEpc(knobs, clock=clock, faults=Faults(SimOzEpc.FAULTS), rng=rng)
        return made, PtyHost(made)

    return make


def _mpc320(basis: int) -> Kind:
    """In place of the squeezers; who lists both has them one behind the other."""

    def make(world: World, clock: Clock, rng: np.random.Generator) -> Made:
        paddles = _pulsed(world).knobs.controllers[basis].paddles_deg
        knobs = [_Entry(paddles, n) for n in paddles]
        made = SimMpc320(knobs, clock=clock, faults=Faults(SimMpc320.FAULTS), rng=rng)
        return made, PtyHost(made)

    return make


def _polatis(world: World, clock: Clock, rng: np.random.Generator) -> Made:
    """Between fibre and receiver, which it connects at first."""
    knobs: list[Knob] = [_Route(_pulsed(world).knobs), *(FixedKnob() for _ in range(SWITCH_SIZE - 1))]
    made = SimPolatis(knobs, clock=clock, faults=Faults(SimPolatis.FAULTS), rng=rng)
    return made, TcpHost(made)


def _dmm(detector: int) -> Kind:
    def make(world: World, clock: Clock, rng: np.random.Generator) -> Made:
        knob = _Attribute(_pulsed(world).knobs.detectors[detector], "current_a")
        made = SimDmm(knob, clock=clock, faults=Faults(SimDmm.FAULTS), rng=rng)
        return made, TcpHost(made)

    return make


def _s15_spd(detector: int) -> Kind:
    """The controller of one detector, which is dark until it has a bias; gates are somebody else's."""

    def make(world: World, clock: Clock, rng: np.random.Generator) -> Made:
        port = WorldDiode(_pulsed(world), detector, clock)
        made = SimS15Spd(port, clock=clock, faults=Faults(SimS15Spd.FAULTS), rng=rng)
        return made, PtyHost(made)

    return make


def _id120(detector: int) -> Kind:
    """The same."""

    def make(world: World, clock: Clock, rng: np.random.Generator) -> Made:
        port = WorldDiode(_pulsed(world), detector, clock)
        made = SimId120(port, clock=clock, faults=Faults(SimId120.FAULTS), rng=rng, breakdown_v=BREAKDOWN_V)
        return made, TcpHost(made, scheme="visa")

    return make


def _websq(world: World, clock: Clock, rng: np.random.Generator) -> Made:
    """Four nanowires, which are dark until they have a bias; its detectors 0 to 3 are Z0, Z1, X0, X1."""
    ports = [WorldNanowire(_pulsed(world), detector, clock) for detector in range(len(ROLES))]
    faults = Faults(SimWebSq.FAULTS)
    made = SimWebSq(ports, clock=clock, faults=faults, rng=rng, critical_current_ua=CRITICAL_UA)
    return made, _WebSqHost(made)


def _quantum_opus(detector: int) -> Kind:
    """A mainframe with the bias module of one nanowire in slot 1; a tagger counts."""

    def make(world: World, clock: Clock, rng: np.random.Generator) -> Made:
        ports = {1: WorldNanowire(_pulsed(world), detector, clock)}
        faults = Faults(SimSim900.FAULTS)
        made = SimSim900(ports, clock=clock, faults=faults, rng=rng, critical_current_ua=CRITICAL_UA)
        return made, PtyHost(made)

    return make


def _keysight53230a(detector: int) -> Kind:
    """A counter beside the tagger, on its reference: one detector at input 1, sync pulses at input 2."""

    def make(world: World, clock: Clock, rng: np.random.Generator) -> Made:
        edges = _pulsed(world).branch(detector, SYNC)
        made = Sim53230A(edges, clock=clock, faults=Faults(Sim53230A.FAULTS), rng=rng)
        return made, TcpHost(made, scheme="visa")

    return make


def _lectrotic4(side: int) -> Kind:
    def make(world: World, clock: Clock, rng: np.random.Generator) -> Made:
        clock = SteppedClock(clock, STEP_S)
        made = SimLectroTic4(_edges(world, side), clock=clock, faults=Faults(SimLectroTic4.FAULTS), rng=rng)
        return made, PtyHost(made)

    return make


def _dd100(world: World, clock: Clock, rng: np.random.Generator) -> Made:
    knob = _Attribute(_pulsed(world).knobs, "attenuation_db")
    made = SimDd100(knob, clock=clock, faults=Faults(SimDd100.FAULTS), rng=rng)
    return made, PtyHost(made)


KINDS: dict[str, Kind] = {
    "transmitter": _transmitter,
    "tdc1-alice": _tdc1(0),
    "tdc1-bob": _tdc1(1),
    "id900-alice": _id900(0),
    "id900-bob": _id900(1),
    "raw64-bob": _raw64,
    "dg645-gates": _dg645,
    "oz_epc-rectilinear": _oz_epc(0),
    "oz_epc-diagonal": _oz_epc(1),
    "dmm-Z0": _dmm(0),
    "dmm-Z1": _dmm(1),
    "dmm-X0": _dmm(2),
    "dmm-X1": _dmm(3),
    "dd100-attenuator": _dd100,
    "lectrotic4-alice": _lectrotic4(0),
    "lectrotic4-bob": _lectrotic4(1),
    **{f"s15_spd-{role}": _s15_spd(detector) for detector, role in enumerate(ROLES)},
    **{f"id120-{role}": _id120(detector) for detector, role in enumerate(ROLES)},
    "websq-detectors": _websq,
    **{f"quantum_opus-{role}": _quantum_opus(detector) for detector, role in enumerate(ROLES)},
    **{f"keysight53230a-{role}": _keysight53230a(detector) for detector, role in enumerate(ROLES)},
    "mpc320-rectilinear": _mpc320(0),
    "mpc320-diagonal": _mpc320(1),
    "polatis-fibre": _polatis,
}
