"""Makes the helpers beside the tests importable."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from serve_processes import Served
from worlds import OUT_S, World, certificates

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


@pytest.fixture
def served(tmp_path: Path, pki: Path) -> Iterator[Served]:
    """Two ``qkdpp serve``."""
    made = Served(tmp_path, pki)
    yield made
    for process in made.processes.values():
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(OUT_S)
        process.stdout.close()
