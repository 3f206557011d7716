"""The whole way: sifted key to secret key at 1 %, and a recording to secret key."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import process_time  # noqa: TID251 - what is measured is the point here

from qkdpp.bench.data import error_pattern, generator, random_bits
from qkdpp.bench.workload import Effort, Figures, Workload, power
from qkdpp.core.bits import Bits
from qkdpp.core.entropy import OsEntropy
from qkdpp.link.endpoint import Endpoint
from qkdpp.link.memory import connect
from qkdpp.link.pool import EphemeralPool
from qkdpp.offline.drive import POOL_TAGS, Outcome
from qkdpp.offline.reconcile import Request, reconcile
from qkdpp.offline.steady import now

AREA = "whole"
SIZES = {
    Effort.TINY: (1 << 14,),
    Effort.QUICK: (1 << 20, 1 << 22),
    Effort.FULL: (1 << 20, 1 << 22, 1 << 24, 100_000_000),
}
QBER, PHASE_ERROR = 0.01, 0.02
IN_TWO_THREADS = 1 << 24
"""Size at which two blocks at once are compared with one after the other."""
SIFTED_GOAL, TAGS_GOAL = 100e6, 10e6
SCENARIO = "backbone-625mhz"
RECORDED = {Effort.QUICK: (1.0, 563_151), Effort.FULL: (15.0, 8_466_370)}
"""Seconds of that scenario, and the tags they give with seed 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Two sifted keys."""

    alice: Bits
    bob: Bits


def workloads(effort: Effort) -> list[Workload]:
    """The rows of this area."""
    rows = [_sifted(n) for n in SIZES[effort]]
    return [*rows, _recording(effort)] if effort in RECORDED else rows


def _sifted(n: int) -> Workload:
    """Both parties run in this thread and each handles n bits: 2n bits of work, for a rate per core and party."""

    def prepare() -> Keys:
        rng = generator(n)
        alice = random_bits(n, rng)
        return Keys(alice=alice, bob=alice ^ error_pattern(n, QBER, rng))

    return Workload(
        area=AREA,
        kernel="sifted to secret, 1 %",
        size=f"{power(n)} bits a party",
        amount=2 * n,
        unit="bit",
        tier="kernels",
        prepare=prepare,
        run=_distil,
        goal=SIFTED_GOAL,
        figures=_secret,
    )


def _distil(keys: Keys) -> Outcome:
    request = Request(
        method="cascade",
        qber_hint=None,
        phase_error=PHASE_ERROR,
        secret_bits=None,
        eps_sec=1e-10,
        eps_cor=1e-15,
    )
    return reconcile(keys.alice, keys.bob, request, process_time)


def _secret(keys: Keys, outcome: Outcome) -> Figures:
    """Secret bits for a sifted one, and the stages of one run, both parties together, in processor time."""
    secret = len(outcome.keys[0]) if outcome.keys is not None else 0
    stages: Figures = {f"{stage.name} s": stage.seconds for stage in outcome.bob_log.stages}
    threads = {"two threads": _two_threads(keys)} if len(keys.alice) == IN_TWO_THREADS else {}
    return {"secret share": secret / len(keys.alice), **stages, **threads}


def _two_threads(keys: Keys) -> float:
    """How many times sooner two blocks end that run in two threads: by the clock, so only idle cores show it."""
    ratios = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            start = now()
            for _ in range(2):
                _distil(keys)
            middle = now()
            list(pool.map(_distil, [keys, keys]))
            ratios.append((middle - start) / (now() - middle))
    return median(ratios)


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Recorded:
    """A simulated run in a folder that goes away with this value."""

    folder: Path


def _recording(effort: Effort) -> Workload:
    """From opening Bob's T2 file and Alice's record to both keys: both parties in this thread."""
    duration_s, tags = RECORDED[effort]
    return Workload(
        area=AREA,
        kernel="recording to secret",
        size=f"T2, {tags:,} tags",
        amount=tags,
        unit="tag",
        tier="kernels",
        prepare=lambda: _recorded(duration_s),
        run=_distil_recording,
        goal=TAGS_GOAL,
        figures=_recording_figures,
    )


def _recorded(duration_s: float) -> Recorded:
    """Simulated as a user does it, in a process of its own: the package itself does not know its simulator."""
    parent = tempfile.mkdtemp()
    recorded = Recorded(folder=Path(parent) / "run")
    weakref.finalize(recorded, shutil.rmtree, parent)
    words = ["simulate", SCENARIO, "--output", str(recorded.folder), "--duration-s", str(duration_s), "--format", "ptu"]
    subprocess.run([sys.executable, "-m", "qkdpp", *words], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own words
    return recorded


def _distil_recording(recorded: Recorded) -> Outcome:
    from qkdpp.offline import inputs, runfile  # noqa: PLC0415 - reads files
    from qkdpp.offline.distill import distill  # noqa: PLC0415

    run = runfile.load(recorded.folder)
    read = inputs.load_inputs(run, from_s=None, to_s=None, progress=lambda what, n: None)
    return distill(run, read, now=now)


class _Timed(Endpoint[Bits]):
    """An endpoint that adds up the processor time of its side."""

    seconds = 0.0

    def start(self) -> list[bytes]:
        before = process_time()
        try:
            return super().start()
        finally:
            self.seconds += process_time() - before

    def receive(self, frame: bytes) -> list[bytes]:
        before = process_time()
        try:
            return super().receive(frame)
        finally:
            self.seconds += process_time() - before


def _each_party(recorded: Recorded) -> Figures:
    """Processor time of either party alone, its own files read: what each spends on a machine of its own."""
    from qkdpp.offline import inputs, runfile  # noqa: PLC0415 - reads files
    from qkdpp.offline.distill import conversation  # noqa: PLC0415

    run = runfile.load(recorded.folder)
    times = [process_time()]
    prepared = inputs.read_record(run)
    times.append(process_time())
    bob = inputs.read_tags(run, "bob", (None, None), lambda what, n: None, strict=False)
    times.append(process_time())
    halves, _ = conversation(run, inputs.Inputs(prepared=prepared, alice=None, bob=bob), now=process_time)
    pools = EphemeralPool.pair(POOL_TAGS, OsEntropy())
    ends = _Timed(halves[0], "alice", 0, pools[0]), _Timed(halves[1], "bob", 0, pools[1])
    connect(*ends)
    alice_s, bob_s = (b - a + end.seconds for (a, b), end in zip(pairwise(times), ends, strict=True))
    return {
        "Alice alone s": alice_s,
        "Bob alone s": bob_s,
        "Bob alone Mtag/s": len(bob.tags) / bob_s / 1e6,
    }


def _recording_figures(recorded: Recorded, outcome: Outcome) -> Figures:
    """Tags read, bits, the seconds of either party alone, and those of the stages of one run of both."""
    bits = len(outcome.keys[0]) if outcome.keys is not None else 0
    found: Figures = {stage.name + " s": stage.seconds for stage in outcome.bob_log.stages}
    return {"tags": float(str(outcome.bob_log.facts["tags"])), "secret bits": bits, **_each_party(recorded), **found}
