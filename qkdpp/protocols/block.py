"""What a party notes of a block while it runs, for its own report: counts, stage times and what each stage returned.

``facts`` holds the sifted block, raw key included: a log stays with its party and is never written out as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qkdpp.core.ledger import Ledger
from qkdpp.estimation import KeyLength


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMark:
    """The end of a stage: seconds spent in it and what came out (and was lost)."""

    name: str
    seconds: float
    count: int
    lost: int = 0


@dataclass(slots=True, kw_only=True)
class BlockLog:
    """Notes of one party. ``now`` gives seconds on any steady clock; stages themselves know no time."""

    now: Callable[[], float]
    ledger: Ledger = field(default_factory=Ledger)
    stages: list[StageMark] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    length: KeyLength | None = None
    costs: tuple[int, int, int, NDArray[np.int64]] | None = None
    """Leak, verification and dropped bits, and errors by class: what the length was computed from."""
    _last: float | None = None

    def mark(self, name: str, count: int, lost: int = 0) -> None:
        """Ends a stage that delivered ``count`` items and lost ``lost``."""
        now = self.now()
        self.stages.append(StageMark(name=name, seconds=now - (self._last or now), count=count, lost=lost))
        self._last = now

    def start(self) -> None:
        """Starts the first stage."""
        self._last = self.now()
