"""Progress on stderr, for work that takes more than two seconds."""

from __future__ import annotations

import threading  # noqa: TID251 - the console is no stage
import time  # noqa: TID251
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
        self._what = "working"
        self._status: Status | None = None
        self._over = threading.Event()

    def __enter__(self) -> Progress:
        if not self._quiet:
            threading.Thread(target=self._show, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._status is not None:
            self._status.stop()

    def tags(self, what: str, n: int) -> None:
        """So many tags are read."""
        self.step(f"{what}: {n:,}")

    def step(self, what: str) -> None:
        """What is being done now."""
        self._what = what

    def _show(self) -> None:
        """Waits, then keeps the line current until the work is over."""
        if self._over.wait(QUIET_S):
            return
        self._status = self._console.status(self._what)
        self._status.start()
        while not self._over.wait(0.25):
            self._status.update(f"{self._what} ({time.monotonic() - self._started:.0f} s)")
