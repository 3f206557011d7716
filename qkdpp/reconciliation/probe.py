"""A look at the error rate before correction, for a few bits: parities of some short random blocks.

The error rate of the test basis guides the block sizes of error correction,
but the key basis may differ several times over. Alice discloses the parities of
128 disjoint blocks of 16 bits, Bob answers which differ; with error rate Q a
block differs with probability (1 - (1 - 2 Q)**16) / 2. Only if the answer
contradicts the guess by more than three standard deviations does the measured
rate replace it. Parities and flags are booked like all others; the choice
depends on the error pattern and public coins only.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from qkdpp.core.bits import Bits
from qkdpp.core.entropy import SEED_BYTES, Entropy, expand_blocks
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.ledger import Disclosure, Ledger
from qkdpp.core.stage import Message, Stage, receive, send
from qkdpp.reconciliation.result import packed

BLOCKS = 128
BLOCK_BITS = 16
MIN_KEY_BITS = 2 * BLOCKS * BLOCK_BITS
"""Shorter keys are not probed: the guess has to do."""
SIGMAS = 3.0
MAX_RATE = 0.12
"""What is reported where half of the blocks differ: the parities tell no more."""


class ProbeParities(Message, frozen=True, kw_only=True):
    """Alice: parities of ``n_parities`` blocks of her key. Leaks as many bits; ``seed`` places the blocks."""

    max_bytes: ClassVar[int] = 1 << 10
    seed: bytes
    n_parities: int
    parities: bytes


class ProbeFlags(Message, frozen=True, kw_only=True):
    """Bob: which of them differ from his; functions of the error pattern and the seed."""

    max_bytes: ClassVar[int] = 1 << 10
    n_flags: int
    flags: bytes


# --- pure functions -------------------------------------------------------------------------------------------------


def block_parities(key: Bits, seed: bytes) -> Bits:
    """Parities of the blocks: bits ``start .. start + 15`` for starts drawn one in each of ``BLOCKS`` equal parts."""
    room = len(key) // BLOCKS
    drawn = expand_blocks(seed, "probe", np.arange(BLOCKS, dtype=np.int64))[:, 0] % np.uint64(room - BLOCK_BITS + 1)
    starts = np.arange(BLOCKS) * room + drawn.astype(np.int64)
    first, shift = starts >> 6, (starts & 63).astype(np.uint64)
    following = key.words[np.minimum(first + 1, key.words.size - 1)] << np.uint64(1)
    blocks = (key.words[first] >> shift | following << (np.uint64(63) - shift)) & np.uint64((1 << BLOCK_BITS) - 1)
    return Bits.from_array(np.bitwise_count(blocks) & 1)


def expected_share(qber: float) -> float:
    """Probability that a block differs at error rate ``qber``."""
    return (1.0 - (1.0 - 2.0 * qber) ** BLOCK_BITS) / 2.0


def updated(guess: float, differing: int) -> float:
    """The guess, or the measured rate where the measurement contradicts it."""
    share, expected = differing / BLOCKS, expected_share(guess)
    sigma = float(np.sqrt(max(expected * (1.0 - expected), 1.0 / BLOCKS) / BLOCKS))
    if abs(share - expected) <= SIGMAS * sigma:
        return guess
    if share >= expected_share(MAX_RATE):
        return MAX_RATE
    measured: float = max((1.0 - (1.0 - 2.0 * share) ** (1.0 / BLOCK_BITS)) / 2.0, 1.0 / (2 * BLOCKS * BLOCK_BITS))
    return measured


# --- conversation ---------------------------------------------------------------------------------------------------


def alice(key: Bits, guess: float, *, entropy: Entropy, ledger: Ledger) -> Stage[float]:
    """The error rate to expect, from the guess and, for keys of some length, the probe."""
    if len(key) < MIN_KEY_BITS:
        return guess
    seed = entropy.bytes(SEED_BYTES)
    yield from send(ProbeParities(seed=seed, n_parities=BLOCKS, parities=block_parities(key, seed).to_bytes()))
    answer = yield from receive(ProbeFlags)
    flags = packed(answer.flags, answer.n_flags, BLOCKS, "ProbeFlags")
    _book(ledger)
    return updated(guess, flags.count_ones())


def bob(key: Bits, guess: float, *, ledger: Ledger) -> Stage[float]:
    """Bob's half; both sides come to the same rate if their guesses are the same."""
    if len(key) < MIN_KEY_BITS:
        return guess
    message = yield from receive(ProbeParities)
    if len(message.seed) != SEED_BYTES:
        raise RemoteProtocolError(f"ProbeParities: a seed of {len(message.seed)} bytes")
    theirs = packed(message.parities, message.n_parities, BLOCKS, "ProbeParities")
    flags = theirs ^ block_parities(key, message.seed)
    yield from send(ProbeFlags(n_flags=BLOCKS, flags=flags.to_bytes()))
    _book(ledger)
    return updated(guess, flags.count_ones())


def _book(ledger: Ledger) -> None:
    ledger.book("probe", "alice", Disclosure.PARITY, BLOCKS)
    ledger.book("probe", "bob", Disclosure.PATTERN, BLOCKS)
