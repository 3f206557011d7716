"""Cascade, all frames in step and without requests.

Alice sends parities of her key, Bob answers each with one bit: differs or
agrees. Both run the same state machine on the answers, which are functions of
the error pattern W = K_A xor K_B and of public coins only, so both know what is
asked next, and both learn W; Bob corrects his key. What already follows from
earlier parities (the other half of a node, the last block of a pass, a range
of positions known one by one) is neither sent nor booked.
Short nodes that are odd are taken to hold one error, whose address is asked for
at once; a wrong one is one error more, which later questions find.

Assumes two keys of equal length, fixed before the seed is drawn. Guarantees
that both sides end with the same list of suspect frames, and that a frame that
is not among them but still differs passed ten random parities; verification
finds it. See ``docs/notes/cascade.md``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import SEED_BYTES, Entropy
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.ledger import Disclosure, Ledger
from qkdpp.core.stage import Message, Stage, receive, send
from qkdpp.kernels.backend import backend
from qkdpp.reconciliation.result import Reconciled, from_hint, packed

if TYPE_CHECKING:
    from qkdpp.reconciliation.cascade_batch import Batch
    from qkdpp.reconciliation.cascade_compiled import CompiledBatch

SPARE_PARITIES: Final = 64
"""Short keys may cost more parities than they have bits: blocks and masks."""
BATCH_BITS: Final = 1 << 26
"""Bits of key whose frames advance together, at most."""
BATCH_FRAMES: Final = 1 << 10
"""Frames that advance together, at most."""
_MAX_BYTES: Final = BATCH_BITS // 8 + (1 << 20)
"""Room for as many parities as a batch has bits, which no round exceeds but for the masks."""


class CascadeStart(Message, frozen=True, kw_only=True):
    """Alice to Bob, first message. Depends on no key: leaks nothing."""

    seed: bytes
    """32 bytes, drawn when both keys are fixed; all orders and masks follow from it."""
    n_bits: int
    """Length of the key."""
    frame_bits: int
    """Length of every frame but the last."""
    qber_ppm: int
    """The error rate to expect, in parts per million."""


class CascadeParities(Message, frozen=True, kw_only=True):
    """Alice to Bob: parities of her key over sets both sides know. Leaks ``n_parities`` bits of her key."""

    max_bytes: ClassVar[int] = _MAX_BYTES
    n_parities: int
    parities: bytes
    """``n_parities`` bits, packed, bit 0 lowest."""


class CascadeFlags(Message, frozen=True, kw_only=True):
    """Bob to Alice: one bit for each parity of the last message, set where his key has the other parity.

    His key is the one with the errors found so far corrected. ``n_flags`` bits, functions of the error pattern and of
    public coins only.
    """

    max_bytes: ClassVar[int] = _MAX_BYTES
    n_flags: int
    flags: bytes
    """``n_flags`` bits, packed, bit 0 lowest."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """Bob corrects his key towards Alice's, in frames of ``frame_bits``."""

    frame_bits: int = 1 << 16
    name: Literal["cascade"] = "cascade"
    corrector: Literal["bob"] = "bob"

    def __post_init__(self) -> None:
        if not 1 <= self.frame_bits <= BATCH_BITS:
            raise ValueError(f"a frame has 1 to {BATCH_BITS} bits")

    def alice(self, key: Bits, *, qber_hint: float, entropy: Entropy, ledger: Ledger) -> Stage[Reconciled]:
        """Sends parities; her key stays as it is. RemoteProtocolError if Bob's answers do not fit the questions."""
        if not len(key):
            return self._result(key, key, [], 0)
        start = CascadeStart(
            seed=entropy.bytes(SEED_BYTES),
            n_bits=len(key),
            frame_bits=self.frame_bits,
            qber_ppm=from_hint(qber_hint),
        )
        yield from send(start)
        pattern, rounds = Bits.zeros(len(key)), 0
        suspects: list[int] = []
        for number, batch in self._batches(key, start, corrects=False):
            left = self._most_parities(number, len(key))
            while (parities := batch.ask()) is not None and left > 0:
                left, rounds = left - len(parities), rounds + 1
                yield from send(CascadeParities(n_parities=len(parities), parities=parities.to_bytes()))
                answer = yield from receive(CascadeFlags)
                flags = packed(answer.flags, answer.n_flags, len(parities), "CascadeFlags")
                _book(ledger, len(parities))
                batch.tell(flags)
            self._collect(batch, number, pattern, suspects)
        return self._result(key, pattern, suspects, rounds)

    def bob(self, key: Bits, *, qber_hint: float, entropy: Entropy, ledger: Ledger) -> Stage[Reconciled]:
        """Answers parities and corrects; Alice's hint counts, and she draws the seed.

        RemoteProtocolError if what Alice sends does not fit his key or the rules.
        """
        del qber_hint, entropy
        if not len(key):
            return self._result(key, key, [], 0)
        start = yield from receive(CascadeStart)
        self._check(start, len(key))
        pattern, rounds = Bits.zeros(len(key)), 0
        suspects: list[int] = []
        for number, batch in self._batches(key, start, corrects=True):
            left = self._most_parities(number, len(key))
            while (own := batch.ask()) is not None and left > 0:
                left, rounds = left - len(own), rounds + 1
                message = yield from receive(CascadeParities)
                flags = packed(message.parities, message.n_parities, len(own), "CascadeParities") ^ own
                yield from send(CascadeFlags(n_flags=len(flags), flags=flags.to_bytes()))
                _book(ledger, len(flags))
                batch.tell(flags)
            self._collect(batch, number, pattern, suspects)
        return self._result(key ^ pattern, pattern, suspects, rounds)

    @property
    def _batch_frames(self) -> int:
        return min(BATCH_BITS // self.frame_bits, BATCH_FRAMES)

    def _most_parities(self, number: int, n_bits: int) -> int:
        """After so many parities a batch ends: it has disclosed as much as it holds."""
        step = self._batch_frames * self.frame_bits
        return min(step, n_bits - number * step) + SPARE_PARITIES

    def _check(self, start: CascadeStart, n: int) -> None:
        if start.n_bits != n:
            raise RemoteProtocolError(f"CascadeStart: a key of {start.n_bits} bits, ours has {n}")
        if start.frame_bits != self.frame_bits:
            raise RemoteProtocolError(f"CascadeStart: frames of {start.frame_bits} bits, ours have {self.frame_bits}")
        if len(start.seed) != SEED_BYTES or from_hint(start.qber_ppm / 1e6) != start.qber_ppm:
            raise RemoteProtocolError("CascadeStart: seed or error rate out of range")

    def _batches(
        self, key: Bits, start: CascadeStart, *, corrects: bool
    ) -> Iterator[tuple[int, Batch | CompiledBatch]]:
        tier = "cascade_compiled" if backend() == "c" else "cascade_batch"
        new_batch = importlib.import_module(f"qkdpp.reconciliation.{tier}").new_batch

        step = self._batch_frames * self.frame_bits
        for number, first in enumerate(range(0, len(key), step)):
            yield (
                number,
                new_batch(
                    key,
                    first,
                    min(first + step, len(key)),
                    frame_bits=self.frame_bits,
                    seed=start.seed,
                    number=number,
                    hint=start.qber_ppm / 1e6,
                    corrects=corrects,
                ),
            )

    def _collect(self, batch: Batch | CompiledBatch, number: int, pattern: Bits, suspects: list[int]) -> None:
        """Adds what a batch found."""
        first = number * self._batch_frames
        batch.add_pattern(pattern.words, first * self.frame_bits, self.frame_bits)
        suspects.extend(first + f for f in batch.suspects())

    def _result(self, key: Bits, pattern: Bits, suspects: list[int], rounds: int) -> Reconciled:
        return Reconciled(
            key=key,
            pattern=pattern,
            frame_bits=self.frame_bits,
            n_frames=-(-len(key) // self.frame_bits),
            corrected=pattern.count_ones(),
            rounds=rounds,
            suspect_frames=tuple(suspects),
        )


def _book(ledger: Ledger, bits: int) -> None:
    ledger.book("reconciliation", "alice", Disclosure.PARITY, bits)
    ledger.book("reconciliation", "bob", Disclosure.PATTERN, bits)
