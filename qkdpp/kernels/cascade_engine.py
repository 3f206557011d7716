"""The C tier of Cascade: one party's side of a batch of frames, ``csrc/cascade*``.

Assumes orders that are permutations and masks of the sizes named below; both
are public. Guarantees the same parities as :mod:`qkdpp.kernels.cascade_frames`
under the rules of ``docs/notes/cascade.md``. The memory of the state (two lists
of 32 bytes per 64 bits each, a third where frames need it) is the caller's for
as long as the engine lives.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Bits, Words, n_words
from qkdpp.core.errors import KernelError

_SLICED_FROM: Final = 32
"""Frames from which on 64 are permuted at once, which takes a scratch of 64 words for each word of a frame."""


class CascadeEngine:
    """Frames of ``frame_bits`` of a key from bit ``start`` on, the last one of ``last_bits``.

    Args:
        key: packed bits.
        start: where the first frame begins.
        shape: frames, bits of all but the last, bits of the last.
        orders: int32[T, 3, frame_bits]: of each position, its index in list 1 and its bit of the frame, in pairs; then
            index in list 1 to position. For full frames and, if the last of several is shorter, for that one.
        masks: uint64[M, ceil(frame_bits / 64)], at most 16.
        corrects: whether errors found are inverted in this party's key.
        rules: values of the fields of ``qk_cascade`` that hold rules.
    """

    def __init__(
        self,
        key: Words,
        start: int,
        shape: tuple[int, int, int],
        orders: NDArray[np.int32],
        masks: Words,
        *,
        corrects: bool,
        rules: Mapping[str, float],
    ) -> None:
        module = importlib.import_module("qkdpp.kernels._ck")
        self._lib, self._ffi = module.lib, module.ffi
        state = self._state = self._ffi.new("qk_cascade *")
        frames, bits, last = shape
        state.n_frames, state.frame_bits, state.last_bits = shape
        state.width, state.n_masks, state.corrects = n_words(bits), len(masks), corrects
        for name, value in rules.items():
            setattr(state, name, value)
        total = (frames - 1) * bits + last
        self._found = self._allocate(n_words((start & 63) + total))
        self._found[:] = 0
        self._start, state.found_first = start, start & 63
        self._kept: dict[str, NDArray[Any]] = {}
        self._keep("orders", np.ascontiguousarray(orders), "int32_t[]")
        self._keep("masks", np.ascontiguousarray(masks), "uint64_t[]")
        self._keep("mask_of", _mask_of(masks, bits), "uint16_t[]")
        self._keep("rows", self._allocate(self._lib.qk_cascade_row_words(state)), "uint64_t[]")
        self._keep("frames", self._allocate(self._lib.qk_cascade_frame_bytes(state) // 8), "uint64_t[]")
        self._keep("found", self._found, "uint64_t[]")
        self._grow(int(total * min(1.0, 0.7 * float(rules["hint"]))) + 64 * frames)
        scratch = self._allocate(64 * n_words(bits) if frames >= _SLICED_FROM else 0)
        self._check(
            self._lib.qk_cascade_load(
                state, self._pointer(key, "uint64_t[]"), start, self._pointer(scratch, "uint64_t[]")
            )
        )

    def ask(self) -> tuple[Words, int] | None:
        """The parities of the next round, packed, and their number; None when all frames have ended.

        The array is overwritten by the next call.
        """
        state = self._state
        while self._lib.qk_cascade_ask(state) == self._lib.QK_CASCADE_MORE:
            self._grow(2 * int(state.room_entries) + int(state.frame_bits))
        if not state.n_left:
            return None
        return self._kept["out"][: n_words(state.n_out)], int(state.n_out)

    def tell(self, answers: Words) -> None:
        """Takes as many answers as parities were asked for: ones where the keys differ."""
        if answers.size < n_words(self._state.n_out):
            raise KernelError("fewer answers than parities")
        self._keep("answers", answers, "uint64_t[]")

    def suspects(self) -> NDArray[np.intp]:
        """Frames that are not clean."""
        out = np.zeros(self._state.n_frames, dtype=np.uint8)
        self._check(self._lib.qk_cascade_suspects(self._state, self._pointer(out, "uint8_t[]")))
        return np.flatnonzero(out)

    def add_pattern(self, pattern: Words) -> None:
        """Sets the bits of ``pattern``, as long as the key, where errors were found."""
        first = self._start >> 6
        pattern[first : first + self._found.size] |= self._found

    @staticmethod
    def _allocate(words: int) -> Words:
        return np.empty(words, dtype=np.uint64)

    def _pointer(self, array: NDArray[Any], kind: str) -> Any:  # noqa: ANN401 - what cffi builds has no types
        return self._ffi.from_buffer(kind, array)

    def _keep(self, name: str, array: NDArray[Any], kind: str) -> None:
        self._kept[name] = array
        setattr(self._state, name, self._pointer(array, kind))

    def _grow(self, entries: int) -> None:
        """Room for so many entries and eight times as many parities, contents kept."""
        words = entries * self._lib.qk_cascade_entry_bytes() // 8 + 1
        for turn in range(2):
            self._state.entries[turn] = self._longer(f"entries {turn}", words)
        self._state.out = self._longer("out", entries // 8 + 64 + int(self._state.frame_bits) // 4)
        self._state.room_entries, self._state.out_words = entries, self._kept["out"].size

    def _longer(self, name: str, words: int) -> Any:  # noqa: ANN401
        array = self._allocate(words)
        if name in self._kept:
            array[: self._kept[name].size] = self._kept[name]
        self._kept[name] = array
        return self._pointer(array, "uint64_t[]")

    @staticmethod
    def _check(status: int) -> None:
        if status:
            raise KernelError(f"the Cascade kernel refused its arguments (status {status})")


def _mask_of(masks: Words, bits: int) -> NDArray[np.uint16]:
    """For every position the masks that hold it, as bits."""
    out = np.zeros(bits, dtype=np.uint16)
    for q, mask in enumerate(masks):
        out |= Bits(mask, 64 * mask.size).to_array()[:bits].astype(np.uint16) << np.uint16(q)
    return out
