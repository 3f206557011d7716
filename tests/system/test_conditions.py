"""Conditions judged during a block by the two parties: accounting rule, unequal detectors, drift."""

from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from qkdpp.core.abort import Aborted, AbortReason
from qkdpp.core.bits import Bits
from qkdpp.core.ledger import Rule
from qkdpp.protocols.parameters import Detectors, SplitSection


def section(name, **values):
    """A change of one section of the public parameters."""

    def change(parameters):
        changed = msgspec.structs.replace(getattr(parameters, name), **values)
        return msgspec.structs.replace(parameters, **{name: changed})

    return change


def lengths(ends):
    assert isinstance(ends.alice.result, Bits), ends.alice.result
    assert ends.alice.result.equals(ends.bob.result)
    return [log.length for log in ends.logs]


@pytest.fixture(scope="module")
def plain(run_block, block):
    return lengths(run_block(block))[1]


def test_clicks_in_both_bases_change_the_rule_at_both_parties(run_block, block, plain):
    ends = run_block(block, change=section("source", receiver="passive"), cross_basis=3)
    found = lengths(ends)
    assert [length.rule for length in found] == [Rule.BOTH, Rule.BOTH]
    assert {log.facts["rule_doubts"] for log in ends.logs} == {("cross_basis_clicks",)}
    assert found[0].value < plain.value


def test_a_failed_condition_adds_no_term(run_block, block):
    """A profile with a vacuum term: a block declared ``both`` has it, one that fell back to ``both`` has not."""

    def change(rule):
        def both(parameters):
            return section("source", receiver="passive")(section("security", profile="T", rule=rule)(parameters))

        return both

    declared = lengths(run_block(block, change=change(Rule.BOTH), cross_basis=3))[0]
    fallen = lengths(run_block(block, change=change(Rule.PUBLIC_ERRORS), cross_basis=3))
    assert declared.rule is fallen[0].rule is Rule.BOTH
    assert "vacuum" in declared.terms
    assert ["vacuum" in length.terms for length in fallen] == [False, False]
    assert "a condition of public_errors failed" in " ".join(fallen[0].notes)


def test_an_active_receiver_may_see_clicks_in_both_bases(run_block, block):
    assert lengths(run_block(block, cross_basis=3))[0].rule is Rule.PUBLIC_ERRORS


def test_the_first_click_is_not_squashing(run_block, block):
    ends = run_block(block, change=section("timing", double_click="first"))
    assert {length.rule for length in lengths(ends)} == {Rule.BOTH}


def weakened(block, eta: float):
    """The block with an X1 detector that misses a share of its light."""
    rng = np.random.default_rng(8)
    lost = (block.basis == 1) & (block.bit == 1) & (rng.random(block.slots.size) > eta)
    return SimpleNamespace(
        record=block.record, slots=block.slots[~lost], basis=block.basis[~lost], bit=block.bit[~lost]
    )


def test_unequal_detectors_undeclared_change_the_rule(run_block, block):
    ends = run_block(weakened(block, 0.8))
    assert {length.rule for length in lengths(ends)} == {Rule.BOTH}
    assert "equal_bits_bob_x" in ends.logs[0].facts["rule_doubts"]


def test_unequal_detectors_declared_are_corrected_for(run_block, block, plain):
    detectors = Detectors(bob=[0.5, 0.5, 0.5, 0.4], tolerance=0.02)
    ends = run_block(weakened(block, 0.8), change=lambda p: msgspec.structs.replace(p, detectors=detectors))
    found = lengths(ends)
    assert {length.rule for length in found} == {Rule.PUBLIC_ERRORS}
    assert found[0].single_photon_bits < 0.8 * plain.single_photon_bits
    assert {bound.name for bound in found[0].bounds} >= {"untagged single photons Z", "untagged single photons X"}


def test_a_declaration_that_the_counts_contradict_is_doubted(run_block, block):
    detectors = Detectors(bob=[0.5, 0.5, 0.5, 0.4], tolerance=0.02)
    ends = run_block(block, change=lambda p: msgspec.structs.replace(p, detectors=detectors))
    assert "equal_bits_bob_x" in ends.logs[1].facts["rule_doubts"]


def test_pairs_tell_each_other_their_clicks(run_block, pairs):
    ends = run_block(pairs)
    names = [record.name for record in ends.alice.transcript]
    assert names.count("ReceiverClicks") == 2
    assert ends.logs[0].facts["rule_doubts"] == ends.logs[1].facts["rule_doubts"] == ("cross_basis_clicks",)
    cited = run_block(pairs, change=section("timing", squashing_map="a proof for four detectors"))
    assert {length.rule for length in lengths(cited)} == {Rule.PUBLIC_ERRORS}


def drifting(block):
    """The block with 15 % wrong bits in its last fifth."""
    rng = np.random.default_rng(9)
    late = block.slots > 0.8 * block.slots[-1]
    bit = block.bit ^ (late & (rng.random(late.size) < 0.15)).astype(np.uint8)
    return SimpleNamespace(record=block.record, slots=block.slots, basis=block.basis, bit=bit)


def test_drift_refused_ends_the_block_with_evidence(run_block, block):
    ends = run_block(drifting(block), change=section("security", drift="refuse"))
    assert isinstance(ends.bob.result, Aborted)
    assert ends.bob.result.reason is AbortReason.CONDITIONS_DRIFTED
    assert ends.bob.result.evidence["inhomogeneous"] == ["qber"]
    assert len(ends.bob.result.evidence["wrong"]) == 10
    assert isinstance(ends.alice.result, Aborted)
    assert ends.alice.result.reason is AbortReason.PEER_ABORTED


def test_a_steady_block_passes_the_refusal(run_block, block):
    lengths(run_block(block, change=section("security", drift="refuse")))


def test_drift_merged_costs_length_only(run_block, block, plain):
    ends = run_block(drifting(block))
    assert ends.logs[0].length.value == ends.logs[1].length.value < plain.value


def test_a_split_is_agreed_and_used_by_both(run_block, block, plain):
    split = SplitSection(smoothing=0.45, weights={"phase errors": 3.0})
    found = lengths(run_block(block, change=section("security", split=split)))
    eps = {bound.name: bound.eps for bound in found[0].bounds}
    assert eps["phase errors"] == pytest.approx(3 * eps["n_Z1 upper"])
    assert found[0].value == found[1].value
    assert found[0].value != plain.value
