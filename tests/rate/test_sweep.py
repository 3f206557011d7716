"""Sweeps: what physics and security demand of every curve, ends of the key, distances, overrides, JSON."""

import math
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from qkdpp.core.errors import ConfigError
from qkdpp.core.ledger import Rule
from qkdpp.rate.expected import channel_loss_db, expected, with_loss
from qkdpp.rate.link import Asked
from qkdpp.rate.point import evaluate
from qkdpp.rate.results import Rates, no_key, rates
from qkdpp.rate.sweep import MAX_LOSS_DB, Curve, curve, usual_losses
from qkdpp.rate.table import page
from qkdpp.scenarios import scenario_file
from qkdpp.scenarios.scenario import Scenario

LOSSES = (6.0, 10.0, 14.0, 18.0, 22.0, 26.0, 30.0)
replace = msgspec.structs.replace


def ideal(plan: Scenario) -> Scenario:
    """No dead time, no dark counts, no after-pulses, no turning polarisation."""
    receiver = plan.bob.receiver
    receiver = replace(
        receiver, dead_time_ns=0.0, after_pulse=0.0, dark_rate_hz=tuple(0.0 for _ in receiver.dark_rate_hz)
    )
    return replace(
        plan,
        bob=replace(plan.bob, receiver=receiver),
        timing=replace(plan.timing, dead_time_ns=0.0),
        channel=replace(plan.channel, rotation_rad_per_s=0.0),
    )


@pytest.fixture(scope="module")
def link() -> Scenario:
    return scenario_file.load("example")


@pytest.fixture(scope="module")
def by_loss(link: Scenario) -> Curve:
    return curve("example", link, Asked(values=LOSSES))


@pytest.fixture(scope="module")
def by_block(link: Scenario) -> Curve:
    values = tuple(10.0**k for k in range(-2, 9))
    return curve("example", link, Asked(variable="block_s", values=values))


# What must hold for every link


def test_rates_fall_with_loss(by_loss: Curve) -> None:
    for before, after in pairwise(s.point for s in by_loss.samples):
        assert after.secret_bps <= before.secret_bps
        assert after.asymptotic_bps < before.asymptotic_bps
        assert after.qber >= before.qber


@pytest.mark.parametrize("name", ["example", "metro-40mhz", "pair-lab"])
def test_finite_never_above_unlimited_and_both_never_above_public_errors(name: str) -> None:
    plan = scenario_file.load(name)
    public = curve(name, plan, Asked(values=LOSSES, rule=Rule.PUBLIC_ERRORS))
    both = curve(name, plan, Asked(values=LOSSES, rule=Rule.BOTH))
    for one, two in zip(public.samples, both.samples, strict=True):
        assert one.point.secret_bps <= one.point.asymptotic_bps
        assert two.point.secret_bps <= one.point.secret_bps
        assert two.point.asymptotic_bps <= one.point.asymptotic_bps
    assert both.working.point.secret_bps < public.working.point.secret_bps
    by_rule = {"public_errors": public.working.point.secret_bits, "both": both.working.point.secret_bits}
    assert public.secret_bits_by_rule == both.secret_bits_by_rule == by_rule


def test_finite_approaches_unlimited_as_the_block_grows(by_block: Curve) -> None:
    finite = [s.point.secret_bps for s in by_block.samples]
    limits = [s.point.asymptotic_bps for s in by_block.samples]
    assert finite == sorted(finite)
    assert finite[0] == 0
    assert limits == pytest.approx([limits[0]] * len(limits), rel=1e-3)
    assert finite[-1] == pytest.approx(limits[-1], rel=5e-3)


def test_rate_is_proportional_to_transmittance(link: Scenario) -> None:
    found = curve("ideal", ideal(link), Asked(values=(20.0, 30.0, 40.0)))
    r20, r30, r40 = (s.point.asymptotic_bps for s in found.samples)
    assert r20 / r30 == pytest.approx(10.0, rel=0.02)
    assert r30 / r40 == pytest.approx(10.0, rel=0.005)


def test_the_same_detections_give_the_same_key(link: Scenario) -> None:
    near = evaluate(with_loss(ideal(link), 20.0), block_s=10.0)
    far = evaluate(with_loss(ideal(link), 30.0), block_s=100.0)
    assert far.sifted_bits == pytest.approx(near.sifted_bits, rel=0.01)
    assert far.secret_bits == pytest.approx(near.secret_bits, rel=0.03)


@pytest.mark.parametrize("changed", [{"eps_sec": 1e-14}, {"f_ec": 1.5}, {"profile": "L"}, {"block_s": 1.0}])
def test_asking_for_more_never_gives_more(link: Scenario, by_loss: Curve, changed: dict) -> None:
    stricter = curve("example", link, Asked(values=LOSSES, **changed))
    for one, two in zip(by_loss.samples, stricter.samples, strict=True):
        assert two.point.secret_bps <= one.point.secret_bps
    assert stricter.working.point.secret_bps < by_loss.working.point.secret_bps


# Where the key ends


def test_the_ends_are_where_the_key_ends(link: Scenario, by_loss: Curve) -> None:
    finite, unlimited = by_loss.max_loss_db, by_loss.max_loss_asymptotic_db
    assert finite is not None
    assert unlimited is not None
    assert finite < unlimited
    assert evaluate(with_loss(link, finite - 0.01)).secret_bits > 0
    assert evaluate(with_loss(link, finite + 0.02)).secret_bits == 0
    assert evaluate(with_loss(link, unlimited - 0.01)).asymptotic_bps > 0
    assert evaluate(with_loss(link, unlimited + 0.02)).asymptotic_bps == 0
    for sample in by_loss.samples:
        assert (sample.point.secret_bps > 0) == (sample.x <= finite)


def test_an_end_outside_the_range_is_found(link: Scenario, by_loss: Curve) -> None:
    for values in ((0.0, 1.0), (80.0, 90.0)):
        other = curve("example", link, Asked(values=values))
        assert other.max_loss_db == pytest.approx(by_loss.max_loss_db, abs=0.02)
        assert other.max_loss_asymptotic_db == pytest.approx(by_loss.max_loss_asymptotic_db, abs=0.02)


def test_without_dark_counts_unlimited_data_have_no_end(link: Scenario) -> None:
    found = curve("ideal", ideal(link), Asked(values=(10.0, 20.0)))
    assert found.max_loss_asymptotic_db == MAX_LOSS_DB
    assert "more than 100 dB with unlimited data" in page([found])


def test_a_link_without_any_key(link: Scenario) -> None:
    noisy = replace(link, channel=replace(link.channel, misalignment=0.2))
    found = curve("noisy", noisy, Asked(values=LOSSES))
    assert (found.max_loss_db, found.max_loss_asymptotic_db) == (None, None)
    assert {s.point.secret_bps for s in found.samples} == {0.0}
    assert "nor with unlimited data: QBER 20." in str(no_key(found))
    assert "no key from 10 to 30 dB" in page([found])


def test_the_least_block(link: Scenario, by_block: Curve) -> None:
    least = by_block.least_block
    assert least is not None
    assert evaluate(link, block_s=least).secret_bits > 0
    assert evaluate(link, block_s=least / 1.02).secret_bits == 0


def test_a_block_that_is_too_short_says_how_long_it_should_be(link: Scenario) -> None:
    short = curve("example", link, Asked(values=LOSSES, block_s=0.02))
    words = str(no_key(short))
    assert words.startswith("no key at 18 dB from a block of 0.02 s: too short, one of about ")
    needed_s = float(words.rpartition("about ")[2].removesuffix(" s gives a key"))
    assert evaluate(link, block_s=1.1 * needed_s).secret_bits > 0
    assert evaluate(link, block_s=0.85 * needed_s).secret_bits == 0
    assert no_key(curve("example", link, Asked(values=LOSSES))) is None


def test_points_for_drawing_lie_on_the_same_curve(link: Scenario, by_loss: Curve) -> None:
    drawn = curve("example", link, Asked(values=LOSSES), for_drawing=True)
    assert [s.point.secret_bps for s in drawn.samples] == [s.point.secret_bps for s in by_loss.samples]
    assert len(drawn.near_end) > len(by_loss.near_end)
    x = [s.x for s in drawn.all_samples()]
    assert x == sorted(set(x))
    assert (x[0], x[-1]) == (LOSSES[0], LOSSES[-1])
    keys = [s.point.secret_bps for s in drawn.all_samples()]
    assert all(after <= before for before, after in pairwise(keys))


# Losses, distances and blocks


def test_the_working_point_is_the_scenario_as_it_stands(link: Scenario, by_loss: Curve, by_block: Curve) -> None:
    own = evaluate(link)
    for found in (by_loss, by_block):
        assert found.working.point.secret_bits == own.secret_bits
        assert found.working.point.asymptotic_bps == own.asymptotic_bps
    assert (by_loss.working.x, by_block.working.x) == (channel_loss_db(link), link.duration_s)


def test_distance_is_loss_over_attenuation(link: Scenario) -> None:
    lossy = replace(link, channel=replace(link.channel, loss_db=3.0))
    found = curve("example", lossy, Asked(variable="distance_km", values=(0.0, 50.0, 100.0)))
    assert [s.point.loss_db for s in found.samples] == pytest.approx([3.0, 13.0, 23.0])
    assert found.working.x == pytest.approx(lossy.channel.length_km)
    assert any("beside a fixed loss of 3 dB" in note for note in found.notes)
    asked = Asked(variable="distance_km", values=(100.0,), attenuation_db_per_km=0.17)
    assert curve("example", lossy, asked).samples[0].point.loss_db == pytest.approx(20.0)


def test_a_loss_that_contains_its_fibre_counts_as_fibre() -> None:
    plan = scenario_file.load("backbone-625mhz")
    assert plan.channel.attenuation_db_per_km == 0
    found = curve("backbone", plan, Asked(variable="distance_km", values=(0.0, 100.0)))
    assert [s.point.loss_db for s in found.samples] == pytest.approx([0.0, 20.0])
    assert found.working.x == pytest.approx(channel_loss_db(plan) / 0.2)
    assert any("0.2 dB/km (assumed)" in note for note in found.notes)


def test_a_satellite_has_no_fibre_and_says_which_loss_is_meant() -> None:
    plan = scenario_file.load("satellite-pass")
    with pytest.raises(ConfigError, match=r"pass: a satellite pass has no length of fibre: use --loss"):
        curve("pass", plan, Asked(variable="distance_km", values=(0.0, 100.0)))
    assert any("closest approach" in note for note in curve("pass", plan, Asked(values=(20.0,))).notes)


def test_a_pair_link_keeps_the_fibre_of_its_arms() -> None:
    plan = scenario_file.load("pair-lab")
    assert plan.alice is not None
    longer = replace(plan, alice=replace(plan.alice, length_km=25.0))
    assert longer.channel.attenuation_db_per_km > 0
    again = with_loss(longer, channel_loss_db(longer))
    assert np.allclose(expected(again, 1.0).n, expected(longer, 1.0).n, rtol=1e-12)
    assert expected(longer, 1.0).n.sum() < 0.5 * expected(plan, 1.0).n.sum()


def test_blocks_by_pulses_are_blocks_by_seconds(link: Scenario, by_block: Curve) -> None:
    pulses = tuple(s.point.pulses for s in by_block.samples[2:5])
    found = curve("example", link, Asked(variable="block_pulses", values=pulses))
    for one, two in zip(found.samples, by_block.samples[2:5], strict=True):
        assert one.x == pytest.approx(two.point.pulses)
        assert one.point.secret_bits == pytest.approx(two.point.secret_bits, abs=1)
    held = curve("example", link, Asked(values=(18.0,), block_pulses=pulses[0]))
    assert held.working.point.block_s == pytest.approx(by_block.samples[2].x)


def test_usual_losses_hold_the_ranges_of_all_scenarios(link: Scenario) -> None:
    def ranged(*loss_db: float) -> Scenario:
        return replace(link, rate=replace(link.rate, loss_db=loss_db))

    values = usual_losses([ranged(5.0, 20.0), ranged(2.0, 12.0)])
    assert values == pytest.approx(range(2, 21))
    long, short = usual_losses([ranged(0.0, 100.0)]), usual_losses([ranged(3.0, 5.0)])
    assert (long[0], long[-1], len(long)) == (0.0, 100.0, 41)
    assert (short[0], short[-1], len(short)) == (3.0, 5.0, 11)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"f_ec": 0.9}, r"example: rate\.f_ec = 0\.9 must lie between 1 and 5"),
        ({"eps_sec": 0.0}, r"example: security\.eps_sec must lie between 0 and 1"),
        ({"profile": "Q"}, r"example: security\.profile = 'Q': choose one of V, L, T"),
    ],
)
def test_overrides_out_of_range_name_scenario_and_field(link: Scenario, changed: dict, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        curve("example", link, Asked(values=LOSSES, **changed))


# Results


def test_json_round_trip(by_loss: Curve, by_block: Curve) -> None:
    for found in (by_loss, by_block):
        text = msgspec.json.encode(rates([found]))
        assert b"NaN" not in text
        again = msgspec.json.decode(text, type=Rates)
        assert again == rates([found])
        (row,) = again.scenarios
        assert len(row.points) == len(found.samples)
        assert row.working_point.secret_bits == found.working.point.secret_bits
        assert {bound.eps for bound in row.bounds} == {b.eps for b in found.working.point.lengths[0].bounds}
        assert row.eps_block == pytest.approx(math.fsum([1e-10, 1e-15, 1e-12]))
    assert rates([by_loss]).scenarios[0].least_block_s is None
    assert rates([by_block]).scenarios[0].least_block_s == by_block.least_block


def test_two_keys_of_a_block_name_their_bases(link: Scenario) -> None:
    plan = replace(link, rate=replace(link.rate, both_bases=True))
    (row,) = rates([curve("example", plan, Asked(values=(10.0,)))]).scenarios
    assert {bound.key_basis for bound in row.bounds} == {"Z", "X"}


def test_the_page_is_short_and_says_what_it_leaves_out(link: Scenario) -> None:
    found = curve("example", link, Asked(values=tuple(0.5 * i for i in range(100))))
    lines = page([found]).splitlines()
    assert len(lines) < 50
    assert max(map(len, lines)) <= 100
    assert any("--json and --plot have all" in line for line in lines)


def test_detectors_too_unequal_for_a_correction_are_named() -> None:
    plan = scenario_file.load("example")
    receiver = replace(plan.bob.receiver, efficiency=(0.45, 0.2))
    found = curve("example", replace(plan, bob=replace(plan.bob, receiver=receiver)), Asked(values=(10.0, 20.0)))
    assert any("too unequal" in note for note in found.notes)
