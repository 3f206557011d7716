"""What the roles of a node do when the link or an instrument is not there."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from two_nodes import connected, make, stop

from qkdpp.core.errors import DeviceError, LinkError
from qkdpp.node import asking
from qkdpp.node import sender as sender_module
from qkdpp.node.live_messages import Ask, Asked, Propose
from qkdpp.node.receiver import Plan, Receiver, with_delays
from qkdpp.node.recording import Recorder
from qkdpp.node.sender import Sender
from qkdpp.node.status import Progress
from qkdpp.timing.pulsed import PulsedParams


class Unplugged:
    """An instrument that nobody can reach."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object) -> None:
            raise DeviceError("unplugged")

        return fail


def receiver(runner: object) -> Receiver:
    plan = Plan(
        parameters=None,  # type: ignore[arg-type]
        block_pulses=1,
        period_as=1,
        calibrate=lambda ask, reason: pytest.fail("nothing to calibrate"),
        confirm=lambda: None,
        forget=lambda: None,
        tracking=lambda: None,
        watch=lambda: pytest.fail("nothing to watch"),
        alarmed=lambda alarms: None,
        delays_ps={},
        reconnect=lambda: None,
        ending=threading.Event(),
    )
    return Receiver(runner, Unplugged(), plan, recorder=None, now=lambda: 0.0, progress=Progress())  # type: ignore[arg-type]


def test_asking_over_a_link_that_is_down_takes_no_pad(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        alice, bob = make()
        await connected(alice, bob)
        role = receiver(alice.runner)
        await alice.runner.connected()
        await bob.kill()
        while alice.runner._connected:
            await asyncio.sleep(0.01)
        left = alice.pool.remaining
        for _ in range(5):
            with pytest.raises(LinkError, match="did not answer"):
                await role.ask("RANDOM")
        assert alice.pool.remaining == left
        assert role._asker._questions == {}
        await stop(alice)

    monkeypatch.setattr(asking, "ANSWER_S", 0.05)
    asyncio.run(main())


def test_a_receiver_ends_also_when_its_tagger_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    role = receiver(None)
    role.stop()
    asyncio.run(role.run())
    assert "unplugged" in caplog.text


def test_a_transmitter_that_was_out_of_reach_is_connected_again_and_checked() -> None:
    class Unit:
        out, stated = True, 1_600_000_000
        done: ClassVar[list[str]] = []

        def send(self, mode: str) -> None:
            if self.out:
                raise DeviceError("unplugged")
            self.done.append(mode)

        def reconnect(self) -> None:
            self.done.append("again")
            self.out = False

        def configuration(self) -> dict[str, Any]:
            return {"pulse_period_as": self.stated, "intensities": [0.6, 0.2], "p_intensity": [0.8, 0.2], "p_z": 0.5}

    class Answers:
        said: ClassVar[list[str]] = []

        def send_control(self, message: Asked) -> None:
            self.said.append(message.error)

    source = SimpleNamespace(
        pulse_period_as=1_600_000_000, intensities=[0.6, 0.2], p_intensity=[0.8, 0.2], p_z_alice=0.5
    )
    parameters: Any = SimpleNamespace(source=source, sync_string=None, timing=SimpleNamespace(method="string"))
    unit = Unit()
    role = Sender(Answers(), unit, parameters, recorder=None, now=lambda: 0.0, progress=Progress())  # type: ignore[arg-type]

    def ask(number: int) -> str:
        asyncio.run(role.heard(Ask(number=number, mode="OFF")))
        return Answers.said[-1]

    assert ask(1) == role.progress.trouble == "unplugged"
    unit.stated = 1
    assert "pulse_period_as" in ask(2)
    unit.stated = 1_600_000_000
    assert ask(3) == role.progress.trouble == ""
    assert Unit.done == ["again", "again", "OFF"]


class Closed:
    """A runner whose link is closed."""

    async def open(self, *_: object) -> None:
        raise LinkError("closed")


def test_a_block_that_is_not_begun_leaves_nothing_behind(tmp_path: Path) -> None:
    file: Any = SimpleNamespace(
        recording=SimpleNamespace(tags=False, entropy=True, key=None), folder=tmp_path, node=SimpleNamespace(name="a")
    )
    recorder = Recorder(file, tmp_path)
    parameters: Any = SimpleNamespace(source=SimpleNamespace(intensities=[0.6, 0.2, 0.0]), sync_string=None)
    role = Sender(Closed(), Unplugged(), parameters, recorder=recorder, now=lambda: 0.0, progress=Progress())  # type: ignore[arg-type]
    for block in range(3):
        asyncio.run(role.heard(Propose(block=block, epoch=1, first=0, count=10)))
    assert not role._records
    assert not recorder._entropies


def test_a_new_epoch_waits_until_blocks_under_way_have_their_states(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    class Unit:
        def start(self) -> int:
            done.append("epoch")
            return 2

        def lookup(self, epoch: int, slots: np.ndarray) -> np.ndarray:
            return np.zeros(slots.size, dtype=np.uint8)

        def totals(self, *_: int) -> np.ndarray:
            done.append("totals")
            return np.zeros(12, dtype=np.int64)

        def release(self, *_: int) -> None: ...

    class Open:
        async def open(self, *_: object) -> None: ...

        def send_control(self, message: object) -> None: ...

    parameters: Any = SimpleNamespace(source=SimpleNamespace(intensities=[0.6, 0.2, 0.0]), sync_string=None)
    recorder: Any = SimpleNamespace(entropy=lambda block: None)
    role = Sender(Open(), Unit(), parameters, recorder=recorder, now=lambda: 0.0, progress=Progress())  # type: ignore[arg-type]

    async def main() -> None:
        await role.heard(Propose(block=1, epoch=1, first=0, count=10))
        asking = asyncio.create_task(role.heard(Ask(number=1, mode="RANDOM")))
        await asyncio.sleep(0.05)
        assert done == []
        role._records[1].lookup(np.arange(3))
        role._records[1].totals()
        await asking
        assert done == ["totals", "epoch"]
        await role.heard(Propose(block=2, epoch=2, first=0, count=10))
        monkeypatch.setattr(sender_module, "STATES_S", 0.05)
        await role.heard(Ask(number=2, mode="RANDOM"))
        assert done[2:] == ["epoch"]

    asyncio.run(main())


def test_delays_of_the_node_file_serve_where_no_calibration_found_others() -> None:
    """120 ps are 30 ticks of 4 ps."""
    timing = PulsedParams(
        method="sync", pulse_period_as=10**9, detector_of_channel={1: 0}, gate_ps=400.0, dead_time_ns=0.0
    )
    assert with_delays(timing, {1: 120.0}, 4_000_000).known_delay_ticks == {1: 30.0}
    found = replace(timing, known_delay_ticks={1: 7.0})
    assert with_delays(found, {1: 120.0}, 4_000_000) == found
