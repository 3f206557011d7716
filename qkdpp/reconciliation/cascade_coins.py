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


def toss(seed: bytes, number: int, frame_bits: int, sizes: list[int], room: int) -> Coins:
    """The coins of batch ``number`` for frames of ``sizes`` bits, in rows of ``room`` >= ``frame_bits`` places."""
    shuffles = np.zeros((len(sizes), room), dtype=np.int32)
    order = np.zeros((len(sizes), PASSES, room), dtype=np.int32)
    place = np.zeros_like(order)
    for t, n in enumerate(sizes):
        label, positions = f"cascade {number} {n}", np.arange(n, dtype=np.int32)
        shuffles[t, :n] = shuffle(seed, f"{label} pass 0", n)
        order[t, 1, :n] = shuffle(seed, f"{label} pass 1", n)
        order[t, 2, :n] = np.concatenate([positions[c::STRIDE] for c in range(STRIDE)])
        for p in range(1, PASSES):
            place[t, p, order[t, p, :n]] = positions
    width = n_words(frame_bits)
    masks = b"".join(expand(seed, f"cascade {number} mask {q}", 8 * width) for q in range(steering.MASKS))
    return Coins(shuffles, order, place, np.frombuffer(masks, dtype="<u8").astype(np.uint64).reshape(-1, width))
