"""Lets the tests of this folder share stores.py; folders in memory, where waiting for a disk would tell nothing."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from stores import Ends

MEMORY = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def ends(folder: Path) -> Iterator[Ends]:
    pair = Ends(folder)
    yield pair
    pair.close()
