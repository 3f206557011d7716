"""Alice of a prepare-and-measure link: obeys the receiver's calibration, and answers for the pulses of each block."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from qkdpp.core.abort import Aborted, AbortReason
from qkdpp.core.devices import Transmitter
from qkdpp.core.errors import ConfigError, DeviceError, LinkError
from qkdpp.core.stage import Message
from qkdpp.node.blocks import BlockRunner
from qkdpp.node.live_messages import Ask, Asked, Propose
from qkdpp.node.live_record import LiveRecord
from qkdpp.node.recording import Recorder
from qkdpp.node.sink import BlockEnd
from qkdpp.node.status import Progress
from qkdpp.protocols import bb84
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.distillation import Party
from qkdpp.protocols.parameters import Parameters

STATES_S = 10.0
"""So long a new epoch waits for blocks of the one before to have their states looked up."""

_log = logging.getLogger("qkdpp.node")


def check_transmitter(transmitter: Transmitter, parameters: Parameters) -> None:
    """ConfigError, naming the field, unless the unit sends what the public parameters say."""
    source = parameters.source
    if source is None:
        raise ConfigError("a sender needs a [source] section")
    stated = transmitter.configuration()
    wanted: dict[str, object] = {
        "pulse_period_as": source.pulse_period_as,
        "intensities": list(source.intensities),
        "p_intensity": list(source.p_intensity),
        "p_z": source.p_z_alice,
    }
    if parameters.timing.method == "sync":
        wanted["sync_period_pulses"] = parameters.timing.sync_period_pulses
    if (string := parameters.sync_string) is not None:
        wanted["sync_string"] = {"seed": string.seed, "length": string.length, "frame": string.frame}
    for name, value in wanted.items():
        if stated.get(name) != value:
            raise ConfigError(f"the transmitter has {name} = {stated.get(name)}, the public parameters say {value}")


class Sender:
    """Serves the receiver's messages.

    Args:
        runner: runs the blocks.
        transmitter: connected, its configuration checked.
        parameters: public ones.
        recorder: of the run; gives the randomness of a block.
        now: seconds of a steady clock.
        progress: what it does, for a screen.
    """

    def __init__(
        self,
        runner: BlockRunner,
        transmitter: Transmitter,
        parameters: Parameters,
        *,
        recorder: Recorder,
        now: Callable[[], float],
        progress: Progress,
    ) -> None:
        self._runner, self._transmitter, self._parameters = runner, transmitter, parameters
        self._recorder, self._now = recorder, now
        self.progress = progress
        self._asked: tuple[int, Asked] | None = None
        self._records: dict[int, LiveRecord] = {}
        self._stopping = asyncio.Event()

    async def heard(self, message: Message) -> None:
        """One control message of the receiver."""
        if isinstance(message, Ask):
            await self._answer(message)
        elif isinstance(message, Propose):
            try:
                await self._begin(message)
            except (LinkError, ValueError) as error:
                _log.warning("block %d is not begun: %s", message.block, error)
                self._records.pop(message.block, None)
                self._recorder.lost(message.block)

    async def run(self) -> None:
        """Waits for :meth:`stop`, then darkens the source."""
        await self._stopping.wait()
        try:
            await asyncio.to_thread(self._transmitter.send, "OFF")
        except DeviceError as error:
            _log.warning("the transmitter may still be sending: %s", error)

    def stop(self) -> None:
        """Ends :meth:`run`."""
        self._stopping.set()

    def recalibrate(self, reason: str, epoch: int) -> None:
        """The receiver's matter."""

    def hold(self, why: str) -> None:
        """Nothing is detected here."""

    def ended(self, end: BlockEnd) -> None:
        """Forgets the states of a block that has ended; its recording is complete."""
        self._recorder.ended(end.block, self._records.pop(end.block, None))
        if isinstance(end.result, Aborted) and end.result.reason is AbortReason.INSTRUMENT_FAILED:
            self.progress.trouble = ", ".join(map(str, end.result.evidence.values()))

    async def _answer(self, ask: Ask) -> None:
        """The same question gets the same answer: a repeated one starts no second epoch."""
        if self._asked is not None and self._asked[0] == ask.number:
            self._runner.send_control(self._asked[1])
            return
        try:
            if ask.mode == "RANDOM":
                await self._states_taken()
            epoch = await asyncio.to_thread(self._obey, ask.mode)
            answer = Asked(number=ask.number, epoch=epoch)
            self.progress.doing, self.progress.trouble = f"sending {ask.mode}", ""
            self.progress.epoch = epoch or self.progress.epoch
        except DeviceError as error:
            self.progress.trouble = str(error)
            _log.error("the transmitter does not send %s: %s", ask.mode, error)
            answer = Asked(number=ask.number, epoch=0, error=str(error))
        self._asked = (ask.number, answer)
        self._runner.send_control(answer)

    async def _states_taken(self) -> None:
        """Waits until blocks under way have their states: the unit forgets them when a new epoch begins."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STATES_S):
                while not all(record.complete for record in self._records.values()):
                    await asyncio.sleep(0.02)

    def _obey(self, mode: str) -> int:
        if self.progress.trouble:
            self._transmitter.reconnect()
            try:
                check_transmitter(self._transmitter, self._parameters)
            except ConfigError as error:
                raise DeviceError(str(error)) from error
        if mode == "RANDOM":
            return self._transmitter.start()
        self._transmitter.send(mode)
        return 0

    async def _begin(self, proposed: Propose) -> None:
        source, string = self._parameters.source, self._parameters.sync_string
        if source is None:
            raise ConfigError("a sender needs a [source] section")
        record = LiveRecord(
            self._transmitter,
            epoch=proposed.epoch,
            first=proposed.first,
            n_pulses=proposed.count,
            n_codes=4 * len(source.intensities),
            string=None if string is None else string.build(),
        )
        log = BlockLog(now=self._now)
        log.facts["epoch"] = proposed.epoch
        party = Party(
            role="alice", parameters=self._parameters, entropy=self._recorder.entropy(proposed.block), log=log
        )
        self._records[proposed.block] = record
        await self._runner.open(proposed.block, bb84.alice(record, party), log)
        try:
            await asyncio.to_thread(self._transmitter.release, proposed.epoch, proposed.first)
        except DeviceError as error:
            _log.warning("the transmitter keeps old states: %s", error)
