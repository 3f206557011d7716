"""Timing in turns, ratios and decibels, on a clock that the jobs themselves turn."""

from __future__ import annotations

import math

import pytest

from qkdpp.bench.runner import MAX_ROUNDS, alternate, decibels, measure, tier_name
from qkdpp.bench.workload import Peer, Workload
from qkdpp.kernels import backend, isa


class FakeClock:
    """Seconds that pass only while a job runs."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.ran: list[str] = []

    def now(self) -> float:
        return self.seconds

    def job(self, name: str, *durations: float):
        """A job that takes these durations one after the other, then the last one for ever."""
        left = list(durations)

        def run() -> None:
            self.ran.append(name)
            self.seconds += left.pop(0) if len(left) > 1 else left[0]

        return run


def workload(run, peers=(), **changes) -> Workload:
    fields = {
        "area": "hash", "kernel": "k", "size": "s", "amount": 1000, "unit": "bit", "tier": "kernels",
        "prepare": lambda: None, "run": lambda data: run(), "peers": peers,
    }  # fmt: skip
    return Workload(**(fields | changes))


@pytest.mark.parametrize(
    ("value", "goal", "expected"), [(100.0, 100.0, 0.0), (1000.0, 100.0, 10.0), (1.0, 2.0, -3.0103), (5.0, None, None)]
)
def test_decibels(value, goal, expected):
    found = decibels(value, goal)
    assert found is None if expected is None else found == pytest.approx(expected, abs=1e-4)


def test_jobs_alternate_and_the_first_round_does_not_count():
    clock = FakeClock()
    ours, theirs = clock.job("ours", 50.0, 1.0), clock.job("theirs", 70.0, 2.0)
    times = alternate([ours, theirs], 10.0, clock.now)
    assert times == [[1.0] * 4, [2.0] * 4]
    assert clock.ran == ["ours", "theirs"] + ["ours", "theirs", "theirs", "ours"] * 2


def test_one_round_at_least_and_a_hundred_at_most():
    clock = FakeClock()
    assert alternate([clock.job("a", 5.0)], 0.0, clock.now) == [[5.0]]
    assert len(alternate([clock.job("a", 1.0)], 1e9, clock.now)[0]) == MAX_ROUNDS


def test_short_jobs_are_repeated_inside_a_measurement():
    clock = FakeClock()
    times = alternate([clock.job("a", 1e-4)], 0.0, clock.now)
    assert times[0] == [pytest.approx(1e-4)]
    assert len(clock.ran) == 2 + 20


def test_a_slow_first_run_does_not_decide_how_often_a_short_job_is_repeated():
    clock = FakeClock()
    assert alternate([clock.job("a", 0.05, 1e-3)], 0.0, clock.now) == [[pytest.approx(1e-3)]]
    assert len(clock.ran) == 2 + 2


def test_rates_ratios_and_decibels():
    clock = FakeClock()
    peer = Peer(name="p", install="pip install p", prepare=lambda data: clock.job("p", 4.0), amount=500, asked=16.0)
    row = measure(workload(clock.job("k", 1.0), (peer,), goal=100.0), 60.0, clock.now)
    assert (row.rate, row.lower, row.upper) == (1000.0, 1000.0, 1000.0)
    assert row.decibels == pytest.approx(10.0)
    assert row.rounds == 12
    (beside,) = row.peers
    assert beside.rate == 125.0
    assert beside.ratio == 8.0
    assert beside.decibels == pytest.approx(-10 * math.log10(2))


def test_the_ratio_is_the_median_of_neighbours():
    """The machine is three times slower for half of the rounds: the rates swing, the ratio does not."""
    clock = FakeClock()
    peer = Peer(name="p", install="", prepare=lambda data: clock.job("p", 9.0, 6.0, 6.0, 2.0))
    row = measure(workload(clock.job("k", 9.0, 3.0, 3.0, 1.0), (peer,)), 30.0, clock.now)
    assert row.lower < row.upper
    assert row.peers[0].ratio == 2.0


def test_missing_peer_is_named_with_the_way_to_get_it():
    def prepare(data):
        raise ImportError("no module named thing")

    clock = FakeClock()
    row = measure(workload(clock.job("k", 1.0), (Peer(name="thing", install="pip install thing", prepare=prepare),)),
                  0.0, clock.now)  # fmt: skip
    assert row.peers == ()
    assert [(a.peer, a.install) for a in row.absent] == [("thing", "pip install thing")]


def test_a_peer_that_fails_is_not_called_missing():
    def prepare(data):
        raise ValueError("its interface has changed")

    with pytest.raises(ValueError, match="its interface"):
        measure(workload(FakeClock().job("k", 1.0), (Peer(name="p", install="", prepare=prepare),)), 0.0, lambda: 0.0)


def test_tiers():
    assert tier_name("numpy") == "numpy"
    assert tier_name("kernels") == " ".join(word for word in (backend(), isa()) if word)
