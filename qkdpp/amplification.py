"""Privacy amplification: both parties hash the verified key with one fresh matrix (I | T), T a Toeplitz matrix.

Assumes that correction and verification have ended, the length is fixed, and
every earlier gate has verified: the caller puts a gate before this stage and
one after it (``docs/security.md``, order of a block). These matrices are a
universal_2 family (proof: ``docs/notes/toeplitz.md``), so
l = Hmin - 2 log2(1 / (2 eps_PA)) bits are eps_PA-close to uniform. The seed is
drawn here and nowhere earlier, serves one key, and is sent in chunks.
"""

from __future__ import annotations

from typing import ClassVar

from qkdpp.core.bits import Bits, n_bytes
from qkdpp.core.entropy import Entropy, random_bits
from qkdpp.core.errors import LocalProtocolError, RemoteProtocolError
from qkdpp.core.stage import Message, Stage, receive, send
from qkdpp.kernels import modified_seed_bits, toeplitz_hash_modified

CHUNK_BYTES = 1 << 20


class AmplificationSeed(Message, frozen=True, kw_only=True):
    """Alice to Bob: the next bytes of the packed seed, n - 1 bits, none if l = n. Random; nothing of a key leaks."""

    max_bytes: ClassVar[int] = CHUNK_BYTES + 64
    data: bytes


def seed_bits(n_bits: int, out_bits: int) -> int:
    """Bits of the seed that hashes ``n_bits`` to ``out_bits``. Raises LocalProtocolError unless 1 <= out <= n."""
    if not 1 <= out_bits <= n_bits:
        raise LocalProtocolError(f"cannot amplify {n_bits} bits to {out_bits}; zero key ends the block before")
    return modified_seed_bits(n_bits, out_bits)


def chunk_sizes(n: int) -> list[int]:
    """Bytes of each message of a seed of ``n`` bits."""
    total = n_bytes(n)
    return [min(CHUNK_BYTES, total - start) for start in range(0, total, CHUNK_BYTES)]


def amplify(key: Bits, out_bits: int, seed: Bits) -> Bits:
    """The hash of ``key`` under ``seed`` (``seed_bits(key.n, out_bits)`` bits)."""
    return Bits(toeplitz_hash_modified(key.words, key.n, seed.words, out_bits), out_bits)


def alice(key: Bits, out_bits: int, *, entropy: Entropy) -> Stage[Bits]:
    """Draws and sends the seed; returns ``out_bits`` bits of secret key."""
    seed = random_bits(entropy, seed_bits(key.n, out_bits))
    data = memoryview(seed.to_bytes())
    start = 0
    for size in chunk_sizes(seed.n):
        yield from send(AmplificationSeed(data=bytes(data[start : start + size])))
        start += size
    return amplify(key, out_bits, seed)


def bob(key: Bits, out_bits: int) -> Stage[Bits]:
    """Receives the seed; returns ``out_bits`` bits of secret key."""
    n = seed_bits(key.n, out_bits)
    data = bytearray()
    for size in chunk_sizes(n):
        chunk = yield from receive(AmplificationSeed)
        if len(chunk.data) != size:
            raise RemoteProtocolError(f"{len(chunk.data)} bytes of seed where {size} were due")
        data += chunk.data
    try:
        seed = Bits.from_bytes(data, n)
    except ValueError as error:
        raise RemoteProtocolError(f"amplification seed: {error}") from error
    return amplify(key, out_bits, seed)
