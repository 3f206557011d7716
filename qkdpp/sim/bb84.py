"""A simulated prepare-and-measure run: Bob's tags, Alice's record and the truth, slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.errors import ConfigError
from qkdpp.core.sync_string import SyncString
from qkdpp.core.tags import TimeTags
from qkdpp.scenarios import scenario
from qkdpp.sim import path
from qkdpp.sim.clock import FS_PER_S
from qkdpp.sim.pulses import PulseLink
from qkdpp.sim.receiver import SYNC, Cause, Events, ReceiverChain
from qkdpp.sim.record import AliceRecord, Clicks, Truth, summary
from qkdpp.sources.prepared_states import Codes, PreparedHeader, Slots

RecordSink = Callable[[Slots, Codes], None]
CLOCK_POINTS = 65
"""Instants at which the truth states Bob's clock."""


class Bb84Run:
    """One run of a ``bb84`` scenario with a seed.

    Use :meth:`tags` once, completely; then :meth:`totals` and :meth:`truth` are valid.
    """

    def __init__(self, plan: scenario.Scenario, seed: int) -> None:
        if plan.source is None:
            raise ConfigError("a bb84 scenario needs a [source]")
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)]
        self.plan = plan
        self.rng = streams[0]
        self.header = _header(plan, plan.source, streams[0])
        self.path = path.build(plan.channel, plan.duration_s)
        self.link = PulseLink(
            plan,
            self.header,
            self.path,
            state_seed=streams[0].bytes(32),
            basis_seed=streams[0].bytes(32),
            rng=streams[1],
        )
        lead_fs = round(plan.bob.clock.lead_ms * 1e-3 * FS_PER_S)
        ends = self.path.arrival_fs(self.link.emission_fs(np.array([0, self.header.n_pulses])))
        self.start_fs, self.stop_fs = int(ends[0]) - lead_fs, int(ends[1]) + lead_fs
        self.chain = ReceiverChain(
            plan.bob,
            label=self.link.label if plan.bob.receiver.kind == "active" else None,
            gate_phase_fs=int(ends[0]),
            sync_jitter_ps=plan.sync.jitter_ps if plan.sync else 0.0,
            start_fs=self.start_fs,
            stop_fs=self.stop_fs,
            rng=streams[2],
        )
        self.record = AliceRecord(self.header, self.link.states)
        self.outcome = Truth(
            self.header, self.link.states, gate_ps=plan.timing.gate_ps, blanking_ns=plan.timing.dead_time_ns
        )
        self.causes = np.zeros(len(Cause), dtype=np.int64)
        self.last_click_fs = self.start_fs

    def tags(self, record: RecordSink, progress: Callable[[float], None] = lambda share: None) -> Iterator[TimeTags]:
        """Bob's tags in order, in chunks; Alice's record goes to ``record`` in order on the way."""
        n = self.header.n_pulses
        for first, stop in self.link.slices():
            last = stop == n
            light, candidates = self.link.light(first, stop)
            until = self.stop_fs if last else int(self._arrival(stop))
            tags, done = self.chain.push(light, self._sync(first, stop), until, last=last)
            self.causes += np.bincount(done.cause, minlength=len(Cause))
            below = n + 2 if last else self._complete(until)
            clicks = self._clicks(done)
            self.outcome.add(clicks, below)
            record(*self.record.add(clicks.slot, candidates.slots, below))
            progress(stop / n)
            yield tags

    def _arrival(self, pulse: int) -> int:
        return int(self.path.arrival_fs(self.link.emission_fs(np.array([pulse])))[0])

    def _sync(self, first: int, stop: int) -> NDArray[np.int64]:
        if self.plan.sync is None:
            return np.empty(0, dtype=np.int64)
        return self.link.sync_fs(self.plan.sync.period_pulses, self.plan.sync.missing, first, stop)

    def _complete(self, until_fs: int) -> int:
        """A pulse number below which no later tag can lie, less one for the neighbour."""
        detectors = np.arange(self.chain.n, dtype=np.uint8)
        soonest = np.full(self.chain.n, until_fs - self.chain.margin_fs, dtype=np.int64)
        return int(self.link.nearest(soonest, detectors)[0].min()) - 1

    def _clicks(self, done: Events) -> Clicks:
        """Detector tags with their pulse numbers."""
        mine = done.take(done.code != SYNC)
        active = self.plan.bob.receiver.kind == "active"
        detector = (mine.code & 1).astype(np.uint8) if active else mine.code
        slot, residual = self.link.nearest(mine.time_fs, detector)
        since = np.diff(mine.time_fs, prepend=np.int64(self.last_click_fs))
        if len(mine):
            self.last_click_fs = int(mine.time_fs[-1])
        return Clicks(slot=slot, residual_fs=residual, code=mine.code, since_fs=since)

    def totals(self) -> NDArray[np.int64]:
        """Pulses sent, int64[intensities, 2, 2], string pulses not counted."""
        if not hasattr(self, "_totals"):
            self._totals = self.record.totals(self.rng)
        return self._totals

    def truth(self) -> dict[str, object]:
        """What really happened; neither party is given this."""
        sent = self.totals()
        instants = np.linspace(0, self.plan.duration_s * FS_PER_S, CLOCK_POINTS).astype(np.int64)
        shown = self.chain.clock.read(self.path.arrival_fs(instants))
        return {
            "n_pulses": self.header.n_pulses,
            "candidates": self.link.n_candidates,
            "tags_by_cause": {cause.name.lower(): int(n) for cause, n in zip(Cause, self.causes, strict=True)},
            "lost": asdict(self.chain.losses),
            "sent": sent.tolist(),
            "gated": summary(self.outcome.gated, sent),
            "accepted": summary(self.outcome.accepted, sent),
            "clock": {
                "emission_s": (instants / FS_PER_S).tolist(),
                "bob_minus_alice_s": ((shown - instants) / FS_PER_S).tolist(),
            },
        }

    def clock_at_start_s(self) -> float:
        """What Bob's clock shows when pulse 0 arrives."""
        arrival = self.path.arrival_fs(np.zeros(1, dtype=np.int64))
        return float(self.chain.clock.read(arrival)[0]) / FS_PER_S


def _header(plan: scenario.Scenario, source: scenario.PulseSource, rng: np.random.Generator) -> PreparedHeader:
    string = None
    if plan.sync_string is not None:
        string = SyncString(seed=rng.bytes(32), length=plan.sync_string.length, frame=plan.sync_string.frame)
    return PreparedHeader(
        n_pulses=round(plan.duration_s * 1e18 / source.pulse_period_as),
        pulse_period_as=source.pulse_period_as,
        intensities=tuple(source.intensities),
        p_intensity=tuple(source.p_intensity),
        p_z=source.p_z,
        sync_string=string,
    )
