"""Damaged and random files end in our typed errors or are read: nothing else, whatever the reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recording_samples import mutated, samples

from qkdpp.core.errors import InputError
from qkdpp.sources import open_recording, read_all


def read(path: Path, **kwargs: object) -> bool:
    """Whether the file was read; anything but a typed error passes through."""
    try:
        tags = read_all(open_recording(path, **kwargs))  # type: ignore[arg-type]
    except InputError:
        return False
    assert tags.ticks.dtype == np.int64
    assert np.all(tags.ticks[1:] >= tags.ticks[:-1])
    return True


def fuzz(folder: Path, rounds: int, seed: int) -> tuple[int, int]:
    """``rounds`` damaged files, declared and undeclared in turn; how many were read and refused."""
    rng = np.random.default_rng(seed)
    stock = samples(folder)
    path = folder / "0"
    was_read = 0
    for i in range(rounds):
        name, kwargs, content = stock[i % len(stock)]
        path.write_bytes(mutated(rng, content))
        was_read += read(path, format=name, **kwargs) if i // len(stock) % 2 else read(path)
    return was_read, rounds - was_read


def test_the_stock_is_valid(tmp_path: Path) -> None:
    for name, kwargs, content in samples(tmp_path):
        (tmp_path / "0").write_bytes(content)
        assert read(tmp_path / "0", format=name, **kwargs), name


def test_damaged_files_end_in_typed_errors(tmp_path: Path) -> None:
    was_read, refused = fuzz(tmp_path, 4000, seed=20)
    assert was_read > 0
    assert refused > 0


@pytest.mark.slow
def test_two_hundred_thousand_damaged_files(tmp_path: Path) -> None:
    was_read, refused = fuzz(tmp_path, 200_000, seed=21)
    assert was_read + refused == 200_000
