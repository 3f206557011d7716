"""One live node: instruments, link, blocks, alarms, run folder and key store put together.

Everything that happens goes through here once: a block that ends becomes a
row, its key begins to rest, its figures are judged. A security alarm on either
side stops key output on both: what rests is burned, no block is begun any
more, the source goes dark. The link stays; it takes a person to go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

from qkdpp.core.abort import Aborted, AbortReason
from qkdpp.core.devices import CurrentMeter
from qkdpp.core.errors import DeviceError
from qkdpp.core.stage import Message
from qkdpp.link.events import Control, Down, Failed, PeerLeft, Suspect, Up
from qkdpp.link.pool import Pool
from qkdpp.node.blocks import POOL_REMEDY, BlockRunner
from qkdpp.node.figures import figures_of, row_of
from qkdpp.node.live_messages import Release, SecurityAlarm, Unseen
from qkdpp.node.monitors import (
    Alarm,
    AlarmSettings,
    Board,
    Level,
    authentication,
    data_loss,
    judge_abort,
    judge_block,
    judge_currents,
    judge_state,
    no_current,
    pool_from_discarded,
    shown_over,
)
from qkdpp.node.quarantine import LiveStore, Quarantine
from qkdpp.node.rundir import RunFolder
from qkdpp.node.sink import Alarm as LinkAlarm
from qkdpp.node.sink import BlockEnd, NodeEvent, PeerDropped, Reconciled
from qkdpp.node.status import Status, Watcher
from qkdpp.node.triggers import Triggers
from qkdpp.protocols.parameters import Parameters

_log = logging.getLogger("qkdpp.node")

GO_ON = "when the cause is found, stop both nodes, then start both again"
"""A security alarm stands in the memory of either node, and each tells the other."""
WATCH_S = 0.25
"""Currents are read and keys are released so often."""


class Service(Protocol):
    """What a role adds: Alice's sender, Bob's receiver, or either end of a pair link."""

    async def heard(self, message: Message) -> None:
        """A control message that is the role's business."""
        ...

    async def run(self) -> None:
        """Works from the moment the link is up for the first time until :meth:`stop`."""
        ...

    def stop(self) -> None:
        """Ends :meth:`run`."""
        ...

    def recalibrate(self, reason: str, epoch: int) -> None:
        """Something in a block of this epoch asks for calibration."""
        ...

    def hold(self, why: str) -> None:
        """No block begins, and nothing that is detected becomes one, until this is called with an empty ``why``."""
        ...

    def ended(self, end: BlockEnd) -> None:
        """A block has ended."""
        ...


class Node:
    """Runs until :meth:`stop`, or until the link has failed for good.

    Args:
        runner: blocks over the link; ``pool`` and ``store`` are those it was made with.
        service: the role.
        parameters: public ones.
        alarms: thresholds; ``triggers``: what asks the service to calibrate.
        folder: of the run.
        meters: current meters by detector.
        pending_alarms: others, such as calibration in its thread, append alarms here.
        watchers: are told what happens.
        now: seconds of a steady clock.
    """

    def __init__(
        self,
        runner: BlockRunner,
        pool: Pool,
        store: LiveStore,
        *,
        service: Service,
        parameters: Parameters,
        alarms: AlarmSettings,
        triggers: Triggers,
        folder: RunFolder,
        status: Status,
        meters: Mapping[str, CurrentMeter],
        pending_alarms: list[Alarm],
        watchers: Sequence[Watcher],
        now: Callable[[], float],
    ) -> None:
        self._runner, self._pool, self._service = runner, pool, service
        self._parameters, self._alarms, self._triggers = parameters, alarms, triggers
        self._folder, self._meters, self._watchers = folder, dict(meters), tuple(watchers)
        self._store, self._pending = store, pending_alarms
        self._quarantine = Quarantine(store=store, look_back_s=alarms.look_back_s, now=now)
        self._resting: dict[int, int] = {}
        self.status = status
        self._pool_bits: dict[int, int] = {}
        self._unseen = self._peer_unseen = self._left = False
        self._dropped = 0
        for block in store.resting():
            self._rest(block, store.held(block) or 0)
        self.board = Board()
        self._first_up = asyncio.Event()
        self._stopping = asyncio.Event()
        self._released = -1

    def stop(self) -> None:
        """Opens no more blocks, lets those under way end, takes leave of the peer."""
        self._stopping.set()

    def clear(self, name: str) -> None:
        """What an alarm of others was about is well again."""
        self._alarm([], cleared=(name,))

    async def run(self) -> None:
        """Works until it is stopped; raises what the service or the link failed with."""
        link = asyncio.create_task(self._runner.run())
        tasks = [asyncio.create_task(part) for part in (self._events(), self._ends(), self._watch(), self._serve())]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([link, stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._service.stop()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wait([tasks[-1]]), 5.0)
            await self._runner.close()
            await asyncio.wait([link])
            await asyncio.sleep(0)
            for task in (stopping, *tasks):
                task.cancel()
            results = await asyncio.gather(link, *tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise _inner(result)

    # --- what goes on -----------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        await self._first_up.wait()
        await self._service.run()
        if self.status.security:
            self.status.progress.doing = f"stopped by a security alarm; {GO_ON}"
            await self._stopping.wait()

    async def _ends(self) -> None:
        while True:
            self._ended(await self._runner.next_end())

    def _ended(self, end: BlockEnd) -> None:
        row = row_of(end, self._parameters)
        if self.status.security and not isinstance(end.result, Aborted):
            row["discarded"] = self.status.security
        self._folder.row(row)
        self._folder.transcript(end.block, end.transcript)
        self._service.ended(end)
        result = "ok"
        if isinstance(end.result, Aborted):
            result = end.result.reason.value
            _log.warning("block %d ended without a key: %s %s", end.block, result, dict(end.result.evidence))
        else:
            self.status.secret_bits += len(end.result)
            if self.status.security:
                self._store.burn(end.block, self.status.security)
                self.status.burned_bits += len(end.result)
            else:
                self._rest(end.block, len(end.result))
                if end.pool_bits:
                    self._pool_bits[end.block] = end.pool_bits
        self.status.blocks[result] = self.status.blocks.get(result, 0) + 1
        self.status.last_row = row
        self._judge(end)
        if isinstance(end.result, Aborted) and end.result.evidence.get("peer_reason") == _PEER_INSTRUMENT:
            self._service.recalibrate("an instrument of the peer failed", _epoch(end))
        for watcher in self._watchers:
            watcher.block(end, row)
        self._changed()

    def _judge(self, end: BlockEnd) -> None:
        """Alarms of a block, those that it shows to be over, and whether it is time to calibrate."""
        if isinstance(end.result, Aborted):
            self._alarm(judge_abort(end.result.reason))
            self._peer_drops(str(end.result.evidence.get("peer_reason", "")))
        figures = figures_of(end, self._parameters, self.status.role)
        found = [] if figures is None else judge_block(figures, self._alarms)
        self._alarm(found, cleared=shown_over(key=not isinstance(end.result, Aborted), judged=figures is not None))
        if why := self._triggers.see(end, figures):
            self._service.recalibrate(why, _epoch(end))

    async def _watch(self) -> None:
        """Currents, what the role and the pool are in, and the release of keys."""
        while True:
            await asyncio.sleep(WATCH_S)
            if self._meters:
                await self._currents()
            found = taken(self._pending)
            progress, left = self.status.progress, self._pool.remaining
            if (dropped := progress.dropped_blocks - self._dropped) > 0:
                found.append(data_loss(f"{dropped} whole blocks were dropped"))
            self._dropped = progress.dropped_blocks
            self._alarm(found)
            self._alarm(_trouble(progress.trouble), cleared=("instrument",))
            state = judge_state(lost_locks=progress.lost_locks, pool_tags=left, settings=self._alarms)
            self._alarm(state, cleared=("no_lock", "pool_low"))
            self.status.pool_tags = left
            self._release_due()
            self._changed()

    def _release_due(self) -> None:
        """Bob's matter. What was detected while a current was unknown rests until all are known again, and on."""
        if self.status.role != "bob" or self.status.link != "up":
            return
        if self._unseen or self._peer_unseen:
            self._quarantine.begin_anew()
        elif (up_to := self._quarantine.due(self._runner.oldest_open)) is not None:
            self._released = up_to
            self._forget(up_to)
            self._send(Release(up_to=up_to))

    def _forget(self, up_to: int) -> None:
        """Blocks up to this one rest no more."""
        self._resting = {block: bits for block, bits in self._resting.items() if block > up_to}
        self._pool_bits = {block: bits for block, bits in self._pool_bits.items() if block > up_to}

    async def _currents(self) -> None:
        """Reads all meters; one that does not answer is connected again. While one is unknown, no block begins."""
        read = (asyncio.to_thread(_current_a, meter) for meter in self._meters.values())
        found = dict(zip(self._meters, await asyncio.gather(*read), strict=True))
        known = {name: value for name, value in found.items() if isinstance(value, float)}
        unknown = [f"{name} ({error})" for name, error in found.items() if isinstance(error, DeviceError)]
        missing = [no_current(", ".join(unknown))] if unknown else []
        self._alarm([*judge_currents(known, self._alarms), *missing], cleared=("no_current",))
        if bool(unknown) != self._unseen:
            self._unseen = bool(unknown)
            self._hold()
            self._send(Unseen(unseen=self._unseen))

    def _hold(self) -> None:
        """No block without eyes on the detectors, or without a peer."""
        why = "the other node has left" if self._left else ""
        self._service.hold("a detector current is unknown" if self._unseen else why)

    # --- alarms -----------------------------------------------------------------------------------------------------

    def _alarm(self, found: list[Alarm], *, cleared: tuple[str, ...] = ()) -> None:
        for alarm in self.board.see(found, cleared=[name for name in cleared if name not in {a.name for a in found}]):
            _log.error("%s alarm %s: %s; %s", alarm.level, alarm.name, alarm.message, alarm.remedy)
            self._folder.alarm(asdict(alarm))
            for watcher in self._watchers:
                watcher.alarm(alarm)
            if alarm.level is Level.SECURITY and not self._quarantine.stopped:
                self._halt(alarm.name, alarm.message)
        self.status.alarms = list(self.board.standing.values())

    def _halt(self, name: str, message: str) -> None:
        """No key leaves any more; what rests is burned here and at the peer."""
        burned = self._stop_keys(name)
        self._send(SecurityAlarm(name=name, message=message, blocks=burned))

    def _stop_keys(self, name: str) -> list[int]:
        """Discards what rests and lets no block begin; which blocks were burned."""
        self.status.security = self.status.security or name
        self.status.burned_bits += sum(self._resting.values())
        burned = self._quarantine.stop(name)
        self._folder.discard(burned, name)
        self._service.recalibrate(name, self.status.progress.epoch)
        self._service.stop()
        self._runner.halt(Aborted(reason=AbortReason.SECURITY_ALARM, evidence={"alarm": name}))
        _log.error("no key is made any more; blocks %s are discarded; %s", burned, GO_ON)
        tainted, self._pool_bits = sorted(self._pool_bits), {}
        self._resting.clear()
        if tainted:
            self._alarm([pool_from_discarded(tainted)])
        return burned

    def _rest(self, block: int, bits: int) -> None:
        if self.status.role == "bob":
            self._quarantine.rest(block)
        self._resting[block] = bits

    def _peer_alarm(self, alarm: SecurityAlarm) -> None:
        if not self.status.security:
            self._stop_keys(alarm.name)
        self._alarm(
            [
                Alarm(
                    name=f"peer_{alarm.name}",
                    level=Level.SECURITY,
                    message=f"the peer reports: {alarm.message}",
                    remedy="talk to the people there",
                )
            ]
        )

    # --- the link ---------------------------------------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        if self._first_up.is_set():
            self._runner.send_control(message)

    async def _events(self) -> None:
        while (event := await self._runner.next_event()) is not None:
            await self._event(event)
            self._changed()

    async def _event(self, event: NodeEvent) -> None:
        if isinstance(event, Control):
            await self._control(event.message)
        elif isinstance(event, Up):
            self._is_up(event)
        elif isinstance(event, Down):
            self.status.link = f"down: {event.reason}"
            _log.warning("the link is down: %s", event.reason)
        elif isinstance(event, PeerLeft):
            self.status.link = "the peer has left"
            self._left = True
            self._hold()
        elif isinstance(event, Failed):
            self.status.link = f"failed: {event.aborted.reason.value}"
            self.status.failure = event.remedy
            _log.error("the link has failed: %s %s; %s", event.aborted.reason, event.aborted.evidence, event.remedy)
            if event.aborted.reason is AbortReason.AUTHENTICATION_FAILED:
                self._alarm([authentication(event.remedy)])
        elif isinstance(event, PeerDropped):
            _log.warning("the peer has dropped blocks %s: %s", event.blocks, event.reason)
            self._peer_drops(event.reason)
        elif isinstance(event, Reconciled):
            _log.warning("key of block %d: %s", event.block, "ready" if event.ready else "burned")
            if event.ready and self.status.security:
                self._store.burn(event.block, self.status.security)
            elif event.ready:
                self._rest(event.block, event.key_bits)
        elif isinstance(event, Suspect):
            found = f"the link: {event.aborted.evidence.get('error', event.aborted.reason.value)}"
            self._alarm([_critical(_SUSPECT, found, event.remedy)])
        elif isinstance(event, LinkAlarm):
            self._link_alarm(event)

    def _link_alarm(self, event: LinkAlarm) -> None:
        """With a pool that is used up, on whichever side it was noticed first, nothing goes on: the node ends."""
        message = f"the link reports {event.reason.value}"
        self._alarm([_critical(event.reason.value, message, event.remedy)])
        if event.reason is AbortReason.POOL_EXHAUSTED:
            self.status.failure = event.remedy
            self.stop()

    def _peer_drops(self, reason: str) -> None:
        if reason == AbortReason.POOL_EXHAUSTED.value and not self.status.failure:
            self._link_alarm(LinkAlarm(reason=AbortReason.POOL_EXHAUSTED, remedy=POOL_REMEDY))

    def _is_up(self, event: Up) -> None:
        self.status.link = "up"
        self._alarm([], cleared=(_SUSPECT,))
        if self._left:
            self._left = False
            self._hold()
        self._first_up.set()
        if not event.resumed:
            _log.info("the link is up, in a new session")
            if self._quarantine.stopped:
                self._send(SecurityAlarm(name="standing", message="a security alarm of before still stands", blocks=[]))
            elif self.status.role == "bob" and self._released >= 0:
                self._send(Release(up_to=self._released))
            if self._unseen:
                self._send(Unseen(unseen=True))

    async def _control(self, message: Message) -> None:
        if isinstance(message, SecurityAlarm):
            self._peer_alarm(message)
        elif isinstance(message, Release):
            if self.status.role == "alice" and not self._quarantine.stopped:
                self._store.release(message.up_to)
                self._forget(message.up_to)
        elif isinstance(message, Unseen):
            self._peer_unseen = message.unseen
        else:
            await self._service.heard(message)

    def _changed(self) -> None:
        self.status.resting_bits = sum(self._resting.values())
        for watcher in self._watchers:
            watcher.changed(self.status)


def _epoch(end: BlockEnd) -> int:
    epoch = end.log.facts.get("epoch")
    return epoch if isinstance(epoch, int) else 0


def _critical(name: str, message: str, remedy: str) -> Alarm:
    return Alarm(name=name, level=Level.CRITICAL, message=message, remedy=remedy)


def taken(pending: list[Alarm]) -> list[Alarm]:
    """Takes what others have appended; what they append meanwhile stays for the next time."""
    return [pending.pop(0) for _ in range(len(pending))]


def _inner(error: Exception) -> Exception:
    """What a task failed with, out of the groups that task groups wrap it in."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _trouble(message: str) -> list[Alarm]:
    if not message:
        return []
    remedy = "no key is made until it answers; the node tries again by itself: look at power, cables and light"
    return [_critical("instrument", message, remedy)]


def _current_a(meter: CurrentMeter) -> float | DeviceError:
    """One reading, after another connection if the first one fails; or why there is none."""
    with contextlib.suppress(DeviceError):
        return meter.current_a()
    try:
        meter.reconnect()
        return meter.current_a()
    except DeviceError as error:
        return error


_SUSPECT = "link_suspect"
_PEER_INSTRUMENT = AbortReason.INSTRUMENT_FAILED.value
