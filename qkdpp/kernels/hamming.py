"""A round of the Hamming procedure: block sums, syndromes and corrections of a batch of frames.

A frame of n bits has W = ``ceil(n / 64)`` words: bit ``l W + w`` is bit l of word w,
so that neighbours in the key are in different words. For a round its words are
put into a public order and each is turned by some bits: *place* p holds one of
them. With blocks of ``2**width`` bits there are ``G = ceil(W / 2**width)`` *groups*:
place p is row ``p // G`` of group ``p % G``, and bits c of all words of group g are block
``64 g + c``. So one operation on words works on 64 blocks. A block has a sum (the
parity of its bits) and a syndrome (the exclusive-or of the rows of its ones):
together the checks of an extended Hamming code.

Computed by C (``csrc/hamming*``), or by :mod:`qkdpp.kernels.hamming_blocks`.
Orders, flags and layouts are public.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import Bits, Words, n_words, window
from qkdpp.core.errors import KernelError
from qkdpp.kernels.backend import backend
from qkdpp.kernels.bits import transpose_bits

MAX_WIDTH: Final = 20
START, BITS, ROW, ORDER, WIDTH, SUM, SYNDROME = range(7)
"""Columns of :attr:`Layout.frames`, the fields of ``qk_hamming_frame``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """Where the frames of a round have their rows, places, sums and syndromes.

    Attributes:
        frames: int64[F, 7]: first bit in the key, bits, first word of the rows, first entry of the orders, width, first
            word of the sums, first word of the syndromes.
        n_sums: words of sums: a frame has G.
        n_syndromes: words of syndromes: a frame has ``width`` times G, bits 0 first.
    """

    frames: NDArray[np.int64]
    n_sums: int
    n_syndromes: int

    @staticmethod
    def of(
        starts: NDArray[np.int64],
        bits: NDArray[np.int64],
        rows: NDArray[np.int64],
        orders: NDArray[np.int64],
        widths: NDArray[np.int64],
    ) -> Layout:
        """The layout of frames, at least one, whose sums, and syndromes, follow one another."""
        groups = _groups(bits, widths)
        sums, syndromes = np.cumsum(groups), np.cumsum(groups * widths)
        columns = (starts, bits, rows, orders, widths, sums - groups, syndromes - groups * widths)
        return Layout(frames=np.stack(columns, axis=1), n_sums=int(sums[-1]), n_syndromes=int(syndromes[-1]))

    @property
    def widths(self) -> NDArray[np.int64]:
        """Logarithms of the block lengths: int64[F]."""
        return self.frames[:, WIDTH]

    def groups(self) -> NDArray[np.int64]:
        """Groups of the frames, 64 blocks each: int64[F]."""
        return _groups(self.frames[:, BITS], self.widths)

    def differing(self, flags: Words) -> NDArray[np.int64]:
        """Ones among the flags of every frame: int64[F]."""
        ones = np.bitwise_count(flags).astype(np.int64)
        counts: NDArray[np.int64] = np.add.reduceat(ones, self.frames[:, SUM])
        return counts


def places(coins: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Entries of an order from one word of public coins a place, the same on every host.

    The words of the frame in the order of their coins (ties by position); each is turned by the low six bits of its
    coin. An entry is ``word << 6 | turn``: bit c of the place is bit ``(c - turn) % 64`` of the word.
    """
    keyed = np.sort(coins.astype(np.uint64) << np.uint64(32) | np.arange(coins.size, dtype=np.uint64))
    word, turn = keyed & np.uint64(0xFFFFFFFF), (keyed >> np.uint64(32)) & np.uint64(63)
    return (word << np.uint64(6) | turn).astype(np.uint32)


def load_rows(key: Words, start: int, n_bits: int, frame_bits: int) -> Words:
    """Bits ``start`` to ``start + n_bits`` of a key as the words of frames of ``frame_bits`` and a shorter last one.

    Every frame has ``ceil(frame_bits / 64)`` words, zero where the key has no bits.
    """
    width = n_words(frame_bits)
    rows = np.zeros(-(-n_bits // frame_bits) * width, dtype="<u8")
    for f, first in enumerate(range(0, n_bits, frame_bits)):
        n = min(frame_bits, n_bits - first)
        frame = window(key, start + first, n_words(n))
        frame[-1] &= np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(-n & 63)
        rows[f * width :][: frame.size] = _turned(frame)
    return rows


def _turned(frame: Words) -> Words:
    """Bit ``l W + w`` of W words becomes bit l of word w."""
    if frame.size % 64 == 0:
        return transpose_bits(frame.reshape(64, -1), frame.size).ravel()
    bits = Bits(frame, 64 * frame.size).to_array().reshape(64, -1)
    return Bits.from_array(bits.T.ravel()).words


def block_checks(rows: Words, layout: Layout, orders: NDArray[np.uint32]) -> tuple[Words, Words]:
    """Sums and syndromes of all blocks, as words that hold one bit of 64 blocks each.

    Memory of up to twice the longest frame on top.
    """
    sums, syndromes = np.empty(layout.n_sums, dtype="<u8"), np.empty(layout.n_syndromes, dtype="<u8")
    scratch = np.empty(int(np.max(layout.groups() << layout.widths)), dtype=np.uint64)
    if backend() == "c":
        lib = _Module()
        lib.call(
            "checks", lib.words(sums), lib.words(syndromes), lib.words(rows), *lib.frames(layout), lib.entries(orders),
            lib.words(scratch), scratch.size,
        )  # fmt: skip
    else:
        _loops().checks(sums, syndromes, rows, layout.frames, orders, scratch)
    return sums, syndromes


def pick_syndromes(syndromes: Words, flags: Words, layout: Layout, n_bits: int) -> Words:
    """The syndromes of flagged blocks, ``n_bits`` in all: frame after frame, of each first bits 0, then bits 1, ...."""
    out = np.zeros(n_words(n_bits), dtype="<u8")
    if backend() == "c":
        lib = _Module()
        lib.call("pick", lib.words(out), out.size, lib.words(syndromes), lib.words(flags), *lib.frames(layout))
    else:
        _loops().pick(out, syndromes, flags, layout.frames)
    return out


def invert_errors(
    rows: Words,
    found: Words,
    syndromes: Words,
    flags: Words,
    theirs: Words,
    *,
    layout: Layout,
    orders: NDArray[np.uint32],
) -> None:
    """Inverts one bit in every flagged block, where both parties' syndromes say, in ``rows`` and in ``found``.

    Nothing is inverted where the frame has no such bit, to which several errors can point. ``found`` is as long as the
    key; ``theirs`` is what :func:`pick_syndromes` gave the other party. ``syndromes`` are overwritten.
    """
    if backend() == "c":
        lib = _Module()
        lib.call(
            "invert", lib.words(rows), lib.words(found), lib.words(syndromes), lib.words(flags), lib.words(theirs),
            theirs.size, *lib.frames(layout), lib.entries(orders),
        )  # fmt: skip
    else:
        _loops().invert(rows, found, syndromes, flags, theirs, layout.frames, orders)


def _groups(bits: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.int64]:
    return (((bits + 63) >> 6) + (1 << widths) - 1) >> widths


def _loops() -> Any:  # noqa: ANN401 - compiles when imported
    return importlib.import_module("qkdpp.kernels.hamming_blocks")


class _Module:
    """The compiled kernels."""

    def __init__(self) -> None:
        module = importlib.import_module("qkdpp.kernels._ck")
        self._lib, self._ffi = module.lib, module.ffi

    def words(self, array: Words) -> Any:  # noqa: ANN401 - what cffi builds has no types
        return self._ffi.from_buffer("uint64_t[]", array)

    def entries(self, orders: NDArray[np.uint32]) -> Any:  # noqa: ANN401
        return self._ffi.from_buffer("uint32_t[]", orders)

    def frames(self, layout: Layout) -> tuple[Any, int]:
        return self._ffi.from_buffer("qk_hamming_frame[]", layout.frames), len(layout.frames)

    def call(self, name: str, *arguments: Any) -> None:  # noqa: ANN401
        status = getattr(self._lib, f"qk_hamming_{name}")(*arguments)
        if status:
            raise KernelError(f"the Hamming kernel {name} refused its arguments (status {status})")
