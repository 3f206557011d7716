"""Verification: do the corrected strings agree? One hash over all frames; frames that differ are found and dropped.

Assumes that both strings are fixed and that the caller sealed the transcript
of error correction before this stage (Bob's tag, checked by Alice: nothing
that Eve still delivers to Bob may depend on the seed).

A tag is the low t bits of the polynomial hash of a group of frames under a
seed that Alice draws when the group is known. Two different strings give equal
tags if the difference of their hashes is one of 2^(128 - t) values, and each
value is met by at most L (blocks of text) of the 2^128 seeds: probability at
most L / 2^t, so cutting the hash costs nothing beyond its length. With
t = ceil(log2(L max_tags / eps_cor)) the sum over all tags that can be sent is
at most eps_cor.

Every round has a fresh seed. Within a round the tags may share it, because
the groups were fixed before it was drawn and the union bound adds their
probabilities whatever their dependence; the groups of the next round depend on
this round's outcome, hence on its seed, so they get another.

Messages, groups and lengths depend on the verdicts only, never on key bits.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from math import ceil, log2
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.bits import Bits, n_bytes
from qkdpp.core.entropy import Entropy
from qkdpp.core.errors import LocalProtocolError, RemoteProtocolError
from qkdpp.core.ledger import Disclosure, Ledger
from qkdpp.core.stage import Message, Stage, receive, send
from qkdpp.kernels import poly_hash
from qkdpp.kernels.polyhash import BLOCK_BYTES, n_blocks

HASH_BITS = 8 * BLOCK_BYTES
STAGE = "verification"


class VerificationTags(Message, frozen=True, kw_only=True):
    """Alice to Bob: a fresh seed and the tags of the groups now in question. Leak: ``n_tags * tag_bits`` bits.

    ``tags`` holds ``n_tags`` tags of ``tag_bits`` bits one after the other, packed.
    """

    max_bytes: ClassVar[int] = 1 << 20
    seed: bytes
    tag_bits: int
    n_tags: int
    tags: bytes


class VerificationVerdict(Message, frozen=True, kw_only=True):
    """Bob to Alice: one bit per tag, 1 where his own agrees, packed. Leak: ``n_tags`` bits."""

    max_bytes: ClassVar[int] = 1 << 17
    n_tags: int
    matches: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verified:
    """The part of a key that both parties hold alike, except with probability ``eps_cor``.

    Attributes:
        key: the kept frames, one after the other.
        kept: bool[n_frames], which frames those are.
        dropped_bits: bits in the other frames.
        tags: tags sent.
        verification_bits: bits disclosed by tags and verdicts.
        eps_cor: bound on the probability that the parties' ``key`` differ.
    """

    key: Bits
    kept: NDArray[np.bool_]
    dropped_bits: int
    tags: int
    verification_bits: int
    eps_cor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What both sides compute alike before the first tag: sizes and limits."""

    n_frames: int
    tag_bits: int
    max_tags: int
    max_dropped: int
    eps_cor: float


def plan(n_bits: int, frame_bits: int, eps_cor: float, max_dropped: int) -> Plan:
    """Tag length for a key of ``n_bits`` in frames of ``frame_bits`` (the last may be shorter).

    ``max_tags`` counts one tag, and two per bad frame and level of the bisection. Raises LocalProtocolError if
    ``eps_cor`` is out of reach of a 128-bit hash.
    """
    n_frames = -(-n_bits // frame_bits)
    if n_frames < 1 or not 0.0 < eps_cor < 1.0 or max_dropped < 0:
        raise LocalProtocolError(f"cannot verify {n_bits} bits to eps_cor {eps_cor} with {max_dropped} dropped frames")
    max_tags = 1 + 2 * max_dropped * (n_frames - 1).bit_length()
    length = n_blocks(n_bytes(n_bits))
    tag_bits = max(1, ceil(log2(length * max_tags / eps_cor)))
    if tag_bits > HASH_BITS:
        raise LocalProtocolError(f"eps_cor {eps_cor} needs tags of {tag_bits} bits; at most {HASH_BITS} are there")
    achieved = length * max_tags / 2.0**tag_bits
    return Plan(n_frames=n_frames, tag_bits=tag_bits, max_tags=max_tags, max_dropped=max_dropped, eps_cor=achieved)


def frames_of(key: Bits, frame_bits: int, frames: NDArray[np.integer]) -> Bits:
    """The frames of the given numbers (rising) of a key, one after the other; the key itself if that is all of it."""
    if len(frames) == -(-key.n // frame_bits):
        return key
    runs = np.split(frames, np.flatnonzero(np.diff(frames) != 1) + 1)
    spans = [(int(run[0]) * frame_bits, (int(run[-1]) + 1) * frame_bits) for run in runs if run.size]
    return Bits.concat([key.slice(start, min(stop, key.n)) for start, stop in spans])


def group_tags(key: Bits, frame_bits: int, groups: list[NDArray[np.int64]], seed: bytes, tag_bits: int) -> Bits:
    """Tags of the groups (arrays of frame numbers) of a key, ``tag_bits`` each, one after the other."""
    tags = []
    for group in groups:
        digest = poly_hash(seed, frames_of(key, frame_bits, group).to_bytes())
        tags.append(Bits.from_bytes(digest, HASH_BITS).slice(0, tag_bits))
    return Bits.concat(tags)


class _Search:
    """Which groups are in question, which frames are good: advances by verdicts, alike on both sides."""

    def __init__(self, key: Bits, frame_bits: int, suspects: NDArray[np.bool_], limits: Plan) -> None:
        if suspects.shape != (limits.n_frames,) or suspects.dtype != np.bool_:
            raise LocalProtocolError(f"suspects must be bool[{limits.n_frames}]")
        self.key, self.frame_bits, self.limits = key, frame_bits, limits
        self.kept = np.zeros(limits.n_frames, dtype=np.bool_)
        self.bad = int(suspects.sum())
        self.tags = 0
        self.groups = [np.flatnonzero(~suspects).astype(np.int64)]
        self._check(self.bad)

    def _check(self, bad: int) -> None:
        """Ends the block if more than the declared number of frames are bad, or all are."""
        if bad > self.limits.max_dropped or bad >= self.limits.n_frames:
            raise Abort(
                AbortReason.NOT_VERIFIED,
                bad_frames_at_least=bad,
                max_dropped_frames=self.limits.max_dropped,
                frames=self.limits.n_frames,
            )

    def own_tags(self, seed: bytes) -> Bits:
        """This side's tags of the groups in question."""
        return group_tags(self.key, self.frame_bits, self.groups, seed, self.limits.tag_bits)

    def advance(self, matches: NDArray[np.bool_], ledger: Ledger) -> None:
        """Keeps groups that match, halves those that do not, drops single frames; books the round."""
        n = len(self.groups)
        ledger.book(STAGE, "alice", Disclosure.VERIFICATION, n * self.limits.tag_bits)
        ledger.book(STAGE, "bob", Disclosure.VERIFICATION, n)
        self.tags += n
        differing = [group for group, match in zip(self.groups, matches, strict=True) if not match]
        for group, match in zip(self.groups, matches, strict=True):
            self.kept[group] |= match
        self._check(self.bad + len(differing))
        self.bad += sum(group.size == 1 for group in differing)
        self.groups = [half for group in differing if group.size > 1 for half in np.array_split(group, 2)]

    def verified(self) -> Verified:
        """The result once no group is in question."""
        key = frames_of(self.key, self.frame_bits, np.flatnonzero(self.kept))
        return Verified(
            key=key,
            kept=self.kept,
            dropped_bits=self.key.n - key.n,
            tags=self.tags,
            verification_bits=self.tags * (self.limits.tag_bits + 1),
            eps_cor=self.limits.eps_cor,
        )


def alice(
    key: Bits,
    frame_bits: int,
    suspects: NDArray[np.bool_],
    *,
    eps_cor: float,
    max_dropped: int,
    entropy: Entropy,
    ledger: Ledger,
) -> Stage[Verified]:
    """Sends seeds and tags of her key; returns the frames that match.

    Args:
        key: corrected key, frames of ``frame_bits`` bits one after the other, the last possibly shorter.
        frame_bits: unit of error correction.
        suspects: bool[n_frames], frames that correction gave up, known to both sides; dropped untested.
        eps_cor: bound on the probability of unequal keys, for all tags together.
        max_dropped: frames that may be dropped, suspects included; Abort(NOT_VERIFIED) beyond.
        entropy: source of the seeds.
        ledger: gets every tag and verdict.
    """
    search = _Search(key, frame_bits, suspects, plan(key.n, frame_bits, eps_cor, max_dropped))
    while search.groups:
        n, tag_bits = len(search.groups), search.limits.tag_bits
        seed = entropy.bytes(BLOCK_BYTES)
        tags = search.own_tags(seed).to_bytes()
        yield from send(VerificationTags(seed=seed, tag_bits=tag_bits, n_tags=n, tags=tags))
        verdict = yield from receive(VerificationVerdict)
        if verdict.n_tags != n:
            raise RemoteProtocolError(f"{verdict.n_tags} verdicts on {n} tags")
        search.advance(_unpack(verdict.matches, n).to_array().astype(np.bool_), ledger)
    return search.verified()


def bob(
    key: Bits,
    frame_bits: int,
    suspects: NDArray[np.bool_],
    *,
    eps_cor: float,
    max_dropped: int,
    ledger: Ledger,
) -> Stage[Verified]:
    """Compares Alice's tags with those of his key; returns the frames that match. Arguments as for :func:`alice`."""
    search = _Search(key, frame_bits, suspects, plan(key.n, frame_bits, eps_cor, max_dropped))
    while search.groups:
        n, tag_bits = len(search.groups), search.limits.tag_bits
        message = yield from receive(VerificationTags)
        if (message.n_tags, message.tag_bits, len(message.seed)) != (n, tag_bits, BLOCK_BYTES):
            raise RemoteProtocolError(f"{message.n_tags} tags of {message.tag_bits} bits, due {n} of {tag_bits}")
        theirs, own = _unpack(message.tags, n * tag_bits), search.own_tags(message.seed)
        matches = np.array([_equal(theirs, own, i * tag_bits, (i + 1) * tag_bits) for i in range(n)], dtype=np.bool_)
        yield from send(VerificationVerdict(n_tags=n, matches=Bits.from_array(matches).to_bytes()))
        search.advance(matches, ledger)
    return search.verified()


def _unpack(data: bytes, n: int) -> Bits:
    try:
        return Bits.from_bytes(data, n)
    except ValueError as error:
        raise RemoteProtocolError(f"verification: {error}") from error


def _equal(a: Bits, b: Bits, start: int, stop: int) -> bool:
    return hmac.compare_digest(a.slice(start, stop).to_bytes(), b.slice(start, stop).to_bytes())
