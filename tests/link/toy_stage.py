"""A toy conversation with gates in both directions, which notes what was said and heard at every gate passed."""

from dataclasses import dataclass, field

from qkdpp.core.abort import Aborted
from qkdpp.core.entropy import Entropy, expand
from qkdpp.core.stage import Message, Stage, receive, seal, send, unseal
from qkdpp.link.endpoint import Endpoint
from qkdpp.link.memory import Tamper, connect
from qkdpp.link.pool import EphemeralPool, Pool


class Clicks(Message, frozen=True, kw_only=True):
    number: int
    data: bytes


class Answer(Message, frozen=True, kw_only=True):
    number: int
    data: bytes


class Reveal(Message, frozen=True, kw_only=True):
    data: bytes


class FixedEntropy:
    """Bytes from a public stream, so that a run can be repeated."""

    def __init__(self, label: str) -> None:
        self._label, self._at = label, 0

    def bytes(self, n: int) -> bytes:
        self._at += n
        return expand(bytes(32), self._label, n, self._at - n)


@dataclass
class Diary:
    """What one party said and heard, and how much of it when each gate opened."""

    said: list[bytes] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    opened: list[tuple[str, int, int]] = field(default_factory=list)

    def open(self, gate: str) -> None:
        self.opened.append((gate, len(self.said), len(self.heard)))


ROUNDS = 2


def alice(diary: Diary, entropy: Entropy) -> Stage[tuple[bytes, ...]]:
    for number in range(ROUNDS):
        clicks = yield from receive(Clicks)
        diary.heard.append(clicks.data)
        diary.said.append(entropy.bytes(5))
        yield from send(Answer(number=number, data=diary.said[-1]))
    yield from unseal("clicks")
    diary.open("clicks")
    diary.said.append(entropy.bytes(40))
    yield from send(Reveal(data=diary.said[-1]))
    yield from seal("reveal")
    yield from unseal("release")
    diary.open("release")
    return tuple(diary.said + diary.heard)


def bob(diary: Diary, entropy: Entropy) -> Stage[tuple[bytes, ...]]:
    for number in range(ROUNDS):
        diary.said.append(entropy.bytes(20))
        yield from send(Clicks(number=number, data=diary.said[-1]))
        answer = yield from receive(Answer)
        diary.heard.append(answer.data)
    yield from seal("clicks")
    reveal = yield from receive(Reveal)
    diary.heard.append(reveal.data)
    yield from unseal("reveal")
    diary.open("reveal")
    yield from seal("release")
    return tuple(diary.heard + diary.said)


@dataclass
class Run:
    """Both endpoints of one run of the toy, fresh or over given pools."""

    block: int = 1
    pools: tuple[Pool, Pool] = field(default_factory=lambda: EphemeralPool.pair(8, FixedEntropy("pool")))
    label: str = "run"

    def __post_init__(self) -> None:
        self.diaries = (Diary(), Diary())
        alice_stage = alice(self.diaries[0], FixedEntropy(f"alice {self.label}"))
        bob_stage = bob(self.diaries[1], FixedEntropy(f"bob {self.label}"))
        self.alice = Endpoint(alice_stage, "alice", self.block, self.pools[0])
        self.bob = Endpoint(bob_stage, "bob", self.block, self.pools[1])

    def connect(self, tamper: Tamper | None = None) -> "Run":
        connect(self.alice, self.bob, tamper)
        return self

    @property
    def both_have_keys(self) -> bool:
        return not isinstance(self.alice.result, Aborted) and not isinstance(self.bob.result, Aborted)

    def assert_safe(self) -> None:
        """Never two different results; no gate ever opened on transcripts that differ."""
        if self.both_have_keys:
            assert self.alice.result == self.bob.result
        for own, peer in (self.diaries, self.diaries[::-1]):
            for gate, said, heard in own.opened:
                assert peer.heard[:said] == own.said[:said], gate
                assert peer.said[:heard] == own.heard[:heard], gate
