"""Which pulses belong to the public string: by division, and by looking up its frames in sorted pulses."""

import numpy as np
import pytest

from qkdpp.core.sync_string import SyncString


@pytest.mark.parametrize(("frame", "length"), [(1000, 100), (50, 50), (7, 1), (100_000, 3), (100_000, 99_999)])
@pytest.mark.parametrize(("n", "span"), [(0, 10), (1, 10**6), (1000, 1500), (20_000, 10**6), (5000, 10**7)])
def test_members_are_those_near_the_start_of_a_frame(frame: int, length: int, n: int, span: int) -> None:
    rng = np.random.default_rng(n)
    pulses = np.unique(rng.integers(0, span, n)).astype(np.int64) + int(rng.integers(0, 10**9))
    expected = [i for i, pulse in enumerate(pulses.tolist()) if pulse % frame < length]
    string = SyncString(seed=bytes(32), length=length, frame=frame)
    assert string.members(pulses).tolist() == expected
    assert np.flatnonzero(string.mask(pulses)).tolist() == expected
