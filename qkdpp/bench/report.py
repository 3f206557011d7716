"""All rows of a run, and on what they were measured. No host names."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from qkdpp import __version__, kernels
from qkdpp.bench.runner import Row, measure
from qkdpp.bench.workload import Effort, Workload

FORMAT = 1
BUDGET_S = {Effort.TINY: 0.0, Effort.QUICK: 0.25, Effort.FULL: 3.0}
"""Seconds for a workload and its peers together, warming up not counted."""
PACKAGES = (
    "numpy", "scipy", "numba", "cryptography", "ptufile", "tomtag", "cryptomite", "galois",
    "tno.quantum.communication.qkd_key_rate",
)  # fmt: skip
CPU_INFO = Path("/proc/cpuinfo")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured.

    Attributes:
        cpu: model of the processor.
        cores: cores this process may use.
        load: runnable processes in the minute before; None where the system does not say.
        system: operating system and architecture.
        backend: tier of the kernels.
        isa: their instruction set, where they are compiled.
        loops: tier of kernels without a compiled form.
        versions: of qkdpp, Python, packages and peers that are installed.
    """

    cpu: str
    cores: int
    load: float | None
    system: str
    backend: str
    isa: str | None
    loops: str
    versions: dict[str, str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A run of benchmarks: format number of this layout, effort, machine, rows."""

    format: int
    effort: str
    machine: Machine
    rows: tuple[Row, ...]


def run(workloads: Sequence[Workload], effort: Effort, progress: Callable[[str], None] = lambda what: None) -> Report:
    """Measures the workloads one after the other."""
    about, rows = machine(), []
    for i, workload in enumerate(workloads, start=1):
        progress(f"{i} of {len(workloads)}, {workload.area}: {workload.kernel}, {workload.size}")
        rows.append(measure(workload, BUDGET_S[effort]))
    return Report(format=FORMAT, effort=effort.value, machine=about, rows=tuple(rows))


def machine() -> Machine:
    """This machine."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        system=f"{platform.system()} {platform.machine()}",
        backend=kernels.backend(),
        isa=kernels.isa(),
        loops=kernels.loops(),
        versions={"qkdpp": __version__, "python": platform.python_version(), **_versions()},
    )


def _cpu() -> str:
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines() if CPU_INFO.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
