"""The compiled Cascade engine stays inside the memory it was given, on every instruction set, and corrects keys."""

from typing import Any

import numpy as np
import pytest

from qkdpp.core.bits import Bits
from qkdpp.core.errors import KernelError
from qkdpp.kernels import available, compiled, use_backend
from qkdpp.reconciliation.cascade_coins import toss
from qkdpp.reconciliation.cascade_compiled import CompiledBatch, new_batch

if "c" not in available():
    pytest.skip("the compiled kernels are not built here", allow_module_level=True)

from qkdpp.kernels import cascade_engine

CANARY, MARGIN = np.uint64(0xA5A5A5A5A5A5A5A5), 8
SHAPES = [
    (1, 1),
    (2, 7),
    (3, 3),
    (63, 63),
    (64, 64),
    (65, 130),
    (100, 950),
    (1000, 40_321),
    (4096, 135_168),
    (33, 36_000),
]
"""Bits of a frame and of the key: one frame, several, a short last one, whole groups of 64 frames, over 1,024."""


@pytest.fixture(params=compiled.isas())
def guarded(request: pytest.FixtureRequest, keep_tier: None, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every array of the engine, with margins full of canaries."""
    use_backend("c")
    compiled.use_isa(request.param)
    arrays: list[Any] = []

    def allocate(words: int) -> Any:
        memory = np.full(words + 2 * MARGIN, CANARY)
        arrays.append(memory)
        return memory[MARGIN : MARGIN + words]

    monkeypatch.setattr(cascade_engine.CascadeEngine, "_allocate", staticmethod(allocate))
    return arrays


def shifted(bits: Bits, offset: int) -> Bits:
    """The same bits, ``offset`` bytes past a multiple of 8."""
    memory = bytes(offset) + bits.words.tobytes()
    return Bits(np.frombuffer(memory, dtype="<u8", offset=offset), len(bits))


def pair(
    frame_bits: int, n: int, qber: float, hint: float, at: int = 0, offset: int = 0
) -> tuple[CompiledBatch, CompiledBatch, Any]:
    """Both sides' batches of bits ``at`` to ``at + n`` of a key, and the errors."""
    rng = np.random.default_rng(n)
    key = rng.integers(0, 2, at + n, dtype=np.uint8)
    errors = (rng.random(at + n) < qber).astype(np.uint8)
    sides = [
        new_batch(
            shifted(Bits.from_array(bits), offset),
            at,
            at + n,
            frame_bits=frame_bits,
            seed=bytes(32),
            number=0,
            hint=hint,
            corrects=corrects,
        )
        for bits, corrects in ((key, False), (key ^ errors, True))
    ]
    return sides[0], sides[1], errors


@pytest.mark.parametrize(("frame_bits", "n"), SHAPES)
@pytest.mark.parametrize(("qber", "hint"), [(0.0, 0.01), (0.03, 0.03), (0.11, 0.01), (0.5, 0.05)])
def test_nothing_is_touched_outside(guarded: list[Any], frame_bits: int, n: int, qber: float, hint: float) -> None:
    alice, bob, errors = pair(frame_bits, n, qber, hint)
    while (asked := alice.ask()) is not None:
        own = bob.ask()
        assert own is not None
        flags = asked ^ own
        alice.tell(flags)
        bob.tell(flags)
    assert bob.ask() is None
    found = Bits.zeros(n)
    bob.add_pattern(found.words, 0, frame_bits)
    wrong = np.flatnonzero(found.to_array() != errors) // frame_bits
    assert alice.suspects() == bob.suspects()
    assert len(set(wrong.tolist()) - set(bob.suspects())) <= 8  # up to 1,100 frames that pass ten masks, 1e-3 each
    for memory in guarded:
        assert (memory[:MARGIN] == CANARY).all()
        assert (memory[-MARGIN:] == CANARY).all()


def test_answers_of_a_liar_stay_inside(guarded: list[Any]) -> None:
    rng = np.random.default_rng(5)
    for share in (0.02, 0.5, 1.0):
        alice, *_ = pair(700, 5000, 0.03, 0.03)
        while (asked := alice.ask()) is not None:
            alice.tell(Bits.from_array(rng.random(len(asked)) < share))
    for memory in guarded:
        assert (memory[:MARGIN] == CANARY).all()
        assert (memory[-MARGIN:] == CANARY).all()


@pytest.mark.parametrize("offset", [1, 3, 5])
def test_keys_and_answers_may_lie_anywhere(guarded: list[Any], offset: int) -> None:
    for frame_bits, n in SHAPES[4:]:
        there, here = (pair(frame_bits, n, 0.03, 0.03, offset=bytes_off)[:2] for bytes_off in (offset, 0))
        while (asked := [side.ask() for side in (*there, *here)])[0] is not None:
            alice, bob, *others = [parities or Bits.zeros(0) for parities in asked]
            assert alice.equals(others[0])
            assert bob.equals(others[1])
            for sides, by in ((there, offset), (here, 0)):
                for side in sides:
                    side.tell(shifted(alice ^ bob, by))
        assert asked == [None] * 4
        assert there[0].suspects() == here[0].suspects()


def test_a_batch_that_begins_inside_a_word(guarded: list[Any]) -> None:
    """Errors are found where they are, and none before the batch."""
    alice, bob, errors = pair(100, 5000, 0.05, 0.05, at=37)
    while (asked := alice.ask()) is not None:
        flags = asked ^ bob.ask()  # type: ignore[operator]
        alice.tell(flags)
        bob.tell(flags)
    found = Bits.zeros(5037)
    alice.add_pattern(found.words, 37, 100)
    frames = {int(i - 37) // 100 for i in np.flatnonzero(found.to_array()[37:] != errors[37:]) + 37}
    assert len(frames - set(alice.suspects())) <= 1
    assert not found.to_array()[:37].any()


def test_short_answers_are_refused(guarded: list[Any]) -> None:
    alice, *_ = pair(1000, 3000, 0.03, 0.03)
    assert alice.ask() is not None
    with pytest.raises(KernelError, match="fewer answers"):
        alice.tell(Bits.zeros(0))


def test_too_many_masks_are_refused(guarded: list[Any]) -> None:
    coins = toss(bytes(32), 0, 100, [100], 100)
    engine = cascade_engine.CascadeEngine
    with pytest.raises(KernelError, match="refused"):
        engine(
            Bits.zeros(100).words,
            0,
            (1, 100, 100),
            np.zeros((1, 3, 100), dtype=np.int32),
            np.repeat(coins.masks, 2, axis=0),
            corrects=False,
            rules={"hint": 0.01},
        )
