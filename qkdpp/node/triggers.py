"""What in a block asks for calibration: errors that are many beyond doubt, or keys that no longer come."""

from __future__ import annotations

from typing import Final

import numpy as np

from qkdpp.core.abort import Aborted, AbortReason
from qkdpp.node.monitors import BlockFigures
from qkdpp.node.sink import BlockEnd

SIGMA: Final = 3.0
"""Standard deviations that an error rate must lie above its limit."""
BY_ERRORS: Final = frozenset(
    reason.value for reason in (AbortReason.QBER_TOO_HIGH, AbortReason.NOT_VERIFIED, AbortReason.NO_KEY_LEFT)
)


class Triggers:
    """Sees every block that has ended, in order.

    Args:
        qber: error rate of the signal states in either basis, or in both, that asks for calibration.
        blocks: so many blocks in a row without a key ask for it, where the calibration has given keys before; 0: never.
    """

    def __init__(self, qber: float, blocks: int) -> None:
        self._qber, self._blocks = qber, blocks
        self._epoch: object = None
        self._keyless: int | None = None

    def see(self, end: BlockEnd, figures: BlockFigures | None) -> str:
        """Why it is time to calibrate, or an empty string."""
        if end.log.facts.get("epoch") != self._epoch:
            self._epoch, self._keyless = end.log.facts.get("epoch"), None
        return self._few_keys(end) or ("" if figures is None else self._errors(figures))

    def _few_keys(self, end: BlockEnd) -> str:
        """None: this epoch has not given a key yet, or its blocks have asked already."""
        if not isinstance(end.result, Aborted):
            self._keyless = 0
        elif self._keyless is not None and _reasons(end.result) & BY_ERRORS:
            self._keyless += 1
            if self._keyless == self._blocks:
                self._keyless = None
                return f"{self._blocks} blocks in a row without a key"
        return ""

    def _errors(self, figures: BlockFigures) -> str:
        signal, wrong = figures.tested[0], figures.wrong[0]
        cells = {"basis Z": (signal[0], wrong[0]), "basis X": (signal[1], wrong[1])}
        for name, (n, m) in {"both bases": (signal.sum(), wrong.sum()), **cells}.items():
            due = self._qber * n
            if m > due + SIGMA * np.sqrt(due):
                return f"QBER {m / n:.2%} in {name}"
        return ""


def _reasons(ended: Aborted) -> set[object]:
    return {ended.reason.value, ended.evidence.get("peer_reason")}
