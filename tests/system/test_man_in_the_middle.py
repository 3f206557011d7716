"""A man in the middle or a faulty peer: clean aborts, never unequal keys, nothing past a gate."""

import random
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qkdpp.core.abort import Aborted
from qkdpp.core.bits import Bits
from qkdpp.core.stage import Message
from qkdpp.link.frame import Kind, decode

AFTER_A_GATE = {"Preparation", "VerificationTags", "AmplificationSeed"}
"""What Alice reveals only after a tag of Bob verified."""
ATTACKS = ("flip", "truncate", "extend", "drop", "duplicate", "replay", "substitute", "swap")


def labels(frames: list[bytes]) -> list[str]:
    """What each frame of one direction is: the message type, or the how-manieth tag."""
    out, tags = [], 0
    for data in frames:
        frame = decode(data)
        if frame.kind is Kind.MESSAGE:
            out.append(msgspec.msgpack.decode(frame.body)["type"])
        else:
            tags += 1
            out.append(f"tag {tags}")
    return out


class Attack:
    """One manipulation of one frame, chosen by a share of the conversation or by what the frame is.

    ``foreign`` are the frames of another honest run, by direction.
    """

    def __init__(self, kind: str, side: str, where: int | str, position: int, foreign: dict[str, list[bytes]]) -> None:
        self.kind, self.side, self.where, self.position, self.foreign = kind, side, where, position, foreign
        self.seen: list[bytes] = []
        self.held: bytes | None = None
        self.struck_at: int | None = None

    def __call__(self, side: str, index: int, frame: bytes) -> list[bytes]:
        if side != self.side:
            return [frame]
        self.seen.append(frame)
        if self.held is not None:
            held, self.held = self.held, None
            return [frame, held]
        due = index == self.where or (self.struck_at is None and labels(self.seen)[-1] == self.where)
        if not due:
            return [frame]
        out = self.change(frame)
        if out != [frame]:
            self.struck_at = index
        return out

    def change(self, frame: bytes) -> list[bytes]:
        at = self.position % len(frame)
        match self.kind:
            case "flip":
                return [frame[:at] + bytes([frame[at] ^ (1 << self.position % 8)]) + frame[at + 1 :]]
            case "truncate":
                return [frame[:at]]
            case "extend":
                return [frame + b"\0"]
            case "drop":
                return []
            case "duplicate":
                return [frame, frame]
            case "replay":
                return [self.seen[self.position % len(self.seen)]]
            case "substitute":
                label = labels(self.seen)[-1]
                others = self.foreign[self.side]
                bodies = [f for f, name in zip(others, labels(others), strict=True) if name == label]
                return [replace(decode(frame), body=decode(bodies[0]).body).encode()] if bodies else [frame]
        self.held = frame
        return []


def honest(run_block, block, method):
    frames = {"alice": [], "bob": []}

    def listen(side, index, frame):
        frames[side].append(frame)
        return [frame]

    return run_block(block, method, tamper=listen), frames


CASES = [("block", "cascade"), ("block", "hamming"), ("pairs", "cascade")]


@pytest.fixture(scope="module", params=CASES, ids=["-".join(case) for case in CASES])
def case(request, run_block):
    """Input, method, the frames of an honest run and those of an honest run of another block."""
    block, method = request.getfixturevalue(request.param[0]), request.param[1]
    ends, frames = honest(run_block, block, method)
    _, foreign = honest(run_block, request.getfixturevalue(f"other_{request.param[0]}"), method)
    return SimpleNamespace(block=block, method=method, ends=ends, frames=frames, foreign=foreign)


def check(ends, attack: Attack) -> None:
    """Never unequal keys; whoever got something else than was sent ends without a key."""
    results = {"alice": ends.alice.result, "bob": ends.bob.result}
    keys = [r for r in results.values() if isinstance(r, Bits)]
    if len(keys) == 2:
        assert keys[0].equals(keys[1])
    last = attack.struck_at == len(attack.seen) - 1
    harmless = attack.struck_at is None or (last and attack.kind == "duplicate")  # the receiver had ended already
    if not harmless:
        victim = results["bob" if attack.side == "alice" else "alice"]
        assert isinstance(victim, Aborted), (attack.kind, attack.side, attack.where)


def test_an_honest_block_gives_equal_keys(case):
    alice, bob = case.ends.alice, case.ends.bob
    assert isinstance(alice.result, Bits), alice.result
    assert alice.result.equals(bob.result)
    assert len(alice.result) > 0
    assert alice.transcript[-1].kind is Kind.TAG
    assert [r.frame for r in alice.transcript] == [r.frame for r in bob.transcript]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(ATTACKS),
    side=st.sampled_from(["alice", "bob"]),
    share=st.floats(0, 0.999),
    position=st.integers(0, 10**6),
)
def test_no_manipulation_yields_unequal_keys(run_block, case, kind, side, share, position):
    index = int(share * len(case.frames[side]))
    attack = Attack(kind, side, index, position, case.foreign)
    ends = run_block(case.block, case.method, tamper=attack)
    check(ends, attack)


@pytest.mark.parametrize("side", ["alice", "bob"])
@pytest.mark.parametrize("kind", ["substitute", "flip"])
def test_no_message_can_pass_its_gate(run_block, case, side, kind):
    """Every kind of message and every tag in turn: with the body of another block, or with one bit wrong."""
    picker = random.Random(5)
    struck = set()
    names = set(labels(case.frames[side]))
    for name in sorted(names):
        attack = Attack(kind, side, name, picker.randrange(10**6), case.foreign)
        ends = run_block(case.block, case.method, tamper=attack)
        check(ends, attack)
        if attack.struck_at is not None:
            struck.add(name)
            _nothing_after(ends, side, attack.struck_at)
    same_in_every_block = {"Hello", "CalibrationRequest", "ReceiverClicks", "VerificationVerdict"}
    assert names - struck <= (same_in_every_block if kind == "substitute" else set())


def _nothing_after(ends, side: str, index: int) -> None:
    """After the altered frame Alice sends nothing that a gate protects."""
    transcript = ends.alice.transcript
    if side == "alice":
        start = [i for i, r in enumerate(transcript) if r.side == "alice"][index] + 1
    else:
        received = [i for i, r in enumerate(transcript) if r.side == "bob"]
        start = received[index] if index < len(received) else len(transcript)
    opened = False
    for record in transcript[start:]:
        opened = opened or (record.side == "bob" and record.kind is Kind.TAG)
        assert not (opened and record.side == "alice" and record.name in AFTER_A_GATE), record.name


def test_every_message_type_was_attacked(run_block, block, pairs):
    """The cases above contain every message of a block (those of sessions and nodes have their own tests)."""
    seen = set()
    for source, method in ((block, "cascade"), (block, "hamming"), (pairs, "cascade")):
        ends, _ = honest(run_block, source, method)
        seen |= {r.name for r in ends.alice.transcript if r.kind is Kind.MESSAGE}
    defined, todo = set(), [Message]
    while todo:
        for kind in todo.pop().__subclasses__():
            todo.append(kind)
            module = kind.__module__
            if module.startswith("qkdpp.") and not module.startswith(("qkdpp.link.", "qkdpp.node.")):
                defined.add(kind.__name__)
    assert defined == seen


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999), side=st.sampled_from(["alice", "bob"]), seed=st.integers(0, 10**6))
def test_extreme_values_in_well_formed_messages_end_cleanly(run_block, case, share, side, seed):
    """Fields of one message replaced by extreme values of their type and the body encoded again: never a crash."""
    index = int(share * len(case.frames[side]))
    rng = random.Random(seed)

    def tamper(sender, at, frame):
        return [_extreme(frame, rng)] if (sender, at) == (side, index) else [frame]

    ends = run_block(case.block, case.method, tamper=tamper)
    results = [ends.alice.result, ends.bob.result]
    keys = [r for r in results if isinstance(r, Bits)]
    assert len(keys) < 2 or keys[0].equals(keys[1])


def _extreme(data: bytes, rng: random.Random) -> bytes:
    frame = decode(data)
    if frame.kind is not Kind.MESSAGE:
        return data
    fields = msgspec.msgpack.decode(frame.body)
    name = rng.choice([n for n in fields if n != "type"])
    fields[name] = _other(fields[name], rng)
    return replace(frame, body=msgspec.msgpack.encode(fields)).encode()


def _other(value, rng: random.Random):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice([0, 1, -1, value + 1, 2**31, 2**63 - 1, 2**64 - 1, -(2**63)])
    if isinstance(value, float):
        return rng.choice([0.0, -1.0, 1e308, float("nan"), float("inf")])
    if isinstance(value, bytes):
        return rng.choice([b"", value[:-1], value + b"\0", bytes(len(value)), b"\xff" * len(value)])
    if isinstance(value, list) and value:
        out = list(value)
        at = rng.randrange(len(out))
        out[at] = _other(out[at], rng)
        return rng.choice([out, out[:-1], [*out, out[0]], []])
    return rng.choice([None, 0, b"", "x"])
