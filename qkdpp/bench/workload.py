"""What a benchmark is: data, the work on it, what is asked of it, and who else does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeAlias

Tier: TypeAlias = Literal["kernels", "numpy"]
"""What computes: the tier in use, or NumPy and Python in every tier."""
Figures: TypeAlias = dict[str, float | None]
Job: TypeAlias = Callable[[], object]


class Effort(StrEnum):
    """How large the workloads are: a test, half a minute, some minutes."""

    TINY = "tiny"
    QUICK = "quick"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another implementation of the same work.

    Attributes:
        name: what the table calls it.
        install: the command that gets it.
        prepare: from the workload's data to the peer's job, conversions done; ImportError where it is not installed.
        amount: units the peer's job handles; None where it handles what ours does.
        asked: how many times its rate ours shall be; None where nothing is asked.
    """

    name: str
    install: str
    prepare: Callable[[Any], Job]
    amount: int | None = None
    asked: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One row of the tables.

    Attributes:
        area: the group it belongs to.
        kernel: what runs.
        size: how large, in words.
        amount: units handled by one run.
        unit: what is counted.
        tier: what computes it.
        prepare: makes the data; not timed.
        run: the work on the data; timed.
        goal: units per second asked for.
        peers: who else does it.
        figures: further figures, from the data and the result of a run; not timed.
    """

    area: str
    kernel: str
    size: str
    amount: int
    unit: str
    tier: Tier
    prepare: Callable[[], Any]
    run: Callable[[Any], Any]
    goal: float | None = None
    peers: tuple[Peer, ...] = ()
    figures: Callable[[Any, Any], Figures] | None = None


def power(n: int) -> str:
    """A power of two as ``2^k``, other numbers as they are."""
    return f"2^{n.bit_length() - 1}" if n > 1 and n & (n - 1) == 0 else f"{n:,}"
