"""A man in the middle or a faulty peer: clean aborts, never unequal keys, nothing past a gate."""

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qkdpp.core.abort import Aborted, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.link.frame import Kind

AFTER_A_GATE = {"Preparation", "VerificationTags", "AmplificationSeed"}
"""What Alice reveals only after a tag of Bob verified."""
ATTACKS = ("flip", "truncate", "extend", "drop", "duplicate", "replay", "substitute", "swap")


class Attack:
    """One manipulation of one frame; ``foreign`` are the frames of another honest run, by direction."""

    def __init__(self, kind: str, side: str, index: int, position: int, foreign: dict[str, list[bytes]]) -> None:
        self.kind, self.side, self.index, self.position, self.foreign = kind, side, index, position, foreign
        self.seen: list[bytes] = []
        self.held: bytes | None = None
        self.hit = False

    def __call__(self, side: str, index: int, frame: bytes) -> list[bytes]:
        if side != self.side:
            return [frame]
        self.seen.append(frame)
        if self.held is not None:
            held, self.held = self.held, None
            return [frame, held]
        if index != self.index:
            return [frame]
        out = self.change(frame)
        self.hit = out != [frame]
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
                others = self.foreign[self.side]
                return [others[min(self.index, len(others) - 1)]]
        self.held = frame
        return []


def honest(run_block, block):
    frames = {"alice": [], "bob": []}

    def listen(side, index, frame):
        frames[side].append(frame)
        return [frame]

    ends = run_block(block, tamper=listen)
    return ends, frames


def check(ends, attack: Attack) -> None:
    results = [ends.alice.result, ends.bob.result]
    keys = [r for r in results if isinstance(r, Bits)]
    if len(keys) == 2:
        assert keys[0].equals(keys[1])
    if not attack.hit:
        return
    for result in results:
        if isinstance(result, Aborted):
            assert result.reason in AbortReason


def test_an_honest_block_gives_equal_keys(run_block, block):
    ends, frames = honest(run_block, block)
    assert isinstance(ends.alice.result, Bits), ends.alice.result
    assert ends.alice.result.equals(ends.bob.result)
    assert len(ends.alice.result) > 0
    assert ends.alice.transcript[-1].kind is Kind.TAG
    assert Counter(len(f) > 0 for f in frames["alice"])[False] == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(ATTACKS),
    side=st.sampled_from(["alice", "bob"]),
    share=st.floats(0, 0.999),
    position=st.integers(0, 10**6),
)
def test_no_manipulation_yields_unequal_keys(run_block, attacked, kind, side, share, position):
    block, frames, foreign = attacked
    attack = Attack(kind, side, int(share * len(frames[side])), position, foreign)
    ends = run_block(block, tamper=attack)
    check(ends, attack)


@pytest.fixture(scope="module")
def attacked(run_block, block):
    """A block, the frames of an honest run of it, and those of another run."""
    _, frames = honest(run_block, block)
    _, foreign = honest(run_block, block)
    return block, frames, foreign


@pytest.mark.parametrize("side", ["alice", "bob"])
def test_every_message_type_is_covered_and_nothing_passes_a_gate(run_block, attacked, side):
    """Each frame of the run in turn is altered in a way that still parses, where possible: one bit of its body."""
    block, frames, foreign = attacked
    picker = random.Random(5)
    for index in range(len(frames[side])):
        attack = Attack("substitute", side, index, picker.randrange(10**6), foreign)
        ends = run_block(block, tamper=attack)
        check(ends, attack)
        if attack.hit:
            _nothing_after(ends, side, index)


def _nothing_after(ends, side: str, index: int) -> None:
    """After the altered frame Alice sends nothing that a gate protects, and the victim ends without a key."""
    transcript = ends.alice.transcript
    if side == "bob":
        position = [i for i, r in enumerate(transcript) if r.side == "bob"]
        start = position[index] if index < len(position) else len(transcript)
    else:
        start = [i for i, r in enumerate(transcript) if r.side == "alice"][index] + 1
    later = [r for r in transcript[start:] if r.side == "alice" and r.kind is Kind.MESSAGE]
    # what Alice had already decided to send in the same breath as the altered frame needs no new gate
    gated = []
    opened = False
    for record in transcript[start:]:
        opened = opened or (record.side == "bob" and record.kind is Kind.TAG)
        if opened and record in later and record.name in AFTER_A_GATE:
            gated.append(record.name)
    assert not gated, gated
    victim = ends.bob if side == "alice" else ends.alice
    assert isinstance(victim.result, Aborted)
