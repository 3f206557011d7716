"""Progress on stderr, for work that takes more than two seconds."""

from __future__ import annotations

import time  # noqa: TID251 - the console is no stage
from types import TracebackType

from rich.console import Console
from rich.status import Status

QUIET_S = 2.0


class Progress:
    """A status line on stderr that appears after two seconds; silent when ``quiet`` or not on a terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True)
        self._quiet = quiet or not self._console.is_terminal
        self._started = time.monotonic()
        self._status: Status | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def tags(self, what: str, n: int) -> None:
        """So many tags are read."""
        self.step(f"{what}: {n:,}")

    def step(self, what: str) -> None:
        """What is being done now."""
        elapsed = time.monotonic() - self._started
        if self._quiet or elapsed < QUIET_S:
            return
        line = f"{what} ({elapsed:.0f} s)"
        if self._status is None:
            self._status = self._console.status(line)
            self._status.start()
        else:
            self._status.update(line)
