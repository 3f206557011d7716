"""The choice of tier: forced by name, never downgraded in silence, nothing heavy imported early."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qkdpp import kernels
from qkdpp.core.errors import ConfigError
from qkdpp.kernels import available, backend, compiled, use_backend

WITHOUT_NUMBA = "import sys; sys.modules['numba'] = None; "
WITHOUT_C = "import sys; sys.modules['qkdpp.kernels._ck'] = None; "
OLD_C = """
import sys
from pathlib import Path
from typing import Any
from types import SimpleNamespace
from qkdpp.kernels import compiled

compiled.HEADERS = Path(sys.argv[1])
sys.modules["qkdpp.kernels._ck"] = SimpleNamespace(lib=SimpleNamespace(**{found}))
"""
"""A compiled module in a source tree with other headers: from before there was a checksum, and with another one."""
ASK = "from qkdpp.kernels import *; print(backend(), backend(), isa(), loops(), available())"
needs_c = pytest.mark.skipif("c" not in available(), reason="the compiled kernels are not built here")


def run(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key not in ("QKDPP_BACKEND", "QKDPP_ISA")}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_environment_forces_a_tier() -> None:
    for name in available():
        done = run("from qkdpp.kernels import backend; print(backend())", QKDPP_BACKEND=name)
        assert done.stdout.strip() == name
        assert done.stderr == ""


@pytest.mark.parametrize("name", ["", "C", "NUMBA", "numpy "])
def test_unknown_name_is_an_error(name: str) -> None:
    done = run("from qkdpp.kernels import backend; backend()", QKDPP_BACKEND=name)
    assert done.returncode != 0
    assert "ConfigError" in done.stderr
    before = backend()
    with pytest.raises(ConfigError, match="c, numba, numpy"):
        use_backend(name)
    assert backend() == before


@pytest.mark.parametrize(("absent", "name"), [(WITHOUT_NUMBA, "numba"), (WITHOUT_C, "c")])
def test_an_absent_tier_is_an_error_when_asked_for(absent: str, name: str) -> None:
    done = run(absent + "from qkdpp.kernels import backend; backend()", QKDPP_BACKEND=name)
    assert "ConfigError" in done.stderr
    assert "install" in done.stderr


@needs_c
def test_the_compiled_tier_comes_first_and_numba_does_the_rest() -> None:
    done = run(ASK)
    assert done.stdout.strip() == f"c c {compiled.isas()[-1]} numba ('c', 'numba', 'numpy')"
    assert done.stderr == ""


@needs_c
def test_the_compiled_tier_needs_no_numba() -> None:
    done = run(WITHOUT_NUMBA + ASK)
    assert done.stdout.strip() == f"c c {compiled.isas()[-1]} numpy ('c', 'numpy')"
    assert len(done.stderr.strip().splitlines()) == 1
    assert "without Numba" in done.stderr


def test_absent_c_is_said_once_and_numba_computes() -> None:
    done = run(WITHOUT_C + ASK)
    assert done.stdout.strip() == "numba numba None numba ('numba', 'numpy')"
    assert len(done.stderr.strip().splitlines()) == 1
    assert "without its compiled kernels" in done.stderr


@pytest.mark.parametrize("found", [{}, {"QK_HEADERS": 1}])
def test_a_stale_module_is_said_once_and_numba_computes(found: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "qk_api.h").write_text("int qk_new(void);")
    done = run(OLD_C.format(found=found) + ASK, tmp_path)
    assert done.stdout.strip() == "numba numba None numba ('numba', 'numpy')"
    assert len(done.stderr.strip().splitlines()) == 1
    assert "build them again: pip install -e ." in done.stderr
    forced = run(OLD_C.format(found=found) + "from qkdpp.kernels import *; backend()", tmp_path, QKDPP_BACKEND="c")
    assert "ConfigError" in forced.stderr
    assert "build them again" in forced.stderr


@needs_c
def test_the_module_in_use_is_that_of_the_headers() -> None:
    """In a source tree; an installed package carries no headers to compare."""
    assert not compiled._stale(compiled._module())


def test_with_neither_numpy_computes() -> None:
    code = "from qkdpp.kernels import *; print(backend(), backend(), poly_hash(bytes(16), b'x').hex(), available())"
    done = run(WITHOUT_C + WITHOUT_NUMBA + code)
    assert done.stdout.strip() == f"numpy numpy {bytes(16).hex()} ('numpy',)"
    assert [line.split(" (")[0] for line in done.stderr.strip().splitlines()] == [
        "qkdpp runs without its compiled kernels, slower",
        "qkdpp runs without Numba, slowly",
    ]


@needs_c
def test_environment_forces_an_instruction_set() -> None:
    for name in compiled.isas():
        done = run("from qkdpp.kernels import isa; print(isa())", QKDPP_ISA=name)
        assert done.stdout.strip() == name


@needs_c
@pytest.mark.parametrize("name", ["sse", "AVX512", "portable,x86_v3", "neon"])
def test_unknown_instruction_set_is_an_error(name: str) -> None:
    done = run("from qkdpp.kernels import backend; backend()", QKDPP_ISA=name)
    assert "ConfigError" in done.stderr
    assert "portable" in done.stderr
    before = compiled.isa()
    with pytest.raises(ConfigError, match="use one of portable"):
        compiled.use_isa(name)
    assert compiled.isa() == before


def test_an_instruction_set_without_compiled_kernels_is_an_error() -> None:
    done = run(WITHOUT_C + "from qkdpp.kernels import backend; backend()", QKDPP_ISA="portable")
    assert "ConfigError" in done.stderr
    assert "QKDPP_ISA is set" in done.stderr


@pytest.mark.parametrize("name", ["numba", "numpy"])
def test_an_instruction_set_of_another_tier_is_an_error(name: str) -> None:
    done = run("from qkdpp.kernels import backend; backend()", QKDPP_BACKEND=name, QKDPP_ISA="portable")
    assert "ConfigError" in done.stderr
    assert "unset one" in done.stderr


PAGE = (Path(__file__).parents[2] / "docs" / "kernels.md").read_text(encoding="utf-8")


def test_the_example_of_the_page_runs(tier: str) -> None:
    found: dict[str, Any] = {}
    exec(PAGE.split("```python")[1].split("```")[0], found)
    assert found["secret"].shape == (1 << 13,)
    assert len(found["tag"]) == 16
    assert found["in_a"].tolist() == found["in_b"].tolist() == [0]


def test_every_public_kernel_is_documented() -> None:
    """Its name stands in the page of kernels, and it has a docstring."""
    names = [(kernels, name) for name in kernels.__all__] + [(kernels.tags, name) for name in kernels.tags.__all__]
    for module, name in names:
        assert f"`{name}`" in PAGE, name
        assert getattr(module, name).__doc__ or name == "Backend", name


def test_importing_kernels_imports_no_heavy_library() -> None:
    heavy = "('numba', 'scipy', 'h5py', 'matplotlib', 'qkdpp.kernels._ck')"
    code = f"import sys, qkdpp.kernels; print([m for m in {heavy} if m in sys.modules])"
    assert run(code).stdout.strip() == "[]"
