"""Rates instead of bare times: every benchmark states what it processed, and prints it per second."""

import pytest

from qkdpp.bench.runner import tier_name


@pytest.fixture
def rated(benchmark):
    """``rated(unit, amount, function, *args)``: runs the benchmark and notes amount, unit, tier and rate."""

    def run(unit, amount, function, *args):
        result = benchmark(function, *args)
        benchmark.extra_info |= {"unit": unit, "amount": amount, "tier": tier_name("kernels")}
        if benchmark.stats is not None:
            benchmark.extra_info["millions_per_s"] = amount / benchmark.stats.stats.median / 1e6
        return result

    return run


def pytest_terminal_summary(terminalreporter):
    """One line per benchmark: millions of units per second, and the tier that ran."""
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    for bench in session.benchmarks if session else []:
        info = bench.extra_info
        if "millions_per_s" in info:
            terminalreporter.write_line(
                f"{bench.name:50} {info['millions_per_s']:12.6f} M{info['unit']}/s  {info['tier']}"
            )
