"""Gate tags: the text by its definition, one hash over all of it, pads used once, cost of new frames only."""

import struct

import pytest
from toy_stage import FixedEntropy

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.errors import AuthenticationError, RemoteProtocolError
from qkdpp.kernels import poly_hash
from qkdpp.link.auth import Authenticator
from qkdpp.link.frame import Frame, Kind
from qkdpp.link.pool import EphemeralPool


def frame(seq: int, ack: int, n: int) -> bytes:
    body = FixedEntropy(f"{seq}/{ack}").bytes(n)
    return Frame(kind=Kind.MESSAGE, block=9, seq=seq, ack=ack, body=body).encode()


def pad16(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def text(role: int, gate: bytes, alice: list[bytes], bob: list[bytes]) -> bytes:
    """docs/notes/authentication.md: header, Alice's frames, Bob's frames, each filled up to blocks."""
    head = b"qkdpp gate 1" + struct.pack("<BQIIB", role, 9, len(alice), len(bob), len(gate)) + gate
    return b"".join(pad16(part) for part in [head, *alice, *bob])


def pair(n_tags: int = 4) -> tuple[Authenticator, Authenticator, EphemeralPool, EphemeralPool]:
    pools = EphemeralPool.pair(n_tags, FixedEntropy("pool"))
    return Authenticator(pools[0], "alice", 9), Authenticator(pools[1], "bob", 9), *pools


def test_tag_by_its_definition() -> None:
    alice, _, pool, _ = pair()
    said, heard = [frame(0, 0, 3), frame(1, 2, 100)], [frame(0, 0, 16), frame(1, 1, 0)]
    for data in said:
        alice.append("alice", data)
    for data in heard:
        alice.append("bob", data)
    body = alice.seal("sifting")
    index, pad = 0, EphemeralPool.pair(4, FixedEntropy("pool"))[0].take()[1]
    digest = poly_hash(pool.hash_key, text(0, b"sifting", said, heard))
    assert body == struct.pack("<Q", index) + bytes(a ^ b for a, b in zip(digest, pad, strict=True))


def test_accepts_the_peers_view_of_a_prefix() -> None:
    """The receiver may have said more than the sealer had heard; the tag says how much it covers."""
    alice, bob, _, _ = pair()
    for auth in (alice, bob):
        auth.append("alice", frame(0, 0, 5))
        auth.append("bob", frame(0, 1, 5))
    alice.append("alice", frame(1, 1, 7))
    alice.unseal("g", bob.seal("g"), heard=1)


def test_accepts_a_prefix_shorter_than_what_an_own_tag_covered() -> None:
    """Tags of both sides may cross: Alice sealed three frames when Bob's tag over the first one arrives."""
    alice, bob, _, _ = pair()
    frames = [frame(seq, 0, 5 + seq) for seq in range(4)]
    bob.append("alice", frames[0])
    for data in frames[:3]:
        alice.append("alice", data)
    alice.seal("own")
    alice.unseal("g", bob.seal("g"), heard=1)
    for data in frames[1:]:
        bob.append("alice", data)
    alice.append("alice", frames[3])
    bob.append("bob", frame(0, 4, 40))
    alice.append("bob", frame(0, 4, 40))
    alice.unseal("later", bob.seal("later"), heard=4)


@pytest.mark.parametrize("heard", [0, 2])
def test_refuses_another_prefix(heard: int) -> None:
    alice, bob, _, _ = pair()
    for auth in (alice, bob):
        auth.append("alice", frame(0, 0, 5))
    alice.append("alice", frame(1, 1, 7))
    with pytest.raises(AuthenticationError):
        alice.unseal("g", bob.seal("g"), heard=heard)


def test_gate_role_and_block_are_part_of_the_text() -> None:
    alice, bob, _, _ = pair()
    body = bob.seal("a")
    with pytest.raises(AuthenticationError, match="'b'"):
        alice.unseal("b", body, heard=0)
    pools = EphemeralPool.pair(4, FixedEntropy("pool"))
    with pytest.raises(AuthenticationError):
        Authenticator(pools[0], "alice", 10).unseal("a", body, heard=0)
    with pytest.raises(AuthenticationError):
        Authenticator(pools[1], "bob", 9).unseal("a", body, heard=0)
    alice.unseal("a", body, heard=0)


def test_a_tag_serves_once_and_in_order() -> None:
    alice, bob, _, _ = pair()
    bodies = [bob.seal("g") for _ in range(3)]
    alice.unseal("g", bodies[1], heard=0)
    for used in (0, 1):
        with pytest.raises(AuthenticationError, match="used before"):
            alice.unseal("g", bodies[used], heard=0)
    alice.unseal("g", bodies[2], heard=0)


def test_a_forged_index_costs_no_pads() -> None:
    alice, bob, pool, _ = pair()
    body = bob.seal("g")
    for index in (1, 3, 4, 2**64 - 1):
        with pytest.raises(AuthenticationError):
            alice.unseal("g", struct.pack("<Q", index) + body[8:], heard=0)
    assert pool.bits_used == 0
    alice.unseal("g", body, heard=0)
    assert pool.bits_used == 128


@pytest.mark.parametrize("body", [b"", bytes(23), bytes(25)])
def test_bodies_that_are_no_tags(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="tag of"):
        pair()[0].unseal("g", body, heard=0)


def test_an_empty_pool_ends_the_block() -> None:
    alice, _, _, _ = pair(n_tags=2)
    alice.seal("1")
    alice.seal("2")
    with pytest.raises(Abort) as caught:
        alice.seal("3")
    assert caught.value.aborted.reason is AbortReason.POOL_EXHAUSTED


def test_probability_of_forgery_adds_up() -> None:
    alice, bob, _, _ = pair()
    assert alice.eps_auth == 0.0
    alice.append("alice", frame(0, 0, 0))
    bob.append("alice", frame(0, 0, 0))
    body = alice.seal("g")
    bob.unseal("g", body, heard=0)
    blocks = len(text(0, b"g", [frame(0, 0, 0)], [])) // 16 + 1
    assert alice.eps_auth == bob.eps_auth == blocks / 2.0**128
    bob.seal("g")
    assert bob.eps_auth == 2 * blocks / 2.0**128
