"""Error correction over error rates: speed of both parties together and efficiency, from the same frames.

Errors are independent. Alice's hint is ten per cent too high. Frames that
correction gave up and frames that still differ are failures: what they leaked
counts, their bits do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp import verification
from qkdpp.bench.data import error_pattern, generator, random_bits
from qkdpp.bench.tno import INSTALL, tno_cascade, tno_winnow
from qkdpp.bench.workload import Effort, Figures, Peer, Workload, power
from qkdpp.core.abort import Abort
from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.core.ledger import Ledger, Rule
from qkdpp.core.stage import Message, encode, run_pair
from qkdpp.estimation import binary_entropy
from qkdpp.reconciliation import Cascade, Hamming, Reconciled

AREA = "correction"
QBERS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.11)
FEW_QBERS = (0.01, 0.05)
HINT_FACTOR = 1.1
"""The error rate is known to ten per cent only."""
EPS_COR = 1e-15
FRAMES = {
    Effort.TINY: {"cascade": 4, "hamming": 2},
    Effort.QUICK: {"cascade": 64, "hamming": 8},
    Effort.FULL: {"cascade": 1024, "hamming": 256},
}
TINY_FRAME_BITS = 1 << 12
GOALS = {"cascade": {0.01: 300e6, 0.05: 100e6}, "hamming": {0.01: 500e6}}
"""Bits per second, both parties together."""
F_GOALS = {
    "cascade": {0.01: 1.04, 0.02: 1.05, 0.03: 1.05, 0.05: 1.05, 0.08: 1.08, 0.11: 1.08},
    "hamming": dict.fromkeys((0.01, 0.02, 0.03, 0.05), 1.40),
}
"""Most that f shall be."""
TNO_BITS = 2000
"""Bits for the peer, which handles some ten thousand a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Two keys and the rate of errors they were made with."""

    alice: Bits
    bob: Bits
    qber: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """What a conversation left behind."""

    alice: Reconciled
    bob: Reconciled
    sent: list[tuple[str, Message]]
    ledger: Ledger


def workloads(effort: Effort) -> list[Workload]:
    """The rows of this area."""
    qbers = FEW_QBERS if effort is Effort.TINY else QBERS
    rows = []
    for corrector in (Cascade(), Hamming()):
        if effort is Effort.TINY:
            corrector = type(corrector)(frame_bits=TINY_FRAME_BITS)  # noqa: PLW2901
        rows += [_row(corrector, FRAMES[effort][corrector.name], qber, effort) for qber in qbers]
    return rows


def _row(corrector: Cascade | Hamming, frames: int, qber: float, effort: Effort) -> Workload:
    n, name = frames * corrector.frame_bits, corrector.name

    def prepare() -> Keys:
        rng = generator(round(1e6 * qber))
        alice = random_bits(n, rng)
        return Keys(alice=alice, bob=alice ^ error_pattern(n, qber, rng), qber=qber)

    peer = Peer(
        name="TNO Cascade" if name == "cascade" else "TNO Winnow",
        install=INSTALL,
        prepare=lambda d: (tno_cascade if name == "cascade" else tno_winnow)(*_first(d), qber),
        amount=min(n, TNO_BITS),
    )
    return Workload(
        area=AREA,
        kernel=name,
        size=f"{100 * qber:g} %, {frames:,} x {power(corrector.frame_bits)} bits",
        amount=n,
        unit="bit",
        tier="kernels",
        prepare=prepare,
        run=lambda d: correct(corrector, d),
        goal=GOALS[name].get(qber),
        peers=(peer,) if qber in FEW_QBERS and effort is not Effort.TINY else (),
        figures=lambda keys, done: efficiency(keys, done) | {"f goal": F_GOALS[name].get(qber)},
    )


def _first(keys: Keys) -> tuple[list[int], list[int]]:
    """The first bits of both keys, as lists."""
    n = min(len(keys.alice), TNO_BITS)
    return keys.alice.slice(0, n).to_array().tolist(), keys.bob.slice(0, n).to_array().tolist()


def correct(corrector: Cascade | Hamming, keys: Keys) -> Corrected:
    """Both parties in this thread, messages encoded and decoded."""
    ledgers = (Ledger(), Ledger())
    hint = min(HINT_FACTOR * keys.qber, 0.5)
    alice, bob, sent = run_pair(
        corrector.alice(keys.alice, qber_hint=hint, entropy=OsEntropy(), ledger=ledgers[0]),
        corrector.bob(keys.bob, qber_hint=hint, entropy=OsEntropy(), ledger=ledgers[1]),
    )
    return Corrected(alice=alice, bob=bob, sent=sent, ledger=ledgers[0])


def efficiency(keys: Keys, done: Corrected) -> Figures:
    """Leak over its limits, failures, round trips and traffic of one run.

    ``f`` is the leak over ``n h(E)`` with the bits n of the frames that did not fail and the error rate E of all; ``f
    verified`` adds verification; ``over log2 C`` is the leak over the sum of log2 C(n, k) of all frames.
    """
    n, frame_bits = len(keys.alice), done.alice.frame_bits
    errors = _by_frame(keys.alice ^ keys.bob, frame_bits)
    failed = _by_frame(done.alice.key ^ done.bob.key, frame_bits) > 0
    failed[list(done.alice.suspect_frames)] = True
    kept = n - frame_bits * int(failed.sum())
    limit = kept * binary_entropy(float(errors.sum()) / n)
    leak = done.ledger.leak_ec_bits(Rule.PUBLIC_ERRORS)
    tags = _verification_bits(done)
    return {
        "qber": float(errors.sum()) / n,
        "f": leak / limit if limit else None,
        "f verified": (leak + tags) / limit if limit and tags is not None else None,
        "over log2 C": leak / sum(_log2_choices(frame_bits, int(k)) for k in errors),
        "failed frames": float(failed.sum()),
        "frames": float(failed.size),
        "round trips": float(done.alice.rounds),
        "messages": float(len(done.sent)),
        "bytes": float(sum(len(encode(message)) for _, message in done.sent)),
    }


def _by_frame(bits: Bits, frame_bits: int) -> NDArray[np.int64]:
    """Ones in every frame; frames are whole words here."""
    ones: NDArray[np.int64] = np.bitwise_count(bits.words).reshape(-1, frame_bits // 64).sum(axis=1, dtype=np.int64)
    return ones


def _log2_choices(n: int, k: int) -> float:
    """log2 of the binomial coefficient."""
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def _verification_bits(done: Corrected) -> int | None:
    """What verification of these keys disclosed; None where it gave up."""
    ledgers = (Ledger(), Ledger())
    suspects = np.zeros(done.alice.n_frames, dtype=np.bool_)
    suspects[list(done.alice.suspect_frames)] = True
    frame_bits, max_dropped = done.alice.frame_bits, max(1, suspects.size // 8)
    try:
        run_pair(
            verification.alice(
                done.alice.key,
                frame_bits,
                suspects,
                eps_cor=EPS_COR,
                max_dropped=max_dropped,
                entropy=OsEntropy(),
                ledger=ledgers[0],
            ),
            verification.bob(
                done.bob.key, frame_bits, suspects, eps_cor=EPS_COR, max_dropped=max_dropped, ledger=ledgers[1]
            ),
        )
    except Abort:
        return None
    return ledgers[0].verification_bits
