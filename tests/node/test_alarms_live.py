"""Alarms of running roles and nodes: a clock that is lost while tags are streaming, pools that are no copies."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from laboratory import DETECTORS, bench
from pair_link import laboratory, two_nodes

from qkdpp.core.devices import Chunk
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.stage import Message, Stage
from qkdpp.link.pool_file import create_pool
from qkdpp.node.delay_watch import DelayWatch
from qkdpp.node.live_messages import Ask, Asked
from qkdpp.node.monitors import AlarmSettings, judge_state
from qkdpp.node.receiver import Plan, Receiver
from qkdpp.node.status import Progress
from qkdpp.protocols.block import BlockLog
from qkdpp.timing.pulsed import PulsedParams
from qkdpp_drivers.sim.world.light import Mode
from qkdpp_drivers.sim.world.pulsed import PulsedWorld

pytestmark = pytest.mark.xdist_group("live")

PERIOD_AS, FRAMES = 1_600_000_000, 40


class Sender:
    """The runner of blocks, with a sender at its other end that does as it is asked."""

    def __init__(self, world: PulsedWorld) -> None:
        self.world, self.made, self.opened = world, 0, 0
        self.heard: Callable[[Message], object]

    async def connected(self) -> None: ...

    def new_number(self) -> int:
        self.made += 1
        return self.made

    def send_control(self, message: Message) -> None:
        if isinstance(message, Ask):
            epoch = self.world.send(Mode[message.mode])
            asyncio.get_running_loop().call_soon(self.heard, Asked(number=message.number, epoch=epoch))

    async def open(self, block: int, stage: Stage, log: BlockLog) -> None:
        assert log.facts["lost_share"] == 0.0
        self.opened += 1


class NoRecorder:
    def entropy(self, block: int) -> OsEntropy:
        return OsEntropy()

    def tags(self, *_: object) -> None: ...
    def lost(self, block: int) -> None: ...


def test_a_clock_that_is_lost_while_streaming_raises_the_alarm_and_ends_it() -> None:
    made = bench(2, loss_db=27.0)
    world, read = made.world, made.read
    world.fibre.rotation = np.eye(3)
    string = world.header.sync_string
    timing = PulsedParams(
        method="sync",
        pulse_period_as=PERIOD_AS,
        detector_of_channel=DETECTORS,
        gate_ps=400.0,
        dead_time_ns=1000.0,
        sync_channel=5,
        sync_period_pulses=6250,
        string=string,
    )

    def slowly(timeout_s: float) -> Chunk:
        time.sleep(0.01)
        return read(timeout_s)

    made.read = slowly  # type: ignore[method-assign]
    sender, progress = Sender(world), Progress()
    delays = DelayWatch(DETECTORS, pulse_period_as=PERIOD_AS, synchronous=True, settings=AlarmSettings())
    plan = Plan(
        parameters=None,  # type: ignore[arg-type]
        block_pulses=FRAMES * string.frame,
        period_as=PERIOD_AS,
        calibrate=lambda ask, reason: timing,
        confirm=lambda: None,
        forget=lambda: None,
        tracking=lambda: None,
        watch=lambda: delays,
        alarmed=lambda alarms: None,
        delays_ps={},
        reconnect=lambda: None,
        ending=threading.Event(),
    )
    role = Receiver(sender, made, plan, recorder=NoRecorder(), now=time.monotonic, progress=progress)  # type: ignore[arg-type]
    sender.heard = lambda message: asyncio.ensure_future(role.heard(message))

    def alarms() -> list[str]:
        found = judge_state(lost_locks=progress.lost_locks, pool_tags=1000, settings=AlarmSettings())
        return [alarm.name for alarm in found]

    async def until(reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not reached():
                await asyncio.sleep(0.02)

    async def main() -> None:
        task = asyncio.create_task(role.run())
        await until(lambda: sender.opened > 0)
        assert alarms() == []
        epoch = progress.epoch
        world.knobs.fibre_connected = False
        await until(lambda: progress.epoch > epoch and progress.lost_locks > 2)  # of all epochs together
        assert alarms() == ["no_lock"]
        world.knobs.fibre_connected = True
        await until(lambda: progress.lost_locks == 0)
        assert alarms() == []
        role.stop()
        await task

    asyncio.run(main())


def test_pools_that_are_no_copies_of_one_another_are_told_of_and_give_no_key(tmp_path: Path) -> None:
    create_pool(tmp_path / "bob.pool", 100, OsEntropy())

    async def run() -> None:
        async with two_nodes(tmp_path, "tdc1", block_s=1.0) as ends, asyncio.timeout(30):
            while not any("link_suspect" in end.seen.alarms for end in ends):
                await asyncio.sleep(0.05)
        assert not any(end.store.keys for end in ends)

    with laboratory(tmp_path, "tdc1", pair_rate_hz=1e4):
        asyncio.run(run())
