"""Time order: stable sort within a declared look-back, merge of streams, cut to an interval.

Instruments deliver tags slightly out of order (delays applied after detection,
missed counter carries). Tags are held back for :data:`LOOK_BACK_AS`; whatever
comes back by more than that cannot be placed any more and is dropped, counted
and reported. Every output is non-decreasing, also across batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError
from qkdpp.kernels.tags import count_backward, merge, sort
from qkdpp.sources.batches import BATCH_RECORDS, Batch, Tally

LOOK_BACK_AS = 10**15
"""Look-back of the sort: 1 ms. The worst steps seen in real files are 0.1 ms."""
MAX_BACKWARD_SHARE = 0.005
"""Share of backward steps above which a declared headerless kind is refused."""
FEW_STEPS = 4
"""Backward steps that a short headerless file may have whatever its length."""


def _count_backward(batch: Batch, last: int | None, look_back: int, tally: Tally) -> int:
    """Books backward steps in file order; returns how many exceed the look-back."""
    ticks = batch.ticks
    far = worst = 0
    if last is not None and int(ticks[0]) < last:
        tally.backward_steps += 1
        worst = last - int(ticks[0])
        far += worst > look_back
    if not batch.in_order and count_backward(ticks):
        back = np.flatnonzero(ticks[1:] < ticks[:-1])
        # Differences of int64 may pass 2**63; as unsigned they are exact because each step is positive.
        steps = ticks[back].astype(np.uint64) - ticks[back + 1].astype(np.uint64)
        tally.backward_steps += int(back.size)
        worst = max(worst, int(steps.max()))
        far += int(np.count_nonzero(steps > np.uint64(look_back)))
    tally.worst_backward_ticks = max(tally.worst_backward_ticks, worst)
    return far


def _plausible(tally: Tally, seen: int, far_steps: int, name: str) -> None:
    if tally.backward_steps > FEW_STEPS + MAX_BACKWARD_SHARE * seen or far_steps > MAX_BACKWARD_SHARE * seen:
        raise FormatError(
            f"{name}: {tally.backward_steps} backward steps among {seen} tags: "
            "the file is not what it was declared to be, check format and options"
        )


def ordered(batches: Iterator[Batch], tick_as: int, tally: Tally, *, check: str | None = None) -> Iterator[Batch]:
    """The same tags in time order.

    Args:
        batches: tags in file order.
        tick_as: attoseconds per tick, for the look-back.
        tally: takes backward steps and dropped tags.
        check: name of a headerless file, which is refused (FormatError) if its times are not plausible.

    Raises:
        FormatError: a part (``tally.part``) begins before the part before it ends, or ``check`` fails.
    """
    look_back = max(1, LOOK_BACK_AS // tick_as)
    held: Batch | None = None
    last: int | None = None
    emitted: int | None = None
    part = tally.part
    seen = far_steps = 0
    for batch in batches:
        if not batch.ticks.size:
            if batch.lost:
                yield batch
            continue
        if part != tally.part and last is not None and int(batch.ticks[0]) < last - look_back:
            raise FormatError(f"{tally.part}: begins before {part} ends; give the parts of one recording in order")
        part = tally.part
        before = tally.backward_steps
        far_steps += _count_backward(batch, last, look_back, tally)
        last = int(batch.ticks[-1])
        seen += batch.ticks.size
        if check is not None:
            _plausible(tally, seen, far_steps, check)
        held = _join(held, batch, is_sorted=tally.backward_steps == before)
        if emitted is not None:
            held = _drop_late(held, emitted, tally)
        limit = int(held.ticks[-1]) - look_back if held.ticks.size else 0
        cut = int(np.searchsorted(held.ticks, max(limit, -(1 << 63)), side="right"))
        cut = max(cut, held.ticks.size - BATCH_RECORDS)
        if cut or held.lost:
            yield Batch(ticks=held.ticks[:cut], ids=held.ids[:cut], lost=held.lost)
        if cut:
            emitted = int(held.ticks[cut - 1])
            held = Batch(ticks=held.ticks[cut:].copy(), ids=held.ids[cut:].copy())
        else:
            held = Batch(ticks=held.ticks, ids=held.ids)
    if held is not None and held.ticks.size:
        yield held


def _join(held: Batch | None, batch: Batch, *, is_sorted: bool) -> Batch:
    """Tags held back and new ones, stably sorted; ``is_sorted`` says that no step of the new ones goes back."""
    ticks, ids, lost = batch.ticks, batch.ids, batch.lost
    if held is not None and held.ticks.size:
        (ticks, ids), lost = _behind(held, batch), held.lost + lost
        is_sorted = is_sorted and int(batch.ticks[0]) >= int(held.ticks[-1])
    if not is_sorted:
        ticks, ids = _sorted([(ticks, ids)])
    return Batch(ticks=ticks, ids=ids, lost=lost)


def _behind(held: Batch, batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.integer]]:
    """Both as one: the tags held back go into the room in front of the new ones if there is enough."""
    size, room = held.ticks.size, batch.room
    ticks, ids = batch.ticks.base, batch.ids.base
    if size > room or ticks is None or ids is None:
        return np.concatenate([held.ticks, batch.ticks]), np.concatenate([held.ids, batch.ids])
    ticks[room - size : room], ids[room - size : room] = held.ticks, held.ids
    end = room + batch.ticks.size
    return ticks[room - size : end], ids[room - size : end]


def _sorted(parts: list[tuple[NDArray[np.int64], NDArray[Any]]]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """One part sorted stably, or several sorted parts merged."""
    if all(ids.dtype == np.uint8 for _, ids in parts):
        return sort(*parts[0]) if len(parts) == 1 else merge(parts)
    ticks, ids = (np.concatenate(column) for column in zip(*parts, strict=True))
    order: NDArray[np.intp] = np.argsort(ticks, kind="stable")
    return ticks[order], ids[order]


def _drop_late(batch: Batch, emitted: int, tally: Tally) -> Batch:
    """Drops tags earlier than the last tag handed out; the gap they would have filled is marked as lost."""
    late = int(np.searchsorted(batch.ticks, emitted, side="left"))
    if not late:
        return batch
    tally.late_tags += late
    tally.warn("time went back by more than the look-back of 1 ms: the tags concerned were dropped")
    gap = (int(batch.ticks[0]), emitted)
    return Batch(ticks=batch.ticks[late:], ids=batch.ids[late:], lost=(*batch.lost, gap))


def merged(streams: list[Iterator[Batch]]) -> Iterator[Batch]:
    """Several ordered streams as one; equal times in the order of the streams."""
    if len(streams) == 1:
        yield from streams[0]
        return
    held: list[list[Any] | None] = [[np.empty(0, np.int64), np.empty(0, np.int64)] for _ in streams]
    while True:
        lost: tuple[tuple[int, int], ...] = ()
        for i, stream in enumerate(streams):
            state = held[i]
            while state is not None and not state[0].size:
                batch = next(stream, None)
                if batch is None:
                    held[i] = state = None
                else:
                    state[:] = [batch.ticks, batch.ids]
                    lost += batch.lost
        live = [state for state in held if state is not None]
        if not live:
            if lost:
                yield Batch(ticks=np.empty(0, np.int64), ids=np.empty(0, np.int64), lost=lost)
            return
        limit = min(int(state[0][-1]) for state in live)
        side: Any = "left" if any(int(state[0][0]) < limit for state in live) else "right"
        parts = []
        for state in live:
            cut = int(np.searchsorted(state[0], limit, side=side))
            parts.append((state[0][:cut], state[1][:cut]))
            state[:] = [state[0][cut:], state[1][cut:]]
        ticks, ids = _sorted(parts)
        yield Batch(ticks=ticks, ids=ids, lost=lost)


def within(batches: Iterator[Batch], start: int | None, stop: int | None) -> Iterator[Batch]:
    """Tags and lost intervals in ``[start, stop)`` ticks after the first tag (None = no bound)."""
    low: int | None = None
    high: int | None = None
    for batch in batches:
        if low is None and batch.ticks.size:
            first = int(batch.ticks[0])
            low = first + start if start is not None else -(1 << 63)
            high = first + stop if stop is not None else (1 << 63) - 1
        if low is None or high is None:
            continue
        a = int(np.searchsorted(batch.ticks, min(low, (1 << 63) - 1), side="left")) if start is not None else 0
        b = batch.ticks.size
        if stop is not None:
            b = int(np.searchsorted(batch.ticks, min(high, (1 << 63) - 1), side="left"))
        lost = tuple((max(s, low), min(e, high)) for s, e in batch.lost if s <= high and e >= low)
        if b > a or lost:
            yield Batch(ticks=batch.ticks[a:b], ids=batch.ids[a:b], lost=lost)
        if b < batch.ticks.size:
            return
