"""The areas of the benchmarks, by the name the command line knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from qkdpp.bench import codec, correction, estimation, hashes, tags, whole
from qkdpp.bench.workload import Effort, Workload
from qkdpp.core.errors import InputError

AREAS: dict[str, Callable[[Effort], list[Workload]]] = {
    module.AREA: module.workloads for module in (hashes, correction, tags, codec, estimation, whole)
}


def workloads(names: Iterable[str], effort: Effort) -> list[Workload]:
    """The workloads of the named areas, of all if none is named; InputError for a name that is none."""
    chosen = list(dict.fromkeys(names)) or list(AREAS)
    unknown = next((name for name in chosen if name not in AREAS), None)
    if unknown is not None:
        raise InputError(f"AREA {unknown}: no such area; choose from {', '.join(AREAS)}")
    return [row for name in chosen for row in AREAS[name](effort)]
