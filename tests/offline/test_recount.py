"""The recount knows the wire by itself, and a ledger that disagrees with it yields no key."""

import msgspec
import numpy as np
import pytest

from qkdpp.core.bits import Bits
from qkdpp.core.errors import LocalProtocolError
from qkdpp.core.ledger import Ledger
from qkdpp.offline.reconcile import Request, reconcile
from qkdpp.offline.recount import Recount, recount


def body(kind: str, **fields: object) -> bytes:
    return msgspec.msgpack.encode({"type": kind, **fields})


def test_a_hand_made_transcript_is_counted_by_its_bytes():
    messages = [
        ("alice", body("Hello", version=1)),
        ("alice", body("CascadeParities", n_parities=9, parities=b"\xff\x01")),
        ("bob", body("CascadeFlags", n_flags=9, flags=b"\0\0")),
        ("bob", body("HammingAnswers", n_flags=3, flags=b"\0", n_syndrome_bits=17, syndromes=b"\0\0\0")),
        ("alice", body("VerificationTags", n_tags=2, tag_bits=60, tags=bytes(15))),
        ("bob", body("VerificationVerdict", n_tags=2, matches=b"\3")),
        ("bob", body("ErrorCounts", counts=[1, 2, 3])),
    ]
    assert recount(messages) == Recount(
        parity_alice=9, parity_bob=17, pattern_alice=0, pattern_bob=9 + 3 + 3 * 64, verification=120 + 2
    )


@pytest.mark.parametrize(
    "message",
    [
        body("CascadeParities", n_parities=8, parities=b"\0\0"),
        body("VerificationTags", n_tags=1, tag_bits=60, tags=bytes(9)),
        body("SomethingNew", bits=b"\0"),
    ],
)
def test_what_does_not_fit_or_is_unknown_is_refused(message):
    with pytest.raises(LocalProtocolError):
        recount([("alice", message)])


def test_a_ledger_that_forgets_a_booking_yields_no_key(monkeypatch):
    rng = np.random.default_rng(1)
    alice = rng.integers(0, 2, 20_000, dtype=np.uint8)
    bob = alice ^ (rng.random(20_000) < 0.02)
    request = Request(method="cascade", qber_hint=0.02, phase_error=0.03, secret_bits=None, eps_sec=1e-9, eps_cor=1e-12)
    keys = Bits.from_array(alice), Bits.from_array(bob)
    assert reconcile(*keys, request, lambda: 0.0).keys is not None
    book = Ledger.book

    def forgetful(self, stage, side, what, bits):
        book(self, stage, side, what, bits - (stage == "verification" and side == "bob"))

    monkeypatch.setattr(Ledger, "book", forgetful)
    with pytest.raises(LocalProtocolError, match="disagrees"):
        reconcile(*keys, request, lambda: 0.0)
