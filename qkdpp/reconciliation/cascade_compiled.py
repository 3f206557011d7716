"""One party's half of a batch of Cascade on the C tier; the same rounds as :mod:`cascade_batch`."""

from __future__ import annotations

import numpy as np

from qkdpp.core.bits import Bits, Words
from qkdpp.kernels.cascade_engine import CascadeEngine
from qkdpp.reconciliation import cascade_steering as steering
from qkdpp.reconciliation.cascade_coins import drawn, masks


def rules(hint: float) -> dict[str, float]:
    """The numbers of :mod:`cascade_steering` by the names of the engine."""
    return {
        "hint": hint,
        "max_rounds": steering.MAX_ROUNDS,
        "errors_1": steering.ERRORS_PER_BLOCK_1,
        "errors_2": steering.ERRORS_PER_BLOCK_2,
        "trusted_all": float(steering.TRUSTED_BLOCKS),
        "trusted_one": float(steering.TRUSTED_FRAME),
        "sigmas_all": steering.HINT_SIGMAS,
        "sigmas_one": steering.FRAME_SIGMAS,
        "short_1": steering.SHORT_1,
        "short_2": steering.SHORT_2,
        "short_all": steering.SHORT_ALL,
        "max_short": float(steering.MAX_SHORT),
        "max_short_busy": float(steering.MAX_SHORT_BUSY),
        "busy": steering.BUSY,
        "blocks_3": steering.BLOCKS_3,
        "late_from": steering.LATE_FROM,
    }


class CompiledBatch:
    """Up to some 1,000 frames of a key, all in the same round."""

    def __init__(self, engine: CascadeEngine) -> None:
        self._engine = engine

    def ask(self) -> Bits | None:
        """The parities of this party's key that come next; None when the batch has ended. Valid until the next call."""
        while (asked := self._engine.ask()) is not None:
            if asked[1]:
                return Bits(*asked)
            self._engine.tell(asked[0])
        return None

    def tell(self, answers: Bits) -> None:
        """Takes the answers to the last ``ask``: one bit per parity, one where the keys differ."""
        self._engine.tell(answers.words)

    def suspects(self) -> list[int]:
        """Frames that were not clean in the end."""
        return [int(f) for f in self._engine.suspects()]

    def add_pattern(self, pattern: Words, start: int, frame_bits: int) -> None:
        """Sets the bits of ``pattern`` where errors were found; the engine knows ``start`` and ``frame_bits``."""
        del start, frame_bits
        self._engine.add_pattern(pattern)


def new_batch(
    key: Bits, start: int, stop: int, *, frame_bits: int, seed: bytes, number: int, hint: float, corrects: bool
) -> CompiledBatch:
    """The batch of ``key`` from bit ``start`` to ``stop``, in frames of ``frame_bits`` and a shorter last one.

    ``number`` tells the batches of one seed apart.
    """
    count = -(-(stop - start) // frame_bits)
    last = (stop - start) - (count - 1) * frame_bits
    sizes = [last] if count == 1 else [frame_bits] + [last] * (last != frame_bits)
    orders = np.zeros((len(sizes), 3, frame_bits), dtype=np.int32)
    for table, n in zip(orders, sizes, strict=True):
        of_position = table[:2].reshape(frame_bits, 2)
        of_position[:n, 1], table[2, :n] = drawn(seed, number, n)
        of_position[table[2, :n], 0] = np.arange(n, dtype=np.int32)
    engine = CascadeEngine(
        key.words,
        start,
        (count, frame_bits, last),
        orders,
        masks(seed, number, frame_bits),
        corrects=corrects,
        rules=rules(hint),
    )
    return CompiledBatch(engine)
