"""Messages between two receivers of entangled pairs, and their validation.

All of them are public and none depends on a bit of the key, so none is charged.
Long lists travel in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.stage import Message
from qkdpp.core.tags import AS_PER_S
from qkdpp.kernels.codec import decode_slots, encode_slots
from qkdpp.timing.clock import ClockReport
from qkdpp.timing.pair_events import Events

Ints = NDArray[np.int64]

CHUNK = 1 << 20
MAX_SEGMENT_TAGS = 1 << 20
MAX_EVENTS = 1 << 30
MAX_TICK = 1 << 61
MAX_DELAY_PS = 1e9


class CalibrationRequest(Message, frozen=True, kw_only=True):
    """Bob: asks for a segment, or ends the calibration with Alice's delays."""

    max_bytes: ClassVar[int] = 1 << 10
    segment: int
    delays_ps: tuple[float, float, float, float] | None = None


class CalibrationSegment(Message, frozen=True, kw_only=True):
    """Alice: all her clicks of a segment, with detectors; both sides cut them out.

    Times are in sub-ticks (1/256 tick) from ``origin_tick``, her first tag; ``clicks`` encodes
    ``4 (time - start) + detector``.
    """

    max_bytes: ClassVar[int] = 1 << 23
    tick_as: int
    slot_ticks: int
    origin_tick: int
    start: int
    stop: int
    n: int
    clicks: bytes


class AnnouncedSlots(Message, frozen=True, kw_only=True):
    """Alice: slots of her single clicks after delay correction, counted from ``base``; ``last`` ends the list."""

    max_bytes: ClassVar[int] = 1 << 24
    base: int
    n: int
    slots: bytes
    last: bool


class MatchedSlots(Message, frozen=True, kw_only=True):
    """Bob: which announced slots met a click of his (positions from ``base`` on); the last one carries the clock."""

    max_bytes: ClassVar[int] = 1 << 24
    base: int
    n: int
    positions: bytes
    clock: ClockReport | None = None


def encode_segment(
    events: Events, bounds: tuple[int, int], *, tick_as: int, slot_ticks: int, origin_tick: int
) -> CalibrationSegment:
    """The message for one segment (a second click of one detector at the same time is left out)."""
    inside = events.between(*bounds)
    clicks = np.unique((inside.time - bounds[0]) * 4 + inside.detector)[:MAX_SEGMENT_TAGS]
    return CalibrationSegment(
        tick_as=tick_as,
        slot_ticks=slot_ticks,
        origin_tick=origin_tick,
        start=bounds[0],
        stop=bounds[1],
        n=int(clicks.size),
        clicks=encode_slots(clicks),
    )


def decode_segment(message: CalibrationSegment) -> Events:
    """Alice's clicks from the start of the segment; RemoteProtocolError if they are not what they claim."""
    length = message.stop - message.start
    sound = (
        0 <= message.n <= MAX_SEGMENT_TAGS
        and 0 < message.tick_as < AS_PER_S
        and 0 < message.slot_ticks < 1 << 32
        and 0 < length < 1 << 58
        and 0 <= message.start < MAX_TICK
        and abs(message.origin_tick) < MAX_TICK
    )
    if not sound:
        raise RemoteProtocolError("CalibrationSegment: values out of range")
    clicks = _decode(message.clicks, message.n, 4 * length - 1, "CalibrationSegment")
    return Events(time=clicks >> 2, detector=(clicks & 3).astype(np.uint8))


def checked_delays(message: CalibrationRequest, segments: int) -> tuple[float, ...] | None:
    """Delays in the message, or None if it asks for a segment; RemoteProtocolError on nonsense."""
    if message.delays_ps is None:
        if not 0 <= message.segment < segments:
            raise RemoteProtocolError("CalibrationRequest: no such segment")
        return None
    if not all(abs(delay) <= MAX_DELAY_PS for delay in message.delays_ps):
        raise RemoteProtocolError("CalibrationRequest: delays out of range")
    return message.delays_ps


def slot_chunks(slots: Ints) -> Iterator[AnnouncedSlots]:
    """The announcement of strictly increasing slots, in chunks; at least one."""
    for start in range(0, max(slots.size, 1), CHUNK):
        part = slots[start : start + CHUNK]
        base = int(part[0]) if part.size else 0
        yield AnnouncedSlots(
            base=base, n=int(part.size), slots=encode_slots(part - base), last=start + CHUNK >= slots.size
        )


def decode_chunk(message: AnnouncedSlots, after: int, held: int) -> Ints:
    """The slots of one chunk, all later than ``after``; RemoteProtocolError on anything else."""
    sound = 0 < message.n <= CHUNK and after < message.base < MAX_TICK
    if not (sound or (message.n == 0 and message.last)) or held + message.n > MAX_EVENTS:
        raise RemoteProtocolError("AnnouncedSlots: values out of range")
    if not message.n:
        return np.empty(0, dtype=np.int64)
    return _decode(message.slots, message.n, MAX_TICK, "AnnouncedSlots") + message.base


def position_chunks(positions: Ints, clock: ClockReport) -> Iterator[MatchedSlots]:
    """The answer: strictly increasing positions in chunks; the last one carries the clock."""
    for start in range(0, max(positions.size, 1), CHUNK):
        part = positions[start : start + CHUNK]
        base = int(part[0]) if part.size else 0
        yield MatchedSlots(
            base=base,
            n=int(part.size),
            positions=encode_slots(part - base),
            clock=clock if start + CHUNK >= positions.size else None,
        )


def decode_positions(message: MatchedSlots, after: int, announced: int) -> Ints:
    """Positions of one chunk, later than ``after`` and below ``announced``; RemoteProtocolError on anything else."""
    sound = 0 < message.n <= CHUNK and after < message.base < announced
    if not sound and not (message.n == 0 and message.clock is not None):
        raise RemoteProtocolError("MatchedSlots: values out of range")
    if not message.n:
        return np.empty(0, dtype=np.int64)
    return _decode(message.positions, message.n, announced - 1 - message.base, "MatchedSlots") + message.base


def _decode(data: bytes, n: int, largest: int, name: str) -> Ints:
    try:
        return decode_slots(data, n, largest)
    except ValueError as error:
        raise RemoteProtocolError(f"{name}: {error}") from error
