"""What error correction returns, and what a corrector looks like."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import Entropy
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.ledger import Ledger
from qkdpp.core.stage import Stage

_PARTS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """A key after error correction, equal to the other party's unless errors went unnoticed.

    Attributes:
        key: the corrected key; the reference side's as it was.
        pattern: positions where the two keys differed, as believed: W. Known to the corrector; None where not known.
        frame_bits: length of every frame but the last.
        n_frames: number of frames.
        corrected: errors found, or, on a side that does not know W, corrections the other side was told to make.
        rounds: round trips.
        suspect_frames: frames both sides know to be still different (given up), in rising order.
    """

    key: Bits
    pattern: Bits | None
    frame_bits: int
    n_frames: int
    corrected: int
    rounds: int
    suspect_frames: tuple[int, ...]


class Reconciler(Protocol):
    """Error correction between two keys of equal length."""

    @property
    def name(self) -> str:
        """The name :func:`qkdpp.reconciliation.by_name` knows it by."""
        ...

    @property
    def corrector(self) -> Literal["alice", "bob"]:
        """The side that changes its key."""
        ...

    def alice(self, key: Bits, *, qber_hint: float, entropy: Entropy, ledger: Ledger) -> Stage[Reconciled]:
        """Alice's half; her hint is the one that counts."""
        ...

    def bob(self, key: Bits, *, qber_hint: float, entropy: Entropy, ledger: Ledger) -> Stage[Reconciled]:
        """Bob's half."""
        ...


def from_hint(qber_hint: float) -> int:
    """The expected error rate in parts per million, 1 to 500,000; raises ValueError for NaN and infinity."""
    if not math.isfinite(qber_hint):
        raise ValueError("the error rate to expect must be a number")
    return min(max(round(qber_hint * _PARTS), 1), _PARTS // 2)


def packed(data: bytes, n: int, expected: int, message: str) -> Bits:
    """The peer's ``n`` bits in ``data``; RemoteProtocolError unless n is as expected and the bytes fit it."""
    if n != expected:
        raise RemoteProtocolError(f"{message}: {n} bits, expected {expected}")
    try:
        return Bits.from_bytes(data, n)
    except ValueError as error:
        raise RemoteProtocolError(f"{message}: {error}") from error
