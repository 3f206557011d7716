"""What a node tells whoever watches it: a screen, metrics, lines of JSON. Nothing in here is secret but a block's end.

A watcher is called in the event loop, must not block, and takes of a :class:`BlockEnd` counts only, never bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from qkdpp.core.ledger import Side
from qkdpp.node.monitors import Alarm
from qkdpp.node.sink import BlockEnd


@dataclass(slots=True, kw_only=True)
class Progress:
    """What the role is doing; changed from any thread, one field at a time.

    Attributes:
        doing: a few words.
        epoch: number of the stretch of random states.
        rate_hz: tags per second in the last block.
        dropped_blocks: blocks dropped because this computer could not keep up.
        lost_locks: blocks in a row without a clock, over all epochs.
        trouble: what an instrument fails with, until it works again.
    """

    doing: str = "starting"
    epoch: int = 0
    rate_hz: float = 0.0
    dropped_blocks: int = 0
    lost_locks: int = 0
    trouble: str = ""


@dataclass(slots=True, kw_only=True)
class Status:
    """The node at this moment; changed in the event loop only.

    Attributes:
        name, role: of the node.
        progress: of its role.
        link: ``connecting``, ``up``, ``down: why``, ``the peer has left``, or ``failed: why``.
        failure: what to do if the link has failed for good, else empty.
        blocks: blocks that ended, by result (``ok`` or a reason).
        last_row: row of the last block (columns of ``qkdpp.node.rundir``).
        secret_bits: key bits of all blocks of this run; ``resting_bits`` rest in quarantine, ``burned_bits`` were
            discarded.
        pool_tags: left in the authentication pool.
        alarms: that stand.
        security: name of the security alarm that stopped all key, or empty.
    """

    name: str
    role: Side
    progress: Progress = field(default_factory=Progress)
    link: str = "connecting"
    failure: str = ""
    blocks: dict[str, int] = field(default_factory=dict)
    last_row: dict[str, Any] = field(default_factory=dict)
    secret_bits: int = 0
    resting_bits: int = 0
    burned_bits: int = 0
    pool_tags: int = 0
    alarms: list[Alarm] = field(default_factory=list)
    security: str = ""

    @property
    def released_bits(self) -> int:
        """Key bits of this run that may be given out."""
        return max(0, self.secret_bits - self.resting_bits - self.burned_bits)


class Watcher(Protocol):
    """Is told what happens."""

    def changed(self, status: Status) -> None:
        """Something in the status may have changed."""
        ...

    def block(self, end: BlockEnd, row: Mapping[str, Any]) -> None:
        """A block has ended."""
        ...

    def alarm(self, alarm: Alarm) -> None:
        """An alarm was raised that did not stand before."""
        ...


def short(block: int) -> str:
    """A block number as people read it: start of the link, and number since then."""
    return f"{block >> 32}.{block & 0xFFFFFFFF}"
