"""Codec of announcements: a slow reader of the format page, the entropy of the gaps, hostile input."""

import tracemalloc
from collections.abc import Callable
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkdpp.kernels import decode_bits, decode_slots, encode_bits, encode_slots

LIMIT = (1 << 62) - 1


def entropy(p: float) -> float:
    return -p * log2(p) - (1 - p) * log2(1 - p)


def reader_of_the_format_page() -> dict[str, Callable[[bytes, int], list[int]]]:
    """The slow reader printed in docs/formats/wire.md."""
    page = (Path(__file__).parents[2] / "docs" / "formats" / "wire.md").read_text()
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    return names


SLOW = reader_of_the_format_page()
slot_sets = st.lists(st.integers(0, 400), unique=True, max_size=200).map(sorted)
wide_slots = st.lists(st.integers(0, LIMIT), unique=True, min_size=1, max_size=30).map(sorted)
shifted_slots = st.tuples(slot_sets, st.integers(0, 1 << 61)).map(lambda pair: [slot + pair[1] for slot in pair[0]])


@given(slot_sets | wide_slots | shifted_slots)
def test_slots_round_trip_and_slow_reader(slots: list[int]) -> None:
    array = np.array(slots, dtype=np.int64)
    data = encode_slots(array)
    decoded = decode_slots(data, len(slots), max(slots, default=0))
    assert decoded.dtype == np.int64
    assert decoded.tolist() == slots
    assert SLOW["read_slots"](data, len(slots)) == slots


@given(st.lists(st.integers(0, 1), max_size=300), st.sampled_from([1, 7, 30]))
def test_flags_round_trip_and_slow_reader(flags: list[int], repeat: int) -> None:
    flags = [flag for flag in flags for _ in range(repeat)]
    data = encode_bits(np.array(flags, dtype=np.uint8))
    decoded = decode_bits(data, len(flags))
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == flags
    assert SLOW["read_bits"](data, len(flags)) == flags
    assert len(data) <= (len(flags) + 7) // 8 + 1


@pytest.mark.parametrize(
    "p", [1e-6, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.2, 0.3, 0.38, 0.45, 0.5, 0.55, 0.62, 0.7, 0.9, 0.99, 1.0]
)
def test_slots_cost_the_entropy_of_their_gaps(p: float) -> None:
    n = 100_000
    slots = np.cumsum(np.random.default_rng(7).geometric(p, n)) - 1
    data = encode_slots(slots)
    assert np.array_equal(decode_slots(data, n, int(slots[-1])), slots)
    ideal = n * entropy(p) / p if p < 1 else 0.0
    assert 8 * len(data) <= 1.05 * ideal + 8 * 30


@pytest.mark.parametrize("p", [0.001, 0.01, 0.1, 0.25, 0.38, 0.5, 0.75, 0.9, 0.999])
def test_flags_cost_their_entropy(p: float) -> None:
    n = 200_000
    flags = (np.random.default_rng(8).random(n) < p).astype(np.uint8)
    data = encode_bits(flags)
    assert np.array_equal(decode_bits(data, n), flags)
    ideal = n * entropy(float(flags.mean()))
    assert 8 * len(data) <= 1.05 * ideal + 8 * 20
    assert len(data) <= n // 8 + 1


def test_an_outage_costs_a_few_bytes() -> None:
    """One gap of ten seconds at 625 MHz among gaps of a thousand slots."""
    n = 20_000
    gaps = np.random.default_rng(9).geometric(1e-3, n)
    steady = encode_slots(np.cumsum(gaps))
    gaps[n // 2] += 6_250_000_000
    assert len(encode_slots(np.cumsum(gaps))) <= len(steady) + 16


@pytest.mark.parametrize("slots", [[3, 3], [3, 2], [-1], [-5, 2], [LIMIT + 1], [0, LIMIT + 1]])
def test_slots_that_cannot_be(slots: list[int]) -> None:
    with pytest.raises(ValueError, match="increase strictly"):
        encode_slots(np.array(slots, dtype=np.int64))


def test_golden_examples_of_the_format_page() -> None:
    assert encode_slots(np.array([5, 9, 10, 30], dtype=np.int64)).hex() == "0102000000000e010b0a"
    assert (
        encode_slots(np.array([0, 1, 2, 4, 5], dtype=np.int64)).hex()
        == "02" + "0000000000000000" + "0600000000000000" + "01000000000201"
    )
    flags = np.zeros(400, dtype=np.uint8)
    flags[[5, 50]] = 1
    assert encode_bits(flags).hex() == "010200000004000000000901000302"
    assert encode_bits(np.array([1, 0, 1, 1], dtype=np.uint8)).hex() == "000d"


def test_only_zero_bytes_decode_to_no_slots() -> None:
    assert decode_slots(b"", 0, 100).size == 0
    with pytest.raises(ValueError, match="after the last"):
        decode_slots(b"\1", 0, 100)


@settings(max_examples=300)
@given(st.data())
def test_damaged_input_is_refused_or_reads_as_other_values(data: st.DataObject) -> None:
    """Nothing but ValueError; whatever is accepted obeys the contract."""
    slots = np.array(data.draw(slot_sets), dtype=np.int64)
    n = slots.size
    damaged = bytearray(encode_slots(slots))
    for _ in range(data.draw(st.integers(1, 3))):
        action = data.draw(st.sampled_from(["flip", "cut", "add"]))
        if action == "flip" and damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        elif action == "cut":
            del damaged[data.draw(st.integers(0, len(damaged))) :]
        else:
            damaged += data.draw(st.binary(max_size=4))
    try:
        decoded = decode_slots(bytes(damaged), n, 450)
    except ValueError:
        return
    assert decoded.size == n
    assert np.all(np.diff(decoded) > 0)
    assert n == 0 or 0 <= decoded[0] <= decoded[-1] <= 450


@settings(max_examples=500)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, LIMIT))
def test_any_bytes(data: bytes, n: int, max_slot: int) -> None:
    try:
        decoded = decode_slots(data, n, max_slot)
    except ValueError:
        pass
    else:
        assert decoded.size == n
        assert np.all(np.diff(decoded, prepend=-1) > 0)
        assert n == 0 or decoded[-1] <= max_slot
    try:
        flags = decode_bits(data, n)
    except ValueError:
        pass
    else:
        assert flags.size == n
        assert not np.any(flags > 1)


NONE = "00000000"


@pytest.mark.parametrize(
    ("data", "n"),
    [
        ("01" + "20" + NONE + "03" + "03" * 32, 2),  # remainders of 2^32 - 1, beyond the limit
        ("01" + "00" + "01000000" + "000000000000" + "01" + "ffffffffffffff3f", 1),  # a long quotient of 2^62
        ("01" + "00" + "01000000" + "000000000000" + "01" + "2f00000000000000", 1),  # a long quotient that is short
        ("01" + "00" + NONE + "000000000000" + "01", 1),  # a long quotient announced and missing
        ("01" + "00" + "01000000" + "01" + "3000000000000000", 1),  # a long quotient nobody announced
        ("01" + "00" + NONE + "00000000000000" + "01", 1),  # a unary run beyond the escape
        ("02" + "0000000000000000" + "ffffffffffffff3f" + "00" + NONE + "01", 1),  # dense with a span of 2^62
        ("02" + "0000000000000000" + "0200000000000000" + "00" + NONE + "01", 1),  # more missing than present
        ("02" + "ffffffffffffffff" + "0100000000000000", 1),  # dense beyond the limit
        ("01" + "ff" + NONE + "0101", 1),  # parameter out of range
        ("01" + "00" + NONE + "03", 1),  # two ends where one is due
        ("01" + "00" + NONE + "0100", 1),  # bytes after the last end
        ("01" + "01" + NONE + "01" + "02", 1),  # padding of a plane not zero
        ("01" + "00" + "ffffffff" + "01", 1),  # more long quotients than gaps
        ("03" + "00" + NONE + "01", 1),  # unknown form
        ("01", 1),
        ("", 1),
    ],
)
def test_hostile_slots(data: str, n: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_slots(bytes.fromhex(data), n, 1000)


@pytest.mark.parametrize(
    ("data", "n"), [("", 0), ("00ff", 4), ("0001", 16), ("01ffffffff000000000001", 10), ("01010000", 10), ("0300", 8)]
)
def test_hostile_flags(data: str, n: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_bits(bytes.fromhex(data), n)


def test_a_short_code_for_many_values_takes_no_memory(tier: str) -> None:
    code = bytes.fromhex("01" + "00" + NONE + "01")
    tracemalloc.start()
    try:
        for decode in (
            lambda: decode_slots(code, 1 << 30, LIMIT),
            lambda: decode_bits(b"\1\0\0\0\x20" + code, 1 << 30),
        ):
            with pytest.raises(ValueError, match=r"."):
                decode()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_counts_out_of_range() -> None:
    for n in (-1, 1 << 40):
        with pytest.raises(ValueError, match="range"):
            decode_slots(b"\1\0\1", n, 10)
        with pytest.raises(ValueError, match="range"):
            decode_bits(b"\0\1", n)
    with pytest.raises(ValueError, match="range"):
        decode_slots(b"\1\0\1", 1, -1)
