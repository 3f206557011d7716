"""Processes killed at every commit point, over random histories with lost and repeated messages."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from crash_world import World

from qkdpp.core.entropy import OsEntropy
from qkdpp.keystore import create_kek

JOBS = ("link", "stage", "ready", "burn", "release", "meet", "reserve", "accept", "commit", "deliver", "void", "expire")
JOBS += ("grant", "granted", "join", "reserve chunks", "take", "close stream")
POINTS = [f"{job} {when} commit" for job in ("opening", *JOBS) for when in ("before", "after")]


@pytest.fixture
def worker(folder: Path) -> Iterator[str]:
    where = folder / "socket"
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("crash_worker.py"), where], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"ready\n"
        yield str(where)
        process.terminate()


def histories(worker: str, folder: Path, runs: int, seed: int) -> tuple[set[str], int, int, int]:
    """Points at which a process died, how many died, how many keys were delivered, how many of them from grants."""
    fired: set[str] = set()
    kills = delivered = granted = 0
    for run in range(seed, seed + runs):
        home = folder / str(run)
        home.mkdir()
        create_kek(home / "kek", OsEntropy())
        points = Random(run).sample(POINTS, len(POINTS))
        points.sort(key=lambda point: point in fired)
        world = World(worker, home, run, points)
        try:
            world.run(160)
        except BaseException:
            print(f"history {run}")
            raise
        fired |= world.fired
        kills, delivered = kills + world.kills, delivered + world.delivered
        granted += world.delivered_from_grants
    return fired, kills, delivered, granted


def test_killed_at_every_commit_point(worker: str, folder: Path) -> None:
    fired, kills, delivered, granted = histories(worker, folder, 20, 0)
    assert set(POINTS) <= fired
    assert kills > 60
    assert delivered > 200
    assert granted > 20


@pytest.mark.soak
def test_killed_in_many_histories(worker: str, folder: Path) -> None:
    fired, kills, delivered, granted = histories(worker, folder, 200, 1000)
    print(f"{kills} processes killed, {delivered} keys delivered, {granted} of them from blocks that were granted")
    assert set(POINTS) <= fired
    assert kills > 600
    assert delivered > 2000
    assert granted > 200
