"""Three-state BB84 against density matrices, drawn blocks with known phase errors, and four-state BB84."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import three_state_oracle as oracle
from estimation_oracles import too_many
from hypothesis import given, settings
from hypothesis import strategies as st
from three_state_cases import BALANCED, CHANNELS, FLAWED, IDEAL, MU, P, empty, expected, length

from qkdpp.core.abort import Abort
from qkdpp.core.errors import ConfigError
from qkdpp.estimation.asymptotic import asymptotic_rate, decoy_yields
from qkdpp.estimation.interpolation import slope_bounds, slopes
from qkdpp.estimation.security import Security, Split, binary_entropy
from qkdpp.estimation.three_state import key_length_three_state
from qkdpp.estimation.three_state_asymptotic import three_state_rate, three_state_yields
from qkdpp.estimation.three_state_counts import ThreeStateCounts
from qkdpp.estimation.virtual_states import ThreeStates, phase_error_rate


@pytest.mark.parametrize("states", [IDEAL, BALANCED, FLAWED], ids=["ideal", "balanced", "flawed"])
@pytest.mark.parametrize("name", CHANNELS)
def test_phase_error_of_known_yields_is_that_of_the_entangled_pair(name, states):
    channel = CHANNELS[name]
    found = phase_error_rate(0.01 * oracle.yields(channel, states), states)
    assert found == pytest.approx(oracle.true_phase_error(channel, states), abs=1e-10)


def test_phase_errors_of_textbook_channels():
    assert phase_error_rate(oracle.yields(CHANNELS["ideal"], IDEAL), IDEAL) == pytest.approx(0, abs=1e-12)
    # intercept and resend in Z leaves nothing of the phase
    assert phase_error_rate(oracle.yields(oracle.intercept_resend_z(), IDEAL), IDEAL) == pytest.approx(0.5, abs=1e-12)
    # what four-state BB84 would see in X: half the depolarisation
    assert phase_error_rate(oracle.yields(oracle.depolarising(0.06), IDEAL), IDEAL) == pytest.approx(0.03, abs=1e-12)
    # a rotation by theta about Y turns (1 - cos theta) / 2 of X0 and of X1 over
    turned = phase_error_rate(oracle.yields(oracle.rotation(0.3), IDEAL), IDEAL)
    assert turned == pytest.approx((1 - math.cos(0.3)) / 2, abs=1e-12)


def test_the_errors_of_one_state_alone_would_mislead():
    """A receiver that clicks for Z0 only: X0 shows errors as often as not, yet the phase error rate is exact."""
    channel = oracle.chain(oracle.rotation(0.4), oracle.polarising_loss(0.3))
    table = oracle.yields(channel, IDEAL)
    of_x0 = table[2, 3] / table[2, 2:].sum()
    truth = oracle.true_phase_error(channel, IDEAL)
    assert abs(of_x0 - truth) > 0.05
    assert phase_error_rate(table, IDEAL) == pytest.approx(truth, abs=1e-12)


def test_nothing_detected_means_nothing_known():
    assert phase_error_rate(np.zeros((3, 4)), IDEAL) == 1.0


@pytest.mark.parametrize(
    ("probability", "angle"),
    [
        ((0.5, 0.5, 0.0), (0, 3.1, 1.5)),
        ((0.5, 0.4, 0.2), (0, 3.1, 1.5)),
        ((0.4, 0.4, 0.2), (0, 3.1, 3.1)),
        ((0.4, 0.4, 0.2), (0, math.nan, 1.5)),
    ],
)
def test_states_that_say_nothing_about_the_virtual_ones_are_refused(probability, angle):
    with pytest.raises(ConfigError):
        ThreeStates(probability=probability, angle_rad=angle)


YIELD_ROWS = st.lists(st.floats(0, 1), min_size=12, max_size=12)
INTENSITIES = st.lists(st.integers(0, 60), min_size=3, max_size=5, unique=True)


@given(row=YIELD_ROWS, mu=INTENSITIES)
def test_polynomials_enclose_the_single_photon_yield(row, mu):
    means = tuple(m / 50 for m in mu)
    series = np.array([sum(y * m**n / math.factorial(n) for n, y in enumerate(row)) for m in means])
    lower, upper = slope_bounds(slopes(means, (1 / len(means),) * len(means)), series)
    assert lower <= row[1] + 1e-6
    assert upper >= row[1] - 1e-6


def test_polynomials_are_the_published_bounds_where_these_exist():
    mu, gain, error_gain = (0.48, 0.1, 0.0), (5e-3, 1.1e-3, 2e-6), (1.2e-4, 3e-5, 1e-6)
    published = decoy_yields(mu, gain, error_gain)
    through = slopes(mu, (0.5, 0.3, 0.2))
    lower, _ = slope_bounds(through, np.exp(mu) * np.array(gain))
    assert lower == pytest.approx(published.y1, rel=1e-12)
    _, upper = slope_bounds(through, np.exp(mu) * np.array(error_gain))
    assert upper == pytest.approx((3e-5 * math.exp(0.1) - 1e-6) / 0.1, rel=1e-12)


@pytest.mark.parametrize("name", CHANNELS)
def test_asymptotic_phase_error_meets_the_truth_for_good_decoys_and_is_never_below_it(name):
    truth = oracle.true_phase_error(CHANNELS[name], IDEAL)
    close = three_state_yields((0.4, 2e-4, 0.0), oracle.gains((0.4, 2e-4, 0.0), 0.01, CHANNELS[name], IDEAL), IDEAL)
    assert truth - 1e-9 <= close.phase_error <= truth + 5e-4
    usual = three_state_yields(MU, oracle.gains(MU, 0.01, CHANNELS[name], IDEAL), IDEAL)
    assert truth - 1e-9 <= usual.phase_error <= truth + 0.02


def test_asymptotic_rate_is_that_of_four_states_on_a_depolarising_channel_with_good_decoys():
    mu, q = (0.4, 2e-4, 0.0), 0.03
    gain = oracle.gains(mu, 0.01, oracle.depolarising(2 * q), IDEAL)
    per_basis = gain[:, 0, :2].sum(axis=1)
    errors = gain[:, 0, 1]
    four = decoy_yields(mu, tuple(per_basis), tuple(errors))
    rate = asymptotic_rate(0.4, per_basis[0], errors[0] / per_basis[0], four, f_ec=1.16)
    assert three_state_rate(mu, gain, IDEAL, f_ec=1.16) == pytest.approx(rate, rel=5e-3)
    assert rate > 1e-4


def test_no_rate_against_intercept_and_resend():
    gain = oracle.gains(MU, 0.01, oracle.intercept_resend_z(), IDEAL)
    assert three_state_yields(MU, gain, IDEAL).phase_error >= 0.5
    assert three_state_rate(MU, gain, IDEAL, f_ec=1.0) == 0.0
    assert three_state_rate(MU, np.zeros((4, 3, 4)), IDEAL, f_ec=1.0) == 0.0
    counts = expected(1e12, oracle.intercept_resend_z())
    found = length(counts, counts)
    assert found.phase_error_upper >= 0.5
    assert (found.secret_bits, found.secret_bits_asymptotic) == (0, 0)


def test_finite_length_approaches_the_asymptotic_one_from_below():
    shares = []
    for pulses in (1e9, 1e10, 1e11, 1e12, 1e14, 1e16):
        counts = expected(pulses)
        found = length(counts, counts, leak=int(0.19 * counts.keyed.sum()))
        assert found.value <= found.secret_bits_asymptotic
        shares.append(found.value / pulses)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(found.secret_bits_asymptotic / pulses, rel=5e-3)


def test_asymptotic_length_is_the_asymptotic_rate():
    gain = oracle.gains(MU, 1e-2, CHANNELS["depolarising"], BALANCED, dark=1e-7)
    counts = expected(1e14)
    bounds = three_state_yields(MU, gain, BALANCED)
    singles = 1e14 * 0.5 * 0.6 * sum(p * m * math.exp(-m) for m, p in zip(MU, P, strict=True)) * bounds.y1
    by_hand = singles * (1 - binary_entropy(bounds.phase_error))
    assert length(counts, counts).secret_bits_asymptotic == pytest.approx(by_hand, rel=1e-5)


SETTINGS = {0.1: {"eps_sec": 0.64, "split": Split(smoothing=math.sqrt(0.1) / 0.64)}, 0.01: {"eps_sec": 0.4}}


BLOCKS = 10_000


@cache
def drawn_blocks(states: ThreeStates) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts = [CHANNELS["everything"], oracle.rotation(-0.3), CHANNELS["depolarising"]]
    rng = np.random.default_rng(11)
    return oracle.draw_blocks(rng, BLOCKS + 1, 40_000_000, parts, 0.05, MU, P, states, (0.5, 0.5))


CASES = list(itertools.product(SETTINGS, ("balanced", "flawed"), (1.0, 0.2, None)))
QUICK = [(0.01, "balanced", 1.0), (0.1, "flawed", None)]
"""Run with all blocks every time; the other cases with all blocks are slow, and with some of them quick."""


@pytest.mark.parametrize(
    ("eps", "kind", "guess", "blocks"),
    [(*case, 400) for case in CASES if case not in QUICK]
    + [pytest.param(*case, BLOCKS, marks=[] if case in QUICK else [pytest.mark.slow]) for case in CASES],
)
def test_drawn_phase_errors_stay_below_the_bound(eps, kind, guess, blocks):
    states = {"balanced": BALANCED, "flawed": FLAWED}[kind]
    drawn, singles, errors = (of[: blocks + 1] for of in drawn_blocks(states))
    source = {"intensities": MU, "p_intensity": P, "states": states, "p_bob": (0.5, 0.5)}
    predicted = None
    if guess is not None:
        n = drawn[0] if guess == 1.0 else np.roll(drawn[0], 1, axis=1)  # 0.2: a prediction that is badly wrong
        predicted = ThreeStateCounts(n=n, **source)
    low = high = 0
    for n, one, wrong in zip(drawn[1:], singles[1:], errors[1:], strict=True):
        found = length(ThreeStateCounts(n=n, **source), predicted, foresee=False, **SETTINGS[eps])
        low += found.single_photon_bits > one
        high += wrong > found.phase_error_upper * found.single_photon_bits + 1e-6
    assert not too_many(low, blocks, eps)
    assert not too_many(high, blocks, eps)


def test_taking_the_mismatched_outcomes_for_unbiased_is_caught():
    """The planted mistake: Z states are said to give x0 half the time. Against an adversary who always resends X0 (no
    errors of X0 at all) that hides a phase error rate of 1/2."""
    parts, p_bob, blocks = [oracle.resend_x0()], (0.5, 0.5), 50
    rng = np.random.default_rng(12)
    drawn, _, errors = oracle.draw_blocks(rng, blocks, 40_000_000, parts, 0.05, MU, P, BALANCED, p_bob)
    caught = fine = 0
    for n, wrong in zip(drawn, errors, strict=True):
        counts = ThreeStateCounts(intensities=MU, p_intensity=P, states=BALANCED, p_bob=p_bob, n=n)
        right = length(counts, counts, **SETTINGS[0.1])
        fine += wrong > right.phase_error_upper * right.single_photon_bits
        planted = n.copy()
        planted[:, :2, 2:] = (n[:, :2, 2:].sum(axis=2) // 2)[:, :, None]
        mistaken = length(replace(counts, n=planted), counts, **SETTINGS[0.1])
        caught += wrong > mistaken.phase_error_upper * mistaken.single_photon_bits
    assert not too_many(fine, blocks, 0.1)
    assert too_many(caught, blocks, 0.1)


def test_every_statement_is_registered_and_its_failure_counted():
    counts = expected(1e11)
    found = length(counts, counts)
    kappa = 1e-10 / 4
    assert sum(b.eps for b in found.bounds) == pytest.approx(kappa**2, rel=1e-9)
    # key: 4 counts; X0x1: 4; Z0x0 + Z1x0: 4; X0x0: 4; chances of these three groups; phase errors
    assert len(found.bounds) == 20
    assert sum(b.inequality == "Kato 2020" for b in found.bounds) == 4
    weighted = length(counts, counts, split=Split(weights={"phase errors": 3.0}))
    shares = {b.name: b.eps for b in weighted.bounds}
    assert shares["phase errors"] == pytest.approx(3 * shares["chances of X0x1"])
    assert sum(shares.values()) == pytest.approx(kappa**2, rel=1e-9)
    flawed = expected(1e11, states=FLAWED)
    assert sum(b.inequality == "Kato 2020" for b in length(flawed, flawed).bounds) == 7


def test_length_adds_up_and_costs_are_whole_bits():
    counts = expected(1e12)
    plain, charged = length(counts, counts), length(counts, counts, leak=1)
    assert plain.value - charged.value == pytest.approx(1, abs=1e-6)
    assert sum(plain.terms.values()) == plain.value
    assert plain.secret_bits == math.floor(plain.value)
    full = key_length_three_state(
        counts, predicted=counts, leak_bits=5, verification_bits=70, dropped_bits=100, security=Security()
    )
    assert plain.value - full.value == pytest.approx(175, abs=1e-6)


@given(first=st.floats(1e-20, 0.1), second=st.floats(1e-20, 0.1))
@settings(max_examples=25, deadline=None)
def test_a_smaller_failure_probability_never_helps(first, second):
    counts = expected(1e11)
    small, large = sorted((first, second))
    assert length(counts, counts, eps_sec=small).value <= length(counts, counts, eps_sec=large).value + 1e-6


@pytest.mark.parametrize(("state", "outcome", "falls"), [(2, 3, True), (0, 2, True), (1, 2, True), (2, 2, False)])
def test_more_of_what_points_to_phase_errors_shortens_the_key(state, outcome, falls):
    """One more thousand weak-decoy detections of a kind, the prediction held: errors of X0 or x0 from a Z state."""
    counts = expected(1e11)
    n = counts.n.copy()
    n[2, state, outcome] += 1000
    before, after = length(counts, counts), length(replace(counts, n=n), counts)
    assert (after.value < before.value) == falls


def test_a_wrong_prediction_costs_key_and_none_costs_more():
    counts = expected(1e10)
    good = length(counts, counts).value
    other = expected(1e10, oracle.rotation(0.5))
    assert length(counts, other).value <= good + 1
    assert length(counts, None).value < good
    assert "Azuma" in length(counts, None).notes[0]


def test_size_of_the_predicted_block_does_not_matter():
    assert length(expected(1e11), expected(1e13)).value == pytest.approx(length(expected(1e11), None).value, rel=0.1)
    small, large = length(expected(1e11), expected(1e12)).value, length(expected(1e11), expected(1e13)).value
    assert small == pytest.approx(large, rel=1e-5)


EDGES = ("empty", "one", "no vacuum", "few", "some")


def edge(name: str) -> ThreeStateCounts:
    n = {"few": expected(1e4).n, "some": expected(1e6).n, "no vacuum": expected(1e8).n.copy()}.get(name, empty())
    if name == "one":
        n[0, 0, 0] = 1
    if name == "no vacuum":
        n[3] = 0
    return replace(expected(1e8), n=n)


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("prediction", ["none", "right", "empty"])
def test_zero_edges_give_no_key_and_no_nan(name, prediction):
    predicted = {"none": None, "right": expected(1e8), "empty": edge("empty")}[prediction]
    counts = edge(name)
    found = length(counts, predicted, leak=int(0.2 * counts.keyed.sum()))
    assert found.secret_bits == 0
    assert math.isfinite(found.value)
    assert 0 <= found.phase_error_upper <= 1


TABLES = st.lists(st.integers(0, 40), min_size=48, max_size=48)


@given(
    cells=TABLES, predicted=TABLES, states=st.sampled_from([IDEAL, BALANCED, FLAWED]), scale=st.sampled_from([1, 10**6])
)
@settings(deadline=None)
def test_any_counts_and_any_prediction_give_a_number_or_are_refused(cells, predicted, states, scale):
    def counts(values, factor):
        n = np.array(values, dtype=np.int64).reshape(4, 3, 4) * factor
        return ThreeStateCounts(intensities=MU, p_intensity=P, states=states, p_bob=(0.5, 0.5), n=n)

    try:
        found = length(counts(cells, scale), counts(predicted, 1))
    except Abort:
        return
    assert math.isfinite(found.value)
    assert 0 <= found.secret_bits <= found.single_photon_bits <= counts(cells, scale).keyed.sum()


def test_detections_needed_are_enough():
    counts = expected(1e8)
    found = length(counts, counts)
    assert found.secret_bits == 0
    assert found.detections_needed is not None
    matching = int(counts.keyed.sum() + counts.n[:, 2, 2:].sum())
    factor = found.detections_needed / matching
    assert length(counts.scaled(1.001 * factor), counts).secret_bits > 0
    assert length(counts.scaled(0.97 * factor), counts).secret_bits == 0
