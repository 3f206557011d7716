"""The two ends of an entangled-pair link: both receive, Alice says which interval becomes a block.

Alice begins a stream and numbers its intervals; Bob begins his own when he is told. How far the two beginnings are
apart is found by the coincidences of the first block (``timing.offset_range_s`` must cover the way of a message) and
followed from block to block. Where it is not found, because a computer was late at the beginning or a clock has
jumped, both begin anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Literal

from qkdpp.core.abort import Abort, Aborted, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.devices import TimeTagger
from qkdpp.core.errors import DeviceError, LinkError
from qkdpp.core.stage import Message, Stage
from qkdpp.core.tags import TimeTags
from qkdpp.node.blocks import BlockRunner
from qkdpp.node.live_messages import Begin, ProposePairs
from qkdpp.node.live_pairs import PairBlocks, clicks, lost_share
from qkdpp.node.pump import Delivery, Pump
from qkdpp.node.recording import Recorder
from qkdpp.node.sink import BlockEnd
from qkdpp.node.status import Progress
from qkdpp.protocols import bbm92
from qkdpp.protocols.block import BlockLog
from qkdpp.protocols.distillation import Party
from qkdpp.protocols.parameters import Parameters
from qkdpp.timing.pair_values import Expected, Matched

_log = logging.getLogger("qkdpp.node")

MOST_LOST = 0.5
"""An interval of which more is lost does not become a block: its clock would be looked for in vain, and at length."""
RETRY_S, LONGEST_WAIT_S = 1.0, 60.0
HOLD_S = 0.25
LATE_S = 5.0
"""Bob's interval may be complete so much later than Alice's."""
LOST_LOCKS = 2
"""Blocks in a row whose intervals do not meet, or took too long to find out, before they are numbered anew."""
IN_VAIN = frozenset({AbortReason.NO_LOCK.value, AbortReason.DEADLINE_PASSED.value})


class PairEnd:
    """One end, from the first time the link is up until :meth:`stop`.

    Args:
        role: alice proposes, bob follows.
        runner: runs the blocks.
        tagger: connected.
        detector_of_channel: detector code by instrument channel.
        parameters: public ones.
        block_s: length of an interval.
        recorder: of the run; gives the randomness of a block.
        now: seconds of a steady clock.
        progress: kept up to date.
    """

    def __init__(
        self,
        role: Literal["alice", "bob"],
        runner: BlockRunner,
        tagger: TimeTagger,
        *,
        detector_of_channel: dict[int, int],
        parameters: Parameters,
        block_s: float,
        recorder: Recorder,
        now: Callable[[], float],
        progress: Progress,
    ) -> None:
        self._role: Literal["alice", "bob"] = role
        self._runner, self._tagger, self._detectors = runner, tagger, detector_of_channel
        self._parameters, self._block_s, self._recorder, self._now = parameters, block_s, recorder, now
        self._stop = threading.Event()
        self._held = ""
        self._lock = threading.Lock()
        self._blocks: PairBlocks | None = None
        self._begin = asyncio.Event()
        self._epoch = 0
        self._intervals: dict[int, int] = {}
        self._in_vain = 0
        self.progress = progress

    async def heard(self, message: Message) -> None:
        """One control message of the peer."""
        if isinstance(message, Begin) and self._role == "alice":
            self._new_epoch()
        elif isinstance(message, Begin):
            with self._lock:
                self._blocks, self._epoch = None, message.epoch
            self._begin.set()
        elif isinstance(message, ProposePairs) and self._role == "bob":
            await self._follow(message)

    def stop(self) -> None:
        """Ends :meth:`run`."""
        self._stop.set()
        self._begin.set()

    def hold(self, why: str) -> None:
        """Ends this stream; the next one waits until this is called with an empty ``why``."""
        self._held = why
        if why:
            self._begin.clear()

    def recalibrate(self, reason: str, epoch: int) -> None:
        """Nothing moves here: what must be aligned in a pair link is its operator's matter."""
        _log.warning("%s: a pair link has no loops that calibrate it; look at its alignment", reason)

    def ended(self, end: BlockEnd) -> None:
        """The recording is complete; Bob's intervals follow the clock that a block found."""
        self._recorder.ended(end.block)
        number = self._intervals.pop(end.block, None)
        matched = end.log.facts.get("matched")
        if isinstance(end.result, Aborted) and end.result.reason is AbortReason.NO_LOCK:
            self.progress.lost_locks += 1
        elif isinstance(matched, Matched):
            self.progress.lost_locks = 0
        if self._role == "alice" and end.log.facts.get("epoch") == self._epoch:
            self._count(end)
        if self._role != "bob" or number is None or not isinstance(matched, Matched):
            return
        with self._lock:
            if self._blocks is not None and end.log.facts.get("epoch") == self._epoch:
                clock = matched.clock
                self._blocks.follow(number, clock.line_offset_s, clock.line_rate_ppm * 1e-6)

    def _count(self, end: BlockEnd) -> None:
        """Alice: blocks in vain, of this epoch; Bob is the one who looks for the clock."""
        ended = end.result
        in_vain = isinstance(ended, Aborted) and {ended.reason.value, ended.evidence.get("peer_reason")} & IN_VAIN
        self._in_vain = self._in_vain + 1 if in_vain else 0
        if self._in_vain >= LOST_LOCKS:
            _log.warning("%d blocks in a row in vain: both ends begin anew", self._in_vain)
            self._new_epoch()

    async def run(self) -> None:
        """Streams until :meth:`stop`; a tagger that fails is told of and tried again."""
        wait_s = RETRY_S
        while not self._stop.is_set():
            if self._held:
                self.progress.doing = f"waiting: {self._held}"
                await asyncio.to_thread(self._stop.wait, HOLD_S)
                continue
            try:
                await self._session()
                wait_s = RETRY_S
            except DeviceError as error:
                _log.error("%s; trying again in %g s", error, wait_s)
                self.progress.trouble, self.progress.doing = str(error), "waiting for an instrument"
                self._begin.clear()
                await asyncio.to_thread(self._stop.wait, wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _session(self) -> None:
        """From the start of a stream until :meth:`stop`; DeviceError if the tagger fails."""
        if self.progress.trouble:
            await asyncio.to_thread(self._tagger.reconnect)
        await asyncio.to_thread(self._tagger.start)
        self.progress.trouble = ""
        with Pump(self._tagger) as pump:
            if self._role == "alice":
                self._new_epoch()
            else:
                self._begin.clear()
                self._runner.send_control(Begin(epoch=self._epoch, block_s=self._block_s))
            await asyncio.to_thread(self._stream, pump, asyncio.get_running_loop())
        await asyncio.to_thread(self._tagger.stop)

    def _new_epoch(self) -> None:
        """Alice: intervals are numbered anew."""
        with self._lock:
            self._blocks, self._epoch, self._in_vain = None, self._runner.new_number(), 0
        self._runner.send_control(Begin(epoch=self._epoch, block_s=self._block_s))

    # --- the stream, in a thread ------------------------------------------------------------------------------------

    def _stream(self, pump: Pump, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stop.is_set() and not self._held:
            delivery = pump.take(0.2)
            if delivery is None or (self._role == "bob" and not self._begin.is_set()):
                continue
            if self._add(delivery, pump.newest_tick()):
                pump.judge()
            if self._role == "alice":
                self._propose(loop)

    def _add(self, delivery: Delivery, now_tick: int) -> bool:
        """Whether the instrument's verdict is wanted. Intervals begin at ``now_tick`` if they have not yet."""
        tags = delivery.chunk.tags
        with self._lock:
            if self._blocks is None:
                if not len(tags):
                    return False
                self._blocks = PairBlocks(tick_as=tags.tick_as, begin_tick=now_tick, length_s=self._block_s)
            self._blocks.add(tags)
            if delivery.confirmed_tick is not None:
                self._blocks.confirm(delivery.confirmed_tick)
            self.progress.rate_hz = len(tags) / max(tags.duration_s, 1e-9)
            for number in self._blocks.overdue():
                self.progress.dropped_blocks += 1
                _log.warning("interval %d is dropped: nobody took it in time", number)
            return self._blocks.unjudged

    def _propose(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            number = None if self._blocks is None else self._blocks.complete()
            tags = None if number is None or self._blocks is None else self._blocks.take(number)
        if number is None or tags is None:
            return
        if (lost := lost_share(tags, self._block_s)) > MOST_LOST:
            self.progress.dropped_blocks += 1
            _log.warning("interval %d is dropped: %.0f %% of it is lost", number, 100 * lost)
            return
        block = self._runner.new_number()
        self._runner_send(ProposePairs(block=block, epoch=self._epoch, number=number), loop)
        self.progress.doing = "distilling"
        asyncio.run_coroutine_threadsafe(self._open(block, number, tags), loop).result()

    def _runner_send(self, message: Message, loop: asyncio.AbstractEventLoop) -> None:
        async def send() -> None:
            self._runner.send_control(message)

        asyncio.run_coroutine_threadsafe(send(), loop).result()

    # --- blocks -----------------------------------------------------------------------------------------------------

    async def _follow(self, proposed: ProposePairs) -> None:
        """Bob: waits until his interval is complete, then begins the block."""
        deadline = self._now() + self._block_s + LATE_S
        while self._now() < deadline and self._is_in(proposed.epoch) and not self._stop.is_set():
            with self._lock:
                tags = None if self._blocks is None else self._blocks.take(proposed.number)
                known = None if self._blocks is None else self._blocks.expected(proposed.number)
                gone = self._blocks is not None and self._blocks.next > proposed.number and tags is None
            if tags is not None:
                if (lost := lost_share(tags, self._block_s)) > MOST_LOST:
                    await self._refuse(proposed, f"{100 * lost:.0f} % of it is lost")
                    return
                self.progress.doing = "distilling"
                await self._open(proposed.block, proposed.number, tags, known)
                return
            if gone:
                await self._refuse(proposed, "it is not here any more")
                return
            await asyncio.sleep(0.05)
        if not self._stop.is_set():
            await self._refuse(proposed, "it does not come", AbortReason.NO_LOCK)

    def _is_in(self, epoch: int) -> bool:
        return self._begin.is_set() and epoch == self._epoch

    async def _refuse(
        self, proposed: ProposePairs, why: str, reason: AbortReason = AbortReason.TOO_FEW_DETECTIONS
    ) -> None:
        """Ends a block before it begins, here and at the peer."""
        self.progress.dropped_blocks += 1
        _log.warning("block %d: interval %d is dropped: %s", proposed.block, proposed.number, why)

        def refused() -> Stage[Bits]:
            yield from ()
            raise Abort(reason, interval=proposed.number, why=why)

        with contextlib.suppress(LinkError):
            await self._runner.open(proposed.block, refused(), BlockLog(now=self._now))

    async def _open(self, block: int, number: int, tags: TimeTags, known: Expected | None = None) -> None:
        log = BlockLog(now=self._now)
        log.facts |= {"epoch": self._epoch, "tags": len(tags), "seconds": self._block_s}
        log.facts |= {"lost_share": lost_share(tags, self._block_s), "clicks": clicks(tags, self._detectors)}
        party = Party(role=self._role, parameters=self._parameters, entropy=self._recorder.entropy(block), log=log)
        if self._role == "alice":
            half = bbm92.alice(tags, self._detectors, party)
        else:
            half = bbm92.live_bob(tags, self._detectors, party, known)
        self._intervals[block] = number
        await asyncio.to_thread(self._recorder.tags, block, tags, known)
        try:
            await self._runner.open(block, half, log)
        except LinkError as error:
            _log.warning("block %d is not begun: %s", block, error)
            self._intervals.pop(block, None)
            self._recorder.lost(block)
