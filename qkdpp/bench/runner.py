"""Times a workload and its peers in turns.

Shared machines swing by a factor of two within seconds: so ours and the peers
run alternately, and the ratio is the median of the ratios of neighbours. Time
is the processor time of the process, all its threads together: waiting for a
core costs nothing, and more threads do not look faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median
from time import process_time  # noqa: TID251 - what is measured is the point here

import msgspec

from qkdpp import kernels
from qkdpp.bench.workload import Figures, Job, Peer, Tier, Workload

SHORTEST_S = 2e-3
"""Shorter jobs are repeated inside one measurement until they take so long."""
SHORT_S = 0.1
"""Jobs whose first run, with imports and cold caches, is shorter are run once more before that number is chosen."""
MAX_ROUNDS = 100

Now = Callable[[], float]


class PeerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A peer beside ours.

    Attributes:
        peer: its name.
        rate: its units per second, median.
        ratio: our rate over its rate, median over the rounds.
        asked: ratio asked for.
        decibels: 10 log10 (ratio / asked).
    """

    peer: str
    rate: float
    ratio: float
    asked: float | None
    decibels: float | None


class Absent(msgspec.Struct, frozen=True, kw_only=True):
    """A peer that is not installed, and how to get it."""

    peer: str
    install: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One workload, measured.

    Attributes:
        area: group of the workload.
        kernel: what ran.
        size: how large, in words.
        amount: units handled by one run.
        unit: what is counted.
        rate: units per second of processor time, median over the rounds.
        lower: units per second, lower quartile over the rounds.
        upper: units per second, upper quartile over the rounds.
        rounds: measurements.
        tier: what computed it: backend and, for compiled kernels, instruction set.
        goal: units per second asked for.
        decibels: 10 log10 (rate / goal); negative where the goal is missed.
        peers: those measured in the same run.
        absent: those that are not installed.
        figures: further figures by name.
    """

    area: str
    kernel: str
    size: str
    amount: int
    unit: str
    rate: float
    lower: float
    upper: float
    rounds: int
    tier: str
    goal: float | None
    decibels: float | None
    peers: tuple[PeerRow, ...]
    absent: tuple[Absent, ...]
    figures: Figures


def decibels(value: float, wanted: float | None) -> float | None:
    """How far ``value`` is above what is wanted, 10 log10 of the quotient; None where nothing is."""
    return None if wanted is None else 10.0 * math.log10(value / wanted)


def tier_name(tier: Tier) -> str:
    """The tier in words."""
    if tier == "numpy":
        return "numpy"
    return " ".join(word for word in (kernels.backend(), kernels.isa()) if word)


def measure(workload: Workload, budget_s: float, now: Now = process_time) -> Row:
    """Runs a workload and its peers alternately for about ``budget_s`` seconds, at least one round."""
    data = workload.prepare()
    results: list[object] = [None]

    def ours() -> None:
        results[0] = workload.run(data)

    jobs, present, absent = [ours], [], []
    for peer in workload.peers:
        try:
            job = peer.prepare(data)
        except ImportError:
            absent.append(Absent(peer=peer.name, install=peer.install))
            continue
        jobs.append(_silent(job))
        present.append(peer)
    own, *others = alternate(jobs, budget_s, now)
    rates = sorted(workload.amount / seconds for seconds in own)
    return Row(
        area=workload.area,
        kernel=workload.kernel,
        size=workload.size,
        amount=workload.amount,
        unit=workload.unit,
        rate=median(rates),
        lower=rates[len(rates) // 4],
        upper=rates[-1 - len(rates) // 4],
        rounds=len(rates),
        tier=tier_name(workload.tier),
        goal=workload.goal,
        decibels=decibels(median(rates), workload.goal),
        peers=tuple(_peer_row(workload, p, own, theirs) for p, theirs in zip(present, others, strict=True)),
        absent=tuple(absent),
        figures={} if workload.figures is None else workload.figures(data, results[0]),
    )


def _silent(job: Job) -> Callable[[], None]:
    def run() -> None:
        job()

    return run


def _peer_row(workload: Workload, peer: Peer, own: list[float], theirs: list[float]) -> PeerRow:
    amount = workload.amount if peer.amount is None else peer.amount
    ratio = median(t / amount * workload.amount / o for o, t in zip(own, theirs, strict=True))
    return PeerRow(
        peer=peer.name,
        rate=amount / median(theirs),
        ratio=ratio,
        asked=peer.asked,
        decibels=decibels(ratio, peer.asked),
    )


def alternate(jobs: list[Callable[[], None]], budget_s: float, now: Now) -> list[list[float]]:
    """Seconds per run of each job, round by round: all jobs once per round, in turn forwards and backwards.

    A first round that does not count warms up: compilers, caches, pages.
    """
    first = [_seconds(job, 1, now) for job in jobs]
    first = [_seconds(job, 1, now) if seconds < SHORT_S else seconds for job, seconds in zip(jobs, first, strict=True)]
    times: list[list[float]] = [[] for _ in jobs]
    order = list(range(len(jobs)))
    calls = [max(1, math.ceil(SHORTEST_S / seconds)) for seconds in first]
    started = now()
    while len(times[0]) < MAX_ROUNDS and (not times[0] or now() - started < budget_s):
        for i in order:
            times[i].append(_seconds(jobs[i], calls[i], now))
        order.reverse()
    return times


def _seconds(job: Callable[[], None], calls: int, now: Now) -> float:
    started = now()
    for _ in range(calls):
        job()
    return max(now() - started, 1e-9) / calls
