"""Whole numbers in text, exact integer rescaling: against Python's own integers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkdpp.core.errors import FormatError
from qkdpp.sources import number_text
from qkdpp.sources.batches import Tally
from qkdpp.sources.integers import scaled
from qkdpp.sources.number_text import hex_words, number_rows

INT64 = st.integers(-(2**63) + 1, 2**63 - 1)


def rows_of(text: bytes, columns: int, tally: Tally | None = None) -> list[list[int]]:
    blocks = number_rows(io.BytesIO(text), Path("run.txt"), columns, tally or Tally())
    return [row for block in blocks for row in block.tolist()]


@given(
    st.lists(st.tuples(INT64, INT64), max_size=30),
    st.sampled_from([" ", "\t", ",", ";", " , "]),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
    st.booleans(),
)
def test_every_int64_survives(rows: list[tuple[int, int]], separator: str, end: str, last: bool) -> None:
    text = end.join(f"{a}{separator}{b}" for a, b in rows) + (end if last else "")
    assert rows_of(text.encode(), 2) == [list(row) for row in rows]


def test_blocks_are_cut_at_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_text, "BLOCK_BYTES", 7)
    rows = [[i, i**7] for i in range(60)]
    assert rows_of("".join(f"{a} {b}\n" for a, b in rows).encode(), 2) == rows


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"1 2\n3 4.5\n", 2),
        (b"1 2\n\n3\n", 3),
        (b"1 2 3\n", 1),
        (b"1 2\n- 4\n", 2),
        (b"1 2\n3 --4\n", 2),
        (b"1 2\n3 4-\n", 2),
        (b"1 2\n3 9223372036854775808\n", 2),
        (b"1 2\n3 100000000000000000000\n", 2),
        (b"1 2\n1e3 4\n", 2),
        (b"1 2\n3 4 x", 2),
    ],
)
def test_anything_else_is_refused_with_its_line(text: bytes, line: int) -> None:
    with pytest.raises(FormatError, match=f"line {line}:"):
        rows_of(text, 2)


@pytest.mark.parametrize("cut", [b"3", b"3 ", b"-"])
def test_a_cut_last_line_is_booked(cut: bytes) -> None:
    tally = Tally()
    assert rows_of(b"1 2\n" + cut, 2, tally) == [[1, 2]]
    assert tally.truncated_bytes == len(cut)
    with pytest.raises(FormatError, match="cut"):
        rows_of(b"1 2\n" + cut, 2, Tally(strict=True))


def test_a_file_without_line_ends_does_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_text, "BLOCK_BYTES", 1 << 12)
    with pytest.raises(FormatError, match="line longer"):
        rows_of(b"1" * (1 << 14), 2)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.booleans())
def test_hexadecimal_words(words: list[int], upper: bool) -> None:
    text = "".join(f"{word:016X}\n" if upper else f"{word:016x}\n" for word in words)
    found = [int(w) for block in hex_words(io.BytesIO(text.encode()), Path("x"), 16, Tally()) for w in block]
    assert found == words


@given(st.lists(INT64, max_size=20), st.integers(1, 10**18), st.integers(1, 10**18), st.booleans())
def test_rescaling_is_exact_or_refused(values: list[int], numerator: int, denominator: int, nearest: bool) -> None:
    shift = denominator // 2 if nearest else 0
    exact = [(v * numerator + shift) // denominator if numerator != denominator else v for v in values]
    array = np.array(values, dtype=np.int64)
    if all(abs(v) < 2**63 for v in exact):
        assert scaled(array, numerator, denominator, nearest=nearest).tolist() == exact
    else:
        with pytest.raises(OverflowError):
            scaled(array, numerator, denominator, nearest=nearest)
