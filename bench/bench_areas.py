"""The workloads of ``qkdpp bench`` under pytest-benchmark, each peer as a benchmark of its own."""

import pytest

from qkdpp.bench import Effort, workloads

ROWS = workloads([], Effort.QUICK)
PAIRS = [(row, peer) for row in ROWS for peer in row.peers]


def named(row, *more):
    return "-".join(word.replace(" ", "_") for word in (row.area, row.kernel, row.size, *more))


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_workload(rated, row):
    rated(row.unit, row.amount, row.run, row.prepare())


@pytest.mark.parametrize(("row", "peer"), PAIRS, ids=[named(row, peer.name) for row, peer in PAIRS])
def test_peer(rated, row, peer):
    data = row.prepare()
    try:
        job = peer.prepare(data)
    except ImportError:
        pytest.skip(f"{peer.name} is not installed: {peer.install}")
    rated(row.unit, row.amount if peer.amount is None else peer.amount, job)
