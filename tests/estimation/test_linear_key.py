"""Key length by linear programming: against the closed forms, with more labels, with uncertain intensities."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from qkdpp.core.abort import Abort, AbortReason
from qkdpp.core.errors import ConfigError, InputError
from qkdpp.estimation import UNKNOWN, Counts, KeyLength, Security, Split, key_length_bb84, key_length_linear
from qkdpp.estimation.linear import linear_statements

TWO = {"intensities": (0.6, 0.2), "p_intensity": (0.7, 0.3)}
THREE = {"intensities": (0.5, 0.08, 0.0), "p_intensity": (0.72, 0.18, 0.10)}
FOUR = {"intensities": (0.5, 0.2, 0.08, 0.0), "p_intensity": (0.6, 0.12, 0.18, 0.1)}
FIVE = {"intensities": (0.6, 0.4, 0.2, 0.1, 0.0), "p_intensity": (0.5, 0.1, 0.1, 0.2, 0.1)}
SECURITY = Security()


def leak(counts: Counts) -> int:
    return int(0.05 * counts.n[0].sum())


def by(formula, counts: Counts, security: Security = SECURITY, **more) -> KeyLength:
    costs = {"leak_bits": leak(counts), "verification_bits": 130, "dropped_bits": 0}
    return formula(counts, security=security, **(costs | more))


@pytest.mark.parametrize("pulses", [1e9, 1e10, 1e11, 1e12, 1e14])
def test_three_intensities_agree_with_the_closed_forms(link, pulses):
    """Measured: -0.004 to +0.34 per cent of the key (six statements more, better combined); more on short blocks."""
    counts = link(pulses, **THREE)
    linear, closed = by(key_length_linear, counts), by(key_length_bb84, counts)
    assert closed.secret_bits > 0
    assert 0.999 * closed.secret_bits <= linear.secret_bits <= 1.005 * closed.secret_bits
    assert linear.secret_bits_asymptotic >= closed.secret_bits_asymptotic * (1 - 1e-9)


@pytest.mark.parametrize("source", [FOUR, FIVE], ids=["four", "five"])
def test_more_intensities_than_the_closed_forms_use_are_worth_something(link, source):
    counts = link(1e11, **source)
    linear, closed = by(key_length_linear, counts), by(key_length_bb84, counts)
    assert linear.secret_bits > 1.01 * closed.secret_bits
    assert linear.secret_bits_asymptotic > 1.01 * closed.secret_bits_asymptotic
    assert linear.secret_bits <= linear.secret_bits_asymptotic


def test_two_intensities(link):
    counts = link(1e10, **TWO)
    linear, closed = by(key_length_linear, counts), by(key_length_bb84, counts)
    assert linear.secret_bits >= 0.998 * closed.secret_bits > 0
    assert linear.secret_bits_asymptotic >= closed.secret_bits_asymptotic


@pytest.mark.parametrize("source", [TWO, THREE, FOUR], ids=["two", "three", "four"])
def test_wider_intervals_never_lengthen_the_key(link, source):
    counts = link(1e11, **source)
    lengths = [by(key_length_linear, counts, mu_tolerance=t) for t in (0.0, 0.002, 0.01, 0.03, 0.2)]
    bits = [found.secret_bits for found in lengths]
    assert bits == sorted(bits, reverse=True)
    assert bits[0] > bits[1] > bits[2] > 0
    phases = [found.phase_error_upper for found in lengths]
    assert phases == sorted(phases)


def test_an_interval_belongs_to_its_label(link):
    counts = link(1e11, **THREE)
    backwards = Counts(
        intensities=counts.intensities[::-1],
        p_intensity=counts.p_intensity[::-1],
        n=counts.n[:, ::-1].copy(),
        m=counts.m[:, ::-1].copy(),
    )
    here = by(key_length_linear, counts, mu_tolerance=(0.05, 0.0, 0.0)).secret_bits
    there = by(key_length_linear, backwards, mu_tolerance=(0.0, 0.0, 0.05)).secret_bits
    assert here == pytest.approx(there, rel=1e-9)
    assert here < by(key_length_linear, counts).secret_bits


@pytest.mark.parametrize(
    ("source", "security", "count"),
    [
        (TWO, SECURITY, 19),
        (THREE, SECURITY, 19),
        (THREE, Security(key_from="signal"), 20),
        (FOUR, Security(disclosed_signal=0.1), 26),
        (FIVE, SECURITY, 31),
    ],
)
def test_every_statement_is_counted(link, source, security, count):
    """All of them together fail with probability (eps_sec / 4)^2 at most."""
    found = by(key_length_linear, link(1e9, **source), security)
    names = [bound.name for bound in found.bounds]
    assert set(linear_statements(len(source["intensities"]))) <= set(names)
    assert len(names) == len(set(names)) == count
    assert sum(bound.eps for bound in found.bounds) == pytest.approx((security.eps_sec / 4) ** 2)


def test_a_split_chosen_beforehand_is_kept_to(link):
    counts = link(1e9, **FOUR)
    security = Security(split=Split(smoothing=0.4, weights={"phase errors": 5.0, "n_X1 upper": 0.1}))
    found = by(key_length_linear, counts, security)
    eps = {bound.name: bound.eps for bound in found.bounds}
    assert sum(eps.values()) == pytest.approx((0.4 * security.eps_sec) ** 2)
    assert eps["phase errors"] == pytest.approx(50 * eps["n_X1 upper"])
    assert found.terms["privacy amplification"] == pytest.approx(-2 * math.log2(1 / (0.4 * security.eps_sec)))
    with pytest.raises(ConfigError, match="no statement is called"):
        by(key_length_linear, counts, Security(split=Split(weights={"n_Z9 upper": 2.0})))


def test_what_is_disclosed_or_lost_is_subtracted(link):
    counts = link(1e9, **THREE)
    base = by(key_length_linear, counts).value
    assert by(key_length_linear, counts, leak_bits=leak(counts) + 1).value == pytest.approx(base - 1, abs=1e-6)
    assert by(key_length_linear, counts, dropped_bits=1000).value == pytest.approx(base - 1000, abs=1e-6)
    assert by(key_length_linear, counts, verification_bits=131).value == pytest.approx(base - 1, abs=1e-6)
    assert by(key_length_linear, counts, Security(eps_sec=1e-12)).value < base
    signal = by(key_length_linear, counts, Security(key_from="signal", disclosed_signal=0.1))
    assert 0 < signal.single_photon_bits < by(key_length_linear, counts).single_photon_bits


def test_test_basis_errors_cost_key(link):
    """One more error at the weak decoy, leak held fixed."""
    counts = link(1e9, **THREE)
    m = counts.m.copy()
    m[1, 1] += 20
    assert by(key_length_linear, replace(counts, m=m)).value < by(key_length_linear, counts).value


@pytest.mark.parametrize("source", [TWO, THREE, FIVE], ids=["two", "three", "five"])
def test_zero_at_the_edges(link, source):
    counts = link(1e9, **source)
    none = replace(counts, n=counts.n * 0, m=counts.m * 0)
    assert by(key_length_linear, none).secret_bits == 0
    half = by(key_length_linear, replace(counts, m=counts.n // 2))
    assert (half.secret_bits, half.phase_error_upper) == (0, 1.0)


def test_a_short_block_says_how_much_would_do(link):
    counts = link(3e6, **FOUR)
    found = by(key_length_linear, counts)
    assert found.secret_bits == 0
    assert found.detections_needed is not None
    enough = counts.scaled(1.02 * found.detections_needed / counts.detections)
    assert by(key_length_linear, enough).secret_bits > 0


@pytest.mark.parametrize("source", [TWO, THREE, FOUR, FIVE], ids=["two", "three", "four", "five"])
def test_counts_of_no_channel_end_the_block_with_evidence(link, source):
    counts = link(1e10, **source)
    swapped = replace(counts, n=counts.n[:, ::-1].copy(), m=counts.m[:, ::-1].copy())
    with pytest.raises(Abort) as end:
        by(key_length_linear, swapped)
    evidence = end.value.aborted.evidence
    assert end.value.aborted.reason is AbortReason.IMPLAUSIBLE_COUNTS
    assert evidence["detections"] == swapped.n.tolist()
    assert any("no photon numbers fit" in line for line in evidence["contradictions"])


def test_a_contradiction_only_the_middle_labels_show(link):
    """The closed forms do not look at the label in question."""
    counts = link(1e10, **FIVE)
    n = counts.n.copy()
    n[0, 1] = n[0, 1] // 2
    changed = replace(counts, n=n, m=np.minimum(counts.m, n))
    assert by(key_length_bb84, changed).secret_bits > 0
    with pytest.raises(Abort, match="n_Z2"):
        by(key_length_linear, changed)


def test_intensities_that_were_not_what_was_declared_may_still_fit_an_interval(link):
    counts = link(1e11, **FOUR)
    declared = replace(counts, intensities=(0.5, 0.25, 0.08, 0.0))
    with pytest.raises(Abort, match="no photon numbers fit"):
        by(key_length_linear, declared)
    found = by(key_length_linear, declared, mu_tolerance=(0.0, 0.21, 0.0, 0.0))
    assert 0 < found.secret_bits <= by(key_length_linear, counts).secret_bits


def test_more_detections_than_pulses_end_the_block(link):
    counts = link(1e9, **THREE)
    sent = np.ones((3, 2, 2), dtype=np.int64)
    with pytest.raises(Abort, match="more detections than pulses"):
        by(key_length_linear, replace(counts, sent=sent))


def test_what_cannot_be_computed_is_said(link):
    counts = link(1e9, **THREE)
    for security in (Security(profile="L"), Security(profile="T"), Security(concentration="chernoff")):
        with pytest.raises(ConfigError, match="profile V"):
            by(key_length_linear, counts, security)
    unknown = counts.m.copy()
    unknown[0] = UNKNOWN
    assert by(key_length_linear, replace(counts, m=unknown)).secret_bits > 0
    two = link(1e9, **TWO)
    with pytest.raises(InputError, match="error counts"):
        by(key_length_linear, replace(two, m=np.where([[True], [False]], UNKNOWN, two.m).astype(np.int64)))
    with pytest.raises(InputError, match="none may be negative"):
        by(key_length_linear, counts, leak_bits=-1)
    with pytest.raises(InputError, match="dropped"):
        by(key_length_linear, counts, dropped_bits=int(counts.n[0].sum()) + 1)


def test_fluctuating_counts_are_no_contradiction(link):
    """Poisson noise on five labels: unlimited data takes the nearest photon numbers there can be."""
    counts, rng = link(1e9, **FIVE), np.random.default_rng(4)
    for _ in range(5):
        n = rng.poisson(counts.n).astype(np.int64)
        noisy = replace(counts, n=n, m=np.minimum(rng.poisson(counts.m), n).astype(np.int64))
        found = by(key_length_linear, noisy)
        assert 0 < found.secret_bits < found.secret_bits_asymptotic
