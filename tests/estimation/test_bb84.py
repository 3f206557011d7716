"""Key length of decoy BB84: budget, accounting, monotonicity, plausibility, and figures of others."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.errors import ConfigError, InputError
from qkdpp.core.ledger import Rule
from qkdpp.estimation import (
    Counts,
    Security,
    VacuumCredit,
    accumulated,
    binary_entropy,
    key_length_bb84,
    key_lengths_bb84_both,
)

V = Security(eps_sec=1e-10)


def length(counts: Counts, security: Security = V, leak: int = 0, verification: int = 0, dropped: int = 0):
    return key_length_bb84(
        counts, leak_bits=leak, verification_bits=verification, dropped_bits=dropped, security=security
    )


def vector(n_z, n_x, m_z, m_x, mu=(0.5, 0.1, 0.0), p=(0.6, 0.25, 0.15)) -> Counts:
    return Counts(
        intensities=mu,
        p_intensity=p,
        n=np.array([n_z, n_x], dtype=np.int64),
        m=np.array([m_z, m_x], dtype=np.int64),
    )


# --- the budget -----------------------------------------------------------------------------------------------------


def test_thirteen_statements_share_kappa_squared(link):
    found = length(link(1e9), Security(eps_sec=1e-9))
    assert len(found.bounds) == 13
    assert len({b.name for b in found.bounds}) == 13
    assert sum(b.eps for b in found.bounds) == pytest.approx((1e-9 / 4) ** 2)


def test_the_number_of_statements_changes_the_share_of_each(link):
    """Signal-only keys need one more, one decoy needs twelve."""
    two = length(link(1e9))
    signal = length(link(1e9), Security(key_from="signal"))
    one = length(link(1e9, intensities=(0.5, 0.08), p_intensity=(0.8, 0.2)))
    assert [len(found.bounds) for found in (two, signal, one)] == [13, 14, 12]
    for found in (two, signal, one):
        assert {b.eps for b in found.bounds} == {(1e-10 / 4) ** 2 / len(found.bounds)}


@pytest.mark.parametrize(
    ("security", "mu", "divisor"),
    [
        (Security(profile="L"), (0.5, 0.08, 0.0), 21),
        (Security(profile="T"), (0.5, 0.08, 0.0), 21),
        (Security(profile="L", key_from="signal"), (0.5, 0.08, 0.0), 22),
        (Security(profile="L"), (0.5, 0.08), 19),
    ],
)
def test_published_budgets_divide_eps_by_their_number_of_terms(link, security, mu, divisor):
    p = (0.72, 0.18, 0.10) if len(mu) == 3 else (0.8, 0.2)
    found = length(link(1e10, intensities=mu, p_intensity=p), security)
    assert {b.eps for b in found.bounds} == {1e-10 / divisor}
    assert found.terms["privacy amplification"] == pytest.approx(-6 * math.log2(divisor / 1e-10))


def test_amplification_is_charged_once_and_in_bits(link):
    """Traps: the term forgotten or taken twice, ln for log2. 2 log2(1/eps) is 66.4 bits at 1e-10."""
    found = length(link(1e9), leak=1_000, verification=129, dropped=77)
    assert found.terms["privacy amplification"] == pytest.approx(-66.4386, abs=1e-3)
    fixed = length(link(1e9), Security(profile="L"))
    assert fixed.terms["privacy amplification"] == pytest.approx(-6 * 37.6116, abs=1e-3)
    singles = found.single_photon_bits * (1 - binary_entropy(found.phase_error_upper))
    assert found.value == pytest.approx(singles - 66.4386 - 1_000 - 129 - 77, abs=0.1)


@given(st.integers(0, 10**6), st.integers(0, 500), st.integers(0, 5_000))
@settings(max_examples=30, deadline=None)
def test_one_more_disclosed_bit_costs_exactly_one_bit(leak, verification, dropped):
    counts = vector([200_000, 9_000, 40], [9_000, 400, 3], [900, 50, 20], [45, 4, 1])
    base = length(counts, leak=leak, verification=verification, dropped=dropped).value
    assert length(counts, leak=leak + 1, verification=verification, dropped=dropped).value == base - 1
    assert length(counts, leak=leak, verification=verification + 1, dropped=dropped).value == base - 1
    assert length(counts, leak=leak, verification=verification, dropped=dropped + 1).value == base - 1


def test_errors_add_over_blocks_and_hops():
    """A block every ten seconds for ten years, 1e-9 each: three per cent."""
    assert accumulated(1e-9, 31_536_000) == pytest.approx(0.0315, abs=1e-3)
    assert accumulated(1e-9, 1_000, hops=32) == pytest.approx(3.2e-5)
    assert accumulated(0.1, 100) == 1.0
    assert Security(eps_sec=1e-10, eps_cor=1e-12, eps_auth=1e-13).eps_total == pytest.approx(1.011e-10)


# --- accounting rules and the vacuum -----------------------------------------------------------------------------


def test_vacuum_credit_exists_only_where_the_error_pattern_is_secret(link):
    counts = link(1e10, background=1e-4)
    fixed = Security(profile="L", rule=Rule.BOTH)
    both = length(counts, fixed)
    public = length(counts, replace(fixed, rule=Rule.PUBLIC_ERRORS))
    assert both.vacuum_bits > 1_000
    assert (public.vacuum_bits, "vacuum" in public.terms) == (0.0, False)
    assert any("vacuum term dropped" in note for note in public.notes)
    assert both.value == pytest.approx(public.value + both.vacuum_bits)
    assert length(counts, Security(rule=Rule.BOTH)).vacuum_bits == 0.0


@pytest.mark.parametrize("profile", ["L", "T"])
def test_a_fallback_to_both_lengthens_no_term(link, profile):
    counts = link(1e10, background=1e-4)
    declared = Security(profile=profile, rule=Rule.BOTH)
    fallen = length(counts, replace(declared, vacuum_credit=False))
    public = length(counts, replace(declared, rule=Rule.PUBLIC_ERRORS))
    assert (fallen.rule, fallen.vacuum_bits) == (Rule.BOTH, 0.0)
    assert fallen.terms == public.terms
    assert length(counts, declared).vacuum_bits > 1_000
    assert any("condition of public_errors failed" in note for note in fallen.notes)


def test_vacuum_credit_cannot_be_made_under_public_errors():
    assert VacuumCredit.under(Rule.BOTH, 5.0).bits == 5.0
    with pytest.raises(ValueError, match="no vacuum credit"):
        VacuumCredit.under(Rule.PUBLIC_ERRORS, 5.0)  # type: ignore[arg-type]


# --- monotonicity (profile V, leak held fixed) -------------------------------------------------------------------

small_links = st.tuples(
    st.integers(20_000, 400_000),
    st.integers(2_000, 20_000),
    st.integers(50, 400),
    st.floats(0.05, 1.0),
    st.floats(0.0, 0.06),
)


def small_link(drawn) -> Counts:
    signal, weak, vacuum, test_share, qber = drawn
    n_z = [signal, weak, vacuum]
    n_x = [max(3, round(test_share * v)) for v in n_z]
    m = [[round(qber * row[0]), round(qber * row[1]), row[2] // 2] for row in (n_z, n_x)]
    return vector(n_z, n_x, m[0], m[1])


def changed(counts: Counts, basis: int, *, n=(0, 0, 0), m=(0, 0, 0)) -> Counts:
    new_n, new_m = counts.n.copy(), counts.m.copy()
    new_n[basis] += np.array(n, dtype=np.int64)
    new_m[basis] += np.array(m, dtype=np.int64)
    return replace(counts, n=new_n, m=new_m)


def value(counts: Counts, security: Security = V) -> float | None:
    """None for counts that are refused as implausible."""
    try:
        return length(counts, security).value
    except Abort:
        return None


@settings(max_examples=60, deadline=None)
@given(small_links, st.integers(0, 1))
def test_no_gain_from_vacuum_detections_lost_decoys_or_test_errors(drawn, basis):
    counts = small_link(drawn)
    base = value(counts)
    if base is None:
        return
    worse = [
        changed(counts, basis, n=(0, 0, 1)),
        changed(counts, basis, n=(0, -1, 1)),
        changed(counts, basis, n=(0, -1, 0)),
        changed(counts, 1, m=(0, 1, 0)),
    ]
    for other in worse:
        found = value(other)
        assert found is None or found <= base + 1e-6


@settings(max_examples=40, deadline=None)
@given(small_links, st.floats(1e-14, 1e-6), st.sampled_from(["V", "L", "T"]))
def test_smaller_eps_never_helps(drawn, eps, profile):
    counts = small_link(drawn)
    loose = value(counts, Security(eps_sec=eps, profile=profile))
    tight = value(counts, Security(eps_sec=eps / 10, profile=profile))
    assert loose is None or tight is None or tight <= loose + 1e-6


def test_relative_entropy_beats_chernoff_beats_hoeffding(link):
    counts = link(5e9)
    lengths = [length(counts, Security(concentration=kind)).secret_bits for kind in ("kl", "chernoff", "hoeffding")]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[2]


@pytest.mark.parametrize("profile", ["V", "L", "T"])
@pytest.mark.parametrize("mu", [(0.5, 0.08, 0.0), (0.5, 0.08)])
def test_unlimited_data_is_reached_from_below(link, profile, mu):
    p = (0.72, 0.18, 0.10) if len(mu) == 3 else (0.8, 0.2)
    shares = []
    for pulses in (1e9, 1e10, 1e11, 1e13):
        found = length(link(pulses, intensities=mu, p_intensity=p), Security(profile=profile))
        assert found.value < found.secret_bits_asymptotic
        shares.append(found.value / found.secret_bits_asymptotic)
    assert shares == sorted(shares)
    assert shares[-1] > 0.98


# --- edges -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "counts",
    [
        vector([0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]),
        vector([100, 10, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]),
        vector([0, 0, 0], [100, 10, 0], [0, 0, 0], [0, 0, 0]),
        vector([1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]),
        vector([10**5, 10**4, 0], [10**4, 10**3, 0], [0, 0, 0], [10**4, 10**3, 0]),
    ],
)
@pytest.mark.parametrize("profile", ["V", "L", "T"])
def test_hopeless_counts_give_an_honest_zero(counts, profile):
    found = length(counts, Security(profile=profile), leak=10)
    assert found.secret_bits == 0
    assert math.isfinite(found.value)
    assert found.value < 0
    assert 0 <= found.phase_error_upper <= 1
    assert found.secret_bits_asymptotic >= 0


def test_no_test_errors_do_not_promise_no_phase_errors(link):
    """Trap: the printed gamma vanishes with the errors; profile L falls back on the exact bound."""
    counts = vector([2_000_000, 150_000, 200], [100_000, 7_500, 10], [900, 50, 10], [0, 0, 0])
    for profile in ("V", "L", "T"):
        assert 0.001 < length(counts, Security(profile=profile)).phase_error_upper < 0.01


@pytest.mark.parametrize(("profile", "tail"), [("V", (1e-10 / 4) ** 2 / 13), ("T", (1e-10 / 21) ** 2)])
def test_phase_errors_are_exceeded_with_the_square_of_the_smoothing(profile, tail):
    """With few errors v_1 is capped at those seen, and s_1 of the test basis is what the exchanged block would key.

    So all arguments of the hypergeometric tail are known, and it must come out at the promised probability.
    """
    counts = vector([2_000_000, 150_000, 200], [100_000, 7_500, 10], [900, 50, 10], [4, 3, 1])
    security = Security(profile=profile)
    found = length(counts, security)
    observed = length(counts.swapped(), security).single_photon_bits
    unobserved = found.single_photon_bits
    marked = 8 + found.phase_error_upper * unobserved
    reached = [
        hypergeom.logcdf(8, observed + unobserved, whole, observed) for whole in (math.floor(marked), math.ceil(marked))
    ]
    assert reached[1] - 1e-3 <= math.log(tail) <= reached[0] + 1e-3


def test_too_little_data_says_how_much_would_do(link):
    counts = link(4e7)
    leak = 4_000
    found = length(counts, leak=leak, verification=129)
    assert found.secret_bits == 0
    assert found.detections_needed is not None
    factor = found.detections_needed / counts.detections
    enough = length(counts.scaled(factor), leak=math.ceil(leak * factor), verification=129)
    assert enough.secret_bits > 0
    short = length(counts.scaled(0.95 * factor), leak=math.floor(leak * 0.95 * factor), verification=129)
    assert short.secret_bits == 0


def test_no_amount_of_data_helps_a_hopeless_link(link):
    found = length(link(1e9, misalignment=0.2), leak=500_000)
    assert (found.secret_bits, found.secret_bits_asymptotic, found.detections_needed) == (0, 0, None)


def test_a_key_needs_no_more_detections(link):
    assert length(link(1e10)).detections_needed is None


def test_unknown_errors_are_refused_where_they_are_needed(link):
    counts = link(1e9)
    hidden = replace(counts, m=np.stack([np.full(3, -1), counts.m[1]]))
    assert length(hidden).value == length(counts).value
    with pytest.raises(InputError, match="error counts"):
        length(replace(counts, m=np.full((2, 3), -1)))
    one = link(1e9, intensities=(0.5, 0.08), p_intensity=(0.8, 0.2))
    with pytest.raises(InputError, match="error counts"):
        length(replace(one, m=np.stack([np.full(2, -1), one.m[1]])))


@pytest.mark.parametrize("field", ["leak", "verification", "dropped"])
def test_negative_costs_are_refused(link, field):
    with pytest.raises(InputError):
        length(link(1e9), **{field: -1})
    with pytest.raises(InputError, match="dropped"):
        length(link(1e6), dropped=10**9)


def test_intensities_too_close_are_refused():
    counts = vector([9_000, 900, 90], [900, 90, 9], [9, 9, 9], [1, 1, 1], mu=(0.3, 0.2, 0.1))
    with pytest.raises(ConfigError, match="exceed the sum"):
        length(counts)


# --- counts that no source gives ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_z", "m_x", "what"),
    [
        ([60_000, 900, 30_000], [40, 4, 2], "single-photon yield below zero in basis Z"),
        ([2_000, 40_000, 300], [40, 4, 2], "multi-photon yields below zero in basis Z"),
        ([60_000, 6_000, 30], [40, 4, 300], "error yield below zero in basis X"),
    ],
)
def test_counts_that_contradict_the_source_abort_with_evidence(n_z, m_x, what):
    counts = vector(n_z, [60_000, 6_000, 400], [0, 0, 0], m_x)
    with pytest.raises(Abort) as caught:
        length(counts)
    aborted = caught.value.aborted
    assert aborted.reason is AbortReason.IMPLAUSIBLE_COUNTS
    assert any(what in str(line) for line in aborted.evidence["contradictions"])
    assert aborted.evidence["detections"] == counts.n.tolist()


def test_yields_above_one_abort(link):
    counts = link(1e9)
    pulses = counts.n.sum(axis=0).astype(float)
    plenty = np.tile((pulses * 300).astype(np.int64)[:, None, None], (1, 2, 2))
    assert length(replace(counts, sent=plenty)).secret_bits > 0
    with pytest.raises(Abort, match="more detections than pulses"):
        length(replace(counts, sent=np.full((3, 2, 2), 10, dtype=np.int64)))
    scarce = np.zeros((3, 2, 2), dtype=np.int64)
    scarce[:, :, 0] = counts.n.T * 1.01 + 1
    with pytest.raises(Abort, match="single-photon yield above one"):
        length(replace(counts, sent=scarce))


@pytest.mark.parametrize("seed", range(5))
def test_honest_fluctuations_are_never_refused(link, seed):
    rng, mean = np.random.default_rng(seed), link(3e8)
    for _ in range(40):
        right = rng.poisson(mean.n - mean.m)
        wrong = rng.poisson(mean.m)
        counts = replace(mean, n=(right + wrong).astype(np.int64), m=wrong.astype(np.int64))
        assert math.isfinite(length(counts).value)


# --- variants ----------------------------------------------------------------------------------------------------


def test_signal_only_key_counts_only_signal_photons(link):
    """A single photon carries the signal label with probability p(mu|1) = 0.9427 for these intensities."""
    counts = link(5e10)
    every, signal = length(counts), length(counts, Security(key_from="signal"))
    weights = [p * math.exp(-mu) * mu for mu, p in ((0.5, 0.72), (0.08, 0.18))]
    share = weights[0] / sum(weights)
    assert share == pytest.approx(0.9427, abs=1e-4)
    assert signal.single_photon_bits == pytest.approx(share * every.single_photon_bits, rel=1e-3)
    assert signal.single_photon_bits < share * every.single_photon_bits
    tenth = length(counts, Security(key_from="signal", disclosed_signal=0.1))
    assert tenth.single_photon_bits == pytest.approx(0.9 * signal.single_photon_bits, rel=1e-3)


def test_both_bases_keyed(link):
    """Each basis tests the other at half the secrecy; with equal statistics both give the same."""
    counts = link(2e9, p_z=(0.5, 0.5))
    z, x = key_lengths_bb84_both(
        counts, leak_bits=(1_000, 3_000), verification_bits=(129, 129), dropped_bits=(0, 0), security=V
    )
    alone = length(counts, replace(V, eps_sec=5e-11), leak=1_000, verification=129)
    assert z.value == alone.value
    assert x.value == pytest.approx(z.value - 2_000, abs=5)
    assert z.eps_sec + x.eps_sec == V.eps_sec
    assert "n_X1 upper" in {b.name for b in x.bounds}
    assert "m_Z2 upper" in {b.name for b in x.bounds}


def test_merging_blocks_beats_adding_their_keys(link):
    """Aggregation is summing counts; the sum of lengths is always shorter."""
    block = link(1e9)
    assert length(block + block).value > 2 * length(block).value


# --- figures of others ---------------------------------------------------------------------------------------------

INDEPENDENT = [
    (
        vector(
            [1941422, 2992951, 38080],
            [121339, 187059, 2380],
            [71180, 124680, 19040],
            [4449, 7793, 1190],
            mu=(0.43, 0.18, 0.0),
            p=(0.14, 0.51, 0.35),
        ),
        2430673.49,
    ),
    (
        vector(
            [282888339, 16219415, 13770],
            [3492449, 200240, 170],
            [2876114, 175689, 6885],
            [35508, 2169, 85],
            mu=(0.5, 0.1, 0.0),
            p=(0.7, 0.2, 0.1),
        ),
        153013208.10,
    ),
]
"""Lim et al. 2014 by the public package KlenM/Finite-key-Decoy-state-QKD (commit 9a453fb43dc8), not used while ours was
written: s_0 + s_1 (1 - h(phi)) - 6 log2(21/eps_sec) at eps_sec 1e-10, leak and correctness added back."""


@pytest.mark.parametrize(("counts", "expected"), INDEPENDENT)
def test_profile_l_agrees_with_an_independent_implementation(counts, expected):
    """Within 0.3 per cent below: ours never lets the phase error fall below the exact bound."""
    found = length(counts, Security(profile="L", rule=Rule.BOTH)).value
    assert 0.997 * expected < found <= expected


def test_satellite_pass(link):
    """58 Mbit of sifted signal bits at 0.5 per cent: between a quarter and 0.55 of them, and profile order V < T.

    Parameters of Chen et al. 2021 (mu 0.5/0.08/0, p 0.72/0.18/0.10, Z 0.889 and 0.9, eps 1e-9); the gains are a model.
    """
    counts = link(5.043e10)
    sifted, wrong = int(counts.n[0, 0]), int(counts.m[0, 0])
    assert sifted == pytest.approx(58.1e6, rel=1e-3)
    assert wrong / sifted == pytest.approx(0.005, abs=1e-4)
    leak = round(1.16 * sifted * binary_entropy(wrong / sifted))
    fractions = {}
    for profile in ("V", "L", "T"):
        security = Security(eps_sec=1e-9, profile=profile, key_from="signal")
        fractions[profile] = length(counts, security, leak=leak, verification=129).secret_bits / sifted
    assert 0.25 < fractions["L"] < fractions["V"] < fractions["T"] < 0.55
    assert fractions["V"] > 0.95 * fractions["T"]


def test_importing_needs_no_scipy():
    code = "import sys, qkdpp.estimation; sys.exit(any(m in sys.modules for m in ('scipy', 'numba', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- Kato: rounds that may depend on each other ---------------------------------------------------------------------


def kato(counts: Counts, predicted: Counts | None):
    return key_length_bb84(
        counts,
        leak_bits=0,
        verification_bits=0,
        dropped_bits=0,
        security=Security(concentration="kato"),
        predicted=predicted,
    )


def test_kato_asks_for_a_prediction(link):
    with pytest.raises(ConfigError, match="predicted="):
        kato(link(1e9), None)
    with pytest.raises(ConfigError, match="other intensities"):
        kato(link(1e9), link(1e9, intensities=(0.5, 0.1, 0.0)))


@pytest.mark.parametrize("mu", [(0.5, 0.08, 0.0), (0.5, 0.08)])
def test_kato_with_a_good_prediction_is_close_to_the_independent_bounds(link, mu):
    counts = link(1e10, intensities=mu, p_intensity=(0.72, 0.18, 0.10) if len(mu) == 3 else (0.8, 0.2))
    found = kato(counts, counts)
    assert 0.97 * length(counts).value < found.value < 1.001 * length(counts).value
    assert len(found.bounds) == len(length(counts).bounds)
    assert any("Kato" in bound.inequality for bound in found.bounds)


def test_kato_with_a_prediction_for_another_block_size_serves_as_well(link):
    """Only shares of a prediction enter: the number of detections is known before any label is."""
    assert kato(link(1e10), link(1e9)).value == pytest.approx(kato(link(1e10), link(1e10)).value, rel=1e-3)


def test_a_bad_prediction_costs_length(link):
    counts = link(1e10)
    assert kato(counts, link(1e10, background=2e-4, misalignment=0.1)).value < 0.99 * kato(counts, counts).value
