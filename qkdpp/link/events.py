"""What a session tells its user."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from qkdpp.core.abort import Aborted
from qkdpp.core.stage import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """The link works. Unless ``resumed``, it is a new session: whatever was open in an earlier one is gone.

    ``session`` counts the sessions of this process. ``open_blocks`` is how many blocks the peer takes at once,
    ``capabilities`` what both sides can do.
    """

    session: int
    resumed: bool
    peer_incarnation: int
    open_blocks: int
    capabilities: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """The connection is lost; nothing else is."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFrame:
    """One frame of a block; its bytes count against the peer's credit until ``Session.taken``."""

    block: int
    frame: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One authenticated control message."""

    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLeft:
    """The peer takes its leave: it starts nothing more before it comes back as a new incarnation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The session has given up for good: an alarm, and what a person must do."""

    aborted: Aborted
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """Something that arrived cannot be believed: an alarm, and what a person may look at.

    The connection is given up, as if it had been cut, and made again. ``Down`` follows.
    """

    aborted: Aborted
    remedy: str


Event: TypeAlias = Up | Down | BlockFrame | Control | PeerLeft | Failed | Suspect
