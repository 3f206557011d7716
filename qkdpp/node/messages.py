"""Control messages by which two nodes agree what became of a block."""

from __future__ import annotations

from typing import ClassVar, Final

from qkdpp.core.stage import Message


class Drop(Message, frozen=True, kw_only=True):
    """The sender has ended these blocks without a key, for this reason; so must the receiver."""

    blocks: list[int]
    reason: str


class Stored(Message, frozen=True, kw_only=True):
    """The sender holds the key of ``block`` durably.

    Alice says so first and is bound from then on until Bob answers: with the same message, and both use the key, or
    with Drop, and neither does. The first ``256 * pool_pads`` bits of the distilled key become pads from ``pool_at``
    on, the remaining ``key_bits`` are the key. ``room`` is what the sender's pool could still take.
    """

    block: int
    key_bits: int
    pool_pads: int
    pool_at: int
    room: int


class PoolFilled(Message, frozen=True, kw_only=True):
    """Alice, after Bob's Stored: her pool too is filled up to ``end``; both may use these pads."""

    end: int


class Pending(Message, frozen=True, kw_only=True):
    """Either side, in a new session: blocks it stored in an earlier one without knowing whether the peer did."""

    max_bytes: ClassVar[int] = 1 << 20

    blocks: dict[int, int]


class Held(Message, frozen=True, kw_only=True):
    """Answer to Pending: which of them the sender holds with as many bits. The others are burned."""

    max_bytes: ClassVar[int] = 1 << 20

    blocks: list[int]


CONTROLS: Final = (Drop, Stored, PoolFilled, Pending, Held)
"""To be registered with the session, beside the node's own."""
