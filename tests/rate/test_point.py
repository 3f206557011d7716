"""The key rate at a point: limits, orderings, and agreement with the key that a simulated run really gives."""

import json
import math
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from qkdpp.core.errors import ConfigError
from qkdpp.core.ledger import Rule
from qkdpp.estimation import Security, binary_entropy
from qkdpp.rate.expected import with_loss
from qkdpp.rate.point import Point, block_seconds, evaluate, security_of
from qkdpp.scenarios import scenario_file
from qkdpp.scenarios.scenario import Scenario

ALL = list(scenario_file.shipped())


@pytest.fixture(scope="module")
def backbone() -> Scenario:
    return scenario_file.load("backbone-625mhz")


@pytest.mark.parametrize("name", ALL)
def test_finite_key_is_less_than_unlimited_data_and_grows_towards_it(name: str) -> None:
    plan = scenario_file.load(name)
    block_s = block_seconds(plan)
    rates = [evaluate(plan, block_s=block_s * factor) for factor in (0.1, 1.0, 100.0)]
    finite = [p.secret_bps for p in rates]
    assert finite == sorted(finite)
    assert finite[2] < rates[2].asymptotic_bps
    assert [p.asymptotic_bps for p in rates] == pytest.approx([rates[0].asymptotic_bps] * 3, rel=1e-4)


def test_finite_key_reaches_the_limit(backbone: Scenario) -> None:
    endless = evaluate(backbone, block_s=1e8)
    assert endless.secret_bps == pytest.approx(endless.asymptotic_bps, rel=5e-3)


def test_no_light_no_key(backbone: Scenario) -> None:
    point = evaluate(with_loss(backbone, 80.0))
    assert (point.secret_bits, point.secret_bps, point.asymptotic_bps) == (0, 0.0, 0.0)
    assert not math.isnan(point.qber)
    assert point.phase_error_upper == 1.0


def test_leak_is_f_times_the_entropy_and_both_charges_twice(backbone: Scenario) -> None:
    one = evaluate(backbone)
    both = evaluate(backbone, security=Security(eps_sec=1e-9, rule=Rule.BOTH, key_from="signal", disclosed_signal=0.1))
    assert one.leak_bits == pytest.approx(backbone.rate.f_ec * one.sifted_bits * binary_entropy(one.qber), abs=1.5)
    assert both.leak_bits == pytest.approx(2 * one.leak_bits, abs=2)
    assert both.secret_bits < one.secret_bits


def test_keying_both_bases_doubles_an_unbiased_link(backbone: Scenario) -> None:
    section = msgspec.structs.replace(backbone.rate, both_bases=True)
    both = evaluate(msgspec.structs.replace(backbone, rate=section))
    one = evaluate(msgspec.structs.replace(backbone, rate=msgspec.structs.replace(section, both_bases=False)))
    assert both.asymptotic_bps == pytest.approx(2 * one.asymptotic_bps, rel=1e-6)
    assert 1.9 * one.secret_bits < both.secret_bits < 2 * one.secret_bits  # eps is halved


def test_failure_adds_up_over_blocks_and_hops(backbone: Scenario) -> None:
    hops = msgspec.structs.replace(backbone, rate=msgspec.structs.replace(backbone.rate, hops=31))
    point = evaluate(hops, block_s=1000.0)
    blocks = math.ceil(365.25 * 86400 / 1000.0)
    assert point.eps_year == pytest.approx(31 * blocks * security_of(hops).eps_total)


def test_against_the_key_of_a_simulated_run(tmp_path: Path) -> None:
    for arguments in (
        ["simulate", "example", "-o", tmp_path / "run"],
        ["distill", tmp_path / "run", "-o", tmp_path / "out", "--json"],
    ):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "qkdpp", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    plan = scenario_file.load("example")
    f_ec = msgspec.structs.replace(plan.rate, f_ec=report["f_ec"])
    point = evaluate(msgspec.structs.replace(plan, rate=f_ec))
    assert report["key_basis_bits"] == pytest.approx(point.sifted_bits, rel=0.012)
    assert report["leak_ec_bits"] == pytest.approx(point.leak_bits, rel=0.05)
    # the finite-size length of one run scatters with its test-basis errors: some tens, so some ten per cent
    assert report["secret_bits"] == pytest.approx(point.secret_bits, rel=0.12)


def test_profiles_of_pairs() -> None:
    """Profile L of pairs is the printed formula, which charges more; T does not exist for them."""
    plan = scenario_file.load("pair-lab")
    tight, printed = (evaluate(plan, security=Security(profile=p)) for p in ("V", "L"))
    assert "Eqs. (1)-(2)" in printed.lengths[0].formula
    assert 0 < printed.secret_bits < tight.secret_bits
    both = msgspec.structs.replace(plan, rate=msgspec.structs.replace(plan.rate, both_bases=True))
    assert [length.profile for length in evaluate(both, security=Security(profile="L")).lengths] == ["L", "L"]
    with pytest.raises(ConfigError, match='bbm92 has "V" and "L"'):
        evaluate(plan, security=Security(profile="T"))


@pytest.mark.parametrize("both_bases", [False, True])
def test_unequal_detectors_give_less_than_equal_ones_as_weak(both_bases: bool) -> None:
    """Untagged detections are those of detectors that are all as weak as the weakest; errors are charged to them."""
    plan = scenario_file.load("example")

    def with_efficiency(*efficiency: float) -> Point:
        receiver = msgspec.structs.replace(plan.bob.receiver, efficiency=efficiency)
        bob, rate = (
            msgspec.structs.replace(plan.bob, receiver=receiver),
            msgspec.structs.replace(plan.rate, both_bases=both_bases),
        )
        return evaluate(with_loss(msgspec.structs.replace(plan, bob=bob, rate=rate), 22.0), block_s=100.0)

    weak, unequal = with_efficiency(0.4, 0.4), with_efficiency(0.45, 0.4)
    assert 0 < unequal.secret_bps < weak.secret_bps
    assert 0 < unequal.asymptotic_bps < weak.asymptotic_bps
    assert any("corrected for unequal detectors" in note for note in unequal.lengths[0].notes)
    assert unequal.sifted_bits > weak.sifted_bits
