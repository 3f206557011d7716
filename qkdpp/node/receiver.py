"""Bob of a prepare-and-measure link: calibrates, streams, cuts blocks, and begins them.

One thread reads the tagger (:mod:`qkdpp.node.pump`), one cuts and resolves; the event loop talks to the peer. An
*epoch* is a stretch of random states: pulses count from its beginning, which the receiver recognises by the first
sync pulse after darkness. Something that asks for calibration ends the epoch; blocks that are under way go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from qkdpp.core.abort import Abort
from qkdpp.core.bits import Bits
from qkdpp.core.devices import TimeTagger
from qkdpp.core.entropy import Entropy
from qkdpp.core.errors import DeviceError, LinkError
from qkdpp.core.stage import Message
from qkdpp.core.tags import AS_PER_PS, AS_PER_S, TimeTags
from qkdpp.node.asking import Asker
from qkdpp.node.blocks import BlockRunner
from qkdpp.node.delay_watch import DelayWatch
from qkdpp.node.following import Following
from qkdpp.node.live_messages import Propose
from qkdpp.node.live_pairs import lost_share
from qkdpp.node.live_pulsed import LiveBlock, PulsedBlocks
from qkdpp.node.monitors import Alarm
from qkdpp.node.pump import Pump
from qkdpp.node.recording import CutMeta, Recorder
from qkdpp.node.sink import BlockEnd
from qkdpp.node.status import Progress
from qkdpp.node.tracking import Tracking
from qkdpp.protocols import bb84
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.distillation import Party
from qkdpp.protocols.parameters import Parameters
from qkdpp.timing.pulsed import PulsedParams

_log = logging.getLogger("qkdpp.node")

DARK_S = 0.1
"""Darkness before an epoch; half of it without sync pulses marks the beginning."""
START_RANGE_S = 1e-3
"""The first sync pulse that is seen is the first that was sent, give or take this."""
RETRY_S = 1.0
LONGEST_WAIT_S = 60.0
LOST_LOCKS = 2
"""Blocks in a row without a lock that end an epoch."""
BEGIN_S = 10.0
"""An epoch whose first sync pulse has not come after so long is given up."""
HOLD_S = 0.25
TROUBLE = "trouble with an instrument"
"""A reason for an epoch to end after which the last calibration may still hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the receiver works.

    Attributes:
        parameters: public ones.
        block_pulses: pulses of a block; ``period_as``: from one to the next.
        calibrate: given a way to ask the sender and the reason, in a thread: calibrates, and says how the link is timed
            from then on; DeviceError if it fails for good.
        confirm: told that a block has given a key; ``forget``: that the calibration holds no longer.
        tracking: what follows the polarisation from the newest calibration on, if anything does.
        watch: sees delays that move; made anew where the gates were moved.
        alarmed: is told of alarms.
        delays_ps: by channel, as known without a synchronisation calibration.
        reconnect: opens the connections to the instruments again that the epochs and loops need, in a thread;
            DeviceError if one does not answer.
        ending: set when the node stops; ends ``calibrate`` early.
    """

    parameters: Parameters
    block_pulses: int
    period_as: int
    calibrate: Callable[[Callable[[str], int], str], PulsedParams]
    confirm: Callable[[], None]
    forget: Callable[[], None]
    tracking: Callable[[], Tracking | None]
    watch: Callable[[], DelayWatch]
    alarmed: Callable[[list[Alarm]], None]
    delays_ps: Mapping[int, float]
    reconnect: Callable[[], None]
    ending: threading.Event


@dataclass(slots=True)
class _Stop:
    """Why an epoch ends; set from any thread."""

    reason: str = ""
    event: threading.Event = field(default_factory=threading.Event)

    def set(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.event.set()


class Receiver:
    """Runs epochs until it is stopped.

    Args:
        runner: runs the blocks.
        tagger: connected.
        plan: see :class:`Plan`.
        recorder: of the run; gives the randomness of a block.
        now: seconds of a steady clock.
        progress: what it does, for a screen.
    """

    def __init__(
        self,
        runner: BlockRunner,
        tagger: TimeTagger,
        plan: Plan,
        *,
        recorder: Recorder,
        now: Callable[[], float],
        progress: Progress,
    ) -> None:
        self._runner, self._tagger, self._plan = runner, tagger, plan
        self._recorder, self._now = recorder, now
        self._asker = Asker(runner)
        self._stop = _Stop()
        self._held = ""
        self._ended = asyncio.Event()
        self._block_s = plan.block_pulses * plan.period_as / AS_PER_S
        self._following: Following | None = None
        self._moved: dict[int, list[Alarm]] = {}
        self.progress = progress

    # --- what the node calls ----------------------------------------------------------------------------------------

    async def heard(self, message: Message) -> None:
        """One control message of the sender."""
        self._asker.heard(message)

    def recalibrate(self, reason: str, epoch: int) -> None:
        """Ends this epoch and calibrates, also after another start; blocks that have begun go on.

        Without effect if the epoch is over.
        """
        if epoch == self.progress.epoch:
            self._plan.forget()
            self._stop.set(reason)

    def hold(self, why: str) -> None:
        """Ends this epoch; the next one waits until this is called with an empty ``why``."""
        self._held = why
        if why:
            self._stop.set(why)

    def stop(self) -> None:
        """Ends for good."""
        self._plan.ending.set()
        self._ended.set()
        self._stop.set("the node stops")

    def ended(self, end: BlockEnd) -> None:
        """A block has ended: its recording is complete, and its errors tell where the polarisation goes."""
        if isinstance(end.result, Bits):
            self._plan.confirm()
        self._recorder.ended(end.block)
        self._plan.alarmed(self._moved.pop(end.block, []))
        if self._following is not None:
            self._following.ended(end)

    async def run(self) -> None:
        """Calibrates and streams until :meth:`stop`; what instruments fail with is told, and they are tried again."""
        reason, wait_s, started = "start", RETRY_S, False
        try:
            while not self._ended.is_set():
                if self._held:
                    self.progress.doing, reason = f"waiting: {self._held}", TROUBLE
                    await self._pause(HOLD_S)
                    continue
                try:
                    if self.progress.trouble:
                        await asyncio.to_thread(self._plan.reconnect)
                    if not started:
                        await asyncio.to_thread(self._tagger.start)
                        started = True
                    reason = await self._round(reason)
                    wait_s = RETRY_S
                except LinkError as error:
                    _log.warning("%s; trying again", error)
                    reason = "link"
                    await self._pause(RETRY_S)
                except DeviceError as error:
                    if self._ended.is_set():
                        break
                    _log.error("%s; trying again in %g s", error, wait_s)
                    started = False
                    self.progress.trouble, reason = str(error), TROUBLE
                    self.progress.doing = "waiting for an instrument"
                    await self._pause(wait_s)
                    wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        finally:
            try:
                await asyncio.to_thread(self._tagger.stop)
            except DeviceError as error:
                _log.warning("the time tagger may still be streaming: %s", error)

    async def _round(self, reason: str) -> str:
        """Calibration and an epoch; why it ended."""
        loop = asyncio.get_running_loop()
        timing = await asyncio.to_thread(
            self._plan.calibrate, self._asker.from_thread(loop, self._ended.is_set), reason
        )
        self.progress.trouble = ""
        self._stop = _Stop()
        return reason if self._ended.is_set() or self._held else await self._epoch(timing, loop)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)

    async def ask(self, mode: str) -> int:
        """Asks the sender to send something; its epoch. DeviceError if it cannot, LinkError if it does not answer."""
        if self._ended.is_set():
            raise LinkError("the node stops")
        return await self._asker.ask(mode)

    # --- an epoch ---------------------------------------------------------------------------------------------------

    async def _epoch(self, timing: PulsedParams, loop: asyncio.AbstractEventLoop) -> str:
        """One epoch; why it ended."""
        self.progress.doing = "locking"
        with Pump(self._tagger) as pump:
            await self.ask("OFF")
            await asyncio.sleep(DARK_S)
            self.progress.epoch = epoch = await self.ask("RANDOM")
            self._following = await asyncio.to_thread(self._follow, epoch)
            try:
                reason = await asyncio.to_thread(self._stream, pump, timing, epoch, loop)
                if self._following is not None:
                    await asyncio.to_thread(self._following.home)
            finally:
                self._following = None
            return reason

    def _follow(self, epoch: int) -> Following | None:
        tracking = self._plan.tracking()
        if tracking is None:
            return None
        return Following(tracking, self._plan.parameters, epoch=epoch, block_pulses=self._plan.block_pulses)

    def _stream(self, pump: Pump, timing: PulsedParams, epoch: int, loop: asyncio.AbstractEventLoop) -> str:
        """In a thread: from chunks to blocks, until something ends the epoch."""
        blocks: PulsedBlocks | None = None
        beginning, begun = _Beginning(timing.sync_channel), self._now()
        while not self._stop.event.is_set():
            if blocks is None and self._now() - begun > BEGIN_S:
                self.progress.lost_locks += 1
                return "no sync pulse"
            delivery = pump.take(0.2)
            if delivery is None:
                continue
            tags = delivery.chunk.tags
            if blocks is None:
                start = beginning.find(tags)
                if start is None:
                    continue
                _log.info("epoch %d: pulse zero has arrived", epoch)
                blocks = PulsedBlocks(
                    with_delays(timing, self._plan.delays_ps, tags.tick_as),
                    tick_as=tags.tick_as,
                    n_pulses=self._plan.block_pulses,
                    start_tick=start,
                    start_range_s=START_RANGE_S,
                )
            dropped = blocks.add(tags)
            if delivery.confirmed_tick is not None:
                blocks.confirm(delivery.confirmed_tick)
            if blocks.unjudged:
                pump.judge()
            self.progress.dropped_blocks += len(dropped)
            for number in dropped:
                _log.warning("block %d of epoch %d is dropped: this computer cannot keep up", number, epoch)
            self._resolve_ready(blocks, epoch, loop)
            if self._following is not None:
                self._following.go_on(blocks, pump.newest_tick)
            if blocks.lost_locks >= LOST_LOCKS:
                return "no lock"
        return self._stop.reason

    def _resolve_ready(self, blocks: PulsedBlocks, epoch: int, loop: asyncio.AbstractEventLoop) -> None:
        while (cut := blocks.cut()) is not None and not self._stop.event.is_set():
            number = self._runner.new_number()
            entropy = self._recorder.entropy(number)
            self._recorder.tags(number, cut.tags, CutMeta.of(cut, blocks.params, blocks.n_pulses))
            self.progress.rate_hz = len(cut.tags) / max(cut.tags.duration_s, 1e-9)
            try:
                found = blocks.resolve(cut, entropy)
            except Abort as abort:
                self.progress.lost_locks += 1
                self._recorder.lost(number)
                _log.warning("block %d of epoch %d has no clock: %s", cut.number, epoch, abort)
                continue
            self.progress.doing, self.progress.lost_locks = "distilling", 0
            self._moved[number] = self._plan.watch().see(found, self._block_s)
            asyncio.run_coroutine_threadsafe(self._begin(number, epoch, found, entropy), loop).result()

    async def _begin(self, number: int, epoch: int, found: LiveBlock, entropy: Entropy) -> None:
        """Begins a block on both sides; waits for a free place."""
        log = BlockLog(now=self._now)
        log.facts |= {"epoch": epoch, "number": found.number, "tags": len(found.tags), "recovered": found.recovered}
        log.facts |= {"detections": found.detections, "seconds": self._block_s}
        log.facts["lost_share"] = min(1.0, lost_share(found.tags, self._block_s))
        party = Party(role="bob", parameters=self._plan.parameters, entropy=entropy, log=log)
        first = found.number * self._plan.block_pulses
        self._runner.send_control(Propose(block=number, epoch=epoch, first=first, count=self._plan.block_pulses))
        try:
            await self._runner.open(number, bb84.bob(lambda: found.detections, party), log)
        except LinkError:
            self._recorder.lost(number)
            self._moved.pop(number, None)
            raise


def with_delays(timing: PulsedParams, delays_ps: Mapping[int, float], tick_as: int) -> PulsedParams:
    """Delays as calibrated, or else as the node file states them."""
    stated = {channel: delay_ps * AS_PER_PS / tick_as for channel, delay_ps in delays_ps.items()}
    return timing if timing.known_delay_ticks else replace(timing, known_delay_ticks=stated)


class _Beginning:
    """Looks for the first sync pulse after darkness, or (without a sync channel) for the first tag after it."""

    def __init__(self, sync_channel: int | None) -> None:
        self._channel = sync_channel
        self._last: int | None = None

    def find(self, tags: TimeTags) -> int | None:
        """The tick of the beginning once it has come."""
        times = tags.ticks if self._channel is None else tags.of_channel(self._channel)
        if self._last is None and len(tags):
            self._last = int(tags.ticks[0])
        if not times.size or self._last is None:
            return None
        dark = round(DARK_S / 2 * AS_PER_S / tags.tick_as)
        at = np.flatnonzero(np.diff(times, prepend=self._last) > dark)
        self._last = int(times[-1])
        return int(times[at[-1]]) if at.size else None
