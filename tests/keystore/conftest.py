"""Lets the tests of this folder share stores.py, and two_nodes.py of the node's tests.

Folders lie in memory where there is one for it: waiting for a disk would tell nothing.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

here = Path(__file__).parent
sys.path[:0] = [str(here), str(here.parent / "node")]

from stores import Ends  # noqa: E402 - found by the path above

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
