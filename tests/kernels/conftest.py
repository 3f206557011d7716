"""Every tier and instruction set that is here, and the field GF(2^128) of an independent library."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qkdpp.kernels import available, backend, compiled, isa, use_backend

sys.path.insert(0, str(Path(__file__).parent))
from arena import OFFSETS, Arena


def tiers() -> list[str]:
    """``numba``, ``numpy``, and ``c-`` with each instruction set."""
    others = [name for name in available() if name != "c"]
    return [f"c-{name}" for name in compiled.isas()] + others if "c" in available() else others


def use(name: str) -> None:
    tier, _, instructions = name.partition("-")
    use_backend(tier)
    if instructions:
        compiled.use_isa(instructions)


@pytest.fixture
def keep_tier() -> Iterator[None]:
    before = backend(), isa()
    yield
    use("-".join(name for name in before if name))


@pytest.fixture(params=tiers())
def tier(request: pytest.FixtureRequest, keep_tier: None) -> str:
    use(request.param)
    return str(request.param)


@pytest.fixture(params=compiled.isas() if "c" in available() else [])
def kernels(request: pytest.FixtureRequest, keep_tier: None) -> Any:
    """The compiled module, with each instruction set in turn."""
    use_backend("c")
    compiled.use_isa(request.param)
    return sys.modules["qkdpp.kernels._ck"]


@pytest.fixture(params=OFFSETS)
def arena(request: pytest.FixtureRequest, kernels: Any) -> Iterator[Arena]:
    space = Arena(kernels, request.param)
    yield space
    space.check()


@pytest.fixture(scope="session")
def field() -> Any:
    galois = pytest.importorskip("galois")
    polynomial = galois.Poly.Degrees([128, 7, 2, 1, 0])
    return galois.GF(2**128, irreducible_poly=polynomial, primitive_element=2, verify=False)
