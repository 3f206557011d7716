"""A simulated laboratory without bytes between: what calibration loops see, on a clock that waiting moves on."""

from dataclasses import dataclass, field

import msgspec
import numpy as np

from qkdpp.core.devices import Chunk
from qkdpp.core.tags import TimeTags
from qkdpp.scenarios.scenario_file import load
from qkdpp_drivers.sim.world.light import Mode
from qkdpp_drivers.sim.world.polarisation import Controller
from qkdpp_drivers.sim.world.pulsed import PulsedWorld


@dataclass
class Bench:
    """A world and its instruments; time goes on when somebody reads the tagger."""

    world: PulsedWorld
    now_s: float = 0.0
    lost: list[tuple[int, int]] = field(default_factory=list)
    dead: bool = False

    def now(self) -> float:
        return self.now_s

    # a time tagger
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def status(self) -> dict[str, bool]:
        return {"clean": True}

    def read(self, timeout_s: float) -> Chunk:
        self.now_s += min(timeout_s, 0.02)
        times, inputs = self.world.edges(self.now_s)
        lost, self.lost = tuple(self.lost), []
        if self.dead:
            times, inputs = times[:0], inputs[:0]
        tags = TimeTags(ticks=times, channel=inputs, channel_ids=(1, 2, 3, 4, 5), tick_as=1_000_000, lost=lost)
        return Chunk(tags=tags, flags=("overflow",) if lost else ())

    # the sender
    def send(self, mode: str) -> None:
        self.world.send(Mode[mode])

    # gate delays, 5 ps steps as of a DG645
    def set_delay_ps(self, detector: int, delay_ps: float) -> float:
        really = 5.0 * round(delay_ps / 5.0)
        self.world.knobs.detectors[detector].gate_delay_ps = really
        return really

    def delay_ps(self, detector: int) -> float:
        return self.world.knobs.detectors[detector].gate_delay_ps


class Squeezers:
    """A polarisation controller of four squeezers, in millivolts."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller

    @property
    def retarders(self) -> dict[int, tuple[float, float]]:
        return dict.fromkeys(range(1, 5), (-5000.0, 5000.0))

    def set_retarder(self, retarder: int, value: float) -> float:
        self.controller.voltages_mv[retarder] = float(round(value))
        return self.retarder(retarder)

    def retarder(self, retarder: int) -> float:
        return self.controller.voltages_mv[retarder]


def bench(seed: int = 1, *, loss_db: float = 30.0, misalignment: float = 0.004, wander: float = 0.0) -> Bench:
    shipped = load("backbone-625mhz")
    channel = msgspec.structs.replace(shipped.channel, loss_db=loss_db, misalignment=misalignment)
    plan = msgspec.structs.replace(shipped, channel=channel)
    world = PulsedWorld(plan, seed, gate_period_ps=800.0, wander_rad_per_sqrt_s=wander)
    for detector in world.knobs.detectors:
        detector.gate_delay_ps = detector.gate_optimum_ps
    return Bench(world)


DETECTORS = {1: 0, 2: 1, 3: 2, 4: 3}


def gate_distance(world: PulsedWorld, found: tuple[float, ...]) -> np.ndarray:
    """How far delays lie from the true optima, the gate period taken off."""
    off = np.array(found) - [d.gate_optimum_ps for d in world.knobs.detectors]
    return np.abs(off - 800.0 * np.rint(off / 800.0))
