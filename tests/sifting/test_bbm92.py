"""Sifting of pairs against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkdpp.core.abort import Abort
from qkdpp.core.stage import run_pair
from qkdpp.sifting import bbm92


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 500))
def test_key_test_and_matrix_equal_brute_force(seed, n):
    rng = np.random.default_rng(seed)
    da, db = rng.integers(0, 4, n, dtype=np.uint8), rng.integers(0, 4, n, dtype=np.uint8)
    a, b, _ = run_pair(bbm92.alice(da), bbm92.bob(db))
    key = [(x, y) for x, y in zip(da.tolist(), db.tolist(), strict=True) if x < 2 and y < 2]
    test = [(x, y) for x, y in zip(da.tolist(), db.tolist(), strict=True) if x >= 2 and y >= 2]
    assert a.key.to_array().tolist() == [x & 1 for x, _ in key]
    assert b.key.to_array().tolist() == [y & 1 for _, y in key]
    assert a.n_test == b.n_test == len(test)
    assert a.test_errors == b.test_errors == sum(x != y for x, y in test)
    matrix = np.zeros((4, 4), dtype=int)
    for x, y in zip(da.tolist(), db.tolist(), strict=True):
        matrix[x, y] += not (x < 2 and y < 2)
    assert a.disclosed.tolist() == b.disclosed.tolist() == matrix.tolist()


def test_no_message_carries_a_key_bit():
    rng = np.random.default_rng(2)
    da, db = rng.integers(0, 4, 400, dtype=np.uint8), rng.integers(0, 4, 400, dtype=np.uint8)
    both_z = (da < 2) & (db < 2)
    *_, first = run_pair(bbm92.alice(da), bbm92.bob(db))
    *_, second = run_pair(bbm92.alice(da ^ both_z), bbm92.bob(db ^ both_z))
    assert first == second


def test_no_pairs_is_an_abort():
    empty = np.empty(0, dtype=np.uint8)
    with pytest.raises(Abort):
        run_pair(bbm92.alice(empty), bbm92.bob(empty))
