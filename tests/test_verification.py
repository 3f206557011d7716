"""Verification: equal keys or an abort, whatever the errors; every tag and verdict booked; hostile messages refused."""

from itertools import product
from math import ceil, log2
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkdpp import verification
from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.entropy import expand
from qkdpp.core.errors import LocalProtocolError, RemoteProtocolError
from qkdpp.core.ledger import Disclosure, Ledger
from qkdpp.core.stage import run_pair
from qkdpp.kernels import poly_hash
from qkdpp.verification import VerificationTags, VerificationVerdict, Verified, plan

EPS = 1e-12


class FixedEntropy:
    """Bytes from a public stream, so that a run can be repeated."""

    def __init__(self, label: str) -> None:
        self._label, self._at = label, 0

    def bytes(self, n: int) -> bytes:
        self._at += n
        return expand(bytes(32), self._label, n, self._at - n)


def verify(
    a: np.ndarray,
    b: np.ndarray,
    frame_bits: int,
    *,
    suspects: list[int] | None = None,
    max_dropped: int,
    eps_cor: float = EPS,
    label: str = "seed",
) -> tuple[Verified, Verified, list[Any], Ledger]:
    mask = np.zeros(-(-a.size // frame_bits), dtype=np.bool_)
    mask[suspects or []] = True
    ledgers = Ledger(), Ledger()
    common = {"eps_cor": eps_cor, "max_dropped": max_dropped}
    alice, bob, transcript = run_pair(
        verification.alice(
            Bits.from_array(a), frame_bits, mask, entropy=FixedEntropy(label), ledger=ledgers[0], **common
        ),
        verification.bob(Bits.from_array(b), frame_bits, mask, ledger=ledgers[1], **common),
    )
    assert ledgers[0].entries == ledgers[1].entries
    return alice, bob, transcript, ledgers[0]


def random_key(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, n, dtype=np.uint8)


def check_result(a: np.ndarray, frame_bits: int, bad: set[int], alice: Verified, bob: Verified) -> None:
    """Exactly the good frames are kept, in order, on both sides."""
    n_frames = -(-a.size // frame_bits)
    good = [i for i in range(n_frames) if i not in bad]
    expected = np.concatenate([a[i * frame_bits : (i + 1) * frame_bits] for i in good])
    for side in (alice, bob):
        assert np.flatnonzero(side.kept).tolist() == good
        assert np.array_equal(side.key.to_array(), expected)
        assert side.dropped_bits == a.size - expected.size


def recount(transcript: list[Any]) -> tuple[int, int]:
    """Tags and key-dependent bits, from the messages alone."""
    tags = sum(message.n_tags for _, message in transcript if isinstance(message, VerificationTags))
    bits = sum(message.n_tags * message.tag_bits for _, message in transcript if isinstance(message, VerificationTags))
    verdicts = sum(message.n_tags for _, message in transcript if isinstance(message, VerificationVerdict))
    assert verdicts == tags
    return tags, bits + verdicts


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_equal_keys_or_an_abort(data: st.DataObject) -> None:
    frame_bits = data.draw(st.sampled_from([1, 5, 8, 64, 100]))
    n = data.draw(st.integers(1, 1200))
    n_frames = -(-n // frame_bits)
    a = random_key(n, data.draw(st.integers(0, 99)))
    errors = data.draw(st.lists(st.integers(0, n - 1), unique=True, max_size=6))
    b = a.copy()
    b[errors] ^= 1
    suspects = data.draw(st.lists(st.integers(0, n_frames - 1), unique=True, max_size=3))
    max_dropped = data.draw(st.integers(0, 8))
    bad = {e // frame_bits for e in errors} | set(suspects)
    if len(bad) > max_dropped or len(bad) == n_frames:
        with pytest.raises(Abort) as caught:
            verify(a, b, frame_bits, suspects=suspects, max_dropped=max_dropped)
        assert caught.value.aborted.reason is AbortReason.NOT_VERIFIED
        return
    alice, bob, transcript, ledger = verify(a, b, frame_bits, suspects=suspects, max_dropped=max_dropped)
    check_result(a, frame_bits, bad, alice, bob)
    tags, bits = recount(transcript)
    assert alice.tags == bob.tags == tags <= plan(n, frame_bits, EPS, max_dropped).max_tags
    assert ledger.verification_bits == ledger.total() == alice.verification_bits == bob.verification_bits == bits
    assert ledger.total(side="bob", what=Disclosure.VERIFICATION) == tags
    assert alice.eps_cor == bob.eps_cor <= EPS


@pytest.mark.parametrize("frame_bits", [1, 2, 3])
def test_every_error_pattern_of_a_small_key(frame_bits: int) -> None:
    a = random_key(8)
    n_frames = -(-8 // frame_bits)
    for pattern in product((0, 1), repeat=8):
        b = a ^ np.array(pattern, dtype=np.uint8)
        bad = {i // frame_bits for i in np.flatnonzero(a != b).tolist()}
        if len(bad) == n_frames:
            with pytest.raises(Abort):
                verify(a, b, frame_bits, max_dropped=n_frames)
        else:
            alice, bob, _, _ = verify(a, b, frame_bits, max_dropped=n_frames)
            check_result(a, frame_bits, bad, alice, bob)


def test_equal_keys_cost_one_tag() -> None:
    a = random_key(100_000)
    alice, bob, transcript, ledger = verify(a, a, 1024, max_dropped=4)
    assert [type(message).__name__ for _, message in transcript] == ["VerificationTags", "VerificationVerdict"]
    assert alice.key.equals(Bits.from_array(a))
    assert bob.kept.all()
    assert (alice.tags, alice.dropped_bits) == (1, 0)
    assert ledger.verification_bits == transcript[0][1].tag_bits + 1


def test_tag_length_by_the_formula() -> None:
    """16 Mbit in 64 frames of 2^18, at most 2 dropped: L = 2^17 + 1 blocks, 1 + 2 * 2 * 6 tags."""
    limits = plan(1 << 24, 1 << 18, 1e-10, 2)
    assert limits.max_tags == 25
    assert limits.tag_bits == ceil(log2((2**17 + 1) * 25 / 1e-10)) == 55
    assert limits.eps_cor == (2**17 + 1) * 25 / 2**55 <= 1e-10
    assert plan(1 << 24, 1 << 18, 1e-10, 0).max_tags == 1


def test_the_tag_is_the_low_end_of_the_hash() -> None:
    a = random_key(1000)
    _, _, transcript, _ = verify(a, a, 100, max_dropped=1)
    message = transcript[0][1]
    digest = int.from_bytes(poly_hash(message.seed, Bits.from_array(a).to_bytes()), "little")
    assert int.from_bytes(message.tags, "little") == digest % 2**message.tag_bits


def test_short_tags_miss_no_more_than_promised() -> None:
    """With eps_cor = 1/4 (tags of 4 bits, L = 3): of 2,000 unequal pairs at most a quarter pass."""
    a = random_key(256)
    passed = 0
    for trial in range(2000):
        b = a ^ random_key(256, trial + 1)
        try:
            alice, bob, _, _ = verify(a, b, 256, max_dropped=0, eps_cor=0.25, label=f"trial {trial}")
        except Abort:
            continue
        passed += not alice.key.equals(bob.key)
    assert 0 < passed <= 500


def test_every_round_has_a_fresh_seed() -> None:
    a = random_key(64 * 32)
    b = a.copy()
    b[[5, 900]] ^= 1
    _, _, transcript, _ = verify(a, b, 32, max_dropped=3)
    seeds = [message.seed for _, message in transcript if isinstance(message, VerificationTags)]
    assert len(seeds) == 7, "the whole and six levels"
    assert len(set(seeds)) == len(seeds)


def test_lengths_depend_on_the_error_pattern_only() -> None:
    shapes = set()
    for seed in range(6):
        a = random_key(3000, seed)
        b = a.copy()
        b[[7, 1500, 2999]] ^= 1
        _, _, transcript, _ = verify(a, b, 100, max_dropped=5, label=f"{seed}")
        shapes.add(
            tuple(
                (type(m).__name__, m.n_tags, len(m.tags) if isinstance(m, VerificationTags) else m.matches)
                for _, m in transcript
            )
        )
    assert len(shapes) == 1


def test_suspects_are_dropped_untested() -> None:
    a = random_key(1000)
    b = a.copy()
    b[250] ^= 1
    alice, bob, transcript, _ = verify(a, b, 100, suspects=[2, 9], max_dropped=2)
    check_result(a, 100, {2, 9}, alice, bob)
    assert alice.tags == 1
    assert transcript[1][1].matches == b"\1"


def test_too_many_bad_frames_stop_the_search_at_once() -> None:
    a = random_key(640)
    with pytest.raises(Abort) as caught:
        verify(a, 1 - a, 10, max_dropped=3)
    assert caught.value.aborted.evidence == {"bad_frames_at_least": 4, "max_dropped_frames": 3, "frames": 64}


@pytest.mark.parametrize(
    ("n", "frame_bits", "eps", "dropped"),
    [(0, 8, 0.1, 1), (8, 8, 0.0, 1), (8, 8, 1.0, 1), (8, 8, 1e-40, 1), (8, 8, 0.1, -1)],
)
def test_plans_that_cannot_be(n: int, frame_bits: int, eps: float, dropped: int) -> None:
    with pytest.raises(LocalProtocolError):
        plan(n, frame_bits, eps, dropped)


def test_suspects_of_another_shape() -> None:
    stage = verification.bob(
        Bits.zeros(100), 10, np.zeros(9, dtype=np.bool_), eps_cor=EPS, max_dropped=1, ledger=Ledger()
    )
    with pytest.raises(LocalProtocolError, match=r"bool\[10\]"):
        next(stage)


def bob_waiting() -> tuple[Any, VerificationTags]:
    """Bob before the first message, and the message that Alice would send."""
    a = random_key(100)
    mask = np.zeros(10, dtype=np.bool_)
    common = {"eps_cor": EPS, "max_dropped": 2}
    alice = verification.alice(Bits.from_array(a), 10, mask, entropy=FixedEntropy("x"), ledger=Ledger(), **common)
    bob = verification.bob(Bits.from_array(a), 10, mask, ledger=Ledger(), **common)
    next(bob)
    return bob, next(alice).message  # type: ignore[union-attr]


@pytest.mark.parametrize("field", ["seed", "tag_bits", "n_tags", "tags", "padding"])
def test_hostile_tags(field: str) -> None:
    bob, good = bob_waiting()
    wrong = {
        "seed": {"seed": good.seed[:-1]},
        "tag_bits": {"tag_bits": 1},
        "n_tags": {"n_tags": 10**9},
        "tags": {"tags": good.tags + b"\0"},
        "padding": {"tags": good.tags[:-1] + b"\xff"},
    }[field]
    with pytest.raises(RemoteProtocolError):
        bob.send(msgspec.structs.replace(good, **wrong))


@pytest.mark.parametrize(("n_tags", "matches"), [(2, b"\1"), (0, b""), (1, b""), (1, b"\2"), (1, b"\1\0")])
def test_hostile_verdicts(n_tags: int, matches: bytes) -> None:
    alice = verification.alice(
        Bits.from_array(random_key(100)),
        10,
        np.zeros(10, dtype=np.bool_),
        eps_cor=EPS,
        max_dropped=2,
        entropy=FixedEntropy("x"),
        ledger=Ledger(),
    )
    next(alice)
    next(alice)
    with pytest.raises(RemoteProtocolError):
        alice.send(VerificationVerdict(n_tags=n_tags, matches=matches))


def test_a_right_message_is_answered() -> None:
    bob, good = bob_waiting()
    answer = bob.send(good)
    assert answer.message == VerificationVerdict(n_tags=1, matches=b"\1")
