"""Two endpoints in one process, with room for a man in the middle."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from qkdpp.core.ledger import Side
from qkdpp.link.endpoint import Endpoint

Tamper: TypeAlias = Callable[[str, int, bytes], list[bytes]]
"""Given the sender, the index of the frame among the sender's, and the frame: the frames to deliver instead."""


def connect(alice: Endpoint[Any], bob: Endpoint[Any], tamper: Tamper | None = None) -> None:
    """Drives both endpoints until both have a result.

    Frames of one direction stay in order unless ``tamper`` reorders them. When nothing is under way any more, an
    endpoint that still waits learns that the link is lost.
    """
    ends: dict[Side, Endpoint[Any]] = {"alice": alice, "bob": bob}
    queue: deque[tuple[Side, bytes]] = deque()
    counts: dict[Side, int] = {"alice": 0, "bob": 0}

    def push(sender: Side, frames: list[bytes]) -> None:
        receiver: Side = "bob" if sender == "alice" else "alice"
        for frame in frames:
            delivered = [frame] if tamper is None else tamper(sender, counts[sender], frame)
            counts[sender] += 1
            queue.extend((receiver, item) for item in delivered)

    for side, end in ends.items():
        push(side, end.start())
    while queue:
        side, frame = queue.popleft()
        push(side, ends[side].receive(frame))
    for end in ends.values():
        end.lost()
