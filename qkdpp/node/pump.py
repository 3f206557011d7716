"""Reads a time tagger in a thread of its own, so that computing never makes an instrument overflow.

What waits is bounded. When it is full, whole intervals of all detectors are
dropped and marked as lost, never single channels.

Some instruments tell of a loss only when they are asked (``status``), which may cost a gap. So whoever uses the tags
asks for a verdict (:meth:`Pump.judge`) before anything depends on them. A verdict confirms what was read before it. If
it is not clean, everything from the clean verdict before to the next clean one is lost: what was on its way when the
instrument was asked may have holes, too.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from qkdpp.core.devices import Chunk, TimeTagger

_log = logging.getLogger("qkdpp.node")

READ_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Delivery:
    """A chunk, and the tick before which no loss can come to light any more (None: no verdict has come)."""

    chunk: Chunk
    confirmed_tick: int | None = None


class Pump:
    """Use as a context: the thread runs inside.

    Args:
        tagger: started.
        most_tags: tags that may wait.
    """

    def __init__(self, tagger: TimeTagger, *, most_tags: int = 1 << 24) -> None:
        self._tagger, self._most = tagger, most_tags
        self._deliveries: deque[Delivery] = deque()
        self._waiting = 0
        self._newest = self._confirmed = -(1 << 62)
        self._asked, self._judging = threading.Event(), False
        self._was_clean = True
        self._shed_from: int | None = None
        self._ready = threading.Condition()
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="tagger", daemon=True)
        self.shed_tags = 0

    def __enter__(self) -> Pump:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def newest_tick(self) -> int:
        """The newest tick that was read."""
        return self._newest

    def judge(self) -> None:
        """Asks the instrument for its verdict; it comes with a later delivery. Without effect while one is awaited."""
        if not self._judging:
            self._judging = True
            self._asked.set()

    def take(self, timeout_s: float) -> Delivery | None:
        """What comes next, or None if nothing comes in time; what the tagger failed with is raised here."""
        with self._ready:
            self._ready.wait_for(lambda: bool(self._deliveries) or self._error is not None, timeout_s)
            if self._deliveries:
                delivery = self._deliveries.popleft()
                self._waiting -= len(delivery.chunk.tags)
                self._judging &= delivery.confirmed_tick is None
                return delivery
            if self._error is not None:
                raise self._error
            return None

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                delivery = self._verdict() if self._asked.is_set() else Delivery(chunk=self._tagger.read(READ_S))
            except Exception as error:  # whoever takes the tags must learn of it, whatever it is
                self._fail(error)
                return
            chunk = delivery.chunk
            for flag in chunk.flags:
                level = logging.DEBUG if flag == "restart" else logging.WARNING
                _log.log(level, "the time tagger reports %s; what it lost is not used", flag)
            if len(chunk.tags):
                self._newest = max(self._newest, int(chunk.tags.ticks[-1]))
            if len(chunk.tags) or not chunk.clean or delivery.confirmed_tick is not None:
                self._put(delivery)

    def _verdict(self) -> Delivery:
        """Confirms what was read so far, or declares it lost."""
        self._asked.clear()
        newest = self._newest
        state = self._tagger.status()
        chunk = self._tagger.read(READ_S)
        was_clean, self._was_clean = self._was_clean, bool(state["clean"])
        if not (was_clean and self._was_clean):
            lost = (*chunk.tags.lost, (self._confirmed, newest + 1))
            chunk = replace(chunk, tags=replace(chunk.tags, lost=lost))
        confirmed = state.get("confirmed_tick")
        self._confirmed = max(self._confirmed, newest if confirmed is None else min(newest, int(confirmed)))
        return Delivery(chunk=chunk, confirmed_tick=self._confirmed)

    def _fail(self, error: Exception) -> None:
        with self._ready:
            self._error = error
            self._ready.notify_all()

    def _put(self, delivery: Delivery) -> None:
        chunk = delivery.chunk
        with self._ready:
            n = len(chunk.tags)
            if n and self._waiting and self._waiting + n > self._most:
                if self._shed_from is None:
                    self._shed_from = int(chunk.tags.ticks[0])
                    _log.warning("tags are dropped: this computer cannot keep up")
                self.shed_tags += n
                empty = replace(chunk.tags, ticks=np.empty(0, np.int64), channel=np.empty(0, np.uint8))
                chunk = replace(chunk, tags=empty)
                if chunk.clean and delivery.confirmed_tick is None:
                    return
            elif n and self._shed_from is not None:
                lost = (*chunk.tags.lost, (self._shed_from, int(chunk.tags.ticks[0])))
                chunk = replace(chunk, tags=replace(chunk.tags, lost=lost), flags=(*chunk.flags, "shed"))
                self._shed_from = None
            self._deliveries.append(replace(delivery, chunk=chunk))
            self._waiting += len(chunk.tags)
            self._ready.notify()
