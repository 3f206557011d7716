"""Instruments of the bench: ``pytest -m hardware --hardware tdc1=serial:///dev/ttyACM0``."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "drivers"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "bench_instrument" not in metafunc.fixturenames:
        return
    given = [tuple(text.split("=", 1)) for text in metafunc.config.getoption("--hardware")]
    nothing = pytest.param(None, marks=pytest.mark.skip(reason="no instrument: give --hardware NAME=URL"))
    metafunc.parametrize("bench_instrument", given or [nothing], ids=lambda pair: pair[0] if pair else "none")
