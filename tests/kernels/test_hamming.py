"""Rows, block sums, syndromes and corrections of the Hamming procedure against their definition, bit by bit."""

from typing import Any

import numpy as np
import pytest
from arena import Arena
from numpy.typing import NDArray

from qkdpp.core.bits import Bits, n_words
from qkdpp.core.errors import KernelError
from qkdpp.kernels import hamming
from qkdpp.kernels.hamming import Layout

LENGTHS = (1, 7, 63, 64, 65, 127, 128, 129, 1023, 1024, 4097, 131071)
START = 37
"""First bit of the frames in the key."""


def bits(n: int, seed: int, share: float = 0.5) -> NDArray[np.uint8]:
    return (np.random.default_rng(seed).random(n) < share).astype(np.uint8)


def widths(n: int) -> list[int]:
    """Blocks of one bit, of two, of some, of a word of every place, of more rows than there are."""
    longest = (n_words(n) - 1).bit_length()
    return sorted({0, min(1, longest), longest // 2, longest, longest + 1})


def order_of(n: int, seed: int) -> NDArray[np.uint32]:
    coins = np.random.default_rng(seed).integers(0, 1 << 32, n_words(n), dtype=np.uint32)
    return hamming.places(coins)


class Oracle:
    """One frame and one round: which bit of the frame every row of every block holds (n: none)."""

    def __init__(self, n: int, order: NDArray[np.uint32], width: int) -> None:
        words = n_words(n)
        word, turn = order.astype(np.int64)[:, None] >> 6, order.astype(np.int64)[:, None] & 63
        place = (np.arange(64) - turn) % 64 * words + word
        self.n, self.width, self.groups = n, width, -(-words // 2**width)
        rows = np.full((self.groups << width, 64), n)
        rows[:words] = np.minimum(place, n)
        self.bit = rows.reshape(2**width, 64 * self.groups)

    def checks(self, key: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Sums of the blocks, and their syndromes [width, blocks]."""
        values = np.append(key, 0)[self.bit]
        ones = np.arange(2**self.width)
        syndromes = [np.bitwise_xor.reduce(values[ones >> j & 1 == 1], axis=0) for j in range(self.width)]
        found = np.array(syndromes, dtype=np.uint8).reshape(self.width, 64 * self.groups)
        return np.bitwise_xor.reduce(values, axis=0), found

    def single_errors(self, share: float) -> NDArray[np.uint8]:
        """At most one error in a block."""
        rng = np.random.default_rng(self.n)
        chosen = self.bit[rng.integers(0, 2**self.width, self.bit.shape[1]), np.arange(self.bit.shape[1])]
        errors = np.zeros(self.n + 1, dtype=np.uint8)
        errors[chosen[rng.random(chosen.size) < share]] = 1
        return errors[:-1]


def layout_of(lengths: list[int], width: list[int], frame_bits: int) -> Layout:
    """Frames in a row from bit ``START`` on; each has an order of its own."""
    words = [n_words(n) for n in lengths]
    count = np.arange(len(lengths))
    return Layout.of(
        START + count * frame_bits,
        np.array(lengths),
        count * n_words(frame_bits),
        np.cumsum([0, *words[:-1]]),
        np.array(width),
    )


def unpacked(words: Any, n: int) -> NDArray[np.uint8]:
    return Bits(np.asarray(words, dtype="<u8")[: n_words(n)], n).to_array()


@pytest.mark.parametrize("n", LENGTHS)
def test_rows(tier: str, n: int) -> None:
    """Bit l W + w of a frame is bit l of word w."""
    for start in (0, 1, 63, 64):
        key = bits(start + n + n // 3, n)
        rows = hamming.load_rows(Bits.from_array(key).words, start, n + n // 3, n)
        for f, part in enumerate((key[start : start + n], key[start + n :])):
            words = n_words(part.size)
            expected = np.append(part, np.zeros(-part.size % 64, dtype=np.uint8)).reshape(64, words).T
            found = unpacked(rows[f * n_words(n) :], 64 * words)
            assert np.array_equal(found.reshape(words, 64), expected)
    assert hamming.load_rows(Bits.zeros(5).words, 3, 0, 64).size == 0


def test_places_are_words_in_the_order_of_their_coins() -> None:
    coins = np.array([0x80000005, 7, 0x80000005, 0xFFFFFFFF, 0], dtype=np.uint32)
    assert hamming.places(coins).tolist() == [4 << 6 | 0, 1 << 6 | 7, 0 << 6 | 5, 2 << 6 | 5, 3 << 6 | 63]


@pytest.mark.parametrize("n", LENGTHS)
def test_checks_and_corrections(tier: str, n: int) -> None:
    """Single errors are found; sums, syndromes and what is sent are those of the definition."""
    order = order_of(n, n)
    for width in widths(n):
        oracle, layout = Oracle(n, order, width), layout_of([n], [width], n)
        bob = np.append(bits(START, 1), bits(n, 2))
        errors = np.append(np.zeros(START, dtype=np.uint8), oracle.single_errors(0.3))
        rows = [hamming.load_rows(Bits.from_array(key).words, START, n, n) for key in (bob ^ errors, bob)]
        (sums, own), (other_sums, others) = (hamming.block_checks(r, layout, order) for r in rows)
        expected, syndromes = oracle.checks(bob[START:])
        assert np.array_equal(unpacked(other_sums, expected.size), expected)
        assert np.array_equal(unpacked(others, syndromes.size), syndromes.ravel())
        flags = sums ^ other_sums
        odd = unpacked(flags, expected.size) == 1
        assert layout.differing(flags).tolist() == [odd.sum()] == [errors.sum()]
        sent = hamming.pick_syndromes(others, flags, layout, width * int(odd.sum()))
        assert np.array_equal(unpacked(sent, width * int(odd.sum())), syndromes[:, odd].ravel())
        found = Bits.zeros(START + n)
        hamming.invert_errors(rows[0], found.words, own, flags, sent, layout=layout, orders=order)
        assert np.array_equal(rows[0], rows[1])
        assert np.array_equal(found.to_array(), errors)


def test_several_frames(tier: str) -> None:
    """Of different lengths and widths, one of them left out; syndromes that lie: bits the frame lacks stay."""
    lengths, width, frame_bits = [1000, 1000, 450], [3, 1, 4], 1000
    whole = layout_of(lengths, width, frame_bits)
    orders = np.concatenate([order_of(n, i) for i, n in enumerate(lengths)])
    key = bits(START + sum(lengths), 9)
    for playing in ([0, 1, 2], [0, 2], [1]):
        frames = whole.frames[playing]
        layout = Layout.of(*(frames[:, c] for c in range(5)))
        rows = hamming.load_rows(Bits.from_array(key).words, START, sum(lengths), frame_bits)
        _, syndromes = hamming.block_checks(rows, layout, orders)
        flags = np.random.default_rng(3).integers(0, 1 << 64, layout.n_sums, dtype=np.uint64)
        n_bits = int(layout.differing(flags) @ layout.widths)
        theirs = bits(n_bits, 4)
        expected, at, first = np.zeros_like(key), 0, 0
        for f in playing:
            oracle = Oracle(lengths[f], orders[whole.frames[f, 3] :][: n_words(lengths[f])], width[f])
            part = slice(START + f * frame_bits, START + f * frame_bits + lengths[f])
            odd = np.flatnonzero(unpacked(flags[first:], 64 * oracle.groups))
            sent = theirs[at : at + odd.size * width[f]].reshape(width[f], -1)
            row = (1 << np.arange(width[f])) @ (oracle.checks(key[part])[1][:, odd] ^ sent).astype(np.int64)
            inverted = oracle.bit[row, odd]
            expected[part][inverted[inverted < lengths[f]]] ^= 1
            at, first = at + sent.size, first + oracle.groups
        found = Bits.zeros(key.size)
        hamming.invert_errors(
            rows, found.words, syndromes, flags, Bits.from_array(theirs).words, layout=layout, orders=orders
        )
        assert np.array_equal(found.to_array(), expected)
        mended = hamming.load_rows(Bits.from_array(key ^ expected).words, START, sum(lengths), frame_bits)
        assert np.array_equal(rows, mended)


@pytest.mark.parametrize("n", LENGTHS)
def test_nothing_is_touched_outside(kernels: Any, arena: Arena, n: int) -> None:
    """At every misalignment: the same as with aligned arrays."""
    lib, order = kernels.lib, order_of(n, n)
    key = Bits.from_array(bits(START + n, 5)).words
    rows = hamming.load_rows(key, START, n, n)
    at_rows, at_order = arena.array("uint64_t", rows), arena.array("uint32_t", order)
    for width in widths(n):
        layout = layout_of([n], [width], n)
        frames = arena.array("qk_hamming_frame", layout.frames), 1
        sums, syndromes = hamming.block_checks(rows, layout, order)
        at_sums, at_syndromes = arena.words(8 * sums.size), arena.words(8 * syndromes.size)
        room = int(layout.groups()[0]) << width
        scratch = arena.words(8 * room)
        checks = at_sums, at_syndromes, at_rows, *frames, at_order, scratch
        assert lib.qk_hamming_checks(*checks, room - 1) == lib.QK_BAD_SIZE
        assert lib.qk_hamming_checks(*checks, room) == lib.QK_OK
        assert np.array_equal(arena.read(at_sums, "<u8", sums.size), sums)
        assert np.array_equal(arena.read(at_syndromes, "<u8", syndromes.size), syndromes)
        flags = np.random.default_rng(n).integers(0, 1 << 64, sums.size, dtype=np.uint64)
        n_bits = int(layout.differing(flags)[0]) * width
        sent = hamming.pick_syndromes(syndromes, flags, layout, n_bits)
        at_flags, out = arena.array("uint64_t", flags), arena.words(8 * sent.size)
        assert lib.qk_hamming_pick(out, sent.size, at_syndromes, at_flags, *frames) == lib.QK_OK
        assert np.array_equal(arena.read(out, "<u8", sent.size), sent)
        theirs = Bits.from_array(bits(n_bits, 6)).words
        at_rows_2, found = arena.array("uint64_t", rows), arena.array("uint64_t", np.zeros_like(key))
        inverting = at_rows_2, found, at_syndromes, at_flags, arena.array("uint64_t", theirs)
        assert lib.qk_hamming_invert(*inverting, theirs.size, *frames, at_order) == lib.QK_OK
        expected_rows, expected = rows.copy(), np.zeros_like(key)
        hamming.invert_errors(expected_rows, expected, syndromes, flags, theirs, layout=layout, orders=order)
        assert np.array_equal(arena.read(at_rows_2, "<u8", rows.size), expected_rows)
        assert np.array_equal(arena.read(found, "<u8", key.size), expected)


def test_strings_that_do_not_fit_are_refused(kernels: Any) -> None:
    layout, order = layout_of([1000], [2], 1000), order_of(1000, 0)
    rows = np.zeros(n_words(1000), dtype="<u8")
    sums, syndromes = hamming.block_checks(rows, layout, order)
    flags = ~np.zeros_like(sums)
    for n_bits in (0, 64, 2 * 64 * sums.size - 64, 2 * 64 * sums.size + 1):
        with pytest.raises(KernelError, match="pick"):
            hamming.pick_syndromes(syndromes, flags, layout, n_bits)
        theirs = Bits.zeros(n_bits).words
        with pytest.raises(KernelError, match="invert"):
            hamming.invert_errors(rows, Bits.zeros(2000).words, syndromes, flags, theirs, layout=layout, orders=order)
    for width in (-1, 21):
        frames = layout.frames.copy()
        frames[:, hamming.WIDTH] = width
        lib = hamming._Module()
        with pytest.raises(KernelError, match="checks"):
            lib.call(
                "checks",
                lib.words(sums),
                lib.words(syndromes),
                lib.words(rows),
                *lib.frames(Layout(frames=frames, n_sums=sums.size, n_syndromes=syndromes.size)),
                lib.entries(order),
                lib.words(rows),
                rows.size,
            )
