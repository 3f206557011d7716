"""A T2 file gives the same tags and the same counts in every tier, all at once and in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qkdpp.core.tags import TimeTags, concatenate
from qkdpp.kernels import available, backend, use_backend
from qkdpp.sources import Recording, open_recording, read_all, write_recording

N = 300_000
"""More than two batches."""


@pytest.fixture(autouse=True)
def keep_tier() -> Iterator[None]:
    before = backend()
    yield
    use_backend(before)


def recorded(folder: Path, kind: str) -> Path:
    """A file whose tags are in order, few or many per millisecond, or go back a little or too far."""
    rng = np.random.default_rng(3)
    mean_ps = 20_000 if kind == "dense" else 1_000_000
    ticks = np.cumsum(rng.integers(1, 2 * mean_ps, N)).astype(np.int64)
    channel = rng.integers(0, 3, N, dtype=np.uint8)
    channel[200_000:] += 2
    tags = TimeTags(ticks=ticks, channel=channel, channel_ids=(4, 1, 2, 7, 9), tick_as=1_000_000)
    path = folder / f"{kind}.ptu"
    write_recording(path, [tags], format="ptu")
    if kind in {"swapped", "far"}:
        data = bytearray(path.read_bytes())
        words = np.frombuffer(data, dtype="<u4", offset=len(data) % 4)
        places = rng.integers(100_000, words.size - 2, 50) if kind == "swapped" else np.array([250_000])
        step = 1 if kind == "swapped" else 60_000
        for at in places.tolist():
            words[at], words[at - step] = words[at - step].copy(), words[at].copy()
        path.write_bytes(bytes(data))
    return path


def ids(tags: TimeTags) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(tags.channel_ids, dtype=np.int64)[tags.channel]


@pytest.mark.parametrize("kind", ["even", "dense", "swapped", "far"])
def test_every_tier_reads_the_same(tmp_path: Path, kind: str) -> None:
    path = recorded(tmp_path, kind)
    found: list[tuple[TimeTags, Recording]] = []
    for name in available():
        use_backend(name)
        for read in (read_all, lambda recording: concatenate(list(recording.chunks()))):
            recording = open_recording(path)
            found.append((read(recording), recording))
    expected, plain = found[-1]
    assert len(expected) > N - 1000
    assert (np.diff(expected.ticks) >= 0).all()
    assert (plain.stats.backward_steps > 0) == (kind in {"swapped", "far"})
    for tags, recording in found[:-1]:
        np.testing.assert_array_equal(tags.ticks, expected.ticks)
        np.testing.assert_array_equal(ids(tags), ids(expected))
        assert tags.channel_ids == expected.channel_ids
        assert tags.lost == expected.lost
        assert replace(recording.stats, warnings=()) == replace(plain.stats, warnings=())
        assert set(recording.stats.warnings) == set(plain.stats.warnings)
