"""The choice of tier: forced by name, never downgraded in silence, nothing heavy imported early."""

import os
import subprocess
import sys

import pytest

from qkdpp.core.errors import ConfigError
from qkdpp.kernels import available, backend, use_backend

WITHOUT_NUMBA = "import sys; sys.modules['numba'] = None; "


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key != "QKDPP_BACKEND"}
    return subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, check=False
    )


def test_environment_forces_a_tier() -> None:
    for name in available():
        done = run("from qkdpp.kernels import backend; print(backend())", QKDPP_BACKEND=name)
        assert done.stdout.strip() == name


@pytest.mark.parametrize("name", ["", "c", "NUMBA", "numpy "])
def test_unknown_name_is_an_error(name: str) -> None:
    done = run("from qkdpp.kernels import backend; backend()", QKDPP_BACKEND=name)
    assert done.returncode != 0
    assert "ConfigError" in done.stderr
    before = backend()
    with pytest.raises(ConfigError, match="numba, numpy"):
        use_backend(name)
    assert backend() == before


def test_absent_numba_is_an_error_when_asked_for() -> None:
    done = run(WITHOUT_NUMBA + "from qkdpp.kernels import backend; backend()", QKDPP_BACKEND="numba")
    assert "ConfigError" in done.stderr
    assert "cannot be imported" in done.stderr


def test_absent_numba_is_said_once_and_numpy_computes() -> None:
    code = "from qkdpp.kernels import *; print(backend(), backend(), poly_hash(bytes(16), b'x').hex(), available())"
    done = run(WITHOUT_NUMBA + code)
    assert done.stdout.strip() == f"numpy numpy {bytes(16).hex()} ('numpy',)"
    assert len(done.stderr.strip().splitlines()) == 1
    assert "without Numba" in done.stderr


def test_importing_kernels_imports_no_heavy_library() -> None:
    code = "import sys, qkdpp.kernels; print([m for m in ('numba', 'scipy', 'h5py', 'matplotlib') if m in sys.modules])"
    assert run(code).stdout.strip() == "[]"
