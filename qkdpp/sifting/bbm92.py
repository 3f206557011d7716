"""Sifting of entangled pairs (BBM92).

Both parties hold matched detections in a common order. They exchange bases;
pairs with both bases Z are the key, all others are disclosed by both sides.
Tags close the gate before the first bit is disclosed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.bits import Bits, n_bytes
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.stage import Message, Stage, receive, seal, send, unseal
from qkdpp.kernels.codec import decode_bits, encode_bits

GATE = "bases"


class PairBases(Message, frozen=True, kw_only=True):
    """Either party: the basis of each matched pair, after the last detection of the block."""

    max_bytes: ClassVar[int] = 1 << 26
    n: int
    bases: bytes


class PairBits(Message, frozen=True, kw_only=True):
    """Either party: the bits of the ``n`` pairs that are not key. They never become key, so nothing is charged."""

    max_bytes: ClassVar[int] = 1 << 26
    n: int
    bits: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiftedPairs:
    """A sifted block of pairs.

    Attributes:
        key: sifted key (both bases Z), in the order of the pairs.
        key_index: int64[n], position of each key bit among the matched pairs.
        disclosed: int64[4, 4], disclosed pairs by Alice's and Bob's detector (2 basis + bit).
        n_test, test_errors: pairs with both bases X, and how many of them differ.
        test_index, test_wrong: int64[k] positions of the test pairs, bool[k] whether they differ.
    """

    key: Bits
    key_index: NDArray[np.int64]
    disclosed: NDArray[np.int64]
    n_test: int
    test_errors: int
    test_index: NDArray[np.int64]
    test_wrong: NDArray[np.bool_]


def _bases(message: PairBases, n: int) -> NDArray[np.uint8]:
    if message.n != n:
        raise RemoteProtocolError("PairBases: not one per matched pair")
    try:
        return decode_bits(message.bases, n)
    except ValueError as error:
        raise RemoteProtocolError(f"PairBases: {error}") from error


def _bits(message: PairBits, n: int) -> NDArray[np.uint8]:
    if message.n != n or len(message.bits) != n_bytes(n):
        raise RemoteProtocolError("PairBits: not one per disclosed pair")
    try:
        return Bits.from_bytes(message.bits, n).to_array()
    except ValueError as error:
        raise RemoteProtocolError(f"PairBits: {error}") from error


def _split(detector: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Basis and bit of detector codes."""
    return (detector >> 1).astype(np.uint8), (detector & 1).astype(np.uint8)


def _result(
    a_basis: NDArray[np.uint8],
    b_basis: NDArray[np.uint8],
    own_bit: NDArray[np.uint8],
    a_bit: NDArray[np.uint8],
    b_bit: NDArray[np.uint8],
) -> SiftedPairs:
    """``a_bit`` and ``b_bit`` are those of the disclosed pairs."""
    is_key = (a_basis == 0) & (b_basis == 0)
    a_detector = (a_basis[~is_key] << 1) | a_bit
    b_detector = (b_basis[~is_key] << 1) | b_bit
    counts = np.bincount(a_detector.astype(np.int64) * 4 + b_detector, minlength=16).reshape(4, 4)
    test = (a_basis == 1) & (b_basis == 1)
    wrong = (a_bit != b_bit)[test[~is_key]]
    return SiftedPairs(
        key=Bits.from_array(own_bit[is_key]),
        key_index=np.flatnonzero(is_key),
        disclosed=counts.astype(np.int64),
        n_test=int(test.sum()),
        test_errors=int(wrong.sum()),
        test_index=np.flatnonzero(test),
        test_wrong=wrong,
    )


def alice(detector: NDArray[np.uint8]) -> Stage[SiftedPairs]:
    """Alice's half; ``detector`` is ``2 * basis + bit`` of each matched pair."""
    basis, bit = _split(detector)
    n = int(detector.size)
    theirs = yield from receive(PairBases)
    yield from unseal(GATE)
    b_basis = _bases(theirs, n)
    yield from send(PairBases(n=n, bases=encode_bits(basis)))
    yield from seal(GATE)
    is_key = (basis == 0) & (b_basis == 0)
    n_open = int((~is_key).sum())
    yield from send(PairBits(n=n_open, bits=Bits.from_array(bit[~is_key]).to_bytes()))
    b_bit = _bits((yield from receive(PairBits)), n_open)
    return _result(basis, b_basis, bit, bit[~is_key], b_bit)


def bob(detector: NDArray[np.uint8]) -> Stage[SiftedPairs]:
    """Bob's half; ``detector`` is ``2 * basis + bit`` of each matched pair."""
    basis, bit = _split(detector)
    n = int(detector.size)
    if n == 0:
        raise Abort(AbortReason.TOO_FEW_DETECTIONS, pairs=0)
    yield from send(PairBases(n=n, bases=encode_bits(basis)))
    yield from seal(GATE)
    theirs = yield from receive(PairBases)
    yield from unseal(GATE)
    a_basis = _bases(theirs, n)
    is_key = (a_basis == 0) & (basis == 0)
    n_open = int((~is_key).sum())
    a_bit = _bits((yield from receive(PairBits)), n_open)
    yield from send(PairBits(n=n_open, bits=Bits.from_array(bit[~is_key]).to_bytes()))
    return _result(a_basis, basis, bit, a_bit, bit[~is_key])
