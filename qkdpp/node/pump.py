"""Reads a time tagger in a thread of its own, so that computing never makes an instrument overflow.

What waits is bounded. When it is full, whole intervals of all detectors are
dropped and marked as lost, never single channels.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qkdpp.core.devices import Chunk, TimeTagger
from qkdpp.core.errors import DeviceError

READ_S = 0.1


class Pump:
    """Use as a context: the thread runs inside.

    Args:
        tagger: started.
        most_tags: tags that may wait.
        record: sees every chunk as it comes, in the thread.
    """

    def __init__(
        self, tagger: TimeTagger, *, most_tags: int = 1 << 24, record: Callable[[Chunk], None] | None = None
    ) -> None:
        self._tagger, self._most, self._record = tagger, most_tags, record
        self._chunks: deque[Chunk] = deque()
        self._waiting = 0
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

    def take(self, timeout_s: float) -> Chunk | None:
        """The next chunk, or None if none comes in time; what the tagger failed with is raised here."""
        with self._ready:
            self._ready.wait_for(lambda: bool(self._chunks) or self._error is not None, timeout_s)
            if self._chunks:
                chunk = self._chunks.popleft()
                self._waiting -= len(chunk.tags)
                return chunk
            if self._error is not None:
                raise self._error
            return None

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                chunk = self._tagger.read(READ_S)
            except DeviceError as error:
                self._fail(error)
                return
            if self._record is not None:
                self._record(chunk)
            if len(chunk.tags) or chunk.flags or chunk.tags.lost:
                self._put(chunk)

    def _fail(self, error: Exception) -> None:
        with self._ready:
            self._error = error
            self._ready.notify_all()

    def _put(self, chunk: Chunk) -> None:
        with self._ready:
            n = len(chunk.tags)
            if n and self._waiting and self._waiting + n > self._most:
                first = int(chunk.tags.ticks[0])
                self._shed_from = first if self._shed_from is None else self._shed_from
                self.shed_tags += n
                empty = replace(chunk.tags, ticks=np.empty(0, np.int64), channel=np.empty(0, np.uint8))
                chunk = replace(chunk, tags=empty)
                if not (chunk.flags or empty.lost):
                    return
            elif n and self._shed_from is not None:
                lost = (*chunk.tags.lost, (self._shed_from, int(chunk.tags.ticks[0])))
                chunk = replace(chunk, tags=replace(chunk.tags, lost=lost), flags=(*chunk.flags, "shed"))
                self._shed_from = None
            self._chunks.append(chunk)
            self._waiting += len(chunk.tags)
            self._ready.notify()
