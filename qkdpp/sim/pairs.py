"""A simulated entangled-pair run: two parties' tags and the truth, slice by slice.

A continuously pumped source makes pairs at Poisson times; each photon is lost, or detected by one detector of a
passive receiver. Pairs of which neither photon is detected are never drawn. Equal bases give equal bits with
probability (1 + visibility) / 2, unequal ones independent bits. Accidentals, multi-pair events and their errors follow
from the tags by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from qkdpp.core import channel
from qkdpp.core.errors import ConfigError
from qkdpp.core.tags import TimeTags
from qkdpp.scenarios import scenario
from qkdpp.sim.clock import FS_PER_S, Femtoseconds
from qkdpp.sim.path import FixedPath
from qkdpp.sim.receiver import Cause, Events, ReceiverChain, events

SLICE_EVENTS = 1 << 17
SLICE_S = 0.5
NO_SYNC = np.empty(0, dtype=np.int64)
CLOCK_POINTS = 65


@dataclass(slots=True)
class _Side:
    """One party: its receiver, its way from the source, and what was counted."""

    chain: ReceiverChain
    path: FixedPath
    efficiency: NDArray[np.float64]
    p_z: float
    causes: NDArray[np.int64]

    @property
    def share(self) -> float:
        """Detection probability of a photon if all detectors were as good as the best."""
        return self.path.share * float(self.efficiency.max())


class PairRun:
    """One run of a ``bbm92`` scenario with a seed; use :meth:`tags` once, completely, before :meth:`truth`."""

    def __init__(self, plan: scenario.Scenario, seed: int) -> None:
        if plan.pairs is None or plan.alice is None:
            raise ConfigError("a bbm92 scenario needs [pairs] and [alice]")
        self.plan, self.pairs = plan, plan.pairs
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3)]
        self.rng = streams[0]
        self.stop_fs = round(plan.duration_s * FS_PER_S)
        self.sides = (self._side(plan.alice, streams[1]), self._side(plan.bob, streams[2]))
        self.n_drawn = 0
        self.matrix = np.zeros((4, 4), dtype=np.int64)
        self.unmatched = [(NO_SYNC, NO_SYNC), (NO_SYNC, NO_SYNC)]

    def _side(self, party: scenario.Party, rng: np.random.Generator) -> _Side:
        fibre_db = channel.fibre_loss_db(party.length_km, self.plan.channel.attenuation_db_per_km)
        path = FixedPath(self.plan.channel.loss_db + party.loss_db + fibre_db, party.length_km)
        lead_fs = round(party.clock.lead_ms * 1e-3 * FS_PER_S)
        chain = ReceiverChain(
            party,
            label=None,
            gate_phase_fs=0,
            sync_jitter_ps=0.0,
            start_fs=path.delay_fs - lead_fs,
            stop_fs=path.delay_fs + self.stop_fs + lead_fs,
            rng=rng,
        )
        efficiency = np.array(party.receiver.efficiency) * channel.transmittance(party.receiver.loss_db)
        return _Side(chain, path, efficiency, party.receiver.p_z, np.zeros(len(Cause), dtype=np.int64))

    def tags(self, progress: Callable[[float], None] = lambda share: None) -> Iterator[tuple[TimeTags, TimeTags]]:
        """Chunks of Alice's and of Bob's tags, each in order."""
        seen = 1.0 - (1.0 - self.sides[0].share) * (1.0 - self.sides[1].share)
        rate = max(self.pairs.pair_rate_hz * seen, 1e-9)
        step = max(1, round(min(SLICE_S, SLICE_EVENTS / rate) * FS_PER_S))
        for first in range(0, self.stop_fs, step):
            stop = min(first + step, self.stop_fs)
            last = stop == self.stop_fs
            chunk = []
            for side, light in zip(self.sides, self.light(first, stop), strict=True):
                until = stop + side.path.delay_fs
                if last:
                    until += round(side.chain.clock.plan.lead_ms * 1e-3 * FS_PER_S)
                tags, done = side.chain.push(light, NO_SYNC, until, last=last)
                side.causes += np.bincount(done.cause, minlength=len(Cause))
                self._collect(self.sides.index(side), done)
                chunk.append(tags)
            self._match()
            progress(stop / self.stop_fs)
            yield chunk[0], chunk[1]

    def light(self, first: int, stop: int) -> tuple[Events, Events]:
        """Detected photons of pairs made between two true times, for both sides."""
        a, b = self.sides
        mean = self.pairs.pair_rate_hz * (stop - first) / FS_PER_S
        kinds = [a.share * b.share, a.share * (1 - b.share), (1 - a.share) * b.share]
        n_both, n_a, n_b = (int(self.rng.poisson(mean * p)) for p in kinds)
        n = n_both + n_a + n_b
        time = self.rng.integers(first, stop, n)
        number = self.n_drawn + np.arange(n)
        self.n_drawn += n
        bits, bases = self._outcomes(n)
        at_a = np.concatenate([np.arange(n_both), np.arange(n_both, n_both + n_a)])
        at_b = np.concatenate([np.arange(n_both), np.arange(n_both + n_a, n)])
        codes = [basis << 1 | bit for basis, bit in zip(bases, bits, strict=True)]
        pick = [(a, codes[0], at_a), (b, codes[1], at_b)]
        photons = [self._photons(side, time[at], number[at], code[at]) for side, code, at in pick]
        return photons[0], photons[1]

    def _outcomes(self, n: int) -> tuple[tuple[NDArray[np.int64], ...], tuple[NDArray[np.int64], ...]]:
        """Bits and bases of both sides for ``n`` pairs."""
        bases = tuple((self.rng.random(n) >= side.p_z).astype(np.int64) for side in self.sides)
        bit = self.rng.integers(0, 2, n)
        visibility = np.array([self.pairs.visibility_z, self.pairs.visibility_x])[bases[0]]
        differs = self.rng.random(n) < np.where(bases[0] == bases[1], (1.0 - visibility) / 2, 0.5)
        return (bit, bit ^ differs), bases

    def _photons(
        self, side: _Side, time: Femtoseconds, number: NDArray[np.int64], detector: NDArray[np.int64]
    ) -> Events:
        """Arrivals at one side, thinned to the efficiency of each detector."""
        kept = self.rng.random(detector.size) * side.efficiency.max() < side.efficiency[detector]
        return events(side.path.arrival_fs(time[kept]), detector[kept], Cause.PHOTON, number[kept])

    def _collect(self, which: int, done: Events) -> None:
        photons = done.take(done.cause == Cause.PHOTON)
        number, code = self.unmatched[which]
        self.unmatched[which] = (
            np.concatenate([number, photons.origin]),
            np.concatenate([code, photons.code.astype(np.int64)]),
        )

    def _match(self) -> None:
        """Counts pairs that both sides recorded; what is one slice old will not be met any more."""
        (a, code_a), (b, code_b) = self.unmatched
        _, at_a, at_b = np.intersect1d(a, b, assume_unique=True, return_indices=True)
        np.add.at(self.matrix, (code_a[at_a], code_b[at_b]), 1)
        oldest = self.n_drawn - 2 * SLICE_EVENTS
        for which, (number, code, matched) in enumerate([(a, code_a, at_a), (b, code_b, at_b)]):
            keep = number >= oldest
            keep[matched] = False
            self.unmatched[which] = (number[keep], code[keep])

    def truth(self) -> dict[str, object]:
        """What really happened; neither party is given this.

        ``pairs[i][j]``: pairs recorded by Alice's detector i and Bob's detector j, whatever their timing.
        """
        instants = np.linspace(0, self.stop_fs, CLOCK_POINTS).astype(np.int64)
        same = [self.matrix[:2, :2], self.matrix[2:, 2:]]
        rates = [float(1 - np.trace(cell) / cell.sum()) if cell.sum() else None for cell in same]
        result: dict[str, object] = {
            "pairs": self.matrix.tolist(),
            "error_rate": rates,
            "visibility": [self.pairs.visibility_z, self.pairs.visibility_x],
        }
        for name, side in zip(("alice", "bob"), self.sides, strict=True):
            shown = side.chain.clock.read(instants + side.path.delay_fs)
            result[name] = {
                "tags_by_cause": {c.name.lower(): int(k) for c, k in zip(Cause, side.causes, strict=True)},
                "lost": asdict(side.chain.losses),
                "clock": {"true_s": (instants / FS_PER_S).tolist(), "shown_s": (shown / FS_PER_S).tolist()},
            }
        return result

    def clock_difference_s(self) -> float:
        """Bob's reading less Alice's for a pair made at true time 0."""
        shown = [int(s.chain.clock.read(np.array([s.path.delay_fs]))[0]) for s in self.sides]
        return (shown[1] - shown[0]) / FS_PER_S
