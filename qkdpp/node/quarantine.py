"""Keys rest until the look-back of the alarms has passed, and both sides release or burn the same ones.

The receiver, who sees the alarms, releases by number: all blocks up to one.
Numbers rise, so a message that is repeated after a lost session changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from qkdpp.node.sink import KeySink


class LiveStore(KeySink, Protocol):
    """A key store that keeps ready keys back until they are released."""

    def release(self, up_to: int) -> list[int]:
        """Ready blocks up to this number may be given out from now on; which they are."""
        ...

    def resting(self) -> list[int]:
        """Ready blocks that were not released yet, in order."""
        ...

    def halt(self, reason: str) -> None:
        """Nothing is given out any more until the store is opened anew."""
        ...


@dataclass(slots=True, kw_only=True)
class Quarantine:
    """The receiver's side: when which block may go.

    Args:
        store: both ready keys and their release.
        look_back_s: rest of a key.
        now: seconds of a steady clock.
    """

    store: LiveStore
    look_back_s: float
    now: Callable[[], float]
    stopped: bool = False
    _since: dict[int, float] = field(default_factory=dict)

    def rest(self, block: int) -> None:
        """The key of a block is ready and begins to rest."""
        self._since[block] = self.now()

    def due(self, oldest_open: int | None = None) -> int | None:
        """Releases what has rested long enough, in order of numbers; the last of them, to tell the peer.

        Nothing from ``oldest_open`` on goes, and nothing behind a block that is ready and has not begun to rest: the
        monitors have not seen it.
        """
        last = self._rested(oldest_open)
        if (
            last is not None
            and (unseen := min(set(self.store.resting()) - self._since.keys(), default=last + 1)) <= last
        ):
            last = self._rested(unseen)
        if last is None:
            return None
        for block in self.store.release(last):
            self._since.pop(block, None)
        self._since = {block: since for block, since in self._since.items() if block > last}
        return last

    def _rested(self, below: int | None) -> int | None:
        """The last block that may go, all before it included."""
        last = None
        for block in sorted(self._since) if not self.stopped else ():
            if self.now() - self._since[block] < self.look_back_s or (below is not None and block >= below):
                break
            last = block
        return last

    def begin_anew(self) -> None:
        """Whatever rests begins its rest now."""
        self._since = dict.fromkeys(self._since, self.now())

    def stop(self, reason: str) -> list[int]:
        """A security alarm: nothing is released or given out any more, and all that rests is burned; which blocks."""
        self.stopped = True
        self.store.halt(reason)
        burned = self.store.resting()
        for block in burned:
            self.store.burn(block, reason)
        self._since.clear()
        return burned
