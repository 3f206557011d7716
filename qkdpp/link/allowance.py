"""How often something may be done: some times in a row, then at a steady pace."""

from __future__ import annotations


class Allowance:
    """``at_once`` times in a row, and once more every ``every_s`` seconds."""

    def __init__(self, at_once: int, every_s: float) -> None:
        self._at_once, self._every_s = at_once, every_s
        self._left, self._at_s = float(at_once), 0.0

    def spend(self, now_s: float) -> bool:
        """Whether it may be done now; counts it if so."""
        self._left = min(self._at_once, self._left + (now_s - self._at_s) / self._every_s)
        self._at_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
