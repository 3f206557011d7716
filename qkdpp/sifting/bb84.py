"""Sifting of decoy-state BB84.

Bob announces detected slots and, after the last detection of the block, his
bases; a tag closes the gate. Alice then reveals bases and intensities of those
slots, and the bits of everything that will not be key: test basis, mismatched
bases, non-key intensities and a random share of the signal. Bob answers with
the counts. Slots of the public synchronisation string are never announced.

Key basis: Z. The key is the bits with both bases Z and a key intensity, in
slot order, less the disclosed share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.bits import BitArray8, Bits, n_bytes
from qkdpp.core.entropy import Entropy
from qkdpp.core.errors import RemoteProtocolError
from qkdpp.core.stage import Message, Stage, receive, seal, send, unseal
from qkdpp.core.sync_string import SyncString
from qkdpp.kernels.bits import pick, spread
from qkdpp.kernels.codec import decode_bits, decode_slots, encode_bits, encode_slots
from qkdpp.kernels.tags import count_labels

NOT_HELD = 255
MAX_DETECTIONS = 1 << 28
"""Bounds what a short message can make us allocate (2 GiB)."""
MAX_SLOT = (1 << 50) - 1
GATE = "bases"
_ONE, _TWO = np.uint8(1), np.uint8(2)


class ClickMap(Message, frozen=True, kw_only=True):
    """Bob: the ``n`` slots in which he accepted a detection. No key bit depends on it."""

    max_bytes: ClassVar[int] = 1 << 28
    n: int
    slots: bytes


class Bases(Message, frozen=True, kw_only=True):
    """Bob: his basis for each announced slot, after the last detection of the block."""

    max_bytes: ClassVar[int] = 1 << 26
    n: int
    bases: bytes


class Preparation(Message, frozen=True, kw_only=True):
    """Alice: which slots she holds, her bases and intensities there, and the bits that are not key.

    ``intensities`` holds one flag string per intensity but the last: among the slots not yet named, those with
    this intensity. ``sampled`` flags, among the key bits, those disclosed. ``bits`` are the ``n_disclosed`` bits of
    all other held slots, in slot order; they never become key, so nothing is charged.
    """

    max_bytes: ClassVar[int] = 1 << 28
    n: int
    held: bytes
    bases: bytes
    intensities: list[bytes]
    sampled: bytes
    n_disclosed: int
    bits: bytes
    sent: list[int]
    n_pulses: int


class TestResult(Message, frozen=True, kw_only=True):
    """Bob: counts of disclosed detections by (intensity, Alice's state, Bob's detector), row by row."""

    __test__: ClassVar[bool] = False
    counts: list[int]


class PreparedStates(Protocol):
    """What sifting asks of Alice's record (``qkdpp.sources.prepared``)."""

    @property
    def n_pulses(self) -> int:
        """Pulses sent."""
        ...

    @property
    def sync_string(self) -> SyncString | None:
        """The public string among the pulses, if there is one."""
        ...

    @property
    def test_mode(self) -> bool:
        """Whether the states follow from a rule: no key from them is secret."""
        ...

    def lookup(self, slots: NDArray[np.int64]) -> NDArray[np.uint8]:
        """State codes ``intensity << 2 | basis << 1 | bit``; 255 where a slot is not held."""
        ...

    def totals(self) -> NDArray[np.int64]:
        """Pulses sent by (intensity, basis, bit)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What becomes key: intensities ``0 .. key_intensities - 1`` of ``n_intensities``, less a share."""

    n_intensities: int
    key_intensities: int
    disclose_share: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sifted:
    """A sifted block, as one party sees it.

    Attributes:
        key: the sifted key (this party's).
        key_intensity: uint8[n], intensity of each key bit.
        key_index: int64[n], position of each key bit among the announced detections.
        disclosed: int64[K, 4, 4], disclosed detections by intensity, Alice's state, Bob's detector (2 basis + bit).
        disclosed_index: int64[m], position of each disclosed detection among the announced ones; Bob's only.
        disclosed_cell: uint8[m], its cell of ``disclosed`` in the order of memory; Bob's only.
        key_counts: int64[K], key bits by intensity.
        n_announced: detections announced; ``not_held``: those without a preparation in Alice's record.
        sent: int64[K, 2, 2], pulses sent by intensity, basis, bit.
        announcement_bits: bits of ClickMap and Bases on the wire.
    """

    key: Bits
    key_intensity: NDArray[np.uint8]
    key_index: NDArray[np.int64]
    disclosed: NDArray[np.int64]
    key_counts: NDArray[np.int64]
    n_announced: int
    not_held: int
    sent: NDArray[np.int64]
    n_pulses: int
    announcement_bits: int
    disclosed_index: NDArray[np.int64] | None = None
    disclosed_cell: NDArray[np.uint8] | None = None


# --- pure functions -------------------------------------------------------------------------------------------------


def key_mask(
    a_basis: NDArray[np.uint8], intensity: NDArray[np.uint8], b_basis: NDArray[np.uint8], rules: Rules
) -> NDArray[np.bool_]:
    """Detections that may be key: both bases Z and a key intensity."""
    usable: NDArray[np.bool_] = (a_basis == 0) & (b_basis == 0) & (intensity < rules.key_intensities)
    return usable


def sample(n: int, share: float, entropy: Entropy) -> BitArray8:
    """A random selection of ``n`` positions, each with probability ``share`` (resolution 2**-32), from ``entropy``."""
    if share == 0.0:
        return np.zeros(n, dtype=np.uint8)
    drawn = np.frombuffer(entropy.bytes(4 * n), dtype="<u4")
    return (drawn < np.uint64(round(share * 2**32))).astype(np.uint8)


def encode_intensities(intensity: NDArray[np.uint8], n_intensities: int) -> list[bytes]:
    """One flag string per intensity but the last, each over the detections not named by an earlier one."""
    out = []
    rest = intensity
    for k in range(n_intensities - 1):
        out.append(encode_bits((rest == k).astype(np.uint8)))
        rest = pick(rest, rest != k)
    return out


def decode_intensities(planes: list[bytes], n: int, n_intensities: int) -> NDArray[np.uint8]:
    """Inverse of :func:`encode_intensities` for ``n`` detections; ValueError on malformed input."""
    if len(planes) != n_intensities - 1:
        raise ValueError(f"{n_intensities} intensities need {n_intensities - 1} flag strings")
    named: list[NDArray[np.bool_]] = []
    for plane in planes:
        named.append(decode_bits(plane, n).view(np.bool_))
        n -= int(np.count_nonzero(named[-1]))
    out = np.full(n, n_intensities - 1, dtype=np.uint8)
    for k in reversed(range(len(named))):
        out = spread(out, ~named[k])
        out += named[k] * np.uint8(k)
    return out


def tally(cell: NDArray[np.uint8], n_intensities: int) -> NDArray[np.int64]:
    """Counts by (intensity, Alice's state, Bob's detector), int64[K, 4, 4], of cells in the order of memory."""
    return count_labels(cell)[: 16 * n_intensities].reshape(n_intensities, 4, 4)


def _checked(n: int, slots: bytes, n_pulses: int) -> NDArray[np.int64]:
    if not 0 <= n <= min(MAX_DETECTIONS, n_pulses):
        raise RemoteProtocolError(f"ClickMap: {n} detections of {n_pulses} pulses")
    try:
        return decode_slots(slots, n, MAX_SLOT)
    except ValueError as error:
        raise RemoteProtocolError(f"ClickMap: {error}") from error


def _bits(name: str, data: bytes, n: int) -> NDArray[np.uint8]:
    try:
        return decode_bits(data, n)
    except ValueError as error:
        raise RemoteProtocolError(f"{name}: {error}") from error


def _reject_empty(n: int) -> None:
    if n == 0:
        raise Abort(AbortReason.TOO_FEW_DETECTIONS, detections=0)


# --- conversation ---------------------------------------------------------------------------------------------------


def alice(record: PreparedStates, rules: Rules, entropy: Entropy) -> Stage[Sifted]:
    """Alice's half: answers Bob's announcement once its tag verified."""
    clicks = yield from receive(ClickMap)
    bases = yield from receive(Bases)
    yield from unseal(GATE)
    slots = _checked(clicks.n, clicks.slots, record.n_pulses)
    if bases.n != clicks.n:
        raise RemoteProtocolError("Bases: not one per announced slot")
    b_basis = _bits("Bases", bases.bases, bases.n)
    if record.sync_string is not None and bool(record.sync_string.mask(slots).any()):
        raise RemoteProtocolError("ClickMap: slots of the public synchronisation string cannot become key")
    code = record.lookup(slots)
    held = code != NOT_HELD
    n_held = int(np.count_nonzero(held))
    if n_held == 0:
        raise Abort(AbortReason.TOO_FEW_DETECTIONS, detections=clicks.n, held=0)
    code, b_basis = pick(code, held), pick(b_basis, held)
    a_basis, bit, intensity = code >> _ONE & _ONE, code & _ONE, code >> _TWO
    maybe = key_mask(a_basis, intensity, b_basis, rules)
    sampled = sample(int(np.count_nonzero(maybe)), rules.disclose_share, entropy)
    is_key = spread(sampled ^ _ONE, maybe).view(np.bool_)
    disclosed_cell = pick(code << _ONE | b_basis, ~is_key)
    disclosed = disclosed_cell >> _ONE & _ONE
    sent = record.totals()
    yield from send(
        Preparation(
            n=clicks.n,
            held=encode_bits(held.astype(np.uint8)),
            bases=encode_bits(a_basis),
            intensities=encode_intensities(intensity, rules.n_intensities),
            sampled=encode_bits(sampled),
            n_disclosed=int(disclosed.size),
            bits=Bits.from_array(disclosed).to_bytes(),
            sent=[int(x) for x in sent.ravel()],
            n_pulses=record.n_pulses,
        )
    )
    result = yield from receive(TestResult)
    if len(result.counts) != 16 * rules.n_intensities or any(not 0 <= c <= disclosed.size for c in result.counts):
        raise RemoteProtocolError("TestResult: counts out of range")
    counts = np.array(result.counts, dtype=np.int64)
    if int(counts.sum()) != disclosed.size:
        raise RemoteProtocolError("TestResult: the counts do not add up to the disclosed detections")
    expected = count_labels(disclosed_cell)[: 8 * rules.n_intensities]
    by_basis = counts.reshape(-1, 4, 2, 2).sum(axis=3).ravel()
    if not np.array_equal(by_basis, expected):
        raise RemoteProtocolError("TestResult: the counts contradict the announced bases")
    key_intensity = pick(intensity, is_key)
    return Sifted(
        key=Bits.from_array(pick(bit, is_key)),
        key_intensity=key_intensity,
        key_index=_places(is_key, held),
        disclosed=counts.reshape(rules.n_intensities, 4, 4),
        key_counts=count_labels(key_intensity)[: rules.n_intensities],
        n_announced=clicks.n,
        not_held=clicks.n - n_held,
        sent=sent,
        n_pulses=record.n_pulses,
        announcement_bits=8 * (len(clicks.slots) + len(bases.bases)),
    )


def bob(slots: NDArray[np.int64], basis: NDArray[np.uint8], bit: NDArray[np.uint8], rules: Rules) -> Stage[Sifted]:
    """Bob's half: ``slots`` strictly increasing, one basis and bit each."""
    _reject_empty(slots.size)
    n = int(slots.size)
    clicks = ClickMap(n=n, slots=encode_slots(slots))
    bases = Bases(n=n, bases=encode_bits(basis))
    yield from send(clicks)
    yield from send(bases)
    yield from seal(GATE)
    answer = yield from receive(Preparation)
    held, a_basis, intensity, is_key = _parse(answer, n, basis, rules)
    is_open = ~is_key
    n_disclosed = int(np.count_nonzero(is_open))
    if answer.n_disclosed != n_disclosed or len(answer.bits) != n_bytes(n_disclosed):
        raise RemoteProtocolError("Preparation: the disclosed bits do not fit bases and intensities")
    try:
        a_bit = Bits.from_bytes(answer.bits, n_disclosed).to_array()
    except ValueError as error:
        raise RemoteProtocolError(f"Preparation: {error}") from error
    b_bit = pick(bit, held)
    ours = pick((intensity << _TWO | a_basis << _ONE) << _TWO | pick(basis, held) << _ONE | b_bit, is_open)
    cell = ours | a_bit << _TWO
    counts = tally(cell, rules.n_intensities)
    yield from send(TestResult(counts=[int(x) for x in counts.ravel()]))
    key_intensity = pick(intensity, is_key)
    return Sifted(
        key=Bits.from_array(pick(b_bit, is_key)),
        key_intensity=key_intensity,
        key_index=_places(is_key, held),
        disclosed=counts,
        key_counts=count_labels(key_intensity)[: rules.n_intensities],
        n_announced=n,
        not_held=n - int(np.count_nonzero(held)),
        sent=np.array(answer.sent, dtype=np.int64).reshape(rules.n_intensities, 2, 2),
        n_pulses=answer.n_pulses,
        announcement_bits=8 * (len(clicks.slots) + len(bases.bases)),
        disclosed_index=_places(is_open, held),
        disclosed_cell=cell,
    )


def _places(flags: NDArray[np.bool_], held: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Positions, among the announced detections, of the held ones that are flagged."""
    return np.flatnonzero(spread(flags.view(np.uint8), held).view(np.bool_))


def _parse(
    answer: Preparation, n: int, basis: NDArray[np.uint8], rules: Rules
) -> tuple[NDArray[np.bool_], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """Checks and decodes Alice's answer: what is held, and of it her bases, intensities, and what is key."""
    if answer.n != n:
        raise RemoteProtocolError("Preparation: not for the announced slots")
    sent_fits = len(answer.sent) == 4 * rules.n_intensities and all(0 <= s < 1 << 60 for s in answer.sent)
    if not sent_fits or not 0 <= answer.n_pulses < 1 << 60:
        raise RemoteProtocolError("Preparation: totals of pulses sent are malformed")
    held = _bits("Preparation.held", answer.held, n).view(np.bool_)
    n_held = int(np.count_nonzero(held))
    a_basis = _bits("Preparation.bases", answer.bases, n_held)
    try:
        intensity = decode_intensities(answer.intensities, n_held, rules.n_intensities)
    except ValueError as error:
        raise RemoteProtocolError(f"Preparation.intensities: {error}") from error
    maybe = key_mask(a_basis, intensity, pick(basis, held), rules)
    sampled = _bits("Preparation.sampled", answer.sampled, int(np.count_nonzero(maybe)))
    return held, a_basis, intensity, spread(sampled ^ _ONE, maybe).view(np.bool_)
