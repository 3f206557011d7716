"""Control messages of the nodes themselves: what to send, which pulses make a block, alarms, release of keys."""

from __future__ import annotations

from typing import ClassVar, Final

from qkdpp.core.stage import Message


class Ask(Message, frozen=True, kw_only=True):
    """The receiver: send ``H``, ``V``, ``D``, ``A``, ``SYNC``, ``OFF`` or ``RANDOM`` from now on. ``number`` rises."""

    number: int
    mode: str


class Asked(Message, frozen=True, kw_only=True):
    """The sender does so since before this message; ``epoch`` counts random states (0: none); ``error``: it cannot."""

    number: int
    epoch: int
    error: str = ""


class Propose(Message, frozen=True, kw_only=True):
    """The receiver has all tags of pulses ``first`` to ``first + count`` of an epoch and begins this block."""

    block: int
    epoch: int
    first: int
    count: int


class Begin(Message, frozen=True, kw_only=True):
    """Pairs: Alice has started the stream ``epoch`` and cuts it into blocks of ``block_s`` from now on.

    From Bob: his own stream has begun anew, after ``epoch``; Alice answers with a Begin of her own.
    """

    epoch: int
    block_s: float


class ProposePairs(Message, frozen=True, kw_only=True):
    """Pairs: Alice has all tags of interval ``number`` of a stream and begins this block."""

    block: int
    epoch: int
    number: int


class SecurityAlarm(Message, frozen=True, kw_only=True):
    """Either side: no key leaves any more; keys of these blocks are burned on both sides."""

    max_bytes: ClassVar[int] = 1 << 20

    name: str
    message: str
    blocks: list[int]


class Release(Message, frozen=True, kw_only=True):
    """The receiver: keys of blocks up to this one have outlived the look-back of its alarms."""

    up_to: int


class Unseen(Message, frozen=True, kw_only=True):
    """Either side: whether a detector current is unknown here. While it is, the receiver releases no key."""

    unseen: bool


LIVE_CONTROLS: Final = (Ask, Asked, Propose, Begin, ProposePairs, SecurityAlarm, Release, Unseen)
