"""The two charging rules on a hand-made balance."""

import pytest

from qkdpp.core.ledger import LENGTH_CLASS_BITS, Disclosure, Ledger, Rule


def filled() -> Ledger:
    ledger = Ledger()
    ledger.book("correction", "alice", Disclosure.PARITY, 100)
    ledger.book("correction", "bob", Disclosure.PATTERN, 90)
    ledger.book("correction", "bob", Disclosure.PARITY, 7)
    ledger.book("verification", "alice", Disclosure.VERIFICATION, 65)
    return ledger


def test_public_errors_charges_parities_of_either_side_but_not_the_pattern():
    assert filled().leak_ec_bits(Rule.PUBLIC_ERRORS) == 107


def test_both_charges_everything_and_the_length_class():
    assert filled().leak_ec_bits(Rule.BOTH) == 197 + LENGTH_CLASS_BITS


def test_totals_by_side_and_kind():
    ledger = filled()
    assert ledger.total(side="bob") == 97
    assert ledger.total(side="alice", what=Disclosure.PARITY) == 100
    assert ledger.verification_bits == 65


def test_nothing_can_be_taken_back():
    with pytest.raises(ValueError, match="taken back"):
        Ledger().book("x", "alice", Disclosure.PARITY, -1)
