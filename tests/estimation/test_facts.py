"""Facts about the length that hold for any counts: properties, edges, budget.

The leak is held fixed throughout. What is NOT monotone is not tested: errors
at the vacuum intensity, and detections at the signal intensity. Facts about
two decoys with a vacuum of exactly zero photons are in ``test_bb84.py``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from estimation_oracles import counts, length, value
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qkdpp.core.abort import Abort
from qkdpp.core.ledger import Rule
from qkdpp.estimation import Counts, Security, accumulated, concentration, key_length_bbm92, key_lengths_bb84_both

KINDS = ("kl", "chernoff", "hoeffding")
SOURCES = {
    "two decoys": ((0.5, 0.1, 0.0), (0.6, 0.25, 0.15)),
    "dim third state": ((0.5, 0.15, 0.005), (0.5, 0.3, 0.2)),
    "one decoy": ((0.5, 0.12), (0.7, 0.3)),
}


@st.composite
def blocks(draw, sources=tuple(SOURCES)) -> Counts:
    """A block of a lossy link: proportions of a source, drawn error rate, basis bias and size, all whole numbers."""
    mu, p = SOURCES[draw(st.sampled_from(sources))]
    size = draw(st.floats(2e4, 4e6))
    background = draw(st.floats(0.0, 0.05))
    bias, error = draw(st.floats(0.05, 1.0)), draw(st.floats(0.0, 0.08))
    click = np.array(p) * (np.array(mu) + background)
    n_z = np.rint(size * click / click.sum())
    wrong = (error * np.array(mu) + background / 2) / (np.array(mu) + background + 1e-12)
    n = np.rint(np.stack([n_z, bias * n_z]))
    m = np.minimum(np.rint(n * wrong), n)
    return Counts(intensities=mu, p_intensity=p, n=n.astype(np.int64), m=m.astype(np.int64))


def changed(block: Counts, *, basis: int, n=(), m=()) -> Counts | None:
    """The block with counts added; None if that is impossible."""
    new_n, new_m = block.n.copy(), block.m.copy()
    new_n[basis, : len(n)] += np.array(n, dtype=np.int64)
    new_m[basis, : len(m)] += np.array(m, dtype=np.int64)
    possible = bool((new_n >= 0).all() and (new_m >= 0).all() and (new_m <= new_n).all())
    return replace(block, n=new_n, m=new_m) if possible else None


# --- disclosed bits ---------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(blocks(), st.sampled_from("VLT"), st.sampled_from(["all", "signal"]), st.integers(0, 10**6))
def test_one_more_disclosed_bit_costs_exactly_one_bit(block, profile, key_from, leak):
    """Whatever discloses it, in every profile and variant; the whole bits follow, down to zero and no further."""
    security = Security(profile=profile, key_from=key_from)
    try:
        base = length(block, security, leak=leak)
    except Abort:
        assume(False)
    for extra in ({"leak": leak + 1}, {"leak": leak, "verification": 1}, {"leak": leak, "dropped": 1}):
        one_more = length(block, security, **extra)
        assert one_more.value == pytest.approx(base.value - 1, abs=1e-6)
        assert one_more.secret_bits == max(0, math.floor(one_more.value))


@given(st.integers(0, 10**5), st.integers(0, 10**5))
@settings(max_examples=30, deadline=None)
def test_more_leak_of_one_key_does_not_touch_the_other(leak, more):
    """Both bases keyed: two lengths, each with its own costs."""
    block = counts([90_000, 6_000, 60], [80_000, 5_500, 50], [900, 70, 30], [800, 60, 25])
    costs = {"verification_bits": (129, 129), "dropped_bits": (0, 0), "security": Security()}
    z, x = key_lengths_bb84_both(block, leak_bits=(leak, 500), **costs)
    z2, x2 = key_lengths_bb84_both(block, leak_bits=(leak + more, 500), **costs)
    assert (z2.value, x2.value) == (pytest.approx(z.value - more, abs=1e-6), x.value)


# --- monotone facts, profile V ----------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(blocks(("two decoys", "dim third state")), st.sampled_from(KINDS), st.integers(0, 1), st.integers(1, 50))
def test_vacuum_detections_lost_decoys_and_test_errors_never_help(block, kind, basis, many):
    """A vacuum-labelled detection more, a weak-decoy one relabelled or removed, a test-basis error at the decoy."""
    security = Security(concentration=kind)
    base = value(block, security)
    assume(base is not None)
    worse = (
        changed(block, basis=basis, n=(0, 0, many)),
        changed(block, basis=basis, n=(0, -many, many)),
        changed(block, basis=basis, n=(0, -many, 0)),
        changed(block, basis=1, m=(0, many, 0)),
    )
    for other in filter(None, worse):
        found = value(other, security)
        assert found is None or found <= base + 1e-6


@settings(max_examples=60, deadline=None)
@given(blocks(("one decoy",)), st.sampled_from(KINDS), st.integers(0, 1))
def test_with_one_decoy_errors_and_lost_decoys_never_help(block, kind, basis):
    """Errors bound the vacuum as well, so they never help in either basis; at the decoy of the test basis they enter
    v_1 with a minus sign and are left out."""
    security = Security(concentration=kind)
    base = value(block, security)
    assume(base is not None)
    worse = (
        changed(block, basis=1, m=(1, 0)),
        changed(block, basis=0, m=(1, 0)),
        changed(block, basis=0, m=(0, 1)),
        changed(block, basis=basis, n=(0, -1)),
    )
    for other in filter(None, worse):
        found = value(other, security)
        assert found is None or found <= base + 1e-6


@settings(max_examples=60, deadline=None)
@given(
    blocks(),
    st.floats(1e-18, 1e-4),
    st.floats(1.01, 1e4),
    st.sampled_from("VLT"),
    st.sampled_from(KINDS),
    st.sampled_from(["all", "signal"]),
)
def test_smaller_eps_never_helps(block, eps, factor, profile, kind, key_from):
    """Every profile, inequality and variant, steps large and small."""
    loose = Security(eps_sec=eps, profile=profile, concentration=kind, key_from=key_from)
    first, second = value(block, loose), value(block, replace(loose, eps_sec=eps / factor))
    assert first is None or second is None or second <= first + 1e-6


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(0, 10**5),
    st.floats(0, 0.6),
    st.floats(1e-15, 1e-3),
    st.sampled_from(["tight", "printed"]),
)
def test_smaller_eps_never_helps_entangled_pairs(n, k, rate, eps, form):
    costs = {"leak_bits": 0, "verification_bits": 0, "dropped_bits": 0, "form": form}
    loose = key_length_bbm92(n, k, int(rate * k), **costs, security=Security(eps_sec=eps))
    tight = key_length_bbm92(n, k, int(rate * k), **costs, security=Security(eps_sec=eps / 3))
    assert tight.value <= loose.value
    assert loose.value <= n


@settings(max_examples=40, deadline=None)
@given(blocks(), st.floats(0, 0.5), st.floats(0.01, 0.4))
def test_disclosing_more_of_the_signal_never_helps(block, share, more):
    """Signal-only keys: a larger disclosed share leaves fewer single photons, and no more key."""
    first = value(block, Security(key_from="signal", disclosed_signal=share))
    second = value(block, Security(key_from="signal", disclosed_signal=share + more))
    assert first is None or second is None or second <= first + 1e-6


# --- the limit of unlimited data --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(blocks(), st.sampled_from("VLT"), st.sampled_from(list(Rule)), st.integers(0, 5_000))
def test_finite_data_stay_below_the_limit(block, profile, rule, leak):
    """For any counts: the length never exceeds that of the same proportions and unlimited data."""
    try:
        found = length(block, Security(profile=profile, rule=rule), leak=leak)
    except Abort:
        assume(False)
    assert found.secret_bits <= found.secret_bits_asymptotic
    assert found.value <= found.secret_bits_asymptotic + 1


@settings(max_examples=25, deadline=None)
@given(blocks(), st.sampled_from("VLT"))
def test_the_limit_is_approached_from_below(block, profile):
    """Per detection, a hundred times the data never give less, and 1e12 detections come within 3 per cent."""
    security = Security(profile=profile)
    top = 1e12 / block.detections
    try:
        found = [length(block.scaled(f), security) for f in (1, 100, top)]
    except Abort:
        assume(False)
    shares = [f.value / c for f, c in zip(found, (1, 100, top), strict=True)]
    limit = found[2].secret_bits_asymptotic / top
    assume(limit > 0.05 * block.detections)
    assert shares[0] <= shares[1] + 0.01 * block.detections / 100 + 1
    assert shares[1] <= shares[2] + 1e-3 * limit
    assert 0.97 * limit < shares[2] <= limit * (1 + 1e-9)


# --- edges ------------------------------------------------------------------------------------------------------------

EDGES = {
    "nothing": ([0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]),
    "one of each": ([1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]),
    "one of each, all wrong": ([1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]),
    "no vacuum detections": ([80_000, 6_000, 0], [8_000, 600, 0], [800, 60, 0], [80, 6, 0]),
    "no errors": ([80_000, 6_000, 60], [8_000, 600, 6], [0, 0, 0], [0, 0, 0]),
    "nothing but errors": ([80_000, 6_000, 60], [8_000, 600, 6], [80_000, 6_000, 60], [8_000, 600, 6]),
    "no test basis": ([80_000, 6_000, 60], [0, 0, 0], [800, 60, 30], [0, 0, 0]),
    "no key basis": ([0, 0, 0], [80_000, 6_000, 60], [0, 0, 0], [800, 60, 30]),
    "signal only": ([80_000, 0, 0], [8_000, 0, 0], [800, 0, 0], [80, 0, 0]),
    "1e12": tuple(
        [round(share * v) for v in (8 * 10**11, 6 * 10**10, part)]
        for share, part in ((1, 10**8), (0.1, 10**8), (0.01, 5 * 10**9), (0.001, 5 * 10**9))
    ),
}


def checked(block: Counts, security: Security) -> None:
    """Finite, whole, not negative - or refused with its reason, with evidence."""
    if value(block, security) is None:
        with pytest.raises(Abort) as refused:
            length(block, security)
        assert refused.value.aborted.evidence["contradictions"]
        return
    found = length(block, security)
    assert isinstance(found.secret_bits, int)
    assert found.secret_bits == max(0, math.floor(found.value))
    assert math.isfinite(found.value)
    assert all(math.isfinite(v) for v in found.terms.values())
    assert sum(found.terms.values()) == pytest.approx(found.value)
    assert 0 <= found.phase_error_upper <= 1
    assert 0 <= found.single_photon_bits <= int(block.n[0].sum())
    assert found.secret_bits_asymptotic >= found.secret_bits


@pytest.mark.parametrize(("profile", "rule", "key_from"), list(product("VLT", Rule, ("all", "signal"))))
@pytest.mark.parametrize("edge", EDGES)
def test_edges(edge, profile, rule, key_from):
    """Two decoys and, without the third label, one."""
    rows = EDGES[edge]
    security = Security(profile=profile, rule=rule, key_from=key_from)
    checked(counts(*rows), security)
    checked(counts(*(row[:2] for row in rows), mu=(0.5, 0.1), p=(0.7, 0.3)), security)


@pytest.mark.parametrize("edge", ["nothing", "one of each", "nothing but errors", "no test basis", "no key basis"])
def test_hopeless_blocks_are_discarded_with_length_zero(edge):
    assert length(counts(*EDGES[edge]), Security(), leak=7).secret_bits == 0


def test_blocks_that_look_perfect_still_pay_for_their_statistics():
    """No errors at all: some key, but less than the single photons, and 1e12 detections leave almost nothing out."""
    few, many = (length(counts(*EDGES[e]), Security()) for e in ("no errors", "1e12"))
    assert 0.005 < few.phase_error_upper < 0.5
    assert few.value < few.single_photon_bits
    assert many.value > 0.99 * many.secret_bits_asymptotic > 10**11


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=6, max_size=6), st.data())
def test_any_small_counts(n, data):
    """Tiny blocks of any proportions: an honest zero or a refusal, never NaN, an exception or a key."""
    m = [data.draw(st.integers(0, v)) for v in n]
    block = counts(n[:3], n[3:], m[:3], m[3:])
    checked(block, Security())
    assert (value(block, Security()) or 0.0) <= 0


# --- the budget -------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    blocks(),
    st.floats(1e-15, 1e-3),
    st.sampled_from("VLT"),
    st.sampled_from(["all", "signal"]),
    st.sampled_from([0.0, 0.1]),
)
def test_failures_of_all_statements_fit_the_budget(block, eps, profile, key_from, disclosed):
    """V: kappa^2 for all, and 2 kappa + eps_PA is eps_sec. L and T: 21 (19, one more if not all is keyed) terms."""
    security = Security(eps_sec=eps, profile=profile, key_from=key_from, disclosed_signal=disclosed)
    try:
        found = length(block, security)
    except Abort:
        assume(False)
    spent = sum(b.eps for b in found.bounds)
    assert len({b.name for b in found.bounds}) == len(found.bounds)
    if profile == "V":
        amplification = 2 ** (found.terms["privacy amplification"] / 2 - 1)
        assert 2 * math.sqrt(spent) + amplification <= eps * (1 + 1e-9)
    else:
        assert spent <= eps
        assert found.terms["privacy amplification"] <= -6 * math.log2(1 / eps)


@pytest.mark.parametrize("form", ["tight", "printed"])
def test_failures_of_entangled_pairs_fit_the_budget(form):
    """Smoothing counts twice: 2 sqrt(tail) + eps_PA is at most eps_sec (Tomamichel et al. 2012, Eqs. (S2), (S9))."""
    found = key_length_bbm92(
        50_000,
        10_000,
        100,
        leak_bits=0,
        verification_bits=0,
        dropped_bits=0,
        security=Security(eps_sec=1e-10),
        form=form,
    )
    smoothing = math.sqrt(sum(b.eps for b in found.bounds))
    amplification = 2 ** (found.terms["privacy amplification"] / 2 - 1)
    assert 2 * smoothing + amplification <= 1e-10 * (1 + 1e-9)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("profile", "VLT")
@pytest.mark.parametrize("key_from", ["all", "signal"])
def test_every_inequality_evaluated_is_registered(monkeypatch, name, profile, key_from):
    """Counts the evaluations themselves: as many concentration bounds as registered, each at a registered eps."""
    seen: set[tuple[str, float, float, float]] = set()  # a statement used twice is one statement
    for side in ("mean_upper", "mean_lower"):
        plain = getattr(concentration, side)

        def counted(kind, x, n, eps, plain=plain, side=side):
            seen.add((side, x, n, eps))
            return plain(kind, x, n, eps)

        monkeypatch.setattr(concentration, side, counted)
    mu, p = SOURCES[name]
    n = np.rint(4e7 * np.array([[1.0], [0.2]]) * np.array(p) * (np.array(mu) + 1e-3)).astype(np.int64)
    found = length(Counts(intensities=mu, p_intensity=p, n=n, m=n // 50), Security(profile=profile, key_from=key_from))
    assert found.secret_bits > 0
    registered = [b.eps for b in found.bounds if b.name.startswith(("n_", "m_"))]
    assert sorted(eps for *_, eps in seen) == pytest.approx(sorted(registered), rel=1e-12)


@given(st.floats(0, 1e-3), st.integers(0, 10**9), st.integers(1, 100))
def test_accumulated_failure_is_the_sum_and_a_probability(eps, blocks_made, hops):
    found = accumulated(eps, blocks_made, hops)
    assert 0 <= found <= 1
    assert found == pytest.approx(min(1.0, eps * blocks_made * hops))
