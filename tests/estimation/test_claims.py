"""Preconditions: what lowers a claim, on clean numbers, on faulty ones and on a real experiment's matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qkdpp.estimation import Claim, Declared, Efficiencies, Evidence, assess
from qkdpp.estimation.claims import correction, squashing_doubts

GOOD = Declared(
    protocol="bb84",
    phase_randomised=True,
    intensities_declared=True,
    receiver="active",
    p_z_alice=0.9,
    p_z_bob=0.9,
    efficiencies={"bob": Efficiencies(values=(0.5, 0.5, 0.5, 0.5), tolerance=0.02)},
)


def clean() -> Evidence:
    """Counts of a balanced link at p_z = 0.9: 100,000 announced detections, keyed Z cells left out of the matrix."""
    matrix = np.array(
        [[0, 0, 2250, 2250], [0, 0, 2250, 2250], [2250, 2250, 490, 10], [2250, 2250, 10, 490]], dtype=np.int64
    )
    sent = np.array([[[45_000, 45_000], [5_000, 5_000]]] * 3, dtype=np.int64) * 1000
    return Evidence(
        matrix=matrix,
        bases=np.array([[81_000, 9_000], [9_000, 1_000]], dtype=np.int64),
        sent=sent,
        detections=100_000,
        double_clicks=40,
    )


def failed(claim: Claim) -> set[str]:
    return {p.name for p in claim.failed}


def test_a_clean_link_is_composable_and_lists_what_it_rests_on():
    claim = assess(GOOD, clean())
    assert (claim.level, claim.failed) == ("composable", ())
    names = {p.name for p in claim.passed}
    assert {"phase_randomised", "intensities_declared", "randomness", "authentication_pool"} <= names
    assert {"equal_bits_bob_x", "basis_choice_alice", "double_clicks", "cross_basis_clicks"} <= names
    assert "computational" in next(p.explanation for p in claim.passed if p.name == "randomness")


def test_an_empty_declaration_claims_nothing_it_was_not_told():
    assert {"phase_randomised", "intensities_declared"} <= failed(assess(Declared(protocol="bb84"), clean()))


def test_detectors_nobody_calibrated_leave_an_estimate():
    claim = assess(replace(GOOD, efficiencies={}), clean())
    assert (claim.level, failed(claim)) == ("estimate", {"detectors_calibrated"})
    one = {"bob": GOOD.efficiencies["bob"]}
    pairs = replace(GOOD, protocol="bbm92", efficiencies=one)
    assert "detectors_calibrated" in failed(assess(pairs, clean()))
    assert "detectors_calibrated" not in failed(
        assess(replace(pairs, efficiencies=one | {"alice": one["bob"]}), clean())
    )


def test_the_throw_away_pool_is_listed_and_does_not_fail():
    claim = assess(replace(GOOD, pool="throw_away"), clean())
    assert claim.level == "composable"
    assert "this run" in next(p.explanation for p in claim.passed if p.name == "authentication_pool")


@pytest.mark.parametrize(
    ("change", "name", "level"),
    [
        ({"test_mode": True}, "random_states", "none"),
        ({"phase_randomised": False}, "phase_randomised", "estimate"),
        ({"intensities_declared": False}, "intensities_declared", "estimate"),
        ({"double_click_rule": "first"}, "double_click_rule", "estimate"),
        ({"blank_all": False}, "blanking", "estimate"),
        ({"p_z_bob": 0.8}, "basis_choice_bob", "estimate"),
        ({"p_z_alice": 0.95}, "basis_choice_alice", "estimate"),
    ],
)
def test_a_declaration_that_does_not_hold(change, name, level):
    claim = assess(replace(GOOD, **change), clean())
    assert claim.level == level
    assert failed(claim) == {name}


def test_a_test_mode_outranks_an_estimate():
    claim = assess(replace(GOOD, test_mode=True, phase_randomised=False), clean())
    assert claim.level == "none"


def test_cross_basis_clicks_need_a_cited_map():
    seen = replace(clean(), cross_basis_clicks=12)
    passive = replace(GOOD, receiver="passive")
    assert failed(assess(passive, seen)) == {"cross_basis_clicks"}
    assert assess(passive, clean()).level == "composable"
    assert assess(replace(passive, squashing_map="a published map"), seen).level == "composable"
    assert assess(GOOD, seen).level == "composable"


def test_too_many_double_clicks():
    assert failed(assess(GOOD, replace(clean(), double_clicks=6_000))) == {"double_clicks"}
    model = replace(clean(), double_clicks_expected=30.0)
    assert assess(GOOD, model).level == "composable"
    assert failed(assess(GOOD, replace(model, double_clicks=400))) == {"double_clicks"}


def test_unequal_detectors_of_a_real_experiment():
    """SPDC pairs of the 98 ms recording: diagonal cells 1139 and 676, that is 1.7 to 1, so no claim but an estimate."""
    matrix = np.array(
        [[3793, 195, 1103, 605], [202, 3542, 908, 725], [781, 1078, 1139, 9], [1311, 958, 11, 676]], dtype=np.int64
    )
    bases = matrix.reshape(2, 2, 2, 2).sum(axis=(1, 3))
    for keyed_known in (True, False):
        shown = matrix.copy()
        if not keyed_known:
            shown[:2, :2] = 0
        claim = assess(Declared(protocol="bbm92"), Evidence(matrix=shown, bases=bases, detections=int(matrix.sum())))
        assert claim.level == "estimate"
        assert "equal_bits_bob_x" in failed(claim)
        worst = next(p for p in claim.failed if p.name == "equal_bits_bob_x")
        assert worst.value > 2 * worst.threshold


@pytest.mark.parametrize(("ratio", "holds"), [(1.0, True), (1.03, True), (1.06, False), (0.94, False)])
def test_efficiency_mismatch_is_seen_beyond_a_few_per_cent(ratio, holds):
    """With a million detections the threshold is the tolerance: efficiencies within about 4 per cent."""
    matrix = clean().matrix * 100
    matrix[:, 3] = np.rint(matrix[:, 3] * ratio).astype(np.int64)
    assert ("equal_bits_bob_x" not in failed(assess(GOOD, replace(clean(), matrix=matrix)))) is holds


def test_small_samples_are_given_their_fluctuation():
    matrix = np.zeros((4, 4), dtype=np.int64)
    matrix[2, 0], matrix[2, 1], matrix[0, 2], matrix[1, 3] = 60, 40, 55, 45
    claim = assess(GOOD, replace(clean(), matrix=matrix))
    assert not {"equal_bits_bob_z", "equal_bits_bob_x"} & failed(claim)


def test_false_alarms_are_rare():
    """2,000 honest blocks, nine statistical checks each at 1e-6 beyond a tolerance: none fails."""
    rng, expected = np.random.default_rng(0), clean()
    for _ in range(2_000):
        seen = replace(
            expected,
            matrix=rng.poisson(expected.matrix).astype(np.int64),
            bases=rng.multinomial(100_000, [0.81, 0.09, 0.09, 0.01]).reshape(2, 2).astype(np.int64),
            double_clicks=int(rng.poisson(40)),
        )
        assert assess(GOOD, seen).level == "composable"


def test_a_source_that_sends_one_state_only_in_the_test_basis():
    """Three states: basis X holds bit 0 only."""
    sent = clean().sent.copy()
    sent[:, 1, 0], sent[:, 1, 1] = sent[:, 1].sum(axis=1), 0
    assert "prepared_bits_x" in failed(assess(GOOD, replace(clean(), sent=sent)))


def test_no_detections_prove_nothing():
    empty = Evidence(matrix=np.zeros((4, 4), dtype=np.int64), bases=np.zeros((2, 2), dtype=np.int64))
    claim = assess(GOOD, empty)
    assert claim.level == "estimate"
    assert {"equal_bits_alice_z", "equal_bits_bob_x", "basis_choice_bob"} <= failed(claim)


# --- declared unequal detectors -------------------------------------------------------------------------------------


def weaker(eta: float) -> Evidence:
    """The clean link with an X1 detector of efficiency ``eta`` relative to the others."""
    matrix = clean().matrix.astype(np.float64)
    matrix[:, 3] *= eta
    bases = clean().bases * np.array([1, (1 + eta) / 2])
    return replace(clean(), matrix=np.rint(matrix).astype(np.int64), bases=np.rint(bases).astype(np.int64))


def with_bob(eta: float, tolerance: float = 0.02) -> Declared:
    return replace(GOOD, efficiencies={"bob": Efficiencies(values=(0.5, 0.5, 0.5, 0.5 * eta), tolerance=tolerance)})


def test_unequal_counts_are_an_estimate_unless_declared():
    assert "equal_bits_bob_x" in failed(assess(GOOD, weaker(0.8)))
    claim = assess(with_bob(0.8), weaker(0.8))
    assert claim.level == "composable"
    found = next(p for p in claim.passed if p.name == "efficiency_mismatch")
    assert found.corrected == pytest.approx(0.8 * 0.98 / 1.02)


@pytest.mark.parametrize("eta", [1.0, 0.9, 0.7])
def test_counts_that_the_declaration_does_not_explain_fail(eta):
    assert "equal_bits_bob_x" in failed(assess(with_bob(0.8, tolerance=0.005), weaker(eta)))


def test_detectors_too_unequal_are_not_corrected_for():
    declared = with_bob(0.45)
    assert correction(tuple(declared.efficiencies.values())) == ()
    claim = assess(declared, weaker(0.45))
    assert claim.level == "estimate"
    assert {"efficiency_mismatch", "equal_bits_bob_x"} <= failed(claim)
    assert all(p.corrected is None for p in (*claim.failed, *claim.passed))


def test_weak_detectors_of_one_basis_shift_the_share_of_bases():
    """A passive half-half receiver whose X arm detects 20 % less: the declared efficiencies explain it."""
    bases = np.array([[25_000, 20_000], [25_000, 20_000]], dtype=np.int64)
    seen = replace(clean(), bases=bases)
    half = replace(GOOD, p_z_bob=0.5)
    assert "basis_choice_bob" in failed(assess(half, seen))
    weak = Efficiencies(values=(0.5, 0.5, 0.4, 0.4), tolerance=0.02)
    assert "basis_choice_bob" not in failed(assess(replace(half, efficiencies={"bob": weak}), seen))


def test_doubts_about_squashing_are_those_of_the_claim_that_public_data_show():
    assert squashing_doubts(GOOD, clean()) == ()
    assert squashing_doubts(GOOD, weaker(0.8)) == ("equal_bits_bob_x",)
    passive = replace(GOOD, receiver="passive", double_click_rule="first", phase_randomised=False)
    seen = replace(clean(), cross_basis_clicks=1)
    assert squashing_doubts(passive, seen) == ("double_click_rule", "cross_basis_clicks")


def test_no_data_is_no_doubt_but_no_claim_either():
    nothing = replace(clean(), matrix=np.zeros((4, 4), dtype=np.int64))
    assert squashing_doubts(GOOD, nothing) == ()
    assert "equal_bits_bob_x" in failed(assess(GOOD, nothing))
