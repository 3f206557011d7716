"""Privacy amplification: both hash alike, with the matrix that the sent seed defines; hostile chunks refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkdpp import amplification
from qkdpp.amplification import AmplificationSeed
from qkdpp.core.bits import Bits
from qkdpp.core.entropy import expand
from qkdpp.core.errors import LocalProtocolError, RemoteProtocolError
from qkdpp.core.stage import run_pair


class FixedEntropy:
    """Bytes from a public stream; counts what is drawn."""

    def __init__(self, label: str = "seed") -> None:
        self._label, self.drawn = label, 0

    def bytes(self, n: int) -> bytes:
        self.drawn += n
        return expand(bytes(32), self._label, n, self.drawn - n)


def random_key(n: int) -> Bits:
    return Bits.from_array(np.random.default_rng(n).integers(0, 2, n))


def amplify(key: Bits, out_bits: int, label: str = "seed") -> tuple[Bits, Bits, list[Any]]:
    return run_pair(amplification.alice(key, out_bits, entropy=FixedEntropy(label)), amplification.bob(key, out_bits))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.data(), st.integers(1, 9))
def test_both_apply_the_matrix_of_the_seed_that_was_sent(n: int, data: st.DataObject, chunk: int) -> None:
    out = data.draw(st.integers(1, n))
    key = random_key(n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(amplification, "CHUNK_BYTES", chunk)
        alice, bob, transcript = amplify(key, out)
    assert all(side == "alice" and isinstance(message, AmplificationSeed) for side, message in transcript)
    assert all(len(message.data) <= chunk for _, message in transcript)
    sent = b"".join(message.data for _, message in transcript)
    k = n - out
    seed = Bits.from_bytes(sent, n - 1 if k else 0).to_array().astype(np.int64)
    toeplitz = (
        seed[np.arange(out)[:, None] - np.arange(k)[None, :] + k - 1] if k else np.zeros((out, 0), dtype=np.int64)
    )
    matrix = np.hstack([np.eye(out, dtype=np.int64), toeplitz])
    expected = (matrix @ key.to_array().astype(np.int64)) & 1
    assert alice.equals(bob)
    assert alice.to_array().tolist() == expected.tolist()


def test_the_seed_is_drawn_in_the_stage_and_no_longer_than_needed() -> None:
    entropy = FixedEntropy()
    stage = amplification.alice(random_key(1000), 300, entropy=entropy)
    assert entropy.drawn == 0, "not before the stage runs"
    next(stage)
    assert entropy.drawn == (1000 - 1 + 7) // 8


def test_seeds_and_keys_differ_from_block_to_block() -> None:
    key = random_key(500)
    first, _, said = amplify(key, 200, "one")
    second, _, said_again = amplify(key, 200, "two")
    assert said[0][1].data != said_again[0][1].data
    assert not first.equals(second)


@pytest.mark.parametrize(("position", "least", "most"), [(3234, 850, 1150), (1234, 1, 1)])
def test_one_error_changes_about_half_of_the_key_or_one_bit(position: int, least: int, most: int) -> None:
    """The first l bits meet the identity: whether the keys are equal is for verification alone to say."""
    key = random_key(4000)
    flipped = key.to_array()
    flipped[position] ^= 1
    alice, bob, _ = run_pair(
        amplification.alice(key, 2000, entropy=FixedEntropy()), amplification.bob(Bits.from_array(flipped), 2000)
    )
    assert least <= (alice ^ bob).count_ones() <= most


def test_no_compression_needs_no_seed() -> None:
    key = random_key(100)
    alice, bob, transcript = amplify(key, 100)
    assert transcript == []
    assert alice.equals(key)
    assert bob.equals(key)


def test_a_seed_of_several_messages() -> None:
    n, out = 8 * amplification.CHUNK_BYTES + 1000, 1000
    alice, bob, transcript = amplify(random_key(n), out)
    assert [len(message.data) for _, message in transcript] == [amplification.CHUNK_BYTES, 125]
    assert alice.equals(bob)
    assert alice.n == out


@pytest.mark.parametrize(("n", "out"), [(10, 0), (10, 11), (0, 0), (5, -1)])
def test_lengths_that_cannot_be(n: int, out: int) -> None:
    with pytest.raises(LocalProtocolError, match="cannot amplify"):
        next(amplification.alice(Bits.zeros(n), out, entropy=FixedEntropy()))
    with pytest.raises(LocalProtocolError, match="cannot amplify"):
        next(amplification.bob(Bits.zeros(n), out))


@pytest.mark.parametrize("data", [b"", bytes(12), bytes(14), bytes(12) + b"\xff"])
def test_hostile_chunks(data: bytes) -> None:
    """100 bits to 32 need a seed of 99 bits: 13 bytes, the last five bits zero."""
    bob = amplification.bob(random_key(100), 32)
    next(bob)
    with pytest.raises(RemoteProtocolError):
        bob.send(AmplificationSeed(data=data))
