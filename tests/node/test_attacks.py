"""An eavesdropper in the simulated channel: alarms, or error rates and yields of theory, and never a key from it."""

import dataclasses

import msgspec
import numpy as np
import pytest

from qkdpp.core.abort import Aborted, AbortReason
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.sync_string import SyncString
from qkdpp.core.tags import TimeTags
from qkdpp.node.figures import figures_of
from qkdpp.node.live_pulsed import PulsedBlocks
from qkdpp.node.live_record import LiveRecord
from qkdpp.node.monitors import AlarmSettings, judge_block, judge_currents
from qkdpp.node.sink import BlockEnd
from qkdpp.offline.drive import drive
from qkdpp.protocols import bb84
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.distillation import Party
from qkdpp.protocols.parameters import Detectors, Parameters, SecuritySection, Source, SyncStringSection, Timing
from qkdpp.scenarios.scenario_file import load
from qkdpp.timing.pulsed import PulsedParams
from qkdpp_drivers.sim.world.knobs import Eve
from qkdpp_drivers.sim.world.light import Mode
from qkdpp_drivers.sim.world.pulsed import PulsedWorld

FRAMES = 250
"""Of 10 ms: two and a half seconds."""


class Unit:
    """A transmitter that looks into the world."""

    def __init__(self, world: PulsedWorld) -> None:
        self.world = world

    def lookup(self, epoch: int, slots: np.ndarray) -> np.ndarray:
        return self.world.lookup(slots)

    def totals(self, epoch: int, first: int, count: int, n_codes: int) -> np.ndarray:
        return self.world.totals(first, count)


@dataclasses.dataclass(frozen=True)
class Shown:
    """What one block under attack shows."""

    end: BlockEnd
    alarms: list[str]
    current: list[str]
    aborted: Aborted | None
    secret_bits: int
    gains: np.ndarray
    qber: np.ndarray


def attacked(eve: Eve, *, loss_db: float = 12.0, gates_off_ps: tuple[float, ...] = (), seed: int = 3) -> Shown:
    shipped = load("metro-40mhz")
    channel = msgspec.structs.replace(shipped.channel, loss_db=loss_db)
    receiver = msgspec.structs.replace(shipped.bob.receiver, dead_time_ns=100.0, after_pulse=0.0)
    plan = msgspec.structs.replace(
        shipped, channel=channel, bob=msgspec.structs.replace(shipped.bob, receiver=receiver)
    )
    world = PulsedWorld(plan, seed, gate_period_ps=800.0 if gates_off_ps else 0.0)
    world.fibre.rotation = np.eye(3)
    for detector, off_ps in zip(world.knobs.detectors, gates_off_ps or [0.0] * 4, strict=True):
        detector.gate_delay_ps = detector.gate_optimum_ps + off_ps
    world.knobs.eve = eve
    world.send(Mode.RANDOM)
    string = world.header.sync_string
    assert string is not None
    return _block(world, string)


def _parameters(world: PulsedWorld, string: SyncString) -> Parameters:
    source = world.source
    return Parameters(
        protocol="bb84",
        source=Source(
            pulse_period_as=source.pulse_period_as,
            intensities=list(source.intensities),
            p_intensity=list(source.p_intensity),
            p_z_alice=source.p_z,
            phase_randomised=True,
            intensities_declared=True,
        ),
        sync_string=SyncStringSection(seed=string.seed.hex(), length=string.length, frame=string.frame),
        timing=Timing(method="sync", sync_period_pulses=400, gate_ps=400.0, dead_time_ns=100.0),
        detectors=Detectors(bob=[0.15] * 4, tolerance=0.0),
        security=SecuritySection(eps_sec=1e-9),
    )


def _block(world: PulsedWorld, string: SyncString) -> Shown:
    parameters = _parameters(world, string)
    begin = world.chain.clock.read(world.path.arrival_fs(np.zeros(1, dtype=np.int64)) + world._run.start_fs)
    timing = PulsedParams(
        method="sync",
        pulse_period_as=world.source.pulse_period_as,
        detector_of_channel={1: 0, 2: 1, 3: 2, 4: 3},
        gate_ps=400.0,
        dead_time_ns=100.0,
        sync_channel=5,
        sync_period_pulses=400,
        string=string,
    )
    blocks = PulsedBlocks(
        timing,
        tick_as=1_000_000,
        n_pulses=FRAMES * string.frame,
        start_tick=int(begin[0]) // 1000,
        start_range_s=1e-3,
    )
    times, inputs = world.edges(FRAMES * 0.01 + 0.2)
    blocks.add(TimeTags(ticks=times, channel=inputs, channel_ids=(1, 2, 3, 4, 5), tick_as=1_000_000))
    blocks.confirm(int(times[-1]))
    cut = blocks.cut()
    assert cut is not None
    found = blocks.resolve(cut, OsEntropy()).detections
    record = LiveRecord(Unit(world), epoch=1, first=0, n_pulses=FRAMES * string.frame, n_codes=12, string=string)
    logs = BlockLog(now=lambda: 0.0), BlockLog(now=lambda: 0.0)
    logs[1].facts |= {"detections": found, "seconds": 2.5, "lost_share": 0.0}
    alice = Party(role="alice", parameters=parameters, entropy=OsEntropy(), log=logs[0])
    bob = Party(role="bob", parameters=parameters, entropy=OsEntropy(), log=logs[1])
    outcome = drive(bb84.alice(record, alice), bb84.bob(lambda: found, bob), logs)
    end = BlockEnd(block=1, result=outcome.bob, log=logs[1], pool_bits=0, traffic={}, eps_auth=0.0, transcript=[])
    figures = figures_of(end, parameters, "bob")
    assert figures is not None
    sent = record.totals().sum(axis=2)
    currents = {str(i): d.current_a for i, d in enumerate(world.knobs.detectors)}
    return Shown(
        end=end,
        alarms=[alarm.name for alarm in judge_block(figures, AlarmSettings())],
        current=[alarm.name for alarm in judge_currents(currents, AlarmSettings())],
        aborted=outcome.aborted,
        secret_bits=0 if outcome.keys is None else len(outcome.keys[1]),
        gains=figures.tested / sent,
        qber=figures.wrong / np.maximum(figures.tested, 1),
    )


@pytest.fixture(scope="module")
def honest() -> Shown:
    return attacked(Eve())


def test_without_eve_there_is_key_and_silence(honest: Shown) -> None:
    assert honest.secret_bits > 0
    assert honest.alarms == honest.current == []


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_intercept_and_resend_costs_a_quarter_of_its_share(honest: Shown, share: float) -> None:
    shown = attacked(Eve(intercept=share))
    expected = honest.qber[0] + share * (0.25 - honest.qber[0] / 2)
    np.testing.assert_allclose(shown.qber[0], expected, atol=0.012)
    np.testing.assert_allclose(shown.gains[0], honest.gains[0], rtol=0.05)
    assert shown.secret_bits == 0
    assert ("qber_warning" in shown.alarms) == (share > 0.2)


def test_photon_number_splitting_shows_in_the_yields_of_the_decoys_and_leaves_no_key(honest: Shown) -> None:
    shown = attacked(Eve(splitting=True), loss_db=25.0)
    usual = attacked(Eve(), loss_db=25.0)
    assert shown.gains[1, 0] / shown.gains[0, 0] < 0.6 * usual.gains[1, 0] / usual.gains[0, 0]
    assert usual.gains[1, 0] / usual.gains[0, 0] == pytest.approx(1 / 3, rel=0.1)
    assert shown.secret_bits == 0
    assert shown.aborted is not None
    assert shown.aborted.reason in (AbortReason.NO_KEY_LEFT, AbortReason.IMPLAUSIBLE_COUNTS)


def test_blinding_raises_the_current_though_nothing_else_is_wrong(honest: Shown) -> None:
    shown = attacked(Eve(blinding=True))
    assert shown.current == ["detector_current"] * 4
    np.testing.assert_array_less(shown.qber[0], 0.03)


def test_a_time_shift_makes_detectors_unequal_whose_gates_lie_apart() -> None:
    apart = (-60.0, 60.0, 0.0, 0.0)
    assert attacked(Eve(), gates_off_ps=apart).alarms == []
    assert attacked(Eve(shift_ps=60.0, shift_share=1.0), gates_off_ps=apart).alarms == ["unequal_detectors"]
