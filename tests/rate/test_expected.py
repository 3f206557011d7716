"""Expected counts against runs of the simulator that went through the whole chain: clock, gate, blanking, sifting."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from qkdpp.core import channel
from qkdpp.rate.expected import channel_loss_db, expected, with_loss
from qkdpp.scenarios import scenario_file

SIGMAS = 4.0
EDGES = 0.012
"""Start and end of a run, and gaps of the recording, which the closed forms do not know: about 1 % at these lengths."""


def distilled(folder: Path, scenario: str, scale: float) -> dict:
    for arguments in (
        ["simulate", scenario, "-o", folder / "run", "--scale", scale],
        ["distill", folder / "run", "-o", folder / "out", "--json"],
    ):
        command = [sys.executable, "-P", "-m", "qkdpp", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode in {0, 3}, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "scale"),
    [("backbone-625mhz", 0.02), ("metro-40mhz", 0.1), ("fibre-no-sync", 0.1), ("satellite-pass", 0.002)],
)
def test_counts_by_basis_and_intensity(tmp_path: Path, name: str, scale: float) -> None:
    report = distilled(tmp_path, name, scale)
    plan = scenario_file.load(name)
    plan = msgspec.structs.replace(plan, duration_s=plan.duration_s * scale)
    block = expected(plan, plan.duration_s)
    for k, found in enumerate(report["qber"]["by_intensity"]):
        for basis, label in enumerate("zx"):
            mean = block.n[basis, k]
            assert abs(found[f"n_{label}"] - mean) < SIGMAS * np.sqrt(mean + 1) + EDGES * mean
    for basis, label in enumerate("ZX"):
        n, m = block.n[basis].sum(), block.m[basis].sum()
        assert abs(report["qber"]["by_basis"][label] - m / n) < SIGMAS * np.sqrt(m) / n + 0.03 * m / n


def test_pairs_by_basis(tmp_path: Path) -> None:
    report = distilled(tmp_path, "pair-lab", 0.5)
    plan = scenario_file.load("pair-lab")
    block = expected(plan, 0.5 * plan.duration_s)
    given_up = 0.08  # the calibration segment of a pair link, and echoes that blank
    assert (1 - given_up) * block.n.sum() < report["sifted_bits"] < (1 + EDGES) * block.n.sum()
    for basis, label in enumerate("ZX"):
        n, m = block.n[basis, 0], block.m[basis, 0]
        assert abs(report["qber"]["by_basis"][label] - m / n) < SIGMAS * np.sqrt(m) / n + 0.05 * m / n


def test_all_detectors_live_in_a_random_stream() -> None:
    """Four detectors with dead times of their own, every recorded click blanking all: by brute force."""
    rng = np.random.default_rng(7)
    rates, dead_s, blanking_s, seconds = [4e4, 5e4, 6e4, 2e4], 3e-6, 5e-6, 4.0
    recorded = []
    for rate in rates:
        gaps = rng.exponential(1 / rate, round(1.3 * seconds * rate)) + dead_s
        times = np.cumsum(gaps)
        recorded.append(times[times < seconds])
    clicks = np.sort(np.concatenate(recorded))
    probes = np.sort(rng.uniform(0.01, seconds, 200_000))
    last = clicks[np.searchsorted(clicks, probes) - 1]
    share = float(np.mean(probes - last > blanking_s))
    assert share == pytest.approx(channel.all_live_share(rates, dead_s, blanking_s), rel=0.01)


def test_a_blanking_shorter_than_the_dead_time_counts_as_long() -> None:
    assert channel.all_live_share([1e5, 2e5], 1e-6, 1e-9) == pytest.approx(1 / 1.1 / 1.2)


def test_counts_scale_with_time_and_fall_with_loss() -> None:
    plan = scenario_file.load("backbone-625mhz")
    one, three = expected(plan, 1.0), expected(plan, 3.0)
    assert np.allclose(three.n, 3 * one.n)
    assert np.allclose(one.scaled(3.0).m, three.m)
    far = expected(with_loss(plan, channel_loss_db(plan) + 10.0), 1.0)
    assert (far.n[:, :2] < 0.2 * one.n[:, :2]).all()  # less than a tenth but for dead time and dark counts


def test_the_public_string_costs_its_share() -> None:
    plan = scenario_file.load("backbone-625mhz")
    assert plan.sync_string is not None
    without = msgspec.structs.replace(plan, sync_string=None)
    share = plan.sync_string.length / plan.sync_string.frame
    assert expected(plan, 1.0).pulses == pytest.approx((1 - share) * expected(without, 1.0).pulses)


def test_a_turning_polarisation_is_averaged_over_the_run() -> None:
    plan = scenario_file.load("backbone-625mhz")
    turning = msgspec.structs.replace(plan.channel, misalignment=0.0, rotation_rad=0.0, rotation_rad_per_s=0.01)
    plan = msgspec.structs.replace(plan, channel=turning, duration_s=20.0)
    still = msgspec.structs.replace(plan, channel=msgspec.structs.replace(turning, rotation_rad_per_s=0.0))
    t = np.linspace(0, 20.0, 20_001)
    extra = float(np.mean(np.sin(0.01 * t) ** 2))
    signal = [expected(p, 20.0).m[0, 0] / expected(p, 20.0).n[0, 0] for p in (plan, still)]
    assert signal[0] - signal[1] == pytest.approx(extra, rel=0.05)
