"""Benchmarks: every kernel and the whole way, beside the peers that can be installed.

A workload says what is run on which data and what is asked of it; the runner
times it and its peers in turns; table, JSON and figure show the rows. Nothing
here is used by the rest of the package.
"""

from qkdpp.bench.areas import AREAS, workloads
from qkdpp.bench.report import Report, run
from qkdpp.bench.workload import Effort, Peer, Workload

__all__ = ["AREAS", "Effort", "Peer", "Report", "Workload", "run", "workloads"]
