"""The compiled codec: the bytes of the NumPy tier, at every address, and nothing but refusals for hostile bytes."""

from typing import Any

import numpy as np
import pytest
from arena import Arena, by_numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from qkdpp.core.bits import Bits
from qkdpp.kernels import available, compiled_bits, decode_bits, decode_slots, encode_bits, encode_slots, use_backend
from qkdpp.kernels.codec_numpy import decode_gaps, encode_gaps, gaps_of

if "c" not in available():
    pytest.skip("the compiled kernels are not built here", allow_module_level=True)

LENGTHS = (1, 2, 7, 8, 9, 63, 64, 65, 127, 128, 129, 1023, 1024, 131071)
MEANS = (1.05, 1.4, 2, 3, 10, 500, 1e5, 1e9, 1e12)
LARGEST = (1 << 62) - 1


def gap_sets(n: int) -> list[Any]:
    """Geometric gaps of every mean, some long ones among them, and all alike."""
    rng = np.random.default_rng(n)
    sets = [rng.geometric(1 / mean, n) - 1 for mean in MEANS]
    with_longs = sets[3].copy()
    with_longs[:: max(1, n // 7)] += rng.integers(0, 1 << 40, with_longs[:: max(1, n // 7)].size)
    return [*sets, with_longs, np.zeros(n, dtype=np.int64), np.full(n, 47), np.full(n, (1 << 33) - 1)]


def lists(largest: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, largest), min_size=1, max_size=80)


gap_lists = lists(1) | lists(70) | lists(1 << 12) | lists(1 << 33) | lists(1 << 50)


@pytest.fixture(autouse=True)
def compiled_tier(keep_tier: None) -> None:
    use_backend("c")


@settings(max_examples=300)
@given(gap_lists)
def test_both_tiers_write_the_same_bytes(gaps: list[int]) -> None:
    """The same parameter as well: the median of an even number of gaps lies between two of them."""
    array = np.array(gaps, dtype=np.int64)
    code = encode_gaps(array)
    assert compiled_bits.encode_gaps(array) == code
    positions = np.cumsum(array + 1) - 1
    assert np.array_equal(compiled_bits.decode_gaps(code, array.size, LARGEST), positions)
    assert np.array_equal(compiled_bits.decode_gaps(code, array.size, int(positions[-1])), positions)
    if positions[-1] > 0:
        with pytest.raises(ValueError, match=r"limit|range"):
            compiled_bits.decode_gaps(code, array.size, int(positions[-1]) - 1)


@pytest.mark.parametrize("n", LENGTHS)
def test_gaps_at_every_length(kernels: Any, n: int) -> None:
    for gaps in gap_sets(n):
        code = encode_gaps(gaps)
        assert compiled_bits.encode_gaps(gaps) == code
        assert np.array_equal(compiled_bits.decode_gaps(code, n, LARGEST), np.cumsum(gaps + 1) - 1)


@pytest.mark.parametrize("n", LENGTHS)
def test_gaps_at_every_address(kernels: Any, arena: Arena, n: int) -> None:
    lib = kernels.lib
    for gaps in gap_sets(n)[::3]:
        code, positions = encode_gaps(gaps), np.cumsum(gaps + 1) - 1
        out, size = arena.buffer(len(code)), arena.words(8)
        source = arena.array("int64_t", gaps)
        assert lib.qk_gaps_encode(out, len(code), size, source, n) == lib.QK_OK
        assert arena.read(out, "u1", len(code)).tobytes() == code
        assert lib.qk_gaps_encode(out, len(code) - 1, size, source, n) == lib.QK_NO_ROOM
        into = arena.array("int64_t", np.zeros(n, dtype=np.int64))
        assert (
            lib.qk_gaps_decode(into, n, arena.array("uint8_t", np.frombuffer(code, "u1")), len(code), LARGEST)
            == lib.QK_OK
        )
        assert np.array_equal(arena.read(into, "<i8", n), positions)
        assert lib.qk_gaps_of_slots(into, arena.array("int64_t", positions), n) == lib.QK_OK
        assert np.array_equal(arena.read(into, "<i8", n), gaps)


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("n", [0, *LENGTHS])
def test_gaps_of_bits(kernels: Any, arena: Arena, n: int, flip: int) -> None:
    flags = np.random.default_rng(n).integers(0, 2, n, dtype=np.uint8)
    expected = gaps_of(np.flatnonzero(flags != flip))
    gaps, found = arena.array("int64_t", np.zeros(expected.size, dtype=np.int64)), arena.words(8)
    words = arena.array("uint64_t", Bits.from_array(flags).words)
    assert kernels.lib.qk_gaps_of_bits(gaps, expected.size, found, words, n, flip) == kernels.lib.QK_OK
    assert np.array_equal(arena.read(gaps, "<i8", expected.size), expected)
    if expected.size:
        assert kernels.lib.qk_gaps_of_bits(gaps, expected.size - 1, found, words, n, flip) == kernels.lib.QK_NO_ROOM


@pytest.mark.parametrize("p", [0.0, 0.001, 0.1, 0.3, 0.5, 0.7, 0.97, 1.0])
def test_flags_and_slots_are_those_of_the_numpy_tier(kernels: Any, p: float) -> None:
    for n in (0, *LENGTHS):
        flags = (np.random.default_rng(n).random(n) < p).astype(np.uint8)
        code = encode_bits(flags)
        assert code == by_numpy(encode_bits, flags)
        assert np.array_equal(decode_bits(code, n), flags)
        slots = np.flatnonzero(flags) + 10 * n
        code = encode_slots(slots)
        assert code == by_numpy(encode_slots, slots)
        assert np.array_equal(decode_slots(code, slots.size, 11 * n), slots)


def outcome(decode: Any, code: bytes, n: int, limit: int) -> Any:
    try:
        return decode(code, n, limit).tolist()
    except ValueError:
        return "refused"


@settings(max_examples=500)
@given(gap_lists, st.data())
def test_damaged_codes_mean_the_same_to_both_tiers(gaps: list[int], data: st.DataObject) -> None:
    code = bytearray(encode_gaps(np.array(gaps, dtype=np.int64)))
    for _ in range(data.draw(st.integers(0, 3))):
        code[data.draw(st.integers(0, len(code) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    code = code[: data.draw(st.integers(0, len(code)) | st.just(len(code)))]
    n = len(gaps) + data.draw(st.sampled_from([0, 0, 0, 1, -1, 8]))
    limit = data.draw(st.integers(0, LARGEST) | st.just(LARGEST))
    if n > 0:
        assert outcome(compiled_bits.decode_gaps, bytes(code), n, limit) == outcome(decode_gaps, bytes(code), n, limit)


@settings(max_examples=500)
@given(st.binary(max_size=80), st.integers(1, 200), st.integers(0, LARGEST))
def test_any_bytes_mean_the_same_to_both_tiers(code: bytes, n: int, limit: int) -> None:
    assert outcome(compiled_bits.decode_gaps, code, n, limit) == outcome(decode_gaps, code, n, limit)


def test_hostile_bytes_at_every_address(kernels: Any, arena: Arena) -> None:
    """Counts that do not fit, and codes cut anywhere: a refusal, and no byte outside of the buffers."""
    rng = np.random.default_rng(3)
    code = np.frombuffer(encode_gaps(rng.geometric(1e-3, 150) - 1), dtype="u1")
    into = arena.array("int64_t", np.zeros(150, dtype=np.int64))
    for size in range(code.size):
        cut = arena.array("uint8_t", code[:size])
        for n in (1, 63, 64, 149, 150):
            assert kernels.lib.qk_gaps_decode(into, n, cut, size, LARGEST) < 0
    whole = arena.array("uint8_t", code)
    for n, limit in ((0, 5), (150, -1), (150, 1 << 62), (1 << 62, 5), ((1 << 64) - 1, 5)):
        assert kernels.lib.qk_gaps_decode(into, n, whole, code.size, limit) < 0


@pytest.mark.parametrize("n", LENGTHS)
def test_flags_at_every_address(kernels: Any, arena: Arena, n: int) -> None:
    flags, positions = (np.random.default_rng(n).integers(0, high, n) for high in (2, n))
    expected = flags.astype(np.uint8) ^ (np.bincount(positions, minlength=n) & 1).astype(np.uint8)
    at = arena.array("uint8_t", flags.astype(np.uint8))
    assert kernels.lib.qk_flags_flip(at, n, arena.array("int64_t", positions), n) == kernels.lib.QK_OK
    assert np.array_equal(arena.read(at, "u1", n), expected)


def test_positions_and_slots_out_of_range_are_refused(kernels: Any, arena: Arena) -> None:
    lib, flags = kernels.lib, arena.buffer(10)
    for wrong in (10, -1, LARGEST, -(1 << 63)):
        assert lib.qk_flags_flip(flags, 10, arena.array("int64_t", np.array([3, wrong])), 2) == lib.QK_BAD_SIZE
    gaps = arena.array("int64_t", np.zeros(2, dtype=np.int64))
    for slots in ([3, 3], [3, 2], [-1, 4], [-5, -4], [(1 << 63) - 1, -(1 << 63)], [-(1 << 63), 0]):
        assert lib.qk_gaps_of_slots(gaps, arena.array("int64_t", np.array(slots)), 2) == lib.QK_BAD_ORDER
