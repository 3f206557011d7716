"""What a tagger's driver has decoded and not yet delivered."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.devices import FLAGS, Chunk
from qkdpp.core.tags import TimeTags

Interval = tuple[int, int]


class Pending:
    """Tags, losses and flags on their way to the next chunk.

    Args:
        channel_ids: the instrument's channels.
        tick_as: attoseconds per tick.
    """

    def __init__(self, channel_ids: tuple[int, ...], tick_as: int) -> None:
        self.channel_ids, self.tick_as = channel_ids, tick_as
        self._ticks: list[NDArray[np.int64]] = []
        self._channel: list[NDArray[np.uint8]] = []
        self._lost: list[Interval] = []
        self._flags: dict[str, None] = {}
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, ticks: NDArray[np.int64], channel: NDArray[np.uint8]) -> None:
        """Tags that follow those added before, in time order."""
        if ticks.size:
            self._ticks.append(ticks)
            self._channel.append(channel)
            self._n += int(ticks.size)

    def flag(self, names: Iterable[str], lost: Iterable[Interval] = ()) -> None:
        """Something happened, and what is lost by it."""
        for name in names:
            assert name in FLAGS, name
            self._flags[name] = None
        self._lost += [(int(start), int(end)) for start, end in lost]

    def take(self) -> Chunk:
        """Everything, once."""
        tags = TimeTags(
            ticks=np.concatenate([np.empty(0, np.int64), *self._ticks]),
            channel=np.concatenate([np.empty(0, np.uint8), *self._channel]),
            channel_ids=self.channel_ids,
            tick_as=self.tick_as,
            lost=tuple(self._lost),
        )
        chunk = Chunk(tags=tags, flags=tuple(self._flags))
        self._ticks, self._channel, self._lost, self._flags, self._n = [], [], [], {}, 0
        return chunk
