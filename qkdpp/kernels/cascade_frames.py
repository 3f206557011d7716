# ruff: noqa: PLR0917 - compiled functions take their arguments by position
"""Cascade's public state machine, one frame at a time: which parities come next, and what their answers mean.

The tiers without C; the C tier (``csrc/cascade*``) sends the same bits.
Everything here is a function of public coins and of answered parities of the
error pattern, so both parties run it and stay in step. ``docs/notes/cascade.md``
states the rules in words. A frame has ``PASSES`` lists of all its positions
(list 0 is the order of positions itself); each list is cut into *nodes*,
intervals whose residual parity (errors not yet found, modulo 2) is known. An
*odd* node holds at least one error; halving it tells where. A position whose
own parity is known is *known*; a range of known positions is never asked for.

An *entry* of a round asks, by its code: below ``PASSES``, for the parity of
list ``code`` from ``lo`` to ``mid``, or nothing if ``mid == lo`` (the block that
begins there follows from the others). ``PASSES + q``: for the parity of mask
``q`` over the positions from ``lo`` to ``mid``, or nothing if ``mid == lo``.
``ADDRESS + p``: for each bit set in ``ask``, for the parity of those places
``lo + i < hi`` of list ``p`` whose number ``i`` has that bit set; the other bits
of the error's address follow and are in ``address``.

Inconsistent answers (a lying peer) give wrong results but no access outside
the arrays and no endless loop.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Words
from qkdpp.kernels.parity import (
    any_left,
    compiled,
    flip_bit,
    get_bit,
    last_one,
    masked_parity,
    next_one,
    range_parity,
    set_bit,
)

PASSES: Final = 3
"""Lists of positions."""
ADDRESS: Final = 128
LENGTH, TABLE, OPENED, CURRENT, ASKED, MASK_ODD, SEARCH, LOW, HIGH, N_ODD = range(10)
LAST: Final = N_ODD + PASSES
COLUMNS: Final = LAST + PASSES
"""Columns of ``Frames.state``: bits of the frame; table of orders; passes opened; which of the first two lists is being
searched; whether masks were asked for; bit ``q`` set: mask ``q`` is odd; mask being searched or -1, and the interval in
which it is known to hold an error; from ``N_ODD`` odd nodes of each list; from ``LAST`` where the last block of each
list begins (its parity follows from the others')."""
IDLE, SEARCH_ODD, OPEN, HALVE = range(4)
"""What a frame does in a round: nothing; search odd nodes; the same and open the next pass; halve blocks."""
SWITCH: Final = 8
"""The other list is searched when it has more than so many times the odd nodes of this one."""
KEY, CUT, ODD, KNOWN, WRONG, ROWS = 0, PASSES, 2 * PASSES, 3 * PASSES, 3 * PASSES + 1, 3 * PASSES + 2
"""Rows of a frame in ``Frames.words``: the party's key in the order of each list; ones where nodes of each list begin;
ones where odd nodes begin; positions whose error bit is known; errors found."""


class Frames(NamedTuple):
    """State of the F frames of a batch; all arrays but ``state`` are one-dimensional, rows one after the other.

    Attributes:
        words: [F, ROWS, W] rows of bits; those of ``KEY`` are secret, the others public and equal on both sides.
        state: int64[F, COLUMNS].
        order: int32[T, PASSES, 64 W] index in a list to position, for each table T (not used for list 0).
        place: int32[T, PASSES, 64 W] position to index in a list (not used for list 0).
        masks: [M, W] random masks.
        width: W, words of a row.
    """

    words: Words
    state: NDArray[np.int64]
    order: NDArray[np.int32]
    place: NDArray[np.int32]
    masks: Words
    width: int


class Entries(NamedTuple):
    """Entries of a round, frame after frame."""

    first: NDArray[np.int64]
    """[F + 1] where the entries of each frame begin."""
    code: NDArray[np.uint8]
    lo: NDArray[np.int32]
    mid: NDArray[np.int32]
    hi: NDArray[np.int32]
    ask: NDArray[np.int32]
    address: NDArray[np.int32]


@compiled
def _put(entries: Entries, at: int, code: int, lo: int, mid: int, hi: int) -> int:
    entries.code[at] = code
    entries.lo[at] = lo
    entries.mid[at] = mid
    entries.hi[at] = hi
    return at + 1


@compiled
def _half(n: int) -> int:
    """The largest power of two below ``n`` (n > 1)."""
    half = 1
    while 2 * half < n:
        half *= 2
    return half


@compiled
def _row(s: Frames, f: int, row: int) -> int:
    """Where a row of a frame begins, in bits."""
    return (f * ROWS + row) * s.width * 64


@compiled
def _unknown(s: Frames, f: int, p: int, lo: int, hi: int) -> bool:
    """Whether list ``p`` holds a position from ``lo`` to ``hi`` that is not known."""
    known = _row(s, f, KNOWN)
    order = (s.state[f, TABLE] * PASSES + p) * s.width * 64
    for i in range(lo, hi):  # noqa: SIM110 - compiled
        if get_bit(s.words, known + (int(s.order[order + i]) if p else i)) == 0:
            return True
    return False


@compiled
def _ask_address(s: Frames, f: int, p: int, lo: int, hi: int, entries: Entries, at: int) -> int:
    """Asks for those bits of the address of a node's error that do not follow from known positions; the new ``at``."""
    known = _row(s, f, KNOWN)
    order = (s.state[f, TABLE] * PASSES + p) * s.width * 64
    ones, zeros = 0, 0
    for i in range(hi - lo):
        if get_bit(s.words, known + (int(s.order[order + lo + i]) if p else lo + i)) == 0:
            ones |= i
            zeros |= ~i
    every = 2 * _half(hi - lo) - 1 if hi - lo > 1 else 0
    entries.ask[at] = ones & zeros & every
    entries.address[at] = ones & ~zeros
    return _put(entries, at, ADDRESS + p, lo, lo, hi)


@compiled
def _search_node(s: Frames, f: int, p: int, lo: int, hi: int, limit: int, entries: Entries, at: int) -> int:
    """Narrows an odd node while one half is known; then asks for a half or, up to ``limit``, for the address."""
    cut, odd = _row(s, f, CUT + p), _row(s, f, ODD + p)
    while hi - lo > limit:
        mid = lo + _half(hi - lo)
        left = _unknown(s, f, p, lo, mid)
        if left and _unknown(s, f, p, mid, hi):
            return _put(entries, at, p, lo, mid, hi)
        set_bit(s.words, cut + mid)
        if left:
            hi = mid
        else:
            flip_bit(s.words, odd + lo)
            set_bit(s.words, odd + mid)
            lo = mid
    return _ask_address(s, f, p, lo, hi, entries, at)


@compiled
def _search_list(s: Frames, f: int, p: int, limit: int, entries: Entries, at: int) -> int:
    cut, odd, n = _row(s, f, CUT + p), _row(s, f, ODD + p), s.state[f, LENGTH]
    lo = next_one(s.words, odd, odd + n) - odd
    while lo < n:
        hi = next_one(s.words, cut + lo + 1, cut + n) - cut
        at = _search_node(s, f, p, lo, hi, limit, entries, at)
        lo = next_one(s.words, odd + hi, odd + n) - odd
    return at


@compiled
def _search_mask(s: Frames, f: int, entries: Entries, at: int) -> int:
    """The next two steps towards one error inside an odd mask: a half and, in both halves, a half."""
    state, known = s.state[f], _row(s, f, KNOWN)
    if state[SEARCH] < 0:
        q = 0
        while (state[MASK_ODD] >> q) & 1 == 0:
            q += 1
        state[SEARCH], state[LOW], state[HIGH] = q, 0, state[LENGTH]
    code, mask = PASSES + state[SEARCH], state[SEARCH] * s.width * 64
    while state[HIGH] - state[LOW] > 1:
        lo, hi = state[LOW], state[HIGH]
        mid = lo + _half(hi - lo)
        if not any_left(s.masks, mask, s.words, known, lo, mid):
            state[LOW] = mid
        elif not any_left(s.masks, mask, s.words, known, mid, hi):
            state[HIGH] = mid
        else:
            at = _put(entries, at, code, lo, mid, mid)
            if mid - lo > 1:
                quarter = lo + _half(mid - lo)
                at = _put(entries, at, code, lo, quarter, quarter)
            if hi - mid > 1:
                quarter = mid + _half(hi - mid)
                at = _put(entries, at, code, mid, quarter, quarter)
            return at
    return _put(entries, at, code, state[LOW], state[LOW], state[LOW])


@compiled
def _open_pass(s: Frames, f: int, long: int, block: int, entries: Entries, at: int) -> int:
    """Cuts the next list into ``long`` blocks of ``2 * block``, then blocks of ``block``.

    Asks for all parities that do not follow from others. The last pass brings the masks along.
    """
    state = s.state[f]
    n, p = state[LENGTH], state[OPENED]
    state[OPENED] = p + 1
    if p < PASSES - 1:
        state[CURRENT] = p
    lo, count = 0, 0
    while lo < n:
        hi = min(n, lo + (2 * block if count < long else block))
        set_bit(s.words, _row(s, f, CUT + p) + lo)
        if p > 0 and hi == n:
            state[LAST + p] = lo
            if state[N_ODD] & 1:
                set_bit(s.words, _row(s, f, ODD + p) + lo)
                state[N_ODD + p] = 1
            at = _put(entries, at, p, lo, lo, hi)
        elif p == 0 or _unknown(s, f, p, lo, hi):
            at = _put(entries, at, p, lo, hi, hi)
        count += 1
        lo = hi
    if p == PASSES - 1:
        for q in range(s.masks.size // s.width):
            if any_left(s.masks, q * s.width * 64, s.words, _row(s, f, KNOWN), 0, n):
                at = _put(entries, at, PASSES + q, 0, n, n)
    return at


@compiled
def _halve_blocks(s: Frames, f: int, count: int, block: int, entries: Entries, at: int) -> int:
    """Halves the first ``count`` blocks (of length ``block``) of the first pass."""
    half, n = block // 2, s.state[f, LENGTH]
    for lo in range(0, min(count * block, n - half), block):
        at = _put(entries, at, 0, lo, lo + half, min(n, lo + block))
    return at


@compiled
def _plan(s: Frames, f: int, wish: NDArray[np.int64], limits: NDArray[np.int64], entries: Entries, at: int) -> int:
    state = s.state[f]
    if wish[0] == HALVE:
        return _halve_blocks(s, f, wish[1], wish[2], entries, at)
    current = state[CURRENT]
    if state[OPENED] > 1 and SWITCH * state[N_ODD + current] < state[N_ODD + 1 - current]:
        current = state[CURRENT] = 1 - current
    searched = False
    for p in (current, PASSES - 1):
        if state[N_ODD + p] > 0:
            at = _search_list(s, f, p, limits[p], entries, at)
            searched = True
    if not searched and wish[0] == SEARCH_ODD:
        at = _search_mask(s, f, entries, at)
    if wish[0] == OPEN:
        at = _open_pass(s, f, wish[1], wish[2], entries, at)
    return at


@compiled
def plan(s: Frames, wishes: NDArray[np.int64], limits: NDArray[np.int64], entries: Entries) -> None:
    """Fills ``entries`` with the next round of every frame.

    Args:
        s: the batch; nodes that can be narrowed without asking are.
        wishes: int64[F, 3]: ``IDLE``, ``SEARCH_ODD``, ``OPEN`` or ``HALVE``; then for ``OPEN`` the number of blocks of
            double length and the block length, for ``HALVE`` the number of blocks and their length.
        limits: int64[F, PASSES], at least 2: up to which length the address of an error is asked for in each list.
        entries: room for the blocks wished for, all masks, one entry per odd node and three, in each frame.
    """
    at = 0
    for f in range(len(s.state)):
        entries.first[f] = at
        if wishes[f, 0] != IDLE:
            at = _plan(s, f, wishes[f], limits[f], entries, at)
    entries.first[len(s.state)] = at


@compiled
def _put_address(s: Frames, f: int, entries: Entries, e: int, out: Words, count: int) -> int:
    """The bits asked for of the sum of the addresses of a node's ones; the new count."""
    lo = int(entries.lo[e])
    key = _row(s, f, KEY + int(entries.code[e]) - ADDRESS) + lo
    end = key + int(entries.hi[e]) - lo
    total, ask = 0, int(entries.ask[e])
    i = next_one(s.words, key, end)
    while i < end:
        total ^= i - key
        i = next_one(s.words, i + 1, end)
    for b in range(10):
        if (ask >> b) & 1:
            if (total >> b) & 1:
                set_bit(out, count)
            count += 1
    return count


@compiled
def parities(s: Frames, entries: Entries, out: Words) -> int:
    """Parities of the key for the entries that ask for one, in order, packed into ``out`` (zeroed); their number."""
    count = 0
    for f in range(len(s.state)):
        for e in range(entries.first[f], entries.first[f + 1]):
            code, lo, mid = int(entries.code[e]), int(entries.lo[e]), int(entries.mid[e])
            if code >= ADDRESS:
                count = _put_address(s, f, entries, e, out, count)
                continue
            if mid == lo:
                continue
            if code < PASSES:
                key = _row(s, f, KEY + code)
                bit = range_parity(s.words, key + lo, key + mid)
            else:
                bit = masked_parity(s.words, _row(s, f, KEY), s.masks, (code - PASSES) * s.width * 64, lo, mid)
            if bit:
                set_bit(out, count)
            count += 1
    return count


@compiled
def _set_odd(s: Frames, f: int, p: int, i: int, value: int) -> None:
    at = _row(s, f, ODD + p) + i
    if get_bit(s.words, at) != value:
        flip_bit(s.words, at)
        s.state[f, N_ODD + p] += 1 if value else -1


@compiled
def _learn_parity(s: Frames, f: int, p: int, lo: int, mid: int, parity: int) -> None:
    """List ``p`` has this residual parity from ``lo``, where a node begins, to ``mid``."""
    cut, odd = _row(s, f, CUT + p), _row(s, f, ODD + p)
    before = get_bit(s.words, odd + lo)
    _set_odd(s, f, p, lo, parity)
    if mid < s.state[f, LENGTH] and get_bit(s.words, cut + mid) == 0:
        set_bit(s.words, cut + mid)
        _set_odd(s, f, p, mid, before ^ parity)
    elif p > 0 and parity:
        last = s.state[f, LAST + p]
        _set_odd(s, f, p, last, 1 - get_bit(s.words, odd + last))


@compiled
def _learn_mask(s: Frames, f: int, q: int, lo: int, mid: int, parity: int) -> None:
    state = s.state[f]
    if state[ASKED] == 0:
        state[MASK_ODD] |= parity << q
    elif lo == state[LOW] and mid < state[HIGH]:  # else an even quarter
        if parity:
            state[HIGH] = mid
        else:
            state[LOW] = mid


@compiled
def _learn_address(s: Frames, f: int, entries: Entries, e: int, answers: Words, count: int) -> int:
    """Completes the address and cuts the node in the middle, for which its highest bit tells the parities."""
    p, lo, hi = int(entries.code[e]) - ADDRESS, int(entries.lo[e]), int(entries.hi[e])
    address, ask = int(entries.address[e]), int(entries.ask[e])
    for b in range(10):
        if (ask >> b) & 1:
            address |= get_bit(answers, count) << b
            count += 1
    entries.address[e] = address
    if hi - lo > 1:
        half = _half(hi - lo)
        set_bit(s.words, _row(s, f, CUT + p) + lo + half)
        if address & half:
            _set_odd(s, f, p, lo, 0)
            _set_odd(s, f, p, lo + half, 1)
            entries.mid[e] = lo + half
    return count


@compiled
def _position(s: Frames, f: int, p: int, i: int) -> int:
    return int(s.order[(s.state[f, TABLE] * PASSES + p) * s.width * 64 + i]) if p else i


@compiled
def _found(s: Frames, f: int, position: int, correct: bool) -> None:
    """An error at ``position``: every interval that holds it changes its residual parity."""
    flip_bit(s.words, _row(s, f, WRONG) + position)
    for p in range(PASSES):
        i = int(s.place[(s.state[f, TABLE] * PASSES + p) * s.width * 64 + position]) if p else position
        if correct:
            flip_bit(s.words, _row(s, f, KEY + p) + i)
        if p < s.state[f, OPENED]:
            cut = _row(s, f, CUT + p)
            lo = last_one(s.words, cut + i) - cut
            _set_odd(s, f, p, lo, 1 - get_bit(s.words, _row(s, f, ODD + p) + lo))
    if s.state[f, ASKED]:
        _found_in_masks(s, f, position)


@compiled
def _found_in_masks(s: Frames, f: int, position: int) -> None:
    state = s.state[f]
    for q in range(s.masks.size // s.width):
        if get_bit(s.masks, q * s.width * 64 + position):
            state[MASK_ODD] ^= 1 << q
            if q == state[SEARCH] and state[LOW] <= position < state[HIGH]:
                state[SEARCH] = -1


@compiled
def _settle(s: Frames, f: int, p: int, lo: int, correct: bool) -> None:
    """If the node at ``lo`` is a single position, its error bit is known now."""
    n, cut = s.state[f, LENGTH], _row(s, f, CUT + p)
    if lo < n and (lo + 1 == n or get_bit(s.words, cut + lo + 1)):
        position = _position(s, f, p, lo)
        set_bit(s.words, _row(s, f, KNOWN) + position)
        if get_bit(s.words, _row(s, f, ODD + p) + lo):
            _found(s, f, position, correct)


@compiled
def _settle_address(s: Frames, f: int, entries: Entries, e: int, correct: bool) -> None:
    """If the node holds one error only, it is at the address; a wrong one is one error more."""
    p, lo, hi, known = int(entries.code[e]) - ADDRESS, int(entries.lo[e]), int(entries.hi[e]), _row(s, f, KNOWN)
    if hi - lo > 1:
        _settle(s, f, p, lo, correct)
        _settle(s, f, p, lo + _half(hi - lo), correct)
    i = lo + int(entries.address[e])
    if i >= hi or get_bit(s.words, known + _position(s, f, p, i)):
        return
    if get_bit(s.words, _row(s, f, ODD + p) + int(entries.mid[e])):
        _found(s, f, _position(s, f, p, i), correct)


@compiled
def absorb(s: Frames, entries: Entries, answers: Words, correct: bool) -> None:
    """Updates the state by the answers to :func:`plan`'s entries.

    ``answers`` holds, packed and in order, the parity of all errors not yet found for everything that was asked for.
    If ``correct``, errors are also inverted in the key.
    """
    count = 0
    for f in range(len(s.state)):
        first, end = entries.first[f], entries.first[f + 1]
        for e in range(first, end):
            code, lo, mid = int(entries.code[e]), int(entries.lo[e]), int(entries.mid[e])
            if code >= ADDRESS:
                count = _learn_address(s, f, entries, e, answers, count)
            elif mid > lo:
                parity = get_bit(answers, count)
                count += 1
                if code < PASSES:
                    _learn_parity(s, f, code, lo, mid, parity)
                else:
                    _learn_mask(s, f, code - PASSES, lo, mid, parity)
        if s.state[f, OPENED] == PASSES:
            s.state[f, ASKED] = 1
        for e in range(first, end):
            code = int(entries.code[e])
            if code >= ADDRESS:
                _settle_address(s, f, entries, e, correct)
            elif code < PASSES:
                _settle(s, f, code, int(entries.lo[e]), correct)
                _settle(s, f, code, int(entries.mid[e]), correct)
        if s.state[f, SEARCH] >= 0 and s.state[f, HIGH] - s.state[f, LOW] == 1:
            set_bit(s.words, _row(s, f, KNOWN) + s.state[f, LOW])
            _found(s, f, s.state[f, LOW], correct)
            s.state[f, SEARCH] = -1
