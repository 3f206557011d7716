"""Block sums and Hamming syndromes: the procedure of paper 002 (Chen et al. 2021, Methods), known as Winnow.

Alice sends the sum of every block, Bob answers which of his differ and, for
those, the Hamming syndrome of his block; Alice, who knows her own, finds the
place of a single error and inverts that bit of hers. The key is permuted and
the procedure repeated, with longer blocks as fewer errors are left, until three
rounds with long blocks show no difference.

Assumes two keys of equal length, fixed before the seed is drawn. Guarantees
that both sides end with the same list of suspect frames; other frames may
still differ (a pair of errors with probability below 1 in 30,000), which
verification finds. All sums and syndromes are booked as parities, by the side
that sent them; only the match flags are functions of the error pattern. See
``docs/notes/hamming.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.bits import BitArray8, Bits
from qkdpp.core.entropy import SEED_BYTES, Entropy
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.ledger import Disclosure, Ledger
from qkdpp.core.stage import Message, Stage, receive, send
from qkdpp.reconciliation.result import Reconciled, from_hint, packed

if TYPE_CHECKING:
    from qkdpp.reconciliation.hamming_frames import Checks, Frame

BATCH_BITS: Final = 1 << 26
"""Bits of key whose frames advance together (256 frames of 2**18 bits)."""
_SUM_BYTES: Final = BATCH_BITS // 8 + (1 << 10)
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
    """Syndromes of the differing blocks in order, lowest bit first, packed without gaps."""


@dataclass(frozen=True, slots=True)
class Hamming:
    """Alice corrects her key towards Bob's, in frames of ``frame_bits``."""

    frame_bits: int = 1 << 18
    name: Literal["hamming"] = "hamming"
    corrector: Literal["alice"] = "alice"

    def __post_init__(self) -> None:
        if not 1 <= self.frame_bits <= BATCH_BITS:
            raise ValueError(f"a frame has 1 to {BATCH_BITS} bits")

    def alice(self, key: Bits, *, qber_hint: float, entropy: Entropy, ledger: Ledger) -> Stage[Reconciled]:
        """Sends sums and corrects her key. RemoteProtocolError if Bob's answers do not fit her sums."""
        if not len(key):
            return self._result(key, Bits.zeros(0), 0, [], 0)
        start = HammingStart(
            seed=entropy.bytes(SEED_BYTES),
            n_bits=len(key),
            frame_bits=self.frame_bits,
            qber_ppm=from_hint(qber_hint),
        )
        yield from send(start)
        corrected, rounds = Bits(key.words.copy(), len(key)), 0
        frames: list[Frame] = []
        for number, batch in enumerate(self._batches(start)):
            frames += batch
            while checks := _next_round(corrected, batch, start.seed, number):
                sums = _joined([c.sums_asked() for c in checks])
                yield from send(HammingSums(n_parities=len(sums), parities=sums.to_bytes()))
                answer = yield from receive(HammingAnswers)
                flags = packed(answer.flags, answer.n_flags, len(sums), "HammingAnswers")
                odd = _differing(checks, flags)
                bits = sum(len(o) * c.frame.width for c, o in zip(checks, odd, strict=True))
                syndromes = packed(answer.syndromes, answer.n_syndrome_bits, bits, "HammingAnswers").to_array()
                _book(ledger, len(sums), bits)
                _correct(corrected, checks, odd, syndromes)
                _end_round(checks, odd)
                rounds += 1
        pattern = corrected ^ key
        return self._result(corrected, pattern, pattern.count_ones(), frames, rounds)

    def bob(self, key: Bits, *, qber_hint: float, entropy: Entropy, ledger: Ledger) -> Stage[Reconciled]:
        """Answers sums; his key stays as it is, and he does not learn the error pattern. Alice's hint counts.

        RemoteProtocolError if what Alice sends does not fit his key or the rules.
        """
        del qber_hint, entropy
        if not len(key):
            return self._result(key, None, 0, [], 0)
        start = yield from receive(HammingStart)
        self._check(start, len(key))
        corrections, rounds = 0, 0
        frames: list[Frame] = []
        for number, batch in enumerate(self._batches(start)):
            frames += batch
            while checks := _next_round(key, batch, start.seed, number):
                own = _joined([c.sums_asked() for c in checks])
                message = yield from receive(HammingSums)
                flags = packed(message.parities, message.n_parities, len(own), "HammingSums") ^ own
                odd = _differing(checks, flags)
                syndromes = _joined([c.syndrome_bits(o) for c, o in zip(checks, odd, strict=True)])
                yield from send(
                    HammingAnswers(
                        n_flags=len(flags),
                        flags=flags.to_bytes(),
                        n_syndrome_bits=len(syndromes),
                        syndromes=syndromes.to_bytes(),
                    )
                )
                _book(ledger, len(flags), len(syndromes))
                corrections += _end_round(checks, odd)
                rounds += 1
        return self._result(key, None, corrections, frames, rounds)

    def _check(self, start: HammingStart, n: int) -> None:
        if start.n_bits != n:
            raise RemoteProtocolError(f"HammingStart: a key of {start.n_bits} bits, ours has {n}")
        if start.frame_bits != self.frame_bits:
            raise RemoteProtocolError(f"HammingStart: frames of {start.frame_bits} bits, ours have {self.frame_bits}")
        if len(start.seed) != SEED_BYTES or from_hint(start.qber_ppm / 1e6) != start.qber_ppm:
            raise RemoteProtocolError("HammingStart: seed or error rate out of range")

    def _batches(self, start: HammingStart) -> Iterator[list[Frame]]:
        from qkdpp.reconciliation.hamming_frames import Frame  # noqa: PLC0415 - compiles kernels

        step = BATCH_BITS // self.frame_bits * self.frame_bits
        for first in range(0, start.n_bits, step):
            stop = min(first + step, start.n_bits)
            yield [
                Frame(at, min(self.frame_bits, stop - at), start.qber_ppm / 1e6)
                for at in range(first, stop, self.frame_bits)
            ]

    def _result(self, key: Bits, pattern: Bits | None, corrected: int, frames: list[Frame], rounds: int) -> Reconciled:
        return Reconciled(
            key=key,
            pattern=pattern,
            frame_bits=self.frame_bits,
            n_frames=len(frames),
            corrected=corrected,
            rounds=rounds,
            suspect_frames=tuple(f for f, frame in enumerate(frames) if not frame.finished),
        )


def _next_round(key: Bits, batch: list[Frame], seed: bytes, number: int) -> list[Checks]:
    """The checks of the frames that take part in the next round; empty when the batch has ended."""
    from qkdpp.reconciliation.hamming_frames import compute_checks  # noqa: PLC0415 - compiles kernels

    active = [frame for frame in batch if frame.begin_round()]
    round_number = active[0].rounds if active else 0
    return compute_checks(key, active, seed, f"hamming {number} round {round_number}")


def _joined(parts: list[BitArray8]) -> Bits:
    return Bits.from_array(np.concatenate(parts))


def _differing(checks: list[Checks], flags: Bits) -> list[NDArray[np.int64]]:
    """For each frame the blocks that differ."""
    ends = np.cumsum([c.frame.asked for c in checks])
    return [c.frame.differing(part) for c, part in zip(checks, np.split(flags.to_array(), ends[:-1]), strict=True)]


def _correct(key: Bits, checks: list[Checks], odd: list[NDArray[np.int64]], syndromes: BitArray8) -> None:
    """Inverts one bit in every differing block."""
    at = 0
    for c, blocks in zip(checks, odd, strict=True):
        size = len(blocks) * c.frame.width
        errors = c.errors(blocks, syndromes[at : at + size])
        np.bitwise_xor.at(key.words, errors >> 6, np.uint64(1) << (errors & 63).astype(np.uint64))
        at += size


def _end_round(checks: list[Checks], odd: list[NDArray[np.int64]]) -> int:
    """Ends the round of each frame; the number of corrections."""
    for c, blocks in zip(checks, odd, strict=True):
        c.frame.end_round(len(blocks))
    return sum(len(blocks) for blocks in odd)


def _book(ledger: Ledger, sums: int, syndrome_bits: int) -> None:
    ledger.book("reconciliation", "alice", Disclosure.PARITY, sums)
    ledger.book("reconciliation", "bob", Disclosure.PATTERN, sums)
    ledger.book("reconciliation", "bob", Disclosure.PARITY, syndrome_bits)
