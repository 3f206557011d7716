"""Must be shown 7: whatever a man in the middle does, a clean abort or equal results, and no gate opens wrongly."""

from dataclasses import dataclass, replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_stage import Answer, Clicks, FixedEntropy, Reveal, Run

from qkdpp.core.abort import Aborted, AbortReason
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.stage import decode as decode_message
from qkdpp.core.stage import encode as encode_message
from qkdpp.link.frame import Frame, Kind, decode
from qkdpp.link.pool import EphemeralPool

HONEST = Run().connect()
FRAMES = [(record.side, record.frame) for record in HONEST.alice.transcript]
"""All frames of an undisturbed run, in order."""
PLACES = [(side, sum(s == side for s, _ in FRAMES[:i])) for i, (side, _) in enumerate(FRAMES)]
CLEAN = {
    AbortReason.PROTOCOL_VIOLATION,
    AbortReason.AUTHENTICATION_FAILED,
    AbortReason.PEER_ABORTED,
    AbortReason.LINK_LOST,
}


def assert_clean(run: Run) -> None:
    run.assert_safe()
    for result in (run.alice.result, run.bob.result):
        assert not isinstance(result, Aborted) or result.reason in CLEAN


def test_undisturbed_run() -> None:
    assert HONEST.both_have_keys
    HONEST.assert_safe()
    assert [gate for gate, _, _ in HONEST.diaries[0].opened] == ["clicks", "release"]
    assert [gate for gate, _, _ in HONEST.diaries[1].opened] == ["reveal"]
    kinds = {decode(frame).kind for _, frame in FRAMES}
    assert kinds == {Kind.MESSAGE, Kind.TAG}


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_single_bit(place: tuple[str, int]) -> None:
    """Each bit of each frame, flipped alone, costs the block."""
    n_bytes = len(FRAMES[PLACES.index(place)][1])
    for position in range(8 * n_bytes):

        def flip(side: str, index: int, frame: bytes, position: int = position) -> list[bytes]:
            if (side, index) != place:
                return [frame]
            damaged = bytearray(frame)
            damaged[position >> 3] ^= 1 << (position & 7)
            return [bytes(damaged)]

        run = Run().connect(flip)
        assert_clean(run)
        assert not run.both_have_keys


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_truncation_and_drop(place: tuple[str, int]) -> None:
    n_bytes = len(FRAMES[PLACES.index(place)][1])
    for length in [*range(n_bytes), None]:

        def cut(side: str, index: int, frame: bytes, length: int | None = length) -> list[bytes]:
            if (side, index) != place:
                return [frame]
            return [] if length is None else [frame[:length]]

        run = Run().connect(cut)
        assert_clean(run)
        assert not run.both_have_keys


def other_message(frame: Frame, salt: bytes) -> bytes:
    """A valid message of the same type with other contents."""
    for kind in (Clicks, Answer, Reveal):
        try:
            message = decode_message(frame.body, kind)
        except RemoteProtocolError:
            continue
        return encode_message(msgspec.structs.replace(message, data=salt * 3))
    raise AssertionError("a message of no known type")


@pytest.mark.parametrize(
    "place", [p for p, (_, f) in zip(PLACES, FRAMES, strict=True) if decode(f).kind is Kind.MESSAGE]
)
def test_every_message_replaced_by_a_valid_one(place: tuple[str, int]) -> None:
    def substitute(side: str, index: int, data: bytes) -> list[bytes]:
        if (side, index) != place:
            return [data]
        frame = decode(data)
        return [replace(frame, body=other_message(frame, b"forged")).encode()]

    run = Run().connect(substitute)
    assert_clean(run)
    assert not run.both_have_keys
    reasons = {r.reason for r in (run.alice.result, run.bob.result) if isinstance(r, Aborted)}
    assert AbortReason.AUTHENTICATION_FAILED in reasons, "only the tag can tell"


@dataclass(frozen=True)
class Act:
    """One deed of the man in the middle, at one frame."""

    place: tuple[str, int]
    deed: str
    choice: int


DEEDS = (
    "flip",
    "cut",
    "drop",
    "twice",
    "hold",
    "replay",
    "renumbered replay",
    "reflect",
    "forge",
    "old session",
    "abort",
    "ack",
    "insert",
    "seal early",
)
acts = st.lists(
    st.builds(Act, place=st.sampled_from(PLACES), deed=st.sampled_from(DEEDS), choice=st.integers(0, 2**16)),
    min_size=1,
    max_size=4,
)


class Mallory:
    """Sees all frames, knows an earlier session over the same pools, and acts as told."""

    def __init__(self, plan: list[Act], old: list[tuple[str, bytes]]) -> None:
        self.plan, self.old = plan, old
        self.seen: dict[str, list[bytes]] = {"alice": [], "bob": []}
        self.held: dict[str, list[bytes]] = {"alice": [], "bob": []}
        self.shift = {"alice": 0, "bob": 0}

    def __call__(self, side: str, index: int, frame: bytes) -> list[bytes]:
        self.seen[side].append(frame)
        out = [self.renumber(side, frame)]
        for act in self.plan:
            if act.place == (side, index):
                out = self.act(act, side, frame, out)
        released, self.held[side] = self.held[side], []
        if any(act.place == (side, index) and act.deed == "hold" for act in self.plan):
            self.held[side], out = out, []
        return out + released

    def renumber(self, side: str, frame: bytes) -> bytes:
        """Keeps the sequence unbroken after insertions, as a careful forger would."""
        if not self.shift[side]:
            return frame
        parsed = decode(frame)
        return replace(parsed, seq=parsed.seq + self.shift[side]).encode()

    def act(self, act: Act, side: str, frame: bytes, out: list[bytes]) -> list[bytes]:
        parsed = decode(frame)
        other = "bob" if side == "alice" else "alice"
        match act.deed:
            case "flip":
                position = act.choice % (8 * len(frame))
                damaged = bytearray(frame)
                damaged[position >> 3] ^= 1 << (position & 7)
                return [bytes(damaged)]
            case "cut":
                return [frame[: act.choice % len(frame)]]
            case "drop":
                return []
            case "twice":
                return out + out
            case "replay":
                return [*out, self.seen[side][act.choice % len(self.seen[side])]]
            case "renumbered replay":
                earlier = decode(self.seen[side][act.choice % len(self.seen[side])])
                return [replace(parsed, kind=earlier.kind, body=earlier.body).encode()]
            case "reflect" if self.seen[other]:
                mirrored = decode(self.seen[other][act.choice % len(self.seen[other])])
                return [replace(parsed, kind=mirrored.kind, body=mirrored.body).encode()]
            case "forge" if parsed.kind is Kind.MESSAGE:
                return [replace(parsed, body=other_message(parsed, act.choice.to_bytes(3, "little"))).encode()]
            case "forge" if parsed.kind is Kind.TAG:
                return [replace(parsed, body=act.choice.to_bytes(8, "little") + parsed.body[8:]).encode()]
            case "old session":
                same_side = [data for s, data in self.old if s == side]
                earlier = decode(same_side[act.choice % len(same_side)])
                return [replace(parsed, kind=earlier.kind, body=earlier.body).encode()]
            case "abort":
                reason = list(AbortReason)[act.choice % len(AbortReason)].value.encode()
                return [replace(parsed, kind=Kind.ABORT, body=reason).encode()]
            case "ack":
                return [replace(parsed, ack=max(0, parsed.ack + act.choice % 5 - 2)).encode()]
            case "insert":
                self.shift[side] += 1
                return [replace(parsed, body=parsed.body).encode(), self.renumber(side, frame)]
            case "seal early":
                tags = [data for data in self.seen[side] if decode(data).kind is Kind.TAG]
                return [*tags[-1:], *out]
        return out


@settings(max_examples=400, deadline=None)
@given(acts)
def test_any_deeds(plan: list[Act]) -> None:
    first = Run(block=1, label="first").connect()
    assert first.both_have_keys
    old = [(record.side, record.frame) for record in first.alice.transcript]
    run = Run(block=2, pools=first.pools, label="second").connect(Mallory(plan, old))
    assert_clean(run)


def test_replay_of_a_whole_session() -> None:
    """Bob's frames of an earlier session, block number patched, to an Alice who says the same again."""
    first = Run(block=1).connect()
    frames = [record.frame for record in first.alice.transcript if record.side == "bob"]
    again = Run(block=1, pools=first.pools)
    again.alice.start()
    for frame in frames:
        again.alice.receive(frame)
    result = again.alice.result
    assert isinstance(result, Aborted)
    assert result.reason is AbortReason.AUTHENTICATION_FAILED
    assert again.diaries[0].opened == []


def test_an_impostor_with_another_pool() -> None:
    true = Run()
    false = Run(label="impostor", pools=EphemeralPool.pair(8, FixedEntropy("another pool")))
    queue = true.alice.start()
    for frame in false.bob.start():
        queue += true.alice.receive(frame)
    while queue:
        answers = false.bob.receive(queue.pop(0))
        for frame in answers:
            queue += true.alice.receive(frame)
    result = true.alice.result
    assert isinstance(result, Aborted)
    assert result.reason is AbortReason.AUTHENTICATION_FAILED


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_nothing_is_sent_or_accepted_after_an_abort(place: tuple[str, int]) -> None:
    side, index = place

    def spoil(sender: str, i: int, frame: bytes) -> list[bytes]:
        return [frame[:-1]] if (sender, i) == place else [frame]

    run = Run().connect(spoil)
    victim = run.bob if side == "alice" else run.alice
    sent = [decode(record.frame) for record in victim.transcript if record.side != side]
    assert sent[-1].kind is Kind.ABORT
    assert [frame.kind for frame in sent[:-1]].count(Kind.ABORT) == 0
    before = len(victim.transcript)
    for _, frame in FRAMES:
        assert victim.receive(frame) == []
    assert len(victim.transcript) == before
    assert index == sum(record.side == side for record in victim.transcript)
