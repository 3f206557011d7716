"""Kernels for time tags at awkward lengths and addresses, with canaries, against the NumPy definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arena import Arena, by_numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qkdpp.core.errors import FormatError, KernelError
from qkdpp.kernels import available, compiled_tags, tags
from qkdpp.sources.picoquant_records import LAYOUTS, Decoder
from qkdpp.sources.sfifteen import Unroller

if "c" not in available():
    pytest.skip("the compiled kernels are not built here", allow_module_level=True)

LENGTHS = (0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 128, 129, 1023, 1024, 4095, 4096, 4097, 131_071)
FAMILIES = {
    compiled_tags.PICOHARP: 0x00010203,
    compiled_tags.HYDRAHARP_1: 0x00010204,
    compiled_tags.HYDRAHARP_2: 0x01010204,
}
RNG = np.random.default_rng(11)
FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def sorted_ticks(n: int, span: int) -> NDArray[np.int64]:
    return np.sort(RNG.integers(0, span, n)) - np.int64(span // 2)


def records(n: int, family: int, share_special: float) -> NDArray[np.uint32]:
    """Photons with some specials of every kind (overflows, markers on one or several lines, no meaning)."""
    words = RNG.integers(0, 1 << 31, n, dtype=np.uint32)
    special = RNG.random(n) < share_special
    kinds = RNG.choice(np.array([63, 63, 63, 0, 1, 2, 4, 8, 5, 15, 16, 62], dtype=np.uint32), n)
    if family == compiled_tags.PICOHARP:
        words = words % np.uint32(15 << 28)
        words[special] = np.uint32(15 << 28) | (words & np.uint32(0xFFFFFF0) | kinds % np.uint32(16))[special]
    else:
        words[special] = (np.uint32(1 << 31) | kinds << np.uint32(25) | words % np.uint32(100))[special]
    return words


def decoded(family: int, words: NDArray[np.uint32]) -> tuple[Any, int]:
    decoder = Decoder(LAYOUTS[FAMILIES[family]], "run")
    return decoder.decode(words), decoder.invalid


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("share", [0.0, 0.03, 0.9])
def test_t2_decode(kernels: Any, arena: Arena, family: int, share: float) -> None:
    wrap = LAYOUTS[FAMILIES[family]].wrap
    for n in LENGTHS:
        words = records(n, family, share)
        found, invalid = decoded(family, words)
        room = found.time.size + 4
        time, ids = (arena.array(kind, np.zeros(room, dt)) for kind, dt in (("int64_t", "i8"), ("uint8_t", "u1")))
        state = arena.array("uint64_t", np.zeros(5, dtype="u8"))
        at = arena.array("uint8_t", words)
        assert kernels.lib.qk_t2_decode(time, ids, room, state, at, n, wrap, family) == kernels.lib.QK_OK
        _, n_tags, n_read, meaningless, backward = arena.read(state, "u8", 5).tolist()
        assert (n_tags, n_read, meaningless) == (found.time.size, n, invalid)
        np.testing.assert_array_equal(arena.read(time, "i8", n_tags), found.time)
        np.testing.assert_array_equal(arena.read(ids, "u1", n_tags), found.ids)
        assert backward == int((np.diff(found.time) < 0).sum())


@pytest.mark.parametrize("family", FAMILIES)
def test_t2_decode_in_pieces_with_little_room(kernels: Any, arena: Arena, family: int) -> None:
    words = records(3000, family, 0.2)
    found, _ = decoded(family, words)
    wrap, at = LAYOUTS[FAMILIES[family]].wrap, arena.array("uint8_t", words)
    room, overflows, start = 37, 0, 0
    times, labels = [], []
    while start < words.size:
        time, ids = arena.array("int64_t", np.zeros(room, "i8")), arena.array("uint8_t", np.zeros(room, "u1"))
        state = arena.array("uint64_t", np.array([overflows, 0, 0, 0, 0], dtype="u8"))
        here = kernels.ffi.cast("uint8_t *", at) + 4 * start
        kernels.lib.qk_t2_decode(time, ids, room, state, here, min(words.size - start, 50), wrap, family)
        overflows, n_tags, n_read, _, _ = arena.read(state, "u8", 5).tolist()
        assert n_read > 0
        times.append(arena.read(time, "i8", n_tags))
        labels.append(arena.read(ids, "u1", n_tags))
        start += n_read
    np.testing.assert_array_equal(np.concatenate(times), found.time)
    np.testing.assert_array_equal(np.concatenate(labels), found.ids)


def test_an_unknown_family_is_refused(kernels: Any, arena: Arena) -> None:
    none, state = kernels.ffi.NULL, arena.array("uint64_t", np.zeros(5, dtype="u8"))
    for family in (-1, kernels.lib.QK_T2_FAMILIES):
        assert kernels.lib.qk_t2_decode(none, none, 0, state, none, 0, 1, family) == kernels.lib.QK_BAD_SIZE


def event_words(n: int, shift: int, share_of_jumps: float) -> NDArray[np.uint64]:
    """Times that go on from word to word, jump anywhere, and wrap."""
    span = 1 << (64 - shift)
    steps = np.where(RNG.random(n) < share_of_jumps, RNG.integers(0, span, n), RNG.integers(-100, span // 50, n))
    time = np.cumsum(steps.astype(np.int64)) % span
    return time.astype(np.uint64) << np.uint64(shift) | RNG.integers(0, 1 << min(shift, 10), n, dtype=np.uint64)


@pytest.mark.parametrize("shift", [10, 15, 27])
@pytest.mark.parametrize("jumps", [0.0, 0.01, 0.9])
def test_event_words(kernels: Any, arena: Arena, shift: int, jumps: float) -> None:
    table = RNG.integers(0, 8, 32, dtype=np.uint8)
    table[RNG.integers(0, 32, 10)] = compiled_tags.NO_LABEL
    for length in LENGTHS:
        words = event_words(length, shift, jumps)
        n = words.size
        labels = table[words.astype(np.uint8) & 31]
        try:
            time = Unroller(1 << (64 - shift), "run").unroll((words >> np.uint64(shift)).astype(np.int64))
        except FormatError:
            time = None
        out, ids = arena.array("int64_t", np.zeros(n, "i8")), arena.array("uint8_t", np.zeros(n, "u1"))
        counts = arena.array("uint64_t", np.zeros(32, "u8"))
        state = arena.array("uint64_t", np.array([0, int(words[0]) >> shift if n else 0, 0], dtype="u8"))
        at = arena.array("uint8_t", words), n, shift, arena.array("uint8_t", table)
        status = kernels.lib.qk_words_decode(out, ids, counts, state, *at)
        if time is None:
            assert status == kernels.lib.QK_NO_ROOM
            continue
        assert status == kernels.lib.QK_OK
        kept = labels != compiled_tags.NO_LABEL
        n_tags = int(arena.read(state, "u8", 3)[2])
        assert n_tags == kept.sum()
        np.testing.assert_array_equal(arena.read(out, "i8", n_tags), time[kept])
        np.testing.assert_array_equal(arena.read(ids, "u1", n_tags), labels[kept])
        expected = np.bincount((words & np.uint64(31)).astype(np.int64), minlength=32)
        np.testing.assert_array_equal(arena.read(counts, "i8", 32), expected)


def test_event_words_in_blocks(kernels: Any) -> None:
    words, table = event_words(5000, 15, 0.002), np.arange(32, dtype=np.uint8)
    plain, parts, start = Unroller(1 << 49, "run"), Unroller(1 << 49, "run"), 0
    for stop in (1, 2, 700, 701, 5000):
        block = words[start:stop]
        expected = plain.unroll((block >> np.uint64(15)).astype(np.int64))
        np.testing.assert_array_equal(parts.decode(block, 15, table).time, expected)
        start = stop


def test_words_with_a_shift_out_of_range_are_refused(kernels: Any) -> None:
    none = kernels.ffi.NULL
    for shift in (-1, 4, 41, 64):
        status = kernels.lib.qk_words_decode(none, none, none, none, none, 0, shift, none)
        assert status == kernels.lib.QK_BAD_SIZE


@pytest.mark.parametrize("length", LENGTHS)
def test_correlation_with_a_string(kernels: Any, arena: Arena, length: int) -> None:
    for n_shifts in (0, 1, 7, 63, 64, 65, 129, 1023, 3000, 131_071):
        n = 40
        at, row = RNG.integers(-length - 5, n_shifts + 5, n), RNG.integers(0, 4, n, dtype=np.uint8)
        at[:2] = -(1 << 63), (1 << 63) - 1
        scores = RNG.integers(-128, 128, (4, length), dtype=np.int8)
        before = RNG.integers(-1000, 1000, n_shifts).astype(np.int32)
        expected = before.copy()
        for first, which in zip(at.tolist(), row.tolist(), strict=True):
            begin, end = max(0, -first), min(length, n_shifts - first)
            if begin < end:
                expected[first + begin : first + end] += scores[which, begin:end]
        total = arena.array("int32_t", before)
        clicks = arena.array("int64_t", at), arena.array("uint8_t", row), n
        string = arena.array("int8_t", scores), length
        assert kernels.lib.qk_correlate(total, n_shifts, *clicks, *string) == kernels.lib.QK_OK
        np.testing.assert_array_equal(arena.read(total, "i4", n_shifts), expected)


def test_a_row_of_scores_that_does_not_exist_is_refused(kernels: Any, arena: Arena) -> None:
    clicks = arena.array("int64_t", np.zeros(1, "i8")), arena.array("uint8_t", np.full(1, 4, "u1")), 1
    assert kernels.lib.qk_correlate(kernels.ffi.NULL, 1, *clicks, kernels.ffi.NULL, 1) == kernels.lib.QK_BAD_SIZE


def test_backward_and_labels(kernels: Any, arena: Arena) -> None:
    table = RNG.integers(0, 256, 256, dtype=np.uint8)
    for n in LENGTHS:
        ticks = np.cumsum(RNG.integers(-3, 10, n)).astype(np.int64)
        count = arena.array("uint64_t", np.zeros(1, "u8"))
        kernels.lib.qk_tags_backward(count, arena.array("int64_t", ticks), n)
        assert arena.read(count, "u8", 1)[0] == by_numpy(tags.count_backward, ticks)
        for top in (4, 16, 17, 256):
            labels = RNG.integers(0, top, n, dtype=np.uint8)
            at, largest = arena.array("uint8_t", labels), arena.array("uint8_t", np.zeros(1, "u1"))
            counts = arena.array("uint64_t", np.zeros(256, "u8"))
            kernels.lib.qk_tags_count(counts, at, n)
            np.testing.assert_array_equal(arena.read(counts, "i8", 256), by_numpy(tags.count_labels, labels))
            kernels.lib.qk_tags_relabel(at, n, largest, arena.array("uint8_t", table))
            expected = by_numpy(tags.relabel, labels, table)
            np.testing.assert_array_equal(arena.read(at, "u1", n), labels)
            assert arena.read(largest, "u1", 1)[0] == expected


@pytest.mark.parametrize("spacing", [0.2, 3, 1000])
@pytest.mark.parametrize("half_window", [0, 2, 500, -1, (1 << 63) - 1])
def test_match(kernels: Any, arena: Arena, spacing: float, half_window: int) -> None:
    for n_a in LENGTHS[:-2]:
        for n_b in {0, 1, n_a // 3, n_a, 2 * n_a + 1}:
            span = max(2, int(spacing * max(n_a, n_b)))
            a, b = sorted_ticks(n_a, span), sorted_ticks(n_b, span)
            room = min(n_a, n_b) + kernels.lib.QK_MATCH_ROOM
            in_a, in_b = (arena.array("int64_t", np.zeros(room, "i8")) for _ in range(2))
            count = arena.array("uint64_t", np.zeros(1, "u8"))
            at = arena.array("int64_t", a), n_a, arena.array("int64_t", b), n_b
            assert kernels.lib.qk_tags_match(in_a, in_b, room, count, *at, half_window) == kernels.lib.QK_OK
            n = int(arena.read(count, "u8", 1)[0])
            expected = by_numpy(tags.match, a, b, half_window)
            for pointer, indices in zip((in_a, in_b), expected, strict=True):
                np.testing.assert_array_equal(arena.read(pointer, "i8", n), indices)
        arena.check()
        arena.used.clear()


def test_match_of_many(kernels: Any, arena: Arena) -> None:
    a, b = sorted_ticks(LENGTHS[-1], 10**6), sorted_ticks(LENGTHS[-1] - 5, 10**6)
    room = b.size + kernels.lib.QK_MATCH_ROOM
    in_a, in_b = (arena.array("int64_t", np.zeros(room, "i8")) for _ in range(2))
    count = arena.array("uint64_t", np.zeros(1, "u8"))
    at = arena.array("int64_t", a), a.size, arena.array("int64_t", b), b.size
    assert kernels.lib.qk_tags_match(in_a, in_b, room, count, *at, 3) == kernels.lib.QK_OK
    for pointer, indices in zip((in_a, in_b), by_numpy(tags.match, a, b, 3), strict=True):
        assert arena.read(count, "u8", 1)[0] == indices.size
        np.testing.assert_array_equal(arena.read(pointer, "i8", indices.size), indices)


def test_match_without_room_is_refused(kernels: Any) -> None:
    one = kernels.ffi.new("int64_t[1]")
    count = kernels.ffi.new("uint64_t *")
    assert kernels.lib.qk_tags_match(one, one, 1, count, one, 1, one, 1, 0) == kernels.lib.QK_NO_ROOM


@pytest.mark.parametrize("spacing", [0.2, 1000])
def test_merge(kernels: Any, arena: Arena, spacing: float) -> None:
    for n_a in LENGTHS:
        for n_b in {0, 1, n_a, n_a // 2, 3 * n_a}:
            span = max(2, int(spacing * max(n_a, n_b)))
            a, b = sorted_ticks(n_a, span), sorted_ticks(n_b, span)
            labels = RNG.integers(0, 256, n_a + n_b, dtype=np.uint8)
            ticks_at = arena.array("int64_t", np.zeros(n_a + n_b, "i8"))
            labels_at = arena.array("uint8_t", np.zeros(n_a + n_b, "u1"))
            first = arena.array("int64_t", a), arena.array("uint8_t", labels[:n_a]), n_a
            second = arena.array("int64_t", b), arena.array("uint8_t", labels[n_a:]), n_b
            assert kernels.lib.qk_tags_merge(ticks_at, labels_at, *first, *second) == kernels.lib.QK_OK
            ticks, merged = by_numpy(tags.merge, [(a, labels[:n_a]), (b, labels[n_a:])])
            np.testing.assert_array_equal(arena.read(ticks_at, "i8", n_a + n_b), ticks)
            np.testing.assert_array_equal(arena.read(labels_at, "u1", n_a + n_b), merged)


def test_settle(kernels: Any, arena: Arena) -> None:
    for n in LENGTHS:
        ticks = np.sort(RNG.integers(0, 10 * n + 1, n)) + RNG.integers(-20, 20, n)
        labels = RNG.integers(0, 256, n, dtype=np.uint8)
        ticks_at, labels_at = arena.array("int64_t", ticks), arena.array("uint8_t", labels)
        assert kernels.lib.qk_tags_settle(ticks_at, labels_at, n, n * 100) == kernels.lib.QK_OK
        order = np.argsort(ticks, kind="stable")
        np.testing.assert_array_equal(arena.read(ticks_at, "i8", n), ticks[order])
        np.testing.assert_array_equal(arena.read(labels_at, "u1", n), labels[order])


def test_sort_of_what_is_far_from_sorted(kernels: Any) -> None:
    ticks, labels = RNG.integers(0, 500, 5000), RNG.integers(0, 256, 5000, dtype=np.uint8)
    for mine, theirs in zip(tags.sort(ticks, labels), by_numpy(tags.sort, ticks, labels), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_merge_of_any_number_of_streams(kernels: Any) -> None:
    for k in range(6):
        streams = [(sorted_ticks(50 + i, 60), np.full(50 + i, i, dtype=np.uint8)) for i in range(k)]
        for mine, theirs in zip(tags.merge(streams), by_numpy(tags.merge, streams), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_other_types_and_lengths_are_refused(tier: str) -> None:
    ticks, labels = np.arange(5), np.zeros(5, dtype=np.uint8)
    for call in (
        lambda: tags.sort(ticks, labels[:4]),
        lambda: tags.merge([(ticks, labels), (ticks[:3], labels)]),
        lambda: tags.merge([(ticks.astype(np.int32), labels)]),
        lambda: tags.match(ticks, ticks.astype(np.uint64), 1),
        lambda: tags.match(ticks.reshape(5, 1), ticks, 1),
        lambda: tags.relabel(labels, labels),
        lambda: tags.count_labels(ticks),
        lambda: tags.count_backward(labels),
    ):
        with pytest.raises(KernelError):
            call()


def test_arrays_that_do_not_belong_together_are_refused(kernels: Any) -> None:
    table, scores = np.zeros(31, dtype=np.uint8), np.zeros((4, 5), dtype=np.int8)
    with pytest.raises(KernelError, match="lengths differ"):
        tags.decode_words(np.zeros(3, dtype=np.uint64), 10, table, 0, 0)
    for at, known in ((np.zeros(2, "i8"), scores), (np.zeros(3, "i8"), scores[:3])):
        with pytest.raises(KernelError, match="lengths differ"):
            tags.correlate(np.zeros(9, dtype=np.int32), at, np.zeros(3, dtype=np.uint8), known)


TICKS = st.lists(st.integers(-30, 30), max_size=40).map(lambda x: np.array(sorted(x), dtype=np.int64))


@FEW
@given(a=TICKS, b=TICKS, half_window=st.integers(0, 12))
def test_match_with_repetitions_and_ties(kernels: Any, a: Any, b: Any, half_window: int) -> None:
    mine = tags.match(a, b, half_window)
    theirs = by_numpy(tags.match, a, b, half_window)
    for x, y in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(x, y)


@FEW
@given(a=TICKS, b=TICKS, half_window=st.integers(0, 12))
def test_pairs_are_one_to_one_and_each_others_nearest(kernels: Any, a: Any, b: Any, half_window: int) -> None:
    in_a, in_b = tags.match(a, b, half_window)
    assert (np.diff(in_a) > 0).all()
    assert (np.diff(in_b) > 0).all()
    for i, j in zip(in_a.tolist(), in_b.tolist(), strict=True):
        away = abs(int(a[i]) - int(b[j]))
        assert away <= half_window
        assert away == np.abs(a[i] - b).min() == np.abs(b[j] - a).min()


def test_lookup(kernels: Any, arena: Arena) -> None:
    for n in LENGTHS:
        ticks, labels = sorted_ticks(n, 3 * n + 1), RNG.integers(0, 200, n, dtype=np.uint8)
        for wanted in (sorted_ticks(n // 2 + 3, 4 * n + 9), RNG.permutation(ticks)[:200]):
            out = arena.buffer(wanted.size)
            held = arena.array("int64_t", ticks), arena.array("uint8_t", labels), n, 255
            at = arena.array("int64_t", wanted), wanted.size
            assert kernels.lib.qk_tags_lookup(out, *at, *held) == kernels.lib.QK_OK
            first = dict(zip(ticks.tolist()[::-1], labels.tolist()[::-1], strict=True))
            expected = [first.get(tick, 255) for tick in wanted.tolist()]
            assert arena.read(out, "u1", wanted.size).tolist() == expected
            assert by_numpy(tags.lookup, ticks, labels, wanted, 255).tolist() == expected
