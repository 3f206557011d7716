"""Makes the helpers beside the tests importable."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from worlds import World, certificates

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def world(pki: Path) -> Iterator[World]:
    """Two key managers in service; folders in memory where there is one for it."""
    folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
    with folder as name, World(Path(name), pki) as made:
        yield made
