"""The message decoder under fire: mutated frames and bodies of every message type end in typed errors only."""

import contextlib
import random

import pytest

import qkdpp.protocols.bb84
import qkdpp.protocols.bbm92  # noqa: F401 - defines its messages
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.stage import Message, decode, encode
from qkdpp.link.frame import Kind
from qkdpp.link.frame import decode as decode_frame


def concrete() -> dict[str, type[Message]]:
    found, todo = {}, [Message]
    while todo:
        for kind in todo.pop().__subclasses__():
            todo.append(kind)
            if kind.__module__.startswith("qkdpp."):
                found[kind.__name__] = kind
    return found


def mutate(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(out) + 1) if rng.random() < 0.5 else rng.randrange(min(len(out), 40) + 1)
        match rng.randrange(5):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(out):
                out[at] = rng.randrange(256)
            case 2:
                del out[at : at + rng.randrange(1, 9)]
            case 3:
                out[at:at] = rng.randbytes(rng.randrange(1, 9))
            case _:
                out[at : at + 9] = bytes([rng.choice([0xC6, 0xDD, 0xDF, 0xCF, 0xD3])]) + b"\xff" * 8
    return bytes(out)


def attack(rounds: int, records, seed: int) -> int:
    rng = random.Random(seed)
    types = concrete()
    survived = 0
    small = [r for r in records if len(r.frame) < 1 << 16]
    for _ in range(rounds):
        record = rng.choice(small)
        data = mutate(record.frame, rng)
        with contextlib.suppress(RemoteProtocolError):
            decode_frame(data)
        if record.kind is not Kind.MESSAGE:
            continue
        kind = types[record.name]
        try:
            message = decode(mutate(record.body, rng), kind)
        except RemoteProtocolError:
            continue
        assert decode(encode(message), kind) == message
        survived += 1
    return survived


@pytest.fixture(scope="module")
def records(run_block, block):
    return run_block(block).alice.transcript


def test_mutated_messages_end_in_typed_errors(records):
    assert {r.name for r in records if r.kind is Kind.MESSAGE} >= {"Hello", "ClickMap", "Bases", "Preparation"}
    assert 0 < attack(5_000, records, 1) < 5_000


@pytest.mark.slow
def test_two_hundred_thousand_mutated_messages(records):
    attack(200_000, records, 2)
