"""What the seed of a batch of Cascade decides: orders of positions and masks, the same on both sides."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Words, n_words
from qkdpp.core.entropy import expand
from qkdpp.reconciliation import cascade_steering as steering
from qkdpp.reconciliation.shuffle import shuffle

PASSES: Final = 3
STRIDE: Final = 64
"""The third list holds position 0 and every 64th from there on, then the same from position 1 on, and so forth."""


class Coins(NamedTuple):
    """Orders for frames of each length that occurs (the full one, if any, first), and masks.

    Attributes:
        shuffles: int32[T, N]: position in a frame to bit of the frame.
        order: int32[T, PASSES, N]: index in a list to position (zero for list 0).
        place: int32[T, PASSES, N]: position to index in a list (zero for list 0).
        masks: uint64[MASKS, W].
    """

    shuffles: NDArray[np.int32]
    order: NDArray[np.int32]
    place: NDArray[np.int32]
    masks: Words


def drawn(seed: bytes, number: int, n: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For frames of ``n`` bits of batch ``number``: position to bit, and index in the second list to position."""
    return shuffle(seed, f"cascade {number} {n} pass 0", n), shuffle(seed, f"cascade {number} {n} pass 1", n)


def masks(seed: bytes, number: int, frame_bits: int) -> Words:
    """The masks of batch ``number``, uint64[MASKS, W]."""
    width = n_words(frame_bits)
    stream = b"".join(expand(seed, f"cascade {number} mask {q}", 8 * width) for q in range(steering.MASKS))
    return np.frombuffer(stream, dtype="<u8").astype(np.uint64).reshape(-1, width)


def toss(seed: bytes, number: int, frame_bits: int, sizes: list[int], room: int) -> Coins:
    """The coins of batch ``number`` for frames of ``sizes`` bits, in rows of ``room`` >= ``frame_bits`` places."""
    shuffles = np.zeros((len(sizes), room), dtype=np.int32)
    order = np.zeros((len(sizes), PASSES, room), dtype=np.int32)
    place = np.zeros_like(order)
    for t, n in enumerate(sizes):
        positions = np.arange(n, dtype=np.int32)
        shuffles[t, :n], order[t, 1, :n] = drawn(seed, number, n)
        order[t, 2, :n] = np.concatenate([positions[c::STRIDE] for c in range(STRIDE)])
        for p in range(1, PASSES):
            place[t, p, order[t, p, :n]] = positions
    return Coins(shuffles, order, place, masks(seed, number, frame_bits))
