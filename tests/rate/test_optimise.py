"""Best parameters: against published optima, coarse grids, and what must hold of any optimum."""

import math
from itertools import product

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from qkdpp.core.errors import ConfigError
from qkdpp.estimation import binary_entropy
from qkdpp.rate.blocks import block_sizes
from qkdpp.rate.expected import with_loss
from qkdpp.rate.optimise import Optimum, Task, compromise, optimise, over_losses, steady, task
from qkdpp.rate.parameters import Space, fixed_names, probabilities, rounded, values_of, with_values
from qkdpp.rate.point import block_seconds, evaluate, rate_bps, security_of
from qkdpp.rate.predicted_split import predicted_split
from qkdpp.rate.sensitivity import moved, sensitivity
from qkdpp.scenarios import scenario_file
from qkdpp.scenarios.scenario import Scenario

TABLE_1_BACKBONE_DB = (10.3, 16.0, 20.5)
"""Least, average and largest loss of the backbone (Chen et al. 2021, Table 1)."""
PUBLISHED = {"mu_signal": 0.6, "mu_decoy": 0.2, "p_signal": 0.75, "p_decoy": 0.125, "p_weakest": 0.125}
"""Chen et al. 2021, QKD implementations: 0.6, 0.2, vacuum, 6 : 1 : 1."""
SEARCH = 2e-3
"""Relative rate by which a search may stop short; counts are whole numbers, so rates have steps of about this size."""

swap = msgspec.structs.replace


@pytest.fixture(scope="module")
def example() -> Task:
    return task(scenario_file.load("example"))


@pytest.fixture(scope="module")
def best(example: Task) -> Optimum:
    return optimise(example)


@pytest.fixture(scope="module")
def backbone() -> Scenario:
    return scenario_file.load("backbone-625mhz")


def one_decoy() -> Scenario:
    plan = scenario_file.load("example")
    assert plan.source is not None
    return swap(plan, source=swap(plan.source, intensities=(0.5, 0.15), p_intensity=(0.6, 0.4)))


# --- the figure that is searched is the one that is reported ----------------------------------------------------------


@pytest.mark.parametrize("name", list(scenario_file.shipped()))
def test_objective_is_the_reported_rate(name: str) -> None:
    plan = scenario_file.load(name)
    point = evaluate(plan)
    block_s = block_seconds(plan)
    bits = rate_bps(plan, block_s, security_of(plan)) * block_s
    assert bits == pytest.approx(point.secret_bits, abs=4)  # whole bits of two lengths and two leaks
    unlimited = rate_bps(plan, block_s, security_of(plan), unlimited=True)
    assert unlimited == pytest.approx(point.asymptotic_bps, rel=1e-3)


def test_objective_is_below_zero_without_a_key_and_falls_with_the_loss(backbone: Scenario) -> None:
    rates = [rate_bps(with_loss(backbone, loss), 60.0, security_of(backbone)) for loss in (20.0, 25.0, 33.0, 36.0)]
    assert rates[0] > rates[1] > 0 > rates[2]
    assert all(math.isfinite(r) for r in rates)


@pytest.mark.parametrize("name", ["satellite-pass", "example"])
def test_a_changing_channel_is_searched_at_its_mean(name: str) -> None:
    plan = scenario_file.load(name)
    seconds, security = block_seconds(plan), security_of(plan)
    still = rate_bps(steady(plan), seconds, security)
    assert still == pytest.approx(rate_bps(plan, seconds, security), rel=0.01)
    assert steady(scenario_file.load("metro-40mhz")) == scenario_file.load("metro-40mhz")


# --- published parameters and optima ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "least_gain"),
    [((), (1.5, 0.6, 0.35)), (("p_z",), (0.6, 0.1, 0.05))],
    ids=["everything free", "basis bias held"],
)
def test_beats_the_published_parameters_over_the_published_losses(
    backbone: Scenario, held: tuple[str, ...], least_gain: tuple[float, ...]
) -> None:
    assert {name: values_of(backbone)[name] for name in PUBLISHED} == PUBLISHED
    asked = task(backbone, fixed=fixed_names(backbone, held))
    for found, least in zip(over_losses(asked, TABLE_1_BACKBONE_DB), least_gain, strict=True):
        plan = with_loss(backbone, found.loss_db)
        published = evaluate(plan).secret_bps
        ours = evaluate(with_values(plan, found.after)).secret_bps
        assert published > 0
        assert ours / published - 1 > least
        assert found.gain == pytest.approx(ours / published - 1, abs=1e-3)


def test_signal_intensity_of_the_gys_link(backbone: Scenario) -> None:
    """Ma, Qi, Zhao and Lo 2005, Eq. (12): (1 - mu) exp(-mu) = f h(e) / (1 - h(e)); their mu is 0.48 for GYS."""
    misaligned, f_ec = 0.033, 1.22
    entropy = binary_entropy(misaligned)
    wanted = f_ec * entropy / (1 - entropy)
    published = brentq(lambda mu: (1 - mu) * math.exp(-mu) - wanted, 0.0, 1.0)
    assert published == pytest.approx(0.48, abs=0.005)
    assert backbone.source is not None
    plan = swap(
        backbone,
        source=swap(backbone.source, intensities=(0.3, 0.001, 0.0)),
        channel=swap(backbone.channel, loss_db=30.0, misalignment=misaligned),
        bob=swap(
            backbone.bob,
            receiver=swap(
                backbone.bob.receiver,
                kind="active",
                efficiency=(0.045, 0.045),
                dark_rate_hz=(0.0, 0.0),
                delays_ps=(),
                dead_time_ns=0.0,
                after_pulse=0.0,
            ),
        ),
        timing=swap(backbone.timing, dead_time_ns=0.0),
        rate=swap(backbone.rate, f_ec=f_ec, both_bases=False),
        security=swap(backbone.security, key_from="signal"),
    )
    held = fixed_names(plan, ["mu_decoy", "p_intensity", "p_z"])
    found = optimise(task(plan, fixed=held, unlimited=True))
    assert found.after["mu_signal"] == pytest.approx(published, abs=0.01)


# --- what holds of any optimum ----------------------------------------------------------------------------------------


def test_not_worse_than_a_grid(example: Task) -> None:
    asked = task(example.plan, fixed=fixed_names(example.plan, ["p_intensity", "p_z"]))
    found = optimise(asked)
    grid = [
        evaluate(with_values(example.plan, found.before | {"mu_signal": mu, "mu_decoy": nu})).secret_bps
        for mu, nu in product(np.arange(0.35, 0.8, 0.05), np.arange(0.06, 0.3, 0.03))
    ]
    assert found.after_bps >= max(grid) * (1 - SEARCH)
    assert found.after_bps > found.before_bps


def test_not_worse_than_random_neighbours(example: Task, best: Optimum) -> None:
    rng = np.random.default_rng(5)
    space = Space(example.plan, frozenset())
    centre = space.coordinates(best.after)
    near = [example.steady().rate(space.values(centre + rng.normal(0, 0.15, centre.size))) for _ in range(150)]
    assert max(near) <= example.steady().rate(best.after) * (1 + SEARCH)


def test_pairs_not_worse_than_a_grid() -> None:
    plan = scenario_file.load("pair-lab")
    found = optimise(task(plan))
    grid = [
        evaluate(
            with_values(plan, {"pair_rate_hz": rate, "p_z_alice": p_z, "p_z_bob": p_z, "gate_ps": gate})
        ).secret_bps
        for rate, p_z, gate in product(np.geomspace(1e7, 1e8, 6), (0.85, 0.9, 0.93, 0.96), (700.0, 1000.0, 1300.0))
    ]
    assert found.after_bps >= max(grid) * (1 - SEARCH)


def test_same_question_same_answer(example: Task, best: Optimum) -> None:
    again = optimise(example)
    assert again.after == best.after
    assert again.after_bps == best.after_bps


def test_optimum_fits_the_block(example: Task, best: Optimum) -> None:
    """The fewer the detections, the more of them must go into estimation."""
    longer = optimise(task(example.plan, block_s=30 * example.block_s))
    assert longer.after_bps > best.after_bps
    for share in ("p_signal", "p_z_alice", "p_z_bob"):
        assert 1 - best.after[share] > 1.2 * (1 - longer.after[share])


def test_one_decoy() -> None:
    found = optimise(task(one_decoy()))
    assert set(found.after) == {"mu_signal", "mu_decoy", "p_signal", "p_decoy", "p_z_alice", "p_z_bob"}
    assert found.after_bps > found.before_bps
    assert found.after["p_signal"] + found.after["p_decoy"] == pytest.approx(1.0, abs=1e-12)
    assert found.after["mu_signal"] > found.after["mu_decoy"] > 0


def test_unlimited_data_beats_any_block(example: Task, best: Optimum) -> None:
    endless = optimise(task(example.plan, unlimited=True))
    assert endless.after_bps > 2 * best.after_bps
    assert "p_z_alice" in endless.at_limit
    assert best.at_limit == ()


def test_held_parameters_stay(example: Task) -> None:
    held = fixed_names(example.plan, ["mu_signal", "p_z_bob"])
    found = optimise(task(example.plan, fixed=held))
    assert held == {"mu_signal", "p_z_bob"}
    assert all(found.after[name] == found.before[name] for name in held)
    assert found.after["p_z_alice"] != found.before["p_z_alice"]


def test_finds_a_key_where_the_scenario_gives_none(example: Task, best: Optimum) -> None:
    awful = {"mu_signal": 1.5, "mu_decoy": 0.9, "p_signal": 0.05, "p_decoy": 0.05, "p_weakest": 0.9}
    plan = with_values(example.plan, awful | {"p_z_alice": 0.1, "p_z_bob": 0.99})
    found = optimise(task(plan))
    assert (found.before_bps, found.gain) == (0.0, None)
    assert found.after_bps >= best.after_bps * (1 - 2 * SEARCH)


def test_finds_a_key_where_no_start_gives_one(example: Task) -> None:
    """At the edge of the reach, where dimming everything loses the least: as good as coming from smaller losses."""
    far = example.at_loss(29.5)
    found = optimise(far)
    assert evaluate(far.plan).secret_bits == 0
    assert evaluate(with_values(far.plan, found.after)).secret_bits > 0
    assert found.after_bps == pytest.approx(over_losses(example, (28.0, 29.5))[1].after_bps, rel=0.05)


def test_no_key_at_all_leaves_the_parameters_alone(backbone: Scenario) -> None:
    found = optimise(task(with_loss(backbone, 60.0)))
    assert found.after == found.before
    assert (found.after_bps, found.gain) == (0.0, None)


def test_one_set_for_a_range_lies_between(example: Task) -> None:
    optima = over_losses(example, (10.0, 16.0, 80.0))
    one = compromise(example, optima)
    assert one is not None
    assert optima[2].after_bps == 0
    shares = [example.at_loss(o.loss_db).rate(one) / o.after_bps for o in optima[:2]]
    assert all(0.5 < share <= 1 + SEARCH for share in shares)
    for other in (o.after for o in optima[:2]):  # better on the mean logarithm than the optimum of either loss
        theirs = [example.at_loss(o.loss_db).rate(other) / o.after_bps for o in optima[:2]]
        assert math.prod(shares) >= math.prod(theirs) * (1 - SEARCH)
    assert compromise(example, optima[2:]) is None


# --- coordinates ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(-40, 40), min_size=6, max_size=6), st.sampled_from([0.0, 2e-4, 0.05]))
def test_no_coordinates_are_impossible(x: list[float], weakest: float) -> None:
    plan = scenario_file.load("example")
    assert plan.source is not None
    plan = swap(plan, source=swap(plan.source, intensities=(0.5, 0.15, weakest)))
    values = Space(plan, frozenset()).values(np.minimum(np.array(x), 3.0))
    mu = (values["mu_signal"], values["mu_decoy"], weakest)
    assert mu[0] > mu[1] + mu[2]
    assert mu[1] > mu[2]
    shares = [values[name] for name in probabilities(values)]
    assert math.fsum(shares) == pytest.approx(1.0, abs=1e-12)
    assert min(*shares, values["p_z_alice"], values["p_z_bob"]) > 0
    assert max(*shares, values["p_z_alice"], values["p_z_bob"]) < 1
    scenario_file.check(with_values(plan, rounded(values)))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-4, 4), min_size=6, max_size=6), st.sampled_from([(), ("mu_signal",), ("mu_decoy",)]))
def test_coordinates_and_values_are_inverse(x: list[float], held: tuple[str, ...]) -> None:
    plan = scenario_file.load("example")
    space = Space(plan, fixed_names(plan, held))
    there = np.array(x[: 6 - len(held)])
    assert space.coordinates(space.values(there)) == pytest.approx(there, abs=1e-5)


def test_intensities_in_any_order(example: Task) -> None:
    assert example.plan.source is not None
    turned = swap(
        example.plan, source=swap(example.plan.source, intensities=(0.0, 0.5, 0.15), p_intensity=(0.15, 0.45, 0.4))
    )
    assert values_of(turned) == values_of(example.plan)
    moved_plan = with_values(turned, values_of(turned) | {"mu_signal": 0.7})
    assert moved_plan.source is not None
    assert moved_plan.source.intensities == (0.0, 0.7, 0.15)


# --- being off --------------------------------------------------------------------------------------------------------


def test_being_off_costs(example: Task, best: Optimum) -> None:
    costs = sensitivity(example, best.after, tuple(best.after))
    assert [c.name for c in costs] == list(best.after)
    for cost in costs:
        assert min(cost.lost) >= -SEARCH
        assert cost.at(0.0) == 0
        assert cost.at(-0.3) > 0
        assert cost.at(0.3) > 0
        assert max(cost.at(-0.1), cost.at(0.1)) < max(cost.at(-0.3), cost.at(0.3))


def test_cost_is_that_of_the_reported_rate(example: Task, best: Optimum) -> None:
    cost = sensitivity(example, best.after, ["mu_signal"])[0]
    there = best.after | {"mu_signal": 1.3 * best.after["mu_signal"]}
    rates = [evaluate(with_values(example.plan, values)).secret_bps for values in (best.after, there)]
    assert cost.at(0.3) == pytest.approx(1 - rates[1] / rates[0], abs=2e-3)


def test_a_probability_moves_by_its_rarer_side(best: Optimum) -> None:
    off = moved(best.after, "p_signal", 0.1)
    assert 1 - off["p_signal"] == pytest.approx(1.1 * (1 - best.after["p_signal"]))
    assert off["p_decoy"] / off["p_weakest"] == pytest.approx(best.after["p_decoy"] / best.after["p_weakest"])
    off = moved(best.after, "p_weakest", -0.1)
    assert off["p_weakest"] == pytest.approx(0.9 * best.after["p_weakest"])
    assert math.fsum(off[name] for name in probabilities(off)) == pytest.approx(1.0)
    assert 1 - moved(best.after, "p_z_bob", 0.1)["p_z_bob"] == pytest.approx(1.1 * (1 - best.after["p_z_bob"]))


def test_no_key_left_costs_everything(example: Task, best: Optimum) -> None:
    too_close = best.after | {"mu_decoy": 0.9 * best.after["mu_signal"]}
    assert example.rate(too_close) < 0
    assert sensitivity(example, too_close, ["mu_decoy"]) == ()
    cost = sensitivity(example, best.after, ["mu_decoy"], deviations=(0.0, 10.0))[0]
    assert cost.lost == (0.0, 1.0)


# --- blocks and split -------------------------------------------------------------------------------------------------


def test_blocks() -> None:
    asked = task(scenario_file.load("pair-lab"))
    best = optimise(asked)
    blocks = block_sizes(asked, best)
    rates = [p.secret_bps for p in blocks.points]
    assert rates == sorted(rates)
    assert rates[2] == best.after_bps
    assert rates[-1] < blocks.limit_bps
    assert blocks.held_bps < blocks.limit_bps
    plan = with_values(asked.plan, best.after)
    for reached in blocks.reached:
        assert reached.block_s is not None
        assert reached.pulses == pytest.approx(reached.block_s * best.after["pair_rate_hz"])
        point = evaluate(plan, block_s=reached.block_s)
        assert point.secret_bps / point.asymptotic_bps == pytest.approx(reached.share, abs=0.01)


def test_split_is_never_worse_than_the_equal_one(example: Task, best: Optimum) -> None:
    split = predicted_split(example, best.after)
    assert split is not None
    assert split.gain >= 0
    assert split.secret_bps == pytest.approx(best.after_bps * (1 + split.gain), rel=1e-9)
    assert split.toml()[0] == "[security.split]"
    fixed_length = swap(example.plan, security=swap(example.plan.security, profile="L"))
    assert predicted_split(task(fixed_length), best.after) is None


# --- errors -----------------------------------------------------------------------------------------------------------


def test_refuses_what_cannot_be_searched(example: Task) -> None:
    plan = example.plan
    with pytest.raises(ConfigError, match="--fix colour: no such parameter here; there are mu, mu_decoy"):
        fixed_names(plan, ["colour"])
    with pytest.raises(ConfigError, match="every parameter is held"):
        fixed_names(plan, ["mu", "p_intensity", "p_z"])
    with pytest.raises(ConfigError, match="no such parameter here"):
        fixed_names(scenario_file.load("pair-lab"), ["mu"])
    with pytest.raises(ConfigError, match="0 s is no duration"):
        task(plan, block_s=0.0)
    assert plan.source is not None
    four = swap(plan.source, intensities=(0.5, 0.2, 0.1, 0.0), p_intensity=(0.4, 0.2, 0.2, 0.2))
    with pytest.raises(ConfigError, match="4 of them; the search takes two or three"):
        task(swap(plan, source=four))
