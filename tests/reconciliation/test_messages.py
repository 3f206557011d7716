"""What a peer may get wrong, or lie about, in error correction."""

import contextlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import Coins, bernoulli

from qkdpp.core.bits import Bits
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.ledger import Ledger
from qkdpp.core.stage import Receive, Send, decode, encode
from qkdpp.reconciliation import Cascade, Hamming
from qkdpp.reconciliation.cascade import CascadeFlags, CascadeParities, CascadeStart
from qkdpp.reconciliation.cascade_steering import MAX_ROUNDS
from qkdpp.reconciliation.hamming import HammingAnswers, HammingStart, HammingSums

N = 3000
METHODS = [Cascade(), Hamming()]
STARTS = {"cascade": CascadeStart, "hamming": HammingStart}


def halves(method, n=N, qber=0.03):
    key = Bits.from_array(np.random.default_rng(1).integers(0, 2, n, dtype=np.uint8))
    other = key ^ Bits.from_array(bernoulli(n, qber, 2))
    return (
        method.alice(key, qber_hint=0.03, entropy=Coins(), ledger=Ledger()),
        method.bob(other, qber_hint=0.03, entropy=Coins(), ledger=Ledger()),
    )


def next_sends(half, value=None):
    """Messages sent until the half waits, and what it waits for (None: it has ended)."""
    sent = []
    try:
        effect = half.send(value)
        while isinstance(effect, Send):
            sent.append(effect.message)
            effect = half.send(None)
    except StopIteration as stop:
        return sent, stop.value
    assert isinstance(effect, Receive)
    return sent, effect


def at_first_answer(method):
    """Both halves, Alice's first messages sent and Bob's first answer in hand."""
    alice, bob = halves(method)
    (start, question), _ = next_sends(alice)
    next_sends(bob)
    next_sends(bob, start)
    (answer,), _ = next_sends(bob, question)
    return alice, start, question, answer


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@pytest.mark.parametrize(
    "change",
    [
        {"n_bits": N + 1},
        {"n_bits": 0},
        {"n_bits": -1},
        {"n_bits": 1 << 60},
        {"frame_bits": 1},
        {"frame_bits": 0},
        {"seed": b""},
        {"seed": bytes(33)},
        {"qber_ppm": 0},
        {"qber_ppm": -5},
        {"qber_ppm": 500_001},
        {"qber_ppm": 1 << 62},
    ],
    ids=str,
)
def test_a_wrong_start_is_refused(method, change):
    alice, bob = halves(method)
    (start, _), _ = next_sends(alice)
    next_sends(bob)
    with pytest.raises(RemoteProtocolError):
        bob.send(msgspec.structs.replace(start, **change))


def spoilt(message, count, data):
    n, packed = getattr(message, count), getattr(message, data)
    yield {count: n + 1}
    yield {count: n - 1}
    yield {count: -1}
    yield {data: packed[:-1]}
    yield {data: packed + b"\0"}
    yield {data: b""}
    yield {count: 0, data: b""}
    if n % 8:
        yield {data: packed[:-1] + bytes([packed[-1] | 0x80])}


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_questions_that_do_not_fit_are_refused(method):
    _, start, question, _ = at_first_answer(method)
    for change in spoilt(question, "n_parities", "parities"):
        _, bob = halves(method)
        next_sends(bob)
        next_sends(bob, start)
        with pytest.raises(RemoteProtocolError):
            bob.send(msgspec.structs.replace(question, **change))


@pytest.mark.parametrize(
    ("method", "count", "data"),
    [(Cascade(), "n_flags", "flags"), (Hamming(), "n_flags", "flags"), (Hamming(), "n_syndrome_bits", "syndromes")],
    ids=str,
)
def test_answers_that_do_not_fit_are_refused(method, count, data):
    _, _, _, answer = at_first_answer(method)
    for change in spoilt(answer, count, data):
        alice, *_ = at_first_answer(method)
        with pytest.raises(RemoteProtocolError):
            alice.send(msgspec.structs.replace(answer, **change))


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_another_message_is_refused(method):
    alice, start, _, _ = at_first_answer(method)
    with pytest.raises(RemoteProtocolError):
        alice.send(start)


@pytest.mark.parametrize(
    "kind", [CascadeStart, CascadeParities, CascadeFlags, HammingStart, HammingSums, HammingAnswers]
)
def test_a_body_beyond_the_limit_is_not_decoded(kind):
    with pytest.raises(RemoteProtocolError, match="bytes"):
        decode(bytes(kind.max_bytes + 1), kind)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 3000),
    seed=st.integers(0, 1 << 30),
    share=st.floats(0, 1),
    frame=st.sampled_from([37, 512, 1 << 16]),
)
def test_a_lying_bob_cannot_keep_alice_busy(n, seed, share, frame):
    """Answers without rhyme or reason: Alice ends, in the rounds allowed, with her own key."""
    rng = np.random.default_rng(seed)
    alice, _ = halves(Cascade(frame), n=n)
    (_, *questions), waits = next_sends(alice)
    rounds = 0
    while isinstance(waits, Receive):
        (question,) = questions
        flags = Bits.from_array(rng.random(question.n_parities) < share)
        questions, waits = next_sends(alice, CascadeFlags(n_flags=len(flags), flags=flags.to_bytes()))
        rounds += 1
    assert rounds == waits.rounds <= MAX_ROUNDS
    assert len(waits.key) == n


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 3000), seed=st.integers(0, 1 << 30), share=st.floats(0, 1))
def test_a_lying_bob_cannot_keep_alice_busy_with_syndromes(n, seed, share):
    """Alice knows how many bits his flags call for, and ends in the rounds allowed."""
    rng = np.random.default_rng(seed)
    alice, _ = halves(Hamming(512), n=n)
    (_, *questions), waits = next_sends(alice)
    rounds = 0
    while isinstance(waits, Receive):
        (question,) = questions
        flags = Bits.from_array(rng.random(question.n_parities) < share)
        bits = expected_syndrome_bits(alice, flags)
        syndromes = Bits.from_array(rng.integers(0, 2, bits, dtype=np.uint8))
        answer = HammingAnswers(
            n_flags=len(flags),
            flags=flags.to_bytes(),
            n_syndrome_bits=bits,
            syndromes=syndromes.to_bytes(),
        )
        questions, waits = next_sends(alice, answer)
        rounds += 1
    assert rounds == waits.rounds <= 40
    assert len(waits.key) == n


def expected_syndrome_bits(alice, flags):
    """What Alice will expect for these flags, read from her round."""
    layout = alice.gi_frame.f_locals["layout"]
    return int(layout.differing(flags.words) @ layout.widths)


@settings(max_examples=150, deadline=None)
@given(
    body=st.binary(max_size=200),
    kind=st.sampled_from([CascadeStart, CascadeParities, CascadeFlags, HammingStart, HammingSums, HammingAnswers]),
)
def test_garbage_is_refused(body, kind):
    with pytest.raises(RemoteProtocolError):
        decode(body, kind)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), method=st.sampled_from(METHODS))
def test_flipped_bits_of_a_body_do_no_harm(data, method):
    """A body with flipped bits is refused or understood; then the halves go on or refuse, nothing else."""
    alice, _, _, answer = at_first_answer(method)
    body = bytearray(encode(answer))
    for _ in range(data.draw(st.integers(1, 3))):
        bit = data.draw(st.integers(0, 8 * len(body) - 1))
        body[bit >> 3] ^= 1 << (bit & 7)
    with contextlib.suppress(RemoteProtocolError):
        next_sends(alice, decode(bytes(body), type(answer)))
