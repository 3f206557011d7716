"""What the simulator knows after the fact: Alice's record, totals of pulses sent, and the truth about detections.

Alice's record holds, for every tag of a detector channel, the nearest pulse and its two neighbours, so that she
holds whatever Bob may announce. Totals are exact for all pulses that were looked at and multinomial for the rest:
pulses that were never looked at have no state yet, and their states are independent of everything recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.sources.prepared_states import Codes, PreparedHeader, Slots, count_codes, in_string

EMPTY = np.empty(0, dtype=np.int64)


def _union(a: Slots, b: Slots) -> Slots:
    """Distinct numbers of both, increasing (``numpy.union1d`` hashes, slowly for runs of neighbours)."""
    both = np.sort(np.concatenate([a, b]), kind="stable")
    return both[np.diff(both, prepend=np.int64(-(1 << 62))) > 0]


class AliceRecord:
    """Collects pulse numbers in order and counts what was looked at."""

    def __init__(self, header: PreparedHeader, states: Callable[[Slots], Codes]) -> None:
        self.header, self.states = header, states
        self.recorded, self.candidates = EMPTY, EMPTY
        self.counted = np.zeros(header.n_codes, dtype=np.int64)
        self.looked_at = 0

    def add(self, tag_slots: Slots, candidates: Slots, below: int) -> tuple[Slots, Codes]:
        """Adds slots of tags and of candidates; returns the record's pulses below ``below`` that are new, with codes.

        Later calls must bring no tag slots below ``below + 1`` and no candidates below ``below``.
        """
        new = (tag_slots[:, None] + np.array([-1, 0, 1])).reshape(-1)
        self.recorded = _union(self.recorded, new[(new >= 0) & (new < self.header.n_pulses)])
        self.candidates = np.concatenate([self.candidates, candidates])
        cut, seen = np.searchsorted(self.recorded, below), np.searchsorted(self.candidates, below)
        slots, looked_at = self.recorded[:cut], _union(self.recorded[:cut], self.candidates[:seen])
        self.recorded, self.candidates = self.recorded[cut:], self.candidates[seen:]
        codes = self.states(looked_at)
        self.counted += count_codes(self.header, looked_at, codes)
        self.looked_at += looked_at.size - int(in_string(self.header, looked_at).sum())
        return slots, codes[np.searchsorted(looked_at, slots)]

    def totals(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Pulses sent, int64[intensities, 2, 2], string pulses not counted; call once, at the end."""
        header = self.header
        rest = header.n_pulses - header.string_pulses(header.n_pulses) - self.looked_at
        p_basis = np.array([header.p_z, 1.0 - header.p_z])
        p = np.einsum("k,b,c->kbc", np.array(header.p_intensity), p_basis, np.array([0.5, 0.5])).reshape(-1)
        return np.asarray((self.counted + rng.multinomial(rest, p / p.sum())).reshape(-1, 2, 2))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clicks:
    """Tags of detector channels in time order.

    ``slot``: nearest pulse; ``residual_fs``: distance from its centre; ``code``: detector; ``since_fs``: time since the
    previous tag of any detector.
    """

    slot: Slots
    residual_fs: NDArray[np.int64]
    code: NDArray[np.uint8]
    since_fs: NDArray[np.int64]

    def take(self, index: NDArray[np.bool_]) -> Clicks:
        """Rows by mask."""
        return Clicks(
            slot=self.slot[index],
            residual_fs=self.residual_fs[index],
            code=self.code[index],
            since_fs=self.since_fs[index],
        )

    def followed_by(self, more: Clicks) -> Clicks:
        """Both, one after the other."""
        return Clicks(
            slot=np.concatenate([self.slot, more.slot]),
            residual_fs=np.concatenate([self.residual_fs, more.residual_fs]),
            code=np.concatenate([self.code, more.code]),
            since_fs=np.concatenate([self.since_fs, more.since_fs]),
        )


class Truth:
    """Detections by what Alice sent and which detectors clicked, under the gate and blanking of the run.

    ``gated[state code, clicked set]`` (int64[4 K, 16]) counts pulses with at least one tag inside the gate; bit ``c``
    of the clicked set is detector code ``c``. ``accepted`` counts those whose first tag follows the previous tag of any
    detector by at least the blanking time. String pulses are not counted.
    """

    def __init__(
        self, header: PreparedHeader, states: Callable[[Slots], Codes], *, gate_ps: float, blanking_ns: float
    ) -> None:
        self.header, self.states = header, states
        self.half_gate_fs = round(gate_ps * 1e3 / 2)
        self.blanking_fs = round(blanking_ns * 1e6)
        self.gated = np.zeros((header.n_codes, 16), dtype=np.int64)
        self.accepted = np.zeros((header.n_codes, 16), dtype=np.int64)
        self.waiting = Clicks(slot=EMPTY, residual_fs=EMPTY, code=np.empty(0, dtype=np.uint8), since_fs=EMPTY)

    def add(self, clicks: Clicks, below: int) -> None:
        """Adds clicks in time order; pulses below ``below`` are complete with this call."""
        clicks = self.waiting.followed_by(clicks)
        done = clicks.slot < below
        self.waiting = clicks.take(~done)
        self._count(clicks.take(done))

    def _count(self, clicks: Clicks) -> None:
        inside = (np.abs(clicks.residual_fs) <= self.half_gate_fs) & (clicks.slot >= 0)
        clicks = clicks.take(inside & (clicks.slot < self.header.n_pulses))
        slots, first, pulse = np.unique(clicks.slot, return_index=True, return_inverse=True)
        clicked = np.zeros(slots.size, dtype=np.uint8)
        np.bitwise_or.at(clicked, pulse, np.uint8(1) << clicks.code)
        codes = self.states(slots)
        own = ~in_string(self.header, slots)
        live = own & (clicks.since_fs[first] >= self.blanking_fs)
        np.add.at(self.gated, (codes[own], clicked[own]), 1)
        np.add.at(self.accepted, (codes[live], clicked[live]), 1)


def summary(clicks: NDArray[np.int64], sent: NDArray[np.int64]) -> dict[str, object]:
    """Gains and error rates from a table of :class:`Truth` and the pulses sent (int64[K, 2, 2]).

    ``detections[k][a][b]``: pulses of intensity k prepared in basis a with clicks in basis b only; ``errors[k][b]``:
    wrong bits among those with a = b, a double click counting 1/2; ``double`` likewise; ``cross_basis[k][a]``: pulses
    with clicks in both bases. ``gain`` is detections per pulse sent, ``error_rate`` errors per detection (null: none).
    """
    k = sent.shape[0]
    table = clicks.reshape(k, 2, 2, 4, 4)  # intensity, basis, bit, clicked in X (2 bits), clicked in Z (2 bits)
    in_z, in_x = table[:, :, :, 0, 1:], table[:, :, :, 1:, 0]
    detections = np.stack([in_z.sum(axis=(2, 3)), in_x.sum(axis=(2, 3))], axis=2)
    errors, double = np.zeros((k, 2)), np.zeros((k, 2), dtype=np.int64)
    for basis, sets in enumerate((in_z[:, 0], in_x[:, 1])):
        # sets[k, bit, s - 1]: s = 1 only detector of bit 0, 2 only that of bit 1, 3 both
        double[:, basis] = sets[:, :, 2].sum(axis=1)
        errors[:, basis] = sets[:, 0, 1] + sets[:, 1, 0] + double[:, basis] / 2
    pulses = sent.sum(axis=2)[:, :, None]
    gain = np.divide(detections, pulses, out=np.zeros(detections.shape), where=pulses > 0)
    matched = detections[:, [0, 1], [0, 1]]
    rate = [
        [float(e / n) if n else None for e, n in zip(*row, strict=True)] for row in zip(errors, matched, strict=True)
    ]
    return {
        "detections": detections.tolist(),
        "errors": errors.tolist(),
        "double": double.tolist(),
        "cross_basis": table[:, :, :, 1:, 1:].sum(axis=(2, 3, 4)).tolist(),
        "gain": gain.tolist(),
        "error_rate": rate,
    }
