"""The compiled kernels at awkward lengths and addresses, with canaries, against the NumPy tier."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from arena import Arena, by_numpy

from qkdpp.core.bits import Bits, n_words
from qkdpp.core.entropy import expand
from qkdpp.core.errors import KernelError
from qkdpp.kernels import available, compiled, poly_hash, toeplitz

if "c" not in available():
    pytest.skip("the compiled kernels are not built here", allow_module_level=True)

LENGTHS = (0, 1, 7, 63, 64, 65, 127, 128, 129, 1023, 1024, 131071)
RNG = np.random.default_rng(7)


def test_poly_hash(kernels: Any, arena: Arena) -> None:
    key = expand(bytes(32), "key", 16)
    for n in LENGTHS:
        message = expand(bytes(32), "message", n)
        out = arena.buffer(16)
        assert kernels.lib.qk_poly_hash(out, arena.buffer(16, key), arena.buffer(n, message), n) == kernels.lib.QK_OK
        assert bytes(kernels.ffi.buffer(out, 16)) == by_numpy(poly_hash, key, message)


def test_poly_hash_many(kernels: Any, arena: Arena) -> None:
    key, text = expand(bytes(32), "key", 16), expand(bytes(32), "message", sum(LENGTHS))
    edges = np.cumsum((0, *LENGTHS)).astype("<u8")
    out = arena.buffer(16 * len(LENGTHS))
    places = arena.words(edges.nbytes, edges.tobytes())
    kernels.lib.qk_poly_hash_many(out, arena.buffer(16, key), arena.buffer(len(text), text), places, len(LENGTHS))
    parts = [text[int(a) : int(b)] for a, b in pairwise(edges)]
    assert bytes(kernels.ffi.buffer(out, 16 * len(parts))) == b"".join(by_numpy(poly_hash, key, p) for p in parts)


def test_poly_horner(kernels: Any, arena: Arena) -> None:
    """From a state other than zero, around every whole number of rows of the vectors."""
    key, state, text = (expand(bytes(32), label, 16 * 140) for label in ("key", "state", "text"))
    from qkdpp.kernels.polyhash import _horner

    for n in (*range(40), 63, 64, 65, 95, 96, 127, 128, 129, 140):
        out = arena.words(16)
        kernels.lib.qk_poly_horner(
            out, arena.words(16, state[:16]), arena.words(16, key[:16]), arena.buffer(16 * n, text[: 16 * n]), n
        )
        blocks = np.frombuffer(text[: 16 * n], dtype="<u8").reshape(-1, 2)
        numbers = (int.from_bytes(x[:16], "little") for x in (state, key))
        expected = by_numpy(_horner, *numbers, blocks)
        assert int.from_bytes(bytes(kernels.ffi.buffer(out, 16)), "little") == expected


@pytest.mark.parametrize("n", LENGTHS[1:])
def test_toeplitz_hash(kernels: Any, arena: Arena, n: int) -> None:
    for out_bits in {1, (n + 1) // 2, n}:
        key, seed = (Bits.from_array(RNG.integers(0, 2, size)) for size in (n, n + out_bits - 1))
        size = kernels.lib.qk_toeplitz_scratch_words(n, out_bits)
        out, scratch = arena.words(8 * n_words(out_bits)), arena.words(8 * size)
        key_at = arena.words(key.words.nbytes, key.words.tobytes())
        seed_at = arena.words(seed.words.nbytes, seed.words.tobytes())
        assert kernels.lib.qk_toeplitz_hash(out, out_bits, key_at, n, seed_at, scratch, size) == kernels.lib.QK_OK
        expected = by_numpy(toeplitz.toeplitz_hash, key.words, n, seed.words, out_bits)
        assert bytes(kernels.ffi.buffer(out, 8 * n_words(out_bits))) == expected.tobytes()


@pytest.mark.parametrize("n", [*LENGTHS[2:], 20_500])
def test_toeplitz_hash_modified(kernels: Any, arena: Arena, n: int) -> None:
    for out_bits in {1, n // 2, n - 1}:
        key, seed = (Bits.from_array(RNG.integers(0, 2, size)) for size in (n, n - 1))
        size = kernels.lib.qk_toeplitz_modified_scratch_words(n, out_bits)
        out, scratch = arena.words(8 * n_words(out_bits)), arena.words(8 * size)
        key_at = arena.words(key.words.nbytes, key.words.tobytes())
        seed_at = arena.words(seed.words.nbytes, seed.words.tobytes())
        status = kernels.lib.qk_toeplitz_hash_modified(out, out_bits, key_at, n, seed_at, scratch, size)
        assert status == kernels.lib.QK_OK
        expected = by_numpy(toeplitz.toeplitz_hash_modified, key.words, n, seed.words, out_bits)
        assert bytes(kernels.ffi.buffer(out, 8 * n_words(out_bits))) == expected.tobytes()


@pytest.mark.parametrize("form", ["", "_modified"])
@pytest.mark.parametrize("n", [1000, 16_384, 16_385, 24_576, 40_000])
def test_scratch_is_wiped(kernels: Any, form: str, n: int) -> None:
    """Nothing of the key or its transform stays behind: direct products, transforms of both kinds, split products."""
    kernel, sizes = (getattr(kernels.lib, f"qk_toeplitz{name}") for name in (f"_hash{form}", f"{form}_scratch_words"))
    out_bits = n // 2
    size = sizes(n, out_bits)
    ones = [np.full(n_words(length), ~np.uint64(0)) for length in (out_bits, n, n + out_bits)]
    pointers = [kernels.ffi.from_buffer("uint64_t[]", array) for array in ones]
    scratch = np.zeros(size, dtype=np.uint64)
    kernel(pointers[0], out_bits, pointers[1], n, pointers[2], kernels.ffi.from_buffer("uint64_t[]", scratch), size)
    constants = scratch[-(3 * 256 + 8) :] if n > 10_000 else scratch[:0]
    assert np.count_nonzero(scratch) == np.count_nonzero(constants)


@pytest.mark.parametrize(("n", "out_bits"), [(0, 0), (10, 0), (10, 11), ((1 << 28) + 1, 5)])
def test_sizes_out_of_range_are_refused(kernels: Any, n: int, out_bits: int) -> None:
    none = kernels.ffi.NULL
    status = kernels.lib.qk_toeplitz_hash(none, out_bits, none, n, none, none, 1 << 40)
    assert status == kernels.lib.QK_BAD_SIZE
    with pytest.raises(KernelError, match="refused"):
        compiled._ensure(status)
    status = kernels.lib.qk_toeplitz_hash_modified(none, out_bits, none, n, none, none, 1 << 40)
    assert status == kernels.lib.QK_BAD_SIZE


def test_too_little_scratch_is_refused(kernels: Any) -> None:
    none, size = kernels.ffi.NULL, kernels.lib.qk_toeplitz_scratch_words(5000, 100)
    assert kernels.lib.qk_toeplitz_hash(none, 100, none, 5000, none, none, size - 1) == kernels.lib.QK_BAD_SIZE
    size = kernels.lib.qk_toeplitz_modified_scratch_words(5000, 100)
    assert kernels.lib.qk_toeplitz_hash_modified(none, 100, none, 5000, none, none, size - 1) == kernels.lib.QK_BAD_SIZE


@pytest.mark.parametrize("n", [1 << 16, (1 << 16) + 33, 1 << 20, 1 << 24, 1 << 28])
def test_scratch_stays_within_four_bytes_per_bit(kernels: Any, n: int) -> None:
    for out_bits in (1, n // 2, n):
        assert 8 * kernels.lib.qk_toeplitz_scratch_words(n, out_bits) <= 4 * n
        assert 8 * kernels.lib.qk_toeplitz_modified_scratch_words(n, out_bits) <= 2 * n


def test_unknown_tiers_are_refused(kernels: Any) -> None:
    for number in (-1, kernels.lib.qk_isa_count()):
        assert kernels.lib.qk_set_isa(number) == kernels.lib.QK_BAD_TIER
        assert kernels.lib.qk_isa_name(number) == kernels.ffi.NULL
