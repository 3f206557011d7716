"""Block sums and Hamming syndromes: the procedure of paper 002 (Chen et al. 2021, Methods), known as Winnow.

Alice sends the sum of every block, Bob answers which of his differ and, for
those, the Hamming syndrome of his block; Alice, who knows her own, finds the
place of a single error and inverts that bit of hers. The key is permuted and
the procedure repeated, with longer blocks as fewer errors are left, until three
rounds with long blocks show no difference.

Assumes two keys of equal length, fixed before the seed is drawn. Guarantees
that both sides end with the same list of suspect frames; other frames may
still differ (a pair of errors with probability below 1 in 200,000), which
verification finds. All sums and syndromes are booked as parities, by the side
that sent them; only the match flags are functions of the error pattern. See
``docs/notes/hamming.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np

from qkdpp.core.bits import Bits, n_words
from qkdpp.core.entropy import SEED_BYTES, Entropy
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.ledger import Disclosure, Ledger
from qkdpp.core.stage import Message, Stage, receive, send
from qkdpp.kernels.hamming import block_checks, invert_errors, load_rows, pick_syndromes
from qkdpp.reconciliation.hamming_frames import Batch
from qkdpp.reconciliation.result import Reconciled, from_hint, packed

BATCH_WORDS: Final = 1 << 20
"""Words of key whose frames advance together (256 frames of 2**18 bits)."""
_SUM_BYTES: Final = 8 * BATCH_WORDS + (1 << 10)
"""Room for a sum of every bit of a batch."""


class HammingStart(Message, frozen=True, kw_only=True):
    """Alice to Bob, first message. Depends on no key: leaks nothing."""

    seed: bytes
    """32 bytes, drawn when both keys are fixed; all permutations follow from it."""
    n_bits: int
    """Length of the key."""
    frame_bits: int
    """Length of every frame but the last."""
    qber_ppm: int
    """The error rate to expect, in parts per million."""


class HammingSums(Message, frozen=True, kw_only=True):
    """Alice to Bob: sums of blocks of her key, frame after frame. Leaks ``n_parities`` bits of her key."""

    max_bytes: ClassVar[int] = _SUM_BYTES
    n_parities: int
    parities: bytes
    """``n_parities`` bits, packed, bit 0 lowest."""


class HammingAnswers(Message, frozen=True, kw_only=True):
    """Bob to Alice: which sums differ, and the syndromes of his blocks where they do.

    ``n_flags`` bits are functions of the error pattern and of public coins only; ``n_syndrome_bits`` bits of his key
    leak.
    """

    max_bytes: ClassVar[int] = 2 * _SUM_BYTES
    n_flags: int
    flags: bytes
    """A bit for every sum, packed, bit 0 lowest."""
    n_syndrome_bits: int
    syndromes: bytes
    """Of every frame bits 0 of the syndromes of its differing blocks, in order, then bits 1, ...; without gaps."""


@dataclass(frozen=True, slots=True)
class Hamming:
    """Alice corrects her key towards Bob's, in frames of ``frame_bits``."""

    frame_bits: int = 1 << 18
    name: Literal["hamming"] = "hamming"
    corrector: Literal["alice"] = "alice"

    def __post_init__(self) -> None:
        if not 1 <= self.frame_bits <= 64 * BATCH_WORDS:
            raise ValueError(f"a frame has 1 to {64 * BATCH_WORDS} bits")

    def alice(self, key: Bits, *, qber_hint: float, entropy: Entropy, ledger: Ledger) -> Stage[Reconciled]:
        """Sends sums and corrects her key. RemoteProtocolError if Bob's answers do not fit her sums."""
        if not len(key):
            return self._result(key, Bits.zeros(0), 0, [])
        start = HammingStart(
            seed=entropy.bytes(SEED_BYTES),
            n_bits=len(key),
            frame_bits=self.frame_bits,
            qber_ppm=from_hint(qber_hint),
        )
        yield from send(start)
        batches, found = self._batches(start), Bits.zeros(len(key))
        for number, batch in enumerate(batches):
            rows = load_rows(key.words, batch.start, batch.n_bits, self.frame_bits)
            while played := batch.begin_round(start.seed, f"hamming {number}"):
                layout = played.layout
                sums, syndromes = block_checks(rows, layout, played.orders)
                yield from send(HammingSums(n_parities=64 * sums.size, parities=sums.tobytes()))
                answer = yield from receive(HammingAnswers)
                flags = packed(answer.flags, answer.n_flags, 64 * sums.size, "HammingAnswers").words
                odd = layout.differing(flags)
                theirs = packed(answer.syndromes, answer.n_syndrome_bits, int(odd @ layout.widths), "HammingAnswers")
                _book(ledger, 64 * sums.size, len(theirs))
                invert_errors(rows, found.words, syndromes, flags, theirs.words, layout=layout, orders=played.orders)
                batch.end_round(played, odd)
        return self._result(key ^ found, found, found.count_ones(), batches)

    def bob(self, key: Bits, *, qber_hint: float, entropy: Entropy, ledger: Ledger) -> Stage[Reconciled]:
        """Answers sums; his key stays as it is, and he does not learn the error pattern. Alice's hint counts.

        RemoteProtocolError if what Alice sends does not fit his key or the rules.
        """
        del qber_hint, entropy
        if not len(key):
            return self._result(key, None, 0, [])
        start = yield from receive(HammingStart)
        self._check(start, len(key))
        corrections = 0
        batches = self._batches(start)
        for number, batch in enumerate(batches):
            rows = load_rows(key.words, batch.start, batch.n_bits, self.frame_bits)
            while played := batch.begin_round(start.seed, f"hamming {number}"):
                layout = played.layout
                sums, own = block_checks(rows, layout, played.orders)
                message = yield from receive(HammingSums)
                flags = packed(message.parities, message.n_parities, 64 * sums.size, "HammingSums").words ^ sums
                odd = layout.differing(flags)
                n_bits = int(odd @ layout.widths)
                yield from send(
                    HammingAnswers(
                        n_flags=64 * flags.size,
                        flags=flags.tobytes(),
                        n_syndrome_bits=n_bits,
                        syndromes=Bits(pick_syndromes(own, flags, layout, n_bits), n_bits).to_bytes(),
                    )
                )
                _book(ledger, 64 * flags.size, n_bits)
                batch.end_round(played, odd)
                corrections += int(odd.sum())
        return self._result(key, None, corrections, batches)

    def _check(self, start: HammingStart, n: int) -> None:
        if start.n_bits != n:
            raise RemoteProtocolError(f"HammingStart: a key of {start.n_bits} bits, ours has {n}")
        if start.frame_bits != self.frame_bits:
            raise RemoteProtocolError(f"HammingStart: frames of {start.frame_bits} bits, ours have {self.frame_bits}")
        if len(start.seed) != SEED_BYTES or from_hint(start.qber_ppm / 1e6) != start.qber_ppm:
            raise RemoteProtocolError("HammingStart: seed or error rate out of range")

    def _batches(self, start: HammingStart) -> list[Batch]:
        step = BATCH_WORDS // n_words(self.frame_bits) * self.frame_bits
        return [
            Batch(first, min(step, start.n_bits - first), self.frame_bits, start.qber_ppm / 1e6)
            for first in range(0, start.n_bits, step)
        ]

    def _result(self, key: Bits, pattern: Bits | None, corrected: int, batches: list[Batch]) -> Reconciled:
        finished = np.concatenate([np.zeros(0, dtype=np.bool_), *(batch.finished for batch in batches)])
        return Reconciled(
            key=key,
            pattern=pattern,
            frame_bits=self.frame_bits,
            n_frames=finished.size,
            corrected=corrected,
            rounds=sum(batch.rounds for batch in batches),
            suspect_frames=tuple(np.flatnonzero(~finished).tolist()),
        )


def _book(ledger: Ledger, sums: int, syndrome_bits: int) -> None:
    ledger.book("reconciliation", "alice", Disclosure.PARITY, sums)
    ledger.book("reconciliation", "bob", Disclosure.PATTERN, sums)
    ledger.book("reconciliation", "bob", Disclosure.PARITY, syndrome_bits)
