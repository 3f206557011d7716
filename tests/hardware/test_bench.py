"""The checks of the simulated instruments, on a bench."""

import pytest
from checks import check_connection, check_stream

from qkdpp_drivers import registry

pytestmark = pytest.mark.hardware


def test_connection(bench_instrument):
    check_connection(*bench_instrument)


def test_stream(bench_instrument):
    name, url = bench_instrument
    if registry.driver(name).kind != "TimeTagger":
        pytest.skip(f"{name} is no time tagger")
    check_stream(name, url, duration_s=5.0)
