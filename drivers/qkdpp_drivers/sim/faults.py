"""Named switches for what can go wrong with one simulated instrument."""

from __future__ import annotations

from collections.abc import Iterable

DISCONNECT = "disconnect"
"""The cable is out until the fault is switched off; hosts and transports obey it, so every instrument has it."""


class Faults:
    """The faults of one instrument that are switched on.

    Args:
        known: names of the faults that the instrument has (``disconnect`` is added).
    """

    def __init__(self, known: Iterable[str]) -> None:
        self.known = frozenset(known) | {DISCONNECT}
        self._left: dict[str, float] = {}

    def add(self, name: str, times: int | None = None) -> None:
        """Switches a fault on: until ``discard``, or (where the instrument counts) for the next ``times`` occasions.

        Raises:
            ValueError: the instrument has no such fault.
        """
        if name not in self.known:
            raise ValueError(f"no fault {name!r}; known are {', '.join(sorted(self.known))}")
        self._left[name] = float("inf") if times is None else times

    def discard(self, name: str) -> None:
        """Switches it off."""
        self._left.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return self._left.get(str(name), 0) > 0

    def fires(self, name: str) -> bool:
        """Whether the fault strikes on this occasion, which counts."""
        if name not in self:
            return False
        self._left[name] -= 1
        return True
