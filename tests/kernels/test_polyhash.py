"""Polynomial hash against galois, against OpenSSL's GHASH, and its algebra."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qkdpp.core.entropy import expand
from qkdpp.core.errors import KernelError
from qkdpp.kernels import PolyHasher, backend, poly_hash, poly_hash_many
from qkdpp.kernels.polyhash import finish, join, multiply, n_blocks, power

pytestmark = pytest.mark.usefixtures("tier")
AWKWARD = (0, 1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 511, 512, 513, 528, 529, 1023, 1024)
GOLDEN = "8f64a806faa7360f4f00e998491420ba"
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
relaxed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def stream(label: str, n: int) -> bytes:
    return expand(bytes(32), label, n)


def hash_by_definition(field: Any, key: bytes, message: bytes) -> bytes:
    """The sum of the module's docstring, term by term, in the independent field."""
    blocks = [message[i : i + 16].ljust(16, b"\0") for i in range(0, len(message), 16)]
    blocks.append(len(message).to_bytes(16, "little"))
    k = field(int.from_bytes(key, "little"))
    total = field(0)
    for i, block in enumerate(blocks):
        total += field(int.from_bytes(block, "little")) * k ** (len(blocks) - i)
    return int(total).to_bytes(16, "little")


@pytest.mark.parametrize("n", AWKWARD)
def test_definition(field: Any, n: int) -> None:
    key, message = stream("key", 16), stream("message", n)
    assert poly_hash(key, message) == hash_by_definition(field, key, message)


@pytest.mark.parametrize("key", [bytes(16), b"\1" + bytes(15), b"\xff" * 16, bytes(15) + b"\x80"])
def test_definition_at_special_keys(field: Any, key: bytes) -> None:
    for message in (b"\xff" * 48, bytes(48), bytes(15) + b"\x80" + bytes(32)):
        assert poly_hash(key, message) == hash_by_definition(field, key, message)


def test_product_and_power(field: Any) -> None:
    values = [0, 1, 2, 1 << 127, (1 << 128) - 1, *(int.from_bytes(stream(f"v{i}", 16), "little") for i in range(12))]
    for a in values:
        for b in values:
            assert multiply(a, b) == int(field(a) * field(b))
        assert power(a, 123_456_789) == int(field(a) ** 123_456_789)
        assert power(a, 0) == 1


@pytest.mark.parametrize("n", [16, 4096, 70_000, 1_000_001])
def test_openssl_ghash(n: int) -> None:
    """GCM hashes associated data by the same polynomial with the bits of each byte in the other order."""
    aes_key, nonce, message = stream("aes", 32), bytes(12), stream("data", n)
    ecb = Cipher(algorithms.AES(aes_key), modes.ECB()).encryptor()
    h, mask = ecb.update(bytes(16)), ecb.update(nonce + (1).to_bytes(4, "big"))
    tag = AESGCM(aes_key).encrypt(nonce, b"", message)
    ghash = bytes(a ^ b for a, b in zip(tag, mask, strict=True))
    hasher = PolyHasher(h.translate(REVERSED))
    hasher.update(message.translate(REVERSED) + bytes(-n % 16))
    hasher.update(((8 * n).to_bytes(8, "big") + bytes(8)).translate(REVERSED))
    assert hasher.state.value.to_bytes(16, "little").translate(REVERSED) == ghash


def test_golden_example_and_code_of_the_note() -> None:
    page = (Path(__file__).parents[2] / "docs" / "notes" / "authentication.md").read_text()
    assert poly_hash(bytes(range(16)), b"qkdpp").hex() == GOLDEN
    assert f"`{GOLDEN}`" in page
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    for n in AWKWARD:
        assert poly_hash(stream("key", 16), stream("note", n)) == names["poly_hash"](
            stream("key", 16), stream("note", n)
        )


@relaxed
@given(st.binary(max_size=700), st.lists(st.integers(0, 700), max_size=8))
def test_streaming_equals_one_call(message: bytes, cuts: list[int]) -> None:
    key = stream("key", 16)
    hasher = PolyHasher(key)
    edges = [0, *sorted(min(cut, len(message)) for cut in cuts), len(message)]
    for start, stop in pairwise(edges):
        hasher.update(memoryview(message)[start:stop])
    assert hasher.digest() == poly_hash(key, message)
    assert hasher.digest() == poly_hash(key, message), "asking twice changes nothing"


@relaxed
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_hash_goes_on_from_the_state_of_another(first: bytes, second: bytes) -> None:
    key, start = stream("key", 16), PolyHasher(stream("key", 16))
    start.update(first + bytes(-len(first) % 16))
    resumed = PolyHasher(key, start.state)
    resumed.update(second)
    assert resumed.digest() == poly_hash(key, first + bytes(-len(first) % 16) + second)


@relaxed
@given(st.lists(st.binary(max_size=100), max_size=5))
def test_join_of_streams_is_the_stream_of_padded_parts(parts: list[bytes]) -> None:
    key = stream("key", 16)
    hashers = [PolyHasher(key) for _ in parts]
    for hasher, part in zip(hashers, parts, strict=True):
        hasher.update(part)
    text = b"".join(part + bytes(-len(part) % 16) for part in parts)
    state = join(key, [hasher.state for hasher in hashers])
    assert state.n_blocks == len(text) // 16
    assert finish(key, state, len(text)) == poly_hash(key, text)


@relaxed
@given(st.binary(max_size=64), st.binary(max_size=64))
def test_equal_only_for_equal_messages(a: bytes, b: bytes) -> None:
    """A collision has probability 5 / 2^128; zero bytes at the end do not make one."""
    key = stream("key", 16)
    assert (poly_hash(key, a) == poly_hash(key, b)) == (a == b)
    assert poly_hash(key, a) != poly_hash(key, a + b"\0")


def test_misaligned_and_writable_buffers() -> None:
    data = bytearray(stream("buffer", 2000))
    key = stream("key", 16)
    for offset in range(9):
        assert poly_hash(key, memoryview(data)[offset : offset + 1500]) == poly_hash(key, bytes(data[offset:])[:1500])


def test_arrays_are_their_bytes(tier: str) -> None:
    words, key = np.arange(40, dtype="<u8"), np.arange(2, dtype="<u8")
    for n in (0, 1, 16, 33, 320):
        assert poly_hash(key, words, n) == poly_hash(key.tobytes(), words.tobytes()[:n])
    assert poly_hash(key, words) == poly_hash(key.tobytes(), words.tobytes())
    assert poly_hash(key, words[:0]) == poly_hash(key.tobytes(), b"")
    for wrong in (-1, 321):
        with pytest.raises(KernelError, match="320 are there"):
            poly_hash(key, words, wrong)
    with pytest.raises(KernelError, match="in a row"):
        poly_hash(key, words[::2])


def test_threads_do_not_share_digests() -> None:
    key = stream("key", 16)
    messages = [stream(str(i), 20_000) for i in range(8)]
    repeats = 500 if backend() == "c" else 2
    with ThreadPoolExecutor(4) as threads:
        hashes = list(threads.map(lambda i: poly_hash(key, messages[i % 8]), range(8 * repeats)))
    assert hashes == [poly_hash(key, message) for message in messages] * repeats


@relaxed
@given(st.lists(st.binary(max_size=80), max_size=12), st.integers(0, 9))
def test_many_messages_are_hashed_one_by_one(messages: list[bytes], start: int) -> None:
    key = stream("key", 16)
    edges = np.cumsum([start, *(len(message) for message in messages)], dtype=np.int64)
    hashes = poly_hash_many(key, bytes(start) + b"".join(messages) + b"not asked for", edges)
    assert hashes.shape == (len(messages), 16)
    assert [row.tobytes() for row in hashes] == [poly_hash(key, message) for message in messages]


@pytest.mark.parametrize("edges", [[0, 11], [-1, 5], [5, 4], [0, 8, 7], []])
def test_edges_that_leave_the_buffer_are_refused(edges: list[int]) -> None:
    with pytest.raises(KernelError, match="edges"):
        poly_hash_many(bytes(16), bytes(10), np.array(edges, dtype=np.int64))
    with pytest.raises(KernelError, match="edges"):
        poly_hash_many(bytes(16), bytes(10), np.zeros(2, dtype=np.uint64))


def test_block_count_is_the_degree() -> None:
    assert [n_blocks(n) for n in (0, 1, 16, 17, 32)] == [1, 2, 2, 3, 3]


@pytest.mark.parametrize("n", [0, 15, 17, 32])
def test_keys_of_other_lengths_are_refused(n: int) -> None:
    with pytest.raises(KernelError, match="16 bytes"):
        poly_hash(bytes(n), b"")


def test_representations_show_no_secret() -> None:
    hasher = PolyHasher(b"\xab" * 16)
    hasher.update(b"secret")
    assert repr(hasher) == "PolyHasher(n_bytes=6)"
    assert repr(hasher.state) == "PolyState(n_blocks=1)"
