"""Bit tools in every tier: lists of Python's, awkward lengths and addresses, canaries."""

from typing import Any

import numpy as np
import pytest
from arena import Arena

from qkdpp.core.bits import Bits, n_words
from qkdpp.core.errors import KernelError
from qkdpp.kernels import gather_bits, hamming_distance, pack_bits, transpose_bits, unpack_bits
from qkdpp.kernels.bits import pick, spread

LENGTHS = (0, 1, 7, 63, 64, 65, 127, 128, 129, 1023, 1024, 131071)
SHAPES = [(0, 0), (1, 1), (3, 0), (0, 3), (1, 65), (63, 64), (64, 63), (65, 129), (7, 1023), (1023, 7), (512, 512)]
SHAPES += [(513, 577), (129, 131071)]


def generator(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def flags(n: int, seed: int = 1) -> Any:
    return generator(n, seed).integers(0, 2, n, dtype=np.uint8)


def orders(n: int) -> list[Any]:
    """A permutation, a choice with repetitions, nothing."""
    rng = generator(n)
    return [
        rng.permutation(n).astype("<i4"),
        rng.integers(0, max(n, 1), n // 3 + (n > 0), dtype="<i4"),
        np.empty(0, "<i4"),
    ]


def matrix(n_rows: int, n_columns: int) -> tuple[Any, Any]:
    """Bits of a matrix, and its rows in words whose padding is all ones."""
    bits = generator(n_rows, n_columns).integers(0, 2, (n_rows, n_columns), dtype=np.uint8)
    padded = np.ones((n_rows, 64 * n_words(n_columns)), dtype=np.uint8)
    padded[:, :n_columns] = bits
    return bits, Bits.from_array(padded.reshape(-1)).words.reshape(n_rows, n_words(n_columns))


@pytest.mark.parametrize("n", LENGTHS)
def test_packing(tier: str, n: int) -> None:
    words = pack_bits(flags(n))
    assert words.dtype == np.dtype("<u8")
    assert words.shape == (n_words(n),)
    number = int("0" + "".join(map(str, flags(n)[::-1])), 2)
    assert int.from_bytes(words.tobytes(), "little") == number
    assert np.array_equal(unpack_bits(words, n), flags(n))
    assert np.array_equal(pack_bits(flags(n).astype(np.bool_)), words)


def test_every_flag_but_zero_is_a_one(tier: str) -> None:
    values = np.arange(256, dtype=np.uint8)
    assert unpack_bits(pack_bits(values), 256).tolist() == [0] + [1] * 255
    assert unpack_bits(pack_bits(np.repeat(values, 2)[::2]), 256).sum() == 255, "an array with gaps"


@pytest.mark.parametrize("n", LENGTHS)
def test_gathering(tier: str, n: int) -> None:
    bits = flags(n)
    for order in orders(n):
        out = gather_bits(pack_bits(bits), n, order)
        assert out.shape == (n_words(order.size),)
        assert np.array_equal(out, Bits.from_array(bits[order]).words)


@pytest.mark.parametrize("shape", SHAPES)
def test_transposition(tier: str, shape: tuple[int, int]) -> None:
    bits, words = matrix(*shape)
    out = transpose_bits(words, shape[1])
    assert out.shape == (shape[1], n_words(shape[0]))
    again = Bits(out.reshape(-1), 64 * out.size).to_array().reshape(shape[1], 64 * n_words(shape[0]))
    assert np.array_equal(again[:, : shape[0]], bits.T)
    assert not again[:, shape[0] :].any(), "padding is zero"


@pytest.mark.parametrize("n", LENGTHS)
def test_hamming_distance(tier: str, n: int) -> None:
    a, b = flags(n), flags(n, 2)
    assert hamming_distance(pack_bits(a), pack_bits(b)) == int((a != b).sum())
    assert hamming_distance(pack_bits(a), pack_bits(1 - a)) == n


def test_indices_outside_are_refused(tier: str) -> None:
    for n in (1, 64, 130):
        for at in (0, 70):
            for wrong in (n, -1, 2**31 - 1, -(2**31)):
                order = np.zeros(80, dtype="<i4")
                order[at] = wrong
                with pytest.raises(KernelError, match="order"):
                    gather_bits(pack_bits(flags(n)), n, order)
    with pytest.raises(KernelError, match="order"):
        gather_bits(pack_bits(flags(0)), 0, np.zeros(1, dtype="<i4"))


def test_other_types_and_shapes_are_refused(tier: str) -> None:
    words, order = pack_bits(flags(100)), np.zeros(3, dtype="<i4")
    for call in (
        lambda: pack_bits(np.zeros(3, dtype=np.int64)),
        lambda: pack_bits(np.zeros((3, 3), dtype=np.uint8)),
        lambda: unpack_bits(words, 129),
        lambda: unpack_bits(words, 64),
        lambda: unpack_bits(words.view("<i8"), 100),
        lambda: gather_bits(words, 129, order),
        lambda: gather_bits(words, 100, order.astype("<i8")),
        lambda: gather_bits(words, 100, order.reshape(3, 1)),
        lambda: transpose_bits(words, 100),
        lambda: transpose_bits(words.reshape(1, 2), 64),
        lambda: hamming_distance(words, words[:1]),
        lambda: hamming_distance(words.reshape(1, 2), words.reshape(1, 2)),
    ):
        with pytest.raises(KernelError, match="need"):
            call()


# --- the compiled kernels, at every address -------------------------------------------------------------------------


@pytest.mark.parametrize("n", LENGTHS)
def test_compiled_packing(kernels: Any, arena: Arena, n: int) -> None:
    words = Bits.from_array(flags(n)).words
    packed, unpacked = arena.words(words.nbytes), arena.buffer(n)
    assert kernels.lib.qk_bits_pack(packed, arena.array("uint8_t", flags(n)), n) == kernels.lib.QK_OK
    assert kernels.lib.qk_bits_unpack(unpacked, arena.array("uint64_t", words), n) == kernels.lib.QK_OK
    assert np.array_equal(arena.read(packed, "<u8", words.size), words)
    assert np.array_equal(arena.read(unpacked, "u1", n), flags(n))


@pytest.mark.parametrize("n", LENGTHS)
def test_compiled_gathering(kernels: Any, arena: Arena, n: int) -> None:
    words = arena.array("uint64_t", Bits.from_array(flags(n)).words)
    for order in orders(n):
        out = arena.words(8 * n_words(order.size))
        assert kernels.lib.qk_bits_gather(out, words, n, arena.array("int32_t", order), order.size) == kernels.lib.QK_OK
        assert np.array_equal(arena.read(out, "<u8", n_words(order.size)), Bits.from_array(flags(n)[order]).words)


@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_compiled_transposition(kernels: Any, arena: Arena, shape: tuple[int, int]) -> None:
    bits, words = matrix(*shape)
    size = shape[1] * n_words(shape[0])
    out = arena.words(8 * size)
    assert kernels.lib.qk_bits_transpose(out, arena.array("uint64_t", words), *shape) == kernels.lib.QK_OK
    rows = np.zeros((shape[1], 64 * n_words(shape[0])), dtype=np.uint8)
    rows[:, : shape[0]] = bits.T
    assert np.array_equal(arena.read(out, "<u8", size), Bits.from_array(rows.reshape(-1)).words)


@pytest.mark.parametrize("n", LENGTHS)
def test_compiled_distance(kernels: Any, arena: Arena, n: int) -> None:
    a, b = (arena.array("uint64_t", Bits.from_array(flags(n, seed)).words) for seed in (1, 2))
    count = arena.words(8)
    assert kernels.lib.qk_bits_distance(count, a, b, n_words(n)) == kernels.lib.QK_OK
    assert int(arena.read(count, "<u8", 1)[0]) == int((flags(n, 1) != flags(n, 2)).sum())


# --- bytes by flags -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", LENGTHS)
def test_picking_and_spreading(kernels: Any, arena: Arena, n: int) -> None:
    values, chosen = generator(n, 3).integers(1, 256, n, dtype=np.uint8), flags(n)
    expected = [v for v, f in zip(values.tolist(), chosen.tolist(), strict=True) if f]
    out, back, count = arena.buffer(n), arena.buffer(n), arena.words(8)
    at = arena.array("uint8_t", chosen)
    assert kernels.lib.qk_bytes_pick(out, count, arena.array("uint8_t", values), at, n) == kernels.lib.QK_OK
    assert int(arena.read(count, "<u8", 1)[0]) == len(expected)
    assert arena.read(out, "u1", len(expected)).tolist() == expected
    assert kernels.lib.qk_bytes_spread(back, at, n, out, len(expected)) == kernels.lib.QK_OK
    assert arena.read(back, "u1", n).tolist() == (values * chosen).tolist()


def test_picking_and_spreading_by_arrays(tier: str) -> None:
    values, chosen = np.array([5, 6, 7], dtype=np.uint8), np.array([True, False, True])
    assert pick(values, chosen).tolist() == [5, 7]
    assert spread(np.array([5, 7], dtype=np.uint8), chosen).tolist() == [5, 0, 7]
    for wrong in ([5], [5, 6, 7]):
        with pytest.raises(KernelError):
            spread(np.array(wrong, dtype=np.uint8), chosen)
    with pytest.raises(KernelError):
        pick(values, chosen[:2])
