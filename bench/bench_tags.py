"""Reading PicoQuant T2 against ptufile, and gating."""

import numpy as np
import ptufile
import pytest

from qkdpp.core.tags import TimeTags
from qkdpp.sources import open_recording, read_all, write_recording

N = 1 << 20


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(1)
    tags = TimeTags(
        ticks=np.cumsum(rng.integers(1, 2_000_000, N)).astype(np.int64),
        channel=rng.integers(0, 4, N, dtype=np.uint8),
        channel_ids=(1, 2, 3, 4),
        tick_as=1_000_000,
    )
    name = tmp_path_factory.mktemp("tags") / "tags.ptu"
    write_recording(name, [tags], format="ptu")
    return name


def test_read_t2(rated, path):
    rated("tag", N, lambda: read_all(open_recording(path)))


def test_read_t2_peer_ptufile(rated, path):
    def read():
        with ptufile.PtuFile(path) as file:
            return file.decode_records()

    rated("tag", N, read)
