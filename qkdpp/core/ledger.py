"""The leakage ledger: every disclosed bit, booked by its stage, and what it is charged.

The rules are those of ``docs/security.md`` (two-way error correction).
``public_errors`` counts the error pattern W = K_A xor K_B as known to Eve and
charges the parities of the key that follow from transcript, W and public
coins, whichever side sent them. ``both`` charges every key-dependent bit of
both sides, plus the bits that name the class of the transcript's length.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Side = Literal["alice", "bob"]


class Rule(StrEnum):
    """How two-way error correction is charged."""

    PUBLIC_ERRORS = "public_errors"
    BOTH = "both"


class Disclosure(StrEnum):
    """What kind of bit was disclosed."""

    PARITY = "parity"
    """A parity or syndrome bit of the sender's key."""
    PATTERN = "pattern"
    """A function of the error pattern W and public coins only (match flags, error counts)."""
    VERIFICATION = "verification"
    """A bit of a verification tag, or its outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One booking."""

    stage: str
    side: Side
    what: Disclosure
    bits: int


LENGTH_CLASS_BITS = 16
"""Bits charged under ``both`` for the length of the transcript (at most 2**16 declared classes)."""


@dataclass(slots=True)
class Ledger:
    """Bookings of one block; both parties keep one and they must agree."""

    entries: list[Entry] = field(default_factory=list)

    def book(self, stage: str, side: Side, what: Disclosure, bits: int) -> None:
        """Adds ``bits`` disclosed by ``side``."""
        if bits < 0:
            raise ValueError("a disclosure cannot be taken back")
        self.entries.append(Entry(stage=stage, side=side, what=what, bits=bits))

    def total(self, *, side: Side | None = None, what: Disclosure | None = None) -> int:
        """Bits booked, optionally of one side or one kind."""
        return sum(
            e.bits for e in self.entries if (side is None or e.side == side) and (what is None or e.what == what)
        )

    def leak_ec_bits(self, rule: Rule) -> int:
        """Bits charged for error correction under ``rule``."""
        parity = self.total(what=Disclosure.PARITY)
        if rule is Rule.PUBLIC_ERRORS:
            return parity
        return parity + self.total(what=Disclosure.PATTERN) + LENGTH_CLASS_BITS

    @property
    def verification_bits(self) -> int:
        """Bits of verification tags and their outcomes."""
        return self.total(what=Disclosure.VERIFICATION)
