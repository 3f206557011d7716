"""Result folders: new ones only."""

from __future__ import annotations

import secrets
import shutil
import time  # noqa: TID251 - names a folder by the time of day
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qkdpp.core.errors import InputError


def refuse_existing(folder: Path) -> None:
    """InputError if ``folder`` exists: asked before the work begins."""
    if folder.exists():
        raise InputError(f"{folder}: exists already; results are never overwritten, choose another -o")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill that takes its name only when it is complete; nothing of it stays if filling it fails.

    Raises InputError if ``folder`` exists or cannot be created.
    """
    refuse_existing(folder)
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be created ({error.strerror})") from error
    try:
        yield part
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def dated(name: str) -> Path:
    """A folder here that does not exist yet: the name, date and time, and a number if need be."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    candidate = Path(f"{name}-{stamp}")
    number = 2
    while candidate.exists():
        candidate = Path(f"{name}-{stamp}-{number}")
        number += 1
    return candidate
