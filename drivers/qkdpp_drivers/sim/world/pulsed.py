"""A prepare-and-measure laboratory: one transmitter, one fibre, one receiver with four detectors and a sync channel.

Time is the laboratory's: seconds since it was switched on, given by the caller, never going back. All work is done in
:meth:`PulsedWorld.advance`, in slices; it grows with the clicks and not with the pulses. Whoever runs several
instruments on one world in threads need not care: :attr:`PulsedWorld.lock` is held in every call.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from qkdpp.core.sync_string import SyncString
from qkdpp.scenarios import scenario
from qkdpp.sim import path
from qkdpp.sim.clock import FS_PER_S
from qkdpp.sim.receiver import SYNC, Events, ReceiverChain
from qkdpp.sources.prepared_states import NOT_HELD, Codes, PreparedHeader, Slots, in_string
from qkdpp_drivers.sim.ports import Edges
from qkdpp_drivers.sim.world.knobs import BLINDING_A, MONITOR_DARK_A, DetectorKnobs, Knobs
from qkdpp_drivers.sim.world.light import Mode, WorldLight
from qkdpp_drivers.sim.world.output import Output
from qkdpp_drivers.sim.world.polarisation import Fibre

STEP_FS = 10**13
"""Everything happens in steps of 10 ms."""
CHAPTER_S = 1000
"""Times are int64 femtoseconds: they are counted anew, a chapter later, whenever two chapters are over."""
DRIFT_CYCLE_S = 3600.0
"""Clocks drift to and fro with this period: no drift lasts for weeks."""
MOST_S = 8000.0
"""A satellite is long gone by then: its way cannot be counted anew."""
KEEP_COUNTS_S = 60.0
"""The longest dwell of a controller that counts."""
PLENTY = 1 << 50
NO_CABLE = 255
EXACT_TOTALS = 1 << 22
"""Pulses whose totals are counted one by one; of more they are drawn."""


def from_zero(party: scenario.Party) -> scenario.Party:
    """The party with a clock that shows zero when the laboratory is switched on."""
    return msgspec.structs.replace(party, clock=msgspec.structs.replace(party.clock, offset_s=0.0))


@dataclass(slots=True, kw_only=True)
class _Run:
    """The transmitter since it was last told what to send; ``start_fs``: when pulse ``light.base_pulse`` left."""

    light: WorldLight
    start_fs: int
    next_pulse: int = 0

    def rebase(self, fs: int) -> None:
        """Counts time from ``fs`` later on, and pulses from one that leaves just before that."""
        self.start_fs -= fs
        period_as = self.light.header.pulse_period_as
        thousands = -self.start_fs // period_as
        if thousands > 0:
            self.light.base_pulse += 1000 * thousands
            self.start_fs += thousands * period_as


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """Cables from a few of the receiver's outputs to an instrument of their own, beside the tagger.

    Attributes:
        places: input of the instrument by output of the receiver; 255 where there is no cable.
    """

    world: PulsedWorld
    output: Output
    places: NDArray[np.uint8]

    def edges(self, until_s: float) -> Edges:
        """See :class:`qkdpp_drivers.sim.ports.EdgeSource`."""
        times, outputs = self.world.edges(until_s, self.output)
        inputs = self.places[outputs]
        return times[inputs != NO_CABLE], inputs[inputs != NO_CABLE]


class PulsedWorld:
    """The laboratory.

    Args:
        plan: a ``bb84`` scenario with a sync channel and a passive receiver.
        seed: of everything that happens here.
        wander_rad_per_sqrt_s: how fast the fibre's birefringence wanders.
        gate_period_ps: period of the detectors' gates; 0: free-running.
        string_seed: of the public synchronisation string, 32 bytes; None: drawn.
    """

    def __init__(
        self,
        plan: scenario.Scenario,
        seed: int,
        *,
        wander_rad_per_sqrt_s: float = 0.0,
        gate_period_ps: float = 0.0,
        string_seed: bytes | None = None,
    ) -> None:
        if plan.source is None or plan.sync is None:
            raise ValueError("the live world needs a source of pulses and a sync channel")
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)]
        self.plan, self.source, self.sync = plan, plan.source, plan.sync
        self.rng = streams[0]
        self.lock = threading.RLock()
        self.knobs = Knobs(detectors=tuple(self._detector(gate_period_ps) for _ in range(4)))
        self.fibre = Fibre(wander_rad_per_sqrt_s, streams[1])
        self.path = path.build(plan.channel, MOST_S)
        self.header = self._header(string_seed)
        self.chain = self._chain(streams[2])
        self.chain.clock.cycle_s = DRIFT_CYCLE_S
        self.dark_hz = tuple(plan.bob.receiver.dark_rate_hz)
        self.light_rng = streams[3]
        self.epoch = 0
        self.base_s = 0
        self.now_fs = 0
        self.clock_jump_ps = 0
        self._states: dict[int, _Run] = {}
        self._outputs = [Output(self.chain.clock)]
        self._counts: deque[tuple[int, NDArray[np.int64]]] = deque()
        self._run = self._begin(Mode.OFF)

    def _detector(self, gate_period_ps: float) -> DetectorKnobs:
        optimum = float(self.rng.uniform(0.0, gate_period_ps)) if gate_period_ps else 0.0
        return DetectorKnobs(gate_period_ps=gate_period_ps, gate_optimum_ps=optimum)

    def _header(self, seed: bytes | None) -> PreparedHeader:
        drawn, string = self.rng.bytes(32), None
        if self.plan.sync_string is not None:
            section = self.plan.sync_string
            string = SyncString(seed=drawn if seed is None else seed, length=section.length, frame=section.frame)
        return PreparedHeader(
            n_pulses=PLENTY,
            pulse_period_as=self.source.pulse_period_as,
            intensities=tuple(self.source.intensities),
            p_intensity=tuple(self.source.p_intensity),
            p_z=self.source.p_z,
            sync_string=string,
        )

    def _chain(self, rng: np.random.Generator) -> ReceiverChain:
        """Gates are the knobs' matter here: the chain is given free-running detectors."""
        receiver = msgspec.structs.replace(self.plan.bob.receiver, gate_rate_hz=0.0)
        return ReceiverChain(
            msgspec.structs.replace(from_zero(self.plan.bob), receiver=receiver),
            label=None,
            gate_phase_fs=0,
            sync_jitter_ps=self.sync.jitter_ps,
            start_fs=0,
            stop_fs=3 * CHAPTER_S * FS_PER_S,
            rng=rng,
        )

    # --- the transmitter --------------------------------------------------------------------------------------------

    def _begin(self, mode: Mode) -> _Run:
        light = WorldLight(
            self.plan,
            self.header,
            self.path,
            knobs=self.knobs,
            fibre=self.fibre,
            mode=mode,
            sparse=self.sync.period_pulses,
            state_seed=self.rng.bytes(32),
            rng=self.light_rng,
        )
        return _Run(light=light, start_fs=self.now_fs)

    def send(self, mode: Mode) -> int:
        """Lets the transmitter send something else from now on; random states begin a new epoch. Its number returns."""
        with self.lock:
            self._run = self._begin(mode)
            if mode is Mode.RANDOM:
                self.epoch += 1
                self._states = {self.epoch: self._run}
            return self.epoch

    @property
    def mode(self) -> Mode:
        """What is being sent."""
        return self._run.light.mode

    def pulses(self) -> int:
        """Pulses sent so far in the present epoch; 0 before the first."""
        run = self._states.get(self.epoch)
        return 0 if run is None else run.next_pulse

    def lookup(self, slots: Slots) -> Codes:
        """States of the present epoch; 255 where nothing was sent yet."""
        codes = np.full(slots.size, NOT_HELD, dtype=np.uint8)
        run = self._states.get(self.epoch)
        sent = (slots >= 0) & (slots < self.pulses())
        if run is not None and sent.any():
            codes[sent] = run.light.states(slots[sent])
        return codes

    def totals(self, first: int, count: int) -> NDArray[np.int64]:
        """Pulses ``first`` to ``first + count`` of the present epoch by (intensity, basis, bit), string not counted.

        Few are counted one by one, many are drawn: the same question gets the same answer.
        """
        if count <= EXACT_TOTALS:
            slots = np.arange(first, first + count, dtype=np.int64)
            codes = self.lookup(slots)[~in_string(self.header, slots)]
            return np.bincount(codes, minlength=self.header.n_codes).astype(np.int64)[: self.header.n_codes]
        n = count - (self.header.string_pulses(first + count) - self.header.string_pulses(first))
        p_basis = np.array([self.source.p_z, 1.0 - self.source.p_z])
        p = np.einsum("k,b,c->kbc", np.array(self.source.p_intensity), p_basis, np.array([0.5, 0.5])).reshape(-1)
        rng = np.random.default_rng([self.epoch, first, count])
        return np.asarray(rng.multinomial(n, p / p.sum()), dtype=np.int64)

    # --- time -------------------------------------------------------------------------------------------------------

    def advance(self, now_s: float) -> None:
        """Lets everything happen until ``now_s``."""
        with self.lock:
            while self.base_s * FS_PER_S + self.now_fs + STEP_FS <= now_s * FS_PER_S:
                self.step()

    def step(self) -> None:
        """Lets the next 10 ms happen; the first time also compiles what that needs."""
        if isinstance(self.path, path.FixedPath) and self.now_fs >= 2 * CHAPTER_S * FS_PER_S:
            self._rebase(CHAPTER_S * FS_PER_S)
        elif self.now_fs > MOST_S * FS_PER_S:
            raise ValueError(f"a simulated satellite link runs for {MOST_S:g} s at most")
        self._slice(self.now_fs + STEP_FS)

    def _rebase(self, fs: int) -> None:
        """Counts time from a chapter later on."""
        self.base_s += CHAPTER_S
        self.now_fs -= fs
        self.chain.rebase(CHAPTER_S)
        self._run.rebase(fs)
        self._counts = deque((end - fs, n) for end, n in self._counts)

    def _slice(self, until_fs: int) -> None:
        seconds = (until_fs - self.now_fs) / FS_PER_S
        self.fibre.advance(seconds)
        receiver = self.chain.receiver
        dark = tuple(hz * d.dark_factor() for hz, d in zip(self.dark_hz, self.knobs.detectors, strict=True))
        self.chain.receiver = msgspec.structs.replace(receiver, dark_rate_hz=dark)
        for detector in self.knobs.detectors:
            detector.current_a = BLINDING_A if self.knobs.eve.blinding else MONITOR_DARK_A
        light, sync = self._light(until_fs)
        tags, _ = self.chain.push(light, sync, until_fs, last=False)
        self.now_fs = until_fs
        for output in self._outputs:
            output.add(tags, self.clock_jump_ps)
        self._counts.append((until_fs, np.bincount(tags.channel, minlength=SYNC + 1)[:SYNC].astype(np.int64)))
        while self._counts[0][0] < until_fs - KEEP_COUNTS_S * FS_PER_S:
            self._counts.popleft()

    def _light(self, until_fs: int) -> tuple[Events, NDArray[np.int64]]:
        """What arrives before ``until_fs``, at true times."""
        run, light = self._run, self._run.light
        reach = until_fs - run.start_fs - int(self.path.arrival_fs(np.zeros(1, dtype=np.int64))[0])
        stop = max(run.next_pulse, light.base_pulse - (-reach * 1000 // self.header.pulse_period_as))
        first, run.next_pulse = run.next_pulse, stop
        found = light.seen(first, stop)
        sync = np.empty(0, dtype=np.int64)
        if light.mode is not Mode.OFF:
            sync = light.sync_fs(self.sync.period_pulses, self.sync.missing, first, stop) + run.start_fs
        moved = Events(time_fs=found.time_fs + run.start_fs, code=found.code, cause=found.cause, origin=found.origin)
        return moved, sync

    # --- the receiver -----------------------------------------------------------------------------------------------

    def edges(self, until_s: float, output: Output | None = None) -> Edges:
        """Edges at the tagger since the last call, by its clock: inputs 0 to 3 are Z0, Z1, X0, X1, 4 is sync.

        ``output``: that of another instrument, on the same reference.
        """
        with self.lock:
            return (output or self._outputs[0]).edges(until_s, lambda: self.now_fs, self.step)

    def branch(self, *outputs: int) -> Branch:
        """Edges from now on for one more instrument, whose inputs are these outputs in order."""
        places = np.full(SYNC + 1, NO_CABLE, dtype=np.uint8)
        places[list(outputs)] = np.arange(len(outputs))
        with self.lock:
            self._outputs.append(Output(self.chain.clock))
            return Branch(world=self, output=self._outputs[-1], places=places)

    def counts(self, dwell_s: float) -> NDArray[np.int64]:
        """Clicks of the four detectors in the last ``dwell_s`` seconds (whole slices)."""
        with self.lock:
            since = self.now_fs - dwell_s * FS_PER_S
            recent = [n for end, n in self._counts if end > since]
        return np.sum(recent, axis=0, dtype=np.int64) if recent else np.zeros(SYNC, dtype=np.int64)
