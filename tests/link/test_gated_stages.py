"""Verification and amplification between gates, in the order of docs/security.md, under attack."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_stage import FixedEntropy

from qkdpp import amplification, verification
from qkdpp.core.abort import Aborted
from qkdpp.core.bits import Bits
from qkdpp.core.ledger import Ledger
from qkdpp.core.stage import Stage, seal, unseal
from qkdpp.link.endpoint import Endpoint
from qkdpp.link.frame import decode
from qkdpp.link.memory import Tamper, connect
from qkdpp.link.pool import EphemeralPool

N, FRAME, OUT = 600, 50, 200
CLEAR = np.zeros(N // FRAME, dtype=np.bool_)
KEY = np.random.default_rng(1).integers(0, 2, N, dtype=np.uint8)


def alice(key: Bits, amplified: list[str]) -> Stage[bytes]:
    yield from unseal("corrected")
    verified = yield from verification.alice(
        key, FRAME, CLEAR, eps_cor=1e-9, max_dropped=3, entropy=FixedEntropy("a"), ledger=Ledger()
    )
    yield from seal("length")
    yield from unseal("length")
    amplified.append("alice")
    secret = yield from amplification.alice(verified.key, OUT, entropy=FixedEntropy("b"))
    yield from seal("confirmation")
    yield from unseal("confirmation")
    return secret.to_bytes()


def bob(key: Bits) -> Stage[bytes]:
    yield from seal("corrected")
    verified = yield from verification.bob(key, FRAME, CLEAR, eps_cor=1e-9, max_dropped=3, ledger=Ledger())
    yield from unseal("length")
    yield from seal("length")
    secret = yield from amplification.bob(verified.key, OUT)
    yield from unseal("confirmation")
    yield from seal("confirmation")
    return secret.to_bytes()


def run(errors: list[int], tamper: Tamper | None) -> tuple[Endpoint[bytes], Endpoint[bytes], list[str]]:
    theirs = KEY.copy()
    theirs[errors] ^= 1
    pools = EphemeralPool.pair(9, FixedEntropy("pool"))
    amplified: list[str] = []
    ends = (
        Endpoint(alice(Bits.from_array(KEY), amplified), "alice", 5, pools[0]),
        Endpoint(bob(Bits.from_array(theirs)), "bob", 5, pools[1]),
    )
    connect(*ends, tamper)
    return *ends, amplified


def test_undisturbed_with_two_bad_frames() -> None:
    a, b, amplified = run([70, 599], None)
    assert a.result == b.result
    assert isinstance(a.result, bytes)
    assert len(a.result) == OUT // 8
    assert amplified == ["alice"]


@settings(max_examples=250, deadline=None)
@given(
    st.lists(st.integers(0, N - 1), max_size=3),
    st.sampled_from(["alice", "bob"]),
    st.integers(0, 12),
    st.sampled_from(["flip", "cut", "drop", "body"]),
    st.integers(0, 10**6),
)
def test_disturbed_anywhere(errors: list[int], side: str, index: int, deed: str, choice: int) -> None:
    hit: list[str] = []

    def tamper(sender: str, i: int, frame: bytes) -> list[bytes]:
        if (sender, i) != (side, index):
            return [frame]
        hit.append(decode(frame).kind.name)
        damaged = bytearray(frame)
        if deed == "drop":
            return []
        if deed == "cut":
            return [frame[: choice % len(frame)]]
        first = 168 if deed == "body" else 0
        position = first + choice % (8 * len(frame) - first)
        damaged[position >> 3] ^= 1 << (position & 7)
        return [bytes(damaged)]

    a, b, amplified = run(errors, tamper)
    aborted = [isinstance(end.result, Aborted) for end in (a, b)]
    if not any(aborted):
        assert a.result == b.result
    assert not hit or any(aborted), "a disturbed frame costs the block"
    gate = [record.name for record in a.transcript if record.side == "bob"]
    assert not amplified or "length" in gate, "the seed is drawn behind the gate only"
