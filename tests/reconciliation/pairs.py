"""Keys with errors, one run of a corrector, and what its transcript discloses."""

from dataclasses import dataclass

import numpy as np

from qkdpp.core.bits import Bits
from qkdpp.core.ledger import Disclosure, Ledger
from qkdpp.core.stage import Message, encode, run_pair
from qkdpp.reconciliation import Reconciled, Reconciler


class Coins:
    """Entropy that repeats: 32 bytes from a number."""

    def __init__(self, number: int = 0) -> None:
        self.rng = np.random.default_rng(number)

    def bytes(self, n: int) -> bytes:
        return self.rng.bytes(n)


@dataclass
class Outcome:
    key: Bits
    errors: np.ndarray
    alice: Reconciled
    bob: Reconciled
    transcript: list[tuple[str, Message]]
    ledgers: tuple[Ledger, Ledger]

    @property
    def parities(self) -> int:
        return self.ledgers[0].total(what=Disclosure.PARITY)

    def wrong_frames(self) -> list[int]:
        left = (self.alice.key ^ self.bob.key).to_array()
        size = self.alice.frame_bits
        return [f for f in range(self.alice.n_frames) if left[f * size : (f + 1) * size].any()]


def correct(method: Reconciler, errors: np.ndarray, *, hint: float, seed: int = 0) -> Outcome:
    key = Bits.from_array(np.random.default_rng(seed + 1000).integers(0, 2, errors.size, dtype=np.uint8))
    ledgers = Ledger(), Ledger()
    alice, bob, transcript = run_pair(
        method.alice(key, qber_hint=hint, entropy=Coins(seed), ledger=ledgers[0]),
        method.bob(key ^ Bits.from_array(errors), qber_hint=hint, entropy=Coins(), ledger=ledgers[1]),
    )
    return Outcome(key, errors, alice, bob, transcript, ledgers)


def bernoulli(n: int, qber: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < qber).astype(np.uint8)


def exact(n: int, weight: int, seed: int) -> np.ndarray:
    errors = np.zeros(n, dtype=np.uint8)
    errors[np.random.default_rng(seed).permutation(n)[:weight]] = 1
    return errors


def recount(transcript: list[tuple[str, Message]]) -> dict[tuple[str, Disclosure], int]:
    """Disclosed bits by sender and kind, from the integer fields, each of which must match its packed bytes."""
    kinds = {
        "n_parities": ("parities", Disclosure.PARITY),
        "n_syndrome_bits": ("syndromes", Disclosure.PARITY),
        "n_flags": ("flags", Disclosure.PATTERN),
    }
    totals: dict[tuple[str, Disclosure], int] = {}
    for side, message in transcript:
        assert len(encode(message)) <= message.max_bytes
        for count, (data, kind) in kinds.items():
            if hasattr(message, count):
                bits = getattr(message, count)
                assert len(getattr(message, data)) == (bits + 7) // 8
                totals[side, kind] = totals.get((side, kind), 0) + bits
    return totals


def assert_booked(outcome: Outcome) -> None:
    """Both ledgers hold what the transcript shows."""
    counted = recount(outcome.transcript)
    for ledger in outcome.ledgers:
        for side in ("alice", "bob"):
            for kind in Disclosure:
                assert ledger.total(side=side, what=kind) == counted.get((side, kind), 0)
