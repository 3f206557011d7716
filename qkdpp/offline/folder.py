"""Result folders: new ones only."""

from __future__ import annotations

import time  # noqa: TID251 - names a folder by the time of day
from pathlib import Path

from qkdpp.core.errors import InputError


def refuse_existing(folder: Path) -> None:
    """InputError if ``folder`` exists: asked before the work begins."""
    if folder.exists():
        raise InputError(f"{folder}: exists already; results are never overwritten, choose another -o")


def make_folder(folder: Path) -> None:
    """Creates a new folder; InputError if it exists or cannot be created."""
    refuse_existing(folder)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be created ({error.strerror})") from error


def dated(name: str) -> Path:
    """A folder here that does not exist yet: the name, date and time, and a number if need be."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    candidate = Path(f"{name}-{stamp}")
    number = 2
    while candidate.exists():
        candidate = Path(f"{name}-{stamp}-{number}")
        number += 1
    return candidate
