"""Public expansion: AES-256-CTR from the definition, any position on its own."""

import hashlib

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from qkdpp.core.entropy import expand, expand_blocks

SEED = bytes(range(32))


def whole_stream(label: str, n: int) -> bytes:
    key = hashlib.sha256(label.encode() + b"\0" + SEED).digest()
    blocks = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return b"".join(blocks.update(i.to_bytes(16, "big")) for i in range(-(-n // 16)))[:n]


@pytest.mark.parametrize(("start", "n"), [(0, 0), (0, 1), (15, 2), (16, 16), (5, 100), (1000, 33)])
def test_any_position_equals_the_stream_from_its_start(start, n):
    assert expand(SEED, "x", n, start) == whole_stream("x", start + n)[start:]


def test_blocks_by_position():
    positions = np.array([0, 7, 3, 2**40], dtype=np.int64)
    rows = expand_blocks(SEED, "x", positions)
    for position, row in zip(positions.tolist(), rows, strict=True):
        assert row.tobytes() == expand(SEED, "x", 16, 16 * position)


def test_labels_and_seeds_separate_streams():
    assert expand(SEED, "a", 32) != expand(SEED, "b", 32)
    assert expand(SEED, "a", 32) != expand(bytes(32), "a", 32)
    with pytest.raises(ValueError, match="32 bytes"):
        expand(b"short", "a", 1)
