"""Both tiers, and the field GF(2^128) of an independent library."""

from collections.abc import Iterator
from typing import Any

import pytest

from qkdpp.kernels import available, backend, use_backend


@pytest.fixture(params=available())
def tier(request: pytest.FixtureRequest) -> Iterator[str]:
    before = backend()
    use_backend(request.param)
    yield request.param
    use_backend(before)


@pytest.fixture(scope="session")
def field() -> Any:
    galois = pytest.importorskip("galois")
    polynomial = galois.Poly.Degrees([128, 7, 2, 1, 0])
    return galois.GF(2**128, irreducible_poly=polynomial, primitive_element=2, verify=False)
