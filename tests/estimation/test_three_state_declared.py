"""Three-state counts against what was declared: lost detections, states sent otherwise, parameters not covered."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import three_state_oracle as oracle
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from three_state_cases import BALANCED, CHANNELS, FLAWED, IDEAL, P, empty, expected, length

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.errors import ConfigError, InputError
from qkdpp.estimation.security import Security
from qkdpp.estimation.three_state import key_length_three_state
from qkdpp.estimation.three_state_counts import ThreeStateCounts
from qkdpp.estimation.three_state_groups import ROUNDING, groups
from qkdpp.estimation.virtual_states import ThreeStates


def test_counts_that_no_source_gives_end_the_block():
    n = expected(1e10).n.copy()
    n[2, 2, 3] = 0
    n[3, 2, 3] = 10**5
    with pytest.raises(Abort) as caught:
        length(replace(expected(1e10), n=n), None)
    assert caught.value.aborted.reason is AbortReason.IMPLAUSIBLE_COUNTS


@pytest.mark.parametrize("lost", [np.s_[:, :, 2:], np.s_[:, 2, 2:], np.s_[:, :2, 2:], np.s_[:, 0, 3]])
def test_lost_counts_never_pass_for_a_channel_without_errors(lost):
    n = expected(1e10).n.copy()
    n[lost] = 0
    with pytest.raises(Abort) as caught:
        length(replace(expected(1e10), n=n), expected(1e10))
    assert "Bob's bases" in str(caught.value.aborted.evidence["contradictions"])


def test_honest_bases_are_hardly_ever_refused():
    rng, base = np.random.default_rng(13), expected(1e10)
    for size in (10, 1000, 10**6, 10**9):
        for _ in range(300):
            n = rng.multinomial(size, base.n.ravel() / base.n.sum()).reshape(base.n.shape)
            assert replace(base, n=n.astype(np.int64)).contradictions() == ()


def sent_as(states: ThreeStates, pulses: float, rng: np.random.Generator | None = None) -> np.ndarray:
    """Pulses by label and state: the expected numbers, or drawn ones."""
    share = np.outer(P, states.probability)
    if rng is None:
        return np.rint(pulses * share).astype(np.int64)
    return rng.multinomial(int(pulses), share.ravel()).reshape(share.shape).astype(np.int64)


def test_a_state_sent_more_often_than_declared_ends_the_block():
    """Sent 0.406, declared 0.400: without the pulses sent the key would be several per cent too long."""
    actual = ThreeStates(probability=(0.297, 0.297, 0.406))
    truth = expected(1e11, states=actual)
    claimed = replace(truth, states=BALANCED)
    assert length(claimed, None).value > 1.03 * length(truth, None).value
    with pytest.raises(Abort) as caught:
        length(replace(claimed, sent=sent_as(actual, 1e11)), None)
    assert caught.value.aborted.reason is AbortReason.IMPLAUSIBLE_COUNTS
    assert "state X0 of intensity 0" in str(caught.value.aborted.evidence["contradictions"])
    assert length(replace(truth, sent=sent_as(actual, 1e11)), None).value == length(truth, None).value


def test_a_declared_tolerance_pays_for_probabilities_that_are_off():
    actual = ThreeStates(probability=(0.297, 0.297, 0.406))
    truth = replace(expected(1e11, states=actual), sent=sent_as(actual, 1e11))
    careful = replace(truth, states=replace(BALANCED, tolerance=0.02))
    assert 0 < length(careful, None).value < length(replace(truth, states=actual), None).value
    with pytest.raises(Abort):
        length(replace(truth, states=replace(BALANCED, tolerance=0.005)), None)


@pytest.mark.parametrize("tolerance", [-0.01, 0.5, math.nan])
def test_tolerances_that_are_none(tolerance):
    with pytest.raises(ConfigError, match="tolerance"):
        replace(BALANCED, tolerance=tolerance)


@given(
    off=st.tuples(*[st.floats(-1, 1)] * 3),
    tolerance=st.floats(0, 0.1),
    name=st.sampled_from(sorted(CHANNELS)),
    states=st.sampled_from([IDEAL, BALANCED, FLAWED]),
)
@settings(deadline=None)
def test_tolerated_probabilities_never_hide_phase_errors(off, tolerance, name, states):
    """Whatever is sent within the tolerance, the declared factors find at least its phase errors (per round)."""
    sent = np.array(states.probability) * (1 + tolerance * np.array(off))
    sent = sent / sent.sum()
    assume(np.all(np.abs(sent / states.probability - 1) <= tolerance))
    actual = ThreeStates(probability=tuple(sent), angle_rad=states.angle_rad)
    table = oracle.yields(CHANNELS[name], states)
    found = (replace(states, tolerance=tolerance).phase_error_factors() * sent[:, None] * table[:, 2:]).sum()
    per_round = (sent[:2] * table[:2, :2].sum(axis=1)).sum()
    assert found >= oracle.true_phase_error(CHANNELS[name], actual) * per_round - 1e-12


def test_honest_pulses_are_hardly_ever_refused():
    rng, empty_counts = np.random.default_rng(14), replace(expected(1e8), n=empty())
    for pulses in (10, 1000, 10**6, 10**10):
        for _ in range(300):
            assert replace(empty_counts, sent=sent_as(BALANCED, pulses, rng)).contradictions() == ()


def test_more_detections_than_pulses_are_refused():
    counts = expected(1e9)
    fewer = replace(counts, sent=sent_as(BALANCED, counts.detections // 2))
    assert any("detections of" in found for found in fewer.contradictions())


@given(angles=st.tuples(st.floats(-0.2, 0.2), st.floats(2.9, 3.3), st.floats(1.3, 1.8)), p=st.floats(0.2, 0.5))
def test_rounded_factors_are_paid_for(angles, p):
    states = ThreeStates(probability=(p, 0.8 - p, 0.2), angle_rad=angles)
    exact, rounded = states.phase_error_factors(), np.zeros((3, 2))
    for group in groups(states, (0.5, 0.5)):
        for cell in group.cells:
            rounded[cell] = group.factor
    assert np.abs(rounded - exact).max() <= ROUNDING


@pytest.mark.parametrize(
    "security",
    [{"profile": "L"}, {"concentration": "hoeffding"}, {"key_from": "signal"}, {"disclosed_signal": 0.1}],
)
def test_parameters_that_the_argument_does_not_cover_are_refused(security):
    with pytest.raises(ConfigError):
        length(expected(1e9), None, **security)


def test_two_intensities_are_refused():
    counts = ThreeStateCounts(
        intensities=(0.5, 0.1),
        p_intensity=(0.5, 0.5),
        states=IDEAL,
        p_bob=(0.9, 0.1),
        n=np.ones((2, 3, 4), dtype=np.int64),
    )
    with pytest.raises(ConfigError, match="three"):
        length(counts, None)


def test_a_prediction_for_another_source_is_refused():
    with pytest.raises(ConfigError, match="predicted"):
        length(expected(1e9), expected(1e9, states=IDEAL))


def test_malformed_counts_and_costs_are_refused():
    counts = expected(1e9)
    for n in (counts.n[:2], counts.n.astype(np.float64), -counts.n):
        with pytest.raises(InputError):
            replace(counts, n=n)
    for wrong in ({"p_bob": (1.0, 0.0)}, {"p_bob": (0.5, 0.6)}, {"p_intensity": (0.5, 0.3, 0.2, 0.2)}):
        with pytest.raises(ConfigError):
            replace(counts, **wrong)
    for sent in (np.ones((4, 2), dtype=np.int64), np.ones((4, 3)), -np.ones((4, 3), dtype=np.int64)):
        with pytest.raises(InputError, match="sent"):
            replace(counts, sent=sent)
    for costs in ((-1, 0, 0), (0, 0, int(counts.keyed.sum()) + 1)):
        with pytest.raises(InputError):
            key_length_three_state(
                counts,
                predicted=None,
                leak_bits=costs[0],
                verification_bits=costs[1],
                dropped_bits=costs[2],
                security=Security(),
            )
